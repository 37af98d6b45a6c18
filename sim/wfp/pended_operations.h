// Operations that a callout pended and the driver has not completed yet.
//
// Concurrency: one mutex, which is released while completions run.
// An operation may complete before the classify that pended it returns: that classify then queues the completion.
#pragma once

#include "engine.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace sim::wfp
{

struct PendedOperation
{
    uint64_t id = 0;
    OperationCompletion on_complete;
    bool in_classify = true;
    bool completed = false;
};

class PendedOperations
{
  public:
    std::shared_ptr<PendedOperation> Add(OperationCompletion on_complete);

    // Implements FwpsCompleteOperation0. Bugchecks on a context that is unknown or was completed before.
    // Bugchecks also on a list that the driver cannot inject next.
    void Complete(HANDLE context, NET_BUFFER_LIST *net_buffer_list);

    // The classify has returned. Returns true if the operation was completed meanwhile.
    // The caller must then have on_complete called.
    bool LeaveClassify(PendedOperation &operation);

    uint64_t now() const;
    uint64_t total() const;
    void CheckUnloaded() const;

  private:
    mutable std::mutex mutex_;
    std::unordered_map<uint64_t, std::shared_ptr<PendedOperation>> operations_;
    uint64_t last_id_ = 0;
};

} // namespace sim::wfp

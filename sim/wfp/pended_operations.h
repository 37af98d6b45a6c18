// Operations that a callout pended and the driver has not completed yet.
//
// Concurrency: one mutex; completions are called with it released. An operation that is completed before the classify
// that pended it has returned is handed to the scheduler by that classify.
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

    // FwpsCompleteOperation0. Bugchecks on a context that is unknown or was completed before, and on a list that the
    // driver cannot inject next.
    void Complete(HANDLE context, NET_BUFFER_LIST *net_buffer_list);

    // The classify has returned. Whether the operation was completed meanwhile: then the caller must see to it that
    // on_complete is called.
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

// One classify whose decision is put off: the driver pended the operation, or kept a copy of the packet, or both. What
// it does with them is posted to the flow.
//
// Concurrency: counted references; the filter engine's callbacks come on any thread. A hold that is in use keeps its
// flow and the stack's core alive.
#pragma once

#include "wfp/packet_origin.h"

#include <ntddk.h>

#include <ndis.h>

#include <atomic>
#include <cstdint>
#include <memory>

namespace sim::net
{

class Core;
class Deadlines;
class Flow;

class Hold final : public wfp::PacketOrigin
{
  public:
    explicit Hold(Flow &flow) : flow_(flow) {}

    void AddReference() { references_.fetch_add(1, std::memory_order_relaxed); }
    void ReleaseReference();

    // Before a classify that may pend: keeps the flow alive, and counts the completion to come.
    void ExpectCompletion();
    // That classify did not pend.
    void NoCompletion();
    // The driver completed the operation.
    void Completed();

    // As long as the hold is referenced.
    void KeepFlow();

    // Whether the driver kept something of the classify, so that the hold cannot serve for another one.
    bool used() const { return used_; }
    void set_used() { used_ = true; }

    // Whether this is the first copy that is injected.
    bool TakeDelivery() { return !delivered_.exchange(true); }

    Flow &flow() { return flow_; }

  private:
    friend class Deadlines;

    ~Hold();

    void Retain() override;
    void Release() override;
    void OnInjected() override;
    void OnDropped() override;

    Flow &flow_;
    std::shared_ptr<Core> core_; // while in use
    std::atomic<uint32_t> references_{1};
    std::atomic<bool> delivered_{false};
    bool used_ = false; // of the thread that classifies

    Hold *previous_ = nullptr; // of Deadlines
    Hold *next_ = nullptr;
    uint64_t deadline_ = 0;
    bool listed_ = false;
};

} // namespace sim::net

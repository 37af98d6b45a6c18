// A decision that the driver postpones.
// The flow waits for the completion of a pended operation, for a copy of the packet, or for both.
//
// Concurrency: belongs to the thread that works on the flow.
#pragma once

#include "net/authorization.h"
#include "net/flow_context.h"
#include "net/hold.h"

#include <cstdint>

namespace sim::net
{

class PendingDecision
{
  public:
    PendingDecision(FlowContext &flow, Authorization &authorization, HoldOwner &owner)
        : flow_(flow), authorization_(authorization), owner_(owner)
    {
    }
    ~PendingDecision() { RetireHold(); }

    PendingDecision(const PendingDecision &) = delete;
    PendingDecision &operator=(const PendingDecision &) = delete;

    // The hold of the next classify.
    Hold *PrepareHold();

    // After a classify that decided: the next one needs another hold if the driver kept something.
    void RetireUsedHold();
    void RetireHold();

    // After a classify that did not decide. `epoch` is the policy that was asked.
    // Returns false if the flow waits now, true if the packet has ended because the flow is closing.
    bool Await(Job &job, const wfp::ClassifyResult &result, uint32_t epoch);

    bool waiting() const { return waiting_; }
    bool IsOf(const Hold *hold) const { return waiting_ && hold == hold_; }

    // What the driver did with the hold. When the wait is over, the job has its next stage.
    void Handle(Job &job, HoldEvent *event);

    // Ends the wait without a decision. The packet is dropped.
    void GiveUp(Job &job);

    // Forgets the wait, for the reuse of the flow.
    void Reset();

  private:
    void StopWaiting(const Job &job);
    void OnCompleted(Job &job);
    void OnInjected(Job &job, HoldEvent *event);
    void OnDropped(Job &job);
    void OnTimeout(Job &job);
    void Reauthorize(Job &job);
    Stage StageOfInjected(const Job &job, const Packet &packet, wfp::Injection::Kind injection) const;
    bool EntersAtTop(const Job &job, const Packet &injected) const;
    bool ComesToThisFlow(const Job &job, const Packet &injected) const;

    FlowContext &flow_;
    Authorization &authorization_;
    HoldOwner &owner_;
    Hold *hold_ = nullptr; // of the next classify, or of the pending decision
    bool waiting_ = false;
    bool pended_ = false; // the operation is not completed yet
    bool copies_ = false; // the driver has copies of the packet
    bool was_pended_ = false;
    uint32_t epoch_ = 0;
};

} // namespace sim::net

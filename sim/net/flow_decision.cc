// Decisions that the driver puts off.

#include "net/core.h"
#include "net/flow.h"

#include <utility>

namespace sim::net
{
Hold &Flow::FreshHold()
{
    if (hold_ == nullptr)
    {
        hold_ = new Hold(*this);
    }
    return *hold_;
}

void Flow::RetireHold()
{
    if (hold_ != nullptr)
    {
        std::exchange(hold_, nullptr)->ReleaseReference();
    }
}

void Flow::RetireUsedHold()
{
    if (hold_ != nullptr && hold_->used())
    {
        RetireHold();
    }
}

// Payload of a connection that is up is still sent when the application has closed it.
bool Flow::Lingers(const Job &job) const
{
    return established_ && (job.kind == JobKind::kBytes || job.kind == JobKind::kControl);
}

// False: the flow waits now.
bool Flow::AwaitDecision(Job &job, const wfp::ClassifyResult &result, uint32_t epoch)
{
    DirectionCounts &counts = core_->counts(job.direction);

    Count(&counts.held_total);
    if (expired_ || (closing_ && !Lingers(job)))
    {
        RetireHold();
        End(job, expired_ ? OutcomeKind::kPendingTimeout : OutcomeKind::kDropped);
        return true;
    }
    Count(&counts.held_now);
    waiting_ = true;
    wait_ = Wait();
    wait_.pended = result.pended;
    wait_.was_pended = result.pended;
    wait_.copies = result.has_copies;
    wait_.epoch = epoch;
    core_->deadlines().Add(hold_, core_->weak_from_this());
    if (job.stage == Stage::kIpPacket)
    {
        job.packet.reset(); // what comes back is the driver's copy
    }
    return false;
}

void Flow::StopWaiting()
{
    waiting_ = false;
    core_->counts(current_->direction).held_now.fetch_sub(1, std::memory_order_relaxed);
    core_->deadlines().Remove(hold_);
    RetireHold();
}

void Flow::OnCompleted(Job &job)
{
    wait_.pended = false;
    if (identity_.direction == Direction::kOutbound)
    {
        Reauthorize(job);
    }
    else if (!wait_.copies)
    {
        StopWaiting();
        Refuse(job, OutcomeKind::kDropped, wait_.epoch);
    }
}

// What completing a pended AUTH_CONNECT leads to.
void Flow::Reauthorize(Job &job)
{
    const uint32_t epoch = core_->policy(identity_.direction, identity_.local.family);
    AuthorizationRequest request;

    request.flow = &identity_;
    request.packet_direction = identity_.direction;
    request.reauthorization = Reauthorization::kCompletion;

    const wfp::ClassifyResult result = IndicateAuthorization(core_->engine(), std::move(request));

    if (result.action == wfp::ClassifyResult::kBlock)
    {
        StopWaiting();
        Refuse(job, result.absorbed ? OutcomeKind::kDropped : OutcomeKind::kBlocked, epoch);
        return;
    }
    Grant(epoch);
    if (wait_.copies)
    {
        return; // the packet comes back, or is dropped
    }

    const bool has_packet = job.packet != nullptr && identity_.protocol != kProtocolTcp;

    StopWaiting();
    if (has_packet)
    {
        End(job, OutcomeKind::kDropped); // pending flushed it
    }
    else
    {
        job.stage = AfterAuthorization(job);
    }
}

// Of an inbound packet that the driver has sent once more: whether it is still one of the flow's.
bool Flow::ComesToThisFlow(const Job &job, const Packet &injected) const
{
    const IpPacketInfo &info = injected.info();
    const Endpoint &source = redirection_.active ? identity_.remote : job.source;
    const Endpoint &destination = redirection_.active ? identity_.local : job.destination;

    return SameEndpoint(info.source_endpoint(), source) && SameEndpoint(info.destination_endpoint(), destination);
}

void Flow::OnInjected(Job &job, FlowEvent *event)
{
    const bool outbound = job.direction == Direction::kOutbound;
    const Stage held_at = job.stage;
    Stage next = Stage::kNone;

    switch (event->injection)
    {
    case wfp::Injection::kNetworkSend:
        if (outbound)
        {
            next = Stage::kIpPacket;
        }
        else if (IsPeerHere() && ComesToThisFlow(job, *event->packet))
        {
            event->packet->loopback = true;
            next = Stage::kLoopedSend;
        }
        break;
    case wfp::Injection::kNetworkReceive:
        next = outbound ? Stage::kNone : Stage::kIpPacket;
        break;
    case wfp::Injection::kTransportSend:
        next = !outbound ? Stage::kNone : held_at == Stage::kDatagram ? Stage::kDatagram : Stage::kAuthorize;
        break;
    case wfp::Injection::kTransportReceive:
        next = outbound ? Stage::kNone : Stage::kAuthorize;
        break;
    }
    StopWaiting();
    if (next == Stage::kNone)
    {
        // It went where the packet did not: what the driver made of it goes its own way.
        job.redirected_to = event->packet->info().destination_endpoint();
        End(job, OutcomeKind::kRedirected);
        event->packet->loopback = event->packet->loopback || identity_.loopback; // it stays on this machine
        core_->InjectLoose(event->injection, std::move(event->packet));
        return;
    }
    event->packet->loopback = event->packet->loopback || identity_.loopback;
    event->packet->reassembled = job.packet != nullptr && job.packet->reassembled;
    job.packet = std::move(event->packet);
    job.stage = next;
}

void Flow::OnDropped(Job &job)
{
    wait_.copies = false;
    if (wait_.pended && identity_.direction == Direction::kOutbound)
    {
        return; // completing the operation tells whether it is blocked
    }
    StopWaiting();
    if (job.stage != Stage::kAuthorize)
    {
        End(job, OutcomeKind::kDropped);
        return;
    }

    const bool policy_changed = wait_.epoch != core_->policy(identity_.direction, identity_.local.family);

    if (!wait_.was_pended && policy_changed && !job.retried)
    {
        job.retried = true; // as if it were sent again: the policy is asked once more
        return;
    }
    if (authorization_ == Authorization::kGranted && wait_.was_pended)
    {
        End(job, OutcomeKind::kDropped); // the conversation is permitted, this packet is not
        return;
    }
    Refuse(job, OutcomeKind::kDropped, wait_.epoch);
}

void Flow::OnTimeout(Job &job)
{
    StopWaiting();
    expired_ = conversation_ != nullptr;
    if (job.stage == Stage::kAuthorize)
    {
        if (conversation_ != nullptr && authorization_ == Authorization::kNone)
        {
            conversation_->Authorized(*this, OutcomeKind::kPendingTimeout);
        }
        refusal_ = OutcomeKind::kPendingTimeout;
        RefusePacket(job, OutcomeKind::kPendingTimeout);
        return;
    }
    End(job, OutcomeKind::kPendingTimeout);
}

void Flow::Abort()
{
    closing_ = true;
    if (waiting_ && !Lingers(*current_))
    {
        StopWaiting();
        End(*current_, OutcomeKind::kDropped);
    }
}

} // namespace sim::net

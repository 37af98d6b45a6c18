#include "net/pending_decision.h"

#include <utility>

namespace sim::net
{

Hold *PendingDecision::PrepareHold()
{
    if (hold_ == nullptr)
    {
        hold_ = new Hold(owner_);
    }
    return hold_;
}

void PendingDecision::RetireHold()
{
    if (hold_ != nullptr)
    {
        std::exchange(hold_, nullptr)->ReleaseReference();
    }
}

void PendingDecision::RetireUsedHold()
{
    if (hold_ != nullptr && hold_->used())
    {
        RetireHold();
    }
}

bool PendingDecision::Await(Job &job, const wfp::ClassifyResult &result, uint32_t epoch)
{
    DirectionCounts &counts = flow_.resources->counts(job.direction);

    Count(&counts.held_total);
    if (flow_.expired || (flow_.closing && !flow_.Lingers(job)))
    {
        RetireHold();
        flow_.End(job, flow_.expired ? OutcomeKind::kPendingTimeout : OutcomeKind::kDropped);
        return true;
    }
    Count(&counts.held_now);
    waiting_ = true;
    pended_ = result.pended;
    was_pended_ = result.pended;
    copies_ = result.has_copies;
    epoch_ = epoch;
    flow_.resources->deadlines().Add(hold_);
    if (job.stage == Stage::kIpPacket)
    {
        job.packet.reset(); // the driver's copy comes back instead
    }
    return false;
}

void PendingDecision::StopWaiting(const Job &job)
{
    waiting_ = false;
    flow_.resources->counts(job.direction).held_now.fetch_sub(1, std::memory_order_relaxed);
    flow_.resources->deadlines().Remove(hold_);
    RetireHold();
}

void PendingDecision::Handle(Job &job, HoldEvent *event)
{
    switch (event->kind)
    {
    case HoldEvent::kCompleted:
        OnCompleted(job);
        break;
    case HoldEvent::kInjected:
        OnInjected(job, event);
        break;
    case HoldEvent::kDropped:
        OnDropped(job);
        break;
    case HoldEvent::kTimeout:
        OnTimeout(job);
        break;
    }
}

void PendingDecision::OnCompleted(Job &job)
{
    pended_ = false;
    if (flow_.identity.direction == Direction::kOutbound)
    {
        Reauthorize(job);
    }
    else if (!copies_)
    {
        StopWaiting(job);
        authorization_.Refuse(job, OutcomeKind::kDropped, epoch_);
    }
}

// A completed ALE_AUTH_CONNECT is classified again.
void PendingDecision::Reauthorize(Job &job)
{
    const uint32_t epoch = flow_.policy();
    const wfp::ClassifyResult result = authorization_.AskAfterCompletion();

    if (result.action == wfp::ClassifyResult::kBlock)
    {
        StopWaiting(job);
        authorization_.Refuse(job, OutcomeOf(result), epoch);
        return;
    }
    authorization_.Grant(job, epoch);
    if (copies_)
    {
        return; // the packet comes back, or is dropped
    }

    const bool has_packet = job.packet != nullptr && !flow_.is_tcp();

    StopWaiting(job);
    if (has_packet)
    {
        flow_.End(job, OutcomeKind::kDropped); // the pended operation flushed it
    }
    else
    {
        job.stage = authorization_.NextStage(job);
    }
}

void PendingDecision::OnInjected(Job &job, HoldEvent *event)
{
    PacketPtr packet = std::move(event->packet);
    const Stage next = StageOfInjected(job, *packet, event->injection);

    StopWaiting(job);
    packet->loopback = packet->loopback || flow_.identity.loopback || next == Stage::kLoopedSend;
    if (next == Stage::kNone)
    {
        // The driver sent it elsewhere: it leaves this flow.
        job.redirected_to = packet->info().destination_endpoint();
        flow_.End(job, OutcomeKind::kRedirected);
        flow_.host->InjectLoose(event->injection, std::move(packet));
        return;
    }
    if (job.packet != nullptr)
    {
        packet->reassembled = job.packet->reassembled;
        packet->fragments = std::move(job.packet->fragments);
    }
    job.packet = std::move(packet);
    job.stage = next;
}

// Where the packet that the driver injected goes on. kNone: no longer in this flow.
Stage PendingDecision::StageOfInjected(const Job &job, const Packet &packet, wfp::Injection::Kind injection) const
{
    const bool outbound = job.direction == Direction::kOutbound;

    switch (injection)
    {
    case wfp::Injection::kNetworkSend:
        if (outbound)
        {
            return EntersAtTop(job, packet) ? Stage::kAuthorize : Stage::kIpPacket;
        }
        return flow_.peer_is_here() && ComesToThisFlow(job, packet) ? Stage::kLoopedSend : Stage::kNone;
    case wfp::Injection::kNetworkReceive:
        return outbound ? Stage::kNone : Stage::kIpPacket;
    case wfp::Injection::kTransportSend:
        return !outbound ? Stage::kNone : job.stage == Stage::kDatagram ? Stage::kDatagram : Stage::kAuthorize;
    case wfp::Injection::kTransportReceive:
        break;
    }
    return outbound ? Stage::kNone : Stage::kIpPacket;
}

// A packet that the driver sent elsewhere, or that ALE has not authorized, is seen by the IP packet layer alone.
bool PendingDecision::EntersAtTop(const Job &job, const Packet &injected) const
{
    return !flow_.raw && !job.refused && SameEndpoint(injected.info().source_endpoint(), job.source) &&
           SameEndpoint(injected.info().destination_endpoint(), job.destination);
}

bool PendingDecision::ComesToThisFlow(const Job &job, const Packet &injected) const
{
    const IpPacketInfo &info = injected.info();
    const bool redirected = flow_.redirection.active;

    return SameEndpoint(info.source_endpoint(), redirected ? flow_.identity.remote : job.source) &&
           SameEndpoint(info.destination_endpoint(), redirected ? flow_.identity.local : job.destination);
}

void PendingDecision::OnDropped(Job &job)
{
    copies_ = false;
    if (pended_ && flow_.identity.direction == Direction::kOutbound)
    {
        return; // the completion of the operation decides
    }
    StopWaiting(job);
    if (job.stage != Stage::kAuthorize)
    {
        flow_.End(job, OutcomeKind::kDropped);
        return;
    }
    if (!was_pended_ && epoch_ != flow_.policy() && !job.retried)
    {
        job.retried = true; // like a packet that is sent again: the new policy decides
        return;
    }
    if (authorization_.granted() && was_pended_)
    {
        flow_.End(job, OutcomeKind::kDropped); // the conversation is permitted, this packet is not
        return;
    }
    authorization_.Refuse(job, OutcomeKind::kDropped, epoch_);
}

void PendingDecision::OnTimeout(Job &job)
{
    StopWaiting(job);
    flow_.expired = flow_.conversation != nullptr;
    if (job.stage == Stage::kAuthorize)
    {
        authorization_.TimeOut(job);
    }
    else
    {
        flow_.End(job, OutcomeKind::kPendingTimeout);
    }
}

void PendingDecision::GiveUp(Job &job)
{
    StopWaiting(job);
    flow_.End(job, OutcomeKind::kDropped);
}

void PendingDecision::Reset()
{
    waiting_ = false;
    pended_ = false;
    copies_ = false;
    was_pended_ = false;
    epoch_ = 0;
}

} // namespace sim::net

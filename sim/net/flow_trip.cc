// The way of one packet through the layers.

#include "net/core.h"
#include "net/flow.h"

#include <utility>

namespace sim::net
{
namespace
{

bool HasSameEnds(const Job &job, const Packet &packet)
{
    return SameEndpoint(job.source, packet.info().source_endpoint()) &&
           SameEndpoint(job.destination, packet.info().destination_endpoint());
}

OutcomeKind KindOf(const wfp::ClassifyResult &result)
{
    return result.absorbed ? OutcomeKind::kDropped : OutcomeKind::kBlocked;
}

} // namespace

void Flow::StartTrip(Job &job, PacketPtr packet)
{
    job.packet = std::move(packet);
    job.result = OutcomeKind::kPermitted;
    job.refused = false;
    job.offered = false;
    job.retried = false;
    job.withheld = false;
    if (job.packet == nullptr)
    {
        job.result = OutcomeKind::kDropped; // there was no memory
        job.stage = Stage::kDone;
        return;
    }
    job.packet->loopback = job.packet->loopback || identity_.loopback;

    const bool from_target = IsFromTarget(job);

    if (from_target)
    {
        ComeFromTarget(*job.packet);
    }
    job.source = job.packet->info().source_endpoint();
    job.destination = job.packet->info().destination_endpoint();
    job.tcp_flags = job.packet->info().tcp_flags;
    if (job.first != Stage::kNone)
    {
        job.stage = job.first;
    }
    else if (job.direction == Direction::kOutbound)
    {
        job.stage = Stage::kAuthorize;
    }
    else
    {
        job.stage = from_target ? Stage::kLoopedSend : Stage::kIpPacket;
    }
}

// False: a decision is awaited.
bool Flow::Advance(Job &job)
{
    for (;;)
    {
        switch (job.stage)
        {
        case Stage::kAuthorize:
            if (!Authorize(job))
            {
                return false;
            }
            break;
        case Stage::kDatagram:
            if (!Datagram(job))
            {
                return false;
            }
            break;
        case Stage::kIpPacket:
            if (!IpPacket(job))
            {
                return false;
            }
            break;
        case Stage::kFragment:
        case Stage::kReassembled:
            if (!Reassembly(job))
            {
                return false;
            }
            break;
        case Stage::kLoopedSend:
            if (!LoopedSend(job))
            {
                return false;
            }
            break;
        case Stage::kArrived:
            Arrive(job);
            break;
        case Stage::kNone:
        case Stage::kDone:
            return true;
        }
    }
}

Flow::Need Flow::NeedOfAuthorization(const Job &job) const
{
    const bool ports = identity_.protocol == kProtocolTcp || identity_.protocol == kProtocolUdp;

    if (raw_ || (!ports && !IsEcho(identity_.protocol)))
    {
        return Need::kNothing;
    }
    switch (authorization_)
    {
    case Authorization::kGranted:
        return epoch_ == core_->policy(identity_.direction, identity_.local.family) ? Need::kNothing : Need::kAgain;
    case Authorization::kWithdrawn:
        return epoch_ == core_->policy(identity_.direction, identity_.local.family) ? Need::kRefused : Need::kAgain;
    case Authorization::kNone:
        break;
    }
    if (job.authorize)
    {
        return job.retried ? Need::kAgain : Need::kFirst;
    }
    return ports ? Need::kRefused : Need::kNothing;
}

bool Flow::Authorize(Job &job)
{
    const Need need = NeedOfAuthorization(job);

    if (need == Need::kNothing)
    {
        job.stage = AfterAuthorization(job);
        return true;
    }
    if (need == Need::kRefused)
    {
        RefusePacket(job, refusal_);
        return true;
    }

    // A first connect of TCP is authorized before there is a packet.
    const bool first = need == Need::kFirst;
    const bool bare = first && identity_.protocol == kProtocolTcp && identity_.direction == Direction::kOutbound;
    const uint32_t epoch = core_->policy(identity_.direction, identity_.local.family);
    Hold &hold = FreshHold();
    AuthorizationRequest request;

    request.flow = &identity_;
    request.packet = bare ? nullptr : job.packet.get();
    request.packet_direction = request.packet == nullptr ? identity_.direction : job.direction;
    request.reauthorization = first ? Reauthorization::kNone : Reauthorization::kPolicyChange;
    request.origin = &hold;
    if (first)
    {
        hold.ExpectCompletion();
        request.on_complete = [&hold](NET_BUFFER_LIST *) { hold.Completed(); };
    }

    const wfp::ClassifyResult result = IndicateAuthorization(core_->engine(), std::move(request));

    if (result.pended)
    {
        hold.set_used();
    }
    else if (first)
    {
        hold.NoCompletion();
    }
    if (result.action == wfp::ClassifyResult::kPermit)
    {
        Grant(epoch);
        job.stage = AfterAuthorization(job);
    }
    else if (result.pended || result.has_copies)
    {
        return AwaitDecision(job, result, epoch);
    }
    else
    {
        Refuse(job, KindOf(result), epoch);
    }
    RetireUsedHold();
    return true;
}

Stage Flow::AfterAuthorization(const Job &job) const
{
    if (job.kind == JobKind::kAuthorize)
    {
        return Stage::kDone;
    }
    if (identity_.protocol == kProtocolUdp && !raw_)
    {
        return Stage::kDatagram;
    }
    return job.direction == Direction::kOutbound ? Stage::kIpPacket : Stage::kArrived;
}

void Flow::Grant(uint32_t epoch)
{
    const bool first = authorization_ == Authorization::kNone;

    authorization_ = Authorization::kGranted;
    epoch_ = epoch;
    ever_granted_ = true;
    if (first && conversation_ != nullptr)
    {
        conversation_->Authorized(*this, OutcomeKind::kPermitted);
    }
}

void Flow::Refuse(Job &job, OutcomeKind kind, uint32_t epoch)
{
    const bool first = authorization_ == Authorization::kNone;

    refusal_ = kind;
    epoch_ = epoch;
    if (!first)
    {
        authorization_ = Authorization::kWithdrawn;
    }
    if (first && conversation_ != nullptr)
    {
        conversation_->Authorized(*this, kind);
    }
    RefusePacket(job, kind);
}

void Flow::RefusePacket(Job &job, OutcomeKind kind)
{
    job.refused = true;
    job.refusal = kind;
    if (job.offer_always && !job.offered && job.packet != nullptr)
    {
        job.stage = Stage::kIpPacket;
        return;
    }
    End(job, kind);
}

// As a layer below has decided: the packet is `permitted`, or a copy of it is awaited (false), or it ends here.
template <typename Permitted> bool Flow::GoOn(Job &job, const wfp::ClassifyResult &result, const Permitted &permitted)
{
    if (result.action == wfp::ClassifyResult::kPermit)
    {
        permitted();
    }
    else if (result.has_copies)
    {
        return AwaitDecision(job, result, epoch_);
    }
    else
    {
        End(job, KindOf(result));
    }
    RetireUsedHold();
    return true;
}

bool Flow::Datagram(Job &job)
{
    const IpPacketInfo &info = job.packet->info();
    const Stage next = job.direction == Direction::kOutbound ? Stage::kIpPacket : Stage::kArrived;

    if (!info.has_transport())
    {
        job.stage = next;
        return true;
    }

    const uint32_t payload = info.payload_length;
    const wfp::ClassifyResult result =
        IndicateDatagram(core_->engine(), identity_, job.direction, *job.packet, &FreshHold());

    return GoOn(job, result,
                [&]
                {
                    Count(&core_->counts(job.direction).datagram_bytes, payload);
                    if (conversation_ != nullptr)
                    {
                        conversation_->DatagramIndicated(*this, job.direction, payload);
                    }
                    job.stage = next;
                });
}

bool Flow::IpPacket(Job &job)
{
    if (job.packet == nullptr)
    {
        job.packet = MakeControl(job);
        if (job.packet == nullptr)
        {
            End(job, OutcomeKind::kDropped);
            return true;
        }
        job.destination = job.packet->info().destination_endpoint();
    }
    if (!job.offered && !job.packet->injected)
    {
        Count(&core_->counts(job.direction).offered);
        if (conversation_ != nullptr && job.direction == Direction::kOutbound && !job.refused && !raw_)
        {
            conversation_->Leaving(*this, *job.packet);
        }
    }
    job.offered = true;

    const wfp::ClassifyResult result =
        IndicateIpPacket(core_->engine(), job.direction, IpIndication::kPacket, *job.packet, &FreshHold());

    return GoOn(job, result,
                [&]
                {
                    if (job.direction == Direction::kOutbound)
                    {
                        Leave(job);
                    }
                    else
                    {
                        job.stage = job.packet->info().fragment ? Stage::kFragment : AfterIpPacket(job);
                    }
                });
}

// An inbound packet's.
Stage Flow::AfterIpPacket(const Job &job) const
{
    return job.dispatch ? Stage::kArrived : Stage::kAuthorize;
}

// What was let in as a packet comes as a fragment, and then as the datagram that it has completed.
bool Flow::Reassembly(Job &job)
{
    const bool fragment = job.stage == Stage::kFragment;
    const wfp::ClassifyResult result =
        IndicateIpPacket(core_->engine(), Direction::kInbound,
                         fragment ? IpIndication::kFragment : IpIndication::kReassembled, *job.packet, &FreshHold());

    return GoOn(job, result,
                [&]
                {
                    if (fragment)
                    {
                        Join(job);
                    }
                    else if (conversation_ != nullptr && core_->ToConversation(&job.packet))
                    {
                        job.stage = Stage::kDone;
                    }
                    else
                    {
                        job.stage = AfterIpPacket(job);
                    }
                });
}

void Flow::Join(Job &job)
{
    PacketPtr whole = core_->Reassemble(*job.packet);

    core_->TellWire(Direction::kInbound, *job.packet);
    if (whole == nullptr)
    {
        End(job, OutcomeKind::kPermitted);
        return;
    }
    job.packet = std::move(whole);
    job.dispatch = conversation_ == nullptr; // it is for whoever has the ports that are known now
    job.stage = Stage::kReassembled;
}

// It goes out, and comes in once more.
bool Flow::LoopedSend(Job &job)
{
    const wfp::ClassifyResult result =
        IndicateIpPacket(core_->engine(), Direction::kOutbound, IpIndication::kPacket, *job.packet, &FreshHold());

    return GoOn(job, result,
                [&]
                {
                    if (!job.packet->injected || !HasSameEnds(job, *job.packet))
                    {
                        core_->TellWire(Direction::kOutbound,
                                        *job.packet); // another has been told when it was sent first
                    }
                    job.stage = Stage::kIpPacket;
                });
}

void Flow::Leave(Job &job)
{
    if (job.refused)
    {
        job.withheld = true;
        End(job, job.refusal);
        return;
    }

    const Endpoint destination = job.packet->info().destination_endpoint();
    const bool redirected = job.packet->injected && !SameEndpoint(destination, job.destination);
    const bool local = job.packet->loopback || IsLoopback(destination.family, destination.address) ||
                       destination.address == job.packet->info().source;

    job.packet->loopback = local;
    core_->TellWire(Direction::kOutbound, *job.packet);
    if (redirected)
    {
        job.redirected_to = destination;
    }
    if (!raw_ && redirected != redirection_.active)
    {
        redirection_ = {redirected, job.packet->info().source_endpoint(), destination};
    }
    End(job, redirected ? OutcomeKind::kRedirected : OutcomeKind::kPermitted);
    if (conversation_ != nullptr)
    {
        if (redirected && local)
        {
            conversation_->Redirected(*this, std::move(job.packet));
        }
        else if (identity_.loopback && !redirected)
        {
            conversation_->LoopedBack(*this, std::move(job.packet));
        }
    }
    else if (local && (!raw_ || job.dispatch))
    {
        core_->LoopBack(std::move(job.packet));
    }
}

// Of a packet before its first layer: whether the remote end sends it, which is at the redirection's target now.
bool Flow::IsFromTarget(const Job &job)
{
    return redirection_.active && job.direction == Direction::kInbound && !job.packet->loopback &&
           (conversation_ == nullptr || conversation_->AnswersRedirected(*this, *job.packet));
}

void Flow::ComeFromTarget(Packet &packet) const
{
    WriteEnds(packet.bytes(), packet.info(), redirection_.target, redirection_.source);
    packet.Parse();
    packet.loopback = true;
}

void Flow::Arrive(Job &job)
{
    if (job.dispatch)
    {
        job.stage = Stage::kDone;
        core_->ToSocket(std::move(job.packet), std::exchange(job.done, nullptr));
        return;
    }
    core_->TellWire(Direction::kInbound, *job.packet);
    End(job, OutcomeKind::kPermitted);
    if (conversation_ != nullptr)
    {
        conversation_->Arrived(*this, *job.packet);
    }
    else if (identity_.protocol == kProtocolTcp && !raw_)
    {
        Received(job);
    }
}

void Flow::End(Job &job, OutcomeKind kind)
{
    job.result = kind;
    job.stage = Stage::kDone;
    if (job.kind == JobKind::kAuthorize)
    {
        return;
    }

    DirectionCounts &counts = core_->counts(job.direction);

    switch (kind)
    {
    case OutcomeKind::kPermitted:
    case OutcomeKind::kRedirected:
        Count(&counts.permitted);
        break;
    case OutcomeKind::kBlocked:
        Count(&counts.blocked);
        break;
    case OutcomeKind::kDropped:
        Count(&counts.dropped);
        break;
    case OutcomeKind::kPendingTimeout:
        Count(&core_->pending_timeouts());
        break;
    }
    if (conversation_ != nullptr && !job.stray)
    {
        conversation_->Ended(*this, {job.direction, kind, job.withheld});
    }
}

} // namespace sim::net

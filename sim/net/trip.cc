#include "net/trip.h"

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

// IPsec comes after INBOUND_IPPACKET, which sees AH and ESP themselves.
Stage StageAfterIpPacket(const Resources &resources, const Job &inbound)
{
    if (resources.accepts_secured())
    {
        inbound.packet->Secure();
    }
    return inbound.dispatch || inbound.forward ? Stage::kArrived : Stage::kAuthorize;
}

} // namespace

void Trip::Start(Job &job, PacketPtr packet)
{
    job.packet = std::move(packet);
    job.result = OutcomeKind::kPermitted;
    job.refused = false;
    job.offered = false;
    job.retried = false;
    job.withheld = false;
    job.arrived = false;
    job.counted = false;
    if (job.packet == nullptr)
    {
        job.result = OutcomeKind::kDropped;
        job.stage = Stage::kDone;
        return;
    }
    job.packet->loopback = job.packet->loopback || flow_.identity.loopback;

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

void Trip::Supply(Job &job, PacketPtr packet)
{
    job.packet = std::move(packet);
    if (job.packet == nullptr)
    {
        flow_.End(job, OutcomeKind::kDropped);
        return;
    }
    job.destination = job.packet->info().destination_endpoint();
    job.stage = Stage::kIpPacket;
}

bool Trip::Advance(Job &job)
{
    while (job.stage != Stage::kDone && job.stage != Stage::kNone)
    {
        if (!Step(job))
        {
            return false;
        }
    }
    return true;
}

bool Trip::Step(Job &job)
{
    switch (job.stage)
    {
    case Stage::kAuthorize:
        return Authorize(job);
    case Stage::kDatagram:
        return Datagram(job);
    case Stage::kIpPacket:
        return IpPacket(job);
    case Stage::kFragment:
    case Stage::kReassembled:
        return Reassembly(job);
    case Stage::kLoopedSend:
        return LoopedSend(job);
    case Stage::kArrived:
        Arrive(job);
        return true;
    case Stage::kNone:
    case Stage::kDone:
        break;
    }
    return true;
}

bool Trip::Authorize(Job &job)
{
    const Authorization::Need need = authorization_.NeedOf(job);

    if (need == Authorization::Need::kNothing)
    {
        job.stage = authorization_.NextStage(job);
        return true;
    }
    if (need == Authorization::Need::kRefused)
    {
        flow_.Refuse(job, authorization_.refusal());
        return true;
    }

    const uint32_t epoch = flow_.policy();
    const wfp::ClassifyResult result =
        authorization_.Ask(job, need == Authorization::Need::kFirst, decision_.PrepareHold());

    if (result.action == wfp::ClassifyResult::kPermit)
    {
        authorization_.Grant(job, epoch);
        job.stage = authorization_.NextStage(job);
    }
    else if (result.pended || result.has_copies)
    {
        return decision_.Await(job, result, epoch);
    }
    else
    {
        authorization_.Refuse(job, OutcomeOf(result), epoch);
    }
    decision_.RetireUsedHold();
    return true;
}

// Carries out the decision of a layer below the authorization: the packet goes on, waits (false), or ends here.
template <typename Permitted> bool Trip::GoOn(Job &job, const wfp::ClassifyResult &result, const Permitted &permitted)
{
    if (result.action == wfp::ClassifyResult::kPermit)
    {
        permitted();
    }
    else if (result.has_copies)
    {
        return decision_.Await(job, result, authorization_.epoch());
    }
    else
    {
        flow_.End(job, OutcomeOf(result));
    }
    decision_.RetireUsedHold();
    return true;
}

bool Trip::Datagram(Job &job)
{
    const IpPacketInfo &info = job.packet->info();
    const Stage next = job.kind == JobKind::kDatagram          ? Stage::kDone
                       : job.direction == Direction::kOutbound ? Stage::kIpPacket
                                                               : Stage::kArrived;

    if (!info.has_conversation())
    {
        job.stage = next;
        return true;
    }

    const uint32_t payload = info.protocol == kProtocolUdp ? info.payload_length : 0;
    const wfp::ClassifyResult result = IndicateDatagram(flow_.resources->engine(), flow_.identity, job.direction,
                                                        *job.packet, decision_.PrepareHold());

    return GoOn(job, result,
                [&]
                {
                    job.stage = next;
                    if (std::exchange(job.counted, true))
                    {
                        return;
                    }
                    Count(&flow_.resources->counts(job.direction).datagram_bytes, payload);
                    if (flow_.conversation != nullptr && flow_.identity.protocol == kProtocolUdp)
                    {
                        flow_.conversation->DatagramIndicated(job.direction, payload);
                    }
                });
}

bool Trip::IpPacket(Job &job)
{
    if (!job.offered && !job.packet->injected)
    {
        Count(&flow_.resources->counts(job.direction).offered);
        if (flow_.conversation != nullptr && job.direction == Direction::kOutbound && !job.refused && !flow_.raw)
        {
            flow_.conversation->Leaving(flow_.identity, *job.packet);
        }
    }
    job.offered = true;

    const wfp::ClassifyResult result = IndicateIpPacket(flow_.resources->engine(), job.direction, IpIndication::kPacket,
                                                        *job.packet, decision_.PrepareHold());

    return GoOn(job, result,
                [&]
                {
                    if (job.direction == Direction::kOutbound)
                    {
                        Leave(job);
                    }
                    else
                    {
                        const bool fragment = job.packet->info().fragment && !job.forward;

                        job.stage = fragment ? Stage::kFragment : StageAfterIpPacket(*flow_.resources, job);
                    }
                });
}

// A fragment that was let in as a packet is indicated as a fragment, and then as the datagram that it completes.
bool Trip::Reassembly(Job &job)
{
    const bool fragment = job.stage == Stage::kFragment;
    const wfp::ClassifyResult result = IndicateIpPacket(flow_.resources->engine(), Direction::kInbound,
                                                        fragment ? IpIndication::kFragment : IpIndication::kReassembled,
                                                        *job.packet, decision_.PrepareHold());

    return GoOn(job, result,
                [&]
                {
                    if (fragment)
                    {
                        Join(job);
                    }
                    else if (flow_.conversation != nullptr && !flow_.raw)
                    {
                        job.stage = Stage::kAuthorize; // the datagram belongs to the flow of its fragments
                    }
                    else if (flow_.conversation != nullptr && flow_.host->ToConversation(&job.packet))
                    {
                        job.stage = Stage::kDone;
                    }
                    else
                    {
                        job.stage = StageAfterIpPacket(*flow_.resources, job);
                    }
                });
}

void Trip::Join(Job &job)
{
    PacketPtr whole = flow_.resources->Reassemble(*job.packet);

    if (whole == nullptr)
    {
        flow_.End(job, OutcomeKind::kPermitted);
        return;
    }
    job.packet = std::move(whole);
    job.dispatch = flow_.conversation == nullptr; // its ports, known only now, decide who receives it
    job.stage = Stage::kReassembled;
}

// The packet is sent before it comes in.
bool Trip::LoopedSend(Job &job)
{
    const wfp::ClassifyResult result = IndicateIpPacket(flow_.resources->engine(), Direction::kOutbound,
                                                        IpIndication::kPacket, *job.packet, decision_.PrepareHold());

    return GoOn(job, result,
                [&]
                {
                    // The wire has already seen a packet that the driver injects unchanged.
                    if (!job.packet->injected || !HasSameEnds(job, *job.packet))
                    {
                        flow_.resources->NotifyWire(Direction::kOutbound, *job.packet);
                    }
                    job.stage = Stage::kIpPacket;
                });
}

void Trip::Leave(Job &job)
{
    if (job.refused)
    {
        job.withheld = true;
        flow_.End(job, job.refusal);
        return;
    }

    const Endpoint destination = job.packet->info().destination_endpoint();
    const bool redirected = job.packet->injected && !SameEndpoint(destination, job.destination);

    job.packet->loopback = job.packet->loopback || IsLoopback(destination.family, destination.address) ||
                           destination.address == job.packet->info().source;
    flow_.resources->NotifyWire(Direction::kOutbound, *job.packet);
    if (redirected)
    {
        job.redirected_to = destination;
    }
    if (!flow_.raw && redirected != flow_.redirection.active)
    {
        flow_.redirection = {redirected, job.packet->info().source_endpoint(), destination};
    }
    flow_.End(job, redirected ? OutcomeKind::kRedirected : OutcomeKind::kPermitted);
    SendOn(job, redirected);
}

// A packet that has left goes to its receiver on this machine, if it has one.
void Trip::SendOn(Job &job, bool redirected)
{
    const bool local = job.packet->loopback;
    const IpPacketInfo &info = job.packet->info();

    if (!local && !flow_.raw && flow_.conversation == nullptr && IsMulticast(info.family, info.destination) &&
        flow_.resources->sockets().IsJoined(info.destination))
    {
        flow_.host->SendToOwnGroup(*job.packet);
    }
    if (flow_.conversation == nullptr)
    {
        if (local && (!flow_.raw || job.dispatch))
        {
            flow_.host->LoopBack(std::move(job.packet));
        }
    }
    else if (redirected && local)
    {
        flow_.conversation->Redirected(flow_.identity, std::move(job.packet));
    }
    else if (flow_.identity.loopback && !redirected)
    {
        flow_.conversation->LoopedBack(std::move(job.packet));
    }
}

// True if the packet comes from the remote end while the driver redirects the flow: the target sends it then.
bool Trip::IsFromTarget(const Job &job)
{
    return flow_.redirection.active && job.direction == Direction::kInbound && !job.packet->loopback &&
           (flow_.conversation == nullptr || flow_.conversation->AnswersRedirected(flow_.identity, *job.packet));
}

void Trip::ComeFromTarget(Packet &packet) const
{
    WriteEnds(packet.bytes(), packet.info(), flow_.redirection.target, flow_.redirection.source);
    packet.Parse();
    packet.loopback = true;
}

void Trip::Arrive(Job &job)
{
    if (job.forward)
    {
        job.stage = Stage::kDone;
        flow_.host->Forward(std::move(job.packet), std::exchange(job.done, nullptr));
        return;
    }
    if (job.dispatch)
    {
        job.stage = Stage::kDone;
        flow_.host->ToSocket(std::move(job.packet), std::exchange(job.done, nullptr));
        return;
    }
    flow_.resources->NotifyWire(Direction::kInbound, *job.packet);
    flow_.End(job, OutcomeKind::kPermitted);
    job.arrived = true;
    if (flow_.conversation != nullptr)
    {
        flow_.conversation->Arrived(flow_.identity, *job.packet);
    }
}

} // namespace sim::net

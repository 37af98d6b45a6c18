#include "net/tcp_conversation.h"

#include "net/stream.h"

#include <algorithm>
#include <utility>

namespace sim::net
{
namespace
{

constexpr size_t kEthernetMtu = 1500;

size_t SegmentSize(uint8_t family)
{
    return kEthernetMtu - TcpPacketSize(family, 0);
}

} // namespace

void TcpConversation::SetSequences(uint32_t local, uint32_t remote)
{
    local_sequence_ = local;
    remote_sequence_ = remote;
}

PacketPtr TcpConversation::MakeSegment(Direction direction, uint8_t flags, const uint8_t *payload, size_t length) const
{
    const bool outbound = direction == Direction::kOutbound;
    const FlowIdentity &identity = flow_.identity;
    PacketPtr packet = flow_.resources->NewPacket(TcpPacketSize(identity.local.family, length));
    TcpSegment segment;

    if (packet == nullptr)
    {
        return nullptr;
    }
    segment.flags = flags;
    segment.sequence = outbound ? local_sequence_ : remote_sequence_;
    segment.acknowledgment = (flags & kTcpAck) == 0 ? 0 : outbound ? remote_sequence_ : local_sequence_;
    WriteTcpPacket(packet->bytes(), outbound ? identity.local : identity.remote,
                   outbound ? identity.remote : identity.local, segment, payload, length);
    packet->link = identity.local.link;
    packet->loopback = identity.loopback;
    packet->Parse();
    return packet;
}

bool TcpConversation::BeginControl(const Job &job)
{
    if (failed_)
    {
        return false;
    }
    if ((job.tcp_flags & kTcpFin) != 0 && job.direction == Direction::kOutbound)
    {
        IndicateDisconnect(flow_.resources->engine(), flow_.identity, Direction::kOutbound);
    }
    return true;
}

PacketPtr TcpConversation::MakeControl(const Job &job) const
{
    return MakeSegment(job.direction, job.tcp_flags, nullptr, 0);
}

void TcpConversation::ControlDone(const Job &job)
{
    if (!job.passed())
    {
        Fail();
    }
    else if (job.direction == Direction::kOutbound)
    {
        OutboundControlDone(job.tcp_flags);
    }
    else
    {
        InboundControlDone(job.tcp_flags);
    }
}

void TcpConversation::OutboundControlDone(uint8_t flags)
{
    if ((flags & (kTcpSyn | kTcpFin)) != 0)
    {
        ++local_sequence_;
    }
    if (flags == kTcpSyn && !flow_.peer_is_here())
    {
        QueueControls({{Direction::kInbound, kTcpSyn | kTcpAck}, {Direction::kOutbound, kTcpAck}});
    }
    else if ((flags & kTcpSyn) != 0 && flow_.peer_is_here())
    {
        AwaitPeer();
    }
    else if (flags == kTcpAck && flow_.identity.direction == Direction::kOutbound)
    {
        Establish();
    }
}

void TcpConversation::InboundControlDone(uint8_t flags)
{
    if ((flags & kTcpFin) != 0)
    {
        IndicateDisconnect(flow_.resources->engine(), flow_.identity, Direction::kInbound);
    }
    if ((flags & (kTcpSyn | kTcpFin)) != 0)
    {
        ++remote_sequence_;
    }
    if (flags == kTcpSyn)
    {
        QueueControls({{Direction::kOutbound, kTcpSyn | kTcpAck}, {Direction::kInbound, kTcpAck}});
    }
    else if (flags == kTcpAck && flow_.identity.direction == Direction::kInbound)
    {
        Establish();
    }
}

void TcpConversation::PacketDone(const Job &job)
{
    if (job.passed() && flow_.conversation != nullptr && flow_.is_tcp() &&
        (job.tcp_flags & (kTcpAck | kTcpSyn | kTcpRst)) == kTcpAck)
    {
        flow_.Announce();
    }
    if (!job.passed() && flow_.accepted && flow_.is_tcp() && (job.tcp_flags & (kTcpSyn | kTcpFin)) != 0)
    {
        Fail();
        QueueFinish();
    }
}

// The stack never sends a segment again, so it waits for the peer's answer as long as Windows would try.
void TcpConversation::AwaitPeer()
{
    StopAwaitingPeer();
    peer_hold_ = new Hold(owner_);
    peer_hold_->KeepOwner();
    flow_.resources->deadlines().Add(peer_hold_);
}

void TcpConversation::StopAwaitingPeer()
{
    if (peer_hold_ != nullptr)
    {
        flow_.resources->deadlines().Remove(peer_hold_);
        std::exchange(peer_hold_, nullptr)->ReleaseReference();
    }
}

void TcpConversation::OnPeerTimeout()
{
    Fail();
    if (flow_.accepted)
    {
        QueueFinish();
    }
}

void TcpConversation::Establish()
{
    if (flow_.established || failed_)
    {
        return;
    }
    flow_.established = true;
    flow_.identity.established = flow_.resources->engine().filter_epoch();
    StopAwaitingPeer();
    flow_.Announce();
    until_established_.Take(&jobs_);
    jobs_.Take(&until_established_);
}

void TcpConversation::Fail()
{
    failed_ = true;
    flow_.established = false;
    StopAwaitingPeer();
    jobs_.Take(&until_established_);
    if (flow_.closing)
    {
        QueueFinish();
    }
}

void TcpConversation::QueueControls(std::initializer_list<Control> controls)
{
    JobQueue queue;

    for (const Control &control : controls)
    {
        Job *job = flow_.resources->NewJob();

        job->kind = JobKind::kControl;
        job->direction = control.direction;
        job->tcp_flags = control.flags;
        queue.Append(job);
    }
    queue.Take(&jobs_);
    jobs_.Take(&queue);
}

void TcpConversation::QueueFinish()
{
    Job *job = flow_.resources->NewJob();

    job->kind = JobKind::kFinish;
    jobs_.Append(job);
}

PacketPtr TcpConversation::MakeSegmentOf(Job &job) const
{
    const size_t left = job.bytes.size() - job.position;
    const bool last = left <= SegmentSize(flow_.identity.local.family);

    job.segment = last ? left : SegmentSize(flow_.identity.local.family);
    return MakeSegment(job.direction, last ? kTcpAck | kTcpPush : kTcpAck, job.bytes.data() + job.position,
                       job.segment);
}

bool TcpConversation::SegmentDone(Job &job)
{
    if (!job.passed())
    {
        return false;
    }
    (job.direction == Direction::kOutbound ? local_sequence_ : remote_sequence_) += static_cast<uint32_t>(job.segment);
    job.position += job.segment;
    return job.position != job.bytes.size();
}

void TcpConversation::Received(Job &job)
{
    const IpPacketInfo &info = job.packet->info();

    if (job.kind == JobKind::kPacket)
    {
        SegmentArrived(*job.packet);
    }
    else if (job.kind == JobKind::kBytes)
    {
        IndicatePayload(*flow_.resources, flow_.identity, Direction::kInbound, *job.packet, info.payload_offset(),
                        info.payload_length);
    }
}

// Another flow sent the segment, or it came from the wire.
void TcpConversation::SegmentArrived(Packet &packet)
{
    const IpPacketInfo &info = packet.info();
    const uint8_t flags = info.tcp_flags;

    if ((flags & kTcpRst) != 0)
    {
        Fail();
        return;
    }
    if ((flags & kTcpSyn) != 0)
    {
        remote_sequence_ = info.sequence + 1;
        QueueControls(
            {{Direction::kOutbound, static_cast<uint8_t>((flags & kTcpAck) != 0 ? kTcpAck : kTcpSyn | kTcpAck)}});
        return;
    }
    if ((flags & kTcpAck) != 0 && flow_.identity.direction == Direction::kInbound)
    {
        Establish();
    }
    if (!flow_.established)
    {
        return;
    }
    if (flow_.closing && flow_.accepted && (flags & kTcpAck) != 0 && info.acknowledgment == local_sequence_)
    {
        QueueFinish(); // the last acknowledgment
        return;
    }
    if (info.payload_length != 0)
    {
        IndicatePayload(*flow_.resources, flow_.identity, Direction::kInbound, packet, info.payload_offset(),
                        info.payload_length);
        remote_sequence_ = info.sequence + info.payload_length;
    }
    if ((flags & kTcpFin) != 0)
    {
        RemoteFinished();
    }
}

// A flow that no application opened ends with its peer.
void TcpConversation::RemoteFinished()
{
    IndicateDisconnect(flow_.resources->engine(), flow_.identity, Direction::kInbound);
    ++remote_sequence_;
    if (flow_.accepted)
    {
        flow_.closing = true;
        QueueControls({{Direction::kOutbound, kTcpFin | kTcpAck}});
        return;
    }
    QueueControls({{Direction::kOutbound, kTcpAck}});
    if (flow_.closing)
    {
        QueueFinish();
    }
}

void TcpConversation::Close()
{
    if (flow_.established && flow_.peer_is_here())
    {
        QueueControls({{Direction::kOutbound, kTcpFin | kTcpAck}}); // the peer's FIN ends the flow
        return;
    }
    if (flow_.established)
    {
        QueueControls({{Direction::kOutbound, kTcpFin | kTcpAck},
                       {Direction::kInbound, kTcpFin | kTcpAck},
                       {Direction::kOutbound, kTcpAck}});
    }
    QueueFinish();
}

void TcpConversation::ResetByEngine()
{
    JobQueue queue;

    if (flow_.established && flow_.conversation == nullptr)
    {
        Job *reset = flow_.resources->NewJob();

        reset->kind = JobKind::kControl;
        reset->first = Stage::kIpPacket;
        reset->tcp_flags = kTcpRst | kTcpAck;
        queue.Append(reset);
    }

    Job *finish = flow_.resources->NewJob();

    finish->kind = JobKind::kFinish;
    queue.Append(finish);
    queue.Take(&jobs_);
    jobs_.Take(&queue);
}

void TcpConversation::End()
{
    StopAwaitingPeer();
    jobs_.Take(&until_established_);
}

void TcpConversation::FinishPeer() const
{
    const Redirection &redirection = flow_.redirection;
    Endpoint there = redirection.active ? redirection.target : flow_.identity.remote;
    const Endpoint &here = redirection.active ? redirection.source : flow_.identity.local;

    there.link = flow_.identity.local.link;
    flow_.host->FinishPeer(MakeTuple(kProtocolTcp, there, here));
}

} // namespace sim::net

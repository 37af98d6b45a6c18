// TCP of the stack's own flows: handshake, payload, end. The remote end of a flow that is not a loopback one is played
// here too; a loopback flow's is another flow.

#include "net/core.h"
#include "net/flow.h"

#include <algorithm>
#include <array>
#include <utility>

namespace sim::net
{
namespace
{

constexpr size_t kEthernetMtu = 1500;
constexpr size_t kStreamBuffer = 16 * 1024; // what is sent at once is indicated as a chain of buffers of this size

size_t SegmentSize(uint8_t family)
{
    return kEthernetMtu - TcpPacketSize(family, 0);
}

PacketPtr Parsed(PacketPtr packet)
{
    if (packet != nullptr)
    {
        packet->Parse();
    }
    return packet;
}

} // namespace

PacketPtr Flow::MakeSegment(Direction direction, uint8_t flags, const uint8_t *payload, size_t length) const
{
    const bool outbound = direction == Direction::kOutbound;
    PacketPtr packet = core_->NewPacket(TcpPacketSize(identity_.local.family, length));
    TcpSegment segment;

    if (packet == nullptr)
    {
        return nullptr;
    }
    segment.flags = flags;
    segment.sequence = outbound ? local_sequence_ : remote_sequence_;
    segment.acknowledgment = (flags & kTcpAck) == 0 ? 0 : outbound ? remote_sequence_ : local_sequence_;
    WriteTcpPacket(packet->bytes(), outbound ? identity_.local : identity_.remote,
                   outbound ? identity_.remote : identity_.local, segment, payload, length);
    packet->loopback = identity_.loopback;
    return Parsed(std::move(packet));
}

PacketPtr Flow::MakeControl(const Job &job) const
{
    return MakeSegment(job.direction, job.tcp_flags, nullptr, 0);
}

// Echo: what the flow began with is the request.
PacketPtr Flow::MakeMessage(const Job &job) const
{
    const bool outbound = job.direction == Direction::kOutbound;
    const uint8_t family = identity_.local.family;
    const Endpoint &source = outbound ? identity_.local : identity_.remote;
    const Endpoint &destination = outbound ? identity_.remote : identity_.local;
    const size_t length = job.bytes.size();
    PacketPtr packet;

    if (RawPacketSize(family, kEchoHeaderSize + length) > kLongestPacket)
    {
        return nullptr;
    }
    if (identity_.protocol == kProtocolUdp)
    {
        packet = core_->NewPacket(UdpPacketSize(family, length));
        if (packet != nullptr)
        {
            WriteUdpPacket(packet->bytes(), source, destination, job.bytes.data(), length);
        }
    }
    else if (IsEcho(identity_.protocol))
    {
        packet = core_->NewPacket(EchoPacketSize(family, length));
        if (packet != nullptr)
        {
            WriteEchoPacket(packet->bytes(), source, destination, job.direction == identity_.direction,
                            job.bytes.data(), length);
        }
    }
    else
    {
        packet = core_->NewPacket(RawPacketSize(family, length));
        if (packet != nullptr)
        {
            WriteRawPacket(packet->bytes(), source, destination, identity_.protocol, job.bytes.data(), length);
        }
    }
    return Parsed(std::move(packet));
}

bool Flow::BeginControl(Job &job)
{
    if (failed_)
    {
        Report(job, OutcomeKind::kBlocked);
        return false;
    }
    if ((job.tcp_flags & kTcpFin) != 0 && job.direction == Direction::kOutbound)
    {
        IndicateDisconnect(Direction::kOutbound);
    }
    if (job.authorize && job.direction == Direction::kOutbound)
    {
        job.stage = Stage::kAuthorize; // the SYN is made when it may be sent
        return true;
    }
    StartTrip(job, MakeControl(job));
    return true;
}

void Flow::ControlDone(Job &job)
{
    if (job.result != OutcomeKind::kPermitted && job.result != OutcomeKind::kRedirected)
    {
        Fail();
        return;
    }
    if (job.direction == Direction::kOutbound)
    {
        OutboundControlDone(job.tcp_flags);
    }
    else
    {
        InboundControlDone(job.tcp_flags);
    }
}

// A segment that begins or ends a connection is not sent again: without it there is no connection.
void Flow::PacketDone(const Job &job)
{
    const bool passed = job.result == OutcomeKind::kPermitted || job.result == OutcomeKind::kRedirected;

    if (!passed && accepted_ && identity_.protocol == kProtocolTcp && (job.tcp_flags & (kTcpSyn | kTcpFin)) != 0)
    {
        Fail();
        QueueFinish();
    }
}

void Flow::OutboundControlDone(uint8_t flags)
{
    if ((flags & (kTcpSyn | kTcpFin)) != 0)
    {
        ++local_sequence_;
    }
    if (flags == kTcpSyn && !IsPeerHere())
    {
        QueueControls({{Direction::kInbound, kTcpSyn | kTcpAck}, {Direction::kOutbound, kTcpAck}});
    }
    else if ((flags & kTcpSyn) != 0 && IsPeerHere())
    {
        AwaitPeer();
    }
    else if (flags == kTcpAck && identity_.direction == Direction::kOutbound)
    {
        Establish();
    }
}

void Flow::InboundControlDone(uint8_t flags)
{
    if ((flags & kTcpFin) != 0)
    {
        IndicateDisconnect(Direction::kInbound);
    }
    if ((flags & (kTcpSyn | kTcpFin)) != 0)
    {
        ++remote_sequence_;
    }
    if (flags == kTcpSyn)
    {
        QueueControls({{Direction::kOutbound, kTcpSyn | kTcpAck}, {Direction::kInbound, kTcpAck}});
    }
    else if (flags == kTcpAck && identity_.direction == Direction::kInbound)
    {
        Establish();
    }
}

// To answer the handshake. The stack does not send segments again, so it waits as long as it would try.
void Flow::AwaitPeer()
{
    StopAwaitingPeer();
    peer_hold_ = new Hold(*this);
    peer_hold_->KeepFlow();
    core_->deadlines().Add(peer_hold_, core_->weak_from_this());
}

void Flow::StopAwaitingPeer()
{
    if (peer_hold_ != nullptr)
    {
        core_->deadlines().Remove(peer_hold_);
        std::exchange(peer_hold_, nullptr)->ReleaseReference();
    }
}

void Flow::OnPeerTimeout()
{
    Fail();
    if (accepted_)
    {
        QueueFinish();
    }
}

void Flow::Establish()
{
    if (established_ || failed_)
    {
        return;
    }
    established_ = true;
    StopAwaitingPeer();
    until_established_.Take(&local_);
    local_.Take(&until_established_);
}

void Flow::Fail()
{
    failed_ = true;
    established_ = false;
    StopAwaitingPeer();
    local_.Take(&until_established_);
    if (closing_)
    {
        QueueFinish();
    }
}

void Flow::QueueControls(std::initializer_list<Control> controls)
{
    JobQueue queue;

    for (const Control &control : controls)
    {
        Job *job = core_->NewJob();

        job->kind = JobKind::kControl;
        job->direction = control.direction;
        job->tcp_flags = control.flags;
        queue.Append(job);
    }
    queue.Take(&local_);
    local_.Take(&queue);
}

void Flow::QueueFinish()
{
    Job *job = core_->NewJob();

    job->kind = JobKind::kFinish;
    local_.Append(job);
}

bool Flow::BeginBytes(Job &job)
{
    if (!established_ && IsPeerHere() && !failed_)
    {
        until_established_.Append(&job);
        current_ = nullptr;
        return false;
    }
    if (!established_ || job.bytes.empty())
    {
        Report(job, established_ ? OutcomeKind::kPermitted : OutcomeKind::kBlocked);
        return false;
    }
    if (job.direction == Direction::kOutbound && !IndicateBytes(job))
    {
        Report(job, OutcomeKind::kBlocked);
        return false;
    }
    NextSegment(job);
    return true;
}

void Flow::NextSegment(Job &job)
{
    const size_t length = std::min(SegmentSize(identity_.local.family), job.bytes.size() - job.position);
    const bool last = job.position + length == job.bytes.size();

    job.segment = length;
    StartTrip(job,
              MakeSegment(job.direction, last ? kTcpAck | kTcpPush : kTcpAck, job.bytes.data() + job.position, length));
}

// Whether another segment is on its way.
bool Flow::SegmentDone(Job &job)
{
    if (job.result != OutcomeKind::kPermitted && job.result != OutcomeKind::kRedirected)
    {
        return false;
    }
    (job.direction == Direction::kOutbound ? local_sequence_ : remote_sequence_) += static_cast<uint32_t>(job.segment);
    job.position += job.segment;
    if (job.position == job.bytes.size())
    {
        return false;
    }
    NextSegment(job);
    return true;
}

// What the application sends, before it is cut into segments. False: it is blocked.
bool Flow::IndicateBytes(Job &job)
{
    std::vector<PacketPtr> buffers;
    NET_BUFFER_LIST *first = nullptr;
    NET_BUFFER_LIST *last = nullptr;

    for (size_t position = 0; position < job.bytes.size(); position += kStreamBuffer)
    {
        const size_t length = std::min(kStreamBuffer, job.bytes.size() - position);
        PacketPtr buffer = core_->NewPacket(length);

        if (buffer == nullptr)
        {
            return false;
        }
        std::copy_n(job.bytes.data() + position, length, buffer->bytes());

        NET_BUFFER_LIST *list = buffer->StartAt(0);

        (first == nullptr ? first : last->Next) = list;
        last = list;
        buffers.push_back(std::move(buffer));
    }

    const wfp::ClassifyResult result =
        IndicateStream(core_->engine(), identity_, Direction::kOutbound, first, 0, job.bytes.size(), 0);

    for (const PacketPtr &buffer : buffers)
    {
        buffer->net_buffer_list()->Next = nullptr;
        buffer->referenced = result.referenced;
    }
    Count(&core_->counts(Direction::kOutbound).stream_bytes, job.bytes.size());
    return result.action == wfp::ClassifyResult::kPermit;
}

void Flow::IndicatePayload(Direction direction, Packet &packet, uint32_t offset, uint32_t length)
{
    const wfp::ClassifyResult result =
        IndicateStream(core_->engine(), identity_, direction, packet.Describe(offset, length), offset, length, 0);

    packet.referenced = packet.referenced || result.referenced;
    Count(&core_->counts(direction).stream_bytes, length);
}

void Flow::IndicateDisconnect(Direction direction)
{
    IndicateStream(core_->engine(), identity_, direction, nullptr, 0, 0,
                   direction == Direction::kInbound ? FWPS_STREAM_FLAG_RECEIVE_DISCONNECT
                                                    : FWPS_STREAM_FLAG_SEND_DISCONNECT);
}

void Flow::Received(Job &job)
{
    if (job.kind == JobKind::kPacket)
    {
        SegmentArrived(*job.packet);
    }
    else if (job.kind == JobKind::kBytes)
    {
        IndicatePayload(Direction::kInbound, *job.packet, job.packet->info().payload_offset(),
                        job.packet->info().payload_length);
    }
}

// A segment that another flow sent, or that came from the wire.
void Flow::SegmentArrived(Packet &packet)
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
    if ((flags & kTcpAck) != 0 && identity_.direction == Direction::kInbound)
    {
        Establish();
    }
    if (!established_)
    {
        return;
    }
    if (closing_ && accepted_ && (flags & kTcpAck) != 0 && info.acknowledgment == local_sequence_)
    {
        QueueFinish(); // the last acknowledgment
        return;
    }
    if (info.payload_length != 0)
    {
        IndicatePayload(Direction::kInbound, packet, info.payload_offset(), info.payload_length);
        remote_sequence_ = info.sequence + info.payload_length;
    }
    if ((flags & kTcpFin) != 0)
    {
        RemoteFinished();
    }
}

// The end of a flow that an application has not opened itself comes with its peer's.
void Flow::RemoteFinished()
{
    IndicateDisconnect(Direction::kInbound);
    ++remote_sequence_;
    if (accepted_)
    {
        closing_ = true;
        QueueControls({{Direction::kOutbound, kTcpFin | kTcpAck}});
        return;
    }
    QueueControls({{Direction::kOutbound, kTcpAck}});
    if (closing_)
    {
        QueueFinish();
    }
}

// This end of a loopback connection is gone.
void Flow::TellPeer()
{
    const Endpoint &there = redirection_.active ? redirection_.target : identity_.remote;
    const Endpoint &here = redirection_.active ? redirection_.source : identity_.local;
    const FlowRef peer = core_->flows().Find(MakeTuple(kProtocolTcp, there, here));

    if (peer)
    {
        Job *job = core_->NewJob();

        job->kind = JobKind::kPeerFinished;
        peer->Submit(job);
    }
}

void Flow::BeginClose()
{
    if (identity_.protocol == kProtocolTcp && established_ && IsPeerHere())
    {
        QueueControls({{Direction::kOutbound, kTcpFin | kTcpAck}}); // the peer's FIN is the end
        return;
    }
    if (identity_.protocol == kProtocolTcp && established_)
    {
        QueueControls({{Direction::kOutbound, kTcpFin | kTcpAck},
                       {Direction::kInbound, kTcpFin | kTcpAck},
                       {Direction::kOutbound, kTcpAck}});
    }
    QueueFinish();
}

} // namespace sim::net

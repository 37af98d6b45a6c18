#include "sources/replay_conversation.h"

#include "byte_order.h"
#include "net/stream.h"

#include <optional>
#include <utility>

namespace sim::sources
{
namespace
{

using net::Direction;
using net::OutcomeKind;

size_t Index(Direction direction)
{
    return static_cast<size_t>(direction);
}

constexpr uint16_t kDnsPort = 53;

// Returns the id of a DNS message over UDP. Its answer has the same id (RFC 1035, section 4.1.1).
std::optional<uint16_t> DnsId(const net::FlowIdentity &flow, const net::Packet &packet)
{
    const net::IpPacketInfo &info = packet.info();

    if (info.protocol != net::kProtocolUdp || flow.remote.port != kDnsPort || info.payload_length < sizeof(uint16_t))
    {
        return std::nullopt;
    }

    return LoadBig16(packet.bytes() + info.payload_offset());
}

} // namespace

void ReplayCounts::Wake() const
{
    if (awaited.load(std::memory_order_seq_cst))
    {
        wake();
    }
}

void ReplayConversation::Authorized(OutcomeKind kind)
{
    kind_ = kind;
}

void ReplayConversation::Leaving(const net::FlowIdentity &flow, net::Packet &packet)
{
    Segment(flow, Direction::kOutbound, packet);
}

void ReplayConversation::Arrived(const net::FlowIdentity &flow, net::Packet &packet)
{
    Segment(flow, Direction::kInbound, packet);
}

void ReplayConversation::Ended(const net::FlowIdentity &flow, const net::PacketResult &result)
{
    const bool goes_on =
        flow.loopback && result.direction == Direction::kOutbound && result.kind == OutcomeKind::kPermitted;

    redirected_ = redirected_ || result.kind == OutcomeKind::kRedirected;
    if (goes_on)
    {
        return; // the far end reports its outcome
    }
    net::Count(result.withheld ? &counts_->packets_withheld : &counts_->packets[static_cast<size_t>(result.kind)]);
    counts_->outstanding_packets.fetch_sub(1, std::memory_order_seq_cst);
    counts_->Wake();
}

void ReplayConversation::LoopedBack(net::PacketPtr packet)
{
    const net::IpPacketInfo &info = packet->info();
    const bool begins = !std::exchange(far_begun_, true);
    net::Job *job = core_.NewJob();

    job->direction = Direction::kInbound;
    job->offer_always = true;
    job->authorize = begins || info.protocol != net::kProtocolTcp || (info.tcp_flags & net::kTcpSyn) != 0;
    job->authorize = job->authorize && far_end_->opened() == Direction::kInbound;
    job->packet = std::move(packet);
    far_end_->Submit(job);
}

// Delivers the packet to the resolver or tunnel of this machine.
void ReplayConversation::Redirected(const net::FlowIdentity &flow, net::PacketPtr packet)
{
    const std::optional<uint16_t> id = DnsId(flow, *packet);
    const net::FlowRef loose = core_.LooseFlow(Direction::kInbound, packet->info());

    if (id)
    {
        redirected_queries_.insert(*id);
    }
    if (loose)
    {
        net::Job *job = core_.NewJob();

        loose->SetLoopback(true);
        job->direction = Direction::kInbound;
        job->packet = std::move(packet);
        loose->Submit(job);
    }
}

// A resolver of this machine answers only the queries that it got.
bool ReplayConversation::AnswersRedirected(const net::FlowIdentity &flow, const net::Packet &packet)
{
    const std::optional<uint16_t> id = DnsId(flow, packet);

    return !id || redirected_queries_.count(*id) != 0;
}

void ReplayConversation::DatagramIndicated(Direction direction, uint32_t payload)
{
    net::Count(&(direction == Direction::kOutbound ? counts_->udp_sent : counts_->udp_received)[family_index_],
               payload);
}

void ReplayConversation::Closing(const net::FlowIdentity &flow)
{
    for (const Direction direction : {Direction::kOutbound, Direction::kInbound})
    {
        StreamAssembly &stream = streams_[Index(direction)];

        stream.Finish([&](const uint8_t *bytes, size_t length) { Indicate(flow, direction, bytes, length, nullptr); });
        net::Count(&counts_->gaps, stream.gaps());
        net::Count(&counts_->gap_bytes, stream.gap_bytes());
    }
    if (counted_)
    {
        const OutcomeKind kind = kind_ == OutcomeKind::kPermitted && redirected_ ? OutcomeKind::kRedirected : kind_;

        net::Count(&counts_->conversations[static_cast<size_t>(kind)]);
    }
    far_end_ = net::FlowRef();
    counts_->open_flows.fetch_sub(1, std::memory_order_seq_cst);
    counts_->Wake();
}

// Indicates the bytes that are new in a segment, and the bytes that its acknowledgment releases.
void ReplayConversation::Segment(const net::FlowIdentity &flow, Direction direction, net::Packet &packet)
{
    const net::IpPacketInfo &info = packet.info();

    if (!counted_ || info.protocol != net::kProtocolTcp || !info.has_transport() || info.fragment ||
        (info.tcp_flags & net::kTcpRst) != 0)
    {
        return;
    }

    const Direction opposite = Opposite(direction);
    const uint32_t sequence = info.sequence + ((info.tcp_flags & net::kTcpSyn) != 0 ? 1 : 0);
    StreamAssembly &stream = streams_[Index(direction)];

    stream.Begin(sequence);
    if (info.payload_length != 0)
    {
        stream.Add(sequence, packet.bytes() + info.payload_offset(), info.payload_length,
                   [&](const uint8_t *bytes, size_t length) { Indicate(flow, direction, bytes, length, &packet); });
    }
    if ((info.tcp_flags & net::kTcpAck) != 0)
    {
        streams_[Index(opposite)].Acknowledge(info.acknowledgment, [&](const uint8_t *bytes, size_t length)
                                              { Indicate(flow, opposite, bytes, length, nullptr); });
    }
    if ((info.tcp_flags & net::kTcpFin) != 0)
    {
        stream.SetEnd(sequence + info.payload_length);
        if (!std::exchange(disconnected_[Index(direction)], true))
        {
            net::IndicateDisconnect(core_.engine(), flow, direction);
        }
    }
}

// If the bytes lie in `packet`, they are indicated in place. Otherwise they are copied.
void ReplayConversation::Indicate(const net::FlowIdentity &flow, Direction direction, const uint8_t *bytes,
                                  size_t length, net::Packet *packet)
{
    net::Count(&(direction == Direction::kOutbound ? counts_->tcp_sent : counts_->tcp_received)[family_index_], length);
    if (packet != nullptr && bytes >= packet->bytes() && bytes < packet->bytes() + packet->length())
    {
        net::IndicatePayload(core_, flow, direction, *packet, static_cast<uint32_t>(bytes - packet->bytes()),
                             static_cast<uint32_t>(length));
        return;
    }

    const net::PacketPtr copy = core_.NewPacket(length);

    if (copy != nullptr)
    {
        std::copy_n(bytes, length, copy->bytes());
        net::IndicatePayload(core_, flow, direction, *copy, 0, static_cast<uint32_t>(length));
    }
}

} // namespace sim::sources

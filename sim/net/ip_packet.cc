#include "net/ip_packet.h"

#include "byte_order.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace sim::net
{
namespace
{

constexpr uint8_t kHopByHop = 0;
constexpr uint8_t kRouting = 43;
constexpr uint8_t kFragment = 44;
constexpr uint8_t kEncapsulated = 50;
constexpr uint8_t kAuthentication = 51;
constexpr uint8_t kNoNextHeader = 59;
constexpr uint8_t kDestinationOptions = 60;

constexpr IcmpKind kEchoRequestV4 = {8, 0};
constexpr IcmpKind kEchoReplyV4 = {0, 0};
constexpr IcmpKind kEchoRequestV6 = {128, 0};
constexpr IcmpKind kEchoReplyV6 = {129, 0};

constexpr uint8_t kHopLimit = 128;
constexpr uint16_t kDontFragment = 0x4000;
constexpr uint16_t kMoreFragments = 0x2000;
constexpr uint16_t kFragmentOffsetMask = 0x1FFF;
constexpr uint16_t kWindow = 0xFFFF;
constexpr size_t kFragmentUnit = 8;
constexpr uint32_t kFragmentHeaderSize = 8;
constexpr int kMostExtensionHeaders = 16;

// Adds 16-bit words in memory order. A ones' complement sum does not depend on the byte order of its words.
uint64_t Sum(const uint8_t *bytes, size_t length, uint64_t sum)
{
    uint64_t pairs = 0;
    uint32_t rest = 0;

    for (; length >= sizeof(pairs); bytes += sizeof(pairs), length -= sizeof(pairs))
    {
        std::memcpy(&pairs, bytes, sizeof(pairs));
        sum += (pairs & 0xFFFFFFFF) + (pairs >> 32);
    }
    if (length >= sizeof(rest))
    {
        std::memcpy(&rest, bytes, sizeof(rest));
        sum += rest;
        bytes += sizeof(rest);
        length -= sizeof(rest);
    }
    if (length != 0)
    {
        rest = 0;
        std::memcpy(&rest, bytes, length);
        sum += rest;
    }
    return sum;
}

// Returns the ones' complement of the sum, in memory order.
uint16_t Fold(uint64_t sum)
{
    while (sum >> 16 != 0)
    {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return static_cast<uint16_t>(~sum);
}

void WriteChecksum(uint8_t *bytes, uint16_t checksum)
{
    std::memcpy(bytes, &checksum, sizeof(checksum));
}

// Updates a checksum after bytes that it covers have changed.
// `change` is the sum of the old bytes' complement and of the new bytes.
void UpdateChecksum(uint8_t *checksum, uint64_t change)
{
    uint16_t before = 0;

    std::memcpy(&before, checksum, sizeof(before));
    WriteChecksum(checksum, Fold(static_cast<uint16_t>(~before) + change));
}

uint64_t PseudoHeaderSum(uint8_t family, const uint8_t *source, const uint8_t *destination, uint8_t protocol,
                         size_t length)
{
    uint8_t tail[8] = {};
    uint64_t sum = Sum(source, AddressLength(family), 0);

    sum = Sum(destination, AddressLength(family), sum);
    StoreBig32(tail, static_cast<uint32_t>(length));
    tail[7] = protocol;
    return Sum(tail, sizeof(tail), sum);
}

void ReadTransport(const uint8_t *bytes, size_t available, IpPacketInfo *info)
{
    const uint8_t *transport = bytes + info->ip_header_size;
    const size_t there = available > info->ip_header_size ? available - info->ip_header_size : 0;
    const uint32_t length = info->length - info->ip_header_size;
    uint32_t header = 0;

    switch (info->protocol)
    {
    case kProtocolTcp:
        if (there < kTcpHeaderSize)
        {
            return;
        }
        header = static_cast<uint32_t>(transport[12] >> 4) * 4;
        if (header < kTcpHeaderSize || header > length)
        {
            return;
        }
        info->sequence = LoadBig32(transport + 4);
        info->acknowledgment = LoadBig32(transport + 8);
        info->tcp_flags = transport[13];
        break;
    case kProtocolUdp:
        if (there < kUdpHeaderSize)
        {
            return;
        }
        header = kUdpHeaderSize;
        break;
    case kProtocolIcmp:
    case kProtocolIcmpV6:
        if (there < kIcmpHeaderSize)
        {
            return;
        }
        info->transport_header_size = kIcmpHeaderSize;
        info->payload_length = length - kIcmpHeaderSize;
        info->source_port = transport[0];
        info->destination_port = transport[1];
        if (info->is_echo())
        {
            info->echo_identifier = LoadBig16(transport + 4);
            info->echo_sequence = LoadBig16(transport + 6);
        }
        return;
    default:
        return;
    }
    info->transport_header_size = header;
    info->payload_length = length - header;
    info->source_port = LoadBig16(transport);
    info->destination_port = LoadBig16(transport + 2);
    if (info->protocol == kProtocolUdp)
    {
        const uint32_t udp_length = LoadBig16(transport + 4);

        // A UDP length of 0 stands for one that does not fit.
        // A packet may be longer than its datagram, but not shorter.
        if (udp_length >= kUdpHeaderSize && !info->fragment)
        {
            info->payload_length = std::min(info->payload_length, udp_length - static_cast<uint32_t>(kUdpHeaderSize));
        }
    }
}

bool ParseIpv4(const uint8_t *bytes, size_t captured, IpPacketInfo *info)
{
    if (captured < kIpv4HeaderSize)
    {
        return false;
    }
    info->family = kIpv4;
    info->ip_header_size = static_cast<uint32_t>(bytes[0] & 0x0F) * 4;
    info->length = LoadBig16(bytes + 2);
    if (info->length == 0)
    {
        info->length = static_cast<uint32_t>(captured); // captured before the network adapter filled it in
    }
    if (info->ip_header_size < kIpv4HeaderSize || info->ip_header_size > captured ||
        info->length < info->ip_header_size)
    {
        return false;
    }
    info->protocol = bytes[9];
    std::copy_n(bytes + 12, 4, info->source.begin());
    std::copy_n(bytes + 16, 4, info->destination.begin());

    const uint16_t fragment = LoadBig16(bytes + 6);

    info->fragment_identification = LoadBig16(bytes + 4);
    info->fragment_offset = static_cast<uint16_t>((fragment & kFragmentOffsetMask) * kFragmentUnit);
    info->more_fragments = (fragment & kMoreFragments) != 0;
    info->fragment = info->fragment_offset != 0 || info->more_fragments;
    info->first_fragment = info->fragment && info->fragment_offset == 0;
    info->fragment_start = info->ip_header_size;
    return true;
}

// Walks the extension headers. If they do not lie within `available`, the transport header stays unknown.
void SkipExtensions(const uint8_t *bytes, size_t available, IpPacketInfo *info)
{
    for (int headers = 0; headers < kMostExtensionHeaders; ++headers)
    {
        const uint8_t *header = bytes + info->ip_header_size;
        size_t size = 0;

        switch (info->protocol)
        {
        case kHopByHop:
        case kRouting:
        case kDestinationOptions:
        case kFragment:
        case kAuthentication:
            break;
        default:
            return;
        }
        if (available < info->ip_header_size + 8)
        {
            return;
        }
        if (info->protocol == kFragment)
        {
            const uint16_t fragment = LoadBig16(header + 2);

            size = kFragmentHeaderSize;
            info->fragment_offset = fragment & 0xFFF8;
            info->fragment_identification = LoadBig32(header + 4);
            info->more_fragments = (fragment & 1) != 0;
            info->fragment = info->fragment_offset != 0 || info->more_fragments;
            info->first_fragment = info->fragment && info->fragment_offset == 0;
            info->fragment_start = info->ip_header_size + kFragmentHeaderSize;
        }
        else
        {
            size = info->protocol == kAuthentication ? (header[1] + 2u) * 4u : (header[1] + 1u) * 8u;
        }
        if (info->ip_header_size + size > std::min<size_t>(available, info->length))
        {
            return;
        }
        info->authenticated = info->authenticated || info->protocol == kAuthentication;
        info->protocol = header[0];
        info->ip_header_size += static_cast<uint32_t>(size);
        if (info->fragment && !info->first_fragment)
        {
            return; // the middle of a datagram follows, not a header
        }
    }
}

bool ParseIpv6(const uint8_t *bytes, size_t captured, IpPacketInfo *info)
{
    if (captured < kIpv6HeaderSize)
    {
        return false;
    }

    const uint32_t payload = LoadBig16(bytes + 4);

    info->family = kIpv6;
    info->ip_header_size = kIpv6HeaderSize;
    info->length = payload == 0 && bytes[6] != kNoNextHeader ? static_cast<uint32_t>(captured)
                                                             : payload + static_cast<uint32_t>(kIpv6HeaderSize);
    info->protocol = bytes[6];
    std::copy_n(bytes + 8, 16, info->source.begin());
    std::copy_n(bytes + 24, 16, info->destination.begin());
    SkipExtensions(bytes, std::min<size_t>(captured, info->length), info);
    return true;
}

// Writes the checksum of the transport segment that follows the IP header.
void FinishTransport(uint8_t *packet, size_t ip_header, size_t transport_length, const Endpoint &source,
                     const Endpoint &destination, uint8_t protocol, size_t checksum_offset)
{
    uint8_t *transport = packet + ip_header;
    const uint64_t pseudo = protocol == kProtocolIcmp
                                ? 0
                                : PseudoHeaderSum(source.family, source.address.data(), destination.address.data(),
                                                  protocol, transport_length);
    uint16_t checksum = Fold(Sum(transport, transport_length, pseudo));

    if (checksum == 0 && protocol == kProtocolUdp)
    {
        checksum = 0xFFFF; // 0 would mean that there is none
    }
    WriteChecksum(transport + checksum_offset, checksum);
}

void CopyPayload(uint8_t *to, const uint8_t *payload, size_t length)
{
    if (length != 0)
    {
        std::memcpy(to, payload, length);
    }
}

size_t IpHeaderSize(uint8_t family)
{
    return family == kIpv6 ? kIpv6HeaderSize : kIpv4HeaderSize;
}

} // namespace

bool IpPacketInfo::has_conversation() const
{
    const bool has_header = HasPorts(protocol) || IsIcmp(protocol);

    return !fragment && (!has_header || (has_transport() && !IsIcmpError(protocol, source_port)));
}

Tuple TupleOf(const IpPacketInfo &info, Direction direction)
{
    const bool outbound = direction == Direction::kOutbound;
    Endpoint local = outbound ? info.source_endpoint() : info.destination_endpoint();
    Endpoint remote = outbound ? info.destination_endpoint() : info.source_endpoint();

    if (!IsIcmp(info.protocol))
    {
        return MakeTuple(info.protocol, local, remote);
    }
    local.port = info.source_port;
    remote.port = info.destination_port;
    return MakeIcmpTuple(info.protocol, local, remote, info.echo_identifier, direction);
}

bool ParseIpPacket(const uint8_t *bytes, size_t captured, IpPacketInfo *info)
{
    *info = IpPacketInfo();
    if (captured == 0)
    {
        return false;
    }

    const uint8_t version = bytes[0] >> 4;

    if (!(version == kIpv4   ? ParseIpv4(bytes, captured, info)
          : version == kIpv6 ? ParseIpv6(bytes, captured, info)
                             : false))
    {
        return false;
    }
    if (!info->fragment || info->first_fragment)
    {
        ReadTransport(bytes, std::min<size_t>(captured, info->length), info);
    }
    return true;
}

bool ParseReassembled(const uint8_t *bytes, size_t length, IpPacketInfo *info)
{
    if (!ParseIpPacket(bytes, length, info))
    {
        return false;
    }
    info->fragment = false;
    info->first_fragment = false;
    info->more_fragments = false;
    info->length = static_cast<uint32_t>(length);
    ReadTransport(bytes, length, info);
    return true;
}

bool ParseSecured(const uint8_t *bytes, size_t length, IpPacketInfo *info)
{
    constexpr size_t kEncapsulationSize = 8;
    constexpr size_t kTrailerSize = 2; // pad length and next header
    size_t end = length;

    if (!ParseIpPacket(bytes, length, info) || info->fragment || info->length != length)
    {
        return false;
    }

    const uint8_t *header = bytes + info->ip_header_size;
    const size_t left = length - info->ip_header_size;

    if (info->protocol == kEncapsulated && left >= kEncapsulationSize + kTrailerSize)
    {
        info->protocol = bytes[length - 1];
        info->ip_header_size += kEncapsulationSize;
        end -= kTrailerSize + bytes[length - 2];
    }
    else if (info->protocol == kAuthentication && left >= kEncapsulationSize)
    {
        info->protocol = header[0];
        info->ip_header_size += (header[1] + 2u) * 4u;
    }
    else if (!info->authenticated)
    {
        return false;
    }
    if (end > length || info->ip_header_size > end)
    {
        return false;
    }
    info->length = static_cast<uint32_t>(end);
    ReadTransport(bytes, end, info);
    return true;
}

size_t TcpPacketSize(uint8_t family, size_t payload)
{
    return IpHeaderSize(family) + kTcpHeaderSize + payload;
}

size_t UdpPacketSize(uint8_t family, size_t payload)
{
    return IpHeaderSize(family) + kUdpHeaderSize + payload;
}

size_t IcmpPacketSize(uint8_t family, size_t payload)
{
    return IpHeaderSize(family) + kIcmpHeaderSize + payload;
}

size_t RawPacketSize(uint8_t family, size_t payload)
{
    return IpHeaderSize(family) + payload;
}

size_t WriteIpHeader(uint8_t *out, const Endpoint &source, const Endpoint &destination, uint8_t protocol,
                     size_t transport_length)
{
    if (source.family == kIpv6)
    {
        StoreBig32(out, 0x60000000);
        StoreBig16(out + 4, static_cast<uint16_t>(transport_length));
        out[6] = protocol;
        out[7] = kHopLimit;
        std::copy_n(source.address.begin(), 16, out + 8);
        std::copy_n(destination.address.begin(), 16, out + 24);
        return kIpv6HeaderSize;
    }
    StoreBig16(out, 0x4500);
    StoreBig16(out + 2, static_cast<uint16_t>(kIpv4HeaderSize + transport_length));
    StoreBig16(out + 4, 0);
    StoreBig16(out + 6, kDontFragment);
    out[8] = kHopLimit;
    out[9] = protocol;
    StoreBig16(out + 10, 0);
    std::copy_n(source.address.begin(), 4, out + 12);
    std::copy_n(destination.address.begin(), 4, out + 16);
    WriteChecksum(out + 10, Fold(Sum(out, kIpv4HeaderSize, 0)));
    return kIpv4HeaderSize;
}

size_t WriteTcpPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, const TcpSegment &segment,
                      const uint8_t *payload, size_t length)
{
    const size_t transport_length = kTcpHeaderSize + length;
    const size_t ip_header = WriteIpHeader(out, source, destination, kProtocolTcp, transport_length);
    uint8_t *tcp = out + ip_header;

    StoreBig16(tcp, source.port);
    StoreBig16(tcp + 2, destination.port);
    StoreBig32(tcp + 4, segment.sequence);
    StoreBig32(tcp + 8, segment.acknowledgment);
    tcp[12] = (kTcpHeaderSize / 4) << 4;
    tcp[13] = segment.flags;
    StoreBig16(tcp + 14, kWindow);
    StoreBig32(tcp + 16, 0);
    CopyPayload(tcp + kTcpHeaderSize, payload, length);
    FinishTransport(out, ip_header, transport_length, source, destination, kProtocolTcp, 16);
    return ip_header + transport_length;
}

size_t WriteUdpPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, const uint8_t *payload,
                      size_t length)
{
    const size_t transport_length = kUdpHeaderSize + length;
    const size_t ip_header = WriteIpHeader(out, source, destination, kProtocolUdp, transport_length);
    uint8_t *udp = out + ip_header;

    StoreBig16(udp, source.port);
    StoreBig16(udp + 2, destination.port);
    StoreBig16(udp + 4, static_cast<uint16_t>(transport_length));
    StoreBig16(udp + 6, 0);
    CopyPayload(udp + kUdpHeaderSize, payload, length);
    FinishTransport(out, ip_header, transport_length, source, destination, kProtocolUdp, 6);
    return ip_header + transport_length;
}

size_t WriteIcmpPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, const IcmpKind &kind,
                       uint32_t rest, const uint8_t *payload, size_t length)
{
    const uint8_t protocol = source.family == kIpv6 ? kProtocolIcmpV6 : kProtocolIcmp;
    const size_t transport_length = kIcmpHeaderSize + length;
    const size_t ip_header = WriteIpHeader(out, source, destination, protocol, transport_length);
    uint8_t *icmp = out + ip_header;

    icmp[0] = kind.type;
    icmp[1] = kind.code;
    StoreBig16(icmp + 2, 0);
    StoreBig32(icmp + 4, rest);
    CopyPayload(icmp + kIcmpHeaderSize, payload, length);
    FinishTransport(out, ip_header, transport_length, source, destination, protocol, 2);
    return ip_header + transport_length;
}

size_t WriteEchoPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, bool request,
                       const uint8_t *payload, size_t length)
{
    const IcmpKind &of_v4 = request ? kEchoRequestV4 : kEchoReplyV4;
    const IcmpKind &of_v6 = request ? kEchoRequestV6 : kEchoReplyV6;

    return WriteIcmpPacket(out, source, destination, source.family == kIpv6 ? of_v6 : of_v4,
                           static_cast<uint32_t>(source.port) << 16 | destination.port, payload, length);
}

size_t WriteRawPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, uint8_t protocol,
                      const uint8_t *payload, size_t length)
{
    const size_t ip_header = WriteIpHeader(out, source, destination, protocol, length);

    CopyPayload(out + ip_header, payload, length);
    return ip_header + length;
}

void WriteEnds(uint8_t *bytes, const IpPacketInfo &info, const Endpoint &source, const Endpoint &destination)
{
    const size_t length = AddressLength(info.family);
    uint8_t *const addresses = bytes + (info.family == kIpv6 ? 8 : 12);
    uint8_t *const transport = bytes + info.ip_header_size;
    std::array<uint8_t, 2 * sizeof(Address)> new_addresses{};
    std::array<uint8_t, 4> new_ports{};

    std::copy_n(source.address.begin(), length, new_addresses.begin());
    std::copy_n(destination.address.begin(), length, new_addresses.begin() + static_cast<ptrdiff_t>(length));
    StoreBig16(new_ports.data(), source.port);
    StoreBig16(new_ports.data() + 2, destination.port);

    const uint64_t of_addresses = Fold(Sum(addresses, 2 * length, 0)) + Sum(new_addresses.data(), 2 * length, 0);

    if (info.family == kIpv4)
    {
        UpdateChecksum(bytes + 10, of_addresses);
    }
    if (info.has_transport())
    {
        uint8_t *const checksum = transport + (info.protocol == kProtocolTcp ? 16 : 6);
        const bool udp = info.protocol == kProtocolUdp;

        if (!udp || checksum[0] != 0 || checksum[1] != 0)
        {
            UpdateChecksum(checksum, of_addresses + Fold(Sum(transport, new_ports.size(), 0)) +
                                         Sum(new_ports.data(), new_ports.size(), 0));
            if (udp && checksum[0] == 0 && checksum[1] == 0)
            {
                WriteChecksum(checksum, 0xFFFF); // 0 would mean that there is none
            }
        }
        std::copy(new_ports.begin(), new_ports.end(), transport);
    }
    std::copy_n(new_addresses.begin(), 2 * length, addresses);
}

bool ChecksumsAreRight(const uint8_t *bytes, const IpPacketInfo &info)
{
    if (info.family == kIpv4 && Fold(Sum(bytes, static_cast<size_t>(bytes[0] & 0x0F) * 4, 0)) != 0)
    {
        return false;
    }
    if (info.fragment || !info.has_transport() || (info.protocol != kProtocolTcp && info.protocol != kProtocolUdp))
    {
        return true;
    }

    const uint8_t *transport = bytes + info.ip_header_size;
    const size_t length = info.transport_header_size + info.payload_length;

    if (info.protocol == kProtocolUdp && transport[6] == 0 && transport[7] == 0)
    {
        return info.family == kIpv4;
    }
    return Fold(Sum(
               transport, length,
               PseudoHeaderSum(info.family, info.source.data(), info.destination.data(), info.protocol, length))) == 0;
}

} // namespace sim::net

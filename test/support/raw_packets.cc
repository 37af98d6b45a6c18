#include "support/raw_packets.h"

namespace kext_test
{

namespace
{

constexpr uint8_t kHopByHopOptions = 0; // RFC 8200
constexpr uint8_t kNoFragment = 0x40;   // RFC 791

void Append16(ByteVector *bytes, size_t value)
{
    bytes->push_back(static_cast<uint8_t>(value >> 8));
    bytes->push_back(static_cast<uint8_t>(value));
}

void Append(ByteVector *bytes, const ByteVector &more)
{
    bytes->insert(bytes->end(), more.begin(), more.end());
}

void AppendAddress(ByteVector *bytes, const Endpoint &endpoint)
{
    bytes->insert(bytes->end(), endpoint.address.begin(), endpoint.address.begin() + (endpoint.family == 6 ? 16 : 4));
}

void PutChecksum(ByteVector *bytes, size_t at, uint16_t checksum)
{
    (*bytes)[at] = static_cast<uint8_t>(checksum >> 8);
    (*bytes)[at + 1] = static_cast<uint8_t>(checksum);
}

// RFC 1071.
uint16_t Checksum(const ByteVector &bytes)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < bytes.size(); i++)
    {
        sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
    }
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum += sum >> 16;
    return static_cast<uint16_t>(~sum);
}

// The checksum of a transport header and its payload covers both addresses too.
uint16_t TransportChecksum(const Endpoint &source, const Endpoint &destination, uint8_t protocol,
                           const ByteVector &transport)
{
    ByteVector bytes;

    AppendAddress(&bytes, source);
    AppendAddress(&bytes, destination);
    Append16(&bytes, protocol);
    Append16(&bytes, transport.size());
    Append(&bytes, transport);
    return Checksum(bytes);
}

ByteVector Ipv4(const Endpoint &source, const Endpoint &destination, uint8_t protocol, const ByteVector &transport,
                uint8_t hops, const ByteVector &options)
{
    const size_t header = 20 + options.size();
    ByteVector packet = {static_cast<uint8_t>(0x40 | header / 4), 0};

    Append16(&packet, header + transport.size());
    Append(&packet, {0, 0, kNoFragment, 0, hops, protocol, 0, 0});
    AppendAddress(&packet, source);
    AppendAddress(&packet, destination);
    Append(&packet, options);
    PutChecksum(&packet, 10, Checksum(packet));
    Append(&packet, transport);
    return packet;
}

ByteVector Ipv6(const Endpoint &source, const Endpoint &destination, uint8_t protocol, const ByteVector &transport,
                uint8_t hops, const ByteVector &options)
{
    ByteVector extension;
    ByteVector packet = {0x60, 0, 0, 0};

    if (!options.empty())
    {
        extension = {protocol, static_cast<uint8_t>((options.size() + 2) / 8 - 1)};
        Append(&extension, options);
    }
    Append16(&packet, extension.size() + transport.size());
    Append(&packet, {options.empty() ? protocol : kHopByHopOptions, hops});
    AppendAddress(&packet, source);
    AppendAddress(&packet, destination);
    Append(&packet, extension);
    Append(&packet, transport);
    return packet;
}

} // namespace

ByteVector RawIp(const Endpoint &source, const Endpoint &destination, uint8_t protocol, const ByteVector &transport,
                 uint8_t hops, const ByteVector &options)
{
    return source.family == 6 ? Ipv6(source, destination, protocol, transport, hops, options)
                              : Ipv4(source, destination, protocol, transport, hops, options);
}

ByteVector RawUdp(const Endpoint &source, const Endpoint &destination, const ByteVector &payload)
{
    ByteVector udp;

    Append16(&udp, source.port);
    Append16(&udp, destination.port);
    Append16(&udp, 8 + payload.size());
    Append16(&udp, 0);
    Append(&udp, payload);
    PutChecksum(&udp, 6, TransportChecksum(source, destination, PROTOCOL_UDP, udp));
    return RawIp(source, destination, PROTOCOL_UDP, udp);
}

ByteVector RawTcp(const Endpoint &source, const Endpoint &destination, uint8_t flags, const ByteVector &payload)
{
    constexpr uint8_t kHeaderLength = 5 << 4;
    ByteVector tcp;

    Append16(&tcp, source.port);
    Append16(&tcp, destination.port);
    Append(&tcp, {0, 0, 0, 1, 0, 0, 0, 1, kHeaderLength, flags, 0xFF, 0xFF, 0, 0, 0, 0});
    Append(&tcp, payload);
    PutChecksum(&tcp, 16, TransportChecksum(source, destination, PROTOCOL_TCP, tcp));
    return RawIp(source, destination, PROTOCOL_TCP, tcp);
}

ByteVector RawIcmp(const Endpoint &source, const Endpoint &destination, uint8_t type, uint8_t code,
                   const ByteVector &body, uint8_t hops, const ByteVector &options)
{
    const uint8_t protocol = source.family == 6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;
    ByteVector icmp = {type, code, 0, 0};

    Append(&icmp, body);
    PutChecksum(&icmp, 2, source.family == 6 ? TransportChecksum(source, destination, protocol, icmp) : Checksum(icmp));
    return RawIp(source, destination, protocol, icmp, hops, options);
}

} // namespace kext_test

#include "support/packets.h"

#include "net/ip_packet.h"

#include <algorithm>

namespace kext_test
{

namespace
{

constexpr size_t kMostHeaderBytes = 100;

void Put(ByteVector *bytes, size_t at, size_t value)
{
    (*bytes)[at] = static_cast<uint8_t>(value >> 8);
    (*bytes)[at + 1] = static_cast<uint8_t>(value);
}

void PutIpv4Checksum(ByteVector *packet)
{
    uint32_t sum = 0;

    Put(packet, 10, 0);
    for (size_t i = 0; i < sim::net::kIpv4HeaderSize; i += 2)
    {
        sum += static_cast<uint32_t>((*packet)[i] << 8 | (*packet)[i + 1]);
    }
    sum = (sum & 0xFFFF) + (sum >> 16);
    Put(packet, 10, ~((sum & 0xFFFF) + (sum >> 16)));
}

} // namespace

ByteVector Payload(size_t length)
{
    ByteVector bytes(length);

    for (size_t i = 0; i < length; i++)
    {
        bytes[i] = static_cast<uint8_t>('a' + i % 26);
    }
    return bytes;
}

ByteVector MakePacket(const Flow &flow, bool inbound, const ByteVector &payload)
{
    const Endpoint &source = inbound ? flow.remote : flow.local;
    const Endpoint &destination = inbound ? flow.local : flow.remote;
    ByteVector packet(kMostHeaderBytes + payload.size());
    size_t length;

    if (flow.protocol == PROTOCOL_TCP)
    {
        length = sim::net::WriteTcpPacket(packet.data(), source, destination, {1, 1, sim::net::kTcpAck}, payload.data(),
                                          payload.size());
    }
    else if (flow.protocol == PROTOCOL_UDP)
    {
        length = sim::net::WriteUdpPacket(packet.data(), source, destination, payload.data(), payload.size());
    }
    else
    {
        length = sim::net::WriteEchoPacket(packet.data(), source, destination, true, payload.data(), payload.size());
    }
    packet.resize(length);
    return packet;
}

ByteVector Fragment(const ByteVector &packet, size_t start, size_t length, uint32_t id)
{
    const bool v6 = IsV6(packet);
    const size_t header = v6 ? sim::net::kIpv6HeaderSize : sim::net::kIpv4HeaderSize;
    const bool more = header + start + length < packet.size();
    const auto end = packet.begin() + static_cast<ptrdiff_t>(std::min(header + start + length, packet.size()));
    ByteVector fragment(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(header));

    if (v6)
    {
        fragment.insert(fragment.end(), {packet[6], 0, 0, 0, 0, 0, 0, 0});
        fragment[6] = 44;
        Put(&fragment, 42, start | (more ? 1 : 0));
        Put(&fragment, 46, id);
    }
    fragment.insert(fragment.end(), packet.begin() + static_cast<ptrdiff_t>(header + start), end);
    if (v6)
    {
        Put(&fragment, 4, fragment.size() - sim::net::kIpv6HeaderSize);
        return fragment;
    }
    Put(&fragment, 2, fragment.size());
    Put(&fragment, 4, id);
    Put(&fragment, 6, start / 8 | (more ? 0x2000 : 0));
    PutIpv4Checksum(&fragment);
    return fragment;
}

bool IsV6(const ByteVector &packet)
{
    return !packet.empty() && packet[0] >> 4 == 6;
}

bool IsFragment(const ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) && info.fragment;
}

uint32_t HeaderLength(const ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    if (sim::net::ParseIpPacket(packet.data(), packet.size(), &info))
    {
        return info.ip_header_size;
    }
    return static_cast<uint32_t>(IsV6(packet) ? sim::net::kIpv6HeaderSize : sim::net::kIpv4HeaderSize);
}

bool ChecksumsAreRight(const ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) &&
           sim::net::ChecksumsAreRight(packet.data(), info);
}

} // namespace kext_test

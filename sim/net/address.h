// Addresses and the tuple that names a conversation.
#pragma once

#include "net/types.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace sim::net
{

using Address = std::array<uint8_t, 16>;

constexpr uint8_t kIpv4 = 4;
constexpr uint8_t kIpv6 = 6;

constexpr uint8_t kProtocolIcmp = 1;
constexpr uint8_t kProtocolIgmp = 2;
constexpr uint8_t kProtocolTcp = 6;
constexpr uint8_t kProtocolUdp = 17;
constexpr uint8_t kProtocolIcmpV6 = 58;

inline size_t AddressLength(uint8_t family)
{
    return family == kIpv6 ? 16 : 4;
}

inline bool HasPorts(uint8_t protocol)
{
    return protocol == kProtocolTcp || protocol == kProtocolUdp;
}

inline bool IsIcmp(uint8_t protocol)
{
    return protocol == kProtocolIcmp || protocol == kProtocolIcmpV6;
}

inline bool IsEchoRequest(uint8_t protocol, uint16_t type)
{
    return protocol == kProtocolIcmp ? type == 8 : protocol == kProtocolIcmpV6 && type == 128;
}

inline bool IsEchoReply(uint8_t protocol, uint16_t type)
{
    return protocol == kProtocolIcmp ? type == 0 : protocol == kProtocolIcmpV6 && type == 129;
}

inline bool IsEcho(uint8_t protocol, uint16_t type)
{
    return IsEchoRequest(protocol, type) || IsEchoReply(protocol, type);
}

// RFC 792; RFC 4443, section 2.1
inline bool IsIcmpError(uint8_t protocol, uint16_t type)
{
    return protocol == kProtocolIcmp ? (type >= 3 && type <= 5) || type == 11 || type == 12
                                     : protocol == kProtocolIcmpV6 && type < 128;
}

bool IsUnspecified(uint8_t family, const Address &address);
bool IsLoopback(uint8_t family, const Address &address);
bool IsMulticast(uint8_t family, const Address &address);
bool IsLinkLocal(uint8_t family, const Address &address);

// The limited broadcast address, or that of a subnet on which this machine is.
// It is on 192.168.1.0/24, 192.0.2.0/24 and 10.0.0.0/24.
bool IsBroadcast(uint8_t family, const Address &address);

inline bool IsGroup(uint8_t family, const Address &address)
{
    return IsMulticast(family, address) || IsBroadcast(family, address);
}

inline bool SameEndpoint(const Endpoint &a, const Endpoint &b)
{
    return a.family == b.family && a.port == b.port && a.link == b.link && a.address == b.address;
}

// Both ends of a conversation, as this machine sees them.
// A tuple is compared and hashed as a whole: its unused bytes are zero.
struct Tuple
{
    Address local{};
    Address remote{};
    uint16_t local_port = 0;
    uint16_t remote_port = 0;
    uint8_t protocol = 0;
    uint8_t family = 0;
    uint8_t tags[2] = {};         // of the table that uses the tuple
    uint16_t echo_identifier = 0; // ICMP
    uint8_t echo_asker = 0;       // ICMP: 1 if this machine sends the echo requests, 2 if the remote end does
    uint8_t link = 0;
    uint8_t zero[4] = {};

    bool operator==(const Tuple &other) const { return std::memcmp(this, &other, sizeof(*this)) == 0; }
};

static_assert(sizeof(Tuple) == 48, "padding would be compared too");

Tuple MakeTuple(uint8_t protocol, const Endpoint &local, const Endpoint &remote);

// The tuple of an ICMP conversation. An echo request and its replies have the same one.
// local.port and remote.port are the type and the code of a message that goes in this direction.
Tuple MakeIcmpTuple(uint8_t protocol, const Endpoint &local, const Endpoint &remote, uint16_t echo_identifier,
                    Direction direction);

uint64_t HashBytes(const void *bytes, size_t length); // `length` is a multiple of 8

inline uint64_t Hash(const Tuple &tuple)
{
    return HashBytes(&tuple, sizeof(tuple));
}

} // namespace sim::net

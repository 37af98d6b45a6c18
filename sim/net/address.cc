#include "net/address.h"

#include <algorithm>
#include <iterator>

namespace sim::net
{
namespace
{

constexpr uint8_t kSubnets[][3] = {{192, 168, 1}, {192, 0, 2}, {10, 0, 0}}; // of 24 bits

} // namespace

bool IsUnspecified(uint8_t, const Address &address)
{
    return std::all_of(address.begin(), address.end(), [](uint8_t byte) { return byte == 0; });
}

bool IsLoopback(uint8_t family, const Address &address)
{
    if (family == kIpv4)
    {
        return address[0] == 127;
    }
    return address[15] == 1 && std::all_of(address.begin(), address.end() - 1, [](uint8_t byte) { return byte == 0; });
}

bool IsMulticast(uint8_t family, const Address &address)
{
    return family == kIpv4 ? (address[0] & 0xF0) == 0xE0 : address[0] == 0xFF;
}

bool IsLinkLocal(uint8_t family, const Address &address)
{
    return family == kIpv4 ? address[0] == 169 && address[1] == 254 : address[0] == 0xFE && (address[1] & 0xC0) == 0x80;
}

bool IsBroadcast(uint8_t family, const Address &address)
{
    constexpr Address kLimited = {0xFF, 0xFF, 0xFF, 0xFF};
    const auto is_subnet = [&address](const uint8_t(&subnet)[3])
    { return std::equal(std::begin(subnet), std::end(subnet), address.begin()); };

    return family == kIpv4 &&
           (address == kLimited ||
            (address[3] == 0xFF && std::any_of(std::begin(kSubnets), std::end(kSubnets), is_subnet)));
}

Tuple MakeTuple(uint8_t protocol, const Endpoint &local, const Endpoint &remote)
{
    const size_t length = AddressLength(local.family);
    Tuple tuple;

    std::copy_n(local.address.begin(), length, tuple.local.begin());
    std::copy_n(remote.address.begin(), length, tuple.remote.begin());
    tuple.local_port = local.port;
    tuple.remote_port = remote.port;
    tuple.protocol = protocol;
    tuple.family = local.family;
    tuple.link = local.link;
    return tuple;
}

Tuple MakeIcmpTuple(uint8_t protocol, const Endpoint &local, const Endpoint &remote, uint16_t echo_identifier,
                    Direction direction)
{
    Tuple tuple = MakeTuple(protocol, local, remote);
    const bool request = IsEchoRequest(protocol, local.port);

    if (request || IsEchoReply(protocol, local.port))
    {
        tuple.local_port = 0;
        tuple.echo_identifier = echo_identifier;
        tuple.echo_asker = request == (direction == Direction::kOutbound) ? 1 : 2;
    }
    return tuple;
}

uint64_t HashBytes(const void *bytes, size_t length)
{
    constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
    const auto *position = static_cast<const uint8_t *>(bytes);
    uint64_t hash = length;

    for (size_t i = 0; i < length; i += sizeof(uint64_t))
    {
        uint64_t word;
        std::memcpy(&word, position + i, sizeof(word));
        hash = (hash ^ word) * kMultiplier;
        hash ^= hash >> 32;
    }
    return hash;
}

} // namespace sim::net

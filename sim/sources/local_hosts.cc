#include "sources/local_hosts.h"

#include "byte_order.h"

#include <algorithm>
#include <cstring>

namespace sim::sources
{
namespace
{

constexpr size_t kRouterAddresses = 8;
constexpr uint16_t kLastWellKnownPort = 1023; // RFC 6335: the system ports

bool IsHost(uint8_t family, const net::Address &address)
{
    return !net::IsUnspecified(family, address) && !net::IsMulticast(family, address) &&
           !net::IsBroadcast(family, address);
}

bool IsGroup(const HardwareAddress &address)
{
    return (address[0] & 1) != 0;
}

// Returns true if the first `bits` bits are the same.
bool SamePrefix(const net::Address &a, const net::Address &b, unsigned bits)
{
    const unsigned bytes = bits / 8;
    const unsigned rest = bits % 8;

    if (std::memcmp(a.data(), b.data(), bytes) != 0)
    {
        return false;
    }
    return rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0;
}

unsigned PrefixBits(const Prefix &prefix)
{
    return std::min<unsigned>(prefix.length, prefix.family == net::kIpv6 ? 128 : 32);
}

std::array<uint8_t, sizeof(net::Tuple)> ConversationKey(const net::IpPacketInfo &packet)
{
    const net::Tuple one = net::MakeTuple(packet.protocol, packet.source_endpoint(), packet.destination_endpoint());
    const net::Tuple other = net::MakeTuple(packet.protocol, packet.destination_endpoint(), packet.source_endpoint());
    std::array<uint8_t, sizeof(net::Tuple)> key;

    std::memcpy(key.data(), std::memcmp(&one, &other, sizeof(one)) < 0 ? &one : &other, key.size());
    return key;
}

} // namespace

void LocalHosts::Learn(const LinkFrame &frame, const net::IpPacketInfo &packet)
{
    const HostAddress source(packet.family, packet.source);
    const HostAddress destination(packet.family, packet.destination);
    const bool connects = packet.protocol == net::kProtocolTcp && packet.has_transport() &&
                          (packet.tcp_flags & (net::kTcpSyn | net::kTcpAck)) == net::kTcpSyn;
    const bool is_new_udp =
        packet.protocol == net::kProtocolUdp && packet.has_transport() && begun_.insert(ConversationKey(packet)).second;
    // A capture may begin with the answer to a request that it has missed.
    const bool is_answer =
        packet.source_endpoint().port <= kLastWellKnownPort && packet.destination_endpoint().port > kLastWellKnownPort;

    const auto count = [&](Host *host, bool sends)
    {
        ++host->frames;
        host->connections += sends && connects ? 1 : 0;
        host->datagrams += is_new_udp && sends != is_answer ? 1 : 0;
    };

    if (IsHost(packet.family, packet.source))
    {
        count(&hosts_[source], true);
    }
    if (IsHost(packet.family, packet.destination))
    {
        count(&hosts_[destination], false);
    }
    if (frame.has_hardware)
    {
        count(&stations_[frame.source], true);
        if (IsHost(packet.family, packet.source))
        {
            sources_[frame.source].insert(source);
        }
        if (!IsGroup(frame.destination) && frame.destination != frame.source)
        {
            count(&stations_[frame.destination], false);
        }
    }
    if (frame.outgoing && IsHost(packet.family, packet.source))
    {
        outgoing_.insert(source);
    }
    if (frame.incoming && IsHost(packet.family, packet.destination))
    {
        outgoing_.insert(destination);
    }
}

void LocalHosts::Decide()
{
    if (inferred())
    {
        local_ = outgoing_;
        if (local_.empty() && !stations_.empty())
        {
            for (auto &station : stations_)
            {
                station.second.addresses = sources_[station.first].size();
            }
            local_ = sources_[Likeliest(stations_)];
        }
        else if (local_.empty())
        {
            DecideByAddress(net::kIpv4);
            DecideByAddress(net::kIpv6);
        }
    }
    for (const auto &station : sources_)
    {
        const bool own = std::any_of(station.second.begin(), station.second.end(), [this](const HostAddress &address)
                                     { return IsLocal(address.first, address.second); });

        if (own)
        {
            own_stations_.insert(station.first);
        }
    }
}

void LocalHosts::DecideByAddress(uint8_t family)
{
    std::map<HostAddress, Host> hosts;

    std::copy_if(hosts_.begin(), hosts_.end(), std::inserter(hosts, hosts.end()),
                 [family](const auto &host) { return host.first.first == family; });
    if (!hosts.empty())
    {
        local_.insert(Likeliest(hosts));
    }
}

template <typename Key> Key LocalHosts::Likeliest(const std::map<Key, Host> &hosts)
{
    auto best = hosts.begin();

    for (auto host = std::next(hosts.begin()); host != hosts.end(); ++host)
    {
        if (IsMoreLikely(host->second, best->second))
        {
            best = host;
        }
    }
    return best->first;
}

bool LocalHosts::IsMoreLikely(const Host &host, const Host &than)
{
    const auto is_router = [](const Host &one, const Host &other)
    { return one.addresses > kRouterAddresses && one.addresses > 4 * other.addresses; };

    // One of two hosts may broadcast more frames. A difference below a tenth does not count.
    if (std::min(host.frames, than.frames) * 10 < std::max(host.frames, than.frames) * 9)
    {
        return host.frames > than.frames;
    }
    if (is_router(host, than) || is_router(than, host))
    {
        return is_router(than, host);
    }
    if (host.connections != than.connections)
    {
        return host.connections > than.connections;
    }
    if (host.datagrams != than.datagrams)
    {
        return host.datagrams > than.datagrams;
    }
    return host.frames > than.frames;
}

Way LocalHosts::WayOf(const LinkFrame &frame, const net::IpPacketInfo &packet) const
{
    const bool from_here = IsLocal(packet.family, packet.source);
    const bool to_here = IsLocal(packet.family, packet.destination);
    const bool two_stations = frame.has_hardware && frame.source != frame.destination;

    if (from_here && to_here && !two_stations)
    {
        return Way::kLooped;
    }
    if (from_here && to_here)
    {
        return own_stations_.count(frame.source) != 0 ? Way::kOutbound : Way::kInbound;
    }
    if (from_here)
    {
        return Way::kOutbound;
    }
    if (to_here)
    {
        return Way::kInbound;
    }
    if (IsHost(packet.family, packet.destination) && !IsLocalBroadcast(packet.family, packet.destination))
    {
        return Way::kForeign;
    }
    // A broadcast or multicast: a host without an IP address yet is known by its station.
    if (net::IsUnspecified(packet.family, packet.source) &&
        (frame.outgoing || (frame.has_hardware && own_stations_.count(frame.source) != 0)))
    {
        return Way::kOutbound;
    }
    return Way::kInbound;
}

bool LocalHosts::IsLocal(uint8_t family, const net::Address &address) const
{
    if (net::IsLoopback(family, address) || local_.count(HostAddress(family, address)) != 0)
    {
        return true;
    }
    return IsHost(family, address) && !IsLocalBroadcast(family, address) &&
           std::any_of(prefixes_.begin(), prefixes_.end(), [&](const Prefix &prefix)
                       { return prefix.family == family && SamePrefix(prefix.address, address, PrefixBits(prefix)); });
}

// Returns true for the last address of a given prefix.
bool LocalHosts::IsLocalBroadcast(uint8_t family, const net::Address &address) const
{
    constexpr unsigned kSmallestNetwork = 30;

    if (family != net::kIpv4)
    {
        return false;
    }
    return std::any_of(prefixes_.begin(), prefixes_.end(),
                       [&](const Prefix &prefix)
                       {
                           const unsigned bits = PrefixBits(prefix);
                           const uint32_t number = LoadBig32(address.data());

                           return prefix.family == family && bits <= kSmallestNetwork &&
                                  SamePrefix(prefix.address, address, bits) &&
                                  static_cast<uint32_t>(~number << bits) == 0;
                       });
}

std::vector<net::Endpoint> LocalHosts::Addresses() const
{
    std::vector<net::Endpoint> addresses;

    for (const auto &host : hosts_)
    {
        const HostAddress &address = host.first;

        if (IsLocal(address.first, address.second))
        {
            addresses.push_back({address.first, address.second, 0});
        }
    }
    return addresses;
}

} // namespace sim::sources

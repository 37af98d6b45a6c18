// Finds out which addresses of a capture belong to the captured host, and which way its packets go.
//
// A capture seldom names its host. The host is the hardware address that takes part in most frames.
// In frames without hardware addresses, it is the IP address that takes part in most frames.
// Two candidates may take part in about as many frames: two hosts, or a host and its router.
// A router sends from many IP addresses. Otherwise the host is the one that begins more conversations.
#pragma once

#include "net/ip_packet.h"
#include "sources/link_layer.h"

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace sim::sources
{

struct Prefix
{
    uint8_t family = 4;                // 4 or 6
    std::array<uint8_t, 16> address{}; // network order
    uint8_t length = 32;               // bits
};

enum class Way : uint8_t
{
    kOutbound,
    kInbound,
    kLooped, // from the host to itself
    kForeign
};

class LocalHosts
{
  public:
    explicit LocalHosts(std::vector<Prefix> given) : prefixes_(std::move(given)) {}

    // Learns from every frame with an IP packet. Decide follows, and then WayOf may be called.
    void Learn(const LinkFrame &frame, const net::IpPacketInfo &packet);
    void Decide();

    Way WayOf(const LinkFrame &frame, const net::IpPacketInfo &packet) const;

    bool inferred() const { return prefixes_.empty(); }

    // The local unicast addresses that occurred.
    std::vector<net::Endpoint> Addresses() const;

  private:
    struct Host
    {
        uint64_t frames = 0;
        uint64_t connections = 0; // TCP connections that it began
        uint64_t datagrams = 0;   // UDP conversations that it began
        size_t addresses = 1;     // IP addresses that it sends from
    };

    using HostAddress = std::pair<uint8_t, net::Address>; // the family comes first

    static bool IsMoreLikely(const Host &host, const Host &than);
    template <typename Key> static Key Likeliest(const std::map<Key, Host> &hosts);
    bool IsLocal(uint8_t family, const net::Address &address) const;
    bool IsLocalBroadcast(uint8_t family, const net::Address &address) const;
    void DecideByAddress(uint8_t family);

    const std::vector<Prefix> prefixes_;
    std::map<HardwareAddress, Host> stations_;
    std::map<HostAddress, Host> hosts_;                        // every address that is an end of a packet
    std::map<HardwareAddress, std::set<HostAddress>> sources_; // IP addresses that a station sends from
    std::set<HostAddress> outgoing_;                           // addresses that the capture marks as the host's
    std::set<std::array<uint8_t, sizeof(net::Tuple)>> begun_;  // UDP conversations, one entry for both directions
    std::set<HardwareAddress> own_stations_;
    std::set<HostAddress> local_;
};

} // namespace sim::sources

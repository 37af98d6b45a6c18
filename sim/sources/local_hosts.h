// Which addresses of a capture are the captured host's, and which way its packets go.
//
// A capture seldom says whose it is. The host is the hardware address that takes part in most frames, or, where frames
// have none, the IP address. Two that take part in about as many, as in a capture of two hosts or of a host and its
// router, are told apart by their addresses, of which a router sends from many, and then by who begins more
// conversations.
#pragma once

#include "net/ip_packet.h"
#include "sources/link_layer.h"
#include "sources/replay.h"

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace sim::sources
{

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

    // Every frame with an IP packet, before the first question.
    void Learn(const LinkFrame &frame, const net::IpPacketInfo &packet);
    void Decide();

    Way WayOf(const LinkFrame &frame, const net::IpPacketInfo &packet) const;

    bool inferred() const { return prefixes_.empty(); }

    // Local addresses that occurred, and are no multicast addresses.
    std::vector<net::Endpoint> Addresses() const;

  private:
    struct Host
    {
        uint64_t frames = 0;
        uint64_t connections = 0; // of TCP that it began
        uint64_t datagrams = 0;   // conversations of UDP that it began
        size_t addresses = 1;     // that it sends from
    };

    using HostAddress = std::pair<uint8_t, net::Address>; // family first

    static bool IsMoreLikely(const Host &host, const Host &than);
    template <typename Key> static Key Likeliest(const std::map<Key, Host> &hosts);
    bool IsLocal(uint8_t family, const net::Address &address) const;
    bool IsLocalBroadcast(uint8_t family, const net::Address &address) const;
    void DecideByAddress(uint8_t family);

    const std::vector<Prefix> prefixes_;
    std::map<HardwareAddress, Host> stations_;
    std::map<HostAddress, Host> hosts_;                        // every address that is an end of a packet
    std::map<HardwareAddress, std::set<HostAddress>> sources_; // what a station sends from
    std::set<HostAddress> outgoing_;                           // what the capture itself calls the host's
    std::set<std::array<uint8_t, sizeof(net::Tuple)>> begun_;  // UDP conversations, both ways
    std::set<HardwareAddress> own_stations_;
    std::set<HostAddress> local_;
};

} // namespace sim::sources

// What callers of the network stack exchange with it: endpoints, flows, outcomes, counters.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace sim::net
{

// The links of the machine. An address is that of one link, so that two links may have the same addresses.
constexpr uint8_t kEthernetLink = 0;
constexpr uint8_t kSecondLink = 1;  // in the same compartment
constexpr uint8_t kForeignLink = 2; // in another compartment
constexpr uint8_t kLinks = 3;

struct Endpoint
{
    uint8_t family = 4;                // 4 or 6
    std::array<uint8_t, 16> address{}; // network order; IPv4 uses the first four bytes
    uint16_t port = 0;                 // host order
    uint8_t link = kEthernetLink;
};

enum class Direction : uint8_t
{
    kOutbound = 0,
    kInbound = 1
};

// How a raw packet comes to the stack.
enum class PacketWay : uint8_t
{
    kOutbound = 0, // at OUTBOUND_IPPACKET alone
    kInbound = 1,  // at INBOUND_IPPACKET alone
    kArriving = 2, // from the wire, to the socket that it is for
    kForwarded = 3 // at both, for another computer
};

constexpr Direction Opposite(Direction direction)
{
    return direction == Direction::kOutbound ? Direction::kInbound : Direction::kOutbound;
}

struct IcmpKind
{
    uint8_t type = 0;
    uint8_t code = 0;
};

struct FlowSpec
{
    Direction direction = Direction::kOutbound; // Connect and Accept set it
    uint8_t protocol = 6;                       // IP protocol number
    uint64_t process_id = 0;
    std::u16string process_path;
    // Of an echo, the ports are its identifier and its sequence number. Other protocols than TCP and UDP have none.
    Endpoint local;
    Endpoint remote;
    std::optional<IcmpKind> icmp; // of the first ICMP message; by default it is an echo request
    std::vector<uint8_t> payload; // the first datagram, the echo's data, or the first bytes after the handshake
    bool loopback = false;        // the remote end is on this machine too, and both sides are indicated
    std::vector<Endpoint> groups; // the multicast groups that a listener joins
};

enum class OutcomeKind : uint8_t
{
    kPermitted,      // authorized, and its first packet passed
    kBlocked,        // a block without absorb: the application sees an error
    kDropped,        // absorbed and discarded
    kPendingTimeout, // the decision did not come within Windows' connect time
    kRedirected      // passed with another destination
};

struct Outcome
{
    OutcomeKind kind = OutcomeKind::kPermitted;
    Endpoint redirected_to;
};

// Runs once, on any thread.
using OutcomeCallback = std::function<void(const Outcome &)>;

using WireCallback = std::function<void(Direction, const uint8_t *ip_packet, size_t length)>;

using FlowId = uint64_t;

struct PacketCounters
{
    uint64_t offered = 0;   // came to the IP packet layer for the first time
    uint64_t permitted = 0; // passed, at once or after a hold
    uint64_t blocked = 0;   // blocked without absorb
    uint64_t dropped = 0;   // absorbed and discarded
    uint64_t held_now = 0;
    uint64_t held_total = 0;
    uint64_t injected = 0; // packets that the driver injected
};

struct StackCounters
{
    PacketCounters outbound;
    PacketCounters inbound;
    uint64_t flows_now = 0;
    uint64_t flows_total = 0;
    uint64_t stream_bytes_sent = 0; // TCP payload indicated at the stream layer
    uint64_t stream_bytes_received = 0;
    uint64_t datagram_bytes_sent = 0; // UDP payload indicated at the datagram layer
    uint64_t datagram_bytes_received = 0;
    uint64_t pending_timeouts = 0;
    uint64_t wrong_checksums = 0; // injected packets with a wrong IP, TCP or UDP checksum
};

} // namespace sim::net

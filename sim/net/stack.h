// The network stack of a simulated computer.
// It turns socket calls and packets of the wire into layer indications, in the order of Windows' stack.
// It carries out the filter engine's decisions.
//
// Concurrency: any thread may call it while the thread's current machine is the stack's.
// No lock is held while a layer is classified or a callback runs, so a callback may call the stack again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace sim
{
class Machine;
}

namespace sim::net
{

class Core;

struct Endpoint
{
    uint8_t family = 4;                // 4 or 6
    std::array<uint8_t, 16> address{}; // network order; IPv4 uses the first four bytes
    uint16_t port = 0;                 // host order
};

enum class Direction : uint8_t
{
    kOutbound = 0,
    kInbound = 1
};

constexpr Direction Opposite(Direction direction)
{
    return direction == Direction::kOutbound ? Direction::kInbound : Direction::kOutbound;
}

struct FlowSpec
{
    Direction direction = Direction::kOutbound; // Connect and Accept set it
    uint8_t protocol = 6;                       // IP protocol number
    uint64_t process_id = 0;
    std::u16string process_path;
    Endpoint local;
    Endpoint remote;
    std::vector<uint8_t> payload; // the first datagram, the echo's data, or the first bytes after the handshake
    bool loopback = false;        // the remote end is on this machine too, and both sides are indicated
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

class Stack
{
  public:
    explicit Stack(Machine &machine);
    ~Stack(); // ends

    // Forgets all flows, without further indications. A second call does nothing.
    void End();

    Stack(const Stack &) = delete;
    Stack &operator=(const Stack &) = delete;

    // Binds a socket (ALE_RESOURCE_ASSIGNMENT) and connects it (ALE_AUTH_CONNECT).
    // Then the SYN, the first datagram or the echo comes to OUTBOUND_IPPACKET.
    // A local address or port of zero is chosen by the stack.
    FlowId Connect(const FlowSpec &spec, OutcomeCallback outcome);

    // A SYN or a datagram comes from the wire to INBOUND_IPPACKET, then to ALE_AUTH_RECV_ACCEPT.
    // Makes a listener if no socket has the local endpoint.
    FlowId Accept(const FlowSpec &spec, OutcomeCallback outcome);

    // Binds spec.local and listens. A UDP listener is a bound socket. An address of zero stands for every address.
    // The connections that a TCP listener accepted outlive it.
    uint64_t Listen(const FlowSpec &spec);
    void CloseListener(uint64_t listener);

    // Payload of an open flow, to the remote end and from it. The outcome of an unknown or closed flow is kBlocked.
    void Send(FlowId flow, const uint8_t *bytes, size_t length, OutcomeCallback outcome);
    void Receive(FlowId flow, const uint8_t *bytes, size_t length, OutcomeCallback outcome);

    // Sends the FINs, then indicates ALE_ENDPOINT_CLOSURE and ALE_RESOURCE_RELEASE. Ignores an unknown id.
    void Close(FlowId flow);

    // Classifies a raw IP packet at the IP packet layer of its direction. It goes no further.
    // The datagram that inbound fragments make is received as by Arrive.
    // The stack itself blocks a packet without a valid IP header.
    void Packet(Direction direction, const uint8_t *ip_packet, size_t length, OutcomeCallback outcome);

    // Classifies an IP packet from the wire at INBOUND_IPPACKET. The conversation, listener or UDP socket receives it.
    // A fragment is classified twice, and the datagram that it completes once more.
    // A TCP segment without a receiver is answered by RST.
    void Arrive(const uint8_t *ip_packet, size_t length, OutcomeCallback outcome);

    // Does what a policy change does: the next packet of every flow is authorized again at its ALE layer.
    void Reauthorize();

    // The callback gets every packet that passes, as it leaves or arrives.
    // It gets fragments, not the datagram that they make. An empty callback ends it.
    void SetWire(WireCallback wire);

    StackCounters counters() const;

    Core &core(); // packet sources build on it

  private:
    std::shared_ptr<Core> core_;
};

} // namespace sim::net

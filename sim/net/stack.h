// The network stack of a simulated computer: turns socket calls and packets of the wire into the layer
// indications that Windows' stack gives, in its order, and carries out what the filter engine decides.
//
// Concurrency: every public method may be called from any thread whose current machine is the stack's own. No lock
// is held while a layer is classified or a callback runs, so a callback may call the stack again.
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
    Direction direction = Direction::kOutbound; // set by Connect and Accept themselves
    uint8_t protocol = 6;                       // IP protocol number
    uint64_t process_id = 0;
    std::u16string process_path;
    Endpoint local;
    Endpoint remote;
    std::vector<uint8_t> payload; // the first datagram, echo data, or the bytes sent once a connection is up
    bool loopback = false;        // the remote end is on this machine too: both sides are seen
};

enum class OutcomeKind : uint8_t
{
    kPermitted,      // authorized, and its first packet was let through
    kBlocked,        // a block without absorb: the application sees an error
    kDropped,        // absorbed and discarded
    kPendingTimeout, // undecided when the stack's own connect time was over
    kRedirected      // let through with another destination
};

struct Outcome
{
    OutcomeKind kind = OutcomeKind::kPermitted;
    Endpoint redirected_to;
};

// Called once, on any thread.
using OutcomeCallback = std::function<void(const Outcome &)>;

using WireCallback = std::function<void(Direction, const uint8_t *ip_packet, size_t length)>;

using FlowId = uint64_t;

struct PacketCounters
{
    uint64_t offered = 0;   // given to the IP packet layer for the first time
    uint64_t permitted = 0; // let through, at once or after having been held
    uint64_t blocked = 0;   // blocked without absorb
    uint64_t dropped = 0;   // absorbed and discarded
    uint64_t held_now = 0;
    uint64_t held_total = 0;
    uint64_t injected = 0; // packets that the driver gave back
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

    // Flows that are alive are forgotten, without further indications. Ending again does nothing.
    void End();

    Stack(const Stack &) = delete;
    Stack &operator=(const Stack &) = delete;

    // Socket and bind (ALE_RESOURCE_ASSIGNMENT), ALE_AUTH_CONNECT, then SYN, first datagram or echo at
    // OUTBOUND_IPPACKET. Local address and port are chosen where they are zero.
    FlowId Connect(const FlowSpec &spec, OutcomeCallback outcome);

    // SYN or datagram from the wire at INBOUND_IPPACKET, then ALE_AUTH_RECV_ACCEPT. A listener is made where none
    // has the local endpoint.
    FlowId Accept(const FlowSpec &spec, OutcomeCallback outcome);

    // Binds spec.local and listens; a UDP listener is a bound socket. A zero address listens on every one. What a TCP
    // listener has accepted outlives it.
    uint64_t Listen(const FlowSpec &spec);
    void CloseListener(uint64_t listener);

    // Payload of an open flow, out to and in from the remote end. An unknown or closed flow gives kBlocked.
    void Send(FlowId flow, const uint8_t *bytes, size_t length, OutcomeCallback outcome);
    void Receive(FlowId flow, const uint8_t *bytes, size_t length, OutcomeCallback outcome);

    // FINs, ALE_ENDPOINT_CLOSURE, ALE_RESOURCE_RELEASE. Unknown ids are ignored.
    void Close(FlowId flow);

    // A raw IP packet. It is classified at the IP packet layer of its direction, and goes no further; but the datagram
    // that inbound fragments make is received as by Arrive. What does not begin with a valid IP header is blocked by
    // the stack itself.
    void Packet(Direction direction, const uint8_t *ip_packet, size_t length, OutcomeCallback outcome);

    // An IP packet from the wire: classified at INBOUND_IPPACKET (a fragment twice, and the datagram that it completes
    // once more), and then received by the conversation, listener or
    // UDP socket that it is for. A TCP segment that is for none is answered by RST.
    void Arrive(const uint8_t *ip_packet, size_t length, OutcomeCallback outcome);

    // As on a policy change: every live flow is authorized again at its ALE layer with its next packet.
    void Reauthorize();

    // Every packet that is let through, as it leaves or arrives: fragments, not what they make. An empty callback ends
    // it.
    void SetWire(WireCallback wire);

    StackCounters counters() const;

    Core &core(); // what packet sources build on

  private:
    std::shared_ptr<Core> core_;
};

} // namespace sim::net

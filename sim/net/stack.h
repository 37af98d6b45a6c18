// The network stack of a simulated computer.
// It turns socket calls and packets of the wire into layer indications, in the order of Windows' stack.
// It carries out the filter engine's decisions.
//
// Concurrency: any thread may call it while the thread's current machine is the stack's.
// No lock is held while a layer is classified or a callback runs, so a callback may call the stack again.
#pragma once

#include "net/types.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sim
{
class Machine;
}

namespace sim::net
{

class Core;

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
    // A listener that joins groups gets what comes to them.
    // What this machine sends to such a group leaves twice. The second packet is flagged as loopback, and comes back.
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
    void Arrive(const uint8_t *ip_packet, size_t length, OutcomeCallback outcome, uint8_t link = kEthernetLink);

    // A packet that this machine only forwards: INBOUND_IPPACKET, then OUTBOUND_IPPACKET, and no ALE layer.
    void Forward(const uint8_t *ip_packet, size_t length, OutcomeCallback outcome);

    // A packet that comes in one of the ways above.
    void Packet(PacketWay way, const uint8_t *ip_packet, size_t length, OutcomeCallback outcome,
                uint8_t link = kEthernetLink);

    // From now on IPsec accepts what comes with AH, or with ESP without encryption, in transport mode.
    void AcceptSecured();

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

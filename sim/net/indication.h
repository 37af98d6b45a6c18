// What each layer is told: builds the values and metadata of an indication and has the filter engine classify it. Data
// starts where Windows has it start: OUTBOUND_IPPACKET at the IP header, INBOUND_IPPACKET at the transport header,
// DATAGRAM_DATA and the ALE layers at the transport header of outbound and after that of inbound packets (ICMP: at it),
// STREAM at the payload.
//
// Concurrency: no state of its own.
#pragma once

#include "net/address.h"
#include "net/packet.h"

#include "wfp/engine.h"

#include <cstdint>

namespace sim::net
{

class Socket;

// A conversation as the layers name it.
struct FlowIdentity
{
    uint8_t protocol = 0;
    Direction direction = Direction::kOutbound; // of the conversation
    bool loopback = false;
    Endpoint local;
    Endpoint remote;
    uint64_t flow_handle = 0;
    uint64_t endpoint_handle = 0;
    uint64_t parent_handle = 0;     // of an accepted connection's listener
    const Socket *socket = nullptr; // nullptr where the process is not known
};

enum class Reauthorization : uint8_t
{
    kNone, // the first authorization
    kPolicyChange,
    kCompletion // of a pended one
};

// The ALE layer at which conversations of this direction are authorized.
uint16_t AuthorizationLayer(Direction direction, uint8_t family);

// Whether the bind is permitted.
bool IndicateAssignment(wfp::Engine &engine, const Socket &socket);

void IndicateRelease(wfp::Engine &engine, const Socket &socket);

// Of a socket without a peer of its own: a listener, a UDP socket.
void IndicateClosure(wfp::Engine &engine, const Socket &socket);

// Of a connection.
void IndicateClosure(wfp::Engine &engine, const FlowIdentity &flow);

struct AuthorizationRequest
{
    const FlowIdentity *flow = nullptr;
    Packet *packet = nullptr; // that is authorized with it, or nullptr
    Direction packet_direction = Direction::kOutbound;
    Reauthorization reauthorization = Reauthorization::kNone;
    wfp::PacketOrigin *origin = nullptr;
    wfp::OperationCompletion on_complete;
};

// ALE_AUTH_CONNECT or ALE_AUTH_RECV_ACCEPT, by the conversation's direction.
wfp::ClassifyResult IndicateAuthorization(wfp::Engine &engine, AuthorizationRequest request);

// What INBOUND_IPPACKET is shown: every packet as one, then fragments as fragments, and at last what they make.
enum class IpIndication : uint8_t
{
    kPacket,
    kFragment,
    kReassembled
};

// OUTBOUND_IPPACKET or INBOUND_IPPACKET.
wfp::ClassifyResult IndicateIpPacket(wfp::Engine &engine, Direction direction, IpIndication as, Packet &packet,
                                     wfp::PacketOrigin *origin);

wfp::ClassifyResult IndicateDatagram(wfp::Engine &engine, const FlowIdentity &flow, Direction direction, Packet &packet,
                                     wfp::PacketOrigin *origin);

// Payload of a connection: `chain` starts at its first byte, and may be null where length is 0. `flags` beside those of
// the direction: FWPS_STREAM_FLAG_....
wfp::ClassifyResult IndicateStream(wfp::Engine &engine, const FlowIdentity &flow, Direction direction,
                                   NET_BUFFER_LIST *chain, uint32_t offset, size_t length, uint32_t flags);

constexpr IF_INDEX kLoopbackInterface = 1;

// Whether these indices name an interface of the machine.
bool IsInterface(IF_INDEX index, IF_INDEX sub_index);

} // namespace sim::net

// Builds the values and metadata of an indication, and has the filter engine classify it.
// The data of each layer starts where it starts in Windows:
//   OUTBOUND_IPPACKET             at the IP header
//   INBOUND_IPPACKET              at the transport header
//   DATAGRAM_DATA, ALE, outbound  at the transport header
//   DATAGRAM_DATA, ALE, inbound   after the transport header (ICMP: at it)
//   STREAM                        at the payload
//
// Concurrency: has no state.
#pragma once

#include "net/address.h"
#include "net/packet.h"

#include "wfp/engine.h"

#include <cstdint>
#include <optional>

namespace sim::net
{

// What the layers report about a socket.
struct SocketIdentity
{
    uint8_t protocol = 0;
    bool loopback = false;
    Endpoint local;
    uint64_t handle = 0;
    uint64_t process_id = 0;
    FWP_BYTE_BLOB *process_path = nullptr; // UTF-16 with its terminator; nullptr: not known
};

// What the layers report about a conversation.
struct FlowIdentity
{
    uint8_t protocol = 0;
    Direction direction = Direction::kOutbound; // of the conversation
    bool loopback = false;
    Endpoint local;               // ICMP: its port is the type of the first message
    Endpoint remote;              // ICMP: its port is the code of the first message
    uint16_t echo_identifier = 0; // ICMP echo
    uint16_t echo_sequence = 0;
    uint64_t flow_handle = 0;
    uint64_t established = UINT64_MAX; // wfp::Engine::filter_epoch() when the TCP handshake was complete
    uint64_t endpoint_handle = 0;
    uint64_t parent_handle = 0;             // of the listener that accepted the connection
    const SocketIdentity *socket = nullptr; // nullptr: the process is not known

    bool sends_to_group() const { return protocol != kProtocolTcp && IsGroup(remote.family, remote.address); }
    bool receives_group() const { return protocol != kProtocolTcp && IsGroup(local.family, local.address); }
};

// The flow handle of all inbound multicast and broadcast.
constexpr uint64_t kGroupFlowHandle = uint64_t{1} << 63;

enum class Reauthorization : uint8_t
{
    kNone, // the first authorization
    kPolicyChange,
    kCompletion // the driver completed a pended one
};

// The ALE layer at which conversations of this direction are authorized.
uint16_t AuthorizationLayer(Direction direction, uint8_t family);

// Returns true if the bind is permitted.
bool IndicateAssignment(wfp::Engine &engine, const SocketIdentity &socket);

void IndicateRelease(wfp::Engine &engine, const SocketIdentity &socket);

// A TCP connection came up, or the first packet of another protocol was authorized.
void IndicateEstablished(wfp::Engine &engine, const FlowIdentity &flow);

// The closure of a socket without a peer: a listener or a UDP socket.
void IndicateClosure(wfp::Engine &engine, const SocketIdentity &socket);

// The closure of a connection.
void IndicateClosure(wfp::Engine &engine, const FlowIdentity &flow);

struct AuthorizationRequest
{
    const FlowIdentity *flow = nullptr;
    Packet *packet = nullptr; // authorized together with the conversation; may be nullptr
    Direction packet_direction = Direction::kOutbound;
    Reauthorization reauthorization = Reauthorization::kNone;
    wfp::PacketOrigin *origin = nullptr;
    wfp::OperationCompletion on_complete;
};

// Classifies at ALE_AUTH_CONNECT or ALE_AUTH_RECV_ACCEPT, by the conversation's direction.
wfp::ClassifyResult IndicateAuthorization(wfp::Engine &engine, AuthorizationRequest request);

// INBOUND_IPPACKET sees a fragment as a packet, then as a fragment, and at last the datagram that fragments make.
enum class IpIndication : uint8_t
{
    kPacket,
    kFragment,
    kReassembled
};

// Classifies at OUTBOUND_IPPACKET or INBOUND_IPPACKET.
wfp::ClassifyResult IndicateIpPacket(wfp::Engine &engine, Direction direction, IpIndication as, Packet &packet,
                                     wfp::PacketOrigin *origin);

wfp::ClassifyResult IndicateDatagram(wfp::Engine &engine, const FlowIdentity &flow, Direction direction, Packet &packet,
                                     wfp::PacketOrigin *origin);

// Classifies payload of a connection at STREAM. `chain` starts at its first byte, and may be null if `length` is 0.
// `flags` are the FWPS_STREAM_FLAG_... beside those of the direction.
wfp::ClassifyResult IndicateStream(wfp::Engine &engine, const FlowIdentity &flow, Direction direction,
                                   NET_BUFFER_LIST *chain, uint32_t offset, size_t length, uint32_t flags);

constexpr IF_INDEX kLoopbackInterface = 1;

// The link of an interface of the machine. Loopback counts as the first link. Returns nothing for other indices.
std::optional<uint8_t> LinkOf(IF_INDEX index, IF_INDEX sub_index);

uint32_t CompartmentOf(uint8_t link);
IF_INDEX InterfaceIndexOf(uint8_t link);

} // namespace sim::net

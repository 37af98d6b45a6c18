#include "net/indication.h"

#include "byte_order.h"
#include "nt/irql.h"

#include <array>
#include <cstring>
#include <iterator>

namespace sim::net
{
namespace
{

struct Interface
{
    IF_INDEX index;
    IF_INDEX sub_index;
    uint32_t type; // IANA ifType
    uint64_t luid;
    uint32_t compartment;
};

constexpr uint32_t kForeignCompartment = 2;
constexpr Interface kInterfaces[] = {{12, 3, 6, 0x0006000000000000, DEFAULT_COMPARTMENT_ID},
                                     {13, 4, 6, 0x0006000001000000, DEFAULT_COMPARTMENT_ID},
                                     {14, 5, 6, 0x0006000002000000, kForeignCompartment}};
constexpr Interface kLoopback = {kLoopbackInterface, 0, 24, 0x0018000000000000, DEFAULT_COMPARTMENT_ID};

static_assert(std::size(kInterfaces) == kLinks, "each link has its interface");

constexpr uint8_t kUnicast = 1; // NL_ADDRESS_TYPE
constexpr uint8_t kMulticast = 3;
constexpr uint8_t kBroadcast = 4;

// Chooses between the two values of an IP version.
uint16_t OfFamily(uint8_t family, uint16_t v4, uint16_t v6)
{
    return family == kIpv6 ? v6 : v4;
}

const Interface &InterfaceOf(uint8_t link, bool loopback)
{
    return loopback ? kLoopback : kInterfaces[link];
}

void Set8(FWP_VALUE0 *value, uint8_t number)
{
    value->type = FWP_UINT8;
    value->uint8 = number;
}

void Set16(FWP_VALUE0 *value, uint16_t number)
{
    value->type = FWP_UINT16;
    value->uint16 = number;
}

void Set32(FWP_VALUE0 *value, uint32_t number)
{
    value->type = FWP_UINT32;
    value->uint32 = number;
}

void SetLuid(FWP_VALUE0 *value, const Interface &interface)
{
    value->type = FWP_UINT64;
    value->uint64 = const_cast<UINT64 *>(reinterpret_cast<const UINT64 *>(&interface.luid));
}

void SetAddress(FWP_VALUE0 *value, uint8_t family, const Address &address)
{
    if (family == kIpv6)
    {
        value->type = FWP_BYTE_ARRAY16_TYPE;
        value->byteArray16 = reinterpret_cast<FWP_BYTE_ARRAY16 *>(const_cast<uint8_t *>(address.data()));
        return;
    }
    Set32(value, LoadBig32(address.data()));
}

void SetAddressType(FWP_VALUE0 *value, uint8_t family, const Address &address)
{
    Set8(value, IsMulticast(family, address) ? kMulticast : IsBroadcast(family, address) ? kBroadcast : kUnicast);
}

void SetProcessPath(FWP_VALUE0 *value, const SocketIdentity *socket)
{
    if (socket != nullptr && socket->process_path != nullptr)
    {
        value->type = FWP_BYTE_BLOB_TYPE;
        value->byteBlob = socket->process_path;
    }
}

// The values of one indication. All of them are empty at first.
template <size_t kCount> class Values
{
  public:
    explicit Values(uint16_t layer)
    {
        header_.layerId = layer;
        header_.valueCount = kCount;
        header_.incomingValue = values_.data();
    }

    FWP_VALUE0 *operator[](size_t field) { return &values_[field].value; }
    FWPS_INCOMING_VALUES0 *get() { return &header_; }

  private:
    std::array<FWPS_INCOMING_VALUE0, kCount> values_{};
    FWPS_INCOMING_VALUES0 header_{};
};

class Metadata
{
  public:
    FWPS_INCOMING_METADATA_VALUES0 *get() { return &values_; }

    void SetCompartment(uint8_t link)
    {
        Add(FWPS_METADATA_FIELD_COMPARTMENT_ID);
        values_.compartmentId = CompartmentOf(link);
    }

    void SetIpHeaderSize(uint32_t size)
    {
        Add(FWPS_METADATA_FIELD_IP_HEADER_SIZE);
        values_.ipHeaderSize = size;
    }

    void SetTransportHeaderSize(uint32_t size)
    {
        Add(FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE);
        values_.transportHeaderSize = size;
    }

    void SetFlowHandle(uint64_t handle)
    {
        Add(FWPS_METADATA_FIELD_FLOW_HANDLE);
        values_.flowHandle = handle;
    }

    void SetEndpointHandle(uint64_t handle)
    {
        Add(FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE);
        values_.transportEndpointHandle = handle;
    }

    void SetParentHandle(uint64_t handle)
    {
        if (handle != 0)
        {
            Add(FWPS_METADATA_FIELD_PARENT_ENDPOINT_HANDLE);
            values_.parentEndpointHandle = handle;
        }
    }

    void SetPacketDirection(Direction direction)
    {
        Add(FWPS_METADATA_FIELD_PACKET_DIRECTION);
        values_.packetDirection = direction == Direction::kOutbound ? FWP_DIRECTION_OUTBOUND : FWP_DIRECTION_INBOUND;
    }

    void SetProcess(const SocketIdentity &socket, bool with_path)
    {
        Add(FWPS_METADATA_FIELD_PROCESS_ID);
        values_.processId = socket.process_id;
        if (with_path && socket.process_path != nullptr)
        {
            Add(FWPS_METADATA_FIELD_PROCESS_PATH);
            values_.processPath = socket.process_path;
        }
    }

    void SetRemoteScope(const FlowIdentity &flow)
    {
        Add(FWPS_METADATA_FIELD_REMOTE_SCOPE_ID);
        values_.remoteScopeId.Value = 0;
        if (flow.remote.family == kIpv6 && IsLinkLocal(kIpv6, flow.remote.address))
        {
            values_.remoteScopeId.Zone = InterfaceOf(flow.local.link, flow.loopback).index & 0x0FFFFFFF;
        }
    }

    void SetControlData(WSACMSGHDR *control, uint32_t length)
    {
        Add(FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA);
        values_.controlData = control;
        values_.controlDataLength = length;
    }

    // An echo has the four bytes of its header as they stand there.
    void SetEcho(const FlowIdentity &flow, const Packet *packet)
    {
        if (IsIcmp(flow.protocol) && packet != nullptr && packet->info().is_echo())
        {
            Add(FWPS_METADATA_FIELD_ICMP_ID_AND_SEQUENCE);
            std::memcpy(&values_.icmpIdAndSequence, packet->bytes() + packet->info().ip_header_size + 4,
                        sizeof(values_.icmpIdAndSequence));
        }
    }

    void SetFragment(const IpPacketInfo &info)
    {
        Add(FWPS_METADATA_FIELD_FRAGMENT_DATA);
        values_.fragmentMetadata.fragmentIdentification = info.fragment_identification;
        values_.fragmentMetadata.fragmentOffset = info.fragment_offset;
        values_.fragmentMetadata.fragmentLength = info.length - info.ip_header_size;
    }

  private:
    void Add(UINT32 field) { values_.currentMetadataValues |= field; }

    FWPS_INCOMING_METADATA_VALUES0 values_{};
};

// The control data of a datagram: the interface that its sender asked for.
struct PacketControl
{
    WSACMSGHDR header;
    uint8_t data[16];
};

PacketControl MakePacketControl(const FlowIdentity &flow)
{
    constexpr INT32 kPacketInfo = 19; // IP_PKTINFO and IPV6_PKTINFO
    PacketControl control{};

    control.header.cmsg_len = sizeof(control);
    control.header.cmsg_level = flow.local.family == kIpv6 ? 41 : 0;
    control.header.cmsg_type = kPacketInfo;
    control.data[0] = static_cast<uint8_t>(InterfaceOf(flow.local.link, flow.loopback).index);
    return control;
}

uint32_t LoopbackFlag(bool loopback)
{
    return loopback ? FWP_CONDITION_FLAG_IS_LOOPBACK : 0;
}

uint32_t IpIndicationFlag(IpIndication as)
{
    switch (as)
    {
    case IpIndication::kFragment:
        return FWP_CONDITION_FLAG_IS_FRAGMENT;
    case IpIndication::kReassembled:
        return FWP_CONDITION_FLAG_IS_REASSEMBLED;
    case IpIndication::kPacket:
        break;
    }
    return 0;
}

// Receives run at DISPATCH_LEVEL.
KIRQL IrqlOf(Direction direction)
{
    return direction == Direction::kInbound ? static_cast<KIRQL>(DISPATCH_LEVEL) : nt::CurrentIrql();
}

wfp::ClassifyResult Classify(wfp::Engine &engine, wfp::ClassifyInput *input, Packet *packet)
{
    const wfp::ClassifyResult result = engine.Classify(*input);

    if (packet != nullptr && result.referenced)
    {
        packet->referenced = true;
    }
    return result;
}

// Describes the data of a packet for the ALE and datagram layers.
NET_BUFFER_LIST *TransportData(Packet *packet, Direction direction)
{
    const IpPacketInfo &info = packet->info();

    if (!info.has_transport())
    {
        return packet->StartAt(info.ip_header_size);
    }
    if (direction == Direction::kInbound && !IsIcmp(info.protocol))
    {
        return packet->Describe(info.payload_offset(), info.payload_length);
    }
    return packet->Describe(info.ip_header_size, info.transport_header_size + info.payload_length);
}

// Sets the fields that have the same index at the authorization layers and at the layer of established flows.
template <size_t kCount> void SetAleSubject(Values<kCount> *values, const FlowIdentity &flow)
{
    const uint8_t family = flow.local.family;

    SetProcessPath((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_ALE_APP_ID], flow.socket);
    SetAddress((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_ADDRESS], family, flow.local.address);
    SetAddressType((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_ADDRESS_TYPE], family, flow.local.address);
    Set16((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_PORT], flow.local.port);
    Set8((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_PROTOCOL], flow.protocol);
    SetAddress((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_ADDRESS], family, flow.remote.address);
    Set16((*values)[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_PORT], flow.remote.port);
}

static_assert(static_cast<int>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_ALE_APP_ID) ==
                      static_cast<int>(FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_ALE_APP_ID) &&
                  static_cast<int>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_PORT) ==
                      static_cast<int>(FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_REMOTE_PORT),
              "both authorization layers begin alike");
static_assert(static_cast<int>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_ALE_APP_ID) ==
                      static_cast<int>(FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_ALE_APP_ID) &&
                  static_cast<int>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_PORT) ==
                      static_cast<int>(FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_IP_REMOTE_PORT),
              "the layer of established flows begins like the authorization layers");

// Only raw sockets send and receive other protocols than the stack's own.
uint32_t RawEndpointFlag(uint8_t protocol)
{
    return HasPorts(protocol) || IsIcmp(protocol) || protocol == kProtocolIgmp ? 0 : FWP_CONDITION_FLAG_IS_RAW_ENDPOINT;
}

uint32_t AuthorizationFlags(const AuthorizationRequest &request)
{
    return LoopbackFlag(request.flow->loopback) | RawEndpointFlag(request.flow->protocol) |
           (request.reauthorization == Reauthorization::kNone ? 0 : FWP_CONDITION_FLAG_IS_REAUTHORIZE);
}

uint32_t ReauthorizeReason(Reauthorization reauthorization)
{
    switch (reauthorization)
    {
    case Reauthorization::kPolicyChange:
        return FWP_CONDITION_REAUTHORIZE_REASON_POLICY_CHANGE;
    case Reauthorization::kCompletion:
        return FWP_CONDITION_REAUTHORIZE_REASON_CLASSIFY_COMPLETION;
    case Reauthorization::kNone:
        break;
    }
    return 0;
}

wfp::ClassifyResult ClassifyAuthorization(wfp::Engine &engine, AuthorizationRequest &request,
                                          FWPS_INCOMING_VALUES0 *values)
{
    const FlowIdentity &flow = *request.flow;
    const nt::IrqlScope irql(IrqlOf(request.packet_direction));
    PacketControl control;
    Metadata metadata;
    wfp::ClassifyInput input;

    metadata.SetFlowHandle(flow.flow_handle);
    metadata.SetEndpointHandle(flow.endpoint_handle);
    metadata.SetParentHandle(flow.parent_handle);
    metadata.SetCompartment(flow.local.link);
    metadata.SetPacketDirection(request.packet_direction);
    metadata.SetEcho(flow, request.packet);
    if (flow.socket != nullptr)
    {
        metadata.SetProcess(*flow.socket, true);
    }
    if (flow.direction == Direction::kOutbound)
    {
        metadata.SetRemoteScope(flow);
    }
    if (request.packet != nullptr)
    {
        const IpPacketInfo &info = request.packet->info();

        input.layer_data = TransportData(request.packet, request.packet_direction);
        metadata.SetTransportHeaderSize(info.transport_header_size);
        if (request.packet_direction == Direction::kInbound)
        {
            metadata.SetIpHeaderSize(info.ip_header_size);
        }
        else if (flow.protocol == kProtocolUdp)
        {
            control = MakePacketControl(flow);
            metadata.SetControlData(&control.header, sizeof(control));
        }
    }
    input.layer = values->layerId;
    input.values = values;
    input.metadata = metadata.get();
    input.flow_handle = flow.flow_handle;
    input.can_pend = request.reauthorization == Reauthorization::kNone && request.on_complete != nullptr;
    input.on_complete = std::move(request.on_complete);
    input.origin = request.origin;
    return Classify(engine, &input, request.packet);
}

wfp::ClassifyResult IndicateConnect(wfp::Engine &engine, AuthorizationRequest &request, uint16_t layer)
{
    const FlowIdentity &flow = *request.flow;
    const Interface &interface = InterfaceOf(flow.local.link, flow.loopback);
    Values<FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX> values(layer);

    SetAleSubject(&values, flow);
    SetAddressType(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_DESTINATION_ADDRESS_TYPE], flow.remote.family,
                   flow.remote.address);
    SetLuid(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_INTERFACE], interface);
    Set32(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_FLAGS], AuthorizationFlags(request));
    Set32(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_INTERFACE_TYPE], interface.type);
    Set32(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_TUNNEL_TYPE], 0);
    Set32(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_INTERFACE_INDEX], interface.index);
    Set32(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_SUB_INTERFACE_INDEX], interface.sub_index);
    Set32(values[FWPS_FIELD_ALE_AUTH_CONNECT_V4_REAUTHORIZE_REASON], ReauthorizeReason(request.reauthorization));
    return ClassifyAuthorization(engine, request, values.get());
}

wfp::ClassifyResult IndicateReceiveAccept(wfp::Engine &engine, AuthorizationRequest &request, uint16_t layer)
{
    const FlowIdentity &flow = *request.flow;
    const Interface &interface = InterfaceOf(flow.local.link, flow.loopback);
    Values<FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_MAX> values(layer);

    SetAleSubject(&values, flow);
    SetLuid(values[FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_LOCAL_INTERFACE], interface);
    Set32(values[FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_FLAGS], AuthorizationFlags(request));
    Set32(values[FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_INTERFACE_INDEX], interface.index);
    Set32(values[FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_SUB_INTERFACE_INDEX], interface.sub_index);
    Set32(values[FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_REAUTHORIZE_REASON], ReauthorizeReason(request.reauthorization));
    return ClassifyAuthorization(engine, request, values.get());
}

// Sets the fields after the two addresses. They have the same index at both IP packet layers.
static_assert(static_cast<int>(FWPS_FIELD_INBOUND_IPPACKET_V4_IP_LOCAL_INTERFACE) ==
                      static_cast<int>(FWPS_FIELD_OUTBOUND_IPPACKET_V4_IP_LOCAL_INTERFACE) &&
                  static_cast<int>(FWPS_FIELD_INBOUND_IPPACKET_V4_COMPARTMENT_ID) ==
                      static_cast<int>(FWPS_FIELD_OUTBOUND_IPPACKET_V4_COMPARTMENT_ID) &&
                  static_cast<int>(FWPS_FIELD_INBOUND_IPPACKET_V4_MAX) ==
                      static_cast<int>(FWPS_FIELD_OUTBOUND_IPPACKET_V4_MAX),
              "both IP packet layers end alike");

void SetIpAddresses(Values<FWPS_FIELD_INBOUND_IPPACKET_V4_MAX> *values, const IpPacketInfo &info, Direction direction)
{
    const bool inbound = direction == Direction::kInbound;
    const Address &local = inbound ? info.destination : info.source;

    SetAddress((*values)[FWPS_FIELD_INBOUND_IPPACKET_V4_IP_LOCAL_ADDRESS], info.family, local);
    SetAddress((*values)[inbound ? static_cast<size_t>(FWPS_FIELD_INBOUND_IPPACKET_V4_IP_REMOTE_ADDRESS)
                                 : static_cast<size_t>(FWPS_FIELD_OUTBOUND_IPPACKET_V4_IP_REMOTE_ADDRESS)],
               info.family, inbound ? info.source : info.destination);
    SetAddressType((*values)[inbound ? static_cast<size_t>(FWPS_FIELD_INBOUND_IPPACKET_V4_IP_LOCAL_ADDRESS_TYPE)
                                     : static_cast<size_t>(FWPS_FIELD_OUTBOUND_IPPACKET_V4_IP_LOCAL_ADDRESS_TYPE)],
                   info.family, local);
}

// Sets the first fields of the three notification layers.
template <size_t kCount>
void SetAleSocket(Values<kCount> *values, const SocketIdentity *socket, uint8_t protocol, const Endpoint &local)
{
    SetProcessPath((*values)[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_ALE_APP_ID], socket);
    SetAddress((*values)[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_ADDRESS], local.family, local.address);
    SetAddressType((*values)[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_ADDRESS_TYPE], local.family, local.address);
    Set16((*values)[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_PORT], local.port);
    Set8((*values)[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_PROTOCOL], protocol);
}

void ClassifyClosure(wfp::Engine &engine, const FlowIdentity &flow, bool has_peer)
{
    const uint16_t layer =
        OfFamily(flow.local.family, FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V4, FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V6);
    if (!engine.has_filters(layer))
    {
        return;
    }

    Values<FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_MAX> values(layer);
    Metadata metadata;
    wfp::ClassifyInput input;

    SetAleSocket(&values, flow.socket, flow.protocol, flow.local);
    if (has_peer)
    {
        SetAddress(values[FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_ADDRESS], flow.remote.family,
                   flow.remote.address);
        Set16(values[FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_PORT], flow.remote.port);
    }
    SetLuid(values[FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_INTERFACE], InterfaceOf(flow.local.link, flow.loopback));
    Set32(values[FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_FLAGS], LoopbackFlag(flow.loopback));
    metadata.SetProcess(*flow.socket, false);
    metadata.SetCompartment(flow.local.link);
    metadata.SetEndpointHandle(flow.endpoint_handle);
    metadata.SetParentHandle(flow.parent_handle);
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    Classify(engine, &input, nullptr);
}

} // namespace

uint16_t AuthorizationLayer(Direction direction, uint8_t family)
{
    return direction == Direction::kOutbound
               ? OfFamily(family, FWPS_LAYER_ALE_AUTH_CONNECT_V4, FWPS_LAYER_ALE_AUTH_CONNECT_V6)
               : OfFamily(family, FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4, FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6);
}

bool IndicateAssignment(wfp::Engine &engine, const SocketIdentity &socket)
{
    const uint16_t layer =
        OfFamily(socket.local.family, FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V4, FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V6);
    if (!engine.has_filters(layer))
    {
        return true;
    }

    Values<FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_MAX> values(layer);
    Metadata metadata;
    wfp::ClassifyInput input;

    SetAleSocket(&values, &socket, socket.protocol, socket.local);
    SetLuid(values[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_INTERFACE],
            InterfaceOf(socket.local.link, socket.loopback));
    Set32(values[FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_FLAGS], LoopbackFlag(socket.loopback));
    metadata.SetProcess(socket, true);
    metadata.SetEndpointHandle(socket.handle);
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    return Classify(engine, &input, nullptr).action == wfp::ClassifyResult::kPermit;
}

void IndicateRelease(wfp::Engine &engine, const SocketIdentity &socket)
{
    const uint16_t layer =
        OfFamily(socket.local.family, FWPS_LAYER_ALE_RESOURCE_RELEASE_V4, FWPS_LAYER_ALE_RESOURCE_RELEASE_V6);
    if (!engine.has_filters(layer))
    {
        return;
    }

    Values<FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_MAX> values(layer);
    Metadata metadata;
    wfp::ClassifyInput input;

    SetAleSocket(&values, &socket, socket.protocol, socket.local);
    SetLuid(values[FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_INTERFACE],
            InterfaceOf(socket.local.link, socket.loopback));
    Set32(values[FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_FLAGS], LoopbackFlag(socket.loopback));
    metadata.SetProcess(socket, false);
    metadata.SetCompartment(socket.local.link);
    metadata.SetEndpointHandle(socket.handle);
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    Classify(engine, &input, nullptr);
}

void IndicateEstablished(wfp::Engine &engine, const FlowIdentity &flow)
{
    const uint16_t layer =
        OfFamily(flow.local.family, FWPS_LAYER_ALE_FLOW_ESTABLISHED_V4, FWPS_LAYER_ALE_FLOW_ESTABLISHED_V6);
    if (!engine.has_filters(layer))
    {
        return;
    }

    const Interface &interface = InterfaceOf(flow.local.link, flow.loopback);
    const nt::IrqlScope irql(IrqlOf(flow.direction));
    Values<FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_MAX> values(layer);
    Metadata metadata;
    wfp::ClassifyInput input;

    SetAleSubject(&values, flow);
    SetAddressType(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_IP_DESTINATION_ADDRESS_TYPE], flow.remote.family,
                   flow.remote.address);
    SetLuid(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_IP_LOCAL_INTERFACE], interface);
    Set32(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_DIRECTION],
          flow.direction == Direction::kInbound ? FWP_DIRECTION_INBOUND : FWP_DIRECTION_OUTBOUND);
    Set32(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_INTERFACE_TYPE], interface.type);
    Set32(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_TUNNEL_TYPE], 0);
    Set32(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_FLAGS], LoopbackFlag(flow.loopback));
    Set32(values[FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_COMPARTMENT_ID], CompartmentOf(flow.local.link));
    metadata.SetFlowHandle(flow.flow_handle);
    metadata.SetEndpointHandle(flow.endpoint_handle);
    metadata.SetParentHandle(flow.parent_handle);
    metadata.SetCompartment(flow.local.link);
    if (flow.socket != nullptr)
    {
        metadata.SetProcess(*flow.socket, true);
    }
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    input.flow_handle = flow.flow_handle;
    Classify(engine, &input, nullptr);
}

void IndicateClosure(wfp::Engine &engine, const SocketIdentity &socket)
{
    FlowIdentity endpoint;

    endpoint.protocol = socket.protocol;
    endpoint.loopback = socket.loopback;
    endpoint.local = socket.local;
    endpoint.endpoint_handle = socket.handle;
    endpoint.socket = &socket;
    ClassifyClosure(engine, endpoint, false);
}

void IndicateClosure(wfp::Engine &engine, const FlowIdentity &flow)
{
    ClassifyClosure(engine, flow, true);
}

wfp::ClassifyResult IndicateAuthorization(wfp::Engine &engine, AuthorizationRequest request)
{
    const FlowIdentity &flow = *request.flow;
    const uint16_t layer = AuthorizationLayer(flow.direction, flow.local.family);

    if (!engine.has_filters(layer))
    {
        return wfp::ClassifyResult();
    }
    return flow.direction == Direction::kOutbound ? IndicateConnect(engine, request, layer)
                                                  : IndicateReceiveAccept(engine, request, layer);
}

wfp::ClassifyResult IndicateIpPacket(wfp::Engine &engine, Direction direction, IpIndication as, Packet &packet,
                                     wfp::PacketOrigin *origin)
{
    const IpPacketInfo &info = packet.info();
    const bool inbound = direction == Direction::kInbound;
    const uint16_t layer =
        inbound ? OfFamily(info.family, FWPS_LAYER_INBOUND_IPPACKET_V4, FWPS_LAYER_INBOUND_IPPACKET_V6)
                : OfFamily(info.family, FWPS_LAYER_OUTBOUND_IPPACKET_V4, FWPS_LAYER_OUTBOUND_IPPACKET_V6);
    if (!engine.has_filters(layer))
    {
        return wfp::ClassifyResult();
    }

    const Interface &interface = InterfaceOf(packet.link, packet.loopback);
    const nt::IrqlScope irql(IrqlOf(direction));
    Values<FWPS_FIELD_INBOUND_IPPACKET_V4_MAX> values(layer);
    Metadata metadata;
    wfp::ClassifyInput input;

    SetIpAddresses(&values, info, direction);
    SetLuid(values[FWPS_FIELD_INBOUND_IPPACKET_V4_IP_LOCAL_INTERFACE], interface);
    Set32(values[FWPS_FIELD_INBOUND_IPPACKET_V4_INTERFACE_INDEX], interface.index);
    Set32(values[FWPS_FIELD_INBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX], interface.sub_index);
    Set32(values[FWPS_FIELD_INBOUND_IPPACKET_V4_FLAGS], LoopbackFlag(packet.loopback) | IpIndicationFlag(as));
    Set32(values[FWPS_FIELD_INBOUND_IPPACKET_V4_INTERFACE_TYPE], interface.type);
    Set32(values[FWPS_FIELD_INBOUND_IPPACKET_V4_TUNNEL_TYPE], 0);
    Set32(values[FWPS_FIELD_INBOUND_IPPACKET_V4_COMPARTMENT_ID], CompartmentOf(packet.link));
    metadata.SetIpHeaderSize(info.ip_header_size);
    metadata.SetCompartment(packet.link);
    if (as == IpIndication::kFragment)
    {
        metadata.SetFragment(info);
    }
    if (!inbound && info.has_transport())
    {
        metadata.SetTransportHeaderSize(info.transport_header_size);
    }
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    input.layer_data = packet.StartAt(inbound ? info.ip_header_size : 0);
    input.origin = origin;
    return Classify(engine, &input, &packet);
}

wfp::ClassifyResult IndicateDatagram(wfp::Engine &engine, const FlowIdentity &flow, Direction direction, Packet &packet,
                                     wfp::PacketOrigin *origin)
{
    const uint8_t family = flow.local.family;
    const uint16_t layer = OfFamily(family, FWPS_LAYER_DATAGRAM_DATA_V4, FWPS_LAYER_DATAGRAM_DATA_V6);
    if (!engine.has_filters(layer))
    {
        return wfp::ClassifyResult();
    }

    const IpPacketInfo &info = packet.info();
    const Interface &interface = InterfaceOf(packet.link, packet.loopback);
    const bool inbound = direction == Direction::kInbound;
    const nt::IrqlScope irql(IrqlOf(direction));
    PacketControl control;
    Values<FWPS_FIELD_DATAGRAM_DATA_V4_MAX> values(layer);
    Metadata metadata;
    wfp::ClassifyInput input;

    Set8(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_PROTOCOL], flow.protocol);
    SetAddress(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_ADDRESS], family, flow.local.address);
    SetAddress(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_ADDRESS], family, flow.remote.address);
    SetAddressType(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_ADDRESS_TYPE], family, flow.local.address);
    Set16(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_PORT], flow.local.port);
    Set16(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_PORT], flow.remote.port);
    SetLuid(values[FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_INTERFACE], interface);
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_INTERFACE_INDEX], interface.index);
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_SUB_INTERFACE_INDEX], interface.sub_index);
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_DIRECTION], inbound ? FWP_DIRECTION_INBOUND : FWP_DIRECTION_OUTBOUND);
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_FLAGS], LoopbackFlag(packet.loopback));
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_INTERFACE_TYPE], interface.type);
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_TUNNEL_TYPE], 0);
    Set32(values[FWPS_FIELD_DATAGRAM_DATA_V4_COMPARTMENT_ID], CompartmentOf(flow.local.link));
    metadata.SetFlowHandle(flow.flow_handle);
    metadata.SetEndpointHandle(flow.endpoint_handle);
    metadata.SetCompartment(flow.local.link);
    metadata.SetTransportHeaderSize(info.transport_header_size);
    metadata.SetEcho(flow, &packet);
    if (inbound)
    {
        metadata.SetIpHeaderSize(info.ip_header_size);
    }
    else
    {
        control = MakePacketControl(flow);
        metadata.SetRemoteScope(flow);
        metadata.SetControlData(&control.header, sizeof(control));
    }
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    input.layer_data = TransportData(&packet, direction);
    input.flow_handle = flow.flow_handle;
    input.origin = origin;
    return Classify(engine, &input, &packet);
}

wfp::ClassifyResult IndicateStream(wfp::Engine &engine, const FlowIdentity &flow, Direction direction,
                                   NET_BUFFER_LIST *chain, uint32_t offset, size_t length, uint32_t flags)
{
    const uint8_t family = flow.local.family;
    const uint16_t layer = OfFamily(family, FWPS_LAYER_STREAM_V4, FWPS_LAYER_STREAM_V6);
    if (!engine.has_filters(layer))
    {
        return wfp::ClassifyResult();
    }

    const bool inbound = direction == Direction::kInbound;
    const nt::IrqlScope irql(IrqlOf(direction));
    Values<FWPS_FIELD_STREAM_V4_MAX> values(layer);
    Metadata metadata;
    FWPS_STREAM_DATA0 data{};
    FWPS_STREAM_CALLOUT_IO_PACKET0 packet{};
    wfp::ClassifyInput input;

    SetAddress(values[FWPS_FIELD_STREAM_V4_IP_LOCAL_ADDRESS], family, flow.local.address);
    SetAddressType(values[FWPS_FIELD_STREAM_V4_IP_LOCAL_ADDRESS_TYPE], family, flow.local.address);
    SetAddress(values[FWPS_FIELD_STREAM_V4_IP_REMOTE_ADDRESS], family, flow.remote.address);
    Set16(values[FWPS_FIELD_STREAM_V4_IP_LOCAL_PORT], flow.local.port);
    Set16(values[FWPS_FIELD_STREAM_V4_IP_REMOTE_PORT], flow.remote.port);
    Set32(values[FWPS_FIELD_STREAM_V4_DIRECTION],
          flow.direction == Direction::kInbound ? FWP_DIRECTION_INBOUND : FWP_DIRECTION_OUTBOUND);
    Set32(values[FWPS_FIELD_STREAM_V4_FLAGS], LoopbackFlag(flow.loopback));
    Set32(values[FWPS_FIELD_STREAM_V4_COMPARTMENT_ID], CompartmentOf(flow.local.link));
    metadata.SetFlowHandle(flow.flow_handle);

    data.flags = flags | (inbound ? FWPS_STREAM_FLAG_RECEIVE : FWPS_STREAM_FLAG_SEND);
    data.dataLength = length;
    data.netBufferListChain = chain;
    if (chain != nullptr)
    {
        data.dataOffset.netBufferList = chain;
        data.dataOffset.netBuffer = chain->FirstNetBuffer;
        data.dataOffset.mdl = chain->FirstNetBuffer->CurrentMdl;
        data.dataOffset.mdlOffset = offset;
    }
    packet.streamData = &data;
    input.layer = layer;
    input.values = values.get();
    input.metadata = metadata.get();
    input.layer_data = &packet;
    input.flow_handle = flow.flow_handle;
    input.established = flow.established;
    return Classify(engine, &input, nullptr);
}

std::optional<uint8_t> LinkOf(IF_INDEX index, IF_INDEX sub_index)
{
    if (index == kLoopback.index && sub_index == kLoopback.sub_index)
    {
        return kEthernetLink;
    }
    for (uint8_t link = 0; link < kLinks; ++link)
    {
        if (index == kInterfaces[link].index && sub_index == kInterfaces[link].sub_index)
        {
            return link;
        }
    }
    return std::nullopt;
}

IF_INDEX InterfaceIndexOf(uint8_t link)
{
    return kInterfaces[link].index;
}

uint32_t CompartmentOf(uint8_t link)
{
    return kInterfaces[link].compartment;
}

} // namespace sim::net

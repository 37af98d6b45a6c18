#include "support/network.h"

#include "support/packets.h"

#include "net/ip_packet.h"

#include <gtest/gtest.h>

#include <utility>

namespace kext_test
{

namespace
{

constexpr FlowFields kClosureFields = {
    FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_ADDRESS,
    FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_PORT,
    FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_ADDRESS,
    FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_PORT,
};

constexpr FlowFields kStreamFields = {
    FWPS_FIELD_STREAM_V4_IP_LOCAL_ADDRESS,
    FWPS_FIELD_STREAM_V4_IP_LOCAL_PORT,
    FWPS_FIELD_STREAM_V4_IP_REMOTE_ADDRESS,
    FWPS_FIELD_STREAM_V4_IP_REMOTE_PORT,
};

constexpr FlowFields kDatagramFields = {
    FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_ADDRESS,
    FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_PORT,
    FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_ADDRESS,
    FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_PORT,
};

} // namespace

Network::Network(sim::Machine &machine) : Classifier(machine)
{
    machine.wfp().SetInjectionTarget(this);
    machine.wfp().SetReauthorizer(this);
    machine.wfp().SetFlowOwner(this);
}

Network::~Network()
{
    machine().wfp().SetInjectionTarget(nullptr);
    machine().wfp().SetReauthorizer(nullptr);
    machine().wfp().SetFlowOwner(nullptr);
}

// ---- The packet layers

Network::Answer Network::Outbound(const std::vector<PacketList> &lists, size_t piece)
{
    PacketChain chain(machine(), lists, 0, piece);

    return OutboundChain(IsV6(lists[0][0]), chain.head());
}

Network::Answer Network::OutboundLoopback(const ByteVector &packet)
{
    PacketChain chain(machine(), {{packet}}, 0);

    return OutboundChain(IsV6(packet), chain.head(), FWP_CONDITION_FLAG_IS_LOOPBACK);
}

Network::Answer Network::OutboundChain(bool v6, NET_BUFFER_LIST *chain, uint32_t flags)
{
    Indication indication(v6 ? FWPS_LAYER_OUTBOUND_IPPACKET_V6 : FWPS_LAYER_OUTBOUND_IPPACKET_V4,
                          FWPS_FIELD_OUTBOUND_IPPACKET_V4_MAX);

    indication.SetUint32(FWPS_FIELD_OUTBOUND_IPPACKET_V4_INTERFACE_INDEX, interface_index());
    indication.SetUint32(FWPS_FIELD_OUTBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX, kSubInterface);
    indication.SetUint32(FWPS_FIELD_OUTBOUND_IPPACKET_V4_FLAGS, flags);
    indication.SetCompartment(compartment());
    return Classify(indication, chain);
}

Network::Answer Network::Inbound(const std::vector<PacketList> &lists, bool loopback, size_t piece)
{
    const ByteVector &first = lists[0][0];
    const uint32_t header = HeaderLength(first);
    const uint32_t flags = loopback ? FWP_CONDITION_FLAG_IS_LOOPBACK : 0;
    PacketChain chain(machine(), lists, header, piece);
    const Answer answer = InboundChain(IsV6(first), chain.head(), header, flags);

    return answer.permitted() && IsFragment(first)
               ? InboundChain(IsV6(first), chain.head(), header, flags | FWP_CONDITION_FLAG_IS_FRAGMENT)
               : answer;
}

Network::Answer Network::InboundBroadcast(const ByteVector &packet)
{
    constexpr uint8_t kBroadcast = 4; // NlatBroadcast
    const uint32_t header = HeaderLength(packet);
    PacketChain chain(machine(), {{packet}}, header);

    return InboundChain(IsV6(packet), chain.head(), header, 0, kBroadcast);
}

Network::Answer Network::Reassembled(const ByteVector &packet)
{
    const uint32_t header = HeaderLength(packet);
    PacketChain chain(machine(), {{packet}}, header);

    return InboundChain(IsV6(packet), chain.head(), header, FWP_CONDITION_FLAG_IS_REASSEMBLED);
}

Network::Answer Network::InboundChain(bool v6, NET_BUFFER_LIST *chain, uint32_t header, uint32_t flags,
                                      uint8_t address_type)
{
    Indication indication(v6 ? FWPS_LAYER_INBOUND_IPPACKET_V6 : FWPS_LAYER_INBOUND_IPPACKET_V4,
                          FWPS_FIELD_INBOUND_IPPACKET_V4_MAX);

    indication.SetUint32(FWPS_FIELD_INBOUND_IPPACKET_V4_INTERFACE_INDEX, interface_index());
    indication.SetUint32(FWPS_FIELD_INBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX, kSubInterface);
    indication.SetUint32(FWPS_FIELD_INBOUND_IPPACKET_V4_FLAGS, flags);
    indication.SetUint8(FWPS_FIELD_INBOUND_IPPACKET_V4_IP_LOCAL_ADDRESS_TYPE, address_type);
    indication.SetCompartment(compartment());
    indication.metadata().ipHeaderSize = header;
    indication.metadata().currentMetadataValues |= FWPS_METADATA_FIELD_IP_HEADER_SIZE;
    return Classify(indication, chain);
}

// ---- Ports and payload

void Network::Establish(const Flow &flow, uint64_t flow_handle)
{
    Indication indication(flow.family() == 6 ? FWPS_LAYER_ALE_FLOW_ESTABLISHED_V6 : FWPS_LAYER_ALE_FLOW_ESTABLISHED_V4,
                          FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_MAX);

    // The layer's first fields are those of ALE_ENDPOINT_CLOSURE.
    indication.SetFlow(kClosureFields, flow);
    indication.SetUint8(FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_IP_PROTOCOL, flow.protocol);
    indication.metadata().flowHandle = flow_handle;
    indication.metadata().currentMetadataValues |= FWPS_METADATA_FIELD_FLOW_HANDLE;
    EXPECT_TRUE(Classify(indication).permitted());
}

void Network::Close(const Flow &flow)
{
    Indication indication(flow.family() == 6 ? FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V6 : FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V4,
                          FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_MAX);

    indication.SetFlow(kClosureFields, flow);
    indication.SetUint8(FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_PROTOCOL, flow.protocol);
    EXPECT_TRUE(Classify(indication).permitted());
}

void Network::Release(uint8_t protocol, const Endpoint &local, uint64_t process_id, uint64_t endpoint_handle)
{
    Indication indication(local.family == 6 ? FWPS_LAYER_ALE_RESOURCE_RELEASE_V6 : FWPS_LAYER_ALE_RESOURCE_RELEASE_V4,
                          FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_MAX);

    indication.SetAddress(FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_ADDRESS, local);
    indication.SetUint16(FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_PORT, local.port);
    indication.SetUint8(FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_PROTOCOL, protocol);
    indication.SetCompartment(compartment());
    if (process_id != 0)
    {
        indication.SetProcess(process_id);
    }
    if (endpoint_handle != 0)
    {
        indication.metadata().transportEndpointHandle = endpoint_handle;
        indication.metadata().currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE;
    }
    EXPECT_TRUE(Classify(indication).permitted());
}

void Network::Bind(uint8_t protocol, const Endpoint &local, uint64_t process_id)
{
    Indication indication(local.family == 6 ? FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V6
                                            : FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V4,
                          FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_MAX);

    indication.SetAddress(FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_ADDRESS, local);
    indication.SetUint16(FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_PORT, local.port);
    indication.SetUint8(FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_PROTOCOL, protocol);
    indication.SetProcess(process_id);
    EXPECT_TRUE(Classify(indication).permitted());
}

void Network::Stream(const Flow &flow, bool inbound, size_t bytes, bool old)
{
    Indication indication(flow.family() == 6 ? FWPS_LAYER_STREAM_V6 : FWPS_LAYER_STREAM_V4, FWPS_FIELD_STREAM_V4_MAX);
    FWPS_STREAM_DATA0 data{};
    FWPS_STREAM_CALLOUT_IO_PACKET0 packet{};

    indication.SetFlow(kStreamFields, flow);
    indication.SetUint32(FWPS_FIELD_STREAM_V4_COMPARTMENT_ID, compartment());
    if (old)
    {
        indication.SetOlderThanFilters();
    }
    data.flags = inbound ? FWPS_STREAM_FLAG_RECEIVE : FWPS_STREAM_FLAG_SEND;
    data.dataLength = bytes;
    packet.streamData = &data;
    EXPECT_TRUE(Classify(indication, &packet).permitted());
    EXPECT_EQ(packet.streamAction, FWPS_STREAM_ACTION_NONE);
}

void Network::Datagrams(const Flow &flow, bool inbound, const std::vector<PacketList> &lists)
{
    const size_t udp_header = inbound ? sim::net::kUdpHeaderSize : 0;
    PacketChain chain(machine(), lists, static_cast<uint32_t>(HeaderLength(lists[0][0]) + udp_header));

    IndicateDatagrams(flow, inbound, chain.head());
}

void Network::IndicateDatagrams(const Flow &flow, bool inbound, NET_BUFFER_LIST *chain)
{
    Indication indication(flow.family() == 6 ? FWPS_LAYER_DATAGRAM_DATA_V6 : FWPS_LAYER_DATAGRAM_DATA_V4,
                          FWPS_FIELD_DATAGRAM_DATA_V4_MAX);

    indication.SetFlow(kDatagramFields, flow);
    indication.SetUint32(FWPS_FIELD_DATAGRAM_DATA_V4_INTERFACE_INDEX, interface_index());
    indication.SetCompartment(compartment());
    indication.SetUint8(FWPS_FIELD_DATAGRAM_DATA_V4_IP_PROTOCOL, flow.protocol);
    indication.SetUint32(FWPS_FIELD_DATAGRAM_DATA_V4_DIRECTION,
                         inbound ? FWP_DIRECTION_INBOUND : FWP_DIRECTION_OUTBOUND);
    EXPECT_TRUE(Classify(indication, chain).permitted());
}

// ---- What the driver does to the stack

std::vector<Injected> Network::TakeInjected()
{
    machine().Run();

    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(injected_, {});
}

std::vector<uint16_t> Network::TakeReauthorized()
{
    machine().Run();

    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(reauthorized_, {});
}

NTSTATUS Network::Deliver(const Injection &injection)
{
    Injected injected = CopyOf(injection);

    if (observer_ != nullptr &&
        (injection.kind == Injection::kNetworkSend || injection.kind == Injection::kNetworkReceive))
    {
        observer_->LetsOut(injected.bytes.data(), injected.bytes.size());
    }
    injected.decided_permit = ClassifyInjected(injection);

    const std::lock_guard<std::mutex> lock(mutex_);
    injected_.push_back(std::move(injected));
    return STATUS_SUCCESS;
}

void Network::FiltersChanged(uint16_t layer)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    reauthorized_.push_back(layer);
}

std::vector<uint64_t> Network::TakeAborted()
{
    machine().Run();

    const std::lock_guard<std::mutex> lock(mutex_);

    return std::exchange(aborted_, {});
}

bool Network::CanAbort(uint64_t flow_handle)
{
    return flow_handle % 2 != 0;
}

void Network::Abort(uint64_t flow_handle)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    aborted_.push_back(flow_handle);
}

// The stack indicates what is injected: sends from the top on, receives from the bottom on.
bool Network::ClassifyInjected(const Injection &injection)
{
    switch (injection.kind)
    {
    case Injection::kNetworkReceive:
    case Injection::kTransportReceive:
        return ClassifyReceived(injection.net_buffer_list);
    case Injection::kNetworkSend:
        return ClassifySent(injection);
    default:
        return true;
    }
}

bool Network::ClassifySent(const Injection &injection)
{
    NET_BUFFER *buffer = injection.net_buffer_list->FirstNetBuffer;
    const ByteVector bytes = BytesOf(buffer);
    sim::net::IpPacketInfo info;

    if (sim::net::ParseIpPacket(bytes.data(), bytes.size(), &info) && info.protocol == PROTOCOL_UDP && !info.fragment)
    {
        NdisAdvanceNetBufferDataStart(buffer, info.ip_header_size, FALSE, nullptr);
        IndicateDatagrams({PROTOCOL_UDP, info.source_endpoint(), info.destination_endpoint(), 0}, false,
                          injection.net_buffer_list);
        NdisRetreatNetBufferDataStart(buffer, info.ip_header_size, 0, nullptr);
    }
    return OutboundChain(injection.family == AF_INET6, injection.net_buffer_list).permitted();
}

bool Network::ClassifyReceived(NET_BUFFER_LIST *list)
{
    NET_BUFFER *buffer = list->FirstNetBuffer;
    const ByteVector bytes = BytesOf(buffer);
    const uint32_t header = HeaderLength(bytes);

    NdisAdvanceNetBufferDataStart(buffer, header, FALSE, nullptr);
    bool permitted = InboundChain(IsV6(bytes), list, header, 0).permitted();
    if (IsFragment(bytes))
    {
        permitted = permitted && InboundChain(IsV6(bytes), list, header, FWP_CONDITION_FLAG_IS_FRAGMENT).permitted();
    }
    NdisRetreatNetBufferDataStart(buffer, header, 0, nullptr);
    return permitted;
}

} // namespace kext_test

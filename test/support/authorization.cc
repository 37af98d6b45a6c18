#include "support/authorization.h"

#include "support/packets.h"

#include "net/ip_packet.h"

#include <algorithm>

namespace kext_test
{

namespace
{

struct AleLayer
{
    uint16_t v4;
    uint16_t v6;
    uint32_t field_count;
    uint32_t flags;
    uint32_t interface_index;
    uint32_t sub_interface_index;
    uint32_t address_type;
    bool outbound;
};

constexpr AleLayer kConnect = {
    FWPS_LAYER_ALE_AUTH_CONNECT_V4,
    FWPS_LAYER_ALE_AUTH_CONNECT_V6,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_FLAGS,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_INTERFACE_INDEX,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_SUB_INTERFACE_INDEX,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_DESTINATION_ADDRESS_TYPE,
    true,
};

constexpr AleLayer kAccept = {
    FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
    FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
    FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_MAX,
    FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_FLAGS,
    FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_INTERFACE_INDEX,
    FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_SUB_INTERFACE_INDEX,
    FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_LOCAL_ADDRESS_TYPE,
    false,
};

// The same at both layers.
constexpr FlowFields kFlowFields = {
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_ADDRESS,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_PORT,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_ADDRESS,
    FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_PORT,
};

uint32_t TransportHeaderLength(const Flow &flow)
{
    switch (flow.protocol)
    {
    case PROTOCOL_TCP:
        return sim::net::kTcpHeaderSize;
    case PROTOCOL_UDP:
        return sim::net::kUdpHeaderSize;
    default:
        return 0; // the data of other protocols starts behind the IP headers
    }
}

class Authorization
{
  public:
    Authorization(const AleLayer &layer, const Flow &flow, const AleOptions &options)
        : layer_(layer), flow_(flow), options_(options), control_(options.control_data),
          header_include_(options.header_include),
          indication_(flow.family() == 6 ? layer.v6 : layer.v4, layer.field_count)
    {
        AddFields();
        AddMetadata();
        AddSendParameters();
    }

    Classifier::Answer Classify(Classifier &classifier, const ByteVector *packet)
    {
        indication_.SetUint32(layer_.interface_index, classifier.interface_index());
        indication_.SetCompartment(classifier.compartment());
        if (packet == nullptr)
        {
            return classifier.Classify(indication_, nullptr, !options_.reauthorize);
        }

        const bool inbound =
            options_.packet_direction ? *options_.packet_direction == FWP_DIRECTION_INBOUND : !layer_.outbound;
        const uint32_t header = options_.ip_header_size != 0 ? options_.ip_header_size : HeaderLength(*packet);
        const bool hidden = inbound && !options_.shows_transport_header;

        AddHeaderSizes(inbound, header);
        PacketChain chain(classifier.machine(), ListsWith(*packet),
                          header + (hidden ? TransportHeaderLength(flow_) : 0));
        SetSecurity(chain.head());
        const Classifier::Answer answer = classifier.Classify(indication_, chain.head(), !options_.reauthorize);

        // The stack frees its memory after the classify.
        std::fill(control_.begin(), control_.end(), 0xDD);
        std::fill(header_include_.begin(), header_include_.end(), 0xDD);
        return answer;
    }

  private:
    void AddFields()
    {
        indication_.SetFlow(kFlowFields, flow_);
        indication_.SetUint8(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_PROTOCOL, flow_.protocol);
        indication_.SetUint32(layer_.flags, (options_.reauthorize ? FWP_CONDITION_FLAG_IS_REAUTHORIZE : 0) |
                                                (options_.loopback ? FWP_CONDITION_FLAG_IS_LOOPBACK : 0));
        indication_.SetUint8(layer_.address_type, options_.address_type);
        indication_.SetUint32(layer_.sub_interface_index, Classifier::kSubInterface);
    }

    void AddMetadata()
    {
        FWPS_INCOMING_METADATA_VALUES0 &metadata = indication_.metadata();

        if (flow_.process_id != 0)
        {
            indication_.SetProcess(flow_.process_id, &options_.process_path);
        }
        if (options_.packet_direction)
        {
            metadata.packetDirection = *options_.packet_direction;
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_PACKET_DIRECTION;
        }
        metadata.transportEndpointHandle = kTransportEndpoint;
        metadata.remoteScopeId.Value = kRemoteScope;
        metadata.currentMetadataValues |=
            FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE | FWPS_METADATA_FIELD_REMOTE_SCOPE_ID;
    }

    void AddSendParameters()
    {
        FWPS_INCOMING_METADATA_VALUES0 &metadata = indication_.metadata();

        if (!control_.empty())
        {
            metadata.controlData = reinterpret_cast<WSACMSGHDR *>(control_.data());
            metadata.controlDataLength = static_cast<UINT32>(control_.size());
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA;
        }
        if (!header_include_.empty())
        {
            metadata.headerIncludeHeader = header_include_.data();
            metadata.headerIncludeHeaderLength = static_cast<UINT32>(header_include_.size());
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_HEADER_INCLUDE_HEADER;
        }
    }

    void AddHeaderSizes(bool inbound, uint32_t ip_header)
    {
        FWPS_INCOMING_METADATA_VALUES0 &metadata = indication_.metadata();

        metadata.transportHeaderSize = TransportHeaderLength(flow_);
        metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE;
        if (inbound)
        {
            metadata.ipHeaderSize = ip_header;
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_IP_HEADER_SIZE;
        }
    }

    void SetSecurity(NET_BUFFER_LIST *list) const
    {
        FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 security{};

        security.isSecure = options_.secured ? 1 : 0;
        for (; list != nullptr; list = list->Next)
        {
            sim::wfp::Engine::SetSecurity(list, security);
        }
    }

    std::vector<PacketList> ListsWith(const ByteVector &packet) const
    {
        PacketList packets = options_.more_packets;
        std::vector<PacketList> lists = options_.more_lists;

        packets.insert(packets.begin(), packet);
        lists.insert(lists.begin(), packets);
        return lists;
    }

    const AleLayer &layer_;
    const Flow &flow_;
    const AleOptions &options_;
    ByteVector control_;
    ByteVector header_include_;
    Indication indication_;
};

} // namespace

Classifier::Answer AuthorizeConnect(Classifier &classifier, const Flow &flow, const ByteVector *packet,
                                    const AleOptions &options)
{
    return Authorization(kConnect, flow, options).Classify(classifier, packet);
}

Classifier::Answer AuthorizeAccept(Classifier &classifier, const Flow &flow, const ByteVector *packet,
                                   const AleOptions &options)
{
    return Authorization(kAccept, flow, options).Classify(classifier, packet);
}

} // namespace kext_test

#include <initguid.h>

#include "layers.h"

#include <fwpmk.h>

#include <array>
#include <cstring>

namespace sim::wfp
{
namespace
{

using LayerTable = std::array<Layer, kLayerIds>;

constexpr Layer kNoLayer = {LayerKind::kNone, nullptr, 0, kNoField, "none"};

LayerTable MakeTable()
{
    LayerTable table;
    table.fill(kNoLayer);

#define LAYER(name, kind, protocol_field)                                                                              \
    table[FWPS_LAYER_##name##_V4] = {kind, &FWPM_LAYER_##name##_V4, FWPS_FIELD_##name##_V4_MAX, protocol_field,        \
                                     #name "_V4"};                                                                     \
    table[FWPS_LAYER_##name##_V6] = {kind, &FWPM_LAYER_##name##_V6, FWPS_FIELD_##name##_V6_MAX, protocol_field,        \
                                     #name "_V6"}

    LAYER(INBOUND_IPPACKET, LayerKind::kPacket, kNoField);
    LAYER(OUTBOUND_IPPACKET, LayerKind::kPacket, kNoField);
    LAYER(STREAM, LayerKind::kStream, kNoField);
    LAYER(DATAGRAM_DATA, LayerKind::kDatagram, FWPS_FIELD_DATAGRAM_DATA_V4_IP_PROTOCOL);
    LAYER(ALE_RESOURCE_ASSIGNMENT, LayerKind::kNotification, FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_PROTOCOL);
    LAYER(ALE_AUTH_RECV_ACCEPT, LayerKind::kAuthorization, FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_PROTOCOL);
    LAYER(ALE_AUTH_CONNECT, LayerKind::kAuthorization, FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_PROTOCOL);
    LAYER(ALE_FLOW_ESTABLISHED, LayerKind::kNotification, FWPS_FIELD_ALE_FLOW_ESTABLISHED_V4_IP_PROTOCOL);
    LAYER(ALE_RESOURCE_RELEASE, LayerKind::kNotification, FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_PROTOCOL);
    LAYER(ALE_ENDPOINT_CLOSURE, LayerKind::kNotification, FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_PROTOCOL);
#undef LAYER

    return table;
}

const LayerTable &Table()
{
    static const LayerTable table = MakeTable();
    return table;
}

} // namespace

const Layer &LayerById(uint16_t id)
{
    return id < kLayerIds ? Table()[id] : kNoLayer;
}

const Layer *FindLayer(const GUID &key, uint16_t *id)
{
    for (uint16_t candidate = 0; candidate < kLayerIds; ++candidate)
    {
        const Layer &layer = Table()[candidate];

        if (layer.kind != LayerKind::kNone && std::memcmp(layer.key, &key, sizeof(GUID)) == 0)
        {
            *id = candidate;
            return &layer;
        }
    }
    return nullptr;
}

} // namespace sim::wfp

// The layers that the simulated stack indicates.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <cstddef>
#include <cstdint>

namespace sim::wfp
{

enum class LayerKind : uint8_t
{
    kNone,   // no such layer
    kPacket, // layer data is a chain of net buffer lists
    kStream, // layer data is a stream I/O packet
    kDatagram,
    kAuthorization, // operations can be pended, and a filter change reauthorizes
    kNotification
};

struct Layer
{
    LayerKind kind;
    const GUID *key;
    uint32_t value_count;
    uint16_t protocol_field; // index of IP_PROTOCOL, or kNoField
    const char *name;
};

constexpr uint16_t kLayerIds = 66;
constexpr uint16_t kNoField = 0xFFFF;

// For ids that are no layer: kind kNone.
const Layer &LayerById(uint16_t id);

// nullptr for an unknown key.
const Layer *FindLayer(const GUID &key, uint16_t *id);

} // namespace sim::wfp

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
    kAuthorization, // operations can be pended, and a change of filters reauthorizes
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

// Returns a layer of the kind kNone for an id without a layer.
const Layer &LayerById(uint16_t id);

// Returns nullptr for an unknown key.
const Layer *FindLayer(const GUID &key, uint16_t *id);

} // namespace sim::wfp

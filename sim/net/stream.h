// TCP payload at the STREAM layer, counted as it is indicated.
//
// Concurrency: has no state.
#pragma once

#include "net/indication.h"
#include "net/packet.h"

#include <cstdint>
#include <vector>

namespace sim::net
{

class Resources;

// Indicates `length` payload bytes of a packet, from `offset` on.
void IndicatePayload(Resources &resources, const FlowIdentity &flow, Direction direction, Packet &packet,
                     uint32_t offset, uint32_t length);

// Indicates the bytes that an application sends, as a chain of buffers, before they are cut into segments.
// Returns false if they are blocked or memory is short.
bool IndicateSentBytes(Resources &resources, const FlowIdentity &flow, const std::vector<uint8_t> &bytes);

// Indicates a FIN.
void IndicateDisconnect(wfp::Engine &engine, const FlowIdentity &flow, Direction direction);

} // namespace sim::net

// Records of a driver that a test makes up.
#pragma once

#include "support/flows.h"
#include "support/wire_records.h"

#include <cstring>

namespace kext_test
{

// A record of a connection, as a *_WIRE structure. `tail`: bytes that follow the structure.
template <typename Wire> Wire MakeRecord(uint8_t type, const Flow &flow, uint32_t tail = 0)
{
    Wire wire{};

    wire.Header.Type = type;
    wire.Header.Length = static_cast<uint32_t>(sizeof(wire) - sizeof(wire.Header)) + tail;
    wire.Protocol = flow.protocol;
    std::memcpy(wire.LocalAddress, flow.local.address.data(), sizeof(wire.LocalAddress));
    std::memcpy(wire.RemoteAddress, flow.remote.address.data(), sizeof(wire.RemoteAddress));
    wire.LocalPort = flow.local.port;
    wire.RemotePort = flow.remote.port;
    return wire;
}

} // namespace kext_test

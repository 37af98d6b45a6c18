// A packet that the driver injected into the network stack.
#pragma once

#include "support/bytes.h"

#include "machine.h"
#include "wfp/engine.h"

#include <array>

namespace kext_test
{

using sim::wfp::Injection;

struct Injected
{
    Injection::Kind kind = Injection::kNetworkSend;
    ByteVector bytes;
    uint32_t compartment = 0;
    IF_INDEX interface_index = 0;
    IF_INDEX sub_interface_index = 0;
    uint64_t endpoint_handle = 0;
    std::array<uint8_t, 16> remote_address{};
    uint32_t remote_scope = 0;
    ByteVector control_data;
    ByteVector header_include;
    bool decided_permit = false; // the driver's decision when the stack indicated the injected packet
};

// Copies all but the decision.
Injected CopyOf(const Injection &injection);

} // namespace kext_test

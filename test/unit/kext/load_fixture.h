// Tests of loading and unloading the driver.
#pragma once

#include "support/driver_loader.h"
#include "support/machine_test.h"

#include "wfp/engine.h"

namespace kext_test
{

inline const uint16_t kLayers[] = {
    FWPS_LAYER_ALE_AUTH_CONNECT_V4,
    FWPS_LAYER_ALE_AUTH_CONNECT_V6,
    FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
    FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
    FWPS_LAYER_ALE_FLOW_ESTABLISHED_V4,
    FWPS_LAYER_ALE_FLOW_ESTABLISHED_V6,
    FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V4,
    FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V6,
    FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V4,
    FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V6,
    FWPS_LAYER_ALE_RESOURCE_RELEASE_V4,
    FWPS_LAYER_ALE_RESOURCE_RELEASE_V6,
    FWPS_LAYER_STREAM_V4,
    FWPS_LAYER_STREAM_V6,
    FWPS_LAYER_DATAGRAM_DATA_V4,
    FWPS_LAYER_DATAGRAM_DATA_V6,
    FWPS_LAYER_OUTBOUND_IPPACKET_V4,
    FWPS_LAYER_OUTBOUND_IPPACKET_V6,
    FWPS_LAYER_INBOUND_IPPACKET_V4,
    FWPS_LAYER_INBOUND_IPPACKET_V6,
};

// Returns at how many of them the driver filters.
inline size_t FilteredLayers(sim::Machine &machine)
{
    size_t count = 0;

    for (uint16_t layer : kLayers)
    {
        count += machine.wfp().has_filters(layer) ? 1 : 0;
    }
    return count;
}

// A test that loads the driver itself.
class BareMachineTest : public MachineTest
{
  protected:
    BareMachineTest() : driver_(machine_) {}

    NTSTATUS Load(const std::u16string &service = u"NetVerdict") { return driver_.Load(service); }
    void Unload() { driver_.Unload(); }

    DriverLoader driver_;
};

} // namespace kext_test

// What tests of loading and unloading the driver need.
#pragma once

#include "driver_fixture.h"

namespace kext_test
{

inline const uint16_t kLayers[] = {
    FWPS_LAYER_ALE_AUTH_CONNECT_V4,
    FWPS_LAYER_ALE_AUTH_CONNECT_V6,
    FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
    FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
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

// How many of them the driver filters at.
inline size_t FilteredLayers(sim::Machine &machine)
{
    size_t count = 0;

    for (uint16_t layer : kLayers)
    {
        count += machine.wfp().has_filters(layer) ? 1 : 0;
    }
    return count;
}

// Without a driver, to begin with, and at the end, however the test came to it.
class BareMachineTest : public testing::Test
{
  protected:
    BareMachineTest() : machine_(StandingClock()), scope_(machine_) {}
    ~BareMachineTest() override { Unload(); }

    NTSTATUS Load(const std::u16string &service) { return machine_.io().LoadDriver(DriverEntry, service, &driver_); }
    void Unload()
    {
        if (driver_ != nullptr)
        {
            EXPECT_EQ(machine_.io().UnloadDriver(std::exchange(driver_, nullptr)), STATUS_SUCCESS);
        }
    }

    sim::Machine machine_;
    sim::Machine::Scope scope_;
    PDRIVER_OBJECT driver_ = nullptr;
};

} // namespace kext_test

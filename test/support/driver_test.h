// A test of the whole driver: it is loaded, a client is attached, and a network indicates.
#pragma once

#include "support/device_client.h"
#include "support/driver_loader.h"
#include "support/machine_test.h"
#include "support/network.h"
#include "support/packets.h"

namespace kext_test
{

// At the end of a test the driver must have kept its invariants.
class DriverTest : public MachineTest
{
  protected:
    explicit DriverTest(const sim::MachineOptions &options = StandingClock());

    // Unloading injects what is held: the client's observer must see that.
    ~DriverTest() override;

    void TearDown() override { client_.CheckInvariants(); }

    void Unload() { driver_.Unload(); }

    DRIVER_CONTEXT *context() { return driver_.context(); }

    // Connects the flow and gives it this verdict.
    void Decide(const Flow &flow, uint8_t verdict);

    Network network_;
    DriverLoader driver_;
    Client client_;

  private:
    void Start();
};

} // namespace kext_test

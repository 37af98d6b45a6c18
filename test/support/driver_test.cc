#include "support/driver_test.h"

namespace kext_test
{

DriverTest::DriverTest(const sim::MachineOptions &options)
    : MachineTest(options), network_(machine_), driver_(machine_), client_(machine_)
{
    Start();
}

// Google Test runs a test after a failure in its constructor, unless the failure is fatal.
void DriverTest::Start()
{
    ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    network_.SetObserver(&client_.observer());
    machine_.Run();
    network_.TakeReauthorized();
}

DriverTest::~DriverTest()
{
    client_.Close();
    Unload();
}

void DriverTest::Decide(const Flow &flow, uint8_t verdict)
{
    const ByteVector packet = MakePacket(flow);

    EXPECT_TRUE(network_.Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet).pended());
    client_.Verdict(client_.ReadQuestion().id, verdict);
    network_.TakeInjected();
    network_.TakeReauthorized();
}

} // namespace kext_test

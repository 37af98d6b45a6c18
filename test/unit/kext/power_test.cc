#include "support/driver_test.h"

#include "nt/callback_object.h"
#include "nt/fault_injection.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

class PowerTest : public DriverTest
{
  protected:
    void Notify(uintptr_t what, uintptr_t how) { machine_.power_state().Notify(what, how); }
    void Sleep()
    {
        client_.observer().OthersMayDecide();
        Notify(PO_CB_SYSTEM_STATE_LOCK, 0);
    }
    void Wake() { Notify(PO_CB_SYSTEM_STATE_LOCK, 1); }

    void FailClosed()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_FAIL_CLOSED;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }
};

TEST_F(PowerTest, GoingToSleepResolvesHeldPacketsByTheFailPolicy)
{
    const ByteVector datagram = MakePacket(UdpV4());
    const Network::Answer connect = network_.Connect(Flow{});

    EXPECT_TRUE(connect.pended());
    EXPECT_TRUE(network_.Outbound(datagram).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 2u);
    Sleep();
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
}

TEST_F(PowerTest, GoingToSleepReportsWhatItDecides)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    const uint64_t id = client_.ReadQuestion().id;
    Sleep();

    const std::vector<Record> records = client_.ReadType(InfoConnectionTimeout);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].At<uint64_t>(0), id);
    EXPECT_EQ(records[0].At<uint8_t>(8), VerdictAccept);
    EXPECT_EQ(records[0].At<uint8_t>(9), TimeoutCauseStall);
}

TEST_F(PowerTest, GoingToSleepDropsHeldPacketsOfAFailClosedClient)
{
    FailClosed();
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    Sleep();
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(PowerTest, GoingToSleepDropsFragmentsThatWaitForTheirFirst)
{
    EXPECT_TRUE(network_.Outbound(Fragment(MakePacket(UdpV4(), false, Payload(40)), 24, 24)).absorbed());
    Sleep();
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_EQ(FragmentTableCount(&context()->Fragments), 0u);
}

TEST_F(PowerTest, FilteringContinuesAfterASleep)
{
    const ByteVector datagram = MakePacket(UdpV4());

    EXPECT_TRUE(network_.Outbound(datagram).absorbed());
    const uint64_t before = client_.ReadQuestion().id;
    Sleep();
    network_.TakeInjected();
    EXPECT_TRUE(network_.Outbound(datagram).absorbed()) << "reported again";
    const uint64_t after = client_.ReadQuestion().id;
    EXPECT_GT(after, before);
    client_.Verdict(before, VerdictAccept);
    EXPECT_TRUE(network_.TakeInjected().empty()) << "the fail policy has already decided it";
    client_.Verdict(after, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

TEST_F(PowerTest, TheClientFindsTheSleepInTheLog)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    Sleep();
    EXPECT_THAT(client_.GetLogs(), testing::Contains(testing::HasSubstr("sleep")));
}

TEST_F(PowerTest, WakingReauthorizesEveryFlow)
{
    Sleep();
    EXPECT_TRUE(network_.TakeReauthorized().empty());
    Wake();
    EXPECT_FALSE(network_.TakeReauthorized().empty());
}

TEST_F(PowerTest, NotificationsMayComeAtDispatchLevel)
{
    KIRQL irql;

    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    Sleep();
    Wake();
    KeLowerIrql(irql);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_FALSE(network_.TakeReauthorized().empty());
}

TEST_F(PowerTest, OtherPowerChangesAreIgnored)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    for (uintptr_t what = 0; what < PO_CB_SYSTEM_STATE_LOCK; what++)
    {
        Notify(what, 0);
        Notify(what, 1);
    }
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
    EXPECT_TRUE(network_.TakeReauthorized().empty());
}

TEST_F(PowerTest, WithoutAClientNothingHappens)
{
    client_.Close();
    network_.TakeReauthorized();
    Sleep();
    Wake();
    EXPECT_TRUE(network_.TakeReauthorized().empty());
}

TEST_F(PowerTest, WithoutTheCallbackObjectTheDriverWorks)
{
    client_.Close();
    Unload();
    size_t loads_without_it = 0;
    uint64_t failures = 1;
    for (uint64_t failing = 0; failures != 0; failing++)
    {
        machine_.faults().FailNth(failing);
        const NTSTATUS status = driver_.Load();
        failures = machine_.faults().failures();
        machine_.faults().Stop();
        if (NT_SUCCESS(status) && context()->PowerRegistration == nullptr)
        {
            loads_without_it++;
            Client client(machine_);
            EXPECT_EQ(client.Open(), STATUS_SUCCESS);
            EXPECT_TRUE(network_.Connect(Flow{}).pended());
            client.Close();
        }
        Unload();
    }
    EXPECT_EQ(loads_without_it, 2u) << "opening the object fails, or registering with it fails";
}

} // namespace
} // namespace kext_test

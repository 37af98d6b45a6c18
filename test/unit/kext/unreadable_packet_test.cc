// Packets whose data cannot be read: mapping or copying it may fail on Windows.
#include "support/driver_test.h"

#include "nt/fault_injection.h"

namespace
{

using namespace kext_test;

class UnreadablePacketTest : public DriverTest
{
  protected:
    void FailClosed()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_FAIL_CLOSED;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    // The data of an inbound packet starts after its IP header: the driver must first retreat to it.
    Network::Answer InboundWithoutItsHeader()
    {
        machine_.faults().FailNthAccess(0);
        const Network::Answer answer = network_.Inbound(echo_);

        EXPECT_EQ(machine_.faults().failures(), 1u);
        machine_.faults().Stop();
        return answer;
    }

    const ByteVector echo_ = MakePacket({PROTOCOL_ICMP, UdpV4().local, UdpV4().remote, 0}, true);
};

TEST_F(UnreadablePacketTest, FailingOpenAPacketWhoseHeaderIsOutOfReachIsPermittedAndCounted)
{
    EXPECT_TRUE(InboundWithoutItsHeader().permitted());
    EXPECT_EQ(client_.GetStatistics().PacketsPermitted, 1u);
    EXPECT_EQ(client_.GetStatistics().EventsLost, 1u);
}

TEST_F(UnreadablePacketTest, FailingClosedAPacketWhoseHeaderIsOutOfReachIsBlockedAndCounted)
{
    FailClosed();
    EXPECT_TRUE(InboundWithoutItsHeader().blocked());
    EXPECT_EQ(client_.GetStatistics().PacketsBlocked, 1u);
    EXPECT_EQ(client_.GetStatistics().EventsLost, 1u);
}

// A list has one blocked and two permitted packets: the permitted ones can only pass as copies.
// In each run another call fails.
TEST_F(UnreadablePacketTest, APermittedPacketOfAMixedListIsInjectedOrCountedAsLost)
{
    const auto port = [](uint16_t number)
    {
        Flow flow = UdpV4();

        flow.local.port = number;
        return flow;
    };
    unsigned runs = 0;

    Decide(port(1), VerdictPermanentBlock);
    Decide(port(2), VerdictPermanentAccept);
    for (;; runs++)
    {
        const Statistics before = client_.GetStatistics();

        machine_.faults().FailNthAccess(runs);
        const Network::Answer answer = network_.Inbound(std::vector<std::vector<ByteVector>>{
            {MakePacket(port(2), true), MakePacket(port(1), true), MakePacket(port(2), true)}});
        const uint64_t failures = machine_.faults().failures();
        machine_.faults().Stop();
        const size_t injected = network_.TakeInjected().size();
        const Statistics now = client_.GetStatistics();

        EXPECT_EQ(now.PacketsPermitted + now.PacketsBlocked - before.PacketsPermitted - before.PacketsBlocked, 3u)
            << "run " << runs;
        if (!answer.permitted())
        {
            EXPECT_EQ(now.PacketsPermitted - before.PacketsPermitted,
                      injected + now.InjectFailures - before.InjectFailures)
                << "run " << runs;
        }
        if (failures == 0)
        {
            break;
        }
    }
    EXPECT_GT(runs, 5u);
}

} // namespace

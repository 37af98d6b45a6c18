#include "support/driver_test.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <utility>

namespace kext_test
{
namespace
{

class StreamTest : public DriverTest
{
  protected:
    // Returns the transmitted and received bytes of the only reported entry. `type` gets its record type.
    std::pair<uint64_t, uint64_t> Report(uint8_t *type = nullptr)
    {
        client_.Command(CommandGetBandwidthStats);

        const std::vector<Record> records = client_.Read();
        if (records.empty())
        {
            return {0, 0};
        }
        EXPECT_EQ(records.size(), 1u);
        EXPECT_EQ(records[0].At<uint32_t>(1), 1u);
        if (type != nullptr)
        {
            *type = records[0].type;
        }
        const size_t counters = 5 + (records[0].type == InfoBandwidthStatsV6 ? 36 : 12);
        return {records[0].At<uint64_t>(counters), records[0].At<uint64_t>(counters + 8)};
    }
};

// Runs a flow from its start to its end. Returns the driver's answers and its records,
// without bandwidth records and without ids.
std::vector<ByteVector> LifeOf(const Flow &flow, Client &client, Network &network, bool counted)
{
    const ByteVector first = MakePacket(flow);
    std::vector<ByteVector> seen;
    const auto answer = [&seen](const Network::Answer &given)
    { seen.push_back({given.permitted(), given.blocked(), given.absorbed(), given.pended()}); };
    const auto count = [&]
    {
        if (counted && flow.protocol == PROTOCOL_TCP)
        {
            network.Stream(flow, false, 1000);
            network.Stream(flow, true, 1000);
        }
        else if (counted)
        {
            network.Datagrams(flow, false, {{MakePacket(flow)}});
            network.Datagrams(flow, true, {{MakePacket(flow, true)}});
        }
    };

    client.Command(CommandClearCache);
    count();
    answer(network.Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &first, {}));
    count();
    for (const uint8_t verdict : {VerdictAccept, VerdictBlock, VerdictPermanentAccept})
    {
        answer(network.Outbound(first));
        count();
        for (Record &record : client.Read())
        {
            const uint64_t id = record.At<uint64_t>(0);

            std::fill_n(record.body.begin(), sizeof(id), uint8_t{0});
            seen.push_back(record.body);
            client.Verdict(id, verdict);
        }
        count();
        for (const Injected &injected : network.TakeInjected())
        {
            seen.push_back(injected.bytes);
        }
    }
    answer(network.Outbound(first));
    answer(network.Inbound(MakePacket(flow, true)));
    network.Close(flow);
    count();
    for (const Record &record : client.Read())
    {
        seen.push_back(record.body);
    }
    return seen;
}

TEST_F(StreamTest, WithoutTheBandwidthCalloutsNothingElseChanges)
{
    for (const Flow &flow : {Flow{}, TcpV6(), UdpV4(), UdpV6()})
    {
        const std::vector<ByteVector> without = LifeOf(flow, client_, network_, false);

        EXPECT_GT(without.size(), 8u);
        EXPECT_EQ(LifeOf(flow, client_, network_, true), without);
    }
}

TEST_F(StreamTest, CountsTcpPayloadByDirection)
{
    for (const Flow &flow : {Flow{}, TcpV6()})
    {
        uint8_t type = 0;

        network_.Stream(flow, false, 1000);
        network_.Stream(flow, false, 500);
        network_.Stream(flow, true, 70);
        EXPECT_EQ(Report(&type), std::make_pair(uint64_t{1500}, uint64_t{70}));
        EXPECT_EQ(type, flow.family() == 6 ? InfoBandwidthStatsV6 : InfoBandwidthStatsV4);
    }
}

TEST_F(StreamTest, CountsTheBytesOfAConnectionThatIsOlderThanTheFilter)
{
    for (const Flow &flow : {Flow{}, TcpV6()})
    {
        network_.Stream(flow, false, 1000, true);
        network_.Stream(flow, true, 70, true);
        EXPECT_EQ(Report(), std::make_pair(uint64_t{1000}, uint64_t{70}));
    }
}

TEST_F(StreamTest, CountsUdpPayloadWithoutItsHeaderInBothDirections)
{
    for (const Flow &flow : {UdpV4(), UdpV6()})
    {
        network_.Datagrams(flow, false, {{MakePacket(flow, false, Payload(100))}});
        network_.Datagrams(flow, true, {{MakePacket(flow, true, Payload(30))}});
        EXPECT_EQ(Report(), std::make_pair(uint64_t{100}, uint64_t{30}));
    }
}

TEST_F(StreamTest, CountsEveryBufferOfEveryListOfAChain)
{
    const auto packet = [](size_t length) { return MakePacket(UdpV4(), false, Payload(length)); };

    network_.Datagrams(UdpV4(), false, {{packet(1), packet(20)}, {packet(300)}});
    EXPECT_EQ(Report(), std::make_pair(uint64_t{321}, uint64_t{0}));
}

TEST_F(StreamTest, CountsADatagramOnceAlthoughItsInjectionIsIndicatedAgain)
{
    for (const Flow &flow : {UdpV4(), UdpV6()})
    {
        const ByteVector packet = MakePacket(flow, false, Payload(100));

        Decide(flow, VerdictAccept);
        network_.Datagrams(flow, false, {{packet}});
        EXPECT_TRUE(network_.Outbound(packet).absorbed());
        client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
        EXPECT_EQ(network_.TakeInjected().size(), 1u);
        EXPECT_EQ(Report(), std::make_pair(uint64_t{100}, uint64_t{0}));
    }
}

TEST_F(StreamTest, CountsNothingForOtherProtocolsAndEmptySegments)
{
    Flow icmp = UdpV4();
    icmp.protocol = PROTOCOL_ICMP;

    network_.Datagrams(icmp, false, {{MakePacket(UdpV4())}});
    network_.Stream(Flow{}, true, 0);
    client_.Command(CommandGetBandwidthStats);
    EXPECT_TRUE(client_.Read().empty());
}

TEST_F(StreamTest, StartsFromZeroAfterEachReport)
{
    network_.Stream(Flow{}, false, 10);
    EXPECT_EQ(Report().first, 10u);
    network_.Stream(Flow{}, false, 3);
    EXPECT_EQ(Report().first, 3u);
    EXPECT_EQ(Report().first, 0u);
}

TEST_F(StreamTest, CountsOnlyForTheClientThatIsAttached)
{
    Client second(machine_);

    network_.Stream(Flow{}, false, 10);
    client_.Close();
    network_.Stream(Flow{}, false, 20);
    ASSERT_EQ(second.Open(), STATUS_SUCCESS);
    second.Command(CommandGetBandwidthStats);
    EXPECT_TRUE(second.Read().empty());
}

TEST_F(StreamTest, BytesThatCannotBeCountedAreLoggedOnceASecond)
{
    network_.FailNth(0, true);
    for (uint16_t port = 1; port <= 100; port++)
    {
        Flow flow;

        flow.local.port = port;
        network_.Stream(flow, false, 10);
    }
    network_.StopFailing();
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("could not be counted")));
    EXPECT_EQ(client_.GetStatistics().BandwidthEntries, 0u);
}

} // namespace
} // namespace kext_test

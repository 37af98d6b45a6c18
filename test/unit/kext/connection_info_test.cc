// What a client of extension 2 learns of the start and the end of a connection, if it asks for it.
#include "support/driver_test.h"

#include "nt/clock.h"
#include "nt/irql.h"
#include "nt/processes.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

using std::chrono::minutes;
using testing::ElementsAre;

class ConnectionInfoTest : public DriverTest
{
  protected:
    void SetUp() override { WantInfo(OPTION_FLAG_EXTENDED_RECORDS | OPTION_FLAG_CONNECTION_INFO); }

    void WantInfo(uint32_t flags)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = flags;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    // The records that can be read now, of all types but ProcessInfo.
    std::vector<Record> Records()
    {
        std::vector<Record> records = client_.Read();

        records.erase(std::remove_if(records.begin(), records.end(),
                                     [](const Record &record) { return record.type == InfoProcessInfo; }),
                      records.end());
        return records;
    }

    // The reasons of the connections that ended. Each ConnectionEnded comes right before its ConnectionEnd.
    std::vector<unsigned> EndReasons()
    {
        const std::vector<Record> records = Records();
        std::vector<unsigned> reasons;

        for (size_t i = 0; i < records.size(); i += 2)
        {
            EXPECT_EQ(records[i].type, InfoConnectionEnded);
            EXPECT_EQ(records.at(i + 1).type, InfoConnectionEndV4);
            reasons.push_back(records[i].At<uint8_t>(41));
        }
        return reasons;
    }

    // Connects and is decided. The records are read.
    void Live(const Flow &flow)
    {
        network_.Connect(flow);
        client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    }
};

TEST_F(ConnectionInfoTest, AnAuthorizationIsAskedAboutWithItsInterfaceAndCompartment)
{
    network_.Connect(Flow{});
    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoConnectionInfo);
    EXPECT_EQ(records[1].type, InfoConnectionV4);
    EXPECT_EQ(records[0].At<uint64_t>(0), records[1].At<uint64_t>(0)) << "the same id";
    EXPECT_EQ(records[0].At<uint32_t>(24), 0u);
    EXPECT_EQ(records[0].At<uint32_t>(32), static_cast<uint32_t>(Classifier::kCompartment));
}

TEST_F(ConnectionInfoTest, APacketIsAskedAboutWithItsInterfaceAndWhetherItIsAskedAgain)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].At<uint32_t>(24), 0u);
    EXPECT_EQ(records[0].At<uint32_t>(28), static_cast<uint32_t>(Classifier::kInterface));
    client_.Verdict(records[1].At<uint64_t>(0), VerdictAccept);

    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].At<uint32_t>(24), CONNECTION_INFO_ASKED_AGAIN);
}

TEST_F(ConnectionInfoTest, TheStartOfItsProcessIsNamedWhereItCanBeAsked)
{
    const uint64_t start = machine_.clock().SystemTime();
    const auto ask = [this](const Flow &flow, KIRQL level)
    {
        {
            const sim::nt::IrqlScope irql(level);

            network_.Connect(flow);
        }
        return Records().at(0).At<uint64_t>(16);
    };
    Flow flow = UdpV4();

    EXPECT_EQ(ask(flow, PASSIVE_LEVEL), 0u) << "no such process runs";
    machine_.processes().Start(flow.process_id);
    Advance(minutes(1));
    flow.local.port++;
    EXPECT_EQ(ask(flow, PASSIVE_LEVEL), start);
    flow.local.port++;
    EXPECT_EQ(ask(flow, DISPATCH_LEVEL), 0u) << "a process cannot be found at this level";
}

TEST_F(ConnectionInfoTest, LoopbackIsNamed)
{
    AleOptions options;

    options.loopback = true;
    network_.Connect(Flow{}, nullptr, options);
    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].At<uint32_t>(24), CONNECTION_INFO_LOOPBACK);
}

TEST_F(ConnectionInfoTest, AnEndShowsTheLastQuestionTheBytesAndTheVerdict)
{
    network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;
    client_.Verdict(id, VerdictPermanentAccept);
    network_.Stream(Flow{}, false, 100);
    client_.Command(CommandGetBandwidthStats);
    network_.Stream(Flow{}, true, 7);
    client_.Read();
    network_.Close(Flow{});

    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoConnectionEnded);
    EXPECT_EQ(records[0].At<uint64_t>(0), id);
    EXPECT_LE(records[0].At<uint64_t>(8), records[0].At<uint64_t>(16));
    EXPECT_EQ(records[0].At<uint64_t>(24), 100u);
    EXPECT_EQ(records[0].At<uint64_t>(32), 7u);
    EXPECT_EQ(records[0].At<uint8_t>(40), VerdictPermanentAccept);
    EXPECT_EQ(records[0].At<uint8_t>(41), EndReasonClosed);
    EXPECT_EQ(records[1].type, InfoConnectionEndV4);
}

TEST_F(ConnectionInfoTest, AReleasedPortIsAReason)
{
    const Flow flow = UdpV4();

    network_.Outbound(MakePacket(flow));
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    network_.Release(flow.protocol, flow.local);
    EXPECT_THAT(EndReasons(), ElementsAre(+EndReasonPortReleased));
}

TEST_F(ConnectionInfoTest, AnIdleConnectionThatIsRemovedEnds)
{
    network_.Outbound(MakePacket(UdpV4()));
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    Advance(minutes(11));
    client_.Command(CommandCleanEndedConnections);
    std::vector<Record> records = Records();
    ASSERT_GE(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoConnectionEnded);
    EXPECT_EQ(records[0].At<uint8_t>(41), EndReasonIdle);
    EXPECT_EQ(records[1].type, InfoConnectionEndV4);
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_F(ConnectionInfoTest, ClearingTheCacheEndsWhatWasReportedAndIsNotHeld)
{
    Flow flow;

    for (uint16_t port = 1; port <= 30; port++)
    {
        flow.local.port = port;
        Live(flow);
    }
    flow.local.port = 31;
    network_.Connect(flow);
    client_.ReadQuestion();
    flow.local.port = 1;
    network_.Close(flow);
    client_.Read();
    client_.Command(CommandClearCache);

    std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u * 29 + 1) << "and the end of the reply";
    for (size_t i = 0; i + 1 < records.size(); i += 2)
    {
        EXPECT_EQ(records[i].type, InfoConnectionEnded);
        EXPECT_EQ(records[i].At<uint8_t>(41), EndReasonCleared);
        EXPECT_EQ(records[i].At<uint8_t>(40), VerdictPermanentAccept);
        EXPECT_EQ(records[i + 1].type, InfoConnectionEndV4);
    }
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
}

TEST_F(ConnectionInfoTest, OtherClientsLearnNothingOfRemovedConnections)
{
    WantInfo(OPTION_FLAG_EXTENDED_RECORDS);
    Live(Flow{});
    Advance(minutes(11));
    client_.Command(CommandCleanEndedConnections);
    client_.Command(CommandClearCache);
    for (const Record &record : Records())
    {
        EXPECT_EQ(record.type, InfoReplyEnd);
    }
}

} // namespace
} // namespace kext_test

#include "support/commands.h"
#include "support/driver_test.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <set>
#include <utility>

namespace kext_test
{
namespace
{

using CommandTest = DriverTest;

ByteVector Concatenate(std::initializer_list<ByteVector> parts)
{
    ByteVector all;

    for (const ByteVector &part : parts)
    {
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

TEST_F(CommandTest, CarriesOutSeveralCommandsOfOneWrite)
{
    Flow first;
    Flow second;
    second.local.port++;

    const Network::Answer one = network_.Connect(first);
    const Network::Answer two = network_.Connect(second);
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 2u);

    const ByteVector bytes = Concatenate({VerdictBytes(questions[0].id, VerdictPermanentAccept),
                                          VerdictBytes(questions[1].id, VerdictPermanentBlock),
                                          {CommandPrintMemoryStats}});
    const sim::nt::IoResult result = client_.Write(bytes);
    EXPECT_EQ(result.status, STATUS_SUCCESS);
    EXPECT_EQ(result.information, bytes.size());
    EXPECT_EQ(one.completed(), 1);
    EXPECT_EQ(two.completed(), 1);
}

TEST_F(CommandTest, RefusesAnEmptyWrite)
{
    const sim::nt::IoResult result = client_.Write({});

    EXPECT_EQ(result.status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(result.information, 0u);
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("empty")));
}

TEST_F(CommandTest, RefusesEveryUnknownCommand)
{
    for (int command = CommandCount; command <= 0xFF; command++)
    {
        EXPECT_EQ(client_.Command(static_cast<uint8_t>(command)).status, STATUS_INVALID_PARAMETER);
    }
    EXPECT_EQ(client_.GetStatistics().CommandsRejected, 256u - CommandCount);
}

TEST_F(CommandTest, RefusesEveryTruncatedBody)
{
    for (const ByteVector &whole :
         {VerdictBytes(1, VerdictAccept), UpdateBytes(Flow{}, VerdictAccept), UpdateBytes(TcpV6(), VerdictAccept)})
    {
        for (size_t length = 1; length < whole.size(); length++)
        {
            const sim::nt::IoResult result =
                client_.Write(ByteVector(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)));

            EXPECT_EQ(result.status, STATUS_INVALID_PARAMETER) << "length " << length;
            EXPECT_EQ(result.information, 0u);
        }
    }
}

TEST_F(CommandTest, AStreamThatIsCutAnywhereIsCarriedOutUpToItsLastWholeCommand)
{
    const std::vector<ByteVector> commands = {VerdictBytes(1, VerdictAccept),     {CommandClearCache},
                                              UpdateBytes(Flow{}, VerdictAccept), {CommandPrintMemoryStats},
                                              {CommandGetBandwidthStats},         UpdateBytes(TcpV6(), VerdictBlock)};
    ByteVector stream;
    std::set<size_t> ends = {0};

    for (const ByteVector &command : commands)
    {
        stream.insert(stream.end(), command.begin(), command.end());
        ends.insert(stream.size());
    }
    ASSERT_GE(stream.size(), 64u);
    for (size_t length = 0; length <= 64; length++)
    {
        const sim::nt::IoResult result =
            client_.Write(ByteVector(stream.begin(), stream.begin() + static_cast<ptrdiff_t>(length)));
        const size_t whole = *std::prev(ends.upper_bound(length));

        EXPECT_EQ(result.information, whole) << "length " << length;
        EXPECT_EQ(result.status, whole == length && length != 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER)
            << "length " << length;
    }
}

// The driver carries out a part of the write and refuses the rest, and keeps running.
TEST_F(CommandTest, AWriteOfAnyBytesOfAnyLengthIsRefusedOrCarriedOut)
{
    std::mt19937 random(1);

    for (int round = 0; round < 100; round++)
    {
        for (size_t length = 0; length <= 64; length++)
        {
            ByteVector bytes(length);

            // Half of the bytes are small numbers: commands.
            std::generate(bytes.begin(), bytes.end(), [&random]
                          { return static_cast<uint8_t>(random() % 2 != 0 ? random() : random() % CommandCount); });
            const sim::nt::IoResult result = client_.Write(bytes);
            EXPECT_LE(result.information, length);
            EXPECT_EQ(result.status,
                      length != 0 && result.information == length ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER);
        }
        client_.Close();
        ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    }
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
}

TEST_F(CommandTest, RefusesVerdictsThatDoNotExist)
{
    network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    for (int verdict = VerdictCount; verdict <= 0xFF; verdict++)
    {
        EXPECT_EQ(client_.Verdict(id, static_cast<uint8_t>(verdict)).status, STATUS_INVALID_PARAMETER);
        EXPECT_EQ(client_.Write(UpdateBytes(Flow{}, static_cast<uint8_t>(verdict))).status, STATUS_INVALID_PARAMETER);
        EXPECT_EQ(client_.Write(UpdateBytes(TcpV6(), static_cast<uint8_t>(verdict))).status, STATUS_INVALID_PARAMETER);
    }
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
}

TEST_F(CommandTest, ReportsTheBytesCarriedOutBeforeTheFirstInvalidCommand)
{
    const Network::Answer connect = network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;
    const sim::nt::IoResult result = client_.Write(Concatenate(
        {VerdictBytes(id, VerdictPermanentAccept), {CommandCleanEndedConnections}, {0x77}, {CommandShutdown}}));

    EXPECT_EQ(result.status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(result.information, 11u);
    EXPECT_EQ(connect.completed(), 1);
    Flow another;
    another.local.port++;
    EXPECT_TRUE(network_.Connect(another).pended()) << "the shutdown after it was not carried out";
    client_.Read();
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("byte 11")));
}

TEST_F(CommandTest, RefusesMoreCommandsThanOneWriteMayHold)
{
    const ByteVector most(PROTOCOL_MAX_COMMANDS_PER_WRITE, CommandGetLogs);
    ByteVector more = most;

    more.push_back(CommandGetLogs);
    EXPECT_EQ(client_.Write(most).status, STATUS_SUCCESS);
    const sim::nt::IoResult result = client_.Write(more);
    EXPECT_EQ(result.status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(result.information, most.size());
}

TEST_F(CommandTest, AVerdictOnAnUnknownIdIsCountedAndLoggedButNoError)
{
    const sim::nt::IoResult result = client_.Verdict(77, VerdictAccept);

    EXPECT_EQ(result.status, STATUS_SUCCESS);
    EXPECT_EQ(result.information, 10u);
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("77")));
}

TEST_F(CommandTest, ASecondVerdictOnOneIdIsUnknown)
{
    const Network::Answer connect = network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    client_.Verdict(id, VerdictPermanentAccept);
    client_.Verdict(id, VerdictPermanentBlock);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
}

class UpdateTest : public DriverTest, public testing::WithParamInterface<int>
{
  protected:
    Flow flow() const { return GetParam() == 6 ? TcpV6() : Flow{}; }
};

TEST_P(UpdateTest, ChangesTheVerdictOfALiveConnection)
{
    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).permitted());

    EXPECT_EQ(client_.Write(UpdateBytes(flow(), VerdictPermanentBlock)).status, STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).blocked());
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);
}

TEST_P(UpdateTest, IgnoresAndCountsAnUnknownConnection)
{
    EXPECT_EQ(client_.Write(UpdateBytes(flow(), VerdictPermanentBlock)).status, STATUS_SUCCESS);
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
    EXPECT_TRUE(network_.TakeReauthorized().empty());
}

INSTANTIATE_TEST_SUITE_P(BothVersions, UpdateTest, testing::Values(4, 6));

TEST_F(CommandTest, AWriteOfManyVerdictsReauthorizesOnce)
{
    ByteVector updates;
    Flow flow;

    for (int i = 0; i < 10; i++)
    {
        flow.local.port++;
        Decide(flow, VerdictPermanentAccept);
        const ByteVector update = UpdateBytes(flow, VerdictPermanentBlock);
        updates.insert(updates.end(), update.begin(), update.end());
    }
    EXPECT_EQ(client_.Write(updates).status, STATUS_SUCCESS);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u) << "one for each resettable layer";
}

TEST_F(CommandTest, ClearCacheForgetsAllConnectionsAndReauthorizes)
{
    Decide(Flow{}, VerdictPermanentAccept);
    EXPECT_EQ(client_.Command(CommandClearCache).status, STATUS_SUCCESS);
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);

    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u) << "reported like a new connection";
}

TEST_F(CommandTest, AVerdictOnAnOperationThatWasHeldBeforeClearCacheStillDecidesIt)
{
    const Network::Answer connect = network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    client_.Command(CommandClearCache);
    client_.Verdict(id, VerdictPermanentAccept);
    EXPECT_EQ(connect.completed(), 1);
    AleOptions again;
    again.reauthorize = true;
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, again).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(CommandTest, GetLogsQueuesTheLinesOldestFirst)
{
    client_.Verdict(41, VerdictAccept);
    client_.Verdict(42, VerdictAccept);
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("41"), testing::HasSubstr("42")));
    EXPECT_TRUE(client_.GetLogs().empty()) << "each line is reported once";
}

TEST_F(CommandTest, GetLogsReportsTheSeverity)
{
    client_.Verdict(41, VerdictAccept);
    client_.Command(0xFF);
    client_.Command(CommandGetLogs);

    const std::vector<Record> lines = client_.ReadType(InfoLogLine);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0].At<uint8_t>(0), LogSeverityWarning);
    EXPECT_EQ(lines[1].At<uint8_t>(0), LogSeverityError);
}

TEST_F(CommandTest, TheLogLevelChangesAtRunTime)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    const std::pair<uint8_t, size_t> expected[] = {
        {LogSeverityError, 0}, {LogSeverityWarning, 1}, {LogSeverityCritical, 0}};

    for (const auto &[level, lines] : expected)
    {
        options.LogLevel = level;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
        client_.Verdict(41, VerdictAccept);
        EXPECT_EQ(client_.GetLogs().size(), lines) << int{level};
    }
}

TEST_F(CommandTest, TheLogReportsOverwrittenLines)
{
    for (uint64_t id = 0; id < LOG_LINE_COUNT + 10; id++)
    {
        client_.Verdict(1000000 + id, VerdictAccept);
    }
    EXPECT_LE(client_.GetLogs().size(), static_cast<size_t>(LOG_LINE_COUNT));
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("overwritten")));
}

TEST_F(CommandTest, LogLinesThatDoNotFitAreKeptAndNotLost)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.MaxQueuedBytes = OPTIONS_LEAST_MAX_QUEUED_BYTES;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4(), false, Payload(60000))).absorbed()) << "fills the queue";
    constexpr uint64_t kLines = 200;
    for (uint64_t id = 0; id < kLines; id++)
    {
        client_.Verdict(1000000 + id, VerdictAccept);
    }

    size_t told = 0;
    for (std::vector<std::string> lines = client_.GetLogs(); !lines.empty(); lines = client_.GetLogs())
    {
        told += lines.size();
    }
    EXPECT_EQ(told, kLines);
    EXPECT_EQ(client_.GetStatistics().EventsLost, 0u);
}

TEST_F(CommandTest, PrintMemoryStatsLogsEntriesAndBytesOfEveryCache)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.LogLevel = LogSeverityInfo;
    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    client_.SetOptions(options);
    AleOptions ale;
    ale.process_path = u"\\device\\harddiskvolume1\\app.exe";
    Flow second;
    second.local.port++;
    network_.Connect(Flow{}, nullptr, ale);
    EXPECT_EQ(client_.ReadQuestions().size(), 1u) << "and its process";
    network_.Connect(second, nullptr, ale);
    network_.Stream(second, false, 1);
    EXPECT_EQ(client_.Command(CommandPrintMemoryStats).status, STATUS_SUCCESS);

    const std::vector<std::string> lines = client_.GetLogs();
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("connections: 2 entries, [1-9][0-9]* bytes")));
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("held packets: 2 entries, [1-9][0-9]* bytes")));
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("fragments: 0 entries, [1-9][0-9]* bytes")));
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("bandwidth: 1 entries, [1-9][0-9]* bytes")));
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("reported processes: 1 entries, [1-9][0-9]* bytes")));
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("event queue: 1 entries, [1-9][0-9]* bytes")));
    EXPECT_THAT(lines, testing::Contains(testing::ContainsRegex("pool: [1-9][0-9]* bytes now")));
}

TEST_F(CommandTest, PrintMemoryStatsLogsAtLevelWarningToo)
{
    EXPECT_EQ(client_.Command(CommandPrintMemoryStats).status, STATUS_SUCCESS);
    EXPECT_EQ(client_.Command(CommandGetLogs).status, STATUS_SUCCESS);

    const std::vector<Record> lines = client_.ReadType(InfoLogLine);
    ASSERT_FALSE(lines.empty());
    for (const Record &line : lines)
    {
        EXPECT_EQ(line.At<uint8_t>(0), LogSeverityInfo);
    }
}

TEST_F(CommandTest, PrintMemoryStatsLogsRefusedInjections)
{
    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kFail, STATUS_FWP_TCPIP_NOT_READY});
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    client_.Command(CommandPrintMemoryStats);
    EXPECT_THAT(client_.GetLogs(),
                testing::Contains(testing::ContainsRegex("refused injections: 1 entries, [1-9][0-9]* bytes")));

    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kDeferred, STATUS_SUCCESS});
    Advance(std::chrono::seconds(1));
    client_.Command(CommandPrintMemoryStats);
    EXPECT_THAT(client_.GetLogs(), testing::Contains(testing::HasSubstr("refused injections: 0 entries, 0 bytes")));
}

TEST_F(CommandTest, CleanEndedConnectionsRemovesThemAMinuteAfterTheirEnd)
{
    Decide(Flow{}, VerdictPermanentAccept);
    network_.Close(Flow{});
    EXPECT_EQ(client_.Command(CommandCleanEndedConnections).status, STATUS_SUCCESS);
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
    Advance(std::chrono::seconds(62));
    EXPECT_EQ(client_.Command(CommandCleanEndedConnections).status, STATUS_SUCCESS);
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_F(CommandTest, EndedConnectionsAreRemovedWithoutTheCommandToo)
{
    Decide(Flow{}, VerdictPermanentAccept);
    network_.Close(Flow{});
    Advance(std::chrono::seconds(60));
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
    Advance(std::chrono::seconds(10));
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_F(CommandTest, IdleConnectionsAreRemovedAfterTenMinutes)
{
    Decide(Flow{}, VerdictPermanentAccept);
    Advance(std::chrono::seconds(600));
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
    Advance(std::chrono::seconds(10));
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_F(CommandTest, ABaseClientGetsNoReplyEnd)
{
    client_.Command(CommandGetLogs);
    EXPECT_TRUE(client_.Read().empty());
}

TEST_F(CommandTest, AnExtendedClientGetsAReplyEndAfterEachReply)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    client_.SetOptions(options);
    client_.Verdict(41, VerdictAccept);
    client_.Write({CommandGetLogs, CommandGetLogs, CommandGetBandwidthStats});

    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 4u);
    EXPECT_EQ(records[0].type, InfoLogLine);
    const std::pair<uint8_t, uint64_t> expected[] = {
        {CommandGetLogs, 1}, {CommandGetLogs, 2}, {CommandGetBandwidthStats, 1}};
    for (size_t i = 0; i < 3; i++)
    {
        EXPECT_EQ(records[i + 1].type, InfoReplyEnd);
        EXPECT_EQ(records[i + 1].At<uint8_t>(0), expected[i].first);
        EXPECT_EQ(records[i + 1].At<uint64_t>(1), expected[i].second);
    }
}

TEST_F(CommandTest, ShutdownStopsFiltering)
{
    Decide(Flow{}, VerdictPermanentBlock);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).blocked());
    EXPECT_EQ(client_.Command(CommandShutdown).status, STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
    EXPECT_TRUE(network_.Connect(UdpV4()).permitted());
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);
}

TEST_F(CommandTest, CommandsAfterAShutdownInOneWriteAreHarmless)
{
    EXPECT_EQ(client_
                  .Write({CommandShutdown, CommandShutdown, CommandClearCache, CommandGetLogs, CommandGetBandwidthStats,
                          CommandPrintMemoryStats, CommandCleanEndedConnections})
                  .status,
              STATUS_SUCCESS);
}

TEST_F(CommandTest, GetBandwidthStatsReportsCountedBytes)
{
    network_.Stream(Flow{}, false, 100);
    network_.Stream(Flow{}, true, 40);
    client_.Command(CommandGetBandwidthStats);

    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].type, InfoBandwidthStatsV4);
    EXPECT_EQ(records[0].At<uint8_t>(0), PROTOCOL_TCP);
    EXPECT_EQ(records[0].At<uint32_t>(1), 1u);
    EXPECT_EQ(records[0].At<uint64_t>(5 + 12), 100u);
    EXPECT_EQ(records[0].At<uint64_t>(5 + 20), 40u);
}

} // namespace
} // namespace kext_test

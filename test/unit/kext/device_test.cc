#include "support/async_read.h"
#include "support/driver_test.h"
#include "support/wire_records.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace kext_test
{
namespace
{

using DeviceTest = DriverTest;

constexpr size_t kReadLength = 4096;

TEST_F(DeviceTest, RefusesASecondClient)
{
    Client second(machine_);

    EXPECT_EQ(second.Open(), STATUS_DEVICE_ALREADY_ATTACHED);
}

TEST_F(DeviceTest, TakesTheNextClientOnceTheFirstHasClosed)
{
    Client second(machine_);

    client_.Close();
    EXPECT_EQ(second.Open(), STATUS_SUCCESS);
}

TEST_F(DeviceTest, ARefusedOpenDoesNotDisturbTheAttachedClient)
{
    Client second(machine_);

    EXPECT_EQ(second.Open(), STATUS_DEVICE_ALREADY_ATTACHED);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    EXPECT_EQ(client_.ReadQuestion().process_id, 1234u);
}

// Another driver may send requests without a file object.
TEST_F(DeviceTest, ARequestWithoutAFileBelongsToNoClientWhileNoneIsAttached)
{
    client_.Close();
    EXPECT_EQ(ClientEnterRequest(&context()->Client, nullptr), nullptr);
}

TEST_F(DeviceTest, AReadOfAnExtendedClientPendsUntilThereIsARecord)
{
    ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS);
    client_.StopObserving();
    AsyncRead read;

    read.Start(machine_.io(), client_.file(), kReadLength);
    EXPECT_FALSE(read.done);
    network_.Connect(Flow{});
    machine_.Run();
    ASSERT_TRUE(read.done);
    EXPECT_EQ(read.status, STATUS_SUCCESS);
    EXPECT_EQ(read.information, sizeof(CONNECTION_V4_WIRE));
}

TEST_F(DeviceTest, ARecordLargerThanTheReadBufferArrivesInPieces)
{
    client_.StopObserving();
    const ByteVector packet = MakePacket(UdpV4(), false, Payload(1500 - 28));

    ASSERT_EQ(packet.size(), 1500u);
    for (uint32_t size : {1u, 5u, 6u, 1024u, 65'536u})
    {
        ByteVector stream;

        EXPECT_TRUE(network_.Outbound(packet).absorbed());
        while (stream.size() < sizeof(CONNECTION_V4_WIRE) + packet.size())
        {
            ByteVector buffer(size);
            const sim::nt::IoResult read = machine_.io().ReadAndWait(client_.file(), buffer.data(), size);

            ASSERT_EQ(read.status, STATUS_SUCCESS);
            ASSERT_GT(read.information, 0u);
            stream.insert(stream.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(read.information));
        }

        const std::vector<Record> records = AllRecords(stream);
        ASSERT_EQ(records.size(), 1u) << size;
        EXPECT_EQ(ParseQuestion(records[0]).payload, packet);
    }
}

// Compares a session with every kind of event byte for byte. A base client gets no extended record.
TEST_F(DeviceTest, ABaseClientGetsExactlyTheBaseProtocol)
{
    const ByteVector addresses = {192, 0, 2, 1, 198, 51, 100, 7};
    const ByteVector process = {0xD2, 0x04, 0, 0, 0, 0, 0, 0};
    const ByteVector ports = {0x50, 0xC3, 0xBB, 0x01};
    AleOptions ale;
    ByteVector expected;
    const auto expect = [&expected](const ByteVector &bytes)
    { expected.insert(expected.end(), bytes.begin(), bytes.end()); };

    ale.process_path = u"\\device\\harddiskvolume1\\app.exe";
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, ale).pended());
    expect({InfoConnectionV4, 35, 0, 0, 0});
    expect({1, 0, 0, 0, 0, 0, 0, 0});
    expect(process);
    expect({DirectionOutbound, PROTOCOL_TCP});
    expect(addresses);
    expect(ports);
    expect({PROTOCOL_PAYLOAD_TRANSPORT_LAYER, 0, 0, 0, 0});

    client_.Verdict(1, VerdictPermanentAccept);
    network_.Stream(Flow{}, false, 0x0102);
    client_.Command(CommandGetBandwidthStats);
    expect({InfoBandwidthStatsV4, 33, 0, 0, 0});
    expect({PROTOCOL_TCP, 1, 0, 0, 0});
    expect({192, 0, 2, 1, 0x50, 0xC3, 198, 51, 100, 7, 0xBB, 0x01});
    expect({0x02, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});

    network_.Close(Flow{});
    expect({InfoConnectionEndV4, 22, 0, 0, 0});
    expect(process);
    expect({DirectionOutbound, PROTOCOL_TCP});
    expect(addresses);
    expect(ports);

    client_.Command(CommandGetLogs);
    EXPECT_EQ(client_.ReadBytes(), expected);
}

TEST_F(DeviceTest, ClosingCancelsPendingReads)
{
    ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS);
    AsyncRead reads[3];

    for (AsyncRead &read : reads)
    {
        read.Start(machine_.io(), client_.file(), kReadLength);
    }
    client_.Close();
    for (AsyncRead &read : reads)
    {
        EXPECT_TRUE(read.done);
        EXPECT_EQ(read.status, STATUS_CANCELLED);
        EXPECT_EQ(read.information, 0u);
    }
}

TEST_F(DeviceTest, AfterShutdownReadsGetTheRestAndThenEndOfFile)
{
    NTSTATUS status = STATUS_SUCCESS;

    network_.Connect(Flow{});
    EXPECT_EQ(client_.Command(CommandShutdown).status, STATUS_SUCCESS);
    EXPECT_EQ(AllRecords(client_.ReadBytes(&status)).size(), 1u);
    EXPECT_EQ(status, STATUS_END_OF_FILE);
}

TEST_F(DeviceTest, ShutdownEndsReadsThatArePending)
{
    ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS);
    AsyncRead read;

    read.Start(machine_.io(), client_.file(), kReadLength);
    EXPECT_EQ(client_.Command(CommandShutdown).status, STATUS_SUCCESS);
    machine_.Run();
    EXPECT_TRUE(read.done);
    EXPECT_EQ(read.status, STATUS_END_OF_FILE);
}

TEST_F(DeviceTest, TheShutdownRequestDoesWhatTheCommandDoes)
{
    ByteVector out;
    const Network::Answer connect = network_.Connect(Flow{});

    EXPECT_EQ(client_.Control(IOCTL_NETVERDICT_SHUTDOWN_REQUEST, {}, &out).status, STATUS_SUCCESS);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_TRUE(network_.Connect(UdpV4()).permitted());
}

TEST_F(DeviceTest, AClientThatAttachesAfterAShutdownFiltersAgain)
{
    Client second(machine_);

    client_.Command(CommandShutdown);
    client_.Close();
    ASSERT_EQ(second.Open(), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    EXPECT_EQ(second.ReadQuestions().size(), 1u);
}

TEST_F(DeviceTest, ReportsItsVersion)
{
    ByteVector out(4);

    EXPECT_EQ(client_.Control(IOCTL_NETVERDICT_VERSION, {}, &out).status, STATUS_SUCCESS);
    EXPECT_EQ(out.size(), 4u);
    EXPECT_EQ(out[0], 2);
    EXPECT_EQ(out[1], 1);
}

TEST_F(DeviceTest, RefusesABufferTooSmallForItsVersion)
{
    ByteVector out(3);

    EXPECT_EQ(client_.Control(IOCTL_NETVERDICT_VERSION, {}, &out).status, STATUS_BUFFER_TOO_SMALL);
}

TEST_F(DeviceTest, ReportsItsCapabilities)
{
    CAPABILITIES_WIRE capabilities{};
    ByteVector out(sizeof(capabilities));

    EXPECT_EQ(client_.Control(IOCTL_NETVERDICT_GET_CAPABILITIES, {}, &out).status, STATUS_SUCCESS);
    ASSERT_EQ(out.size(), sizeof(capabilities));
    std::memcpy(&capabilities, out.data(), sizeof(capabilities));
    EXPECT_EQ(capabilities.StructSize, sizeof(capabilities));
    EXPECT_EQ(capabilities.ProtocolExtension, 2u);
    EXPECT_EQ(capabilities.FeatureBits & FEATURE_MAX_CONNECTIONS, FEATURE_MAX_CONNECTIONS);
    EXPECT_EQ(capabilities.FeatureBits & FEATURE_STALL, FEATURE_STALL);
    EXPECT_EQ(capabilities.MaxCommandsPerWrite, static_cast<uint32_t>(PROTOCOL_MAX_COMMANDS_PER_WRITE));
}

TEST_F(DeviceTest, CapabilitiesAndStatisticsFitShorterAndLongerBuffers)
{
    for (uint32_t code : {IOCTL_NETVERDICT_GET_CAPABILITIES, IOCTL_NETVERDICT_GET_STATISTICS})
    {
        ByteVector tooSmall(3);
        ByteVector shorter(8);
        ByteVector longer(1000);

        EXPECT_EQ(client_.Control(code, {}, &tooSmall).status, STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(client_.Control(code, {}, &shorter).status, STATUS_SUCCESS);
        EXPECT_EQ(shorter.size(), 8u);
        EXPECT_EQ(client_.Control(code, {}, &longer).status, STATUS_SUCCESS);
        EXPECT_LT(longer.size(), 1000u);
        EXPECT_TRUE(std::equal(shorter.begin(), shorter.begin() + 4, longer.begin()));
    }
}

TEST_F(DeviceTest, WritesNoByteBeyondWhatTheCallerKnows)
{
    for (size_t length = 0; length <= sizeof(STATISTICS_WIRE) + 8; length++)
    {
        std::vector<uint8_t> buffer(length + 1, 0xEE);
        const sim::nt::IoResult result = machine_.io().DeviceControlAndWait(
            client_.file(), IOCTL_NETVERDICT_GET_STATISTICS, nullptr, 0, buffer.data(), length);

        if (length < sizeof(UINT32))
        {
            EXPECT_EQ(result.status, STATUS_BUFFER_TOO_SMALL);
            EXPECT_EQ(result.information, 0u);
            EXPECT_EQ(buffer[0], 0xEE);
        }
        else
        {
            EXPECT_EQ(result.status, STATUS_SUCCESS);
            EXPECT_EQ(result.information, std::min<size_t>(length, sizeof(STATISTICS_WIRE)));
        }
        EXPECT_EQ(buffer[result.information], 0xEE);
    }
}

TEST_F(DeviceTest, ReportsWhatItsPartsCountNow)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());

    const Statistics statistics = client_.GetStatistics();
    EXPECT_EQ(statistics.PacketsHeld, 2u);
    EXPECT_EQ(statistics.Connections, 2u);
    EXPECT_EQ(statistics.BandwidthEntries, 0u);
}

TEST_F(DeviceTest, RefusesUnknownControlCodes)
{
    ByteVector out(64);

    EXPECT_EQ(client_.Control(PROTOCOL_IOCTL(0x802), {}, &out).status, STATUS_INVALID_DEVICE_REQUEST);
    EXPECT_EQ(client_.Control(PROTOCOL_IOCTL(0x816), {}, &out).status, STATUS_INVALID_DEVICE_REQUEST);
}

TEST_F(DeviceTest, RefusesOptionsThatAreCutOffOrOutOfRange)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    ByteVector out;

    EXPECT_EQ(client_.Control(IOCTL_NETVERDICT_SET_OPTIONS, {}, &out).status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(client_.Control(IOCTL_NETVERDICT_SET_OPTIONS, {32, 0, 0, 0, 1}, &out).status, STATUS_INVALID_PARAMETER);
    options.PendingTimeoutMs = 1000;
    options.TimeoutVerdict = VerdictUndeterminable;
    EXPECT_EQ(client_.SetOptions(options), STATUS_INVALID_PARAMETER);
}

TEST_F(DeviceTest, OptionsAreForgottenWhenTheClientDetaches)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    Client second(machine_);

    options.PayloadLimit = 0;
    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    client_.Close();
    ASSERT_EQ(second.Open(), STATUS_SUCCESS);

    const ByteVector packet = MakePacket(UdpV4());
    AleOptions ale;
    ale.process_path = u"\\device\\a.exe";
    network_.Connect(UdpV4(), &packet, ale);

    std::vector<Record> records = second.Read();
    ASSERT_EQ(records.size(), 1u) << "a base client gets no process record";
    EXPECT_FALSE(ParseQuestion(records[0]).payload.empty());
}

TEST_F(DeviceTest, ThePayloadLimitCutsThePayloadOfRecords)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.PayloadLimit = 5;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());

    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.payload.size(), 5u);
    client_.Verdict(question.id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, MakePacket(UdpV4())) << "the packet itself stays whole";
}

TEST_F(DeviceTest, AnExtendedClientGetsEachProcessOnceBeforeItsFirstConnection)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    AleOptions ale;
    Flow flow;

    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    ale.process_path = u"\\device\\harddiskvolume1\\app.exe";
    network_.Connect(flow, nullptr, ale);
    flow.local.port++;
    network_.Connect(flow, nullptr, ale);

    std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 3u);
    EXPECT_EQ(records[0].type, InfoProcessInfo);
    EXPECT_EQ(records[0].At<uint64_t>(0), 1234u);
    EXPECT_EQ(records[0].body.size(), 8 + ale.process_path.size() * 2);
    EXPECT_EQ(records[1].type, InfoConnectionV4);
    EXPECT_EQ(records[2].type, InfoConnectionV4);
}

TEST_F(DeviceTest, WithoutAClientEverythingIsPermitted)
{
    client_.Close();
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
    EXPECT_TRUE(network_.Inbound(MakePacket(Flow{}, true)).permitted());
}

TEST_F(DeviceTest, AFailClosedClientLeavesEverythingBlockedUntilTheNextAttaches)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    const ByteVector packet = MakePacket(UdpV4());
    Client second(machine_);

    options.Flags = OPTION_FLAG_FAIL_CLOSED;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    client_.Close();
    EXPECT_TRUE(network_.Connect(Flow{}).blocked());
    EXPECT_TRUE(network_.Accept(UdpV4(), &packet).blocked());
    EXPECT_TRUE(network_.Outbound(packet).blocked());
    EXPECT_TRUE(network_.Inbound(MakePacket(Flow{}, true)).blocked());

    ASSERT_EQ(second.Open(), STATUS_SUCCESS);
    second.Close();
    EXPECT_TRUE(network_.Connect(Flow{}).permitted()) << "the second client set no options";
}

TEST_F(DeviceTest, AttachingAndDetachingReauthorizeEveryFlow)
{
    client_.Close();
    EXPECT_THAT(network_.TakeReauthorized(),
                testing::UnorderedElementsAre(FWPS_LAYER_ALE_AUTH_CONNECT_V4, FWPS_LAYER_ALE_AUTH_CONNECT_V6,
                                              FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4, FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6));
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    const std::vector<uint16_t> reauthorized = network_.TakeReauthorized();
    EXPECT_EQ(std::set<uint16_t>(reauthorized.begin(), reauthorized.end()).size(), 4u);
}

TEST_F(DeviceTest, AnswersStatisticsOfEachKind)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).permitted());
    network_.Datagrams(UdpV4(), false, {{MakePacket(UdpV4())}});

    const Statistics statistics = client_.GetStatistics();
    EXPECT_EQ(statistics.EventsQueued, 1u);
    EXPECT_EQ(statistics.EventsDelivered, 1u);
    EXPECT_EQ(statistics.VerdictsApplied, 1u);
    EXPECT_EQ(statistics.Connections, 1u);
    EXPECT_EQ(statistics.BandwidthEntries, 1u);
    EXPECT_EQ(statistics.PacketsHeld, 0u);
    EXPECT_EQ(statistics.PacketsInjected, 1u);
    EXPECT_EQ(statistics.PacketsPermitted, 1u);
    EXPECT_GT(statistics.PoolBytes, 0u);
    EXPECT_GE(statistics.PoolBytesPeak, statistics.PoolBytes);
}

} // namespace
} // namespace kext_test

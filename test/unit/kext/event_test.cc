#include "event.h"

#include "connection_keys.h"
#include "kext_test.h"
#include "queue_device.h"

namespace
{

using kext_test::AllRecords;
using kext_test::KeyV4;
using kext_test::KeyV6;
using kext_test::QueueDevice;
using kext_test::Record;

class EventTest : public kext_test::KextTest
{
  protected:
    EventTest() : device_(std::make_unique<QueueDevice>(machine_, &memory_))
    {
        EventsInitialize(&events_, &memory_, device_->queue());
    }

    ~EventTest() override
    {
        EventsUninitialize(&events_);
        device_.reset();
    }

    std::vector<uint8_t> Stream() { return device_->ReadAll(1 << 20); }
    std::vector<Record> Records() { return AllRecords(Stream()); }

    NTSTATUS Process(UINT64 id, const std::u16string &path)
    {
        return EventProcessInfo(&events_, nullptr, id, reinterpret_cast<const WCHAR *>(path.data()),
                                static_cast<UINT32>(path.size() * 2));
    }

    NTSTATUS Timeout(UINT64 id, UINT8 cause = TimeoutCauseTime)
    {
        CONNECTION connection = {};

        connection.Key = KeyV4(1);
        connection.State.Verdict = VerdictPermanentBlock;
        return EventConnectionTimeout(&events_, id, &connection, cause);
    }

    std::unique_ptr<QueueDevice> device_;
    EVENTS events_;
};

CONNECTION_KEY ExampleV4()
{
    CONNECTION_KEY key = {};

    memcpy(key.LocalAddress, "\x0A\x01\x02\x03", 4);
    memcpy(key.RemoteAddress, "\xC0\xA8\x00\x01", 4);
    key.LocalPort = 0x1234;
    key.RemotePort = 443;
    key.Protocol = PROTOCOL_TCP;
    key.IpVersion = 4;
    return key;
}

CONNECTION_KEY ExampleV6()
{
    CONNECTION_KEY key = {};

    for (uint8_t i = 0; i < 16; i++)
    {
        key.LocalAddress[i] = static_cast<uint8_t>(0xA0 + i);
        key.RemoteAddress[i] = static_cast<uint8_t>(0xB0 + i);
    }
    key.LocalPort = 53;
    key.RemotePort = 0xABCD;
    key.Protocol = PROTOCOL_UDP;
    key.IpVersion = 6;
    return key;
}

TEST_F(EventTest, EncodesConnectionV4ByteForByte)
{
    const CONNECTION_KEY key = ExampleV4();

    ASSERT_EQ(EventConnection(&events_, 0x0102030405060708, &key, 0x1112131415161718, DirectionInbound,
                              PROTOCOL_PAYLOAD_TRANSPORT_LAYER, "abc", 3, nullptr, nullptr),
              STATUS_SUCCESS);
    EXPECT_EQ(Stream(), (std::vector<uint8_t>{1,    38,   0,    0,    0,                                  //
                                              0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,             //
                                              0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,             //
                                              1,    6,    0x0A, 0x01, 0x02, 0x03, 0xC0, 0xA8, 0x00, 0x01, //
                                              0x34, 0x12, 0xBB, 0x01, 4,    3,    0,    0,    0,    'a',  //
                                              'b',  'c'}));
}

TEST_F(EventTest, EncodesConnectionV6ByteForByte)
{
    const CONNECTION_KEY key = ExampleV6();
    std::vector<uint8_t> expected = {2, 59, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 17};

    expected.insert(expected.end(), key.LocalAddress, key.LocalAddress + 16);
    expected.insert(expected.end(), key.RemoteAddress, key.RemoteAddress + 16);
    for (uint8_t byte : {53, 0, 0xCD, 0xAB, 3, 0, 0, 0, 0})
    {
        expected.push_back(byte);
    }
    ASSERT_EQ(EventConnection(&events_, 9, &key, 4, DirectionOutbound, PROTOCOL_PAYLOAD_NETWORK_LAYER, nullptr, 0,
                              nullptr, nullptr),
              STATUS_SUCCESS);
    EXPECT_EQ(Stream(), expected);
}

TEST_F(EventTest, EncodesConnectionEndsByteForByte)
{
    CONNECTION connection = {};
    std::vector<uint8_t> expected = {4, 46, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 17};

    connection.Key = ExampleV4();
    connection.State.ProcessId = 7;
    connection.State.Direction = DirectionInbound;
    ASSERT_EQ(EventConnectionEnd(&events_, &connection, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(Stream(),
              (std::vector<uint8_t>{3, 22,   0,    0,    0,    7,    0,    0,    0,    0,    0,    0,    0,   1,
                                    6, 0x0A, 0x01, 0x02, 0x03, 0xC0, 0xA8, 0x00, 0x01, 0x34, 0x12, 0xBB, 0x01}));

    connection.Key = ExampleV6();
    connection.State.Direction = DirectionOutbound;
    expected.insert(expected.end(), connection.Key.LocalAddress, connection.Key.LocalAddress + 16);
    expected.insert(expected.end(), connection.Key.RemoteAddress, connection.Key.RemoteAddress + 16);
    for (uint8_t byte : {53, 0, 0xCD, 0xAB})
    {
        expected.push_back(byte);
    }
    ASSERT_EQ(EventConnectionEnd(&events_, &connection, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(Stream(), expected);
}

TEST_F(EventTest, CutsThePayloadToTheLimit)
{
    const std::vector<uint8_t> payload(5000, 0x77);
    const CONNECTION_KEY key = ExampleV4();

    for (UINT32 limit : {0u, 1u, 128u, 4999u, 5000u, 5001u, 0xFFFFFFFFu})
    {
        const UINT32 expected = std::min(limit, 5000u);
        UINT32 reported;

        EventsSetOptions(&events_, FALSE, limit);
        ASSERT_EQ(EventConnection(&events_, 1, &key, 0, 0, PROTOCOL_PAYLOAD_NETWORK_LAYER, payload.data(), 5000,
                                  nullptr, nullptr),
                  STATUS_SUCCESS);
        const std::vector<Record> records = Records();
        ASSERT_EQ(records.size(), 1u);
        ASSERT_EQ(records[0].body.size(), 35 + expected);
        memcpy(&reported, &records[0].body[31], 4);
        EXPECT_EQ(reported, expected);
    }
}

TEST_F(EventTest, APayloadBeyondARecordsGreatestLengthIsRefused)
{
    const CONNECTION_KEY key = ExampleV4();
    const uint8_t byte = 0;

    EXPECT_EQ(
        EventConnection(&events_, 1, &key, 0, 0, PROTOCOL_PAYLOAD_NETWORK_LAYER, &byte, 0xFFFFFFFF, nullptr, nullptr),
        STATUS_INVALID_PARAMETER);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(EventTest, EncodesLogLines)
{
    ASSERT_EQ(EventLogLine(&events_, LogSeverityError, "f.c:1 text", 10), STATUS_SUCCESS);
    ASSERT_EQ(EventLogLine(&events_, LogSeverityInfo, "", 0), STATUS_SUCCESS);
    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoLogLine);
    EXPECT_EQ(records[0].body, kext_test::Bytes("\x05"
                                                "f.c:1 text"));
    EXPECT_EQ(records[1].body, (std::vector<uint8_t>{3}));
}

TEST_F(EventTest, ABaseClientGetsNoExtendedRecords)
{
    EXPECT_EQ(EventReplyEnd(&events_, CommandGetLogs, 1), STATUS_SUCCESS);
    EXPECT_EQ(Timeout(1), STATUS_SUCCESS);
    EXPECT_EQ(Process(1, u"a.exe"), STATUS_SUCCESS);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(EventTest, EncodesTheExtendedRecords)
{
    EventsSetOptions(&events_, TRUE, 0);
    ASSERT_EQ(EventReplyEnd(&events_, CommandGetBandwidthStats, 0x1122), STATUS_SUCCESS);
    EXPECT_EQ(Stream(), (std::vector<uint8_t>{65, 9, 0, 0, 0, 6, 0x22, 0x11, 0, 0, 0, 0, 0, 0}));
    ASSERT_EQ(Timeout(0x3344), STATUS_SUCCESS);
    EXPECT_EQ(Stream(), (std::vector<uint8_t>{67, 8, 0, 0, 0, 0x44, 0x33, 0, 0, 0, 0, 0, 0}));
    ASSERT_EQ(Process(5, u"\\a"), STATUS_SUCCESS);
    EXPECT_EQ(Stream(), (std::vector<uint8_t>{66, 12, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, '\\', 0, 'a', 0}));
}

TEST_F(EventTest, OnlyExtension2TellsOfOtherCausesThanTime)
{
    EventsSetOptions(&events_, 1, 0);
    EXPECT_EQ(Timeout(7, TimeoutCauseStall), STATUS_SUCCESS);
    EXPECT_EQ(Timeout(0, TimeoutCauseLimit), STATUS_SUCCESS);
    EXPECT_EQ(EventClientStalled(&events_, 1, 2), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 0u);
    EventsSetOptions(&events_, 2, 0);
    EXPECT_EQ(Timeout(7, TimeoutCauseStall), STATUS_SUCCESS);
    EXPECT_EQ(Timeout(0, TimeoutCauseLimit), STATUS_SUCCESS);
    EXPECT_EQ(EventClientStalled(&events_, 1, 2), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 3u);
}

TEST_F(EventTest, AnInfoComesRightBeforeItsConnectionForAClientThatWantsIt)
{
    const CONNECTION_KEY key = ExampleV4();
    EVENT_DETAILS details = {12, 1, TRUE, TRUE, nullptr, nullptr, 0};
    const auto ask = [&]
    {
        EXPECT_EQ(EventConnection(&events_, 7, &key, 4, DirectionOutbound, PROTOCOL_PAYLOAD_NETWORK_LAYER, "abc", 3,
                                  &details, nullptr),
                  STATUS_SUCCESS);
        return Records();
    };

    EXPECT_EQ(ask().size(), 1u) << "a base client";
    EventsSetOptions(&events_, 1, 100);
    EventsSetConnectionInfo(&events_, TRUE);
    EXPECT_EQ(ask().size(), 1u) << "a client of extension 1";
    EventsSetOptions(&events_, 2, 100);
    EXPECT_EQ(ask().size(), 1u) << "it has not asked for it";
    EventsSetConnectionInfo(&events_, TRUE);

    const std::vector<Record> records = ask();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoConnectionInfo);
    EXPECT_EQ(records[0].At<uint64_t>(0), 7u);
    EXPECT_EQ(records[0].At<uint32_t>(24), CONNECTION_INFO_LOOPBACK | CONNECTION_INFO_ASKED_AGAIN);
    EXPECT_EQ(records[0].At<uint32_t>(28), 12u);
    EXPECT_EQ(records[0].At<uint32_t>(32), 1u);
    EXPECT_EQ(records[1].type, InfoConnectionV4);
    EXPECT_EQ(records[1].body.size(), 35u + 3);
    EXPECT_EQ(device_->Statistic(StatisticEventsQueued), 5u);
}

TEST_F(EventTest, AnInfoNamesMulticastAndBroadcastByTheDestination)
{
    CONNECTION_KEY key = ExampleV4();
    const EVENT_DETAILS details = {};
    const auto flags = [&](uint8_t direction)
    {
        EXPECT_EQ(EventConnection(&events_, 7, &key, 4, direction, PROTOCOL_PAYLOAD_NETWORK_LAYER, nullptr, 0, &details,
                                  nullptr),
                  STATUS_SUCCESS);
        return Records().at(0).At<uint32_t>(24);
    };

    EventsSetOptions(&events_, 2, 0);
    EventsSetConnectionInfo(&events_, TRUE);
    memcpy(key.RemoteAddress, "\xE0\x00\x00\xFB", 4);
    EXPECT_EQ(flags(DirectionOutbound), CONNECTION_INFO_MULTICAST);
    EXPECT_EQ(flags(DirectionInbound), 0u);
    memcpy(key.LocalAddress, "\xFF\xFF\xFF\xFF", 4);
    EXPECT_EQ(flags(DirectionInbound), CONNECTION_INFO_BROADCAST);
    key = ExampleV6();
    key.RemoteAddress[0] = 0xFF;
    EXPECT_EQ(flags(DirectionOutbound), CONNECTION_INFO_MULTICAST);
}

TEST_F(EventTest, AnInfoAndItsConnectionAreQueuedBothOrNone)
{
    const CONNECTION_KEY key = ExampleV4();
    const EVENT_DETAILS details = {};
    const std::vector<uint8_t> payload(1024 - 40);

    EventsSetOptions(&events_, 2, 0xFFFFFFFF);
    EventsSetConnectionInfo(&events_, TRUE);
    IoQueueSetOptions(device_->queue(), 1024, 0);
    const auto ask = [&](const EVENT_DETAILS *given)
    {
        return EventConnection(&events_, 7, &key, 4, DirectionOutbound, PROTOCOL_PAYLOAD_NETWORK_LAYER, payload.data(),
                               static_cast<UINT32>(payload.size()), given, nullptr);
    };
    EXPECT_EQ(ask(&details), STATUS_BUFFER_OVERFLOW);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 1u) << "a unit counts once";
    EXPECT_EQ(ask(nullptr), STATUS_SUCCESS) << "alone it fits";
}

TEST_F(EventTest, AnEndedComesRightBeforeItsEndForAClientThatWantsIt)
{
    CONNECTION connection = {};

    connection.Key = ExampleV6();
    connection.State.Verdict = VerdictPermanentDrop;
    connection.Life.Question = 9;
    connection.Life.StartTime = 10;
    connection.Life.TransmittedBytes = 11;
    connection.Life.ReceivedBytes = 12;
    connection.Life.EndReason = EndReasonPortReleased;
    EventsSetOptions(&events_, 2, 0);
    EXPECT_FALSE(EventWantsConnectionInfo(&events_));
    EventsSetConnectionInfo(&events_, TRUE);
    EXPECT_TRUE(EventWantsConnectionInfo(&events_));
    EXPECT_EQ(EventConnectionEnd(&events_, &connection, nullptr), STATUS_SUCCESS);

    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoConnectionEnded);
    EXPECT_EQ(records[0].At<uint64_t>(0), 9u);
    EXPECT_EQ(records[0].At<uint64_t>(8), 10u);
    EXPECT_GT(records[0].At<uint64_t>(16), 10u);
    EXPECT_EQ(records[0].At<uint64_t>(24), 11u);
    EXPECT_EQ(records[0].At<uint64_t>(32), 12u);
    EXPECT_EQ(records[0].At<uint8_t>(40), VerdictPermanentDrop);
    EXPECT_EQ(records[0].At<uint8_t>(41), EndReasonPortReleased);
    EXPECT_EQ(records[1].type, InfoConnectionEndV6);
}

// The gate sees the connection as it is when its record is queued.
TEST_F(EventTest, RecordsShowWhatTheirGateLetsPass)
{
    struct Shown
    {
        CONNECTION connection;
        EVENT_DETAILS details = {};
        unsigned settled;

        static BOOLEAN Pass(VOID *context)
        {
            auto *shown = static_cast<Shown *>(context);

            shown->details.AskedAgain = TRUE;
            shown->connection.State.ProcessId = 99;
            shown->connection.State.Verdict = VerdictPermanentBlock;
            shown->connection.Life.Question = 41;
            shown->connection.Life.EndReason = EndReasonIdle;
            return TRUE;
        }

        static VOID Settled(VOID *context, NTSTATUS status)
        {
            EXPECT_EQ(status, STATUS_SUCCESS);
            static_cast<Shown *>(context)->settled++;
        }
    } shown = {};
    KSPIN_LOCK lock;
    const IO_QUEUE_GATE gate = {&lock, Shown::Pass, Shown::Settled, &shown};
    const CONNECTION_KEY key = ExampleV4();

    KeInitializeSpinLock(&lock);
    shown.connection.Key = key;
    EventsSetOptions(&events_, 2, 0);
    EventsSetConnectionInfo(&events_, TRUE);
    EXPECT_EQ(EventConnection(&events_, 7, &key, 4, DirectionOutbound, PROTOCOL_PAYLOAD_NETWORK_LAYER, nullptr, 0,
                              &shown.details, &gate),
              STATUS_SUCCESS);
    EXPECT_EQ(EventConnectionEnd(&events_, &shown.connection, &gate), STATUS_SUCCESS);
    EXPECT_EQ(shown.settled, 2u);

    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 4u);
    EXPECT_EQ(records[0].At<uint32_t>(24), CONNECTION_INFO_ASKED_AGAIN);
    EXPECT_EQ(records[2].At<uint64_t>(0), 41u);
    EXPECT_EQ(records[2].At<uint8_t>(40), VerdictPermanentBlock);
    EXPECT_EQ(records[2].At<uint8_t>(41), EndReasonIdle);
    EXPECT_EQ(records[3].At<uint64_t>(0), 99u);
}

// What was decided without a question is counted by its own reason, and may not crowd questions out.
TEST_F(EventTest, RecordsWithoutAQuestionLeaveHalfOfTheQueueToQuestions)
{
    size_t pushed = 0;

    EventsSetOptions(&events_, 2, 0);
    IoQueueSetOptions(device_->queue(), 4096, 2);
    while (NT_SUCCESS(Timeout(0, TimeoutCauseLimit)))
    {
        ASSERT_LT(pushed++, 4096u);
    }
    EXPECT_GT(IoQueueBytes(device_->queue()), 2048u);
    EXPECT_LT(IoQueueBytes(device_->queue()), 2048u + 100);
    EXPECT_EQ(Timeout(1), STATUS_SUCCESS);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 0u);
    EXPECT_EQ(Records().size(), pushed + 1);
}

TEST_F(EventTest, ReportsAProcessOnceAndAgainWhenItsPathChanges)
{
    EventsSetOptions(&events_, TRUE, 0);
    for (unsigned i = 0; i < 3; i++)
    {
        ASSERT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
        ASSERT_EQ(Process(6, u"a.exe"), STATUS_SUCCESS);
    }
    EXPECT_EQ(Records().size(), 2u);
    ASSERT_EQ(Process(5, u"b.exe"), STATUS_SUCCESS);
    ASSERT_EQ(Process(5, u"b.exe"), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 1u);
    ASSERT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 1u);
}

TEST_F(EventTest, ReportsAProcessToEachNewClient)
{
    EventsSetOptions(&events_, TRUE, 0);
    ASSERT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 1u);
    EventsReset(&events_);
    ASSERT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 0u) << "it is a base client until it asks for more";
    EventsSetOptions(&events_, TRUE, 0);
    ASSERT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
    EXPECT_EQ(Records().size(), 1u);
}

TEST_F(EventTest, LeavesTheTerminatorOfAPathOut)
{
    EventsSetOptions(&events_, TRUE, 0);
    ASSERT_EQ(Process(5, std::u16string(u"a.exe\0\0", 7)), STATUS_SUCCESS);
    ASSERT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 1u) << "with and without terminator it is the same path";
    EXPECT_EQ(records[0].body.size(), 8u + 10);
}

TEST_F(EventTest, CopesWithOddMissingAndEndlessPaths)
{
    EventsSetOptions(&events_, TRUE, 0);
    EXPECT_EQ(EventProcessInfo(&events_, nullptr, 1, nullptr, 0), STATUS_SUCCESS);
    EXPECT_EQ(EventProcessInfo(&events_, nullptr, 2, nullptr, 100), STATUS_SUCCESS);
    EXPECT_EQ(EventProcessInfo(&events_, nullptr, 3, reinterpret_cast<const WCHAR *>(u"ab"), 3), STATUS_SUCCESS);
    EXPECT_EQ(Process(4, std::u16string(100000, u'x')), STATUS_SUCCESS);
    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 4u);
    EXPECT_EQ(records[0].body.size(), 8u);
    EXPECT_EQ(records[1].body.size(), 8u);
    EXPECT_EQ(records[2].body.size(), 10u);
    EXPECT_EQ(records[3].body.size(), 8u + EVENTS_MAX_PATH_BYTES);
}

TEST_F(EventTest, ReportsAProcessLaterIfTheQueueWasFull)
{
    EventsSetOptions(&events_, TRUE, 0);
    IoQueueSetOptions(device_->queue(), 1024, TRUE);
    EXPECT_EQ(Process(5, std::u16string(1000, u'x')), STATUS_BUFFER_OVERFLOW);
    IoQueueSetOptions(device_->queue(), 1 << 20, TRUE);
    EXPECT_EQ(Process(5, std::u16string(1000, u'x')), STATUS_SUCCESS);
    const std::vector<Record> records = Records();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoEventsLost);
    EXPECT_EQ(records[1].type, InfoProcessInfo);
}

TEST_F(EventTest, RemembersThousandsOfProcessesInBoundedMemory)
{
    EventsSetOptions(&events_, TRUE, 0);
    const UINT64 before = MemoryBytes(&memory_);
    for (UINT64 id = 4; id < 4 * 1000; id += 4)
    {
        ASSERT_EQ(Process(id, u"a.exe"), STATUS_SUCCESS);
    }
    EXPECT_EQ(Records().size(), 999u);
    for (UINT64 id = 4; id < 4 * 1000; id += 4)
    {
        ASSERT_EQ(Process(id, u"a.exe"), STATUS_SUCCESS);
    }
    EXPECT_LE(Records().size(), 10u) << "few sets are full";
    for (UINT64 id = 0; id < 50000; id++)
    {
        ASSERT_EQ(Process(id, u"b.exe"), STATUS_SUCCESS);
        if (id % 1000 == 0)
        {
            Records();
        }
    }
    Records();
    EXPECT_EQ(MemoryBytes(&memory_), before);
}

TEST_F(EventTest, ReportsEveryProcessEveryTimeWithoutMemory)
{
    EVENTS events;

    machine_.faults().FailAll();
    EventsInitialize(&events, &memory_, device_->queue());
    machine_.faults().Stop();
    EventsSetOptions(&events, TRUE, 0);
    for (unsigned i = 0; i < 3; i++)
    {
        ASSERT_EQ(EventProcessInfo(&events, nullptr, 5, reinterpret_cast<const WCHAR *>(u"ab"), 4), STATUS_SUCCESS);
    }
    EXPECT_EQ(Records().size(), 3u);
    EventsReset(&events);
    EventsUninitialize(&events);
}

TEST_F(EventTest, TheProcessComesBeforeItsFirstConnectionOnEveryProcessor)
{
    EventsSetOptions(&events_, TRUE, 0);
    IoQueueExtend(device_->queue());
    RunThreads(3,
               [&](unsigned thread)
               {
                   for (UINT64 process = 1; process < 300; process++)
                   {
                       const CONNECTION_KEY key = KeyV4(static_cast<uint32_t>(process), static_cast<uint16_t>(thread));
                       EVENT_DETAILS details = {};

                       details.Path = reinterpret_cast<const WCHAR *>(u"a.exe");
                       details.PathBytes = 10;
                       ASSERT_EQ(EventConnection(&events_, 1, &key, process, thread % 2, PROTOCOL_PAYLOAD_NETWORK_LAYER,
                                                 nullptr, 0, &details, nullptr),
                                 STATUS_SUCCESS);
                   }
               });
    std::vector<bool> reported(300);
    for (const Record &record : Records())
    {
        uint64_t process;

        memcpy(&process, &record.body[record.type == InfoProcessInfo ? 0 : 8], 8);
        ASSERT_LT(process, 300u);
        if (record.type == InfoProcessInfo)
        {
            reported[process] = true;
        }
        else
        {
            EXPECT_TRUE(reported[process]);
        }
    }
}

TEST_F(EventTest, WorksAtDispatchLevel)
{
    kext_test::AtDispatchLevel dispatch;
    const CONNECTION_KEY key = ExampleV6();

    EventsReset(&events_);
    EventsSetOptions(&events_, TRUE, 10);
    EXPECT_EQ(Process(5, u"a.exe"), STATUS_SUCCESS);
    EXPECT_EQ(EventConnection(&events_, 1, &key, 0, 0, PROTOCOL_PAYLOAD_NETWORK_LAYER, nullptr, 0, nullptr, nullptr),
              STATUS_SUCCESS);
}

TEST_F(EventTest, ReturnsTheFailureOfTheQueue)
{
    const CONNECTION_KEY key = ExampleV4();

    IoQueueDetach(device_->queue());
    EXPECT_EQ(EventConnection(&events_, 1, &key, 0, 0, PROTOCOL_PAYLOAD_NETWORK_LAYER, nullptr, 0, nullptr, nullptr),
              STATUS_DEVICE_NOT_CONNECTED);
}

} // namespace

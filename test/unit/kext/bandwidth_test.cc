#include "bandwidth.h"

#include "connection_keys.h"
#include "kext_test.h"
#include "queue_device.h"

#include <algorithm>
#include <map>
#include <random>

namespace
{

using kext_test::AllRecords;
using kext_test::KeyV4;
using kext_test::KeyV6;
using kext_test::QueueDevice;
using kext_test::Record;

struct Counters
{
    uint64_t transmitted = 0;
    uint64_t received = 0;

    bool operator==(const Counters &other) const
    {
        return transmitted == other.transmitted && received == other.received;
    }
};

const CONNECTION_KEY kKey = KeyV4(1);

using Totals = std::map<CONNECTION_KEY, Counters, kext_test::KeyLess>;

class BandwidthTest : public kext_test::KextTest
{
  protected:
    BandwidthTest() : device_(std::make_unique<QueueDevice>(machine_, &memory_))
    {
        EventsInitialize(&events_, &memory_, device_->queue());
        EXPECT_EQ(LogInitialize(&log_, &memory_), STATUS_SUCCESS);
        EXPECT_EQ(BandwidthInitialize(&bandwidth_, &memory_, &log_, 1 << 20), STATUS_SUCCESS);
    }

    ~BandwidthTest() override
    {
        BandwidthUninitialize(&bandwidth_);
        LogUninitialize(&log_);
        EventsUninitialize(&events_);
        device_.reset();
    }

    NTSTATUS Add(const CONNECTION_KEY &key, UINT64 transmitted, UINT64 received)
    {
        return BandwidthAdd(&bandwidth_, &key, transmitted, received);
    }

    std::vector<Record> Report(NTSTATUS expected = STATUS_SUCCESS)
    {
        EXPECT_EQ(BandwidthReport(&bandwidth_, &events_), expected);
        return AllRecords(device_->ReadAll(1 << 20));
    }

    // Adds the entries of a record to the totals; each entry may be there once in a report.
    static void Decode(const Record &record, Totals *totals)
    {
        const bool v4 = record.type == InfoBandwidthStatsV4;
        const size_t entrySize = v4 ? 28 : 52;
        const size_t addressSize = v4 ? 4 : 16;
        uint32_t count;

        ASSERT_TRUE(v4 || record.type == InfoBandwidthStatsV6);
        ASSERT_GE(record.body.size(), 5u);
        memcpy(&count, &record.body[1], 4);
        ASSERT_EQ(record.body.size(), 5 + count * entrySize);
        ASSERT_LE(count, static_cast<uint32_t>(PROTOCOL_MAX_BANDWIDTH_ENTRIES));
        for (size_t i = 0; i < count; i++)
        {
            const uint8_t *entry = &record.body[5 + i * entrySize];
            CONNECTION_KEY key = {};
            Counters counters;

            key.Protocol = record.body[0];
            key.IpVersion = v4 ? 4 : 6;
            memcpy(key.LocalAddress, entry, addressSize);
            memcpy(&key.LocalPort, entry + addressSize, 2);
            memcpy(key.RemoteAddress, entry + addressSize + 2, addressSize);
            memcpy(&key.RemotePort, entry + 2 * addressSize + 2, 2);
            memcpy(&counters.transmitted, entry + entrySize - 16, 8);
            memcpy(&counters.received, entry + entrySize - 8, 8);
            (*totals)[key].transmitted += counters.transmitted;
            (*totals)[key].received += counters.received;
        }
    }

    static Totals Decode(const std::vector<Record> &records)
    {
        Totals totals;

        for (const Record &record : records)
        {
            Decode(record, &totals);
        }
        return totals;
    }

    std::unique_ptr<QueueDevice> device_;
    EVENTS events_;
    LOG log_;
    BANDWIDTH bandwidth_;
};

TEST_F(BandwidthTest, SumsPerConnectionAndStartsFromZeroAfterAReport)
{
    const CONNECTION_KEY key = KeyV4(1);

    ASSERT_EQ(Add(key, 100, 0), STATUS_SUCCESS);
    ASSERT_EQ(Add(key, 0, 7), STATUS_SUCCESS);
    ASSERT_EQ(Add(key, 11, 1), STATUS_SUCCESS);
    EXPECT_EQ(BandwidthEntries(&bandwidth_), 1u);
    EXPECT_EQ(Decode(Report()), (Totals{{key, {111, 8}}}));
    EXPECT_EQ(BandwidthEntries(&bandwidth_), 0u);
    EXPECT_TRUE(Report().empty());
    ASSERT_EQ(Add(key, 5, 6), STATUS_SUCCESS);
    EXPECT_EQ(Decode(Report()), (Totals{{key, {5, 6}}}));
}

TEST_F(BandwidthTest, EncodesByteForByte)
{
    CONNECTION_KEY key = {};

    memcpy(key.LocalAddress, "\x0A\x01\x02\x03", 4);
    memcpy(key.RemoteAddress, "\xC0\xA8\x00\x01", 4);
    key.LocalPort = 0x1234;
    key.RemotePort = 443;
    key.Protocol = PROTOCOL_UDP;
    key.IpVersion = 4;
    ASSERT_EQ(Add(key, 0x0102030405060708, 9), STATUS_SUCCESS);
    ASSERT_EQ(BandwidthReport(&bandwidth_, &events_), STATUS_SUCCESS);
    EXPECT_EQ(device_->ReadAll(1024),
              (std::vector<uint8_t>{5,    33,   0,    0,    0,    17,   1,    0,    0,    0,    0x0A, 0x01, 0x02,
                                    0x03, 0x34, 0x12, 0xC0, 0xA8, 0x00, 0x01, 0xBB, 0x01, 0x08, 0x07, 0x06, 0x05,
                                    0x04, 0x03, 0x02, 0x01, 9,    0,    0,    0,    0,    0,    0,    0}));
}

TEST_F(BandwidthTest, ReportsTheFamiliesInTheProtocolsOrderAndNoneThatIsEmpty)
{
    ASSERT_EQ(Add(KeyV6(1, 0, PROTOCOL_UDP), 1, 1), STATUS_SUCCESS);
    ASSERT_EQ(Add(KeyV4(1, 0, PROTOCOL_UDP), 1, 1), STATUS_SUCCESS);
    ASSERT_EQ(Add(KeyV6(1), 1, 1), STATUS_SUCCESS);
    ASSERT_EQ(Add(KeyV4(1), 1, 1), STATUS_SUCCESS);
    std::vector<Record> records = Report();
    ASSERT_EQ(records.size(), 4u);
    EXPECT_EQ(records[0].type, InfoBandwidthStatsV4);
    EXPECT_EQ(records[0].body[0], PROTOCOL_TCP);
    EXPECT_EQ(records[1].type, InfoBandwidthStatsV6);
    EXPECT_EQ(records[1].body[0], PROTOCOL_TCP);
    EXPECT_EQ(records[2].type, InfoBandwidthStatsV4);
    EXPECT_EQ(records[2].body[0], PROTOCOL_UDP);
    EXPECT_EQ(records[3].type, InfoBandwidthStatsV6);
    EXPECT_EQ(records[3].body[0], PROTOCOL_UDP);

    ASSERT_EQ(Add(KeyV6(1, 0, PROTOCOL_UDP), 1, 1), STATUS_SUCCESS);
    records = Report();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].type, InfoBandwidthStatsV6);
}

TEST_F(BandwidthTest, RefusesProtocolsThatAreNotReported)
{
    CONNECTION_KEY key = KeyV4(1, 0, PROTOCOL_ICMP);

    EXPECT_EQ(Add(key, 1, 1), STATUS_INVALID_PARAMETER);
    key = KeyV4(1);
    key.IpVersion = 5;
    EXPECT_EQ(Add(key, 1, 1), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(BandwidthEntries(&bandwidth_), 0u);
}

TEST_F(BandwidthTest, SplitsAt4096Entries)
{
    for (uint32_t count : {4095u, 4096u, 4097u, 10000u})
    {
        for (bool v4 : {true, false})
        {
            Totals expected;

            for (uint32_t i = 0; i < count; i++)
            {
                const CONNECTION_KEY key = v4 ? KeyV4(i) : KeyV6(i);

                ASSERT_EQ(Add(key, i, 2ull * i), STATUS_SUCCESS);
                expected[key] = {i, 2ull * i};
            }
            const std::vector<Record> records = Report();
            EXPECT_EQ(records.size(), (count + 4095) / 4096);
            EXPECT_TRUE(Decode(records) == expected);
        }
    }
}

TEST_F(BandwidthTest, CountsBytesByDirection)
{
    BandwidthCount(&bandwidth_, &kKey, TRUE, 100);
    BandwidthCount(&bandwidth_, &kKey, FALSE, 7);
    EXPECT_EQ(Decode(Report()), (Totals{{kKey, {7, 100}}}));
}

TEST_F(BandwidthTest, LogsOnceASecondThatBytesCannotBeCounted)
{
    std::string lines;

    machine_.faults().FailAll();
    BandwidthCount(&bandwidth_, &kKey, TRUE, 1);
    BandwidthCount(&bandwidth_, &kKey, TRUE, 1);
    machine_.faults().Stop();
    LogDrain(
        &log_,
        [](void *context, UINT8, const CHAR *text, UINT32 length) -> BOOLEAN
        {
            static_cast<std::string *>(context)->append(text, length).append("\n");
            return TRUE;
        },
        &lines);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
    EXPECT_NE(lines.find("bytes could not be counted"), std::string::npos) << lines;
}

TEST_F(BandwidthTest, HoldsItsMaximumAndNoMore)
{
    BANDWIDTH bandwidth;
    CONNECTION_KEY key;

    ASSERT_EQ(BandwidthInitialize(&bandwidth, &memory_, &log_, 10), STATUS_SUCCESS);
    for (uint32_t i = 0; i < 10; i++)
    {
        key = KeyV4(i);
        ASSERT_EQ(BandwidthAdd(&bandwidth, &key, 1, 1), STATUS_SUCCESS);
    }
    key = KeyV4(10);
    EXPECT_EQ(BandwidthAdd(&bandwidth, &key, 1, 1), STATUS_QUOTA_EXCEEDED);
    key = KeyV4(3);
    EXPECT_EQ(BandwidthAdd(&bandwidth, &key, 1, 1), STATUS_SUCCESS) << "it has an entry";
    EXPECT_EQ(BandwidthEntries(&bandwidth), 10u);
    BandwidthClear(&bandwidth);
    key = KeyV4(10);
    EXPECT_EQ(BandwidthAdd(&bandwidth, &key, 1, 1), STATUS_SUCCESS);
    BandwidthUninitialize(&bandwidth);
}

TEST_F(BandwidthTest, ReportsLaterWhatDoesNotFitIntoTheQueue)
{
    Totals expected;

    for (uint32_t i = 0; i < 500; i++)
    {
        ASSERT_EQ(Add(KeyV4(i), i + 1, 1), STATUS_SUCCESS);
        ASSERT_EQ(Add(KeyV6(i), i + 1, 1), STATUS_SUCCESS);
        expected[KeyV4(i)] = {i + 1, 1};
        expected[KeyV6(i)] = {i + 1, 1};
    }
    // Room for the IPv4 record only.
    IoQueueSetOptions(device_->queue(), 500 * 28 + 100, FALSE);
    Totals got = Decode(Report(STATUS_BUFFER_OVERFLOW));
    EXPECT_EQ(got.size(), 500u);
    EXPECT_EQ(BandwidthEntries(&bandwidth_), 500u);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 0u);

    IoQueueSetOptions(device_->queue(), 1 << 20, FALSE);
    ASSERT_EQ(Add(KeyV6(7), 1000, 0), STATUS_SUCCESS);
    expected[KeyV6(7)].transmitted += 1000;
    for (const auto &[key, counters] : Decode(Report()))
    {
        got[key] = counters;
    }
    EXPECT_TRUE(got == expected);
}

TEST_F(BandwidthTest, ReportsLaterASmallRecordThatDoesNotFitIntoTheQueue)
{
    const std::string line(IO_QUEUE_LEAST_MAX_BYTES - sizeof(LOG_LINE_WIRE), 'x');

    ASSERT_EQ(Add(kKey, 10, 20), STATUS_SUCCESS);
    IoQueueSetOptions(device_->queue(), IO_QUEUE_LEAST_MAX_BYTES, FALSE);
    ASSERT_EQ(EventLogLine(&events_, 1, line.data(), static_cast<UINT32>(line.size())), STATUS_SUCCESS);
    EXPECT_EQ(Report(STATUS_BUFFER_OVERFLOW).size(), 1u) << "the line";
    EXPECT_TRUE(Decode(Report()) == (Totals{{kKey, {10, 20}}}));
}

TEST_F(BandwidthTest, WithoutMemoryForALargeRecordItSendsSmallOnes)
{
    Totals expected;

    for (uint32_t i = 0; i < 1000; i++)
    {
        ASSERT_EQ(Add(KeyV6(i), i + 1, 3), STATUS_SUCCESS);
        expected[KeyV6(i)] = {i + 1, 3};
    }
    // The first allocation of the report is the record.
    machine_.faults().FailNth(0);
    ASSERT_EQ(BandwidthReport(&bandwidth_, &events_), STATUS_SUCCESS);
    EXPECT_EQ(machine_.faults().failures(), 1u);
    machine_.faults().Stop();
    const std::vector<Record> records = AllRecords(device_->ReadAll(1 << 20));
    EXPECT_EQ(records.size(), 125u);
    EXPECT_TRUE(Decode(records) == expected);
}

TEST_F(BandwidthTest, EveryFailedAllocationLeavesAWorkingTable)
{
    Totals expected;

    for (uint32_t i = 0; i < 4000; i++)
    {
        const CONNECTION_KEY key = KeyV4(i);

        machine_.faults().FailNth(i < 1500 ? 100 : 0);
        NTSTATUS status = Add(key, 1, 2);
        machine_.faults().Stop();
        ASSERT_TRUE(status == STATUS_SUCCESS || status == STATUS_INSUFFICIENT_RESOURCES);
        if (status == STATUS_SUCCESS)
        {
            expected[key] = {1, 2};
        }
    }
    EXPECT_GT(expected.size(), 2500u) << "shards that cannot grow take entries until they are full";
    EXPECT_EQ(BandwidthEntries(&bandwidth_), expected.size());
    EXPECT_TRUE(Decode(Report()) == expected);
}

TEST_F(BandwidthTest, UpdatesAllocateNothing)
{
    ASSERT_EQ(Add(KeyV4(1), 1, 1), STATUS_SUCCESS);
    machine_.faults().FailAll();
    EXPECT_EQ(Add(KeyV4(1), 1, 1), STATUS_SUCCESS);
    EXPECT_EQ(machine_.faults().calls(), 0u);
    machine_.faults().Stop();
}

TEST_F(BandwidthTest, AFailedInitializationLeavesNothing)
{
    const UINT64 before = MemoryBytes(&memory_);

    ForEachAllocationFailure(
        [&](unsigned n)
        {
            BANDWIDTH bandwidth;
            const NTSTATUS status = BandwidthInitialize(&bandwidth, &memory_, &log_, 10);

            EXPECT_EQ(status, n < 2 ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS);
            if (NT_SUCCESS(status))
            {
                BandwidthUninitialize(&bandwidth);
            }
            EXPECT_EQ(MemoryBytes(&memory_), before);
        });
}

TEST_F(BandwidthTest, ClearForgetsAndGivesMemoryBack)
{
    const UINT64 empty = BandwidthBytes(&bandwidth_);
    const UINT64 pool = MemoryBytes(&memory_);

    for (uint32_t i = 0; i < 5000; i++)
    {
        ASSERT_EQ(Add(KeyV4(i), 1, 1), STATUS_SUCCESS);
    }
    EXPECT_GE(BandwidthBytes(&bandwidth_), empty + 5000 * 64);
    BandwidthClear(&bandwidth_);
    EXPECT_EQ(BandwidthEntries(&bandwidth_), 0u);
    EXPECT_EQ(BandwidthBytes(&bandwidth_), empty);
    EXPECT_EQ(MemoryBytes(&memory_), pool);
    EXPECT_TRUE(Report().empty());
}

TEST_F(BandwidthTest, CountersOf64BitsWrapOnlyBeyondThem)
{
    ASSERT_EQ(Add(KeyV4(1), 0xFFFFFFFFull, 1ull << 40), STATUS_SUCCESS);
    ASSERT_EQ(Add(KeyV4(1), 2, 1ull << 40), STATUS_SUCCESS);
    EXPECT_EQ(Decode(Report()), (Totals{{KeyV4(1), {0x100000001ull, 1ull << 41}}}));
}

TEST_F(BandwidthTest, WorksAtDispatchLevel)
{
    kext_test::AtDispatchLevel dispatch;

    EXPECT_EQ(Add(KeyV4(1), 1, 1), STATUS_SUCCESS);
    EXPECT_EQ(BandwidthReport(&bandwidth_, &events_), STATUS_SUCCESS);
}

TEST_F(BandwidthTest, EachByteIsInExactlyOneReportWhenCallersRace)
{
    constexpr unsigned kThreads = 3;
    constexpr unsigned kUpdates = 20000;
    std::atomic<unsigned> updating{kThreads};
    std::vector<Record> records;

    RunThreads(kThreads + 1,
               [&](unsigned thread)
               {
                   if (thread < kThreads)
                   {
                       std::mt19937 random(thread);

                       for (unsigned i = 0; i < kUpdates; i++)
                       {
                           ASSERT_EQ(Add(KeyV4(random() % 300), 3, 5), STATUS_SUCCESS);
                       }
                       updating--;
                       return;
                   }
                   while (updating > 0)
                   {
                       for (Record &record : Report())
                       {
                           records.push_back(std::move(record));
                       }
                   }
               });
    for (Record &record : Report())
    {
        records.push_back(std::move(record));
    }
    Counters sum;
    for (const auto &[key, counters] : Decode(records))
    {
        sum.transmitted += counters.transmitted;
        sum.received += counters.received;
    }
    EXPECT_EQ(sum.transmitted, 3ull * kThreads * kUpdates);
    EXPECT_EQ(sum.received, 5ull * kThreads * kUpdates);
}

} // namespace

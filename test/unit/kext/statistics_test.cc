#include "statistics.h"

#include "kext_test.h"

namespace
{

class StatisticsTest : public kext_test::KextTest
{
  protected:
    StatisticsTest() { EXPECT_EQ(StatisticsInitialize(&statistics_, &memory_), STATUS_SUCCESS); }
    ~StatisticsTest() override { StatisticsUninitialize(&statistics_); }

    STATISTICS statistics_;
};

TEST_F(StatisticsTest, StartsAtZeroAndCountsEachSeparately)
{
    for (int i = 0; i < StatisticCount; i++)
    {
        EXPECT_EQ(StatisticsRead(&statistics_, static_cast<STATISTIC>(i)), 0);
    }
    StatisticsAdd(&statistics_, StatisticEventsLost, 5);
    StatisticsAdd(&statistics_, StatisticEventsLost, 2);
    StatisticsAdd(&statistics_, StatisticMalformedPackets, 1);
    EXPECT_EQ(StatisticsRead(&statistics_, StatisticEventsLost), 7);
    EXPECT_EQ(StatisticsRead(&statistics_, StatisticMalformedPackets), 1);
    EXPECT_EQ(StatisticsRead(&statistics_, StatisticEventsQueued), 0);
}

TEST_F(StatisticsTest, LosesNothingOnManyProcessors)
{
    RunThreads(4,
               [&](unsigned)
               {
                   for (int i = 0; i < 10000; i++)
                   {
                       StatisticsAdd(&statistics_, StatisticPacketsPermitted, 1);
                       StatisticsAdd(&statistics_, StatisticBytesDelivered, 3);
                   }
               });
    EXPECT_EQ(StatisticsRead(&statistics_, StatisticPacketsPermitted), 40000);
    EXPECT_EQ(StatisticsRead(&statistics_, StatisticBytesDelivered), 120000);
}

TEST_F(StatisticsTest, EncodesInTheOrderOfTheProtocol)
{
    const STATISTICS_GAUGES gauges = {101, 102, 103};
    STATISTICS_WIRE wire;
    SIZE_T written;

    for (int i = 0; i < StatisticCount; i++)
    {
        StatisticsAdd(&statistics_, static_cast<STATISTIC>(i), i + 1);
    }
    ASSERT_EQ(StatisticsEncode(&statistics_, &gauges, reinterpret_cast<UINT8 *>(&wire), sizeof(wire), &written),
              STATUS_SUCCESS);
    EXPECT_EQ(written, sizeof(wire));
    EXPECT_EQ(+wire.StructSize, sizeof(wire));
    EXPECT_EQ(+wire.EventsQueued, 1u);
    EXPECT_EQ(+wire.EventsDelivered, 2u);
    EXPECT_EQ(+wire.EventsLost, 3u);
    EXPECT_EQ(+wire.BytesDelivered, 4u);
    EXPECT_EQ(+wire.ReadsCompleted, 5u);
    EXPECT_EQ(+wire.VerdictsApplied, 6u);
    EXPECT_EQ(+wire.VerdictsUnknownId, 7u);
    EXPECT_EQ(+wire.CommandsRejected, 8u);
    EXPECT_EQ(+wire.PacketsHeld, 101u);
    EXPECT_EQ(+wire.Connections, 102u);
    EXPECT_EQ(+wire.BandwidthEntries, 103u);
    EXPECT_EQ(+wire.PoolBytes, MemoryBytes(&memory_));
    EXPECT_EQ(+wire.PoolBytesPeak, MemoryPeakBytes(&memory_));
    EXPECT_EQ(+wire.PacketsPermitted, 14u);
    EXPECT_EQ(+wire.PacketsBlocked, 15u);
    EXPECT_EQ(+wire.PacketsInjected, 16u);
    EXPECT_EQ(+wire.InjectFailures, 17u);
    EXPECT_EQ(+wire.PacketsRedirected, 18u);
    EXPECT_EQ(+wire.FragmentsBlocked, 19u);
    EXPECT_EQ(+wire.MalformedPackets, 20u);
}

TEST_F(StatisticsTest, WritesNoByteBeyondWhatTheCallerKnows)
{
    const STATISTICS_GAUGES gauges = {};

    for (SIZE_T length = 0; length <= sizeof(STATISTICS_WIRE) + 8; length++)
    {
        std::vector<UINT8> buffer(length + 1, 0xEE);
        SIZE_T written = 999;
        NTSTATUS status = StatisticsEncode(&statistics_, &gauges, buffer.data(), length, &written);

        if (length < sizeof(UINT32))
        {
            EXPECT_EQ(status, STATUS_BUFFER_TOO_SMALL);
            EXPECT_EQ(written, 0u);
            EXPECT_EQ(buffer[0], 0xEE);
        }
        else
        {
            EXPECT_EQ(status, STATUS_SUCCESS);
            EXPECT_EQ(written, std::min<SIZE_T>(length, sizeof(STATISTICS_WIRE)));
        }
        EXPECT_EQ(buffer[written], 0xEE);
    }
}

TEST(StatisticsFailureTest, WithoutMemoryInitializationFailsCleanly)
{
    sim::Machine machine;
    sim::Machine::Scope scope(machine);
    MEMORY memory;
    STATISTICS statistics;

    MemoryInitialize(&memory);
    machine.faults().FailAll();
    EXPECT_EQ(StatisticsInitialize(&statistics, &memory), STATUS_INSUFFICIENT_RESOURCES);
    machine.faults().Stop();
    StatisticsUninitialize(&statistics);
    EXPECT_EQ(MemoryBytes(&memory), 0u);
}

} // namespace

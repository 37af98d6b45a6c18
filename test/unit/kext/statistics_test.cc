#include "statistics.h"

#include "kext_test.h"
#include "support/wire_records.h"

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
    STATISTICS_WIRE encoded;
    STATISTICS_FIELDS_WIRE wire;

    for (int i = 0; i < StatisticCount; i++)
    {
        StatisticsAdd(&statistics_, static_cast<STATISTIC>(i), i + 1);
    }
    StatisticsEncode(&statistics_, &encoded);
    std::memcpy(&wire, &encoded, sizeof(wire));
    EXPECT_EQ(+wire.StructSize, sizeof(wire));
    EXPECT_EQ(+wire.EventsQueued, 1u);
    EXPECT_EQ(+wire.EventsDelivered, 2u);
    EXPECT_EQ(+wire.EventsLost, 3u);
    EXPECT_EQ(+wire.BytesDelivered, 4u);
    EXPECT_EQ(+wire.ReadsCompleted, 5u);
    EXPECT_EQ(+wire.VerdictsApplied, 6u);
    EXPECT_EQ(+wire.VerdictsUnknownId, 7u);
    EXPECT_EQ(+wire.CommandsRejected, 8u);
    EXPECT_EQ(+wire.PacketsHeld, 9u);
    EXPECT_EQ(+wire.Connections, 10u);
    EXPECT_EQ(+wire.BandwidthEntries, 11u);
    EXPECT_EQ(+wire.PoolBytes, MemoryBytes(&memory_));
    EXPECT_EQ(+wire.PoolBytesPeak, MemoryPeakBytes(&memory_));
    EXPECT_EQ(+wire.PacketsPermitted, 14u);
    EXPECT_EQ(+wire.PacketsBlocked, 15u);
    EXPECT_EQ(+wire.PacketsInjected, 16u);
    EXPECT_EQ(+wire.InjectFailures, 17u);
    EXPECT_EQ(+wire.PacketsRedirected, 18u);
    EXPECT_EQ(+wire.FragmentsBlocked, 19u);
    EXPECT_EQ(+wire.MalformedPackets, 20u);
    EXPECT_EQ(+wire.EngineRetries, 27u);
    EXPECT_EQ(+wire.EngineState, 28u);
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

#include "statistics.h"

_Use_decl_annotations_
NTSTATUS StatisticsInitialize(STATISTICS *statistics, MEMORY *memory)
{
    statistics->Memory = memory;
    statistics->SlotCount = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    if (statistics->SlotCount == 0)
    {
        statistics->SlotCount = 1;
    }
    statistics->Slots =
        (STATISTICS_SLOT *)MemoryAllocateCacheAligned(memory, statistics->SlotCount * sizeof(STATISTICS_SLOT));
    return statistics->Slots != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID StatisticsUninitialize(STATISTICS *statistics)
{
    MemoryFree(statistics->Memory, statistics->Slots);
    statistics->Slots = NULL;
}

_Use_decl_annotations_
VOID StatisticsAdd(STATISTICS *statistics, STATISTIC statistic, LONG64 value)
{
    // The add is interlocked: the thread may change processors here, and a processor added later shares a slot.
    UINT32 slot = KeGetCurrentProcessorNumberEx(NULL) % statistics->SlotCount;

    InterlockedExchangeAdd64(&statistics->Slots[slot].Counters[statistic], value);
}

_Use_decl_annotations_
LONG64 StatisticsRead(const STATISTICS *statistics, STATISTIC statistic)
{
    LONG64 sum = 0;
    UINT32 slot;

    for (slot = 0; slot < statistics->SlotCount; slot++)
    {
        sum += ReadNoFence64(&statistics->Slots[slot].Counters[statistic]);
    }
    return sum;
}

static UINT64 StatisticsValue(const STATISTICS *statistics, const STATISTICS_GAUGES *gauges, STATISTIC statistic)
{
    switch (statistic)
    {
    case StatisticPacketsHeld:
        return gauges->PacketsHeld;
    case StatisticConnections:
        return gauges->Connections;
    case StatisticBandwidthEntries:
        return gauges->BandwidthEntries;
    case StatisticPoolBytes:
        return MemoryBytes(statistics->Memory);
    case StatisticPoolBytesPeak:
        return MemoryPeakBytes(statistics->Memory);
    default:
        return (UINT64)StatisticsRead(statistics, statistic);
    }
}

static_assert(FIELD_OFFSET(STATISTICS_WIRE, EventsQueued) == sizeof(UINT32) + StatisticEventsQueued * sizeof(UINT64) &&
                  FIELD_OFFSET(STATISTICS_WIRE, PacketsHeld) ==
                      sizeof(UINT32) + StatisticPacketsHeld * sizeof(UINT64) &&
                  FIELD_OFFSET(STATISTICS_WIRE, MalformedPackets) ==
                      sizeof(UINT32) + StatisticMalformedPackets * sizeof(UINT64) &&
                  sizeof(STATISTICS_WIRE) == sizeof(UINT32) + StatisticCount * sizeof(UINT64),
              "the enumeration and the wire structure go together");

_Use_decl_annotations_
NTSTATUS StatisticsEncode(const STATISTICS *statistics, const STATISTICS_GAUGES *gauges, UINT8 *buffer, SIZE_T length,
                          SIZE_T *written)
{
    STATISTICS_WIRE wire;
    UINT32 statistic;

    *written = 0;
    if (length < sizeof(wire.StructSize))
    {
        return STATUS_BUFFER_TOO_SMALL;
    }

    wire.StructSize = sizeof(wire);
    for (statistic = 0; statistic < StatisticCount; statistic++)
    {
        UINT64 value = StatisticsValue(statistics, gauges, (STATISTIC)statistic);

        RtlCopyMemory((UINT8 *)&wire + sizeof(UINT32) + statistic * sizeof(UINT64), &value, sizeof(value));
    }

    *written = length < sizeof(wire) ? length : sizeof(wire);
    RtlCopyMemory(buffer, &wire, *written);
    return STATUS_SUCCESS;
}

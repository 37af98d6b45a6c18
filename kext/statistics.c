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

_Use_decl_annotations_
VOID StatisticsEncode(const STATISTICS *statistics, STATISTICS_WIRE *wire)
{
    UINT32 statistic;

    wire->StructSize = sizeof(*wire);
    for (statistic = 0; statistic < StatisticCount; statistic++)
    {
        wire->Counters[statistic] = (UINT64)StatisticsRead(statistics, (STATISTIC)statistic);
    }
    wire->Counters[StatisticPoolBytes] = MemoryBytes(statistics->Memory);
    wire->Counters[StatisticPoolBytesPeak] = MemoryPeakBytes(statistics->Memory);
}

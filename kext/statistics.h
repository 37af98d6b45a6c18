// Event counters. Each processor has a padded set, so that counting costs one uncontended interlocked add.
//
// A reader sums a counter over all processors. The sum is exact once counting has stopped.

#pragma once

#include "memory.h"
#include "protocol.h"

EXTERN_C_START

typedef struct _STATISTICS_SLOT
{
    volatile LONG64 Counters[StatisticCount];
    UINT8 Padding[PLATFORM_CACHE_LINE * 4 - StatisticCount * sizeof(LONG64)];
} STATISTICS_SLOT;

static_assert(sizeof(STATISTICS_SLOT) % PLATFORM_CACHE_LINE == 0, "processors must not share a line");

typedef struct _STATISTICS
{
    MEMORY *Memory;
    STATISTICS_SLOT *Slots;
    UINT32 SlotCount;
} STATISTICS;

/// Allocates the counters, all zero. Fails with STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS StatisticsInitialize(_Out_ STATISTICS *statistics, _Inout_ MEMORY *memory);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StatisticsUninitialize(_Inout_ STATISTICS *statistics);

/// Adds `value` to one counter of the current processor.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StatisticsAdd(_Inout_ STATISTICS *statistics, _In_ STATISTIC statistic, _In_ LONG64 value);

/// Returns the counter's sum over all processors.
_IRQL_requires_max_(DISPATCH_LEVEL)
LONG64 StatisticsRead(_In_ const STATISTICS *statistics, _In_ STATISTIC statistic);

/// Fills in the reply of GetStatistics, but not what other parts know now.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StatisticsEncode(_In_ const STATISTICS *statistics, _Out_ STATISTICS_WIRE *wire);

EXTERN_C_END

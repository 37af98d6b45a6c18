// Event counters. Each processor has a padded set, so that counting costs one uncontended interlocked add.
//
// A reader sums a counter over all processors. The sum is exact once counting has stopped.

#pragma once

#include "memory.h"
#include "protocol.h"

EXTERN_C_START

/// The counters in the order of STATISTICS_WIRE. The values marked "now" come from their owners.
typedef enum _STATISTIC
{
    StatisticEventsQueued,
    StatisticEventsDelivered,
    StatisticEventsLost,
    StatisticBytesDelivered,
    StatisticReadsCompleted,
    StatisticVerdictsApplied,
    StatisticVerdictsUnknownId,
    StatisticCommandsRejected,
    StatisticPacketsHeld,      ///< now
    StatisticConnections,      ///< now
    StatisticBandwidthEntries, ///< now
    StatisticPoolBytes,        ///< now
    StatisticPoolBytesPeak,    ///< now
    StatisticPacketsPermitted,
    StatisticPacketsBlocked,
    StatisticPacketsInjected,
    StatisticInjectFailures,
    StatisticPacketsRedirected,
    StatisticFragmentsBlocked,
    StatisticMalformedPackets,
    StatisticCount
} STATISTIC;

typedef struct _STATISTICS_SLOT
{
    volatile LONG64 Counters[StatisticCount];
    UINT8 Padding[PLATFORM_CACHE_LINE * 3 - StatisticCount * sizeof(LONG64)];
} STATISTICS_SLOT;

static_assert(sizeof(STATISTICS_SLOT) % PLATFORM_CACHE_LINE == 0, "processors must not share a line");

typedef struct _STATISTICS
{
    MEMORY *Memory;
    STATISTICS_SLOT *Slots;
    UINT32 SlotCount;
} STATISTICS;

/// The "now" values, as their owners report them.
typedef struct _STATISTICS_GAUGES
{
    UINT64 PacketsHeld;
    UINT64 Connections;
    UINT64 BandwidthEntries;
} STATISTICS_GAUGES;

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

/// Writes the reply of GetStatistics, cut to `length` bytes, so that a caller may know fewer counters.
/// `written` receives the bytes used. STATUS_BUFFER_TOO_SMALL: `length` does not even hold `StructSize`.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS StatisticsEncode(_In_ const STATISTICS *statistics, _In_ const STATISTICS_GAUGES *gauges,
                          _Out_writes_bytes_to_(length, *written) UINT8 *buffer, _In_ SIZE_T length,
                          _Out_ SIZE_T *written);

EXTERN_C_END

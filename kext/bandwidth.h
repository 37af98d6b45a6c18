// Bytes per connection since the last report.
//
// This connection map is apart from the connection table, so a count updates one cache line and looks nothing up there.
// A report takes the arrays of the map and encodes the taken arrays. Every count is in exactly one report.

#pragma once

#include "connection_map.h"
#include "event.h"
#include "log.h"

EXTERN_C_START

// Length of a UDP header. Only the bytes behind the header are counted.
#define UDP_HEADER_LENGTH 8u

typedef struct _BANDWIDTH
{
    MEMORY *Memory;
    LOG *Log;
    CONNECTION_MAP Connections;
    volatile LONG64 Totals; ///< address of the CONNECTION_TABLE that counts each connection's total; 0: none
} BANDWIDTH;

/// Makes an empty table of at most `maxEntries`. STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS BandwidthInitialize(_Out_ BANDWIDTH *bandwidth, _Inout_ MEMORY *memory, _Inout_ LOG *log,
                             _In_ UINT64 maxEntries);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID BandwidthUninitialize(_Inout_ BANDWIDTH *bandwidth);

/// Also counts each connection's total in `connections` from now on. NULL: no longer. The table outlives the counting.
/// Any IRQL.
VOID BandwidthKeepTotals(_Inout_ BANDWIDTH *bandwidth, _In_opt_ CONNECTION_TABLE *connections);

/// Counts a connection's bytes in one direction. A failure is logged, at most once a second.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID BandwidthCount(_Inout_ BANDWIDTH *bandwidth, _In_ const CONNECTION_KEY *key, _In_ BOOLEAN inbound,
                    _In_ UINT64 bytes);

/// Adds to the counters of a TCP or UDP connection. Allocates only for a connection without an entry.
/// STATUS_INVALID_PARAMETER: another protocol or IP version. A call that fails counts nothing.
/// STATUS_QUOTA_EXCEEDED: the table holds `maxEntries`. STATUS_INSUFFICIENT_RESOURCES: no memory.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS BandwidthAdd(_Inout_ BANDWIDTH *bandwidth, _In_ const CONNECTION_KEY *key, _In_ UINT64 transmittedBytes,
                      _In_ UINT64 receivedBytes);

/// Queues the bytes that were counted since the last report, and starts again from zero.
/// The order is TCP v4, TCP v6, UDP v4, UDP v6. A family without entries gets no record.
/// A record has at most PROTOCOL_MAX_BANDWIDTH_ENTRIES entries. A family may need several records.
/// Entries that do not fit into the queue are counted into the next report instead.
/// Returns the first failure of IoQueuePush, else STATUS_SUCCESS.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS BandwidthReport(_Inout_ BANDWIDTH *bandwidth, _Inout_ EVENTS *events);

/// Forgets everything that was counted.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID BandwidthClear(_Inout_ BANDWIDTH *bandwidth);

/// Entries now. Any IRQL.
UINT64 BandwidthEntries(_In_ const BANDWIDTH *bandwidth);

/// Pool bytes of the table now. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 BandwidthBytes(_Inout_ BANDWIDTH *bandwidth);

EXTERN_C_END

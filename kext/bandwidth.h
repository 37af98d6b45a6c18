// Bytes per connection since the last report.
//
// A table apart from the connections: 1024 shards by a keyed hash, each a spin lock over an open-addressed array of
// one-cache-line cells, so an update is one line and no lookup of the connection. A report swaps each shard's array out
// under its lock and works on what it took; an update is in one report or in the next, never in both or none.

#pragma once

#include "connection_table.h"
#include "event.h"
#include "log.h"

EXTERN_C_START

#define BANDWIDTH_SHARD_SHIFT (10 - PLATFORM_TABLE_SHRINK)
#define BANDWIDTH_SHARD_COUNT (1u << BANDWIDTH_SHARD_SHIFT)

// Of a datagram the bytes behind its header count.
#define UDP_HEADER_LENGTH 8u

typedef struct _BANDWIDTH_SHARD BANDWIDTH_SHARD;

typedef struct _BANDWIDTH
{
    MEMORY *Memory;
    BANDWIDTH_SHARD *Shards;
    SIPHASH_KEY HashKey;
    UINT64 MaxEntries;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Count;
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} BANDWIDTH;

/// Makes an empty table of at most `maxEntries`. STATUS_INSUFFICIENT_RESOURCES, after which BandwidthUninitialize is
/// allowed and nothing else.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS BandwidthInitialize(_Out_ BANDWIDTH *bandwidth, _Inout_ MEMORY *memory, _In_ UINT64 maxEntries);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID BandwidthUninitialize(_Inout_ BANDWIDTH *bandwidth);

/// Adds to the counters of a TCP or UDP connection. Allocates only for one that has no entry yet. Fails, with nothing
/// counted, with STATUS_INVALID_PARAMETER (another protocol or IP version), STATUS_QUOTA_EXCEEDED or
/// STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS BandwidthAdd(_Inout_ BANDWIDTH *bandwidth, _In_ const CONNECTION_KEY *key, _In_ UINT64 transmittedBytes,
                      _In_ UINT64 receivedBytes);

/// The same, with a failure logged, at most one a second.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID BandwidthCountBytes(_Inout_ BANDWIDTH *bandwidth, _Inout_ LOG *log, _In_ const CONNECTION_KEY *key,
                         _In_ UINT64 transmittedBytes, _In_ UINT64 receivedBytes);

/// Queues what was counted since the last report: TCP v4, TCP v6, UDP v4, UDP v6, each in records of at most
/// PROTOCOL_MAX_BANDWIDTH_ENTRIES, none for what is empty; and starts again from zero. What does not fit into the queue
/// is counted into the next report instead. Returns the first failure of IoQueuePush, else STATUS_SUCCESS.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS BandwidthReport(_Inout_ BANDWIDTH *bandwidth, _Inout_ EVENTS *events);

/// Forgets everything that was counted.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID BandwidthClear(_Inout_ BANDWIDTH *bandwidth);

/// Entries now. Any IRQL.
UINT64 BandwidthCount(_In_ const BANDWIDTH *bandwidth);

/// Pool bytes of the table now. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 BandwidthBytes(_Inout_ BANDWIDTH *bandwidth);

EXTERN_C_END

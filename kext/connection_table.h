// The connection table: what was decided about each connection.
//
// Hot and cold. A connection has a hot cell of one cache line, in an open-addressed array (everything a packet needs),
// and a cold part, allocated apart and stable (what only its start and end need). The table is 1024 shards chosen by
// the high bits of a keyed hash; each has its own reader-writer lock and its own array, so a lookup costs one shared
// lock and, in a large table, one cache miss; growing rehashes one shard only.
//
// A second index lists the live connections of one (protocol, IP version, local port), for the release of a port. It
// has locks of its own, striped by port.
//
// Lock order: shard, then port stripe. Only one of each is ever held. No lock is held during a visitor's call. Memory
// is allocated and given back with no lock held.

#pragma once

#include "connection_key.h"
#include "memory.h"
#include "protocol.h"
#include "rw_lock.h"
#include "siphash.h"

EXTERN_C_START

/// What a packet needs to know of its connection.
typedef struct _CONNECTION_STATE
{
    UINT8 Verdict;     ///< VERDICT
    UINT8 Direction;   ///< DIRECTION
    BOOLEAN Ended;     ///< waits only to be cleaned, or to be replaced when the port is used again
    BOOLEAN Reported;  ///< the client was told of it
    UINT32 Generation; ///< tells connections with the same key apart, one after the other; never 0
} CONNECTION_STATE;

/// A copy of all that is known of one connection.
typedef struct _CONNECTION
{
    CONNECTION_KEY Key;
    UINT64 ProcessId;
    UINT8 Verdict;
    UINT8 Direction;
    BOOLEAN Ended;
    BOOLEAN Reported;
    UINT32 Generation;
} CONNECTION;

#define CONNECTION_TABLE_SHARD_SHIFT       (10 - PLATFORM_TABLE_SHRINK)
#define CONNECTION_TABLE_SHARD_COUNT       (1u << CONNECTION_TABLE_SHARD_SHIFT)
#define CONNECTION_TABLE_PORT_STRIPE_COUNT (256u >> PLATFORM_TABLE_SHRINK)

// TCP, UDP and all others, for IPv4 and IPv6: each has its own list heads by local port, in pages of 256 ports.
#define CONNECTION_TABLE_PORT_FAMILY_COUNT 6
#define CONNECTION_TABLE_PORT_PAGE_COUNT   256

// A connection leaves the table this long after its end, or after this long without a packet.
#ifndef CONNECTION_ENDED_SECONDS
#define CONNECTION_ENDED_SECONDS 60
#define CONNECTION_IDLE_SECONDS  600
#endif

typedef struct _CONNECTION_SHARD CONNECTION_SHARD;
typedef struct _CONNECTION_PORT_PAGE CONNECTION_PORT_PAGE;
typedef struct _CONNECTION_PORT_STRIPE CONNECTION_PORT_STRIPE;

typedef struct _CONNECTION_TABLE
{
    MEMORY *Memory;
    CONNECTION_SHARD *Shards;
    CONNECTION_PORT_STRIPE *PortStripes;
    CONNECTION_PORT_PAGE *volatile PortPages[CONNECTION_TABLE_PORT_FAMILY_COUNT][CONNECTION_TABLE_PORT_PAGE_COUNT];
    SIPHASH_KEY HashKey;
    UINT64 MaxConnections;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Count;
    volatile LONG LastGeneration;
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} CONNECTION_TABLE;

/// A local port that is given up, and which of its connections that ends.
typedef struct _CONNECTION_RELEASE
{
    UINT8 Protocol;
    UINT8 IpVersion;
    UINT16 LocalPort;
    UINT8 LocalAddress[16]; ///< all-zero: those of every address
    UINT64 ProcessId;       ///< 0: anyone's. A connection whose process is unknown is anyone's too
    BOOLEAN OutboundOnly;
} CONNECTION_RELEASE;

/// Called for one connection, with no lock held and at the IRQL of the caller.
typedef VOID (*CONNECTION_VISITOR)(_Inout_opt_ void *context, _In_ const CONNECTION *connection);

/// Makes an empty table that takes up to `maxConnections` (ended ones included). STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ConnectionTableInitialize(_Out_ CONNECTION_TABLE *table, _Inout_ MEMORY *memory, _In_ UINT64 maxConnections);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableUninitialize(_Inout_ CONNECTION_TABLE *table);

/// Finds a connection and marks it as used now (unless it ended). FALSE: unknown. O(1), allocates nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableLookup(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                              _Out_ CONNECTION_STATE *state);

/// Copies all that is known of a connection, process id included; does not mark it as used. FALSE: unknown.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableGet(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                           _Out_ CONNECTION *connection);

/// Adds a connection: Undecided, not reported; `state` gets its state. An ended one with the same key is replaced: a
/// port used again is a new connection. STATUS_OBJECT_NAME_COLLISION: there is a live one, told in `state`.
/// STATUS_QUOTA_EXCEEDED: the table holds `maxConnections`. STATUS_INSUFFICIENT_RESOURCES: no memory. `state` is not
/// written then.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ConnectionTableInsert(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT64 processId,
                               _In_ UINT8 direction, _Inout_ CONNECTION_STATE *state);

/// Changes the verdict of a live connection. FALSE: unknown, or ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetVerdict(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT8 verdict);

/// The same for the connection of one generation only: a verdict on an old connection does not decide a new one of the
/// same key. FALSE: unknown, ended, or of another generation.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetVerdictOf(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                    _In_ UINT32 generation, _In_ UINT8 verdict);

/// Notes that the client has been told of a connection, so that its end is told too. FALSE: unknown, or it ended in
/// between: then whoever ended it saw Reported FALSE and told nothing, and it is for the caller to tell the end. That
/// is said to one caller only.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetReported(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key);

/// Notes the process of a live connection that was added without one. Unknown or ended: nothing happens.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetProcess(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT64 processId);

/// Marks a connection as ended. TRUE, with its copy in `ended`, for exactly one caller; FALSE: unknown or ended before.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableEnd(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _Out_ CONNECTION *ended);

/// Ends the live connections of one local port and visits each that this call ended. Connections that are added
/// meanwhile are not looked for. The time is proportional to the number of connections on this port, whatever the size
/// of the table; locks are held for a few dozen entries at a time.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableEndByPort(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_RELEASE *release,
                              _In_opt_ CONNECTION_VISITOR visitor, _Inout_opt_ void *context);

/// Something of a connection waits for a verdict: until ConnectionTableLetGo nothing but ConnectionTableClear removes
/// it, so that the verdict finds it alive, or ended. Unknown, or of another generation: nothing happens.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableKeep(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation);

/// Once for each ConnectionTableKeep.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableLetGo(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation);

/// Removes connections that ended over CONNECTION_ENDED_SECONDS ago and, with `includeIdle`, live ones without a packet
/// for over CONNECTION_IDLE_SECONDS, and gives memory back. Never early; late by at most a second. Returns how many
/// were removed.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionTableClean(_Inout_ CONNECTION_TABLE *table, _In_ BOOLEAN includeIdle);

/// Removes every connection, and makes those undecided of which something waits.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableForget(_Inout_ CONNECTION_TABLE *table);

/// Removes every connection.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableClear(_Inout_ CONNECTION_TABLE *table);

/// Connections in the table now, ended ones included. Any IRQL.
UINT64 ConnectionTableCount(_In_ const CONNECTION_TABLE *table);

/// Pool bytes of the table now: cells, cold parts and indexes. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionTableBytes(_Inout_ CONNECTION_TABLE *table);

EXTERN_C_END

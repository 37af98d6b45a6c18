// The connection table: what was decided about each connection.
//
// Hot and cold. A connection has a hot cell in a connection map, of 32 bytes for IPv4 and 64 bytes for IPv6: everything
// that a packet needs. It has a cold part in a slab, named by a handle in the cell: what only its start and end need.
//
// A second index lists the live connections of one (protocol, IP version, local port), for the release of a port. It
// has locks of its own, striped by port. The lists go through the cold parts. From there a connection's cell is found
// by hash and generation.
//
// Lock order: shard, then port stripe or slab stripe. Only one of each is held at a time. No lock is held during a
// visitor's call. Memory is allocated and freed with no lock held.

#pragma once

#include "connection_map.h"
#include "protocol.h"
#include "slab.h"

EXTERN_C_START

/// What a packet needs to know of its connection.
typedef struct _CONNECTION_STATE
{
    UINT8 Verdict;     ///< VERDICT
    UINT8 Direction;   ///< DIRECTION
    BOOLEAN Ended;     ///< stays only until it is cleaned, or replaced when the port is used again
    BOOLEAN Reported;  ///< the connection was reported to the client
    UINT32 Generation; ///< differs between connections that use one key one after the other; never 0
    UINT64 ProcessId;  ///< 0: not known. The table keeps 32 bits, which hold all process ids of Windows
} CONNECTION_STATE;

/// A copy of all that is known of one connection.
typedef struct _CONNECTION
{
    CONNECTION_KEY Key;
    CONNECTION_STATE State;
} CONNECTION;

#define CONNECTION_TABLE_PORT_STRIPE_COUNT (256u >> PLATFORM_TABLE_SHRINK)

// TCP, UDP and all others, for IPv4 and IPv6: each has its own list heads by local port, in pages of 256 ports.
#define CONNECTION_TABLE_PORT_FAMILY_COUNT 6
#define CONNECTION_TABLE_PORT_PAGE_COUNT   256

typedef struct _CONNECTION_PORT_STRIPE CONNECTION_PORT_STRIPE;

typedef struct _CONNECTION_TABLE
{
    MEMORY *Memory;
    CONNECTION_MAP Connections;
    SLAB ColdParts;
    CONNECTION_PORT_STRIPE *PortStripes;
    volatile LONG64 PortPages[CONNECTION_TABLE_PORT_FAMILY_COUNT]
                             [CONNECTION_TABLE_PORT_PAGE_COUNT]; ///< addresses, or 0
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG LastGeneration;
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} CONNECTION_TABLE;

/// A local port that is given up, and which of its connections end with it.
typedef struct _CONNECTION_RELEASE
{
    UINT8 Protocol;
    UINT8 IpVersion;
    UINT16 LocalPort;
    UINT8 LocalAddress[16]; ///< all-zero: any address
    UINT64 ProcessId;       ///< 0: any process. A connection of an unknown process ends in any case
    BOOLEAN OutboundOnly;
} CONNECTION_RELEASE;

/// Called for one connection, with no lock held and at the IRQL of the caller.
typedef VOID (*CONNECTION_VISITOR)(_Inout_opt_ void *context, _In_ const CONNECTION *connection);

/// Makes an empty table that takes up to `maxConnections` (ended ones included). STATUS_INSUFFICIENT_RESOURCES: nothing
/// is left to undo.
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

/// Finds a live connection, or adds one: Undecided, not reported. One that ended is replaced, because a port that is
/// used again is a new connection. `state` is the state of what was found or added.
///
/// STATUS_SUCCESS: added. STATUS_OBJECT_NAME_EXISTS, which is a success too: found and marked as used; if its process
/// was not known it is `processId` now. STATUS_QUOTA_EXCEEDED: the table holds `maxConnections`.
/// STATUS_INSUFFICIENT_RESOURCES: no memory. `state` is not written on failure.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ConnectionTableFindOrInsert(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                     _In_ UINT64 processId, _In_ UINT8 direction, _Inout_ CONNECTION_STATE *state);

/// Changes the verdict of a live connection. FALSE: unknown, or ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetVerdict(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT8 verdict);

/// Notes that a connection was reported to the client, so its end is reported too. TRUE, with a copy in `ended`: it
/// ended before it was reported, and the caller has to report the end. Only one caller gets TRUE.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetReported(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                   _Out_ CONNECTION *ended);

/// Marks a connection as ended. TRUE, with its copy in `ended`, for exactly one caller; FALSE: unknown or ended before.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableEnd(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _Out_ CONNECTION *ended);

/// Ends the live connections of one local port and visits each that this call ended. Connections that are added
/// meanwhile may be missed. The time is proportional to the number of connections on this port, whatever the size of
/// the table; locks are held for a few dozen entries at a time.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableEndByPort(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_RELEASE *release,
                              _In_opt_ CONNECTION_VISITOR visitor, _Inout_opt_ void *context);

/// Counts a pending question about a connection, and sets its process if that is not known yet.
/// Until the question is resolved or released the connection stays in the table, so the verdict finds it live or ended.
/// A connection that is unknown or of another generation is left alone.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableAddPending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                               _In_ UINT64 processId);

/// Undoes one ConnectionTableAddPending without a verdict.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableReleasePending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                   _In_ UINT32 generation);

/// Undoes one ConnectionTableAddPending and sets the verdict, unless the connection ended. FALSE: unknown, ended, or of
/// another generation: a verdict on an old connection does not decide a new one of the same key.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableResolvePending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                      _In_ UINT32 generation, _In_ UINT8 verdict);

/// Removes connections that ended over CONNECTION_ENDED_SECONDS ago and, with `includeIdle`, live ones without a packet
/// for over CONNECTION_IDLE_SECONDS, and gives memory back. Never early; late by at most a second. Returns how many
/// were removed.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionTableClean(_Inout_ CONNECTION_TABLE *table, _In_ BOOLEAN includeIdle);

/// The ClearCache command: removes every connection, except that one with something pending becomes undecided.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableClearCache(_Inout_ CONNECTION_TABLE *table);

/// Removes every connection, also those with something pending.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableRemoveAll(_Inout_ CONNECTION_TABLE *table);

/// Connections in the table now, ended ones included. Any IRQL.
UINT64 ConnectionTableCount(_In_ const CONNECTION_TABLE *table);

/// Pool bytes of the table now: cells, cold parts and indexes. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionTableBytes(_Inout_ CONNECTION_TABLE *table);

EXTERN_C_END

// The connection table: the verdict and the state of each connection.
//
// A connection has a hot cell in a connection map, of 32 bytes for IPv4 and 64 bytes for IPv6.
// The hot cell holds everything that a packet needs.
// A connection also has a cold part in a slab, which only its start and its end need. The cell holds its handle.
//
// A second index lists the live connections of one (protocol, IP version, local port), for the release of a port.
// This port index has its own locks, striped by port.
// The port lists link cold parts. Hash and generation lead from a cold part to the cell of its connection.
//
// Two connections that use one key one after the other have different generations.
// The order lock of a key is for the caller: under it the caller reports what becomes of the key's connections.
// Whoever holds it finds, reports and marks a connection in one step, so the records of a key are in order.
//
// Lock order: order stripe, then shard, then port stripe or slab stripe. A thread holds at most one lock of each kind.
// No lock is held during a visitor's call. Memory is allocated and freed with no lock held.

#pragma once

#include "clock.h"
#include "connection_map.h"
#include "protocol.h"
#include "slab.h"

EXTERN_C_START

/// What a packet needs to know of its connection.
typedef struct _CONNECTION_STATE
{
    UINT8 Verdict;      ///< VERDICT
    UINT8 Direction;    ///< DIRECTION
    BOOLEAN Ended;      ///< the entry stays until it is cleaned, or replaced when the port is reused
    BOOLEAN Reported;   ///< the connection was reported to the client
    BOOLEAN Broadcast;  ///< the remote address is the broadcast address of a subnet
    BOOLEAN Authorized; ///< ALE permitted it at least once
    BOOLEAN Aborted;    ///< its flow was aborted, so the stack resets it
    UINT32 Generation;  ///< differs between connections that use one key one after the other; never 0
    UINT64 ProcessId;   ///< 0: not known. The table keeps 32 bits, which hold all process ids of Windows
} CONNECTION_STATE;

/// What only reports need to know of a connection.
typedef struct _CONNECTION_LIFE
{
    UINT64 Question;         ///< id of the last question; 0: none
    UINT64 StartTime;        ///< system time in units of 100 ns, rounded down to about 0.1 ms
    UINT64 TransmittedBytes; ///< since the start, as far as the table was asked to count
    UINT64 ReceivedBytes;
    UINT64 Handle; ///< of a TCP connection's endpoint while it connects, of its flow once it came up; 0: not known
    UINT32 IdleSeconds;
    BOOLEAN Waiting; ///< a question waits for its verdict
    UINT8 EndReason; ///< END_REASON that the caller gives a connection; EndReasonClosed in a copy of the table
} CONNECTION_LIFE;

/// A copy of all that is known of one connection.
typedef struct _CONNECTION
{
    CONNECTION_KEY Key;
    CONNECTION_STATE State;
    CONNECTION_LIFE Life;
} CONNECTION;

/// Called for one connection, with no lock held and at the IRQL of the caller.
typedef VOID (*CONNECTION_VISITOR)(_Inout_opt_ void *context, _In_ const CONNECTION *connection);

/// A place in a walk over the table. All zero: the start. No place holds memory or a lock.
typedef struct _CONNECTION_WALK
{
    UINT32 Shard;  ///< of both IP versions, one after the other
    UINT32 Bucket; ///< changes in the order of ConnectionTableWalk
} CONNECTION_WALK;

#define CONNECTION_TABLE_PORT_STRIPE_COUNT  (256u >> PLATFORM_TABLE_SHRINK)
#define CONNECTION_TABLE_ORDER_STRIPE_COUNT (256u >> PLATFORM_TABLE_SHRINK)

// A family is TCP, UDP or all other protocols, on IPv4 or on IPv6.
// Each family has its own list heads by local port, in pages of 256 ports.
#define CONNECTION_TABLE_PORT_FAMILY_COUNT 6
#define CONNECTION_TABLE_PORT_PAGE_COUNT   256

typedef struct _CONNECTION_STRIPE CONNECTION_STRIPE;

typedef struct _CONNECTION_TABLE
{
    MEMORY *Memory;
    const CLOCK *Clock;
    CONNECTION_MAP Connections;
    SLAB ColdParts;
    CONNECTION_STRIPE *PortStripes;
    CONNECTION_STRIPE *OrderStripes;
    volatile LONG64 PortPages[CONNECTION_TABLE_PORT_FAMILY_COUNT]
                             [CONNECTION_TABLE_PORT_PAGE_COUNT]; ///< addresses, or 0
    CONNECTION_VISITOR Removing;                                 ///< or NULL; of ConnectionTableEndRemoved
    void *RemovingContext;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG LastGeneration;
    UINT8 Padding2[PLATFORM_CACHE_LINE];
    volatile LONG ScopeUses[SCOPE_NONE]; ///< connections of each scope but SCOPE_DEFAULT, ended ones included
} CONNECTION_TABLE;

/// A local port that is given up, and which of its connections end with it.
/// Of TCP, those are the connects of its socket that never came up, and connections that ALE does not know.
/// Any other TCP connection has a closure of its own.
typedef struct _CONNECTION_RELEASE
{
    UINT8 Protocol;
    UINT8 IpVersion;
    UINT16 LocalPort;
    UINT8 LocalAddress[16]; ///< all-zero: any address
    UINT64 ProcessId;       ///< 0: any process. A connection of an unknown process ends in any case
    UINT64 EndpointHandle;  ///< of the socket; 0: any socket. A connect of an unknown socket ends in any case
    UINT64 SparedScopes[4]; ///< a bit for each scope whose connections are not of this port
} CONNECTION_RELEASE;

/// Makes an empty table that takes up to `maxConnections`, ended ones included.
/// STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS
ConnectionTableInitialize(_Out_ CONNECTION_TABLE *table, _Inout_ MEMORY *memory, _In_ const CLOCK *clock,
                          _In_ UINT64 maxConnections);

/// From now on `visitor` is called for each live connection that is to be removed.
/// It is idle, or ClearCache removes it: `Life.EndReason` says which.
/// The visitor ends it. The connection stays if it does not, because it was used meanwhile.
/// Call it before the table is used.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableEndRemoved(_Inout_ CONNECTION_TABLE *table, _In_ CONNECTION_VISITOR visitor,
                               _Inout_opt_ void *context);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableUninitialize(_Inout_ CONNECTION_TABLE *table);

/// Finds a connection and marks it as used now (unless it ended). FALSE: unknown. O(1), allocates nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableLookup(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                              _Out_ CONNECTION_STATE *state);

/// Finds a live connection, or adds an undecided connection that is not reported. `state` gets the state.
/// A connection that ended is replaced, because a reused port is a new connection.
///
/// STATUS_SUCCESS: the connection was added.
/// STATUS_OBJECT_NAME_EXISTS, a success too: the connection was found and marked as used.
/// A found connection of an unknown process gets `processId`.
/// STATUS_CONNECTION_COUNT_LIMIT: the table holds `maxConnections`. STATUS_INSUFFICIENT_RESOURCES: no memory.
/// `state` is not written on failure.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ConnectionTableFindOrInsert(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                     _In_ UINT64 processId, _In_ UINT8 direction, _Inout_ CONNECTION_STATE *state);

/// Changes the verdict of a live connection. `state` gets the new state. FALSE: unknown, or ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetVerdict(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT8 verdict,
                                  _Out_ CONNECTION_STATE *state);

/// Notes that ALE has begun to authorize the connect of a live TCP connection. Its port's release may end it from now
/// on. `endpointHandle` is its socket's transport endpoint. 0: not known.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetConnecting(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                  _In_ UINT32 generation, _In_ UINT64 endpointHandle);

/// Notes that ALE authorized a live connection. A TCP connection then stays until its closure, however idle it is.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetAuthorized(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                  _In_ UINT32 generation);

/// Notes that a live connection came up. It is authorized, and only its closure ends it.
/// `flowHandle` is kept until its end. 0: not known.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetEstablished(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                   _In_ UINT64 flowHandle);

/// Takes the flow handle of a live connection that came up and has the verdict PermanentBlock.
/// TRUE: the caller aborts the flow. One caller at most gets TRUE for a connection, which is marked as aborted.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableTakeBlockedFlow(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                       _Out_ UINT64 *flowHandle);

/// Makes a live connection undecided again if it still has this verdict.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableForgetVerdict(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                  _In_ UINT32 generation, _In_ UINT8 verdict);

/// Returns the order lock of a key. Several keys may share it. It is taken before any call of this table. Any IRQL.
KSPIN_LOCK *ConnectionTableOrder(_In_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key);

/// Copies a live connection without marking it as used. FALSE: unknown, or ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableCopyLive(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                _Out_ CONNECTION *connection);

/// Notes that a live connection was reported to the client by the question with this id, so its end is reported too.
/// A connection that is unknown, ended or of another generation stays unchanged.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetReported(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                                _In_ UINT64 question);

/// Marks a connection as ended. Exactly one caller gets TRUE, with a copy in `ended`.
/// FALSE: unknown, ended before, or of another generation. `generation` 0 stands for any.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableEnd(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                           _Out_ CONNECTION *ended);

/// Visits the live connections that end with a local port. The visitor ends them.
/// The call may miss a connection that is added while it runs.
/// The time is proportional to the number of connections on this port, whatever the size of the table.
/// Locks are held for a few dozen entries at a time.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableVisitPort(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_RELEASE *release,
                              _In_ CONNECTION_VISITOR visitor, _Inout_opt_ void *context);

/// Visits the live conversations of a protocol without ports between two addresses, such as all pings of one computer.
/// The rules of ConnectionTableVisitPort apply. The ports of `ends` mean nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableVisitPortless(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *ends,
                                  _In_ CONNECTION_VISITOR visitor, _Inout_opt_ void *context);

/// Counts a pending question about a connection, and sets its process if that is not known yet.
/// The connection stays in the table until the question is resolved or released, so the verdict finds it.
/// A connection that is unknown or of another generation stays unchanged.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableAddPending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                               _In_ UINT64 processId);

/// TRUE if a question about the connection waits for a verdict.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableIsPending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                 _In_ UINT32 generation);

/// Notes that the remote address is the broadcast address of a subnet, which its bits do not show.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetBroadcast(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key);

/// Undoes one ConnectionTableAddPending without a verdict, and marks the connection as used.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableReleasePending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                   _In_ UINT32 generation);

/// Undoes one ConnectionTableAddPending, marks the connection as used and sets the verdict, unless it ended.
/// FALSE: the connection is unknown, ended, or of another generation.
/// A verdict on an old connection does not decide a new connection with the same key.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableResolvePending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                      _In_ UINT32 generation, _In_ UINT8 verdict);

/// Adds to the bytes that a connection has transferred since its start. An unknown connection is left out.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableAddBytes(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ BOOLEAN inbound,
                             _In_ UINT64 bytes);

/// Copies the next connections of a walk, ended ones included, and moves `walk` behind them. Returns how many.
/// A connection that stays in the table during the walk is copied once.
/// It is copied twice if its shard shrinks meanwhile.
/// 0 with a walk that is not over: `capacity` is less than the few connections that can only be copied together.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT32 ConnectionTableWalk(_Inout_ CONNECTION_TABLE *table, _Inout_ CONNECTION_WALK *walk,
                           _Out_writes_to_(capacity, return) CONNECTION *connections, _In_ UINT32 capacity);

/// TRUE if the walk has seen the whole table. A place beyond the table is the end, too. Any IRQL.
BOOLEAN ConnectionWalkIsOver(_In_ const CONNECTION_WALK *walk);

/// Removes connections that ended over CONNECTION_ENDED_SECONDS ago, and gives memory back.
/// `includeIdle` also removes live connections without a packet for over CONNECTION_IDLE_SECONDS.
/// A TCP connection that ALE authorized is never idle, because its closure is sure to come.
/// A connection is never removed early, and at most a second late. Returns how many were removed.
/// `waitSeconds` gets the seconds until the next connection may be removed; MAXUINT32: the table has none.
/// A connection that has to wait for its verdict is looked at again after CONNECTION_ENDED_SECONDS.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionTableClean(_Inout_ CONNECTION_TABLE *table, _In_ BOOLEAN includeIdle, _Out_opt_ UINT32 *waitSeconds);

/// The ClearCache command: removes every connection. A connection with a pending question becomes undecided instead.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableClearCache(_Inout_ CONNECTION_TABLE *table);

/// Removes every connection, also those with a pending question.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableRemoveAll(_Inout_ CONNECTION_TABLE *table);

/// TRUE if the table has a connection of a scope other than SCOPE_DEFAULT, ended ones included. Any IRQL.
BOOLEAN ConnectionTableHasScope(_In_ const CONNECTION_TABLE *table, _In_ UINT8 scope);

/// Connections in the table now, ended ones included. Any IRQL.
UINT64 ConnectionTableCount(_In_ const CONNECTION_TABLE *table);

/// Pool bytes of the table now: cells, cold parts and indexes. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionTableBytes(_Inout_ CONNECTION_TABLE *table);

EXTERN_C_END

// The connection table: the verdict and the state of each connection.
//
// The table never refuses a connection while it holds one that it can do without (eviction.h).
//
// Two connections that use one key one after the other have different generations.
// The order lock of a key is for the caller: under it the caller reports what becomes of the key's connections.
// Whoever holds it finds, reports and marks a connection in one step, so the records of a key are in order.
//
// Lock order: order stripe, then shard, then port stripe or slab stripe. A thread holds at most one lock of each kind.
// No lock is held during a visitor's call. Memory is allocated and freed with no lock held.

#pragma once

#include "connection_entry.h"

EXTERN_C_START

/// The most connections that any limit allows.
#define CONNECTION_TABLE_MOST (1u << 22)

// A bound of the table's pool bytes: these for each connection of its limit, after the most recent growth of a shard,
// and the fixed ones for locks, list heads, counters and shards that are small.
#define CONNECTION_TABLE_MOST_BYTES_V4 160u
#define CONNECTION_TABLE_MOST_BYTES_V6 264u
#define CONNECTION_TABLE_FIXED_BYTES   (6u * 1024u * 1024u)

/// Who is behind a connection, as ALE knows it.
typedef struct _CONNECTION_ORIGIN
{
    UINT64 ProcessId;
    const VOID *Path; ///< of the process's image
    UINT32 PathBytes; ///< 0: the path is not known
    BOOLEAN IsOlder;  ///< the connection was there before the driver saw it
} CONNECTION_ORIGIN;

/// A place in a walk over the table. All zero: the start. No place holds memory or a lock.
typedef struct _CONNECTION_WALK
{
    UINT32 Shard;  ///< of both IP versions, one after the other
    UINT32 Bucket; ///< changes in the order of ConnectionTableWalk
} CONNECTION_WALK;

/// Makes an empty table that takes up to `maxConnections`, ended ones included, and at most CONNECTION_TABLE_MOST.
/// STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS
ConnectionTableInitialize(_Out_ CONNECTION_TABLE *table, _Inout_ MEMORY *memory, _In_ const CLOCK *clock,
                          _In_ UINT64 maxConnections);

/// From now on `visitor` is called for each live connection that is to be removed.
/// It is idle, it is evicted, or ClearCache removes it: `Life.EndReason` says which.
/// The visitor ends it. The connection stays if it does not, because it was used meanwhile.
/// ConnectionTableFindOrInsert and ConnectionTableEvict call it, too.
/// Call it before the table is used.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableEndRemoved(_Inout_ CONNECTION_TABLE *table, _In_ CONNECTION_VISITOR visitor,
                               _Inout_opt_ void *context);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableUninitialize(_Inout_ CONNECTION_TABLE *table);

/// Changes the limit of ConnectionTableInitialize, at once. TRUE: the table holds more, until ConnectionTableEvict has
/// brought it down. Meanwhile each new connection takes the place of another one. Any IRQL.
BOOLEAN ConnectionTableSetLimit(_Inout_ CONNECTION_TABLE *table, _In_ UINT64 maxConnections);

/// TRUE if the table holds more than its limit allows. Any IRQL.
BOOLEAN ConnectionTableIsOverLimit(_In_ const CONNECTION_TABLE *table);

/// Evicts up to `most` connections above the limit. TRUE: the table still holds too many. FALSE: it does not,
/// or questions wait about all that were looked at.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableEvict(_Inout_ CONNECTION_TABLE *table, _In_ UINT32 most);

/// Finds a connection and marks it as used now (unless it ended). FALSE: unknown. O(1), allocates nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableLookup(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                              _Out_ CONNECTION_STATE *state);

/// Looks a connection up for one of its packets, as ConnectionTableLookup does.
/// A connection with at most one packet each way is evicted sooner than others.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionTableLookupPacket(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                    _In_ BOOLEAN inbound, _Out_ CONNECTION_STATE *state);

/// Finds a live connection, or adds an undecided connection that is not reported. `state` gets the state.
/// A connection that ended is replaced, because a reused port is a new connection.
///
/// STATUS_SUCCESS: the connection was added.
/// STATUS_OBJECT_NAME_EXISTS, a success too: the connection was found and marked as used.
/// A found connection of an unknown process gets `processId`.
/// STATUS_CONNECTION_COUNT_LIMIT: the table is full, and questions wait about all connections that were looked at.
/// STATUS_INSUFFICIENT_RESOURCES: no memory.
/// `state` is not written on failure.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ConnectionTableFindOrInsert(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                     _In_ UINT64 processId, _In_ UINT8 direction, _Inout_ CONNECTION_STATE *state);

/// Changes the verdict of a live connection, and forgets ConnectionTableSetStalled. `state` gets the new state.
/// FALSE: unknown, or ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetVerdict(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT8 verdict,
                                  _Out_ CONNECTION_STATE *state);

/// Notes that ALE has begun to authorize the connect of a live TCP connection. Its port's release may end it from now
/// on. `endpointHandle` is its socket's transport endpoint. 0: not known.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetConnecting(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                  _In_ UINT32 generation, _In_ UINT64 endpointHandle);

/// Notes who is behind a live connection, for the share that its owner has in the table.
/// An inbound connection's owner is the remote network, whatever the origin.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableSetOrigin(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                              _In_ const CONNECTION_ORIGIN *origin);

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

/// Undoes ConnectionTableSetReported.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableForgetReported(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                   _In_ UINT32 generation);

/// Marks a connection as ended. Exactly one caller gets TRUE, with a copy in `ended`.
/// FALSE: unknown, ended before, or of another generation. `generation` 0 stands for any.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableEnd(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                           _Out_ CONNECTION *ended);

/// Counts a pending question about a connection, and sets its process if that is not known yet.
/// The connection stays in the table until the question is resolved or released, so the verdict finds it.
/// A connection that is unknown or of another generation stays unchanged.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableAddPending(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                               _In_ UINT64 processId);

/// Marks a live connection on which the fail policy decides while the client is stalled. Sets its process if that is
/// not known yet. FALSE: it was marked before. A connection that is unknown or of another generation has no mark.
/// A pending question and ConnectionTableSetVerdict forget the mark.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ConnectionTableSetStalled(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key,
                                  _In_ UINT32 generation, _In_ UINT64 processId);

/// Forgets the marks of ConnectionTableSetStalled. Walks the table if there are any.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionTableForgetStalled(_Inout_ CONNECTION_TABLE *table);

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

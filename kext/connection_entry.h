// An entry of the connection table: what is known of one connection, and where it lies in memory.
//
// A connection has a hot cell in a connection map, of 32 bytes for IPv4 and 64 bytes for IPv6.
// The hot cell holds everything that a packet needs, and what an eviction looks at first.
// A connection also has a cold part of 56 bytes in a slab, which only its start and its end need.
// The cell holds its handle.
//
// This file and connection_ports.h are for the files that make up the table. Everybody else uses connection_table.h.
// The caller holds the lock of the cell's shard. Only the field Use is written under the shared lock as well.

#pragma once

#include "clock.h"
#include "connection_map.h"
#include "owner_shares.h"
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
    BOOLEAN Stalled;    ///< the fail policy has decided for a stalled client that has not been asked since
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

// ---- Memory

#define CELL_FLAG_INBOUND    0x1u
#define CELL_FLAG_ENDED      0x2u
#define CELL_FLAG_REPORTED   0x4u
#define CELL_FLAG_CONNECTING 0x8u  ///< a TCP connect that has not come up since it was authorized for the first time
#define CELL_FLAG_AUTHORIZED 0x10u ///< ALE permitted it at least once
#define CELL_FLAG_ABORTED    0x20u ///< its flow was aborted
#define CELL_FLAG_BROADCAST  0x40u
#define CELL_FLAG_IN_USE     0x80u

/// The end of a cell, from the last word of the key on. The addresses lie before it.
typedef struct _CONNECTION_CELL
{
    UINT16 LocalPort;
    UINT16 RemotePort;
    UINT8 Protocol;
    UINT8 Scope;
    UINT8 Verdict; ///< VERDICT, CELL_VERDICT_WAITING and CELL_VERDICT_STALLED
    UINT8 Flags;
    UINT32 Generation;
    volatile LONG Use; ///< CELL_USE_ marks, and above them ClockSeconds of the last use, later of the end
    UINT32 ProcessId;
    UINT32 Cold; ///< handle of the cold part
} CONNECTION_CELL;

static_assert(sizeof(CONNECTION_CELL) == CONNECTION_CELL_BYTES_V4 - (CONNECTION_KEY_WORDS_V4 - 1) * sizeof(UINT64),
              "an IPv4 cell is full");
static_assert(FIELD_OFFSET(CONNECTION_CELL, Flags) == 7 && (UINT64)CELL_FLAG_IN_USE << 56 == SHARD_CELL_IN_USE,
              "the flags lie where the map has its own");

// The bits of CONNECTION_CELL.Verdict.
#define CELL_VERDICT_MASK    0xFu
#define CELL_VERDICT_WAITING 0x10u ///< a question waits for its verdict
#define CELL_VERDICT_STALLED 0x20u ///< the fail policy has decided in this stall, or in the last one

static_assert(VerdictCount <= CELL_VERDICT_MASK + 1, "a cell has 4 bits for a verdict");

// Marks of CONNECTION_CELL.Use. Readers write them without an interlocked operation, so a mark may be lost.
// The next packet sets it again.
#define CELL_USE_OUTBOUND 0x1 ///< a packet was sent
#define CELL_USE_INBOUND  0x2 ///< a packet was received
#define CELL_USE_GROWN    0x4 ///< there was a second packet one way, or the connection came up
#define CELL_USE_RECENT   0x8 ///< used since the hand of the eviction passed

// The time of a use wraps after 8 years. A difference of two times is right up to half of that.
#define CELL_USE_TIME_SHIFT 4
#define CELL_USE_MARKS      ((1 << CELL_USE_TIME_SHIFT) - 1)

/// What only the start and the end of a connection need.
typedef struct _CONNECTION_COLD
{
    UINT32 Next;     ///< of the list by port, which has the live connections; handle of a cold part, or 0
    UINT32 Previous; ///< both are guarded by the port stripe
    UINT32 Place;    ///< what is kept of the hash
    UINT32 Generation;
    UINT32 QuestionLow; ///< id of the last question; 48 bits last for years at a million questions a second
    UINT16 QuestionHigh;
    UINT16 Owner;         ///< of OWNER_SHARES
    UINT32 StartLow;      ///< system time of the start in units of 2^10 times 100 ns, without the highest bits
    UINT32 StartHigh : 8; ///< 40 bits last for 3.5 years
    UINT32 Pending : 24;  ///< questions that wait for a verdict
    UINT64 Handle;        ///< of a TCP connection's endpoint while it connects, of its flow once it came up; 0: none
    volatile LONG64 TransmittedBytes;
    volatile LONG64 ReceivedBytes;
} CONNECTION_COLD;

static_assert(sizeof(CONNECTION_COLD) >= SLAB_LEAST_ITEM_BYTES, "a slab takes it");
static_assert(sizeof(CONNECTION_COLD) <= 56, "the memory of a connection is bounded");

// A place has the number of the shard above the low bits of the hash.
// These bits are enough for the cells of one shard, because a keyed hash spreads the connections over all shards.
#define CONNECTION_PLACE_INDEX_BITS 22u
#define CONNECTION_PLACE_INDEX_MASK ((1u << CONNECTION_PLACE_INDEX_BITS) - 1)

static_assert(SHARD_MAP_SHIFT + CONNECTION_PLACE_INDEX_BITS <= 32, "a place fits");

#define CONNECTION_TABLE_PORT_STRIPE_COUNT  (256u >> PLATFORM_TABLE_SHRINK)
#define CONNECTION_TABLE_ORDER_STRIPE_COUNT (256u >> PLATFORM_TABLE_SHRINK)

// A family is TCP, UDP or all other protocols, on IPv4 or on IPv6.
// Each family has its own list heads by local port, in pages of 256 ports.
#define CONNECTION_TABLE_PORT_FAMILY_COUNT 6
#define CONNECTION_TABLE_PORT_PAGE_COUNT   256

/// Where a walk over the list of a port goes on. It is on the stack of its thread, and in a list of its stripe.
typedef struct _CONNECTION_PORT_CURSOR
{
    struct _CONNECTION_PORT_CURSOR *Other; ///< in the same stripe
    UINT32 Next;                           ///< changes if that connection leaves the list meanwhile
} CONNECTION_PORT_CURSOR;

/// `Cursors` is of a port stripe alone.
typedef struct _CONNECTION_STRIPE
{
    KSPIN_LOCK Lock;
    CONNECTION_PORT_CURSOR *Cursors;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK) - sizeof(CONNECTION_PORT_CURSOR *)];
} CONNECTION_STRIPE;

typedef struct _CONNECTION_TABLE
{
    MEMORY *Memory;
    const CLOCK *Clock;
    CONNECTION_MAP Connections;
    SLAB ColdParts;
    OWNER_SHARES Shares;
    CONNECTION_STRIPE *PortStripes;
    CONNECTION_STRIPE *OrderStripes;
    volatile LONG64 PortPages[CONNECTION_TABLE_PORT_FAMILY_COUNT]
                             [CONNECTION_TABLE_PORT_PAGE_COUNT]; ///< addresses, or 0
    CONNECTION_VISITOR Removing;                                 ///< or NULL; of ConnectionTableEndRemoved
    void *RemovingContext;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG LastGeneration;
    volatile LONG Hand;       ///< of the eviction: the next shard, of both IP versions
    volatile LONG HasStalled; ///< a connection has CELL_VERDICT_STALLED
    UINT8 Padding2[PLATFORM_CACHE_LINE];
    volatile LONG ScopeUses[SCOPE_NONE]; ///< connections of each scope but SCOPE_DEFAULT, ended ones included
} CONNECTION_TABLE;

// ---- Access

FORCEINLINE CONNECTION_CELL *ConnectionEntryFind(_In_ const CONNECTION_TABLE *table, _In_ const CONNECTION_PLACE *place)
{
    return (CONNECTION_CELL *)ConnectionMapFind(&table->Connections, place);
}

/// The entry of the words of a map's cell.
FORCEINLINE CONNECTION_CELL *ConnectionEntryOfWords(_In_ const SHARD_MAP *map, _In_ UINT64 *words)
{
    return (CONNECTION_CELL *)(words + map->KeyWords - 1);
}

FORCEINLINE UINT64 *ConnectionEntryWords(_In_ const SHARD_MAP *map, _In_ const CONNECTION_CELL *cell)
{
    return (UINT64 *)cell - (map->KeyWords - 1);
}

FORCEINLINE CONNECTION_COLD *ConnectionEntryCold(_In_ const CONNECTION_TABLE *table, _In_ const CONNECTION_CELL *cell)
{
    return (CONNECTION_COLD *)SlabAt(&table->ColdParts, cell->Cold);
}

FORCEINLINE BOOLEAN ConnectionEntryHasEnded(_In_ const CONNECTION_CELL *cell)
{
    return (cell->Flags & CELL_FLAG_ENDED) != 0;
}

FORCEINLINE BOOLEAN ConnectionEntryIsInbound(_In_ const CONNECTION_CELL *cell)
{
    return (cell->Flags & CELL_FLAG_INBOUND) != 0;
}

/// TRUE if ALE_ENDPOINT_CLOSURE is sure to end this connection.
FORCEINLINE BOOLEAN ConnectionEntryHasClosure(_In_ const CONNECTION_CELL *cell)
{
    return cell->Protocol == PROTOCOL_TCP && (cell->Flags & CELL_FLAG_AUTHORIZED) != 0;
}

/// Seconds since the last use, or since the end. `now` is ClockSeconds.
/// A packet on another processor may have written a time just after `now` was read: that is 0.
FORCEINLINE UINT32 ConnectionEntryAge(_In_ const CONNECTION_CELL *cell, _In_ UINT32 now)
{
    LONG use = ReadNoFence(&cell->Use) & ~CELL_USE_MARKS;
    LONG age = (LONG)((now << CELL_USE_TIME_SHIFT) - (UINT32)use);

    return age > 0 ? (UINT32)age >> CELL_USE_TIME_SHIFT : 0;
}

/// Marks a live connection as used. `packet` is CELL_USE_OUTBOUND or CELL_USE_INBOUND for a packet, else 0.
/// Writes at most once a second for a connection that has grown, so its cache line stays clean meanwhile.
FORCEINLINE VOID ConnectionEntryTouch(_In_ const CONNECTION_TABLE *table, _Inout_ CONNECTION_CELL *cell,
                                      _In_ LONG packet)
{
    LONG before = ReadNoFence(&cell->Use);
    LONG grown = (before & packet) != 0 ? CELL_USE_GROWN : 0;
    LONG after = (LONG)(ClockSeconds(table->Clock) << CELL_USE_TIME_SHIFT) | (before & CELL_USE_MARKS) | packet |
                 grown | CELL_USE_RECENT;

    if (before != after && !ConnectionEntryHasEnded(cell))
    {
        WriteNoFence(&cell->Use, after);
    }
}

FORCEINLINE UINT8 ConnectionEntryVerdict(_In_ const CONNECTION_CELL *cell)
{
    return cell->Verdict & CELL_VERDICT_MASK;
}

FORCEINLINE VOID ConnectionEntrySetVerdict(_Inout_ CONNECTION_CELL *cell, _In_ UINT8 verdict)
{
    cell->Verdict = (UINT8)((cell->Verdict & ~CELL_VERDICT_MASK) | verdict);
}

/// TRUE if a question about the connection waits for its verdict.
FORCEINLINE BOOLEAN ConnectionEntryIsWaiting(_In_ const CONNECTION_CELL *cell)
{
    return (cell->Verdict & CELL_VERDICT_WAITING) != 0;
}

/// TRUE if the fail policy has decided for a stalled client.
FORCEINLINE BOOLEAN ConnectionEntryIsStalled(_In_ const CONNECTION_CELL *cell)
{
    return (cell->Verdict & CELL_VERDICT_STALLED) != 0;
}

FORCEINLINE VOID ConnectionEntryForgetStalled(_Inout_ CONNECTION_CELL *cell)
{
    cell->Verdict &= (UINT8)~CELL_VERDICT_STALLED;
}

/// Sets marks of a connection. The caller holds the shard exclusively.
FORCEINLINE VOID ConnectionEntryMark(_Inout_ CONNECTION_CELL *cell, _In_ LONG marks)
{
    WriteNoFence(&cell->Use, ReadNoFence(&cell->Use) | marks);
}

/// The state of a cell.
FORCEINLINE CONNECTION_STATE ConnectionEntryState(_In_ const CONNECTION_CELL *cell)
{
    CONNECTION_STATE state;

    state.Verdict = ConnectionEntryVerdict(cell);
    state.Direction = ConnectionEntryIsInbound(cell) ? DirectionInbound : DirectionOutbound;
    state.Ended = ConnectionEntryHasEnded(cell);
    state.Reported = (cell->Flags & CELL_FLAG_REPORTED) != 0;
    state.Broadcast = (cell->Flags & CELL_FLAG_BROADCAST) != 0;
    state.Authorized = (cell->Flags & CELL_FLAG_AUTHORIZED) != 0;
    state.Aborted = (cell->Flags & CELL_FLAG_ABORTED) != 0;
    state.Stalled = ConnectionEntryIsStalled(cell);
    state.Generation = cell->Generation;
    state.ProcessId = cell->ProcessId;
    return state;
}

/// Adds to the number of questions that wait.
FORCEINLINE VOID ConnectionEntryChangePending(_In_ const CONNECTION_TABLE *table, _Inout_ CONNECTION_CELL *cell,
                                              _In_ LONG more)
{
    CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);

    cold->Pending += (UINT32)more;
    cell->Verdict = (UINT8)((cell->Verdict & ~CELL_VERDICT_WAITING) | (cold->Pending != 0 ? CELL_VERDICT_WAITING : 0));
}

/// Notes the id of the last question.
FORCEINLINE VOID ConnectionEntrySetQuestion(_Inout_ CONNECTION_COLD *cold, _In_ UINT64 id)
{
    cold->QuestionHigh = (UINT16)(id >> 32);
    cold->QuestionLow = (UINT32)id;
}

FORCEINLINE UINT64 ConnectionEntryQuestion(_In_ const CONNECTION_COLD *cold)
{
    return (UINT64)cold->QuestionHigh << 32 | cold->QuestionLow;
}

/// Notes that the connection starts now.
_IRQL_requires_(DISPATCH_LEVEL)
VOID ConnectionEntrySetStart(_Out_ CONNECTION_COLD *cold);

/// Copies all that is known of a connection.
_IRQL_requires_(DISPATCH_LEVEL)
VOID ConnectionEntryCopy(_In_ const CONNECTION_TABLE *table, _In_ const SHARD_MAP *map,
                         _In_ const CONNECTION_CELL *cell, _Out_ CONNECTION *connection);

EXTERN_C_END

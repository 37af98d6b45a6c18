// The packet cache: the packets and operations that wait for a verdict, by id.
//
// A HELD belongs to the cache from a successful insert until one thread takes it.
// The thread that takes a HELD resolves it, so each is resolved once, however verdicts, timeouts and detaches race.
// Ids count up from 1. The low bits of an id choose the shard.
// Each shard has a spin lock, a hash table, a list in order of age and a list in order of deadlines.
// No lock is held when a function returns. Memory is allocated with no lock held.
//
// A classify that cannot report the operation that it pended must not complete that operation either.
// PacketCacheFail puts the HELD of such an operation aside for a later round.
// A thread that takes a HELD is inside the rundown Resolvers, or inside a classify, until the HELD is resolved.
//
// test/models/hold.pml is a model of holding. A HELD is `cached` there while it belongs to the cache.
// A HELD is `taken` in the model by the thread that took it, and `failed` in the list Failed.

#pragma once

#include "connection_table.h"
#include "lanes.h"
#include "rundown.h"

EXTERN_C_START

typedef enum _HELD_KIND
{
    HeldAleConnect,
    HeldAleRecvAccept,
    HeldPacketOutbound,
    HeldPacketInbound,
    HeldNothing ///< a question alone: its packet was decided in place
} HELD_KIND;

struct _INJECT_PACKET;

/// One held packet or pended operation. The caller of PacketCacheInsert allocates it and fills in all but the links.
typedef struct _HELD
{
    LIST_ENTRY Link;         ///< the cache's own
    LIST_ENTRY AgeLink;      ///< the cache's own
    LIST_ENTRY DeadlineLink; ///< the cache's own
    UINT64 Id;               ///< from PacketCacheReserveId
    HELD_KIND Kind;
    CONNECTION_KEY Key;
    UINT64 ProcessId;
    UINT8 Direction;               ///< DIRECTION
    UINT32 Generation;             ///< of its connection in the table; 0: it has none
    UINT64 Datagram;               ///< id in the fragment table, if it is a first fragment; else 0
    HANDLE CompletionContext;      ///< the pended operation, or NULL
    struct _INJECT_PACKET *Packet; ///< the deep copy, or NULL
    SIZE_T Bytes;                  ///< that it takes up
    UINT64 AskedTime;              ///< ClockNow at which it was made
    UINT64 DeadlineTime;           ///< ClockNow at which it expires; 0: never
    LANE_QUESTION Question;        ///< what its owner is charged for
    BOOLEAN Refused;               ///< its owner holds too much, so the fail policy does not decide
    BOOLEAN Stalled;               ///< its client cannot answer now, so the connection is asked about again
    volatile LONG References;      ///< for the owner
} HELD;

#define PACKET_CACHE_SHARD_SHIFT (8 - PLATFORM_TABLE_SHRINK)
#define PACKET_CACHE_SHARD_COUNT (1u << PACKET_CACHE_SHARD_SHIFT)

typedef struct _PACKET_CACHE_SHARD PACKET_CACHE_SHARD;

typedef struct _PACKET_CACHE
{
    MEMORY *Memory;
    PACKET_CACHE_SHARD *Shards;
    volatile LONG64 LastId;
    volatile LONG64 Count;
    volatile LONG64 Bytes;
    volatile LONG NextTake; ///< the shard where PacketCacheTakeAny goes on
    RUNDOWN Resolvers;
    KSPIN_LOCK FailedLock; ///< a leaf, around the list operations only
    LIST_ENTRY Failed;     ///< HELDs by Link, oldest first
} PACKET_CACHE;

/// Makes an empty, closed cache. STATUS_INSUFFICIENT_RESOURCES: there is no memory.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS PacketCacheInitialize(_Out_ PACKET_CACHE *cache, _Inout_ MEMORY *memory);

/// Frees the cache, which must be empty.
_IRQL_requires_(PASSIVE_LEVEL)
VOID PacketCacheUninitialize(_Inout_ PACKET_CACHE *cache);

/// Opens or closes the cache. A closed cache fails inserts with STATUS_DEVICE_NOT_READY.
/// Once the cache is closed, PacketCacheTakeAny sees every insert that succeeded, and no further insert succeeds.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheSetOpen(_Inout_ PACKET_CACHE *cache, _In_ BOOLEAN open);

/// Returns the next id, which is never 0 and never the same twice. Any IRQL.
UINT64 PacketCacheReserveId(_Inout_ PACKET_CACHE *cache);

/// Puts `held` into the cache. After success another thread may take, resolve and free it before this call returns.
/// A caller that needs the id or the packet after the insert copies the id and references the packet before it.
/// STATUS_DEVICE_NOT_READY: the cache is closed. The caller bounds what is held (lanes.h).
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS PacketCacheInsert(_Inout_ PACKET_CACHE *cache, _Inout_ HELD *held);

/// Takes the HELD with this id. NULL: it is not in the cache. O(1).
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTake(_Inout_ PACKET_CACHE *cache, _In_ UINT64 id);

/// Takes one HELD whose DeadlineTime is not after `now` (ClockNow). NULL: the round is over.
/// `place` is 0 at the start of a round. The next call of the round goes on at `place`.
/// A HELD inserted behind `place` waits for the next round.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeExpired(_Inout_ PACKET_CACHE *cache, _In_ UINT64 now, _Inout_ UINT32 *place);

/// Returns the earliest DeadlineTime in the cache. CLOCK_NEVER: no HELD expires. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 PacketCacheNextDeadline(_Inout_ PACKET_CACHE *cache);

/// Returns the earliest AskedTime in the cache. CLOCK_NEVER: the cache is empty. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 PacketCacheOldestTime(_Inout_ PACKET_CACHE *cache);

/// Takes any HELD, roughly oldest first. NULL: the cache is empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeAny(_Inout_ PACKET_CACHE *cache);

/// Puts aside a HELD that is not in the cache, for PacketCacheTakeFailed.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheFail(_Inout_ PACKET_CACHE *cache, _Inout_ HELD *held);

/// Takes the oldest HELD that was put aside. NULL: there is none.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeFailed(_Inout_ PACKET_CACHE *cache);

/// Returns how many HELDs are in the cache now. Any IRQL.
UINT64 PacketCacheCount(_In_ const PACKET_CACHE *cache);
/// Returns how many bytes the HELDs in the cache count for now. Any IRQL.
UINT64 PacketCacheBytes(_In_ const PACKET_CACHE *cache);

EXTERN_C_END

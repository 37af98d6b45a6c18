// The packet cache: what waits for a verdict, by id.
//
// A HELD belongs to the cache from a successful insert until one thread takes it. That thread alone resolves it, so
// each is resolved exactly once, however verdicts, timeouts and detaches race. Ids count up from 1. Their low bits
// choose the shard; each shard has a spin lock, its own hash table, a list in order of age and one in order of
// deadlines. No lock is held when a function returns, and memory is allocated with none held.
//
// A classify that cannot report what it pended may not complete the operation either. PacketCacheFail puts such a HELD
// aside for a later round. A thread that takes something is inside the rundown Resolvers, or inside a classify, until
// it is resolved.
//
// In test/models/hold.pml a HELD is `cached` while it belongs to the cache, `taken` by the thread that took it, and
// `failed` in the list Failed.

#pragma once

#include "connection_table.h"
#include "rundown.h"

EXTERN_C_START

typedef enum _HELD_KIND
{
    HeldAleConnect,
    HeldAleRecvAccept,
    HeldPacketOutbound,
    HeldPacketInbound
} HELD_KIND;

struct _INJECT_PACKET;

/// One held packet or pended operation. The caller allocates it and fills in all but the links.
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
    SIZE_T Bytes;                  ///< counts against MaxBytes
    UINT64 DeadlineTime;           ///< KeQueryInterruptTime at which it expires; 0: never
} HELD;

#define PACKET_CACHE_SHARD_SHIFT (8 - PLATFORM_TABLE_SHRINK)
#define PACKET_CACHE_SHARD_COUNT (1u << PACKET_CACHE_SHARD_SHIFT)

// The bounds before PacketCacheSetLimit: packets, and the bytes that they take together.
#define PACKET_CACHE_DEFAULT_MAX_COUNT 65536u
#define PACKET_CACHE_DEFAULT_MAX_BYTES (256ULL * 1024ULL * 1024ULL)

typedef struct _PACKET_CACHE_SHARD PACKET_CACHE_SHARD;

typedef struct _PACKET_CACHE
{
    MEMORY *Memory;
    PACKET_CACHE_SHARD *Shards;
    volatile LONG64 MaxCount;
    volatile LONG64 MaxBytes;
    volatile LONG64 LastId;
    volatile LONG64 Count;
    volatile LONG64 Bytes;
    volatile LONG NextTake; ///< the shard where PacketCacheTakeAny goes on
    RUNDOWN Resolvers;
    KSPIN_LOCK FailedLock; ///< a leaf, around the list operations only
    LIST_ENTRY Failed;     ///< HELDs by Link, oldest first
} PACKET_CACHE;

/// Makes an empty, closed cache with the default limits. STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS PacketCacheInitialize(_Out_ PACKET_CACHE *cache, _Inout_ MEMORY *memory);

/// Frees the cache, which must be empty.
_IRQL_requires_(PASSIVE_LEVEL)
VOID PacketCacheUninitialize(_Inout_ PACKET_CACHE *cache);

/// An open cache takes inserts; a closed one fails them with STATUS_DEVICE_NOT_READY. When the cache is closed,
/// PacketCacheTakeAny sees every insert that succeeded, and none follows.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheSetOpen(_Inout_ PACKET_CACHE *cache, _In_ BOOLEAN open);

/// Sets the bounds for what is inserted from now on. What is held stays.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheSetLimit(_Inout_ PACKET_CACHE *cache, _In_ UINT32 maxPackets, _In_ UINT64 maxBytes);

/// The next id: never 0, never the same twice. Any IRQL.
UINT64 PacketCacheReserveId(_Inout_ PACKET_CACHE *cache);

/// Puts `held` into the cache. After success another thread may take, resolve and free it before this call returns. So
/// a caller that needs the id or the packet afterwards copies the id and references the packet before.
/// STATUS_QUOTA_EXCEEDED: over the bound by count or bytes. STATUS_DEVICE_NOT_READY: closed.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS PacketCacheInsert(_Inout_ PACKET_CACHE *cache, _Inout_ HELD *held);

/// Takes the one with this id. NULL: it is not in the cache. O(1).
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTake(_Inout_ PACKET_CACHE *cache, _In_ UINT64 id);

/// Takes one whose DeadlineTime is not after `now` (KeQueryInterruptTime). `place` is 0 at the start of a round, and
/// the next call goes on there. NULL: the round is over. An insert behind `place` waits for the next round.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeExpired(_Inout_ PACKET_CACHE *cache, _In_ UINT64 now, _Inout_ UINT32 *place);

/// Takes any one, roughly oldest first. NULL: the cache is empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeAny(_Inout_ PACKET_CACHE *cache);

/// Puts aside a HELD that is not in the cache, for PacketCacheTakeFailed.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheFail(_Inout_ PACKET_CACHE *cache, _Inout_ HELD *held);

/// Takes the oldest that was put aside. NULL: there is none.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeFailed(_Inout_ PACKET_CACHE *cache);

/// How many are in the cache now, and how many bytes they count for. Any IRQL.
UINT64 PacketCacheCount(_In_ const PACKET_CACHE *cache);
UINT64 PacketCacheBytes(_In_ const PACKET_CACHE *cache);

EXTERN_C_END

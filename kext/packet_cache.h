// The packet cache: what waits for a verdict, by id.
//
// A HELD belongs to the cache from a successful insert until somebody takes it; whoever takes it resolves it, and
// nobody else: so each is resolved exactly once, whatever verdicts, timeouts and detaches race. Ids count up from 1 and
// choose the shard by their low bits; each shard has a spin lock, its own hash table, a list in order of age and one in
// order of deadlines. No lock is held when a function returns, and memory is allocated with none held.
//
// In test/models/hold.pml a HELD is `cached` while it belongs to the cache, and `taken` by whoever took it.

#pragma once

#include "connection_table.h"

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
    LIST_ENTRY Link;         ///< the cache's own; the owner's again once it is taken
    LIST_ENTRY AgeLink;      ///< the cache's own
    LIST_ENTRY DeadlineLink; ///< the cache's own
    UINT64 Id;               ///< from PacketCacheReserveId
    HELD_KIND Kind;
    CONNECTION_KEY Key;
    UINT64 ProcessId;
    UINT8 Direction;               ///< DIRECTION
    UINT32 Generation;             ///< of its connection in the table, or 0: it has none
    UINT64 Datagram;               ///< in the fragment table, whose first fragment it is, or 0
    HANDLE CompletionContext;      ///< the pended operation, or NULL
    struct _INJECT_PACKET *Packet; ///< the deep copy, or NULL
    SIZE_T Bytes;                  ///< what it counts for against the bound by bytes
    UINT64 DeadlineTime;           ///< KeQueryInterruptTime at which it expires, or 0: never
} HELD;

#define PACKET_CACHE_SHARD_SHIFT (8 - PLATFORM_TABLE_SHRINK)
#define PACKET_CACHE_SHARD_COUNT (1u << PACKET_CACHE_SHARD_SHIFT)

// Bounds unless PacketCacheSetLimit says otherwise: packets, and the bytes that they take together.
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
} PACKET_CACHE;

/// Makes an empty, closed cache with the default limits. STATUS_INSUFFICIENT_RESOURCES, after which
/// PacketCacheUninitialize is allowed and nothing else.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS PacketCacheInitialize(_Out_ PACKET_CACHE *cache, _Inout_ MEMORY *memory);

/// Frees the cache, which must be empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheUninitialize(_Inout_ PACKET_CACHE *cache);

/// From now on inserts are taken, or fail with STATUS_DEVICE_NOT_READY. When PacketCacheClose returns, every insert
/// that succeeded can be seen by PacketCacheTakeAny, and none follows.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheOpen(_Inout_ PACKET_CACHE *cache);
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheClose(_Inout_ PACKET_CACHE *cache);

/// Bounds for what is inserted from now on; what is held stays.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketCacheSetLimit(_Inout_ PACKET_CACHE *cache, _In_ UINT32 maxPackets, _In_ UINT64 maxBytes);

/// The next id: never 0, never given twice. Any IRQL.
UINT64 PacketCacheReserveId(_Inout_ PACKET_CACHE *cache);

/// Puts `held` into the cache. After success it belongs to the cache and may be taken, resolved and freed by another
/// thread before this call has returned: a caller that needs the id or the packet afterwards copies the one and
/// references the other before.
/// STATUS_QUOTA_EXCEEDED: over the bound by count or bytes. STATUS_DEVICE_NOT_READY: closed.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS PacketCacheInsert(_Inout_ PACKET_CACHE *cache, _Inout_ HELD *held);

/// Takes the one with this id; NULL: there is none (any more). O(1).
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTake(_Inout_ PACKET_CACHE *cache, _In_ UINT64 id);

/// Takes one whose DeadlineTime is not after `now` (KeQueryInterruptTime). `place`: 0 at the start of a round; the next
/// call goes on there. NULL: the round is over. What is inserted before `place` meanwhile is of the next round.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeExpired(_Inout_ PACKET_CACHE *cache, _In_ UINT64 now, _Inout_ UINT32 *place);

/// Takes any one, roughly oldest first; NULL: the cache is empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
HELD *PacketCacheTakeAny(_Inout_ PACKET_CACHE *cache);

/// How many are held now, and how many bytes they count for. Any IRQL.
UINT64 PacketCacheCount(_In_ const PACKET_CACHE *cache);
UINT64 PacketCacheBytes(_In_ const PACKET_CACHE *cache);

EXTERN_C_END

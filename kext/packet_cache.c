#include "packet_cache.h"

#define PACKET_CACHE_LEAST_BUCKETS 4u
#define PACKET_CACHE_MOST_BUCKETS  4096u

// A shard gets more buckets when its buckets' lists are this long on average.
#define PACKET_CACHE_BUCKET_FULL 2u

struct _PACKET_CACHE_SHARD
{
    KSPIN_LOCK Lock;
    LIST_ENTRY *Buckets; // Link, by id
    UINT32 BucketMask;
    UINT32 Count;
    LIST_ENTRY ByAge;      // AgeLink, oldest first
    LIST_ENTRY ByDeadline; // DeadlineLink of the HELDs that have a deadline, earliest first
    BOOLEAN Open;
    UINT8 Padding[PLATFORM_CACHE_LINE * 2 - sizeof(KSPIN_LOCK) - sizeof(PVOID) - 2 * sizeof(UINT32) -
                  2 * sizeof(LIST_ENTRY) - sizeof(BOOLEAN)];
};

static_assert(sizeof(PACKET_CACHE_SHARD) % PLATFORM_CACHE_LINE == 0, "shards must not share a line");

static LIST_ENTRY *PacketCacheBucketOf(const PACKET_CACHE_SHARD *shard, UINT64 id)
{
    return &shard->Buckets[(UINT32)(id >> PACKET_CACHE_SHARD_SHIFT) & shard->BucketMask];
}

static LIST_ENTRY *PacketCacheAllocateBuckets(PACKET_CACHE *cache, UINT32 count)
{
    LIST_ENTRY *buckets = (LIST_ENTRY *)MemoryAllocate(cache->Memory, count * sizeof(LIST_ENTRY));
    UINT32 i;

    for (i = 0; buckets != NULL && i < count; i++)
    {
        InitializeListHead(&buckets[i]);
    }
    return buckets;
}

static NTSTATUS PacketCacheAllocateShards(PACKET_CACHE *cache)
{
    UINT32 i;

    cache->Shards = (PACKET_CACHE_SHARD *)MemoryAllocateCacheAligned(cache->Memory, PACKET_CACHE_SHARD_COUNT *
                                                                                        sizeof(PACKET_CACHE_SHARD));
    if (cache->Shards == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (i = 0; i < PACKET_CACHE_SHARD_COUNT; i++)
    {
        PACKET_CACHE_SHARD *shard = &cache->Shards[i];

        KeInitializeSpinLock(&shard->Lock);
        InitializeListHead(&shard->ByAge);
        InitializeListHead(&shard->ByDeadline);
        shard->BucketMask = PACKET_CACHE_LEAST_BUCKETS - 1;
        shard->Buckets = PacketCacheAllocateBuckets(cache, PACKET_CACHE_LEAST_BUCKETS);
        if (shard->Buckets == NULL)
        {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
NTSTATUS PacketCacheInitialize(PACKET_CACHE *cache, MEMORY *memory)
{
    NTSTATUS status;

    RtlZeroMemory(cache, sizeof(*cache));
    cache->Memory = memory;
    KeInitializeSpinLock(&cache->FailedLock);
    InitializeListHead(&cache->Failed);

    status = RundownInitialize(&cache->Resolvers, memory);
    if (NT_SUCCESS(status))
    {
        status = PacketCacheAllocateShards(cache);
    }
    if (!NT_SUCCESS(status))
    {
        PacketCacheUninitialize(cache);
    }
    return status;
}

_Use_decl_annotations_
VOID PacketCacheUninitialize(PACKET_CACHE *cache)
{
    UINT32 i;

    for (i = 0; cache->Shards != NULL && i < PACKET_CACHE_SHARD_COUNT; i++)
    {
        MemoryFree(cache->Memory, cache->Shards[i].Buckets);
    }
    MemoryFree(cache->Memory, cache->Shards);
    RundownUninitialize(&cache->Resolvers);
}

_Use_decl_annotations_
VOID PacketCacheSetOpen(PACKET_CACHE *cache, BOOLEAN open)
{
    UINT32 i;

    for (i = 0; i < PACKET_CACHE_SHARD_COUNT; i++)
    {
        KIRQL irql;

        KeAcquireSpinLock(&cache->Shards[i].Lock, &irql);
        cache->Shards[i].Open = open;
        KeReleaseSpinLock(&cache->Shards[i].Lock, irql);
    }
}

_Use_decl_annotations_
UINT64 PacketCacheReserveId(PACKET_CACHE *cache)
{
    LONG64 id;

    do
    {
        id = InterlockedIncrement64(&cache->LastId);
    } while (id == 0);
    return (UINT64)id;
}

static VOID PacketCacheCountHeld(PACKET_CACHE *cache, LONG64 count, LONG64 bytes)
{
    InterlockedExchangeAdd64(&cache->Count, count);
    InterlockedExchangeAdd64(&cache->Bytes, bytes);
}

// An insert counts a HELD before it links it, so no shard has a HELD when the count is 0.
static BOOLEAN PacketCacheIsEmpty(const PACKET_CACHE *cache)
{
    return PacketCacheCount(cache) == 0;
}

static VOID PacketCacheLink(PACKET_CACHE_SHARD *shard, HELD *held)
{
    LIST_ENTRY *before = shard->ByDeadline.Blink;

    shard->Count++;
    InsertTailList(PacketCacheBucketOf(shard, held->Id), &held->Link);
    InsertTailList(&shard->ByAge, &held->AgeLink);
    if (held->DeadlineTime == 0)
    {
        return;
    }
    // The search starts at the end: deadlines mostly come in order, because all have the same timeout.
    while (before != &shard->ByDeadline &&
           CONTAINING_RECORD(before, HELD, DeadlineLink)->DeadlineTime > held->DeadlineTime)
    {
        before = before->Blink;
    }
    InsertHeadList(before, &held->DeadlineLink);
}

static VOID PacketCacheUnlink(PACKET_CACHE_SHARD *shard, HELD *held)
{
    RemoveEntryList(&held->Link);
    RemoveEntryList(&held->AgeLink);
    if (held->DeadlineTime != 0)
    {
        RemoveEntryList(&held->DeadlineLink);
    }
    shard->Count--;
}

// Moves a shard's HELDs into twice as many buckets. If there is no memory, the lists only grow longer.
static VOID PacketCacheGrowShard(PACKET_CACHE *cache, PACKET_CACHE_SHARD *shard, UINT32 bucketCount)
{
    LIST_ENTRY *buckets = PacketCacheAllocateBuckets(cache, bucketCount * 2);
    LIST_ENTRY *unused = buckets;
    LIST_ENTRY *entry;
    KIRQL irql;

    if (buckets == NULL)
    {
        return;
    }
    KeAcquireSpinLock(&shard->Lock, &irql);
    if (shard->BucketMask + 1 == bucketCount)
    {
        unused = shard->Buckets;
        shard->Buckets = buckets;
        shard->BucketMask = bucketCount * 2 - 1;
        for (entry = shard->ByAge.Flink; entry != &shard->ByAge; entry = entry->Flink)
        {
            HELD *held = CONTAINING_RECORD(entry, HELD, AgeLink);

            InsertTailList(PacketCacheBucketOf(shard, held->Id), &held->Link);
        }
    }
    KeReleaseSpinLock(&shard->Lock, irql);
    MemoryFree(cache->Memory, unused);
}

_Use_decl_annotations_
NTSTATUS PacketCacheInsert(PACKET_CACHE *cache, HELD *held)
{
    PACKET_CACHE_SHARD *shard = &cache->Shards[held->Id % PACKET_CACHE_SHARD_COUNT];
    SIZE_T bytes = held->Bytes;
    UINT32 buckets;
    UINT32 count;
    BOOLEAN open;
    KIRQL irql;

    PacketCacheCountHeld(cache, 1, (LONG64)bytes);
    KeAcquireSpinLock(&shard->Lock, &irql);
    open = shard->Open;
    if (open)
    {
        PacketCacheLink(shard, held);
    }
    count = shard->Count;
    buckets = shard->BucketMask + 1;
    KeReleaseSpinLock(&shard->Lock, irql);

    if (!open)
    {
        PacketCacheCountHeld(cache, -1, -(LONG64)bytes);
        return STATUS_DEVICE_NOT_READY;
    }
    if (count > buckets * PACKET_CACHE_BUCKET_FULL && buckets < PACKET_CACHE_MOST_BUCKETS)
    {
        PacketCacheGrowShard(cache, shard, buckets);
    }
    return STATUS_SUCCESS;
}

// Finds one HELD in a shard, under the shard's lock.
typedef HELD *PACKET_CACHE_FIND(const PACKET_CACHE_SHARD *shard, UINT64 argument);

static HELD *PacketCacheFindById(const PACKET_CACHE_SHARD *shard, UINT64 id)
{
    LIST_ENTRY *bucket = PacketCacheBucketOf(shard, id);
    LIST_ENTRY *entry;

    for (entry = bucket->Flink; entry != bucket; entry = entry->Flink)
    {
        HELD *held = CONTAINING_RECORD(entry, HELD, Link);

        if (held->Id == id)
        {
            return held;
        }
    }
    return NULL;
}

static HELD *PacketCacheFindExpired(const PACKET_CACHE_SHARD *shard, UINT64 now)
{
    HELD *first = CONTAINING_RECORD(shard->ByDeadline.Flink, HELD, DeadlineLink);

    return !IsListEmpty(&shard->ByDeadline) && first->DeadlineTime <= now ? first : NULL;
}

static HELD *PacketCacheFindOldest(const PACKET_CACHE_SHARD *shard, UINT64 unused)
{
    UNREFERENCED_PARAMETER(unused);
    return IsListEmpty(&shard->ByAge) ? NULL : CONTAINING_RECORD(shard->ByAge.Flink, HELD, AgeLink);
}

static HELD *PacketCacheTakeFrom(PACKET_CACHE *cache, UINT64 index, PACKET_CACHE_FIND *find, UINT64 argument)
{
    PACKET_CACHE_SHARD *shard = &cache->Shards[index % PACKET_CACHE_SHARD_COUNT];
    HELD *held;
    KIRQL irql;

    KeAcquireSpinLock(&shard->Lock, &irql);
    held = find(shard, argument);
    if (held != NULL)
    {
        PacketCacheUnlink(shard, held);
    }
    KeReleaseSpinLock(&shard->Lock, irql);
    if (held != NULL)
    {
        PacketCacheCountHeld(cache, -1, -(LONG64)held->Bytes);
    }
    return held;
}

_Use_decl_annotations_
HELD *PacketCacheTake(PACKET_CACHE *cache, UINT64 id)
{
    return PacketCacheTakeFrom(cache, id, PacketCacheFindById, id);
}

_Use_decl_annotations_
HELD *PacketCacheTakeExpired(PACKET_CACHE *cache, UINT64 now, UINT32 *place)
{
    HELD *held = NULL;

    while (held == NULL && *place < PACKET_CACHE_SHARD_COUNT && !PacketCacheIsEmpty(cache))
    {
        held = PacketCacheTakeFrom(cache, *place, PacketCacheFindExpired, now);
        *place += held == NULL ? 1 : 0;
    }
    return held;
}

// Returns a time of one shard, under the shard's lock. CLOCK_NEVER: the shard has none.
typedef UINT64 (*PACKET_CACHE_TIME)(const PACKET_CACHE_SHARD *shard);

static UINT64 PacketCacheShardDeadline(const PACKET_CACHE_SHARD *shard)
{
    const HELD *first = PacketCacheFindExpired(shard, CLOCK_NEVER);

    return first != NULL ? first->DeadlineTime : CLOCK_NEVER;
}

static UINT64 PacketCacheShardOldestTime(const PACKET_CACHE_SHARD *shard)
{
    const HELD *oldest = PacketCacheFindOldest(shard, 0);

    return oldest != NULL ? oldest->AskedTime : CLOCK_NEVER;
}

static UINT64 PacketCacheEarliest(PACKET_CACHE *cache, PACKET_CACHE_TIME timeOf)
{
    UINT64 earliest = CLOCK_NEVER;
    UINT32 i;

    for (i = 0; i < PACKET_CACHE_SHARD_COUNT && !PacketCacheIsEmpty(cache); i++)
    {
        PACKET_CACHE_SHARD *shard = &cache->Shards[i];
        UINT64 time;
        KIRQL irql;

        KeAcquireSpinLock(&shard->Lock, &irql);
        time = timeOf(shard);
        KeReleaseSpinLock(&shard->Lock, irql);
        earliest = time < earliest ? time : earliest;
    }
    return earliest;
}

_Use_decl_annotations_
UINT64 PacketCacheNextDeadline(PACKET_CACHE *cache)
{
    return PacketCacheEarliest(cache, PacketCacheShardDeadline);
}

_Use_decl_annotations_
UINT64 PacketCacheOldestTime(PACKET_CACHE *cache)
{
    return PacketCacheEarliest(cache, PacketCacheShardOldestTime);
}

_Use_decl_annotations_
HELD *PacketCacheTakeAny(PACKET_CACHE *cache)
{
    // Neighbouring ids are in neighbouring shards, so going round roughly keeps the order.
    UINT32 start = (UINT32)InterlockedIncrement(&cache->NextTake);
    HELD *held = NULL;
    UINT32 i;

    for (i = 0; held == NULL && i < PACKET_CACHE_SHARD_COUNT && !PacketCacheIsEmpty(cache); i++)
    {
        held = PacketCacheTakeFrom(cache, start + i, PacketCacheFindOldest, 0);
    }
    return held;
}

_Use_decl_annotations_
VOID PacketCacheFail(PACKET_CACHE *cache, HELD *held)
{
    KIRQL irql;

    KeAcquireSpinLock(&cache->FailedLock, &irql);
    InsertTailList(&cache->Failed, &held->Link);
    KeReleaseSpinLock(&cache->FailedLock, irql);
}

_Use_decl_annotations_
HELD *PacketCacheTakeFailed(PACKET_CACHE *cache)
{
    HELD *held = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&cache->FailedLock, &irql);
    if (!IsListEmpty(&cache->Failed))
    {
        held = CONTAINING_RECORD(RemoveHeadList(&cache->Failed), HELD, Link);
    }
    KeReleaseSpinLock(&cache->FailedLock, irql);
    return held;
}

_Use_decl_annotations_
UINT64 PacketCacheCount(const PACKET_CACHE *cache)
{
    return (UINT64)ReadNoFence64(&cache->Count);
}

_Use_decl_annotations_
UINT64 PacketCacheBytes(const PACKET_CACHE *cache)
{
    return (UINT64)ReadNoFence64(&cache->Bytes);
}

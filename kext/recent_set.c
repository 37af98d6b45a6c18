#include "recent_set.h"

typedef struct _RECENT_PAIR
{
    UINT64 Key;
    UINT64 Value;
} RECENT_PAIR;

// One set. Its pairs follow, the oldest first.
typedef struct _RECENT_SET_HEAD
{
    KSPIN_LOCK Lock;
    UINT32 Count;
    UINT8 Padding[sizeof(RECENT_PAIR) - sizeof(KSPIN_LOCK) - sizeof(UINT32)];
} RECENT_SET_HEAD;

static_assert(sizeof(RECENT_SET_HEAD) == sizeof(RECENT_PAIR), "2^n - 1 pairs and their head fill whole cache lines");

static SIZE_T RecentSetStride(const RECENT_SET *recent)
{
    return (SIZE_T)(recent->PairsPerSet + 1) * sizeof(RECENT_PAIR);
}

// Returns the memory of the sets. Published memory stays until RecentSetUninitialize.
static UINT8 *RecentSetMemory(const RECENT_SET *recent)
{
    return (UINT8 *)(ULONG_PTR)ReadAcquire64(&recent->Sets);
}

static RECENT_SET_HEAD *RecentSetAt(const RECENT_SET *recent, UINT64 index)
{
    return (RECENT_SET_HEAD *)(RecentSetMemory(recent) + (SIZE_T)index * RecentSetStride(recent));
}

static RECENT_PAIR *RecentSetPairs(RECENT_SET_HEAD *set)
{
    return (RECENT_PAIR *)(set + 1);
}

_Use_decl_annotations_
VOID RecentSetInitialize(RECENT_SET *recent, MEMORY *memory, UINT32 setCount, UINT32 pairsPerSet)
{
    recent->Memory = memory;
    recent->SetCount = setCount;
    recent->PairsPerSet = pairsPerSet;
    recent->Sets = 0;
}

_Use_decl_annotations_
VOID RecentSetUninitialize(RECENT_SET *recent)
{
    MemoryFree(recent->Memory, RecentSetMemory(recent));
    recent->Sets = 0;
}

_Use_decl_annotations_
VOID RecentSetAllocate(RECENT_SET *recent)
{
    UINT8 *memory;
    UINT32 i;

    if (RecentSetIsAllocated(recent))
    {
        return;
    }
    memory = (UINT8 *)MemoryAllocateCacheAligned(recent->Memory, recent->SetCount * RecentSetStride(recent));
    if (memory == NULL)
    {
        return;
    }
    for (i = 0; i < recent->SetCount; i++)
    {
        KeInitializeSpinLock(&((RECENT_SET_HEAD *)(memory + i * RecentSetStride(recent)))->Lock);
    }
    if (InterlockedCompareExchange64(&recent->Sets, (LONG64)(ULONG_PTR)memory, 0) != 0)
    {
        MemoryFree(recent->Memory, memory);
    }
}

_Use_decl_annotations_
BOOLEAN RecentSetIsAllocated(const RECENT_SET *recent)
{
    return RecentSetMemory(recent) != NULL;
}

// The caller holds the set's lock.
static VOID RecentSetRemove(RECENT_SET_HEAD *set, UINT32 index)
{
    RECENT_PAIR *pairs = RecentSetPairs(set);

    set->Count--;
    RtlMoveMemory(&pairs[index], &pairs[index + 1], (set->Count - index) * sizeof(RECENT_PAIR));
}

_Use_decl_annotations_
VOID RecentSetAdd(RECENT_SET *recent, UINT64 key, UINT64 value)
{
    RECENT_SET_HEAD *set;
    RECENT_PAIR *pair;
    KIRQL irql;

    if (!RecentSetIsAllocated(recent))
    {
        return;
    }
    set = RecentSetAt(recent, key % recent->SetCount);
    KeAcquireSpinLock(&set->Lock, &irql);
    if (set->Count == recent->PairsPerSet)
    {
        RecentSetRemove(set, 0);
    }
    pair = &RecentSetPairs(set)[set->Count];
    pair->Key = key;
    pair->Value = value;
    set->Count++;
    KeReleaseSpinLock(&set->Lock, irql);
}

static BOOLEAN RecentSetRead(RECENT_SET *recent, UINT64 key, BOOLEAN take, UINT64 *value)
{
    RECENT_SET_HEAD *set;
    UINT32 left;
    KIRQL irql;

    if (!RecentSetIsAllocated(recent))
    {
        return FALSE;
    }
    set = RecentSetAt(recent, key % recent->SetCount);
    KeAcquireSpinLock(&set->Lock, &irql);
    for (left = set->Count; left != 0 && RecentSetPairs(set)[left - 1].Key != key; left--)
    {
    }
    if (left != 0)
    {
        *value = RecentSetPairs(set)[left - 1].Value;
        if (take)
        {
            RecentSetRemove(set, left - 1);
        }
    }
    KeReleaseSpinLock(&set->Lock, irql);
    return left != 0;
}

_Use_decl_annotations_
BOOLEAN RecentSetFind(RECENT_SET *recent, UINT64 key, UINT64 *value)
{
    return RecentSetRead(recent, key, FALSE, value);
}

_Use_decl_annotations_
BOOLEAN RecentSetTake(RECENT_SET *recent, UINT64 key, UINT64 *value)
{
    return RecentSetRead(recent, key, TRUE, value);
}

_Use_decl_annotations_
VOID RecentSetClear(RECENT_SET *recent)
{
    UINT32 i;

    for (i = 0; RecentSetIsAllocated(recent) && i < recent->SetCount; i++)
    {
        RECENT_SET_HEAD *set = RecentSetAt(recent, i);
        KIRQL irql;

        KeAcquireSpinLock(&set->Lock, &irql);
        set->Count = 0;
        KeReleaseSpinLock(&set->Lock, irql);
    }
}

_Use_decl_annotations_
UINT64 RecentSetCount(RECENT_SET *recent, UINT64 least)
{
    UINT64 count = 0;
    UINT32 pair;
    UINT32 i;

    for (i = 0; RecentSetIsAllocated(recent) && i < recent->SetCount; i++)
    {
        RECENT_SET_HEAD *set = RecentSetAt(recent, i);
        KIRQL irql;

        KeAcquireSpinLock(&set->Lock, &irql);
        for (pair = 0; pair < set->Count; pair++)
        {
            count += RecentSetPairs(set)[pair].Value >= least ? 1 : 0;
        }
        KeReleaseSpinLock(&set->Lock, irql);
    }
    return count;
}

_Use_decl_annotations_
UINT64 RecentSetBytes(const RECENT_SET *recent)
{
    return RecentSetIsAllocated(recent) ? recent->SetCount * RecentSetStride(recent) : 0;
}

#include "return_table.h"

typedef struct _RETURN_ENTRY
{
    UINT64 Hash;
    UINT64 Until; // KeQueryInterruptTime; 0: free
} RETURN_ENTRY;

typedef struct _RETURN_SET
{
    KSPIN_LOCK Lock;
    UINT8 Padding[16 - sizeof(KSPIN_LOCK)];
    RETURN_ENTRY Ways[RETURN_TABLE_WAYS];
} RETURN_SET;

static_assert(sizeof(RETURN_SET) % PLATFORM_CACHE_LINE == 0, "sets must not share a line");

_Use_decl_annotations_
VOID ReturnTableInitialize(RETURN_TABLE *table, MEMORY *memory)
{
    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    SipHashKeyInitialize(&table->Key);
}

// Once published the sets stay.
static RETURN_SET *Sets(RETURN_TABLE *table)
{
    return (RETURN_SET *)(ULONG_PTR)ReadAcquire64(&table->Sets);
}

_Use_decl_annotations_
VOID ReturnTableUninitialize(RETURN_TABLE *table)
{
    MemoryFree(table->Memory, Sets(table));
    table->Sets = 0;
}

_Use_decl_annotations_
VOID ReturnTableEnable(RETURN_TABLE *table)
{
    RETURN_SET *sets;
    UINT32 i;

    if (Sets(table) != NULL)
    {
        return;
    }
    sets = (RETURN_SET *)MemoryAllocateCacheAligned(table->Memory, RETURN_TABLE_SETS * sizeof(RETURN_SET));
    if (sets == NULL)
    {
        return;
    }
    for (i = 0; i < RETURN_TABLE_SETS; i++)
    {
        KeInitializeSpinLock(&sets[i].Lock);
    }
    if (InterlockedCompareExchange64(&table->Sets, (LONG64)(ULONG_PTR)sets, 0) != 0)
    {
        MemoryFree(table->Memory, sets);
    }
}

// The free or expired way, or else the oldest, which expires first.
static RETURN_ENTRY *OldestOf(RETURN_SET *set)
{
    RETURN_ENTRY *oldest = &set->Ways[0];
    UINT32 i;

    for (i = 1; i < RETURN_TABLE_WAYS; i++)
    {
        if (set->Ways[i].Until < oldest->Until)
        {
            oldest = &set->Ways[i];
        }
    }
    return oldest;
}

// NULL: none that has not expired.
static RETURN_ENTRY *Find(RETURN_SET *set, UINT64 hash)
{
    UINT64 now = KeQueryInterruptTime();
    UINT32 i;

    for (i = 0; i < RETURN_TABLE_WAYS; i++)
    {
        if (set->Ways[i].Hash == hash && now < set->Ways[i].Until)
        {
            return &set->Ways[i];
        }
    }
    return NULL;
}

_Use_decl_annotations_
VOID ReturnTableAdd(RETURN_TABLE *table, const UINT8 *packet, UINT32 length)
{
    RETURN_SET *sets = Sets(table);
    RETURN_ENTRY *entry;
    RETURN_SET *set;
    UINT64 hash;
    KIRQL irql;

    if (sets == NULL)
    {
        return;
    }
    hash = SipHash13(&table->Key, packet, length);
    set = &sets[hash % RETURN_TABLE_SETS];
    KeAcquireSpinLock(&set->Lock, &irql);
    entry = OldestOf(set);
    entry->Hash = hash;
    entry->Until = KeQueryInterruptTime() + RETURN_TABLE_TIME_MS * PLATFORM_TICKS_PER_MILLISECOND;
    KeReleaseSpinLock(&set->Lock, irql);
}

_Use_decl_annotations_
BOOLEAN ReturnTableTake(RETURN_TABLE *table, const UINT8 *packet, UINT32 length)
{
    RETURN_SET *sets = Sets(table);
    RETURN_ENTRY *entry;
    RETURN_SET *set;
    UINT64 hash;
    KIRQL irql;

    if (sets == NULL)
    {
        return FALSE;
    }
    hash = SipHash13(&table->Key, packet, length);
    set = &sets[hash % RETURN_TABLE_SETS];
    KeAcquireSpinLock(&set->Lock, &irql);
    entry = Find(set, hash);
    if (entry != NULL)
    {
        entry->Until = 0;
    }
    KeReleaseSpinLock(&set->Lock, irql);
    return entry != NULL;
}

static UINT32 CountSet(RETURN_SET *set)
{
    UINT64 now = KeQueryInterruptTime();
    UINT32 count = 0;
    KIRQL irql;
    UINT32 i;

    KeAcquireSpinLock(&set->Lock, &irql);
    for (i = 0; i < RETURN_TABLE_WAYS; i++)
    {
        count += now < set->Ways[i].Until ? 1 : 0;
    }
    KeReleaseSpinLock(&set->Lock, irql);
    return count;
}

_Use_decl_annotations_
UINT64 ReturnTableCount(RETURN_TABLE *table)
{
    RETURN_SET *sets = Sets(table);
    UINT64 count = 0;
    UINT32 i;

    for (i = 0; sets != NULL && i < RETURN_TABLE_SETS; i++)
    {
        count += CountSet(&sets[i]);
    }
    return count;
}

_Use_decl_annotations_
UINT64 ReturnTableBytes(RETURN_TABLE *table)
{
    return Sets(table) != NULL ? RETURN_TABLE_SETS * sizeof(RETURN_SET) : 0;
}

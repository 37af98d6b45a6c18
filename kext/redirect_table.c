#include "redirect_table.h"

#define BUCKET_COUNT (16384u >> PLATFORM_TABLE_SHRINK)
#define STRIPE_COUNT 64u

struct _REDIRECT_ENTRY
{
    REDIRECT_ENTRY *Next;
    CONNECTION_KEY Target;
    CONNECTION_KEY Original;
    volatile LONG LastUse; // PlatformSeconds; written by readers too
};

struct _REDIRECT_STRIPE
{
    RW_LOCK Lock;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(RW_LOCK)];
};

static UINT32 BucketOf(const REDIRECT_TABLE *table, const CONNECTION_KEY *target)
{
    return (UINT32)SipHash13Of40(&table->HashKey, target) % BUCKET_COUNT;
}

static RW_LOCK *LockOf(const REDIRECT_TABLE *table, UINT32 bucket)
{
    return &table->Stripes[bucket % STRIPE_COUNT].Lock;
}

_Use_decl_annotations_
NTSTATUS RedirectTableInitialize(REDIRECT_TABLE *table, MEMORY *memory, UINT64 maxEntries)
{
    UINT32 i;

    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    table->MaxEntries = maxEntries;
    SipHashKeyInitialize(&table->HashKey);
    table->Buckets = (REDIRECT_ENTRY **)MemoryAllocate(memory, BUCKET_COUNT * sizeof(REDIRECT_ENTRY *));
    table->Stripes = (REDIRECT_STRIPE *)MemoryAllocateCacheAligned(memory, STRIPE_COUNT * sizeof(REDIRECT_STRIPE));
    if (table->Buckets == NULL || table->Stripes == NULL)
    {
        RedirectTableUninitialize(table);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (i = 0; i < STRIPE_COUNT; i++)
    {
        RwLockInitialize(&table->Stripes[i].Lock);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID RedirectTableUninitialize(REDIRECT_TABLE *table)
{
    if (table->Buckets != NULL && table->Stripes != NULL)
    {
        RedirectTableClear(table);
    }
    MemoryFree(table->Memory, table->Stripes);
    MemoryFree(table->Memory, table->Buckets);
    table->Stripes = NULL;
    table->Buckets = NULL;
}

// Under the bucket's lock. Marks the entry as used now.
static REDIRECT_ENTRY *Find(const REDIRECT_TABLE *table, UINT32 bucket, const CONNECTION_KEY *target)
{
    LONG now = (LONG)PlatformSeconds();
    REDIRECT_ENTRY *entry;

    for (entry = table->Buckets[bucket]; entry != NULL; entry = entry->Next)
    {
        if (ConnectionKeysEqual(&entry->Target, target))
        {
            if (ReadNoFence(&entry->LastUse) != now)
            {
                WriteNoFence(&entry->LastUse, now);
            }
            return entry;
        }
    }
    return NULL;
}

_Use_decl_annotations_
BOOLEAN RedirectTableFind(REDIRECT_TABLE *table, const CONNECTION_KEY *target, CONNECTION_KEY *original)
{
    UINT32 bucket = BucketOf(table, target);
    KIRQL irql = RwLockAcquireShared(LockOf(table, bucket));
    const REDIRECT_ENTRY *entry = Find(table, bucket, target);

    if (entry != NULL)
    {
        *original = entry->Original;
    }
    RwLockReleaseShared(LockOf(table, bucket), irql);
    return entry != NULL;
}

static BOOLEAN IsNoted(REDIRECT_TABLE *table, UINT32 bucket, const CONNECTION_KEY *target,
                       const CONNECTION_KEY *original)
{
    KIRQL irql = RwLockAcquireShared(LockOf(table, bucket));
    const REDIRECT_ENTRY *entry = Find(table, bucket, target);
    BOOLEAN noted = entry != NULL && ConnectionKeysEqual(&entry->Original, original);

    RwLockReleaseShared(LockOf(table, bucket), irql);
    return noted;
}

// STATUS_RETRY: the target is unknown, and there is no `spare` to put in. A spare that was put in is NULL then.
static NTSTATUS Store(REDIRECT_TABLE *table, UINT32 bucket, const CONNECTION_KEY *target,
                      const CONNECTION_KEY *original, REDIRECT_ENTRY **spare)
{
    KIRQL irql = RwLockAcquireExclusive(LockOf(table, bucket));
    REDIRECT_ENTRY *entry = Find(table, bucket, target);
    NTSTATUS status = entry != NULL || *spare != NULL ? STATUS_SUCCESS : STATUS_RETRY;

    if (entry == NULL && *spare != NULL)
    {
        entry = *spare;
        *spare = NULL;
        entry->Target = *target;
        entry->LastUse = (LONG)PlatformSeconds();
        entry->Next = table->Buckets[bucket];
        table->Buckets[bucket] = entry;
    }
    if (entry != NULL)
    {
        entry->Original = *original;
    }
    RwLockReleaseExclusive(LockOf(table, bucket), irql);
    return status;
}

static NTSTATUS StoreNew(REDIRECT_TABLE *table, UINT32 bucket, const CONNECTION_KEY *target,
                         const CONNECTION_KEY *original)
{
    REDIRECT_ENTRY *spare = NULL;
    NTSTATUS status;

    if ((UINT64)InterlockedIncrement64(&table->Count) > table->MaxEntries)
    {
        InterlockedDecrement64(&table->Count);
        return STATUS_QUOTA_EXCEEDED;
    }
    spare = (REDIRECT_ENTRY *)MemoryAllocate(table->Memory, sizeof(*spare));
    status = spare != NULL ? Store(table, bucket, target, original, &spare) : STATUS_INSUFFICIENT_RESOURCES;
    if (spare != NULL || !NT_SUCCESS(status))
    {
        // Another was faster, or there is none.
        InterlockedDecrement64(&table->Count);
        MemoryFree(table->Memory, spare);
    }
    return status;
}

_Use_decl_annotations_
NTSTATUS RedirectTableNote(REDIRECT_TABLE *table, const CONNECTION_KEY *target, const CONNECTION_KEY *original)
{
    UINT32 bucket = BucketOf(table, target);
    REDIRECT_ENTRY *none = NULL;
    NTSTATUS status;

    if (IsNoted(table, bucket, target, original))
    {
        return STATUS_SUCCESS;
    }
    status = Store(table, bucket, target, original, &none);
    return status == STATUS_RETRY ? StoreNew(table, bucket, target, original) : status;
}

// ---- Forgetting

static UINT64 Free(REDIRECT_TABLE *table, REDIRECT_ENTRY *entries)
{
    UINT64 freed = 0;

    while (entries != NULL)
    {
        REDIRECT_ENTRY *next = entries->Next;

        MemoryFree(table->Memory, entries);
        entries = next;
        freed++;
    }
    InterlockedExchangeAdd64(&table->Count, -(LONG64)freed);
    return freed;
}

// Takes entries out of a bucket: all, or those that were idle for too long.
static REDIRECT_ENTRY *Take(REDIRECT_TABLE *table, UINT32 bucket, BOOLEAN all)
{
    KIRQL irql = RwLockAcquireExclusive(LockOf(table, bucket));
    REDIRECT_ENTRY **place = &table->Buckets[bucket];
    UINT32 now = PlatformSeconds();
    REDIRECT_ENTRY *taken = NULL;

    while (*place != NULL)
    {
        REDIRECT_ENTRY *entry = *place;

        if (all || now - (UINT32)entry->LastUse > CONNECTION_IDLE_SECONDS)
        {
            *place = entry->Next;
            entry->Next = taken;
            taken = entry;
        }
        else
        {
            place = &entry->Next;
        }
    }
    RwLockReleaseExclusive(LockOf(table, bucket), irql);
    return taken;
}

static UINT64 Forget(REDIRECT_TABLE *table, BOOLEAN all)
{
    UINT64 forgotten = 0;
    UINT32 bucket;

    for (bucket = 0; bucket < BUCKET_COUNT && RedirectTableCount(table) != 0; bucket++)
    {
        forgotten += Free(table, Take(table, bucket, all));
    }
    return forgotten;
}

_Use_decl_annotations_
UINT64 RedirectTableClean(REDIRECT_TABLE *table)
{
    return Forget(table, FALSE);
}

_Use_decl_annotations_
VOID RedirectTableClear(REDIRECT_TABLE *table)
{
    (VOID) Forget(table, TRUE);
}

_Use_decl_annotations_
UINT64 RedirectTableCount(const REDIRECT_TABLE *table)
{
    return (UINT64)ReadNoFence64(&table->Count);
}

_Use_decl_annotations_
UINT64 RedirectTableBytes(const REDIRECT_TABLE *table)
{
    return BUCKET_COUNT * sizeof(REDIRECT_ENTRY *) + STRIPE_COUNT * sizeof(REDIRECT_STRIPE) +
           RedirectTableCount(table) * sizeof(REDIRECT_ENTRY);
}

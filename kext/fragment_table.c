#include "fragment_table.h"

#include "redirect.h"

#define BUCKET_SHIFT (12 - PLATFORM_TABLE_SHRINK)
#define BUCKET_COUNT (1u << BUCKET_SHIFT)

// Datagrams that are taken out of the table at once, under the lock.
#define BATCH 32u

typedef struct _FRAGMENT_KEY
{
    UINT8 Source[16];
    UINT8 Destination[16];
    UINT32 Identification;
    UINT32 Compartment;
    UINT8 Protocol; // IPv6: 0, because there the fragments of one datagram may differ in it (RFC 8200 section 4.5)
    UINT8 IpVersion;
    UINT8 Direction;
    UINT8 Zero;
} FRAGMENT_KEY;

static_assert(sizeof(FRAGMENT_KEY) == 44, "compared and hashed as bytes: no padding");

typedef struct _FRAGMENT_RANGE
{
    UINT16 Start;
    UINT16 Length;
} FRAGMENT_RANGE;

typedef struct _FRAGMENT_DATAGRAM
{
    LIST_ENTRY BucketLink;
    LIST_ENTRY AgeLink;
    UINT64 Id;
    UINT64 ExpiryTime;
    FRAGMENT_KEY Key;
    FRAGMENT_ACTION Action; // FragmentWait until it is decided
    BOOLEAN Refused;        // an overlap was found: nothing more of it goes on until it is forgotten
    CONNECTION_KEY Target;  // for FragmentRedirect
    UINT32 Copying;         // FragmentTableWait is still to come for so many
    UINT32 TotalLength;     // 0 until the last fragment has told it
    UINT32 HighestEnd;
    UINT32 SeenLength;
    INJECT_PACKET *Waiting;
    INJECT_PACKET **LastWaiting;
    UINT32 WaitingCount;
    SIZE_T WaitingBytes;
    UINT32 RangeCount;
    FRAGMENT_RANGE Ranges[FRAGMENT_MAX_PIECES];
} FRAGMENT_DATAGRAM;

// Packets on their way out of the table.
typedef struct _RELEASED
{
    INJECT_PACKET *Packets;
    UINT32 Count;
} RELEASED;

_Use_decl_annotations_
NTSTATUS FragmentTableInitialize(FRAGMENT_TABLE *table, MEMORY *memory, STATISTICS *statistics)
{
    UINT32 i;

    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    table->Statistics = statistics;
    KeInitializeSpinLock(&table->Lock);
    InitializeListHead(&table->Early);
    InitializeListHead(&table->Asked);
    InitializeListHead(&table->Decided);
    SipHashKeyInitialize(&table->HashKey);
    table->Buckets = (LIST_ENTRY *)MemoryAllocate(memory, BUCKET_COUNT * sizeof(LIST_ENTRY));
    for (i = 0; table->Buckets != NULL && i < BUCKET_COUNT; i++)
    {
        InitializeListHead(&table->Buckets[i]);
    }
    return table->Buckets != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID FragmentTableUninitialize(FRAGMENT_TABLE *table)
{
    MemoryFree(table->Memory, table->Buckets);
    table->Buckets = NULL;
}

// ---- Finding. Under the lock.

static VOID MakeKey(const IP_HEADER *header, UINT8 direction, COMPARTMENT_ID compartment, FRAGMENT_KEY *key)
{
    RtlZeroMemory(key, sizeof(*key));
    RtlCopyMemory(key->Source, header->SourceAddress, sizeof(key->Source));
    RtlCopyMemory(key->Destination, header->DestinationAddress, sizeof(key->Destination));
    key->Identification = header->FragmentIdentification;
    key->Compartment = (UINT32)compartment;
    key->Protocol = header->IpVersion == 6 ? 0 : header->Protocol;
    key->IpVersion = header->IpVersion;
    key->Direction = direction;
}

static FRAGMENT_DATAGRAM *FindByKey(const FRAGMENT_TABLE *table, UINT32 bucket, const FRAGMENT_KEY *key)
{
    const LIST_ENTRY *head = &table->Buckets[bucket];
    LIST_ENTRY *entry;

    for (entry = head->Flink; entry != head; entry = entry->Flink)
    {
        FRAGMENT_DATAGRAM *datagram = CONTAINING_RECORD(entry, FRAGMENT_DATAGRAM, BucketLink);

        if (RtlEqualMemory(&datagram->Key, key, sizeof(*key)))
        {
            return datagram;
        }
    }
    return NULL;
}

static FRAGMENT_DATAGRAM *FindById(const FRAGMENT_TABLE *table, UINT64 id)
{
    const LIST_ENTRY *head = &table->Buckets[id % BUCKET_COUNT];
    LIST_ENTRY *entry;

    for (entry = head->Flink; entry != head; entry = entry->Flink)
    {
        FRAGMENT_DATAGRAM *datagram = CONTAINING_RECORD(entry, FRAGMENT_DATAGRAM, BucketLink);

        if (datagram->Id == id)
        {
            return datagram;
        }
    }
    return NULL;
}

// ---- Adding and removing. Under the lock.

static VOID Insert(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, UINT32 bucket, const FRAGMENT_KEY *key,
                   UINT64 now)
{
    RtlZeroMemory(datagram, FIELD_OFFSET(FRAGMENT_DATAGRAM, Ranges));
    datagram->Id = ++table->LastId << BUCKET_SHIFT | bucket;
    datagram->Key = *key;
    datagram->Action = FragmentWait;
    datagram->LastWaiting = &datagram->Waiting;
    datagram->ExpiryTime = now + FRAGMENT_EARLY_MS * PLATFORM_TICKS_PER_MILLISECOND;
    InsertTailList(&table->Early, &datagram->AgeLink);
    InsertTailList(&table->Buckets[bucket], &datagram->BucketLink);
    InterlockedIncrement64(&table->Count);
}

static VOID Remove(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    RemoveEntryList(&datagram->BucketLink);
    RemoveEntryList(&datagram->AgeLink);
    InterlockedDecrement64(&table->Count);
    InterlockedExchangeAdd64(&table->WaitingBytes, -(LONG64)datagram->WaitingBytes);
}

static RELEASED TakeWaiting(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    RELEASED released;

    released.Packets = datagram->Waiting;
    released.Count = datagram->WaitingCount;
    InterlockedExchangeAdd64(&table->WaitingBytes, -(LONG64)datagram->WaitingBytes);
    datagram->Waiting = NULL;
    datagram->LastWaiting = &datagram->Waiting;
    datagram->WaitingCount = 0;
    datagram->WaitingBytes = 0;
    return released;
}

static VOID MoveTo(LIST_ENTRY *byAge, FRAGMENT_DATAGRAM *datagram, UINT64 now)
{
    datagram->ExpiryTime = now + FRAGMENT_DECISION_MS * PLATFORM_TICKS_PER_MILLISECOND;
    RemoveEntryList(&datagram->AgeLink);
    InsertTailList(byAge, &datagram->AgeLink);
}

// Takes the one that was decided longest ago out of the table. NULL: none was.
static FRAGMENT_DATAGRAM *RemoveOldestDecided(FRAGMENT_TABLE *table)
{
    FRAGMENT_DATAGRAM *datagram;

    if (IsListEmpty(&table->Decided))
    {
        return NULL;
    }
    datagram = CONTAINING_RECORD(table->Decided.Flink, FRAGMENT_DATAGRAM, AgeLink);
    Remove(table, datagram);
    return datagram;
}

// Takes a decided datagram of which nothing more can come out of the table. Whoever gets it frees it.
static FRAGMENT_DATAGRAM *RemoveIfOver(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    if (datagram->Action == FragmentWait || datagram->Refused || datagram->Copying != 0 || datagram->TotalLength == 0 ||
        datagram->SeenLength != datagram->TotalLength)
    {
        return NULL;
    }
    Remove(table, datagram);
    return datagram;
}

// ---- Letting go. With the lock released.

static INJECT_PACKET *Release(FRAGMENT_TABLE *table, RELEASED released, BOOLEAN permit)
{
    if (released.Count == 0)
    {
        return NULL;
    }
    if (permit)
    {
        StatisticsAdd(table->Statistics, StatisticPacketsPermitted, released.Count);
        return released.Packets;
    }
    StatisticsAdd(table->Statistics, StatisticPacketsBlocked, released.Count);
    StatisticsAdd(table->Statistics, StatisticFragmentsBlocked, released.Count);
    InjectDropChain(released.Packets);
    return NULL;
}

// Takes over a datagram that was removed. NULL is allowed.
static INJECT_PACKET *Forget(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, BOOLEAN permit)
{
    RELEASED released = {NULL, 0};

    if (datagram != NULL)
    {
        released.Packets = datagram->Waiting;
        released.Count = datagram->WaitingCount;
        MemoryFree(table->Memory, datagram);
    }
    return Release(table, released, permit);
}

static FRAGMENT_ACTION CountBlocked(FRAGMENT_TABLE *table, FRAGMENT_ACTION action)
{
    if (action == FragmentBlock || action == FragmentAbsorb)
    {
        StatisticsAdd(table->Statistics, StatisticFragmentsBlocked, 1);
    }
    return action;
}

// ---- One more fragment. Under the lock.

typedef enum _RECORDING
{
    RecordingNew,
    RecordingDuplicate,
    RecordingConflict // overlaps another, lies behind the end, or is one too many
} RECORDING;

static RECORDING CompareRanges(const FRAGMENT_DATAGRAM *datagram, UINT32 start, UINT32 end)
{
    UINT32 i;

    for (i = 0; i < datagram->RangeCount; i++)
    {
        UINT32 otherStart = datagram->Ranges[i].Start;
        UINT32 otherEnd = otherStart + datagram->Ranges[i].Length;

        if (start == otherStart && end == otherEnd)
        {
            return RecordingDuplicate;
        }
        if (start < otherEnd && otherStart < end)
        {
            return RecordingConflict;
        }
    }
    return RecordingNew;
}

static BOOLEAN FitsTotalLength(const FRAGMENT_DATAGRAM *datagram, const IP_HEADER *header, UINT32 end)
{
    if (!header->MoreFragments && (datagram->TotalLength != 0 || datagram->HighestEnd > end))
    {
        return FALSE;
    }
    return datagram->TotalLength == 0 || end <= datagram->TotalLength;
}

static RECORDING Record(FRAGMENT_DATAGRAM *datagram, const IP_HEADER *header)
{
    UINT32 end = header->FragmentOffset + header->FragmentLength;
    RECORDING recording = CompareRanges(datagram, header->FragmentOffset, end);

    if (recording != RecordingNew)
    {
        return recording;
    }
    if (datagram->RangeCount == FRAGMENT_MAX_PIECES || !FitsTotalLength(datagram, header, end))
    {
        return RecordingConflict;
    }
    datagram->Ranges[datagram->RangeCount].Start = (UINT16)header->FragmentOffset;
    datagram->Ranges[datagram->RangeCount].Length = (UINT16)header->FragmentLength;
    datagram->RangeCount++;
    datagram->SeenLength += header->FragmentLength;
    datagram->HighestEnd = end > datagram->HighestEnd ? end : datagram->HighestEnd;
    datagram->TotalLength = header->MoreFragments ? datagram->TotalLength : end;
    return RecordingNew;
}

static FRAGMENT_ACTION Admit(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, const IP_HEADER *header, UINT64 now,
                             RELEASED *refused)
{
    RECORDING recording = Record(datagram, header);

    if (recording == RecordingConflict)
    {
        datagram->Action = FragmentBlock;
        datagram->Refused = TRUE;
        *refused = TakeWaiting(table, datagram);
    }
    if (recording != RecordingNew)
    {
        return FragmentBlock;
    }
    if (header->FirstFragment)
    {
        MoveTo(datagram->Refused ? &table->Decided : &table->Asked, datagram, now);
        return datagram->Action == FragmentWait ? FragmentDecide : datagram->Action;
    }
    if (datagram->Action == FragmentWait)
    {
        datagram->Copying++;
    }
    return datagram->Action;
}

// The datagram that the fragment belongs to, added with `*spare` where there is none. What has to go for it, an old one
// of the same key or the oldest of a full table, goes to `*removed`. NULL: it cannot be added.
static FRAGMENT_DATAGRAM *FindOrAdd(FRAGMENT_TABLE *table, const FRAGMENT_KEY *key, UINT64 now,
                                    FRAGMENT_DATAGRAM **spare, FRAGMENT_DATAGRAM **removed)
{
    UINT32 bucket = (UINT32)(SipHash13(&table->HashKey, key, sizeof(*key)) % BUCKET_COUNT);
    FRAGMENT_DATAGRAM *datagram = FindByKey(table, bucket, key);

    if (datagram != NULL && datagram->ExpiryTime > now)
    {
        return datagram;
    }
    if (datagram != NULL)
    {
        Remove(table, datagram);
        *removed = datagram;
    }
    datagram = *spare;
    if (datagram == NULL)
    {
        return NULL;
    }
    if (table->Count >= FRAGMENT_MAX_DATAGRAMS)
    {
        *removed = RemoveOldestDecided(table);
        if (*removed == NULL)
        {
            return NULL;
        }
    }
    *spare = NULL;
    Insert(table, datagram, bucket, key, now);
    return datagram;
}

// `*id` gets 0 where there is no datagram, and none could be added with `*spare`.
static FRAGMENT_ACTION Enter(FRAGMENT_TABLE *table, const IP_HEADER *header, const FRAGMENT_KEY *key,
                             FRAGMENT_DATAGRAM **spare, UINT64 *id, CONNECTION_KEY *target)
{
    FRAGMENT_ACTION action = *spare != NULL ? FragmentOverLimit : FragmentNoMemory;
    UINT64 now = KeQueryInterruptTime();
    FRAGMENT_DATAGRAM *removed = NULL;
    FRAGMENT_DATAGRAM *over = NULL;
    RELEASED refused = {NULL, 0};
    FRAGMENT_DATAGRAM *datagram;
    KIRQL irql;

    *id = 0;
    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FindOrAdd(table, key, now, spare, &removed);
    if (datagram != NULL)
    {
        *id = datagram->Id;
        action = Admit(table, datagram, header, now, &refused);
        *target = datagram->Target;
        over = RemoveIfOver(table, datagram);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    (VOID) Forget(table, removed, FALSE);
    (VOID) Forget(table, over, FALSE);
    (VOID) Release(table, refused, FALSE);
    return action;
}

_Use_decl_annotations_
FRAGMENT_ACTION FragmentTableEnter(FRAGMENT_TABLE *table, const IP_HEADER *header, UINT8 direction,
                                   COMPARTMENT_ID compartment, UINT64 *id, CONNECTION_KEY *target)
{
    FRAGMENT_DATAGRAM *spare = NULL;
    FRAGMENT_ACTION action;
    FRAGMENT_KEY key;

    MakeKey(header, direction, compartment, &key);
    action = Enter(table, header, &key, &spare, id, target);
    if (*id == 0)
    {
        spare = (FRAGMENT_DATAGRAM *)MemoryAllocateUninitialized(table->Memory, sizeof(*spare));
        action = Enter(table, header, &key, &spare, id, target);
        MemoryFree(table->Memory, spare);
    }
    return *id == 0 && header->FirstFragment ? FragmentDecide : CountBlocked(table, action);
}

static FRAGMENT_ACTION Append(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, INJECT_PACKET *packet)
{
    SIZE_T bytes = InjectChainBytes(packet);

    if (datagram->WaitingCount == FRAGMENT_MAX_WAITING)
    {
        return FragmentBlock;
    }
    if (bytes > FRAGMENT_MAX_WAITING_BYTES - (UINT64)table->WaitingBytes)
    {
        return FragmentOverLimit;
    }
    *datagram->LastWaiting = packet;
    datagram->LastWaiting = &packet->Next;
    datagram->WaitingCount++;
    datagram->WaitingBytes += bytes;
    InterlockedExchangeAdd64(&table->WaitingBytes, (LONG64)bytes);
    return FragmentWait;
}

_Use_decl_annotations_
FRAGMENT_ACTION FragmentTableWait(FRAGMENT_TABLE *table, UINT64 id, INJECT_PACKET *packet, CONNECTION_KEY *target)
{
    FRAGMENT_ACTION action = FragmentBlock;
    FRAGMENT_DATAGRAM *over = NULL;
    FRAGMENT_DATAGRAM *datagram;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FindById(table, id);
    if (datagram != NULL)
    {
        datagram->Copying--;
        action = datagram->Action;
        *target = datagram->Target;
        if (action == FragmentWait)
        {
            action = packet != NULL ? Append(table, datagram, packet) : FragmentNoMemory;
        }
        over = RemoveIfOver(table, datagram);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    (VOID) Forget(table, over, FALSE);
    if (action != FragmentWait)
    {
        InjectDropChain(packet);
    }
    return CountBlocked(table, action);
}

// ---- Decisions

_Use_decl_annotations_
BOOLEAN FragmentTableDecide(FRAGMENT_TABLE *table, UINT64 id, FRAGMENT_ACTION decision, const CONNECTION_KEY *target,
                            INJECT_PACKET **permitted)
{
    BOOLEAN refused = FALSE;
    RELEASED released = {NULL, 0};
    FRAGMENT_DATAGRAM *over = NULL;
    FRAGMENT_DATAGRAM *datagram;
    UINT8 direction = DirectionOutbound;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FindById(table, id);
    if (datagram != NULL && datagram->Action == FragmentWait)
    {
        datagram->Action = decision;
        direction = datagram->Key.Direction;
        if (target != NULL)
        {
            datagram->Target = *target;
        }
        MoveTo(&table->Decided, datagram, KeQueryInterruptTime());
        released = TakeWaiting(table, datagram);
        over = RemoveIfOver(table, datagram);
    }
    else if (datagram != NULL)
    {
        refused = datagram->Refused;
    }
    KeReleaseSpinLock(&table->Lock, irql);

    (VOID) Forget(table, over, FALSE);
    (VOID) CountBlocked(table, refused ? FragmentBlock : decision); // the first one itself
    *permitted = Release(table, released, decision == FragmentPermit || decision == FragmentRedirect);
    if (target != NULL)
    {
        *permitted = RedirectChain(*permitted, target, direction);
    }
    return !refused;
}

// ---- Time and end

static BOOLEAN RemoveOldest(FRAGMENT_TABLE *table, LIST_ENTRY *byAge, UINT64 now, LIST_ENTRY *removed)
{
    FRAGMENT_DATAGRAM *datagram;

    if (IsListEmpty(byAge))
    {
        return FALSE;
    }
    datagram = CONTAINING_RECORD(byAge->Flink, FRAGMENT_DATAGRAM, AgeLink);
    if (datagram->ExpiryTime > now)
    {
        return FALSE;
    }
    Remove(table, datagram);
    InsertTailList(removed, &datagram->AgeLink);
    return TRUE;
}

// FALSE: there are no more.
static BOOLEAN RemoveBatch(FRAGMENT_TABLE *table, UINT64 now, LIST_ENTRY *removed)
{
    BOOLEAN more = TRUE;
    UINT32 count;
    KIRQL irql;

    InitializeListHead(removed);
    KeAcquireSpinLock(&table->Lock, &irql);
    for (count = 0; more && count < BATCH; count++)
    {
        more = RemoveOldest(table, &table->Early, now, removed) || RemoveOldest(table, &table->Asked, now, removed) ||
               RemoveOldest(table, &table->Decided, now, removed);
    }
    KeReleaseSpinLock(&table->Lock, irql);
    return more;
}

// Returns what waited in all whose time is over at `now`.
static INJECT_PACKET *ForgetUntil(FRAGMENT_TABLE *table, UINT64 now, BOOLEAN permit)
{
    INJECT_PACKET *packets = NULL;
    INJECT_PACKET **last = &packets;
    LIST_ENTRY removed;
    BOOLEAN more;

    do
    {
        more = RemoveBatch(table, now, &removed);
        while (!IsListEmpty(&removed))
        {
            *last = Forget(table, CONTAINING_RECORD(RemoveHeadList(&removed), FRAGMENT_DATAGRAM, AgeLink), permit);
            while (*last != NULL)
            {
                last = &(*last)->Next;
            }
        }
    } while (more);
    return packets;
}

_Use_decl_annotations_
VOID FragmentTableExpire(FRAGMENT_TABLE *table, UINT64 now)
{
    (VOID) ForgetUntil(table, now, FALSE);
}

_Use_decl_annotations_
INJECT_PACKET *FragmentTableResolve(FRAGMENT_TABLE *table, BOOLEAN permit)
{
    return ForgetUntil(table, MAXLONG64, permit);
}

_Use_decl_annotations_
UINT64 FragmentTableCount(const FRAGMENT_TABLE *table)
{
    return (UINT64)ReadNoFence64(&table->Count);
}

_Use_decl_annotations_
UINT64 FragmentTableBytes(const FRAGMENT_TABLE *table)
{
    return BUCKET_COUNT * sizeof(LIST_ENTRY) + FragmentTableCount(table) * sizeof(FRAGMENT_DATAGRAM) +
           (UINT64)ReadNoFence64(&table->WaitingBytes);
}

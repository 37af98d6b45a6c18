#include "fragment_table.h"

#include "address.h"
#include "redirect.h"

#define FRAGMENT_BUCKET_SHIFT (12 - PLATFORM_TABLE_SHRINK)
#define FRAGMENT_BUCKET_COUNT (1u << FRAGMENT_BUCKET_SHIFT)

typedef struct _FRAGMENT_KEY
{
    UINT8 Source[16];
    UINT8 Destination[16];
    UINT32 Identification;
    UINT32 Compartment;
    UINT32 InterfaceIndex; // of link-local addresses; else 0
    UINT8 Protocol;        // IPv6: 0, since fragments of one datagram may differ in it (RFC 8200 section 4.5)
    UINT8 IpVersion;
    UINT8 Direction;
    UINT8 Zero;
} FRAGMENT_KEY;

static_assert(sizeof(FRAGMENT_KEY) == 48, "compared and hashed as bytes: no padding");

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
    DECISION Decision;     // DecisionHeld until it is decided
    BOOLEAN Refused;       // an overlap was found: no fragment goes on until the datagram is forgotten
    CONNECTION_KEY Target; // for DecisionRedirect
    UINT32 Copying;        // calls of FragmentTableWait that are still to come
    UINT32 TotalLength;    // 0 until the last fragment has come
    UINT32 HighestEnd;
    UINT32 SeenLength;
    INJECT_PACKET *Waiting;
    INJECT_PACKET **LastWaiting;
    UINT32 WaitingCount;
    SIZE_T WaitingBytes;
    UINT32 RangeCount;
    FRAGMENT_RANGE Ranges[FRAGMENT_MAX_PIECES];
} FRAGMENT_DATAGRAM;

_Use_decl_annotations_
NTSTATUS FragmentTableInitialize(FRAGMENT_TABLE *table, MEMORY *memory, const CLOCK *clock, STATISTICS *statistics)
{
    UINT32 i;

    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    table->Clock = clock;
    table->Statistics = statistics;
    KeInitializeSpinLock(&table->Lock);
    InitializeListHead(&table->Early);
    InitializeListHead(&table->Asked);
    InitializeListHead(&table->Decided);
    SipHashKeyInitialize(&table->HashKey);
    table->Buckets = (LIST_ENTRY *)MemoryAllocate(memory, FRAGMENT_BUCKET_COUNT * sizeof(LIST_ENTRY));
    for (i = 0; table->Buckets != NULL && i < FRAGMENT_BUCKET_COUNT; i++)
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

// ---- Finding, under the lock

static VOID FragmentMakeKey(const IP_HEADER *header, UINT8 direction, IF_INDEX interfaceIndex,
                            COMPARTMENT_ID compartment, FRAGMENT_KEY *key)
{
    RtlZeroMemory(key, sizeof(*key));
    RtlCopyMemory(key->Source, header->SourceAddress, sizeof(key->Source));
    RtlCopyMemory(key->Destination, header->DestinationAddress, sizeof(key->Destination));
    key->Identification = header->FragmentIdentification;
    key->Compartment = (UINT32)compartment;
    if (AddressIsLinkLocal(header->IpVersion, key->Source) || AddressIsLinkLocal(header->IpVersion, key->Destination))
    {
        key->InterfaceIndex = (UINT32)interfaceIndex;
    }
    key->Protocol = header->IpVersion == 6 ? 0 : header->Protocol;
    key->IpVersion = header->IpVersion;
    key->Direction = direction;
}

// Finds the datagram with this key in the bucket of `id`. If `key` is NULL, finds the datagram with this id.
static FRAGMENT_DATAGRAM *FragmentFind(const FRAGMENT_TABLE *table, UINT64 id, const FRAGMENT_KEY *key)
{
    const LIST_ENTRY *head = &table->Buckets[id % FRAGMENT_BUCKET_COUNT];
    LIST_ENTRY *entry;

    for (entry = head->Flink; entry != head; entry = entry->Flink)
    {
        FRAGMENT_DATAGRAM *datagram = CONTAINING_RECORD(entry, FRAGMENT_DATAGRAM, BucketLink);

        if (key != NULL ? RtlEqualMemory(&datagram->Key, key, sizeof(*key)) : datagram->Id == id)
        {
            return datagram;
        }
    }
    return NULL;
}

// ---- Adding and removing, under the lock

static VOID FragmentInsert(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, UINT32 bucket, const FRAGMENT_KEY *key,
                           UINT64 now)
{
    RtlZeroMemory(datagram, FIELD_OFFSET(FRAGMENT_DATAGRAM, Ranges));
    datagram->Id = ++table->LastId << FRAGMENT_BUCKET_SHIFT | bucket;
    datagram->Key = *key;
    datagram->Decision = DecisionHeld;
    datagram->LastWaiting = &datagram->Waiting;
    datagram->ExpiryTime = now + FRAGMENT_EARLY_MS * PLATFORM_TICKS_PER_MILLISECOND;
    InsertTailList(&table->Early, &datagram->AgeLink);
    InsertTailList(&table->Buckets[bucket], &datagram->BucketLink);
    InterlockedIncrement64(&table->Count);
}

static VOID FragmentRemove(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    RemoveEntryList(&datagram->BucketLink);
    RemoveEntryList(&datagram->AgeLink);
    InterlockedDecrement64(&table->Count);
    InterlockedExchangeAdd64(&table->WaitingBytes, -(LONG64)datagram->WaitingBytes);
}

static INJECT_PACKET *FragmentTakeWaiting(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    INJECT_PACKET *packets = datagram->Waiting;

    InterlockedExchangeAdd64(&table->WaitingBytes, -(LONG64)datagram->WaitingBytes);
    datagram->Waiting = NULL;
    datagram->LastWaiting = &datagram->Waiting;
    datagram->WaitingCount = 0;
    datagram->WaitingBytes = 0;
    return packets;
}

static VOID FragmentMoveTo(LIST_ENTRY *byAge, FRAGMENT_DATAGRAM *datagram, UINT64 now)
{
    datagram->ExpiryTime = now + FRAGMENT_DECISION_MS * PLATFORM_TICKS_PER_MILLISECOND;
    RemoveEntryList(&datagram->AgeLink);
    InsertTailList(byAge, &datagram->AgeLink);
}

// Removes the oldest datagram of a list if its time is over at `now`. NULL: there is no such datagram.
static FRAGMENT_DATAGRAM *FragmentRemoveOldest(FRAGMENT_TABLE *table, const LIST_ENTRY *byAge, UINT64 now)
{
    FRAGMENT_DATAGRAM *datagram = CONTAINING_RECORD(byAge->Flink, FRAGMENT_DATAGRAM, AgeLink);

    if (IsListEmpty(byAge) || datagram->ExpiryTime > now)
    {
        return NULL;
    }
    FragmentRemove(table, datagram);
    return datagram;
}

// Removes a decided datagram whose fragments have all come, so no copy waits in it.
// The caller frees the datagram that this returns.
static FRAGMENT_DATAGRAM *FragmentRemoveIfOver(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    if (datagram->Decision == DecisionHeld || datagram->Refused || datagram->Copying != 0 ||
        datagram->TotalLength == 0 || datagram->SeenLength != datagram->TotalLength)
    {
        return NULL;
    }
    FragmentRemove(table, datagram);
    return datagram;
}

// ---- Letting go, with the lock released

static INJECT_PACKET *FragmentRelease(FRAGMENT_TABLE *table, INJECT_PACKET *packets, BOOLEAN permit)
{
    const INJECT_PACKET *packet;
    LONG64 count = 0;

    if (packets == NULL)
    {
        return NULL;
    }
    for (packet = packets; packet != NULL; packet = packet->Next)
    {
        count++;
    }
    if (permit)
    {
        StatisticsAdd(table->Statistics, StatisticPacketsPermitted, count);
        return packets;
    }
    StatisticsAdd(table->Statistics, StatisticPacketsBlocked, count);
    StatisticsAdd(table->Statistics, StatisticFragmentsBlocked, count);
    InjectDropChain(packets);
    return NULL;
}

// Frees a datagram that was removed.
static INJECT_PACKET *FragmentForget(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, BOOLEAN permit)
{
    INJECT_PACKET *packets = datagram->Waiting;

    MemoryFree(table->Memory, datagram);
    return FragmentRelease(table, packets, permit);
}

static DECISION FragmentCountBlocked(FRAGMENT_TABLE *table, DECISION decision)
{
    if (decision == DecisionBlock || decision == DecisionAbsorb)
    {
        StatisticsAdd(table->Statistics, StatisticFragmentsBlocked, 1);
    }
    return decision;
}

// ---- One more fragment, under the lock

typedef enum _FRAGMENT_RECORDING
{
    FragmentIsNew,
    FragmentIsDuplicate,
    FragmentIsConflict // it overlaps another, lies behind the end, or exceeds FRAGMENT_MAX_PIECES
} FRAGMENT_RECORDING;

static FRAGMENT_RECORDING FragmentCompareRanges(const FRAGMENT_DATAGRAM *datagram, UINT32 start, UINT32 end)
{
    UINT32 i;

    for (i = 0; i < datagram->RangeCount; i++)
    {
        UINT32 otherStart = datagram->Ranges[i].Start;
        UINT32 otherEnd = otherStart + datagram->Ranges[i].Length;

        if (start == otherStart && end == otherEnd)
        {
            return FragmentIsDuplicate;
        }
        if (start < otherEnd && otherStart < end)
        {
            return FragmentIsConflict;
        }
    }
    return FragmentIsNew;
}

static BOOLEAN FragmentFitsTotalLength(const FRAGMENT_DATAGRAM *datagram, const IP_HEADER *header, UINT32 end)
{
    if (!header->MoreFragments && (datagram->TotalLength != 0 || datagram->HighestEnd > end))
    {
        return FALSE;
    }
    return datagram->TotalLength == 0 || end <= datagram->TotalLength;
}

static FRAGMENT_RECORDING FragmentRecord(FRAGMENT_DATAGRAM *datagram, const IP_HEADER *header)
{
    UINT32 end = header->FragmentOffset + header->FragmentLength;
    FRAGMENT_RECORDING recording = FragmentCompareRanges(datagram, header->FragmentOffset, end);
    FRAGMENT_RANGE *range;

    if (recording != FragmentIsNew)
    {
        return recording;
    }
    if (datagram->RangeCount == FRAGMENT_MAX_PIECES || !FragmentFitsTotalLength(datagram, header, end))
    {
        return FragmentIsConflict;
    }
    range = &datagram->Ranges[datagram->RangeCount++];
    range->Start = (UINT16)header->FragmentOffset;
    range->Length = (UINT16)header->FragmentLength;
    datagram->SeenLength += header->FragmentLength;
    datagram->HighestEnd = end > datagram->HighestEnd ? end : datagram->HighestEnd;
    datagram->TotalLength = header->MoreFragments ? datagram->TotalLength : end;
    return FragmentIsNew;
}

static DECISION FragmentAdmit(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, const IP_HEADER *header, UINT64 now,
                              INJECT_PACKET **refused)
{
    FRAGMENT_RECORDING recording = FragmentRecord(datagram, header);

    if (recording == FragmentIsConflict)
    {
        datagram->Decision = DecisionBlock;
        datagram->Refused = TRUE;
        *refused = FragmentTakeWaiting(table, datagram);
    }
    if (recording != FragmentIsNew)
    {
        return DecisionBlock;
    }
    if (header->FirstFragment)
    {
        FragmentMoveTo(datagram->Refused ? &table->Decided : &table->Asked, datagram, now);
        return datagram->Decision == DecisionHeld ? DecisionAsk : datagram->Decision;
    }
    if (datagram->Decision == DecisionHeld)
    {
        datagram->Copying++;
    }
    return datagram->Decision;
}

// Finds the datagram of a fragment, or adds it with `*spare`. NULL: it cannot be added.
// `*removed` gets the datagram that was removed to make room: an old one of the same key, or a full table's oldest.
static FRAGMENT_DATAGRAM *FragmentFindOrAdd(FRAGMENT_TABLE *table, const FRAGMENT_KEY *key, UINT64 now,
                                            FRAGMENT_DATAGRAM **spare, FRAGMENT_DATAGRAM **removed)
{
    UINT32 bucket = (UINT32)(SipHash13(&table->HashKey, key, sizeof(*key)) % FRAGMENT_BUCKET_COUNT);
    FRAGMENT_DATAGRAM *datagram = FragmentFind(table, bucket, key);

    if (datagram != NULL && datagram->ExpiryTime > now)
    {
        return datagram;
    }
    if (datagram != NULL)
    {
        FragmentRemove(table, datagram);
        *removed = datagram;
    }
    datagram = *spare;
    if (datagram == NULL)
    {
        return NULL;
    }
    if (table->Count >= FRAGMENT_MAX_DATAGRAMS)
    {
        *removed = FragmentRemoveOldest(table, &table->Decided, CLOCK_NEVER);
        if (*removed == NULL)
        {
            return NULL;
        }
    }
    *spare = NULL;
    FragmentInsert(table, datagram, bucket, key, now);
    return datagram;
}

// `*id` gets 0 if the datagram is not in the table and could not be added with `*spare`.
static DECISION FragmentEnter(FRAGMENT_TABLE *table, const IP_HEADER *header, const FRAGMENT_KEY *key,
                              FRAGMENT_DATAGRAM **spare, UINT64 *id, CONNECTION_KEY *target, NTSTATUS *failure)
{
    DECISION decision = DecisionFail;
    UINT64 now = ClockNow(table->Clock);
    FRAGMENT_DATAGRAM *removed = NULL;
    FRAGMENT_DATAGRAM *over = NULL;
    INJECT_PACKET *refused = NULL;
    FRAGMENT_DATAGRAM *datagram;
    KIRQL irql;

    *id = 0;
    *failure = *spare != NULL ? STATUS_ALLOTTED_SPACE_EXCEEDED : STATUS_INSUFFICIENT_RESOURCES;
    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FragmentFindOrAdd(table, key, now, spare, &removed);
    if (datagram != NULL)
    {
        *id = datagram->Id;
        decision = FragmentAdmit(table, datagram, header, now, &refused);
        *target = datagram->Target;
        over = FragmentRemoveIfOver(table, datagram);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    if (removed != NULL)
    {
        (VOID) FragmentForget(table, removed, FALSE);
    }
    MemoryFree(table->Memory, over);
    (VOID) FragmentRelease(table, refused, FALSE);
    return decision;
}

_Use_decl_annotations_
DECISION FragmentTableEnter(FRAGMENT_TABLE *table, const IP_HEADER *header, UINT8 direction, IF_INDEX interfaceIndex,
                            COMPARTMENT_ID compartment, UINT64 *id, CONNECTION_KEY *target, NTSTATUS *failure)
{
    FRAGMENT_DATAGRAM *spare = NULL;
    DECISION decision;
    FRAGMENT_KEY key;

    FragmentMakeKey(header, direction, interfaceIndex, compartment, &key);
    decision = FragmentEnter(table, header, &key, &spare, id, target, failure);
    if (*id == 0)
    {
        spare = (FRAGMENT_DATAGRAM *)MemoryAllocateUninitialized(table->Memory, sizeof(*spare));
        decision = FragmentEnter(table, header, &key, &spare, id, target, failure);
        MemoryFree(table->Memory, spare);
    }
    return *id == 0 && header->FirstFragment ? DecisionAsk : FragmentCountBlocked(table, decision);
}

static DECISION FragmentAppend(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, INJECT_PACKET *packet,
                               NTSTATUS *failure)
{
    SIZE_T bytes;

    if (packet == NULL)
    {
        *failure = STATUS_INSUFFICIENT_RESOURCES;
        return DecisionFail;
    }
    if (datagram->WaitingCount == FRAGMENT_MAX_WAITING)
    {
        return DecisionBlock;
    }
    bytes = InjectChainBytes(packet);
    if (bytes > FRAGMENT_MAX_WAITING_BYTES - (UINT64)table->WaitingBytes)
    {
        *failure = STATUS_ALLOTTED_SPACE_EXCEEDED;
        return DecisionFail;
    }
    *datagram->LastWaiting = packet;
    datagram->LastWaiting = &packet->Next;
    datagram->WaitingCount++;
    datagram->WaitingBytes += bytes;
    InterlockedExchangeAdd64(&table->WaitingBytes, (LONG64)bytes);
    return DecisionHeld;
}

_Use_decl_annotations_
DECISION FragmentTableWait(FRAGMENT_TABLE *table, UINT64 id, INJECT_PACKET *packet, CONNECTION_KEY *target,
                           NTSTATUS *failure)
{
    DECISION decision = DecisionBlock;
    FRAGMENT_DATAGRAM *over = NULL;
    FRAGMENT_DATAGRAM *datagram;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FragmentFind(table, id, NULL);
    if (datagram != NULL)
    {
        datagram->Copying--;
        decision = datagram->Decision;
        *target = datagram->Target;
        if (decision == DecisionHeld)
        {
            decision = FragmentAppend(table, datagram, packet, failure);
        }
        over = FragmentRemoveIfOver(table, datagram);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    MemoryFree(table->Memory, over);
    if (decision != DecisionHeld)
    {
        InjectDropChain(packet);
    }
    return FragmentCountBlocked(table, decision);
}

// ---- Decisions

_Use_decl_annotations_
BOOLEAN FragmentTableDecide(FRAGMENT_TABLE *table, UINT64 id, DECISION decision, const CONNECTION_KEY *target,
                            INJECT_PACKET **permitted)
{
    BOOLEAN refused = FALSE;
    INJECT_PACKET *released = NULL;
    FRAGMENT_DATAGRAM *over = NULL;
    FRAGMENT_DATAGRAM *datagram;
    UINT8 direction = DirectionOutbound;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FragmentFind(table, id, NULL);
    if (datagram != NULL && datagram->Decision == DecisionHeld)
    {
        datagram->Decision = decision;
        direction = datagram->Key.Direction;
        if (target != NULL)
        {
            datagram->Target = *target;
        }
        FragmentMoveTo(&table->Decided, datagram, ClockNow(table->Clock));
        released = FragmentTakeWaiting(table, datagram);
        over = FragmentRemoveIfOver(table, datagram);
    }
    else if (datagram != NULL)
    {
        refused = datagram->Refused;
    }
    KeReleaseSpinLock(&table->Lock, irql);

    MemoryFree(table->Memory, over);
    // The first fragment never waits in the table, so it is counted here.
    (VOID) FragmentCountBlocked(table, refused ? DecisionBlock : decision);
    *permitted = FragmentRelease(table, released, decision == DecisionPermit || decision == DecisionRedirect);
    if (target != NULL)
    {
        *permitted = RedirectChain(*permitted, target, direction);
    }
    return !refused;
}

// ---- Time and end

static FRAGMENT_DATAGRAM *FragmentTakeExpired(FRAGMENT_TABLE *table, UINT64 now)
{
    FRAGMENT_DATAGRAM *datagram;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FragmentRemoveOldest(table, &table->Early, now);
    datagram = datagram != NULL ? datagram : FragmentRemoveOldest(table, &table->Asked, now);
    datagram = datagram != NULL ? datagram : FragmentRemoveOldest(table, &table->Decided, now);
    KeReleaseSpinLock(&table->Lock, irql);
    return datagram;
}

_Use_decl_annotations_
INJECT_PACKET *FragmentTableForget(FRAGMENT_TABLE *table, UINT64 now, BOOLEAN permit)
{
    INJECT_PACKET *packets = NULL;
    INJECT_PACKET **last = &packets;
    FRAGMENT_DATAGRAM *datagram;

    while ((datagram = FragmentTakeExpired(table, now)) != NULL)
    {
        *last = FragmentForget(table, datagram, permit);
        last = InjectChainEnd(last);
    }
    return packets;
}

// Each list is in the order of its expiry times.
static UINT64 FragmentFirstExpiry(const LIST_ENTRY *byAge)
{
    return IsListEmpty(byAge) ? CLOCK_NEVER : CONTAINING_RECORD(byAge->Flink, FRAGMENT_DATAGRAM, AgeLink)->ExpiryTime;
}

_Use_decl_annotations_
UINT64 FragmentTableNextExpiry(FRAGMENT_TABLE *table)
{
    UINT64 early;
    UINT64 asked;
    UINT64 decided;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    early = FragmentFirstExpiry(&table->Early);
    asked = FragmentFirstExpiry(&table->Asked);
    decided = FragmentFirstExpiry(&table->Decided);
    KeReleaseSpinLock(&table->Lock, irql);
    asked = asked < decided ? asked : decided;
    return early < asked ? early : asked;
}

_Use_decl_annotations_
UINT64 FragmentTableCount(const FRAGMENT_TABLE *table)
{
    return (UINT64)ReadNoFence64(&table->Count);
}

_Use_decl_annotations_
UINT64 FragmentTableBytes(const FRAGMENT_TABLE *table)
{
    return FRAGMENT_BUCKET_COUNT * sizeof(LIST_ENTRY) + FragmentTableCount(table) * sizeof(FRAGMENT_DATAGRAM) +
           (UINT64)ReadNoFence64(&table->WaitingBytes);
}

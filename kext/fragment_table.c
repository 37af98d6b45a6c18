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
    LIST_ENTRY AgeLink;  // in its stage, or in FRAGMENT_WASTE
    LIST_ENTRY WaitLink; // in its stage while copies wait; else empty
    UINT64 Id;
    UINT64 ExpiryTime;
    FRAGMENT_KEY Key;
    FRAGMENT_STAGE Stage;
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

// What a hold of the lock leaves to be freed and dropped without it.
typedef struct _FRAGMENT_WASTE
{
    LIST_ENTRY Datagrams; // by AgeLink, with the copies that wait in them
    INJECT_PACKET *Packets;
} FRAGMENT_WASTE;

_Use_decl_annotations_
NTSTATUS FragmentTableInitialize(FRAGMENT_TABLE *table, MEMORY *memory, const CLOCK *clock, STATISTICS *statistics)
{
    UINT32 i;

    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    table->Clock = clock;
    table->Statistics = statistics;
    KeInitializeSpinLock(&table->Lock);
    for (i = 0; i < FragmentStageCount; i++)
    {
        InitializeListHead(&table->Stages[i].ByAge);
        InitializeListHead(&table->Stages[i].Waiting);
    }
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

static VOID FragmentJoinStage(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, FRAGMENT_STAGE stage, UINT64 expiry)
{
    datagram->Stage = stage;
    datagram->ExpiryTime = expiry;
    InsertTailList(&table->Stages[stage].ByAge, &datagram->AgeLink);
    if (datagram->Waiting != NULL)
    {
        InsertTailList(&table->Stages[stage].Waiting, &datagram->WaitLink);
    }
    table->Stages[stage].Count++;
}

static VOID FragmentLeaveStage(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    RemoveEntryList(&datagram->AgeLink);
    RemoveEntryList(&datagram->WaitLink);
    InitializeListHead(&datagram->WaitLink);
    table->Stages[datagram->Stage].Count--;
}

static VOID FragmentMoveTo(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, FRAGMENT_STAGE stage, UINT64 now)
{
    FragmentLeaveStage(table, datagram);
    FragmentJoinStage(table, datagram, stage, now + FRAGMENT_DECISION_MS * PLATFORM_TICKS_PER_MILLISECOND);
}

static VOID FragmentInsert(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, UINT32 bucket, const FRAGMENT_KEY *key,
                           UINT64 now)
{
    RtlZeroMemory(datagram, FIELD_OFFSET(FRAGMENT_DATAGRAM, Ranges));
    datagram->Id = ++table->LastId << FRAGMENT_BUCKET_SHIFT | bucket;
    datagram->Key = *key;
    datagram->Decision = DecisionHeld;
    datagram->LastWaiting = &datagram->Waiting;
    InitializeListHead(&datagram->WaitLink);
    FragmentJoinStage(table, datagram, FragmentEarly, now + FRAGMENT_EARLY_MS * PLATFORM_TICKS_PER_MILLISECOND);
    InsertTailList(&table->Buckets[bucket], &datagram->BucketLink);
    InterlockedIncrement64(&table->Count);
}

static VOID FragmentRemove(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, FRAGMENT_WASTE *waste)
{
    RemoveEntryList(&datagram->BucketLink);
    FragmentLeaveStage(table, datagram);
    InterlockedDecrement64(&table->Count);
    InterlockedExchangeAdd64(&table->WaitingBytes, -(LONG64)datagram->WaitingBytes);
    InsertTailList(&waste->Datagrams, &datagram->AgeLink);
}

static INJECT_PACKET *FragmentTakeWaiting(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram)
{
    INJECT_PACKET *packets = datagram->Waiting;

    InterlockedExchangeAdd64(&table->WaitingBytes, -(LONG64)datagram->WaitingBytes);
    RemoveEntryList(&datagram->WaitLink);
    InitializeListHead(&datagram->WaitLink);
    datagram->Waiting = NULL;
    datagram->LastWaiting = &datagram->Waiting;
    datagram->WaitingCount = 0;
    datagram->WaitingBytes = 0;
    return packets;
}

// NULL: the stage has no datagram.
static FRAGMENT_DATAGRAM *FragmentOldestOf(const FRAGMENT_TABLE *table, FRAGMENT_STAGE stage)
{
    const LIST_ENTRY *byAge = &table->Stages[stage].ByAge;

    return IsListEmpty(byAge) ? NULL : CONTAINING_RECORD(byAge->Flink, FRAGMENT_DATAGRAM, AgeLink);
}

// Removes a decided datagram whose fragments have all come, so no copy waits in it.
static VOID FragmentRemoveIfOver(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, FRAGMENT_WASTE *waste)
{
    if (datagram->Decision != DecisionHeld && !datagram->Refused && datagram->Copying == 0 &&
        datagram->TotalLength != 0 && datagram->SeenLength == datagram->TotalLength)
    {
        FragmentRemove(table, datagram, waste);
    }
}

// ---- Giving up, under the lock

static VOID FragmentGiveUp(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, FRAGMENT_ANSWER *answer,
                           FRAGMENT_WASTE *waste)
{
    FragmentRemove(table, datagram, waste);
    answer->Lost++;
}

// The table is full. Gives up one datagram.
static VOID FragmentMakeRoom(FRAGMENT_TABLE *table, FRAGMENT_ANSWER *answer, FRAGMENT_WASTE *waste)
{
    FRAGMENT_DATAGRAM *oldest = FragmentOldestOf(table, FragmentEarly);

    if (oldest == NULL)
    {
        oldest = FragmentOldestOf(table, table->Stages[FragmentAsked].Count > table->Stages[FragmentDecided].Count
                                             ? FragmentAsked
                                             : FragmentDecided);
    }
    FragmentGiveUp(table, oldest, answer, waste);
}

// Finds the datagram other than `except` in which a copy has waited longest. NULL: there is none.
static FRAGMENT_DATAGRAM *FragmentOldestWaiting(const FRAGMENT_TABLE *table, const FRAGMENT_DATAGRAM *except)
{
    UINT32 stage;

    for (stage = FragmentEarly; stage <= FragmentAsked; stage++)
    {
        const LIST_ENTRY *head = &table->Stages[stage].Waiting;
        LIST_ENTRY *entry = head->Flink != &except->WaitLink ? head->Flink : except->WaitLink.Flink;

        if (entry != head)
        {
            return CONTAINING_RECORD(entry, FRAGMENT_DATAGRAM, WaitLink);
        }
    }
    return NULL;
}

// Gives up datagrams until a copy of `bytes` has room. FALSE: it has none.
static BOOLEAN FragmentMakeRoomForBytes(FRAGMENT_TABLE *table, const FRAGMENT_DATAGRAM *datagram, SIZE_T bytes,
                                        FRAGMENT_ANSWER *answer, FRAGMENT_WASTE *waste)
{
    while (bytes > FRAGMENT_MAX_WAITING_BYTES - (UINT64)table->WaitingBytes)
    {
        FRAGMENT_DATAGRAM *oldest = FragmentOldestWaiting(table, datagram);

        if (oldest == NULL || answer->Lost == FRAGMENT_MAX_GIVEN_UP)
        {
            return FALSE;
        }
        FragmentGiveUp(table, oldest, answer, waste);
    }
    return TRUE;
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

static VOID FragmentBeginWaste(FRAGMENT_WASTE *waste)
{
    InitializeListHead(&waste->Datagrams);
    waste->Packets = NULL;
}

static VOID FragmentDiscard(FRAGMENT_TABLE *table, FRAGMENT_WASTE *waste)
{
    (VOID) FragmentRelease(table, waste->Packets, FALSE);
    while (!IsListEmpty(&waste->Datagrams))
    {
        FRAGMENT_DATAGRAM *datagram = CONTAINING_RECORD(RemoveHeadList(&waste->Datagrams), FRAGMENT_DATAGRAM, AgeLink);

        (VOID) FragmentRelease(table, datagram->Waiting, FALSE);
        MemoryFree(table->Memory, datagram);
    }
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
                              FRAGMENT_WASTE *waste)
{
    FRAGMENT_RECORDING recording = FragmentRecord(datagram, header);

    if (recording == FragmentIsConflict)
    {
        datagram->Decision = DecisionBlock;
        datagram->Refused = TRUE;
        waste->Packets = FragmentTakeWaiting(table, datagram);
    }
    if (recording != FragmentIsNew)
    {
        return DecisionBlock;
    }
    if (header->FirstFragment)
    {
        FragmentMoveTo(table, datagram, datagram->Refused ? FragmentDecided : FragmentAsked, now);
        return datagram->Decision == DecisionHeld ? DecisionAsk : datagram->Decision;
    }
    if (datagram->Decision == DecisionHeld)
    {
        datagram->Copying++;
    }
    return datagram->Decision;
}

// Finds the datagram of a fragment, or adds it with `*spare`. NULL: there is no spare.
static FRAGMENT_DATAGRAM *FragmentFindOrAdd(FRAGMENT_TABLE *table, const FRAGMENT_KEY *key, UINT64 now,
                                            FRAGMENT_DATAGRAM **spare, FRAGMENT_ANSWER *answer, FRAGMENT_WASTE *waste)
{
    UINT32 bucket = (UINT32)(SipHash13(&table->HashKey, key, sizeof(*key)) % FRAGMENT_BUCKET_COUNT);
    FRAGMENT_DATAGRAM *datagram = FragmentFind(table, bucket, key);

    if (datagram != NULL && datagram->ExpiryTime > now)
    {
        return datagram;
    }
    if (datagram != NULL)
    {
        FragmentRemove(table, datagram, waste);
    }
    datagram = *spare;
    if (datagram == NULL)
    {
        return NULL;
    }
    if (table->Count >= FRAGMENT_MAX_DATAGRAMS)
    {
        FragmentMakeRoom(table, answer, waste);
    }
    *spare = NULL;
    FragmentInsert(table, datagram, bucket, key, now);
    return datagram;
}

// answer->Datagram stays 0 if the datagram is not in the table, and there is no `*spare` to add it with.
static DECISION FragmentEnter(FRAGMENT_TABLE *table, const IP_HEADER *header, const FRAGMENT_KEY *key,
                              FRAGMENT_DATAGRAM **spare, FRAGMENT_ANSWER *answer)
{
    DECISION decision = DecisionBlock;
    UINT64 now = ClockNow(table->Clock);
    FRAGMENT_DATAGRAM *datagram;
    FRAGMENT_WASTE waste;
    KIRQL irql;

    FragmentBeginWaste(&waste);
    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FragmentFindOrAdd(table, key, now, spare, answer, &waste);
    if (datagram != NULL)
    {
        answer->Datagram = datagram->Id;
        decision = FragmentAdmit(table, datagram, header, now, &waste);
        answer->Target = datagram->Target;
        FragmentRemoveIfOver(table, datagram, &waste);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    FragmentDiscard(table, &waste);
    return decision;
}

static DECISION FragmentRefuse(FRAGMENT_ANSWER *answer, UINT8 lossReason)
{
    answer->Lost++;
    answer->LossReason = lossReason;
    return DecisionBlock;
}

_Use_decl_annotations_
DECISION FragmentTableEnter(FRAGMENT_TABLE *table, const IP_HEADER *header, UINT8 direction, IF_INDEX interfaceIndex,
                            COMPARTMENT_ID compartment, FRAGMENT_ANSWER *answer)
{
    FRAGMENT_DATAGRAM *spare = NULL;
    DECISION decision;
    FRAGMENT_KEY key;

    RtlZeroMemory(answer, sizeof(*answer));
    answer->LossReason = LossFragmentLimit;
    FragmentMakeKey(header, direction, interfaceIndex, compartment, &key);
    decision = FragmentEnter(table, header, &key, &spare, answer);
    if (answer->Datagram == 0)
    {
        spare = (FRAGMENT_DATAGRAM *)MemoryAllocateUninitialized(table->Memory, sizeof(*spare));
        decision = FragmentEnter(table, header, &key, &spare, answer);
        MemoryFree(table->Memory, spare);
    }
    if (answer->Datagram == 0)
    {
        decision = header->FirstFragment ? DecisionAsk : FragmentRefuse(answer, LossOutOfMemory);
    }
    return FragmentCountBlocked(table, decision);
}

static DECISION FragmentAppend(FRAGMENT_TABLE *table, FRAGMENT_DATAGRAM *datagram, INJECT_PACKET *packet,
                               FRAGMENT_ANSWER *answer, FRAGMENT_WASTE *waste)
{
    SIZE_T bytes = InjectChainBytes(packet);

    if (packet == NULL)
    {
        return FragmentRefuse(answer, LossOutOfMemory);
    }
    if (datagram->WaitingCount == FRAGMENT_MAX_WAITING ||
        !FragmentMakeRoomForBytes(table, datagram, bytes, answer, waste))
    {
        return FragmentRefuse(answer, LossFragmentLimit);
    }
    if (datagram->Waiting == NULL)
    {
        InsertTailList(&table->Stages[datagram->Stage].Waiting, &datagram->WaitLink);
    }
    *datagram->LastWaiting = packet;
    datagram->LastWaiting = &packet->Next;
    datagram->WaitingCount++;
    datagram->WaitingBytes += bytes;
    InterlockedExchangeAdd64(&table->WaitingBytes, (LONG64)bytes);
    return DecisionHeld;
}

_Use_decl_annotations_
DECISION FragmentTableWait(FRAGMENT_TABLE *table, INJECT_PACKET *packet, FRAGMENT_ANSWER *answer)
{
    DECISION decision = DecisionBlock;
    FRAGMENT_DATAGRAM *datagram;
    FRAGMENT_WASTE waste;
    KIRQL irql;

    answer->Lost = 0;
    FragmentBeginWaste(&waste);
    KeAcquireSpinLock(&table->Lock, &irql);
    datagram = FragmentFind(table, answer->Datagram, NULL);
    if (datagram != NULL)
    {
        datagram->Copying--;
        decision = datagram->Decision;
        answer->Target = datagram->Target;
        if (decision == DecisionHeld)
        {
            decision = FragmentAppend(table, datagram, packet, answer, &waste);
        }
        FragmentRemoveIfOver(table, datagram, &waste);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    FragmentDiscard(table, &waste);
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
    FRAGMENT_DATAGRAM *datagram;
    FRAGMENT_WASTE waste;
    UINT8 direction = DirectionOutbound;
    KIRQL irql;

    FragmentBeginWaste(&waste);
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
        released = FragmentTakeWaiting(table, datagram);
        FragmentMoveTo(table, datagram, FragmentDecided, ClockNow(table->Clock));
        FragmentRemoveIfOver(table, datagram, &waste);
    }
    else if (datagram != NULL)
    {
        refused = datagram->Refused;
    }
    KeReleaseSpinLock(&table->Lock, irql);

    FragmentDiscard(table, &waste);
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

// CLOCK_NEVER: the stage has no datagram.
static UINT64 FragmentStageExpiry(const FRAGMENT_TABLE *table, FRAGMENT_STAGE stage)
{
    const FRAGMENT_DATAGRAM *oldest = FragmentOldestOf(table, stage);

    return oldest != NULL ? oldest->ExpiryTime : CLOCK_NEVER;
}

// Forgets one datagram of a stage whose time is over. FALSE: there is none.
static BOOLEAN FragmentForgetOldest(FRAGMENT_TABLE *table, FRAGMENT_STAGE stage, UINT64 now)
{
    FRAGMENT_DATAGRAM *oldest;
    FRAGMENT_WASTE waste;
    BOOLEAN over;
    KIRQL irql;

    FragmentBeginWaste(&waste);
    KeAcquireSpinLock(&table->Lock, &irql);
    oldest = FragmentOldestOf(table, stage);
    over = oldest != NULL && oldest->ExpiryTime <= now;
    if (over)
    {
        FragmentRemove(table, oldest, &waste);
    }
    KeReleaseSpinLock(&table->Lock, irql);

    FragmentDiscard(table, &waste);
    return over;
}

_Use_decl_annotations_
VOID FragmentTableForget(FRAGMENT_TABLE *table, UINT64 now)
{
    UINT32 stage;

    for (stage = 0; stage < FragmentStageCount; stage++)
    {
        while (FragmentForgetOldest(table, (FRAGMENT_STAGE)stage, now))
        {
        }
    }
}

_Use_decl_annotations_
UINT64 FragmentTableNextExpiry(FRAGMENT_TABLE *table)
{
    UINT64 next = CLOCK_NEVER;
    UINT32 stage;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    for (stage = 0; stage < FragmentStageCount; stage++)
    {
        UINT64 expiry = FragmentStageExpiry(table, (FRAGMENT_STAGE)stage);

        next = expiry < next ? expiry : next;
    }
    KeReleaseSpinLock(&table->Lock, irql);
    return next;
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

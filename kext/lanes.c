#include "lanes.h"

struct _LANE_TABLE
{
    LANE_DIRECTION Directions[LANE_DIRECTIONS];
    LANE_GROUP Groups[LANE_DIRECTIONS][LANES_GROUP_COUNT];
    LIST_ENTRY GroupLists[LANE_DIRECTIONS][LANES_GROUP_COUNT];
    LANE Networks[LANES_NETWORK_COUNT];
    LIST_ENTRY NetworkLists[LANES_NETWORK_COUNT];
    LIST_ENTRY Connections[LANES_CONNECTION_LISTS];
};

// ---- Pools

static VOID LanesInitializeLists(LIST_ENTRY *lists, UINT32 count)
{
    UINT32 i;

    for (i = 0; i < count; i++)
    {
        InitializeListHead(&lists[i]);
    }
}

static VOID LanesInitializePool(LANE_POOL *pool, LIST_ENTRY *lists, UINT32 count, UINT32 sharedFrom)
{
    InitializeListHead(&pool->Free);
    LanesInitializeLists(lists, count);
    pool->Lists = lists;
    pool->Count = count;
    pool->Used = 0;
    pool->SharedFrom = sharedFrom;
}

static LANE_ENTRY *LanesFind(const LANE_POOL *pool, UINT64 name)
{
    LIST_ENTRY *list = &pool->Lists[name % pool->Count];
    LIST_ENTRY *link;

    for (link = list->Flink; link != list; link = link->Flink)
    {
        LANE_ENTRY *entry = CONTAINING_RECORD(link, LANE_ENTRY, Link);

        if (entry->Name == name)
        {
            return entry;
        }
    }
    return NULL;
}

// Returns the entry with either name. NULL: there is none.
static LANE_ENTRY *LanesFindEither(const LANE_POOL *pool, UINT64 name, UINT64 sharedName)
{
    LANE_ENTRY *entry = LanesFind(pool, name);

    return entry != NULL ? entry : LanesFind(pool, sharedName);
}

// NULL: all entries are in use.
static LANE_ENTRY *LanesTakeEntry(LANE_POOL *pool, UINT64 name, UINT64 sharedName)
{
    LANE_ENTRY *entry;

    if (IsListEmpty(&pool->Free))
    {
        return NULL;
    }
    entry = CONTAINING_RECORD(RemoveHeadList(&pool->Free), LANE_ENTRY, Link);
    entry->Name = pool->Used < pool->SharedFrom ? name : sharedName;
    pool->Used++;
    InsertHeadList(&pool->Lists[entry->Name % pool->Count], &entry->Link);
    return entry;
}

static VOID LanesGiveBackEntry(LANE_POOL *pool, LANE_ENTRY *entry)
{
    pool->Used--;
    RemoveEntryList(&entry->Link);
    InsertHeadList(&pool->Free, &entry->Link);
}

// ---- Finding and leaving a lane

static LANE_GROUP *LanesGroupOf(LANES *lanes, const LANE_OWNER *owner)
{
    LANE_POOL *pool = &lanes->Directions[owner->Side].Groups;
    UINT64 sharedName = owner->Group % LANES_SHARED_NAMES;
    LANE_ENTRY *entry = LanesFindEither(pool, owner->Group, sharedName);

    if (entry == NULL)
    {
        // One is free, because there are as many groups as names that they can have at one time.
        entry = LanesTakeEntry(pool, owner->Group, sharedName);
    }
    return CONTAINING_RECORD(entry, LANE_GROUP, Entry);
}

static LANE *LanesNetworkOf(LANES *lanes, LANE_GROUP *group, const LANE_OWNER *owner)
{
    UINT64 shared = owner->Network % LANES_NETWORK_SHARED_NAMES + 1;
    UINT64 sharedName = group->Entry.Name * (LANES_NETWORK_SHARED_NAMES + 1) + shared;
    LANE_ENTRY *entry = LanesFindEither(&lanes->Networks, owner->Network, sharedName);
    LANE *lane;

    if (entry != NULL)
    {
        return CONTAINING_RECORD(entry, LANE, Entry);
    }
    // While the group's own lane has records, some may be this owner's.
    entry = IsListEmpty(&group->Own.Records) ? LanesTakeEntry(&lanes->Networks, owner->Network, sharedName) : NULL;
    if (entry == NULL)
    {
        return &group->Own;
    }
    lane = CONTAINING_RECORD(entry, LANE, Entry);
    lane->Group = group;
    group->LaneCount++;
    return lane;
}

// The caller leaves the lane by LanesLeave.
static LANE *LanesEnter(LANES *lanes, const LANE_OWNER *owner)
{
    LANE *lane = &lanes->Replies;

    if (owner != NULL)
    {
        LANE_GROUP *group = LanesGroupOf(lanes, owner);

        lane = owner->Side == LaneInbound ? LanesNetworkOf(lanes, group, owner) : &group->Own;
    }
    lane->Uses++;
    return lane;
}

// Gives back a lane that has become empty, and then its group.
static VOID LanesLeave(LANES *lanes, LANE *lane)
{
    LANE_GROUP *group = lane->Group;

    lane->Uses--;
    if (lane->Uses != 0 || group == NULL)
    {
        return;
    }
    if (lane != &group->Own)
    {
        LanesGiveBackEntry(&lanes->Networks, &lane->Entry);
        group->LaneCount--;
    }
    if (group->Own.Uses == 0 && group->LaneCount == 0)
    {
        LanesGiveBackEntry(&lanes->Directions[group->Side].Groups, &group->Entry);
    }
}

// ---- Beginning and end

static VOID LanesInitializeLane(LANE *lane, LANE_GROUP *group)
{
    lane->Group = group;
    InitializeListHead(&lane->Records);
    InitializeListHead(&lane->Questions);
}

static VOID LanesInitializeDirection(LANE_TABLE *table, UINT8 side)
{
    LANE_DIRECTION *direction = &table->Directions[side];
    UINT32 i;

    LanesInitializePool(&direction->Groups, table->GroupLists[side], LANES_GROUP_COUNT,
                        LANES_GROUP_COUNT - LANES_SHARED_NAMES);
    InitializeListHead(&direction->Turns);
    for (i = 0; i < LaneShareCount; i++)
    {
        RankingInitialize(&direction->Rankings[i]);
    }
    for (i = 0; i < LANES_GROUP_COUNT; i++)
    {
        LANE_GROUP *group = &table->Groups[side][i];

        group->Side = side;
        InitializeListHead(&group->Lanes);
        LanesInitializeLane(&group->Own, group);
        InsertTailList(&direction->Groups.Free, &group->Entry.Link);
    }
}

_Use_decl_annotations_
NTSTATUS LanesInitialize(LANES *lanes, MEMORY *memory)
{
    LANE_TABLE *table = (LANE_TABLE *)MemoryAllocate(memory, sizeof(*table));
    UINT32 i;

    RtlZeroMemory(lanes, sizeof(*lanes));
    lanes->Memory = memory;
    lanes->Table = table;
    if (table == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    lanes->Directions = table->Directions;
    lanes->Connections = table->Connections;
    lanes->InTurn = TRUE;
    InitializeListHead(&lanes->Refusing);
    InitializeListHead(&lanes->Arrivals);
    LanesInitializeLists(table->Connections, LANES_CONNECTION_LISTS);
    LanesInitializeLane(&lanes->Replies, NULL);
    LanesInitializeDirection(table, LaneOutbound);
    LanesInitializeDirection(table, LaneInbound);
    LanesInitializePool(&lanes->Networks, table->NetworkLists, LANES_NETWORK_COUNT, LANES_NETWORK_COUNT / 2);
    for (i = 0; i < LANES_NETWORK_COUNT; i++)
    {
        LanesInitializeLane(&table->Networks[i], NULL);
        InsertTailList(&lanes->Networks.Free, &table->Networks[i].Entry.Link);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID LanesUninitialize(LANES *lanes)
{
    MemoryFree(lanes->Memory, lanes->Table);
    lanes->Table = NULL;
}

// ---- Turns

static VOID LanesAwaitTurn(LANES *lanes, LANE *lane)
{
    LANE_GROUP *group = lane->Group;

    if (group == NULL)
    {
        return;
    }
    if (IsListEmpty(&group->Lanes))
    {
        InsertTailList(&lanes->Directions[group->Side].Turns, &group->Turn);
    }
    InsertTailList(&group->Lanes, &lane->Turn);
}

static VOID LanesForgoTurn(LANE *lane)
{
    LANE_GROUP *group = lane->Group;

    if (group != NULL && RemoveEntryList(&lane->Turn))
    {
        RemoveEntryList(&group->Turn);
    }
}

// Puts the lane and its group behind the others.
static VOID LanesPassTurn(LANES *lanes, LANE *lane)
{
    LANE_GROUP *group = lane->Group;

    lanes->NextSide = (UINT8)(((group != NULL ? group->Side : LaneReplies) + 1) % LANE_SIDES);
    if (group == NULL || IsListEmpty(&group->Lanes))
    {
        return;
    }
    if (!IsListEmpty(&lane->Records))
    {
        RemoveEntryList(&lane->Turn);
        InsertTailList(&group->Lanes, &lane->Turn);
    }
    RemoveEntryList(&group->Turn);
    InsertTailList(&lanes->Directions[group->Side].Turns, &group->Turn);
}

static BOOLEAN LanesMayReply(const LANES *lanes)
{
    const LANE_RECORD *record = CONTAINING_RECORD(lanes->Replies.Records.Flink, LANE_RECORD, Link);

    return !IsListEmpty(&lanes->Replies.Records) &&
           (!record->Barrier || lanes->Arrivals.Flink == (LIST_ENTRY *)&record->Arrival);
}

static LANE *LanesNextOf(const LANES *lanes, UINT32 side)
{
    const LIST_ENTRY *turns;
    LANE_GROUP *group;

    if (side == LaneReplies)
    {
        return LanesMayReply(lanes) ? (LANE *)&lanes->Replies : NULL;
    }
    turns = &lanes->Directions[side].Turns;
    if (IsListEmpty(turns))
    {
        return NULL;
    }
    group = CONTAINING_RECORD(turns->Flink, LANE_GROUP, Turn);
    return CONTAINING_RECORD(group->Lanes.Flink, LANE, Turn);
}

_Use_decl_annotations_
LANE_RECORD *LanesNext(const LANES *lanes)
{
    UINT32 i;

    for (i = 0; i < LANE_SIDES; i++)
    {
        const LANE *lane = LanesNextOf(lanes, (lanes->NextSide + i) % LANE_SIDES);

        if (lane != NULL)
        {
            return CONTAINING_RECORD(lane->Records.Flink, LANE_RECORD, Link);
        }
    }
    return NULL;
}

// ---- Charges

static VOID LanesCharge(LANES *lanes, LANE *lane, LANE_SHARE share, INT64 more)
{
    LANE_DIRECTION *direction = &lanes->Directions[lane->Group->Side];

    direction->Held[share] += (UINT64)more;
    RankingSet(&direction->Rankings[share], &lane->Held[share], lane->Held[share].Amount + (UINT64)more);
}

static VOID LanesUncharge(LANES *lanes, LANE_QUESTION *question)
{
    LANE *lane = question->Lane;

    if (lane == NULL)
    {
        return;
    }
    LanesCharge(lanes, lane, LaneHeldPackets, -1);
    LanesCharge(lanes, lane, LaneHeldBytes, -(INT64)question->Bytes);
    LanesCharge(lanes, lane, LaneQueuedBytes, -(INT64)question->Queued);
    question->Queued = 0;
    if (question->IsListed)
    {
        RemoveEntryList(&question->Link);
        question->IsListed = FALSE;
    }
    question->Lane = NULL;
    LanesLeave(lanes, lane);
}

// The caller has entered the lane for the question.
static VOID LanesChargeAll(LANES *lanes, LANE *lane, LANE_QUESTION *question)
{
    question->Lane = lane;
    LanesCharge(lanes, lane, LaneHeldPackets, 1);
    LanesCharge(lanes, lane, LaneHeldBytes, (INT64)question->Bytes);
}

_Use_decl_annotations_
VOID LanesRelease(LANES *lanes, LANE_QUESTION *question)
{
    if (question->Record != NULL)
    {
        question->Record->Question = NULL;
        question->Record = NULL;
    }
    LanesUncharge(lanes, question);
}

// ---- Records

static LIST_ENTRY *LanesConnectionList(const LANES *lanes, UINT64 connection)
{
    return &lanes->Connections[connection % LANES_CONNECTION_LISTS];
}

// Returns the lane of the newest waiting record of a connection. NULL: none waits.
static LANE *LanesLaneOfConnection(const LANES *lanes, UINT64 connection)
{
    LIST_ENTRY *list = LanesConnectionList(lanes, connection);
    LIST_ENTRY *link;

    for (link = list->Flink; link != list; link = link->Flink)
    {
        const LANE_RECORD *record = CONTAINING_RECORD(link, LANE_RECORD, ConnectionLink);

        if (record->Connection == connection)
        {
            return record->Lane;
        }
    }
    return NULL;
}

// Enters the lane that a record joins.
static LANE *LanesJoin(LANES *lanes, const LANE_OWNER *owner)
{
    LANE *lane = owner != NULL ? LanesLaneOfConnection(lanes, owner->Connection) : NULL;

    if (lane == NULL)
    {
        return LanesEnter(lanes, lanes->InTurn ? owner : NULL);
    }
    lane->Uses++;
    return lane;
}

static VOID LanesAttach(LANES *lanes, LANE_RECORD *record, LANE_QUESTION *question)
{
    question->Record = record;
    question->Queued = record->Length;
    question->IsListed = TRUE;
    record->Question = question;
    InsertTailList(&question->Lane->Questions, &question->Link);
    LanesCharge(lanes, question->Lane, LaneQueuedBytes, (INT64)record->Length);
}

_Use_decl_annotations_
VOID LanesAppend(LANES *lanes, const LANE_OWNER *owner, LANE_RECORD *record, LANE_QUESTION *question)
{
    LANE *lane = LanesJoin(lanes, owner);

    record->Lane = lane;
    record->Connection = owner != NULL ? owner->Connection : 0;
    record->Question = NULL;
    if (IsListEmpty(&lane->Records))
    {
        LanesAwaitTurn(lanes, lane);
    }
    InsertTailList(&lane->Records, &record->Link);
    InsertTailList(&lanes->Arrivals, &record->Arrival);
    if (record->Connection != 0)
    {
        InsertHeadList(LanesConnectionList(lanes, record->Connection), &record->ConnectionLink);
    }
    lanes->QueuedBytes += record->Length;
    lanes->QueuedRecords += record->Records;
    if (question != NULL && question->Lane != NULL)
    {
        LanesAttach(lanes, record, question);
    }
}

// Takes a record out of its lane, which the caller leaves.
static VOID LanesRemove(LANES *lanes, LANE_RECORD *record)
{
    LANE_QUESTION *question = record->Question;

    if (RemoveEntryList(&record->Link))
    {
        LanesForgoTurn(record->Lane);
    }
    RemoveEntryList(&record->Arrival);
    if (record->Connection != 0)
    {
        RemoveEntryList(&record->ConnectionLink);
    }
    lanes->QueuedBytes -= record->Length;
    lanes->QueuedRecords -= record->Records;
    if (question != NULL)
    {
        if (question->Lane != NULL)
        {
            LanesCharge(lanes, question->Lane, LaneQueuedBytes, -(INT64)question->Queued);
            question->Queued = 0;
        }
        question->Record = NULL;
        record->Question = NULL;
    }
}

_Use_decl_annotations_
VOID LanesTake(LANES *lanes, LANE_RECORD *record)
{
    LanesRemove(lanes, record);
    LanesPassTurn(lanes, record->Lane);
    LanesLeave(lanes, record->Lane);
}

// ---- Refusals

static VOID LanesNoteRefused(LANES *lanes, LANE *lane, UINT64 processId)
{
    lane->RefusedProcess = lane->Refused == 0 || lane->RefusedProcess == processId ? processId : 0;
    lane->Refused++;
    if (!lane->IsRefusing)
    {
        lane->IsRefusing = TRUE;
        lane->NextReport = 0;
        lane->Uses++;
        InsertHeadList(&lanes->Refusing, &lane->Refusing);
    }
}

static VOID LanesLeaveRefusing(LANES *lanes, LANE *lane)
{
    RemoveEntryList(&lane->Refusing);
    lane->Refused = 0;
    lane->IsRefusing = FALSE;
    LanesLeave(lanes, lane);
}

_Use_decl_annotations_
BOOLEAN LanesTakeRefused(LANES *lanes, UINT64 now, UINT64 period, UINT64 *count, UINT64 *processId)
{
    while (!IsListEmpty(&lanes->Refusing))
    {
        LANE *lane = CONTAINING_RECORD(lanes->Refusing.Flink, LANE, Refusing);

        if (lane->NextReport > now)
        {
            return FALSE;
        }
        if (lane->Refused != 0)
        {
            *count = lane->Refused;
            *processId = lane->RefusedProcess;
            lane->Refused = 0;
            lane->NextReport = now + period;
            RemoveEntryList(&lane->Refusing);
            InsertTailList(&lanes->Refusing, &lane->Refusing);
            return TRUE;
        }
        LanesLeaveRefusing(lanes, lane);
    }
    return FALSE;
}

_Use_decl_annotations_
VOID LanesForgetRefused(LANES *lanes)
{
    while (!IsListEmpty(&lanes->Refusing))
    {
        LanesLeaveRefusing(lanes, CONTAINING_RECORD(lanes->Refusing.Flink, LANE, Refusing));
    }
}

_Use_decl_annotations_
BOOLEAN LanesHaveRefused(const LANES *lanes)
{
    return !IsListEmpty(&lanes->Refusing);
}

// ---- Giving way

// Returns the next question about the connection that a waiting question is about, or its end. NULL: neither waits.
static LANE_RECORD *LanesAfter(const LANES *lanes, const LANE_RECORD *asking)
{
    LIST_ENTRY *list = LanesConnectionList(lanes, asking->Connection);
    LANE_RECORD *next = NULL;
    LIST_ENTRY *link;

    // The list starts with the newest record.
    for (link = list->Flink; link != list && link != &asking->ConnectionLink; link = link->Flink)
    {
        LANE_RECORD *record = CONTAINING_RECORD(link, LANE_RECORD, ConnectionLink);

        next = record->Connection == asking->Connection && (record->Asks || record->Ends) ? record : next;
    }
    return next;
}

static VOID LanesWithdrawRecord(LANES *lanes, LANE_RECORD *record, LANE_RECORD **unwanted)
{
    LanesRemove(lanes, record);
    LanesLeave(lanes, record->Lane);
    record->Next = *unwanted;
    *unwanted = record;
}

_Use_decl_annotations_
BOOLEAN LanesWithdraw(LANES *lanes, LANE_QUESTION *question)
{
    LANE_RECORD *asking = question->Record;
    LANE_RECORD *next;

    if (asking == NULL)
    {
        return FALSE;
    }
    next = question->IsFirst ? LanesAfter(lanes, asking) : NULL;
    question->Withdrawn = TRUE;
    LanesWithdrawRecord(lanes, asking, &question->Unwanted);
    if (next == NULL || next->Ends)
    {
        if (next != NULL)
        {
            LanesWithdrawRecord(lanes, next, &question->Unwanted);
        }
        return question->IsFirst;
    }
    // The client learns of the connection from the next question. One without a structure is not given up any more.
    if (next->Question != NULL)
    {
        next->Question->IsFirst = TRUE;
    }
    return FALSE;
}

// Gives up the newest question of a lane. FALSE: none can be given up.
static BOOLEAN LanesGiveUp(LANES *lanes, LANE *lane, LANE_SHARE share, LANE_QUESTION *newcomer)
{
    LANE_QUESTION *newest = CONTAINING_RECORD(lane->Questions.Blink, LANE_QUESTION, Link);

    if (IsListEmpty(&lane->Questions) || (share == LaneQueuedBytes && newest->Record == NULL))
    {
        return FALSE;
    }
    newcomer->Displaced = newest->Id;
    LanesNoteRefused(lanes, lane, newest->ProcessId);
    LanesUncharge(lanes, newest);
    return TRUE;
}

static LANE *LanesLaneOf(RANKED *held, LANE_SHARE share)
{
    RANKED *first = held - share;

    return CONTAINING_RECORD(first, LANE, Held);
}

// The side that holds more, the newcomer counted, gives way.
static LANE_DIRECTION *LanesLosingSide(LANES *lanes, const LANE *lane, LANE_SHARE share, UINT64 amount)
{
    LANE_DIRECTION *own = &lanes->Directions[lane->Group->Side];
    LANE_DIRECTION *other = &lanes->Directions[LANE_DIRECTIONS - 1 - lane->Group->Side];

    return own->Held[share] + amount > other->Held[share] ? own : other;
}

// There is no room for the newcomer. Fails as LanesAdmit does.
static NTSTATUS LanesGiveWay(LANES *lanes, LANE *lane, LANE_SHARE share, UINT64 amount, LANE_QUESTION *newcomer)
{
    LANE_DIRECTION *side = LanesLosingSide(lanes, lane, share, amount);
    RANKED *top = RankingTop(&side->Rankings[share]);
    LANE *loser;

    if (lanes->Directions[LaneOutbound].Held[share] == 0 && lanes->Directions[LaneInbound].Held[share] == 0)
    {
        return STATUS_BUFFER_OVERFLOW;
    }
    loser = top != NULL ? LanesLaneOf(top, share) : lane;
    if (loser == lane ||
        (side == &lanes->Directions[lane->Group->Side] && RankingOf(lane->Held[share].Amount + amount) > top->Rank) ||
        !LanesGiveUp(lanes, loser, share, newcomer))
    {
        LanesNoteRefused(lanes, lane, newcomer->ProcessId);
        return STATUS_QUOTA_EXCEEDED;
    }
    return STATUS_RETRY;
}

static BOOLEAN LanesHaveRoom(const LANES *lanes, LANE_SHARE share, UINT64 amount)
{
    UINT64 held = lanes->Directions[LaneOutbound].Held[share] + lanes->Directions[LaneInbound].Held[share];

    return amount <= lanes->MaxHeld[share] && held <= lanes->MaxHeld[share] - amount;
}

static NTSTATUS LanesTryAdmit(LANES *lanes, LANE *lane, LANE_QUESTION *question)
{
    if (!LanesHaveRoom(lanes, LaneHeldPackets, 1))
    {
        return LanesGiveWay(lanes, lane, LaneHeldPackets, 1, question);
    }
    if (!LanesHaveRoom(lanes, LaneHeldBytes, question->Bytes))
    {
        return LanesGiveWay(lanes, lane, LaneHeldBytes, question->Bytes, question);
    }
    lane->Uses++;
    LanesChargeAll(lanes, lane, question);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
NTSTATUS LanesAdmit(LANES *lanes, const LANE_OWNER *owner, LANE_QUESTION *question)
{
    LANE *lane = LanesEnter(lanes, owner);
    NTSTATUS status = LanesTryAdmit(lanes, lane, question);

    LanesLeave(lanes, lane);
    return status;
}

_Use_decl_annotations_
NTSTATUS LanesMakeRoom(LANES *lanes, LANE_QUESTION *question, UINT64 bytes)
{
    return LanesGiveWay(lanes, question->Lane, LaneQueuedBytes, bytes, question);
}

#include "connection_table.h"

#include "connection_ports.h"
#include "entry_life.h"
#include "eviction.h"

// A connection whose shard is locked exclusively.
typedef struct _CONNECTION_ACCESS
{
    CONNECTION_PLACE Place;
    KIRQL Irql;
} CONNECTION_ACCESS;

// Locks the shard in any case. NULL: the connection is unknown.
static CONNECTION_CELL *ConnectionTableEnter(CONNECTION_TABLE *table, const CONNECTION_KEY *key,
                                             CONNECTION_ACCESS *access)
{
    ConnectionMapLocate(&table->Connections, key, &access->Place);
    access->Irql = RwLockAcquireExclusive(&access->Place.In.Shard->Lock);
    return ConnectionEntryFind(table, &access->Place);
}

static VOID ConnectionTableLeave(const CONNECTION_ACCESS *access)
{
    RwLockReleaseExclusive(&access->Place.In.Shard->Lock, access->Irql);
}

// ---- The table

// Returns free locks, or NULL: there is no memory.
static CONNECTION_STRIPE *ConnectionTableAllocateStripes(MEMORY *memory, UINT32 count)
{
    CONNECTION_STRIPE *stripes =
        (CONNECTION_STRIPE *)MemoryAllocateCacheAligned(memory, count * sizeof(CONNECTION_STRIPE));
    UINT32 i;

    for (i = 0; stripes != NULL && i < count; i++)
    {
        KeInitializeSpinLock(&stripes[i].Lock);
        stripes[i].Cursors = NULL;
    }
    return stripes;
}

_Use_decl_annotations_
NTSTATUS ConnectionTableInitialize(CONNECTION_TABLE *table, MEMORY *memory, const CLOCK *clock, UINT64 maxConnections)
{
    NTSTATUS status;

    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    table->Clock = clock;
    status = ConnectionMapInitialize(&table->Connections, memory, maxConnections);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    SlabInitialize(&table->ColdParts, memory, sizeof(CONNECTION_COLD), CONNECTION_TABLE_MOST);
    status = OwnerSharesInitialize(&table->Shares, memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupConnections;
    }
    table->PortStripes = ConnectionTableAllocateStripes(memory, CONNECTION_TABLE_PORT_STRIPE_COUNT);
    table->OrderStripes = ConnectionTableAllocateStripes(memory, CONNECTION_TABLE_ORDER_STRIPE_COUNT);
    if (table->PortStripes == NULL || table->OrderStripes == NULL)
    {
        status = STATUS_INSUFFICIENT_RESOURCES;
        goto cleanupStripes;
    }
    return STATUS_SUCCESS;

cleanupStripes:
    MemoryFree(memory, table->OrderStripes);
    MemoryFree(memory, table->PortStripes);
    OwnerSharesUninitialize(&table->Shares);
cleanupConnections:
    ConnectionMapUninitialize(&table->Connections);
    return status;
}

_Use_decl_annotations_
VOID ConnectionTableEndRemoved(CONNECTION_TABLE *table, CONNECTION_VISITOR visitor, void *context)
{
    table->Removing = visitor;
    table->RemovingContext = context;
}

_Use_decl_annotations_
VOID ConnectionTableUninitialize(CONNECTION_TABLE *table)
{
    ConnectionTableRemoveAll(table);
    ConnectionPortsFreePages(table);
    MemoryFree(table->Memory, table->OrderStripes);
    MemoryFree(table->Memory, table->PortStripes);
    OwnerSharesUninitialize(&table->Shares);
    SlabUninitialize(&table->ColdParts);
    ConnectionMapUninitialize(&table->Connections);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableSetLimit(CONNECTION_TABLE *table, UINT64 maxConnections)
{
    InterlockedExchange64(&table->Connections.Quota.Most, (LONG64)maxConnections);
    return ConnectionTableIsOverLimit(table);
}

// `packet` is CELL_USE_OUTBOUND or CELL_USE_INBOUND if a packet is looked up, else 0.
FORCEINLINE BOOLEAN ConnectionTableFind(CONNECTION_TABLE *table, const CONNECTION_KEY *key, LONG packet,
                                        CONNECTION_STATE *state)
{
    CONNECTION_PLACE place;
    CONNECTION_CELL *cell;
    KIRQL irql;

    ConnectionMapLocate(&table->Connections, key, &place);
    irql = RwLockAcquireShared(&place.In.Shard->Lock);
    cell = ConnectionEntryFind(table, &place);
    if (cell != NULL)
    {
        *state = ConnectionEntryState(cell);
        ConnectionEntryTouch(table, cell, packet);
    }
    RwLockReleaseShared(&place.In.Shard->Lock, irql);
    return cell != NULL;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableLookup(CONNECTION_TABLE *table, const CONNECTION_KEY *key, CONNECTION_STATE *state)
{
    return ConnectionTableFind(table, key, 0, state);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableLookupPacket(CONNECTION_TABLE *table, const CONNECTION_KEY *key, BOOLEAN inbound,
                                    CONNECTION_STATE *state)
{
    return ConnectionTableFind(table, key, inbound ? CELL_USE_INBOUND : CELL_USE_OUTBOUND, state);
}

// ---- Insertion

// One insertion on its way, with the memory that it has brought along or has to give back.
typedef struct _CONNECTION_INSERTION
{
    CONNECTION_PLACE Place;
    const CONNECTION_KEY *Key;
    UINT32 ProcessId;
    UINT8 Direction;
    BOOLEAN HasPortPage;
    UINT32 Processor; // chooses the stripe of the cold part
    UINT32 Cold;      // handle of a cold part; 0: none, or used
    SHARD_GROWTH Growth;
} CONNECTION_INSERTION;

// Sets the process of a connection whose process is not known.
static VOID ConnectionTableAdoptProcess(CONNECTION_CELL *cell, UINT64 processId)
{
    if (cell->ProcessId == 0)
    {
        cell->ProcessId = (UINT32)processId;
    }
}

static NTSTATUS ConnectionTableAdopt(const CONNECTION_TABLE *table, const CONNECTION_INSERTION *insertion,
                                     CONNECTION_CELL *cell, CONNECTION_STATE *state)
{
    ConnectionTableAdoptProcess(cell, insertion->ProcessId);
    ConnectionEntryTouch(table, cell, 0);
    *state = ConnectionEntryState(cell);
    return STATUS_OBJECT_NAME_EXISTS;
}

// The caller holds the shard's lock. STATUS_RETRY: call ConnectionTableBringMemory without the lock, then try again.
static NTSTATUS ConnectionTableTryInsert(CONNECTION_TABLE *table, CONNECTION_INSERTION *insertion,
                                         CONNECTION_STATE *state)
{
    CONNECTION_CELL *cell = ConnectionEntryFind(table, &insertion->Place);
    SHARD_MAP *map = insertion->Place.Map;
    UINT64 *words;
    NTSTATUS status;

    if (cell != NULL && !ConnectionEntryHasEnded(cell))
    {
        return ConnectionTableAdopt(table, insertion, cell, state);
    }
    insertion->HasPortPage = ConnectionPortsHasPage(table, insertion->Key);
    if (!insertion->HasPortPage)
    {
        return STATUS_RETRY;
    }
    if (cell == NULL)
    {
        insertion->Cold = insertion->Cold != 0 ? insertion->Cold : SlabTake(&table->ColdParts, insertion->Processor);
        if (insertion->Cold == 0)
        {
            return STATUS_RETRY;
        }
        status = ShardMapStartCell(map, &insertion->Place.In, &insertion->Growth, &words);
        if (!NT_SUCCESS(status))
        {
            return status;
        }
        cell = ConnectionEntryOfWords(map, words);
        cell->Cold = insertion->Cold;
        insertion->Cold = 0;
    }
    EntryLifeStart(table, &insertion->Place, insertion->Key, insertion->ProcessId, insertion->Direction, cell);
    *state = ConnectionEntryState(cell);
    return STATUS_SUCCESS;
}

// Allocates what ConnectionTableTryInsert lacked. No lock is held. FALSE: no memory.
// A shard that cannot grow takes connections until it is full.
static BOOLEAN ConnectionTableBringMemory(CONNECTION_TABLE *table, CONNECTION_INSERTION *insertion)
{
    if (!insertion->HasPortPage)
    {
        return ConnectionPortsBringPage(table, insertion->Key);
    }
    if (insertion->Cold == 0)
    {
        return SlabGrow(&table->ColdParts, insertion->Processor);
    }
    ShardMapBringGrowth(insertion->Place.Map, &insertion->Growth);
    return TRUE;
}

static NTSTATUS ConnectionTableInsert(CONNECTION_TABLE *table, CONNECTION_INSERTION *insertion, CONNECTION_STATE *state)
{
    RW_LOCK *lock = &insertion->Place.In.Shard->Lock;

    for (;;)
    {
        KIRQL irql = RwLockAcquireExclusive(lock);
        NTSTATUS status = ConnectionTableTryInsert(table, insertion, state);

        RwLockReleaseExclusive(lock, irql);
        if (status == STATUS_QUOTA_EXCEEDED && EvictionMakeRoom(table))
        {
            insertion->Growth.HasSlot = TRUE;
        }
        else if (status != STATUS_RETRY)
        {
            return status;
        }
        else if (!ConnectionTableBringMemory(table, insertion))
        {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
}

_Use_decl_annotations_
NTSTATUS ConnectionTableFindOrInsert(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT64 processId,
                                     UINT8 direction, CONNECTION_STATE *state)
{
    CONNECTION_INSERTION insertion;
    NTSTATUS status;

    RtlZeroMemory(&insertion, sizeof(insertion));
    ConnectionMapLocate(&table->Connections, key, &insertion.Place);
    insertion.Key = key;
    insertion.ProcessId = (UINT32)processId; // Windows' process ids have 32 bits
    insertion.Direction = direction;
    insertion.Processor = KeGetCurrentProcessorNumberEx(NULL);

    status = ConnectionTableInsert(table, &insertion, state);

    MemoryFree(table->Memory, insertion.Growth.Array);
    if (insertion.Cold != 0)
    {
        SlabReturn(&table->ColdParts, insertion.Cold);
    }
    if (insertion.Growth.HasSlot)
    {
        ShardQuotaReturn(&table->Connections.Quota, 1);
    }
    if (status == STATUS_SUCCESS && EvictionIsDue(table))
    {
        EvictionRelieve(table, state->Generation);
    }
    return status == STATUS_QUOTA_EXCEEDED ? STATUS_CONNECTION_COUNT_LIMIT : status;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableEvict(CONNECTION_TABLE *table, UINT32 most)
{
    UINT32 i;

    for (i = 0; i < most && ConnectionTableIsOverLimit(table); i++)
    {
        if (!EvictionMakeRoom(table))
        {
            return FALSE;
        }
        ShardQuotaReturn(&table->Connections.Quota, 1);
    }
    return ConnectionTableIsOverLimit(table);
}

// ---- Changes

_Use_decl_annotations_
BOOLEAN ConnectionTableSetVerdict(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT8 verdict,
                                  CONNECTION_STATE *state)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *cell = ConnectionTableEnter(table, key, &access);
    BOOLEAN live = cell != NULL && !ConnectionEntryHasEnded(cell);

    if (live)
    {
        ConnectionEntrySetVerdict(cell, verdict);
        ConnectionEntryForgetStalled(cell);
        *state = ConnectionEntryState(cell);
    }
    ConnectionTableLeave(&access);
    return live;
}

// Locks the shard in any case. NULL: the connection is unknown, ended, or of another generation.
static CONNECTION_CELL *ConnectionTableEnterLive(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                                 CONNECTION_ACCESS *access)
{
    CONNECTION_CELL *cell = ConnectionTableEnter(table, key, access);

    return cell != NULL && !ConnectionEntryHasEnded(cell) && (generation == 0 || cell->Generation == generation) ? cell
                                                                                                                 : NULL;
}

_Use_decl_annotations_
VOID ConnectionTableSetConnecting(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                  UINT64 endpointHandle)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL)
    {
        live->Flags |= CELL_FLAG_CONNECTING;
        ConnectionEntryCold(table, live)->Handle = endpointHandle;
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
VOID ConnectionTableSetOrigin(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                              const CONNECTION_ORIGIN *origin)
{
    UINT16 owner = origin->PathBytes != 0 ? OwnerSharesOfImage(&table->Shares, origin->Path, origin->PathBytes)
                                          : OwnerSharesOfProcess(&table->Shares, origin->ProcessId);
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL && !ConnectionEntryIsInbound(live))
    {
        EntryLifeSetOwner(table, live, owner);
    }
    if (live != NULL && origin->IsOlder)
    {
        ConnectionEntryMark(live, CELL_USE_GROWN);
    }
    ConnectionTableLeave(&access);
}

// Sets a flag of a live connection.
static VOID ConnectionTableSetFlag(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, UINT8 flag)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL)
    {
        live->Flags |= flag;
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
VOID ConnectionTableSetAuthorized(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    ConnectionTableSetFlag(table, key, generation, CELL_FLAG_AUTHORIZED);
}

_Use_decl_annotations_
VOID ConnectionTableSetBroadcast(CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    ConnectionTableSetFlag(table, key, 0, CELL_FLAG_BROADCAST);
}

_Use_decl_annotations_
VOID ConnectionTableSetEstablished(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT64 flowHandle)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, 0, &access);

    if (live != NULL)
    {
        live->Flags = (UINT8)((live->Flags & ~CELL_FLAG_CONNECTING) | CELL_FLAG_AUTHORIZED);
        ConnectionEntryMark(live, CELL_USE_GROWN);
        ConnectionEntryCold(table, live)->Handle = flowHandle;
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableTakeBlockedFlow(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT64 *flowHandle)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, 0, &access);

    *flowHandle = 0;
    if (live != NULL && ConnectionEntryVerdict(live) == VerdictPermanentBlock &&
        (live->Flags & CELL_FLAG_CONNECTING) == 0)
    {
        CONNECTION_COLD *cold = ConnectionEntryCold(table, live);

        *flowHandle = cold->Handle;
        cold->Handle = 0;
    }
    if (*flowHandle != 0)
    {
        live->Flags |= CELL_FLAG_ABORTED;
    }
    ConnectionTableLeave(&access);
    return *flowHandle != 0;
}

_Use_decl_annotations_
VOID ConnectionTableForgetVerdict(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, UINT8 verdict)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL && ConnectionEntryVerdict(live) == verdict)
    {
        ConnectionEntrySetVerdict(live, VerdictUndecided);
    }
    ConnectionTableLeave(&access);
}

// ---- Reports

_Use_decl_annotations_
KSPIN_LOCK *ConnectionTableOrder(CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    CONNECTION_PLACE place;

    ConnectionMapLocate(&table->Connections, key, &place);
    return &table->OrderStripes[place.In.Hash % CONNECTION_TABLE_ORDER_STRIPE_COUNT].Lock;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableCopyLive(CONNECTION_TABLE *table, const CONNECTION_KEY *key, CONNECTION *connection)
{
    CONNECTION_PLACE place;
    CONNECTION_CELL *cell;
    BOOLEAN live;
    KIRQL irql;

    ConnectionMapLocate(&table->Connections, key, &place);
    irql = RwLockAcquireShared(&place.In.Shard->Lock);
    cell = ConnectionEntryFind(table, &place);
    live = cell != NULL && !ConnectionEntryHasEnded(cell);
    if (live)
    {
        ConnectionEntryCopy(table, place.Map, cell, connection);
    }
    RwLockReleaseShared(&place.In.Shard->Lock, irql);
    return live;
}

_Use_decl_annotations_
VOID ConnectionTableSetReported(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, UINT64 question)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL)
    {
        live->Flags |= CELL_FLAG_REPORTED;
        ConnectionEntrySetQuestion(ConnectionEntryCold(table, live), question);
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
VOID ConnectionTableForgetReported(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL)
    {
        live->Flags &= (UINT8)~CELL_FLAG_REPORTED;
        ConnectionEntrySetQuestion(ConnectionEntryCold(table, live), 0);
    }
    ConnectionTableLeave(&access);
}

// ---- Pending questions

// Adds to the number of pending questions. Returns the cell if the connection is live, else NULL.
static CONNECTION_CELL *ConnectionTableChangePending(CONNECTION_TABLE *table, const CONNECTION_KEY *key,
                                                     UINT32 generation, LONG more, CONNECTION_ACCESS *access)
{
    CONNECTION_CELL *cell = ConnectionTableEnter(table, key, access);

    if (cell == NULL || cell->Generation != generation)
    {
        return NULL;
    }
    ConnectionEntryChangePending(table, cell, more);
    ConnectionEntryTouch(table, cell, 0);
    return ConnectionEntryHasEnded(cell) ? NULL : cell;
}

_Use_decl_annotations_
VOID ConnectionTableAddPending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, UINT64 processId)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableChangePending(table, key, generation, 1, &access);

    if (live != NULL)
    {
        ConnectionTableAdoptProcess(live, processId);
        ConnectionEntryForgetStalled(live);
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableSetStalled(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                  UINT64 processId)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);
    BOOLEAN first = live == NULL || !ConnectionEntryIsStalled(live);

    if (live != NULL)
    {
        ConnectionTableAdoptProcess(live, processId);
        live->Verdict |= CELL_VERDICT_STALLED;
        WriteNoFence(&table->HasStalled, TRUE);
    }
    ConnectionTableLeave(&access);
    return first;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableIsPending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    CONNECTION_ACCESS access;
    const CONNECTION_CELL *cell = ConnectionTableEnter(table, key, &access);
    BOOLEAN pending = cell != NULL && cell->Generation == generation && ConnectionEntryIsWaiting(cell);

    ConnectionTableLeave(&access);
    return pending;
}

_Use_decl_annotations_
VOID ConnectionTableReleasePending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    CONNECTION_ACCESS access;

    (VOID) ConnectionTableChangePending(table, key, generation, -1, &access);
    ConnectionTableLeave(&access);
}

// Counts the packet that was held. A TCP connect has none: its packet comes after the verdict.
static VOID ConnectionTableCountHeld(const CONNECTION_TABLE *table, CONNECTION_CELL *cell)
{
    if ((cell->Flags & CELL_FLAG_CONNECTING) == 0)
    {
        ConnectionEntryTouch(table, cell, ConnectionEntryIsInbound(cell) ? CELL_USE_INBOUND : CELL_USE_OUTBOUND);
    }
}

_Use_decl_annotations_
BOOLEAN ConnectionTableResolvePending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                      UINT8 verdict)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableChangePending(table, key, generation, -1, &access);

    if (live != NULL)
    {
        ConnectionEntrySetVerdict(live, verdict);
        ConnectionTableCountHeld(table, live);
    }
    ConnectionTableLeave(&access);
    return live != NULL;
}

_Use_decl_annotations_
VOID ConnectionTableAddBytes(CONNECTION_TABLE *table, const CONNECTION_KEY *key, BOOLEAN inbound, UINT64 bytes)
{
    CONNECTION_PLACE place;
    CONNECTION_CELL *cell;
    KIRQL irql;

    ConnectionMapLocate(&table->Connections, key, &place);
    irql = RwLockAcquireShared(&place.In.Shard->Lock);
    cell = ConnectionEntryFind(table, &place);
    if (cell != NULL)
    {
        CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);

        InterlockedExchangeAdd64(inbound ? &cold->ReceivedBytes : &cold->TransmittedBytes, (LONG64)bytes);
    }
    RwLockReleaseShared(&place.In.Shard->Lock, irql);
}

// ---- Ends

_Use_decl_annotations_
BOOLEAN ConnectionTableEnd(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, CONNECTION *ended)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, generation, &access);

    if (live != NULL)
    {
        EntryLifeEnd(table, access.Place.Map, live);
        ConnectionEntryCopy(table, access.Place.Map, live, ended);
    }
    ConnectionTableLeave(&access);
    return live != NULL;
}

// ---- Walking over the table
//
// A bucket is the connections whose hashes choose the same cell. They are copied together.
// The buckets of a shard are walked in the order of their numbers with the bits reversed.
// When the shard grows, each bucket splits into buckets that follow each other in that order.
// When the shard shrinks, such buckets become one. So a walk misses no connection that stays.

// Buckets that are walked under one lock.
#define WALK_BUCKETS 256u

#define WALK_SHARDS (2u * SHARD_MAP_SHARDS)

static UINT32 ConnectionWalkReverse(UINT32 bits)
{
    bits = (bits & 0x55555555u) << 1 | (bits >> 1 & 0x55555555u);
    bits = (bits & 0x33333333u) << 2 | (bits >> 2 & 0x33333333u);
    bits = (bits & 0x0F0F0F0Fu) << 4 | (bits >> 4 & 0x0F0F0F0Fu);
    bits = (bits & 0x00FF00FFu) << 8 | (bits >> 8 & 0x00FF00FFu);
    return bits << 16 | bits >> 16;
}

// Returns the bucket that follows. 0: it was the last one of the shard.
static UINT32 ConnectionWalkNext(UINT32 bucket, UINT32 mask)
{
    return ConnectionWalkReverse(ConnectionWalkReverse(bucket | ~mask) + 1);
}

typedef struct _WALK_COPY
{
    const CONNECTION_TABLE *Table;
    const SHARD_MAP *Map;
    const SHARD *Shard;
    CONNECTION *Connections;
    UINT32 Capacity;
    UINT32 Count;
} WALK_COPY;

// The caller holds the shard's lock. FALSE: the bucket does not fit, and none of it is copied.
static BOOLEAN ConnectionWalkCopyBucket(WALK_COPY *copy, UINT32 bucket)
{
    UINT32 mask = copy->Shard->CellCount - 1;
    UINT32 count = copy->Count;
    UINT32 step;

    for (step = 0; step <= mask; step++)
    {
        UINT64 *words = ShardCellAt(copy->Shard->Array, (bucket + step) & mask, copy->Map->CellBytes);
        const CONNECTION_CELL *cell = ConnectionEntryOfWords(copy->Map, words);

        if ((cell->Flags & CELL_FLAG_IN_USE) == 0)
        {
            break;
        }
        if (((ConnectionEntryCold(copy->Table, cell)->Place ^ bucket) & CONNECTION_PLACE_INDEX_MASK & mask) != 0)
        {
            continue; // it is of another bucket
        }
        if (count == copy->Capacity)
        {
            return FALSE;
        }
        ConnectionEntryCopy(copy->Table, copy->Map, cell, &copy->Connections[count]);
        count++;
    }
    copy->Count = count;
    return TRUE;
}

// FALSE: the next bucket does not fit.
static BOOLEAN ConnectionWalkCopyShard(WALK_COPY *copy, CONNECTION_WALK *walk)
{
    SHARD *shard = &copy->Map->Shards[walk->Shard % SHARD_MAP_SHARDS];
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    UINT32 mask = shard->CellCount - 1;
    BOOLEAN fits = TRUE;
    BOOLEAN over = shard->CellCount == 0;
    UINT32 steps;

    copy->Shard = shard;
    for (steps = 0; !over && steps < WALK_BUCKETS; steps++)
    {
        fits = ConnectionWalkCopyBucket(copy, walk->Bucket & mask);
        if (!fits)
        {
            break;
        }
        walk->Bucket = ConnectionWalkNext(walk->Bucket, mask);
        over = walk->Bucket == 0;
    }
    if (over)
    {
        walk->Shard++;
        walk->Bucket = 0;
    }
    RwLockReleaseShared(&shard->Lock, irql);
    return fits;
}

_Use_decl_annotations_
BOOLEAN ConnectionWalkIsOver(const CONNECTION_WALK *walk)
{
    return walk->Shard >= WALK_SHARDS;
}

_Use_decl_annotations_
UINT32 ConnectionTableWalk(CONNECTION_TABLE *table, CONNECTION_WALK *walk, CONNECTION *connections, UINT32 capacity)
{
    BOOLEAN fits = TRUE;
    WALK_COPY copy;

    RtlZeroMemory(&copy, sizeof(copy));
    copy.Table = table;
    copy.Connections = connections;
    copy.Capacity = capacity;
    while (fits && !ConnectionWalkIsOver(walk))
    {
        copy.Map = walk->Shard < SHARD_MAP_SHARDS ? &table->Connections.V4 : &table->Connections.V6;
        fits = ConnectionWalkCopyShard(&copy, walk);
    }
    return copy.Count;
}

// ---- Cleaning

typedef struct _CONNECTION_CLEANING
{
    CONNECTION_TABLE *Table;
    SHARD_MAP *Map;
    UINT32 Now;
    BOOLEAN IncludeIdle;
    UINT8 EndReason;    // of a connection that is removed alive; EndReasonClosed: it is not reported
    UINT32 WaitSeconds; // until a connection that stays may be removed
    BOOLEAN HasEnding;  // `Ending` is to end next
    UINT32 Settled;     // generation of the connection that was the last `Ending`
    CONNECTION Ending;
} CONNECTION_CLEANING;

static CONNECTION_CELL *ConnectionCleaningCell(const CONNECTION_CLEANING *cleaning, UINT64 *words)
{
    return ConnectionEntryOfWords(cleaning->Map, words);
}

// Returns whether the connection is ended before it is removed. A question about it may be on its way to the client.
static BOOLEAN ConnectionCleaningEnds(const CONNECTION_CLEANING *cleaning, const CONNECTION_CELL *cell)
{
    return cleaning->EndReason != EndReasonClosed && cleaning->Table->Removing != NULL &&
           !ConnectionEntryHasEnded(cell);
}

// Called without a lock.
static VOID ConnectionCleaningEnd(VOID *context)
{
    CONNECTION_CLEANING *cleaning = (CONNECTION_CLEANING *)context;

    if (cleaning->HasEnding)
    {
        cleaning->HasEnding = FALSE;
        cleaning->Settled = cleaning->Ending.State.Generation;
        cleaning->Table->Removing(cleaning->Table->RemovingContext, &cleaning->Ending);
    }
}

// A connection that is used again stays.
static UINT8 ConnectionCleaningStartEnd(CONNECTION_CLEANING *cleaning, const CONNECTION_CELL *cell)
{
    if (cell->Generation == cleaning->Settled)
    {
        return SHARD_VISIT_KEEP;
    }
    ConnectionEntryCopy(cleaning->Table, cleaning->Map, cell, &cleaning->Ending);
    cleaning->Ending.Life.EndReason = cleaning->EndReason;
    cleaning->HasEnding = TRUE;
    return SHARD_VISIT_PAUSE;
}

// Returns the cold part of a cell to the slab. The result SHARD_VISIT_REMOVE makes the caller remove the cell.
static UINT8 ConnectionCleaningRemove(VOID *context, UINT64 *words)
{
    CONNECTION_CLEANING *cleaning = (CONNECTION_CLEANING *)context;
    CONNECTION_CELL *cell = ConnectionCleaningCell(cleaning, words);

    if (ConnectionCleaningEnds(cleaning, cell))
    {
        return ConnectionCleaningStartEnd(cleaning, cell);
    }
    EntryLifeRelease(cleaning->Table, cleaning->Map, cell);
    return SHARD_VISIT_REMOVE;
}

// Returns the seconds until a connection may be removed; 0: it is removed now.
static UINT32 ConnectionCleaningWait(const CONNECTION_CLEANING *cleaning, const CONNECTION_CELL *cell)
{
    UINT32 age = ConnectionEntryAge(cell, cleaning->Now);
    BOOLEAN ended = ConnectionEntryHasEnded(cell);
    UINT32 limit = ended ? CONNECTION_ENDED_SECONDS : CONNECTION_IDLE_SECONDS;
    BOOLEAN waiting = ConnectionEntryIsWaiting(cell);

    // This cleaning has ended it.
    if (ended && cell->Generation == cleaning->Settled && !waiting)
    {
        return 0;
    }
    if (!ended && (!cleaning->IncludeIdle || ConnectionEntryHasClosure(cell)))
    {
        return MAXUINT32;
    }
    if (age <= limit)
    {
        return limit + 1 - age;
    }
    return waiting ? CONNECTION_ENDED_SECONDS : 0;
}

static UINT8 ConnectionCleaningRemoveUnused(VOID *context, UINT64 *words)
{
    CONNECTION_CLEANING *cleaning = (CONNECTION_CLEANING *)context;
    UINT32 wait = ConnectionCleaningWait(cleaning, ConnectionCleaningCell(cleaning, words));

    if (wait == 0)
    {
        return ConnectionCleaningRemove(context, words);
    }
    cleaning->WaitSeconds = wait < cleaning->WaitSeconds ? wait : cleaning->WaitSeconds;
    return SHARD_VISIT_KEEP;
}

static UINT8 ConnectionCleaningClear(VOID *context, UINT64 *words)
{
    CONNECTION_CLEANING *cleaning = (CONNECTION_CLEANING *)context;
    CONNECTION_CELL *cell = ConnectionCleaningCell(cleaning, words);
    UINT8 result = (UINT8)SHARD_VISIT_KEEP;

    if (!ConnectionEntryIsWaiting(cell))
    {
        result = ConnectionCleaningRemove(context, words);
    }
    if (result == SHARD_VISIT_KEEP)
    {
        ConnectionEntrySetVerdict(cell, VerdictUndecided);
    }
    return result;
}

static UINT8 ConnectionCleaningForgetStalled(VOID *context, UINT64 *words)
{
    ConnectionEntryForgetStalled(ConnectionCleaningCell((const CONNECTION_CLEANING *)context, words));
    return SHARD_VISIT_KEEP;
}

// Moves a connection's cold part into a fuller chunk.
static UINT8 ConnectionCleaningMove(VOID *context, UINT64 *words)
{
    CONNECTION_CLEANING *cleaning = (CONNECTION_CLEANING *)context;
    CONNECTION_CELL *cell = ConnectionCleaningCell(cleaning, words);
    SLAB *slab = &cleaning->Table->ColdParts;
    UINT32 oldHandle = cell->Cold;
    UINT32 handle = SlabTakeBetter(slab, oldHandle);

    if (handle != 0)
    {
        ConnectionPortsMoveCold(cleaning->Table, cleaning->Map, cell, handle);
        SlabReturn(slab, oldHandle);
    }
    return SHARD_VISIT_KEEP;
}

static UINT64 ConnectionTableVisit(CONNECTION_TABLE *table, SHARD_VISITOR visitor, CONNECTION_CLEANING *cleaning)
{
    UINT64 removed;

    cleaning->Table = table;
    cleaning->Map = &table->Connections.V4;
    removed = ShardMapVisit(cleaning->Map, visitor, ConnectionCleaningEnd, cleaning);
    cleaning->Map = &table->Connections.V6;
    removed += ShardMapVisit(cleaning->Map, visitor, ConnectionCleaningEnd, cleaning);
    SlabTrim(&table->ColdParts);
    return removed;
}

static VOID ConnectionTableVisitAll(CONNECTION_TABLE *table, SHARD_VISITOR visitor, UINT8 endReason)
{
    CONNECTION_CLEANING cleaning;

    RtlZeroMemory(&cleaning, sizeof(cleaning));
    cleaning.Now = ClockSeconds(table->Clock);
    cleaning.EndReason = endReason;
    (VOID) ConnectionTableVisit(table, visitor, &cleaning);
}

_Use_decl_annotations_
UINT64 ConnectionTableClean(CONNECTION_TABLE *table, BOOLEAN includeIdle, UINT32 *waitSeconds)
{
    CONNECTION_CLEANING cleaning;
    UINT64 removed;

    RtlZeroMemory(&cleaning, sizeof(cleaning));
    cleaning.Now = ClockSeconds(table->Clock);
    cleaning.IncludeIdle = includeIdle;
    cleaning.EndReason = EndReasonIdle;
    cleaning.WaitSeconds = MAXUINT32;
    removed = ConnectionTableVisit(table, ConnectionCleaningRemoveUnused, &cleaning);
    if (waitSeconds != NULL)
    {
        *waitSeconds = cleaning.WaitSeconds;
    }
    if (SlabIsSparse(&table->ColdParts, ConnectionTableCount(table)))
    {
        ConnectionTableVisitAll(table, ConnectionCleaningMove, EndReasonClosed);
    }
    return removed;
}

_Use_decl_annotations_
VOID ConnectionTableClearCache(CONNECTION_TABLE *table)
{
    ConnectionTableVisitAll(table, ConnectionCleaningClear, EndReasonCleared);
}

_Use_decl_annotations_
VOID ConnectionTableForgetStalled(CONNECTION_TABLE *table)
{
    if (InterlockedExchange(&table->HasStalled, FALSE) != FALSE)
    {
        ConnectionTableVisitAll(table, ConnectionCleaningForgetStalled, EndReasonClosed);
    }
}

_Use_decl_annotations_
VOID ConnectionTableRemoveAll(CONNECTION_TABLE *table)
{
    ConnectionTableVisitAll(table, ConnectionCleaningRemove, EndReasonClosed);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableHasScope(const CONNECTION_TABLE *table, UINT8 scope)
{
    return ReadNoFence(&table->ScopeUses[scope]) != 0;
}

_Use_decl_annotations_
UINT64 ConnectionTableCount(const CONNECTION_TABLE *table)
{
    return ShardQuotaCount(&table->Connections.Quota);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableIsOverLimit(const CONNECTION_TABLE *table)
{
    return ConnectionTableCount(table) > (UINT64)ReadNoFence64(&table->Connections.Quota.Most);
}

_Use_decl_annotations_
UINT64 ConnectionTableBytes(CONNECTION_TABLE *table)
{
    return ConnectionMapBytes(&table->Connections) + SlabBytes(&table->ColdParts) + OwnerSharesBytes() +
           ConnectionPortsBytes(table) +
           (CONNECTION_TABLE_PORT_STRIPE_COUNT + CONNECTION_TABLE_ORDER_STRIPE_COUNT) * sizeof(CONNECTION_STRIPE);
}

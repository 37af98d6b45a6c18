#include "connection_table.h"

// Slots of a shard's smallest array. Tables with few connections have about one in each shard.
#define SHARD_LEAST_CELLS 4u

// An array grows beyond 5/8 full: then a lookup reads fewer than two cells on average, one after the other in memory.
#define SHARD_FULL_NUMERATOR   5u
#define SHARD_FULL_DENOMINATOR 8u

// An array shrinks below 1/8 full, which is far enough from growing again.
#define SHARD_SPARSE_DENOMINATOR 8u

// Cells that cleaning looks at, and list entries that a port walk steps over, before it lets others have the lock.
#define CLEAN_BATCH_CELLS  256u
#define PORT_WALK_BATCH    64u
#define PORT_WALK_KEYS     8u
#define SHARD_INDEX_SHIFT  (64 - CONNECTION_TABLE_SHARD_SHIFT)
#define PORT_PAGE_SIZE     256u
#define CELL_FLAG_INBOUND  0x1u
#define CELL_FLAG_ENDED    0x2u
#define CELL_FLAG_REPORTED 0x4u

// Entry of a list by port. `Previous` points to what points here, or is NULL in no list.
typedef struct _PORT_LINK
{
    struct _PORT_LINK *Next;
    struct _PORT_LINK **Previous;
    BOOLEAN IsCursor; // the place of a walk, not a connection
} PORT_LINK;

// What only the start and the end of a connection need. Stays where it is for the connection's life.
typedef struct _CONNECTION_COLD
{
    PORT_LINK Link; // only of live connections; guarded by the port stripe
    CONNECTION_KEY Key;
    UINT64 ProcessId; // guarded by the shard
    UINT32 Waiting;   // for a verdict; guarded by the shard
} CONNECTION_COLD;

// What a packet needs: one cache line. Empty when Cold is NULL.
typedef struct _CONNECTION_CELL
{
    CONNECTION_KEY Key;
    CONNECTION_COLD *Cold;
    UINT32 Hash;           // low bits; they also choose the cell
    volatile LONG LastUse; // PlatformSeconds; written by readers too. From the end on: the time of the end
    UINT8 Verdict;
    UINT8 Flags;
    UINT8 Padding[2];
    UINT32 Generation;
} CONNECTION_CELL;

static_assert(sizeof(CONNECTION_CELL) == PLATFORM_CACHE_LINE, "one miss a packet");

struct _CONNECTION_SHARD
{
    RW_LOCK Lock;
    UINT32 Mask; // number of cells - 1; meaningless without cells
    UINT32 Count;
    CONNECTION_CELL *Cells; // NULL: none
    UINT8 Padding[PLATFORM_CACHE_LINE - 3 * sizeof(UINT32) - 4 - sizeof(PVOID)];
};

static_assert(sizeof(CONNECTION_SHARD) == PLATFORM_CACHE_LINE, "shards must not share a line");

struct _CONNECTION_PORT_PAGE
{
    PORT_LINK *Heads[PORT_PAGE_SIZE];
};

struct _CONNECTION_PORT_STRIPE
{
    KSPIN_LOCK Lock;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK)];
};

static UINT64 HashOf(const CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    return SipHash13Of40(&table->HashKey, key);
}

static CONNECTION_SHARD *ShardOf(const CONNECTION_TABLE *table, UINT64 hash)
{
    return &table->Shards[hash >> SHARD_INDEX_SHIFT];
}

// ---- Cells of one shard; the caller holds its lock.

static UINT32 CellCount(const CONNECTION_SHARD *shard)
{
    return shard->Cells != NULL ? shard->Mask + 1 : 0;
}

static CONNECTION_CELL *FindCell(const CONNECTION_SHARD *shard, const CONNECTION_KEY *key, UINT64 hash)
{
    UINT32 cells = CellCount(shard);
    UINT32 index = (UINT32)hash;
    UINT32 probes;

    // A full array has no empty cell to stop at.
    for (probes = 0; probes < cells; probes++, index++)
    {
        CONNECTION_CELL *cell = &shard->Cells[index & shard->Mask];

        if (cell->Cold == NULL)
        {
            return NULL;
        }
        if (cell->Hash == (UINT32)hash && ConnectionKeysEqual(&cell->Key, key))
        {
            return cell;
        }
    }
    return NULL;
}

static CONNECTION_CELL *FindEmptyCell(CONNECTION_CELL *cells, UINT32 mask, UINT32 hash)
{
    UINT32 index = hash;

    while (cells[index & mask].Cold != NULL)
    {
        index++;
    }
    return &cells[index & mask];
}

// Closes the hole by moving back those cells behind it that were pushed out of their place: no tombstones.
static VOID RemoveCell(CONNECTION_SHARD *shard, UINT32 index)
{
    CONNECTION_CELL *cells = shard->Cells;
    UINT32 mask = shard->Mask;
    UINT32 hole = index;
    UINT32 next = index;
    UINT32 steps;

    for (steps = 0; steps < mask; steps++)
    {
        next = (next + 1) & mask;
        if (cells[next].Cold == NULL)
        {
            break;
        }
        if (((next - cells[next].Hash) & mask) >= ((next - hole) & mask))
        {
            cells[hole] = cells[next];
            hole = next;
        }
    }
    cells[hole].Cold = NULL;
    shard->Count--;
}

// Moves all cells into `cells` (empty, large enough) and returns the old array.
static CONNECTION_CELL *ReplaceCells(CONNECTION_SHARD *shard, CONNECTION_CELL *cells, UINT32 cellCount)
{
    CONNECTION_CELL *old = shard->Cells;
    UINT32 oldCount = CellCount(shard);
    UINT32 i;

    for (i = 0; i < oldCount; i++)
    {
        if (old[i].Cold != NULL)
        {
            *FindEmptyCell(cells, cellCount - 1, old[i].Hash) = old[i];
        }
    }
    shard->Cells = cells;
    shard->Mask = cellCount - 1;
    return old;
}

static BOOLEAN IsCrowded(UINT32 count, UINT32 cells)
{
    return (UINT64)count * SHARD_FULL_DENOMINATOR > (UINT64)cells * SHARD_FULL_NUMERATOR;
}

static BOOLEAN IsSparse(UINT32 count, UINT32 cells)
{
    return cells > SHARD_LEAST_CELLS && (UINT64)count * SHARD_SPARSE_DENOMINATOR < cells;
}

static CONNECTION_STATE StateOf(const CONNECTION_CELL *cell)
{
    CONNECTION_STATE state;

    state.Verdict = cell->Verdict;
    state.Direction = (cell->Flags & CELL_FLAG_INBOUND) != 0 ? DirectionInbound : DirectionOutbound;
    state.Ended = (cell->Flags & CELL_FLAG_ENDED) != 0;
    state.Reported = (cell->Flags & CELL_FLAG_REPORTED) != 0;
    state.Generation = cell->Generation;
    return state;
}

static VOID CopyConnection(const CONNECTION_CELL *cell, CONNECTION *connection)
{
    CONNECTION_STATE state = StateOf(cell);

    connection->Key = cell->Key;
    connection->ProcessId = cell->Cold->ProcessId;
    connection->Verdict = state.Verdict;
    connection->Direction = state.Direction;
    connection->Ended = state.Ended;
    connection->Reported = state.Reported;
    connection->Generation = state.Generation;
}

// The live connection with this key, or NULL.
static CONNECTION_CELL *FindLiveCell(const CONNECTION_SHARD *shard, const CONNECTION_KEY *key, UINT64 hash)
{
    CONNECTION_CELL *cell = FindCell(shard, key, hash);

    return cell != NULL && (cell->Flags & CELL_FLAG_ENDED) == 0 ? cell : NULL;
}

// ---- Lists by port

static UINT32 PortFamily(UINT8 protocol, UINT8 ipVersion)
{
    UINT32 family = protocol == PROTOCOL_TCP ? 0 : protocol == PROTOCOL_UDP ? 2 : 4;

    return ipVersion == 6 ? family + 1 : family;
}

static CONNECTION_PORT_STRIPE *PortStripe(const CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    return &table->PortStripes[(family * PORT_PAGE_SIZE / 2 + port) % CONNECTION_TABLE_PORT_STRIPE_COUNT];
}

static CONNECTION_PORT_STRIPE *PortStripeOf(const CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    return PortStripe(table, PortFamily(key->Protocol, key->IpVersion), key->LocalPort);
}

static CONNECTION_PORT_PAGE *PortPage(CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    PVOID volatile *slot = (PVOID volatile *)&table->PortPages[family][port / PORT_PAGE_SIZE];

    // Once published a page stays.
    return (CONNECTION_PORT_PAGE *)InterlockedCompareExchangePointer(slot, NULL, NULL);
}

static CONNECTION_PORT_PAGE *EnsurePortPage(CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    UINT32 family = PortFamily(key->Protocol, key->IpVersion);
    PVOID volatile *slot = (PVOID volatile *)&table->PortPages[family][key->LocalPort / PORT_PAGE_SIZE];
    CONNECTION_PORT_PAGE *page = PortPage(table, family, key->LocalPort);
    CONNECTION_PORT_PAGE *published;

    if (page != NULL)
    {
        return page;
    }
    page = (CONNECTION_PORT_PAGE *)MemoryAllocate(table->Memory, sizeof(*page));
    if (page == NULL)
    {
        return NULL;
    }
    published = (CONNECTION_PORT_PAGE *)InterlockedCompareExchangePointer(slot, page, NULL);
    if (published != NULL)
    {
        MemoryFree(table->Memory, page);
        return published;
    }
    return page;
}

static VOID InsertLink(PORT_LINK **place, PORT_LINK *link)
{
    link->Next = *place;
    link->Previous = place;
    if (link->Next != NULL)
    {
        link->Next->Previous = &link->Next;
    }
    *place = link;
}

static VOID RemoveLink(PORT_LINK *link)
{
    *link->Previous = link->Next;
    if (link->Next != NULL)
    {
        link->Next->Previous = link->Previous;
    }
    link->Previous = NULL;
}

static VOID LinkToPort(const CONNECTION_TABLE *table, CONNECTION_PORT_PAGE *page, CONNECTION_COLD *cold)
{
    CONNECTION_PORT_STRIPE *stripe = PortStripeOf(table, &cold->Key);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    InsertLink(&page->Heads[cold->Key.LocalPort % PORT_PAGE_SIZE], &cold->Link);
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
}

// Of a connection that may have left its list before, at its end.
static VOID UnlinkFromPort(const CONNECTION_TABLE *table, CONNECTION_COLD *cold)
{
    CONNECTION_PORT_STRIPE *stripe = PortStripeOf(table, &cold->Key);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    if (cold->Link.Previous != NULL)
    {
        RemoveLink(&cold->Link);
    }
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
}

// Cold parts that wait to be freed outside the lock are chained by their unused list entry.
static VOID PushGarbage(CONNECTION_COLD **garbage, CONNECTION_COLD *cold)
{
    cold->Link.Next = *garbage != NULL ? &(*garbage)->Link : NULL;
    *garbage = cold;
}

static UINT32 FreeGarbage(CONNECTION_TABLE *table, CONNECTION_COLD *garbage)
{
    UINT32 freed = 0;

    while (garbage != NULL)
    {
        CONNECTION_COLD *next =
            garbage->Link.Next != NULL ? CONTAINING_RECORD(garbage->Link.Next, CONNECTION_COLD, Link) : NULL;

        MemoryFree(table->Memory, garbage);
        garbage = next;
        freed++;
    }
    InterlockedExchangeAdd64(&table->Count, -(LONG64)freed);
    return freed;
}

// ---- The table

_Use_decl_annotations_
NTSTATUS ConnectionTableInitialize(CONNECTION_TABLE *table, MEMORY *memory, UINT64 maxConnections)
{
    UINT32 i;

    RtlZeroMemory(table, sizeof(*table));
    table->Memory = memory;
    table->MaxConnections = maxConnections;
    SipHashKeyInitialize(&table->HashKey);
    table->Shards =
        (CONNECTION_SHARD *)MemoryAllocateCacheAligned(memory, CONNECTION_TABLE_SHARD_COUNT * sizeof(CONNECTION_SHARD));
    table->PortStripes = (CONNECTION_PORT_STRIPE *)MemoryAllocateCacheAligned(
        memory, CONNECTION_TABLE_PORT_STRIPE_COUNT * sizeof(CONNECTION_PORT_STRIPE));
    if (table->Shards == NULL || table->PortStripes == NULL)
    {
        ConnectionTableUninitialize(table);
        return STATUS_INSUFFICIENT_RESOURCES;
    }

    for (i = 0; i < CONNECTION_TABLE_SHARD_COUNT; i++)
    {
        RwLockInitialize(&table->Shards[i].Lock);
    }
    for (i = 0; i < CONNECTION_TABLE_PORT_STRIPE_COUNT; i++)
    {
        KeInitializeSpinLock(&table->PortStripes[i].Lock);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID ConnectionTableUninitialize(CONNECTION_TABLE *table)
{
    UINT32 family;
    UINT32 page;

    if (table->Shards != NULL && table->PortStripes != NULL)
    {
        ConnectionTableClear(table);
    }
    for (family = 0; family < CONNECTION_TABLE_PORT_FAMILY_COUNT; family++)
    {
        for (page = 0; page < CONNECTION_TABLE_PORT_PAGE_COUNT; page++)
        {
            MemoryFree(table->Memory, table->PortPages[family][page]);
            table->PortPages[family][page] = NULL;
        }
    }
    MemoryFree(table->Memory, table->PortStripes);
    MemoryFree(table->Memory, table->Shards);
    table->PortStripes = NULL;
    table->Shards = NULL;
}

// Most packets of a second find the time already written, and leave the line clean for the other processors.
static VOID Touch(CONNECTION_CELL *cell)
{
    LONG now = (LONG)PlatformSeconds();

    if ((cell->Flags & CELL_FLAG_ENDED) == 0 && ReadNoFence(&cell->LastUse) != now)
    {
        WriteNoFence(&cell->LastUse, now);
    }
}

_Use_decl_annotations_
BOOLEAN ConnectionTableLookup(CONNECTION_TABLE *table, const CONNECTION_KEY *key, CONNECTION_STATE *state)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    CONNECTION_CELL *cell = FindCell(shard, key, hash);

    if (cell != NULL)
    {
        *state = StateOf(cell);
        Touch(cell);
    }
    RwLockReleaseShared(&shard->Lock, irql);
    return cell != NULL;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableGet(CONNECTION_TABLE *table, const CONNECTION_KEY *key, CONNECTION *connection)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    CONNECTION_CELL *cell = FindCell(shard, key, hash);

    if (cell != NULL)
    {
        CopyConnection(cell, connection);
    }
    RwLockReleaseShared(&shard->Lock, irql);
    return cell != NULL;
}

// One insert on its way, with the memory that it has brought along or has to give back.
typedef struct _INSERTION
{
    const CONNECTION_KEY *Key;
    UINT64 Hash;
    UINT64 ProcessId;
    UINT8 Direction;
    CONNECTION_PORT_PAGE *PortPage;
    CONNECTION_COLD *Cold;  // NULL: no memory, or used
    CONNECTION_CELL *Cells; // a larger array to put in, or the old one to free
    UINT32 CellCount;       // of Cells, while it is to be put in; else 0
    BOOLEAN GrowthFailed;
} INSERTION;

static UINT32 NextGeneration(CONNECTION_TABLE *table)
{
    LONG generation;

    do
    {
        generation = InterlockedIncrement(&table->LastGeneration);
    } while (generation == 0);
    return (UINT32)generation;
}

static VOID StartConnection(CONNECTION_TABLE *table, const INSERTION *insertion, CONNECTION_CELL *cell,
                            CONNECTION_COLD *cold)
{
    cell->Key = *insertion->Key;
    cell->Cold = cold;
    cell->Hash = (UINT32)insertion->Hash;
    cell->LastUse = (LONG)PlatformSeconds();
    cell->Verdict = VerdictUndecided;
    cell->Generation = NextGeneration(table);
    cell->Flags = insertion->Direction == DirectionInbound ? CELL_FLAG_INBOUND : 0;
    cold->Key = *insertion->Key;
    cold->ProcessId = insertion->ProcessId;
    cold->Waiting = 0;
    LinkToPort(table, insertion->PortPage, cold);
}

static NTSTATUS PlaceConnection(CONNECTION_TABLE *table, CONNECTION_SHARD *shard, INSERTION *insertion,
                                CONNECTION_STATE *state)
{
    CONNECTION_CELL *cell;

    if (insertion->Cold == NULL || shard->Count == CellCount(shard))
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if ((UINT64)InterlockedIncrement64(&table->Count) > table->MaxConnections)
    {
        InterlockedDecrement64(&table->Count);
        return STATUS_QUOTA_EXCEEDED;
    }
    cell = FindEmptyCell(shard->Cells, shard->Mask, (UINT32)insertion->Hash);
    StartConnection(table, insertion, cell, insertion->Cold);
    insertion->Cold = NULL;
    shard->Count++;
    *state = StateOf(cell);
    return STATUS_SUCCESS;
}

static NTSTATUS PlaceOverExisting(CONNECTION_TABLE *table, const INSERTION *insertion, CONNECTION_CELL *cell,
                                  CONNECTION_STATE *state)
{
    NTSTATUS status = STATUS_OBJECT_NAME_COLLISION;

    if ((cell->Flags & CELL_FLAG_ENDED) != 0)
    {
        StartConnection(table, insertion, cell, cell->Cold);
        status = STATUS_SUCCESS;
    }
    *state = StateOf(cell);
    return status;
}

// With the shard's lock held. STATUS_RETRY: the shard should grow first; bring memory and come again.
static NTSTATUS TryInsert(CONNECTION_TABLE *table, CONNECTION_SHARD *shard, INSERTION *insertion,
                          CONNECTION_STATE *state)
{
    CONNECTION_CELL *cell = FindCell(shard, insertion->Key, insertion->Hash);

    if (cell != NULL)
    {
        return PlaceOverExisting(table, insertion, cell, state);
    }
    if (insertion->CellCount > CellCount(shard))
    {
        insertion->Cells = ReplaceCells(shard, insertion->Cells, insertion->CellCount);
        insertion->CellCount = 0;
    }
    if (IsCrowded(shard->Count + 1, CellCount(shard)) && !insertion->GrowthFailed)
    {
        return STATUS_RETRY;
    }
    return PlaceConnection(table, shard, insertion, state);
}

// Without a lock. An array that cannot be had is no error yet: the shard goes on until it is really full.
static VOID PrepareGrowth(CONNECTION_TABLE *table, INSERTION *insertion, UINT32 cellCount)
{
    MemoryFree(table->Memory, insertion->Cells);
    insertion->Cells =
        (CONNECTION_CELL *)MemoryAllocateCacheAligned(table->Memory, (SIZE_T)cellCount * sizeof(CONNECTION_CELL));
    insertion->CellCount = insertion->Cells != NULL ? cellCount : 0;
    insertion->GrowthFailed = insertion->Cells == NULL;
}

static NTSTATUS InsertIntoShard(CONNECTION_TABLE *table, CONNECTION_SHARD *shard, INSERTION *insertion,
                                CONNECTION_STATE *state)
{
    for (;;)
    {
        KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
        NTSTATUS status = TryInsert(table, shard, insertion, state);
        UINT32 cells = CellCount(shard);

        RwLockReleaseExclusive(&shard->Lock, irql);
        if (status != STATUS_RETRY)
        {
            return status;
        }
        PrepareGrowth(table, insertion, cells != 0 ? cells * 2 : SHARD_LEAST_CELLS);
    }
}

_Use_decl_annotations_
NTSTATUS ConnectionTableInsert(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT64 processId, UINT8 direction,
                               CONNECTION_STATE *state)
{
    INSERTION insertion;
    NTSTATUS status;

    RtlZeroMemory(&insertion, sizeof(insertion));
    insertion.Key = key;
    insertion.Hash = HashOf(table, key);
    insertion.ProcessId = processId;
    insertion.Direction = direction;
    insertion.PortPage = EnsurePortPage(table, key);
    if (insertion.PortPage == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    insertion.Cold = (CONNECTION_COLD *)MemoryAllocate(table->Memory, sizeof(CONNECTION_COLD));

    status = InsertIntoShard(table, ShardOf(table, insertion.Hash), &insertion, state);

    MemoryFree(table->Memory, insertion.Cells);
    MemoryFree(table->Memory, insertion.Cold);
    return status;
}

// `generation` 0: whatever it is.
static BOOLEAN SetVerdict(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, UINT8 verdict)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cell = FindLiveCell(shard, key, hash);
    BOOLEAN found = cell != NULL && (generation == 0 || cell->Generation == generation);

    if (found)
    {
        cell->Verdict = verdict;
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
    return found;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableSetVerdict(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT8 verdict)
{
    return SetVerdict(table, key, 0, verdict);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableSetVerdictOf(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                    UINT8 verdict)
{
    return generation != 0 && SetVerdict(table, key, generation, verdict);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableSetReported(CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cell = FindCell(shard, key, hash);
    BOOLEAN inTime = FALSE;

    if (cell != NULL)
    {
        inTime = (cell->Flags & (CELL_FLAG_ENDED | CELL_FLAG_REPORTED)) != CELL_FLAG_ENDED;
        cell->Flags |= CELL_FLAG_REPORTED;
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
    return inTime;
}

static VOID AddWaiting(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, LONG more)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cell = FindCell(shard, key, hash);

    if (cell != NULL && cell->Generation == generation)
    {
        cell->Cold->Waiting += (UINT32)more;
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
}

_Use_decl_annotations_
VOID ConnectionTableKeep(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    AddWaiting(table, key, generation, 1);
}

_Use_decl_annotations_
VOID ConnectionTableLetGo(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    AddWaiting(table, key, generation, -1);
}

_Use_decl_annotations_
VOID ConnectionTableSetProcess(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT64 processId)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cell = FindLiveCell(shard, key, hash);

    if (cell != NULL)
    {
        cell->Cold->ProcessId = processId;
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
}

static BOOLEAN EndsWith(const CONNECTION_CELL *cell, const CONNECTION_RELEASE *release)
{
    UINT64 processId = cell->Cold->ProcessId;

    return (!release->OutboundOnly || StateOf(cell).Direction == DirectionOutbound) &&
           (release->ProcessId == 0 || processId == 0 || processId == release->ProcessId);
}

// `release`: NULL, or what the connection must end with.
static BOOLEAN End(CONNECTION_TABLE *table, const CONNECTION_KEY *key, const CONNECTION_RELEASE *release,
                   CONNECTION *ended)
{
    UINT64 hash = HashOf(table, key);
    CONNECTION_SHARD *shard = ShardOf(table, hash);
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cell = FindLiveCell(shard, key, hash);
    BOOLEAN found = cell != NULL && (release == NULL || EndsWith(cell, release));

    if (found)
    {
        cell->Flags |= CELL_FLAG_ENDED;
        cell->LastUse = (LONG)PlatformSeconds();
        UnlinkFromPort(table, cell->Cold);
        CopyConnection(cell, ended);
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
    return found;
}

_Use_decl_annotations_
BOOLEAN ConnectionTableEnd(CONNECTION_TABLE *table, const CONNECTION_KEY *key, CONNECTION *ended)
{
    return End(table, key, NULL, ended);
}

// ---- Ending by port

typedef struct _PORT_WALK
{
    CONNECTION_PORT_STRIPE *Stripe;
    PORT_LINK Cursor; // in the list between two batches, so that others may change the list meanwhile
    const CONNECTION_RELEASE *Release;
    BOOLEAN AnyAddress;
    UINT32 KeyCount;
    CONNECTION_KEY Keys[PORT_WALK_KEYS];
} PORT_WALK;

static BOOLEAN WalkMatches(const PORT_WALK *walk, const CONNECTION_KEY *key)
{
    return key->Protocol == walk->Release->Protocol &&
           (walk->AnyAddress ||
            RtlEqualMemory(key->LocalAddress, walk->Release->LocalAddress, sizeof(key->LocalAddress)));
}

// Collects the next few keys. FALSE: the walk is over, and its cursor is out of the list.
static BOOLEAN WalkOn(PORT_WALK *walk)
{
    PORT_LINK *link;
    UINT32 steps;
    KIRQL irql;

    walk->KeyCount = 0;
    KeAcquireSpinLock(&walk->Stripe->Lock, &irql);
    link = walk->Cursor.Next;
    for (steps = 0; link != NULL && steps < PORT_WALK_BATCH && walk->KeyCount < PORT_WALK_KEYS; steps++)
    {
        PORT_LINK *passed = link;

        link = link->Next;
        if (!passed->IsCursor && WalkMatches(walk, &CONTAINING_RECORD(passed, CONNECTION_COLD, Link)->Key))
        {
            walk->Keys[walk->KeyCount] = CONTAINING_RECORD(passed, CONNECTION_COLD, Link)->Key;
            walk->KeyCount++;
        }
        RemoveLink(&walk->Cursor);
        InsertLink(&passed->Next, &walk->Cursor);
    }
    if (link == NULL)
    {
        RemoveLink(&walk->Cursor);
    }
    KeReleaseSpinLock(&walk->Stripe->Lock, irql);
    return link != NULL;
}

static VOID StartWalk(PORT_WALK *walk, CONNECTION_PORT_PAGE *page, UINT16 localPort)
{
    KIRQL irql;

    KeAcquireSpinLock(&walk->Stripe->Lock, &irql);
    InsertLink(&page->Heads[localPort % PORT_PAGE_SIZE], &walk->Cursor);
    KeReleaseSpinLock(&walk->Stripe->Lock, irql);
}

static BOOLEAN IsZero(const UINT8 *bytes, UINT32 length)
{
    UINT32 i;

    for (i = 0; i < length; i++)
    {
        if (bytes[i] != 0)
        {
            return FALSE;
        }
    }
    return TRUE;
}

_Use_decl_annotations_
VOID ConnectionTableEndByPort(CONNECTION_TABLE *table, const CONNECTION_RELEASE *release, CONNECTION_VISITOR visitor,
                              void *context)
{
    UINT32 family = PortFamily(release->Protocol, release->IpVersion);
    CONNECTION_PORT_PAGE *page = PortPage(table, family, release->LocalPort);
    PORT_WALK walk;
    BOOLEAN more = TRUE;

    if (page == NULL)
    {
        return;
    }
    RtlZeroMemory(&walk, sizeof(walk));
    walk.Stripe = PortStripe(table, family, release->LocalPort);
    walk.Cursor.IsCursor = TRUE;
    walk.Release = release;
    walk.AnyAddress = IsZero(release->LocalAddress, sizeof(release->LocalAddress));

    StartWalk(&walk, page, release->LocalPort);
    while (more)
    {
        CONNECTION ended;
        UINT32 i;

        more = WalkOn(&walk);
        for (i = 0; i < walk.KeyCount; i++)
        {
            if (End(table, &walk.Keys[i], release, &ended) && visitor != NULL)
            {
                visitor(context, &ended);
            }
        }
    }
}

// ---- Cleaning

// Whether a connection is to be removed; may change one that is not.
typedef BOOLEAN CLEANING(CONNECTION_CELL *cell, UINT32 now);

static BOOLEAN HasEnded(const CONNECTION_CELL *cell)
{
    return (cell->Flags & CELL_FLAG_ENDED) != 0;
}

static BOOLEAN IsUnusedFor(const CONNECTION_CELL *cell, UINT32 seconds, UINT32 now)
{
    UINT32 age = now - (UINT32)ReadNoFence(&cell->LastUse);

    // A packet on another processor may have written a time just after `now` was read.
    return (LONG)age >= 0 && age > seconds && cell->Cold->Waiting == 0;
}

static BOOLEAN EndedLongAgo(CONNECTION_CELL *cell, UINT32 now)
{
    return HasEnded(cell) && IsUnusedFor(cell, CONNECTION_ENDED_SECONDS, now);
}

static BOOLEAN EndedOrIdle(CONNECTION_CELL *cell, UINT32 now)
{
    return IsUnusedFor(cell, HasEnded(cell) ? CONNECTION_ENDED_SECONDS : CONNECTION_IDLE_SECONDS, now);
}

static BOOLEAN Forget(CONNECTION_CELL *cell, UINT32 now)
{
    UNREFERENCED_PARAMETER(now);
    cell->Verdict = VerdictUndecided;
    return cell->Cold->Waiting == 0;
}

// Looks at some cells from `index` on; returns where to go on. The lock is held.
static UINT32 CleanBatch(CONNECTION_TABLE *table, CONNECTION_SHARD *shard, UINT32 index, CLEANING *goes,
                         CONNECTION_COLD **garbage)
{
    UINT32 cells = CellCount(shard);
    UINT32 now = PlatformSeconds();
    UINT32 steps;

    for (steps = 0; steps < CLEAN_BATCH_CELLS && index < cells; steps++)
    {
        CONNECTION_CELL *cell = &shard->Cells[index];

        if (cell->Cold != NULL && goes(cell, now))
        {
            UnlinkFromPort(table, cell->Cold);
            PushGarbage(garbage, cell->Cold);
            RemoveCell(shard, index); // another may be at this index now
        }
        else
        {
            index++;
        }
    }
    return index;
}

static UINT64 CleanShard(CONNECTION_TABLE *table, CONNECTION_SHARD *shard, CLEANING *goes)
{
    UINT64 removed = 0;
    UINT32 index = 0;
    UINT32 cells = 0;

    do
    {
        CONNECTION_COLD *garbage = NULL;
        KIRQL irql = RwLockAcquireExclusive(&shard->Lock);

        if (CellCount(shard) != cells)
        {
            cells = CellCount(shard); // every connection may be somewhere else now
            index = 0;
        }
        index = CleanBatch(table, shard, index, goes, &garbage);
        RwLockReleaseExclusive(&shard->Lock, irql);
        removed += FreeGarbage(table, garbage);
    } while (index < cells);
    return removed;
}

// The array for `count` connections, between a quarter and half full.
static UINT32 FittingCells(UINT32 count)
{
    UINT32 cells = SHARD_LEAST_CELLS;

    while (cells < count * 2)
    {
        cells *= 2;
    }
    return cells;
}

// The size that a sparse shard should shrink to; FALSE: it should stay.
static BOOLEAN WantsShrinking(CONNECTION_SHARD *shard, UINT32 *cellCount)
{
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    BOOLEAN wants = IsSparse(shard->Count, CellCount(shard));

    *cellCount = FittingCells(shard->Count);
    RwLockReleaseShared(&shard->Lock, irql);
    return wants;
}

// Gives a sparse shard a smaller array. Without memory it keeps the one that it has.
static VOID ShrinkShard(CONNECTION_TABLE *table, CONNECTION_SHARD *shard)
{
    CONNECTION_CELL *cells;
    UINT32 cellCount;
    KIRQL irql;

    if (!WantsShrinking(shard, &cellCount))
    {
        return;
    }
    cells = (CONNECTION_CELL *)MemoryAllocateCacheAligned(table->Memory, (SIZE_T)cellCount * sizeof(CONNECTION_CELL));
    if (cells == NULL)
    {
        return;
    }

    irql = RwLockAcquireExclusive(&shard->Lock);
    if (cellCount < CellCount(shard) && !IsCrowded(shard->Count, cellCount))
    {
        cells = ReplaceCells(shard, cells, cellCount);
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
    MemoryFree(table->Memory, cells);
}

// An array without a connection goes altogether.
static VOID DropEmptyCells(CONNECTION_TABLE *table, CONNECTION_SHARD *shard)
{
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cells = NULL;

    if (shard->Count == 0)
    {
        cells = shard->Cells;
        shard->Cells = NULL;
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
    MemoryFree(table->Memory, cells);
}

static UINT64 Clean(CONNECTION_TABLE *table, CLEANING *goes)
{
    UINT64 removed = 0;
    UINT32 i;

    for (i = 0; i < CONNECTION_TABLE_SHARD_COUNT; i++)
    {
        removed += CleanShard(table, &table->Shards[i], goes);
        DropEmptyCells(table, &table->Shards[i]);
        ShrinkShard(table, &table->Shards[i]);
    }
    return removed;
}

_Use_decl_annotations_
UINT64 ConnectionTableClean(CONNECTION_TABLE *table, BOOLEAN includeIdle)
{
    return Clean(table, includeIdle ? EndedOrIdle : EndedLongAgo);
}

_Use_decl_annotations_
VOID ConnectionTableForget(CONNECTION_TABLE *table)
{
    (VOID) Clean(table, Forget);
}

// Takes the shard's whole array: then its connections are nobody else's, except that port walks may still read them.
static CONNECTION_CELL *TakeCells(CONNECTION_SHARD *shard, UINT32 *cellCount)
{
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    CONNECTION_CELL *cells = shard->Cells;

    *cellCount = CellCount(shard);
    shard->Cells = NULL;
    shard->Count = 0;
    RwLockReleaseExclusive(&shard->Lock, irql);
    return cells;
}

static VOID ClearShard(CONNECTION_TABLE *table, CONNECTION_SHARD *shard)
{
    UINT32 cellCount;
    CONNECTION_CELL *cells = TakeCells(shard, &cellCount);
    CONNECTION_COLD *garbage = NULL;
    UINT32 i;

    for (i = 0; i < cellCount; i++)
    {
        if (cells[i].Cold != NULL)
        {
            KIRQL irql;

            KeRaiseIrql(DISPATCH_LEVEL, &irql);
            UnlinkFromPort(table, cells[i].Cold);
            KeLowerIrql(irql);
            PushGarbage(&garbage, cells[i].Cold);
        }
    }
    (VOID) FreeGarbage(table, garbage);
    MemoryFree(table->Memory, cells);
}

_Use_decl_annotations_
VOID ConnectionTableClear(CONNECTION_TABLE *table)
{
    UINT32 i;

    for (i = 0; i < CONNECTION_TABLE_SHARD_COUNT; i++)
    {
        ClearShard(table, &table->Shards[i]);
    }
}

_Use_decl_annotations_
UINT64 ConnectionTableCount(const CONNECTION_TABLE *table)
{
    return (UINT64)ReadNoFence64(&table->Count);
}

_Use_decl_annotations_
UINT64 ConnectionTableBytes(CONNECTION_TABLE *table)
{
    UINT64 bytes = CONNECTION_TABLE_SHARD_COUNT * sizeof(CONNECTION_SHARD) +
                   CONNECTION_TABLE_PORT_STRIPE_COUNT * sizeof(CONNECTION_PORT_STRIPE) +
                   ConnectionTableCount(table) * sizeof(CONNECTION_COLD);
    UINT32 i;
    UINT32 page;

    for (i = 0; i < CONNECTION_TABLE_SHARD_COUNT; i++)
    {
        KIRQL irql = RwLockAcquireShared(&table->Shards[i].Lock);

        bytes += (UINT64)CellCount(&table->Shards[i]) * sizeof(CONNECTION_CELL);
        RwLockReleaseShared(&table->Shards[i].Lock, irql);
    }
    for (i = 0; i < CONNECTION_TABLE_PORT_FAMILY_COUNT; i++)
    {
        for (page = 0; page < CONNECTION_TABLE_PORT_PAGE_COUNT; page++)
        {
            bytes += PortPage(table, i, (UINT16)(page * PORT_PAGE_SIZE)) != NULL ? sizeof(CONNECTION_PORT_PAGE) : 0;
        }
    }
    return bytes;
}

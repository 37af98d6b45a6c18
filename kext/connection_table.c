#include "connection_table.h"

// A port walk collects PORT_WALK_FOUND connections, then releases the lock.
#define PORT_WALK_FOUND      16u
#define PORT_PAGE_SIZE       256u
#define CELL_FLAG_INBOUND    0x1u
#define CELL_FLAG_ENDED      0x2u
#define CELL_FLAG_REPORTED   0x4u
#define CELL_FLAG_CONNECTING 0x8u  // a TCP connect that has not come up since it was authorized for the first time
#define CELL_FLAG_AUTHORIZED 0x10u // ALE permitted it at least once
#define CELL_FLAG_ABORTED    0x20u // its flow was aborted
#define CELL_FLAG_BROADCAST  0x40u
#define CELL_FLAG_IN_USE     0x80u

// The end of a cell, from the last word of the key on. The addresses lie before it.
typedef struct _CONNECTION_CELL
{
    UINT16 LocalPort;
    UINT16 RemotePort;
    UINT8 Protocol;
    UINT8 Scope;
    UINT8 Verdict;
    UINT8 Flags;
    UINT32 Generation;
    volatile LONG LastUse; // ClockSeconds of the last use, later of the end; readers write it too
    UINT32 ProcessId;
    UINT32 Cold; // handle of the cold part
} CONNECTION_CELL;

static_assert(sizeof(CONNECTION_CELL) == CONNECTION_CELL_BYTES_V4 - (CONNECTION_KEY_WORDS_V4 - 1) * sizeof(UINT64),
              "an IPv4 cell is full");
static_assert(FIELD_OFFSET(CONNECTION_CELL, Flags) == 7 && (UINT64)CELL_FLAG_IN_USE << 56 == SHARD_CELL_IN_USE,
              "the flags lie where the map has its own");

// What only the start and the end of a connection need.
typedef struct _CONNECTION_COLD
{
    UINT32 Next;     // of the list by port, which has the live connections; handle of a cold part, or 0
    UINT32 Previous; // both are guarded by the port stripe
    UINT32 Place;    // what is kept of the hash
    UINT32 Generation;
    UINT32 Pending;      // questions that wait for a verdict; guarded by the shard
    UINT16 QuestionHigh; // id of the last question; 48 bits last for years at a million questions a second
    UINT16 StartHigh;    // system time of the start in units of START_UNIT
    UINT32 QuestionLow;
    UINT32 StartLow;
    UINT64 Handle; // of a TCP connection's endpoint while it connects, of its flow once it came up; 0: none
    volatile LONG64 TransmittedBytes;
    volatile LONG64 ReceivedBytes;
} CONNECTION_COLD;

static_assert(sizeof(CONNECTION_COLD) >= SLAB_LEAST_ITEM_BYTES, "a slab takes it");
static_assert(sizeof(CONNECTION_COLD) <= 56, "the memory of a connection is bounded");

// A unit of the time of a start is 2^10 times 100 ns.
#define START_UNIT_SHIFT 10u

// A place has the number of the shard above the low bits of the hash.
// These bits are enough for the cells of one shard, because a keyed hash spreads the connections over all shards.
#define PLACE_INDEX_BITS 22u
#define PLACE_INDEX_MASK ((1u << PLACE_INDEX_BITS) - 1)

static_assert(SHARD_MAP_SHIFT + PLACE_INDEX_BITS <= 32, "a place fits");

typedef struct _CONNECTION_PORT_PAGE
{
    UINT32 Heads[PORT_PAGE_SIZE]; // handles of cold parts, or 0
} CONNECTION_PORT_PAGE;

// `Walks` is of a port stripe alone. They are on the stacks of their threads.
struct _CONNECTION_STRIPE
{
    KSPIN_LOCK Lock;
    struct _PORT_WALK *Walks;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK) - sizeof(struct _PORT_WALK *)];
};

// A connection that a port walk has found.
typedef struct _PORT_WALK_PLACE
{
    UINT32 Place;
    UINT32 Generation;
} PORT_WALK_PLACE;

typedef struct _PORT_WALK
{
    struct _PORT_WALK *Other; // walk in the same port stripe
    UINT32 Next;              // where it goes on, which changes if that connection leaves the list meanwhile
    UINT32 FoundCount;
    PORT_WALK_PLACE Found[PORT_WALK_FOUND];
    CONNECTION_TABLE *Table;
    SHARD_MAP *Map;
    CONNECTION_STRIPE *Stripe;
    const CONNECTION_RELEASE *Release; // what ends with a port; or NULL
    const CONNECTION_KEY *Ends;        // whose addresses and protocol are visited; or NULL
    BOOLEAN AnyAddress;
} PORT_WALK;

// ---- Cells; the caller holds the lock of their shard.

static CONNECTION_CELL *ConnectionTableFindCell(const CONNECTION_TABLE *table, const CONNECTION_PLACE *place)
{
    return (CONNECTION_CELL *)ConnectionMapFind(&table->Connections, place);
}

static CONNECTION_COLD *ConnectionTableCold(const CONNECTION_TABLE *table, const CONNECTION_CELL *cell)
{
    return (CONNECTION_COLD *)SlabAt(&table->ColdParts, cell->Cold);
}

static BOOLEAN ConnectionTableHasEnded(const CONNECTION_CELL *cell)
{
    return (cell->Flags & CELL_FLAG_ENDED) != 0;
}

static CONNECTION_STATE ConnectionTableStateOf(const CONNECTION_CELL *cell)
{
    CONNECTION_STATE state;

    state.Verdict = cell->Verdict;
    state.Direction = (cell->Flags & CELL_FLAG_INBOUND) != 0 ? DirectionInbound : DirectionOutbound;
    state.Ended = ConnectionTableHasEnded(cell);
    state.Reported = (cell->Flags & CELL_FLAG_REPORTED) != 0;
    state.Broadcast = (cell->Flags & CELL_FLAG_BROADCAST) != 0;
    state.Authorized = (cell->Flags & CELL_FLAG_AUTHORIZED) != 0;
    state.Aborted = (cell->Flags & CELL_FLAG_ABORTED) != 0;
    state.Generation = cell->Generation;
    state.ProcessId = cell->ProcessId;
    return state;
}

static const UINT64 *ConnectionTableKeyOf(const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    return (const UINT64 *)cell - (map->KeyWords - 1);
}

static UINT64 ConnectionColdQuestion(const CONNECTION_COLD *cold)
{
    return (UINT64)cold->QuestionHigh << 32 | cold->QuestionLow;
}

static VOID ConnectionColdSetQuestion(CONNECTION_COLD *cold, UINT64 id)
{
    cold->QuestionHigh = (UINT16)(id >> 32);
    cold->QuestionLow = (UINT32)id;
}

static VOID ConnectionColdSetStart(CONNECTION_COLD *cold)
{
    LARGE_INTEGER now;
    UINT64 units;

    KeQuerySystemTime(&now);
    units = (UINT64)now.QuadPart >> START_UNIT_SHIFT;
    cold->StartHigh = (UINT16)(units >> 32);
    cold->StartLow = (UINT32)units;
}

static VOID ConnectionTableCopyLife(const CONNECTION_TABLE *table, const CONNECTION_CELL *cell, CONNECTION_LIFE *life)
{
    const CONNECTION_COLD *cold = ConnectionTableCold(table, cell);
    LONG idle = (LONG)ClockSeconds(table->Clock) - ReadNoFence(&cell->LastUse);

    life->Question = ConnectionColdQuestion(cold);
    life->StartTime = ((UINT64)cold->StartHigh << 32 | cold->StartLow) << START_UNIT_SHIFT;
    life->TransmittedBytes = (UINT64)ReadNoFence64(&cold->TransmittedBytes);
    life->ReceivedBytes = (UINT64)ReadNoFence64(&cold->ReceivedBytes);
    life->Handle = cold->Handle;
    // A packet on another processor may have written a time just after the clock was read.
    life->IdleSeconds = idle > 0 ? (UINT32)idle : 0;
    life->Waiting = cold->Pending != 0;
    life->EndReason = EndReasonClosed;
}

static VOID ConnectionTableCopy(const CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell,
                                CONNECTION *connection)
{
    ConnectionKeyUnpack(ConnectionTableKeyOf(map, cell), map->KeyWords, &connection->Key);
    connection->State = ConnectionTableStateOf(cell);
    ConnectionTableCopyLife(table, cell, &connection->Life);
}

// Writes the time once a second, so most packets leave the cache line clean for the other processors.
static VOID ConnectionTableTouch(const CONNECTION_TABLE *table, CONNECTION_CELL *cell)
{
    LONG now = (LONG)ClockSeconds(table->Clock);

    if (!ConnectionTableHasEnded(cell) && ReadNoFence(&cell->LastUse) != now)
    {
        WriteNoFence(&cell->LastUse, now);
    }
}

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
    return ConnectionTableFindCell(table, &access->Place);
}

static VOID ConnectionTableLeave(const CONNECTION_ACCESS *access)
{
    RwLockReleaseExclusive(&access->Place.In.Shard->Lock, access->Irql);
}

// ---- Lists by port

static UINT32 ConnectionPortFamily(UINT8 protocol, BOOLEAN isV6)
{
    UINT32 family = protocol == PROTOCOL_TCP ? 0 : protocol == PROTOCOL_UDP ? 2 : 4;

    return isV6 ? family + 1 : family;
}

// Returns which list a connection is in: by its port, or by its addresses if its protocol has no ports.
static UINT16 ConnectionPortOf(const UINT64 *words, UINT32 keyWords, UINT8 protocol, UINT16 localPort)
{
    UINT64 mixed = 0;
    UINT32 i;

    if (protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP)
    {
        return localPort;
    }
    for (i = 0; i < keyWords - 1; i++)
    {
        mixed = (mixed ^ words[i]) * 0x9E3779B97F4A7C15ULL;
    }
    return (UINT16)(mixed >> 48);
}

static UINT16 ConnectionPortOfCell(const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    return ConnectionPortOf(ConnectionTableKeyOf(map, cell), map->KeyWords, cell->Protocol, cell->LocalPort);
}

static UINT16 ConnectionPortOfKey(const CONNECTION_KEY *key)
{
    UINT64 words[CONNECTION_KEY_WORDS_V6];

    ConnectionKeyPack(key, words);
    return ConnectionPortOf(words, key->IpVersion == 6 ? CONNECTION_KEY_WORDS_V6 : CONNECTION_KEY_WORDS_V4,
                            key->Protocol, key->LocalPort);
}

static CONNECTION_STRIPE *ConnectionPortStripe(const CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    return &table->PortStripes[(family * PORT_PAGE_SIZE / 2 + port) % CONNECTION_TABLE_PORT_STRIPE_COUNT];
}

static CONNECTION_STRIPE *ConnectionPortStripeOf(const CONNECTION_TABLE *table, const SHARD_MAP *map,
                                                 const CONNECTION_CELL *cell)
{
    return ConnectionPortStripe(table, ConnectionPortFamily(cell->Protocol, map == &table->Connections.V6),
                                ConnectionPortOfCell(map, cell));
}

// Returns the page of a port. NULL: none yet. A published page stays as long as the table.
static CONNECTION_PORT_PAGE *ConnectionPortPage(const CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    return (CONNECTION_PORT_PAGE *)(ULONG_PTR)ReadAcquire64(&table->PortPages[family][port / PORT_PAGE_SIZE]);
}

// Allocates and publishes the page of a port. FALSE: no memory.
static BOOLEAN ConnectionPortBringPage(CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    CONNECTION_PORT_PAGE *page = (CONNECTION_PORT_PAGE *)MemoryAllocate(table->Memory, sizeof(*page));

    if (page != NULL &&
        InterlockedCompareExchange64(&table->PortPages[family][port / PORT_PAGE_SIZE], (LONG64)(ULONG_PTR)page, 0) != 0)
    {
        MemoryFree(table->Memory, page);
    }
    return page != NULL;
}

// The head of a list of live connections, whose page exists.
static UINT32 *ConnectionPortHead(const CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    UINT32 family = ConnectionPortFamily(cell->Protocol, map == &table->Connections.V6);
    UINT16 port = ConnectionPortOfCell(map, cell);

    return &ConnectionPortPage(table, family, port)->Heads[port % PORT_PAGE_SIZE];
}

static CONNECTION_COLD *ConnectionPortEntry(const CONNECTION_TABLE *table, UINT32 handle)
{
    return (CONNECTION_COLD *)SlabAt(&table->ColdParts, handle);
}

// Makes walks that would go on at one entry of a list go on at another one. The caller holds the port stripe.
static VOID ConnectionPortMoveWalks(const CONNECTION_STRIPE *stripe, UINT32 from, UINT32 to)
{
    PORT_WALK *walk;

    for (walk = stripe->Walks; walk != NULL; walk = walk->Other)
    {
        walk->Next = walk->Next == from ? to : walk->Next;
    }
}

// Puts a cold part with its links between its neighbors. The caller holds the port stripe.
static VOID ConnectionPortJoin(const CONNECTION_TABLE *table, UINT32 *head, UINT32 handle)
{
    const CONNECTION_COLD *cold = ConnectionPortEntry(table, handle);

    *(cold->Previous != 0 ? &ConnectionPortEntry(table, cold->Previous)->Next : head) = handle;
    if (cold->Next != 0)
    {
        ConnectionPortEntry(table, cold->Next)->Previous = handle;
    }
}

static VOID ConnectionPortLink(const CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    CONNECTION_STRIPE *stripe = ConnectionPortStripeOf(table, map, cell);
    UINT32 *head = ConnectionPortHead(table, map, cell);
    CONNECTION_COLD *cold = ConnectionTableCold(table, cell);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    cold->Previous = 0;
    cold->Next = *head;
    ConnectionPortJoin(table, head, cell->Cold);
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
}

// Takes a live connection out of its port list.
static VOID ConnectionPortUnlink(const CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    CONNECTION_STRIPE *stripe = ConnectionPortStripeOf(table, map, cell);
    UINT32 *head = ConnectionPortHead(table, map, cell);
    const CONNECTION_COLD *cold = ConnectionTableCold(table, cell);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    *(cold->Previous != 0 ? &ConnectionPortEntry(table, cold->Previous)->Next : head) = cold->Next;
    if (cold->Next != 0)
    {
        ConnectionPortEntry(table, cold->Next)->Previous = cold->Previous;
    }
    ConnectionPortMoveWalks(stripe, cell->Cold, cold->Next);
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
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
        stripes[i].Walks = NULL;
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
    status = SlabInitialize(&table->ColdParts, memory, sizeof(CONNECTION_COLD), maxConnections);
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
    SlabUninitialize(&table->ColdParts);
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
    UINT32 family;
    UINT32 page;

    ConnectionTableRemoveAll(table);
    for (family = 0; family < CONNECTION_TABLE_PORT_FAMILY_COUNT; family++)
    {
        for (page = 0; page < CONNECTION_TABLE_PORT_PAGE_COUNT; page++)
        {
            MemoryFree(table->Memory, ConnectionPortPage(table, family, (UINT16)(page * PORT_PAGE_SIZE)));
        }
    }
    MemoryFree(table->Memory, table->OrderStripes);
    MemoryFree(table->Memory, table->PortStripes);
    SlabUninitialize(&table->ColdParts);
    ConnectionMapUninitialize(&table->Connections);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableLookup(CONNECTION_TABLE *table, const CONNECTION_KEY *key, CONNECTION_STATE *state)
{
    CONNECTION_PLACE place;
    CONNECTION_CELL *cell;
    KIRQL irql;

    ConnectionMapLocate(&table->Connections, key, &place);
    irql = RwLockAcquireShared(&place.In.Shard->Lock);
    cell = ConnectionTableFindCell(table, &place);
    if (cell != NULL)
    {
        *state = ConnectionTableStateOf(cell);
        ConnectionTableTouch(table, cell);
    }
    RwLockReleaseShared(&place.In.Shard->Lock, irql);
    return cell != NULL;
}

// ---- Insertion

// One insertion on its way, with the memory that it has brought along or has to give back.
typedef struct _CONNECTION_INSERTION
{
    CONNECTION_PLACE Place;
    UINT32 ProcessId;
    UINT8 Direction;
    UINT8 Family;
    UINT16 Port;      // which list it comes into
    UINT32 Processor; // chooses the stripe of the cold part
    CONNECTION_PORT_PAGE *PortPage;
    UINT32 Cold; // handle of a cold part; 0: none, or used
    SHARD_GROWTH Growth;
} CONNECTION_INSERTION;

static UINT32 ConnectionTableNextGeneration(CONNECTION_TABLE *table)
{
    LONG generation;

    do
    {
        generation = InterlockedIncrement(&table->LastGeneration);
    } while (generation == 0);
    return (UINT32)generation;
}

// Nearly all connections are of the default scope, which is always in use, so no counter is shared by all.
static VOID ConnectionTableCountScope(CONNECTION_TABLE *table, const CONNECTION_CELL *cell, LONG more)
{
    if (cell->Scope != SCOPE_DEFAULT)
    {
        InterlockedExchangeAdd(&table->ScopeUses[cell->Scope], more);
    }
}

// Makes a new connection of a cell that has its key and its cold part.
static VOID ConnectionTableStart(CONNECTION_TABLE *table, const CONNECTION_INSERTION *insertion, CONNECTION_CELL *cell,
                                 CONNECTION_STATE *state)
{
    CONNECTION_COLD *cold = ConnectionTableCold(table, cell);

    cell->Verdict = VerdictUndecided;
    cell->Flags = CELL_FLAG_IN_USE | (insertion->Direction == DirectionInbound ? CELL_FLAG_INBOUND : 0);
    cell->Generation = ConnectionTableNextGeneration(table);
    cell->LastUse = (LONG)ClockSeconds(table->Clock);
    cell->ProcessId = insertion->ProcessId;
    RtlZeroMemory(cold, sizeof(*cold));
    cold->Place = (UINT32)(insertion->Place.In.Hash >> (64 - SHARD_MAP_SHIFT)) << PLACE_INDEX_BITS |
                  ((UINT32)insertion->Place.In.Hash & PLACE_INDEX_MASK);
    cold->Generation = cell->Generation;
    ConnectionColdSetStart(cold);
    ConnectionPortLink(table, insertion->Place.Map, cell);
    *state = ConnectionTableStateOf(cell);
}

static NTSTATUS ConnectionTableAdopt(const CONNECTION_TABLE *table, const CONNECTION_INSERTION *insertion,
                                     CONNECTION_CELL *cell, CONNECTION_STATE *state)
{
    if (cell->ProcessId == 0)
    {
        cell->ProcessId = insertion->ProcessId;
    }
    ConnectionTableTouch(table, cell);
    *state = ConnectionTableStateOf(cell);
    return STATUS_OBJECT_NAME_EXISTS;
}

// The caller holds the shard's lock. STATUS_RETRY: call ConnectionTableBringMemory without the lock, then try again.
static NTSTATUS ConnectionTableTryInsert(CONNECTION_TABLE *table, CONNECTION_INSERTION *insertion,
                                         CONNECTION_STATE *state)
{
    CONNECTION_CELL *cell = ConnectionTableFindCell(table, &insertion->Place);
    SHARD_MAP *map = insertion->Place.Map;
    UINT64 *words;
    NTSTATUS status;

    if (cell != NULL && !ConnectionTableHasEnded(cell))
    {
        return ConnectionTableAdopt(table, insertion, cell, state);
    }
    insertion->PortPage = ConnectionPortPage(table, insertion->Family, insertion->Port);
    if (insertion->PortPage == NULL)
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
        cell = (CONNECTION_CELL *)(words + map->KeyWords - 1);
        cell->Cold = insertion->Cold;
        insertion->Cold = 0;
        ConnectionTableCountScope(table, cell, 1);
    }
    ConnectionTableStart(table, insertion, cell, state);
    return STATUS_SUCCESS;
}

// Allocates what ConnectionTableTryInsert lacked. No lock is held. FALSE: no memory.
// A shard that cannot grow takes connections until it is full.
static BOOLEAN ConnectionTableBringMemory(CONNECTION_TABLE *table, CONNECTION_INSERTION *insertion)
{
    if (insertion->PortPage == NULL)
    {
        return ConnectionPortBringPage(table, insertion->Family, insertion->Port);
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
        if (status != STATUS_RETRY)
        {
            return status;
        }
        if (!ConnectionTableBringMemory(table, insertion))
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
    insertion.ProcessId = (UINT32)processId; // Windows' process ids have 32 bits
    insertion.Direction = direction;
    insertion.Family = (UINT8)ConnectionPortFamily(key->Protocol, key->IpVersion == 6);
    insertion.Port = ConnectionPortOfKey(key);
    insertion.Processor = KeGetCurrentProcessorNumberEx(NULL);

    status = ConnectionTableInsert(table, &insertion, state);

    MemoryFree(table->Memory, insertion.Growth.Array);
    if (insertion.Cold != 0)
    {
        SlabReturn(&table->ColdParts, insertion.Cold);
    }
    return status == STATUS_QUOTA_EXCEEDED ? STATUS_CONNECTION_COUNT_LIMIT : status;
}

// ---- Changes

_Use_decl_annotations_
BOOLEAN ConnectionTableSetVerdict(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT8 verdict,
                                  CONNECTION_STATE *state)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *cell = ConnectionTableEnter(table, key, &access);
    BOOLEAN live = cell != NULL && !ConnectionTableHasEnded(cell);

    if (live)
    {
        cell->Verdict = verdict;
        *state = ConnectionTableStateOf(cell);
    }
    ConnectionTableLeave(&access);
    return live;
}

// Locks the shard in any case. NULL: the connection is unknown, ended, or of another generation.
static CONNECTION_CELL *ConnectionTableEnterLive(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                                 CONNECTION_ACCESS *access)
{
    CONNECTION_CELL *cell = ConnectionTableEnter(table, key, access);

    return cell != NULL && !ConnectionTableHasEnded(cell) && (generation == 0 || cell->Generation == generation) ? cell
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
        ConnectionTableCold(table, live)->Handle = endpointHandle;
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
        ConnectionTableCold(table, live)->Handle = flowHandle;
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableTakeBlockedFlow(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT64 *flowHandle)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableEnterLive(table, key, 0, &access);

    *flowHandle = 0;
    if (live != NULL && live->Verdict == VerdictPermanentBlock && (live->Flags & CELL_FLAG_CONNECTING) == 0)
    {
        CONNECTION_COLD *cold = ConnectionTableCold(table, live);

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

    if (live != NULL && live->Verdict == verdict)
    {
        live->Verdict = VerdictUndecided;
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
    cell = ConnectionTableFindCell(table, &place);
    live = cell != NULL && !ConnectionTableHasEnded(cell);
    if (live)
    {
        ConnectionTableCopy(table, place.Map, cell, connection);
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
        ConnectionColdSetQuestion(ConnectionTableCold(table, live), question);
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
    ConnectionTableCold(table, cell)->Pending += (UINT32)more;
    ConnectionTableTouch(table, cell);
    return ConnectionTableHasEnded(cell) ? NULL : cell;
}

_Use_decl_annotations_
VOID ConnectionTableAddPending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation, UINT64 processId)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableChangePending(table, key, generation, 1, &access);

    if (live != NULL && live->ProcessId == 0)
    {
        live->ProcessId = (UINT32)processId;
    }
    ConnectionTableLeave(&access);
}

_Use_decl_annotations_
BOOLEAN ConnectionTableIsPending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation)
{
    CONNECTION_ACCESS access;
    const CONNECTION_CELL *cell = ConnectionTableEnter(table, key, &access);
    BOOLEAN pending = cell != NULL && cell->Generation == generation && ConnectionTableCold(table, cell)->Pending != 0;

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

_Use_decl_annotations_
BOOLEAN ConnectionTableResolvePending(CONNECTION_TABLE *table, const CONNECTION_KEY *key, UINT32 generation,
                                      UINT8 verdict)
{
    CONNECTION_ACCESS access;
    CONNECTION_CELL *live = ConnectionTableChangePending(table, key, generation, -1, &access);

    if (live != NULL)
    {
        live->Verdict = verdict;
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
    cell = ConnectionTableFindCell(table, &place);
    if (cell != NULL)
    {
        CONNECTION_COLD *cold = ConnectionTableCold(table, cell);

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
        live->Flags |= CELL_FLAG_ENDED;
        ConnectionTableCold(table, live)->Handle = 0;
        live->LastUse = (LONG)ClockSeconds(table->Clock);
        ConnectionPortUnlink(table, access.Place.Map, live);
        ConnectionTableCopy(table, access.Place.Map, live, ended);
    }
    ConnectionTableLeave(&access);
    return live != NULL;
}

// ---- The connections of a port

// Collects the next few connections. FALSE: the walk is over, and the stripe knows it no longer.
static BOOLEAN PortWalkOn(PORT_WALK *walk)
{
    PORT_WALK **place = &walk->Stripe->Walks;
    BOOLEAN more;
    KIRQL irql;

    walk->FoundCount = 0;
    KeAcquireSpinLock(&walk->Stripe->Lock, &irql);
    while (walk->Next != 0 && walk->FoundCount < PORT_WALK_FOUND)
    {
        const CONNECTION_COLD *passed = ConnectionPortEntry(walk->Table, walk->Next);

        walk->Found[walk->FoundCount].Place = passed->Place;
        walk->Found[walk->FoundCount].Generation = passed->Generation;
        walk->FoundCount++;
        walk->Next = passed->Next;
    }
    // Other threads change walk->Next while the walk is known to the stripe.
    more = walk->Next != 0;
    if (!more)
    {
        while (*place != walk)
        {
            place = &(*place)->Other;
        }
        *place = walk->Other;
    }
    KeReleaseSpinLock(&walk->Stripe->Lock, irql);
    return more;
}

static VOID PortWalkStart(PORT_WALK *walk, const CONNECTION_PORT_PAGE *page, UINT16 port)
{
    KIRQL irql;

    KeAcquireSpinLock(&walk->Stripe->Lock, &irql);
    walk->Next = page->Heads[port % PORT_PAGE_SIZE];
    walk->Other = walk->Stripe->Walks;
    walk->Stripe->Walks = walk;
    KeReleaseSpinLock(&walk->Stripe->Lock, irql);
}

// Several sockets of a process may share a port, so a release ends the connects of its own socket alone.
// ALE does not know a connection of an unknown process, such as a stray reset, so no closure of it will come.
static BOOLEAN PortWalkEndsTcp(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    UINT64 released = walk->Release->EndpointHandle;
    UINT64 endpoint = ConnectionTableCold(walk->Table, cell)->Handle;

    if ((cell->Flags & CELL_FLAG_CONNECTING) != 0)
    {
        return released == 0 || endpoint == 0 || endpoint == released;
    }
    return cell->ProcessId == 0 && (cell->Flags & (CELL_FLAG_INBOUND | CELL_FLAG_AUTHORIZED)) == 0;
}

static BOOLEAN PortWalkHasEnds(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    CONNECTION_KEY key;

    ConnectionKeyUnpack(ConnectionTableKeyOf(walk->Map, cell), walk->Map->KeyWords, &key);
    return key.Protocol == walk->Ends->Protocol &&
           RtlEqualMemory(key.LocalAddress, walk->Ends->LocalAddress, sizeof(key.LocalAddress)) &&
           RtlEqualMemory(key.RemoteAddress, walk->Ends->RemoteAddress, sizeof(key.RemoteAddress));
}

static BOOLEAN PortWalkSpares(const CONNECTION_RELEASE *release, UINT8 scope)
{
    return (release->SparedScopes[scope / 64] >> (scope % 64) & 1) != 0;
}

static BOOLEAN PortWalkEndsWith(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    const CONNECTION_RELEASE *release = walk->Release;
    const UINT64 *localAddress = ConnectionTableKeyOf(walk->Map, cell);
    SIZE_T addressLength = release->IpVersion == 6 ? 16 : 4;

    return cell->Protocol == release->Protocol && !PortWalkSpares(release, cell->Scope) &&
           (walk->AnyAddress || RtlEqualMemory(localAddress, release->LocalAddress, addressLength)) &&
           (release->Protocol != PROTOCOL_TCP || PortWalkEndsTcp(walk, cell)) &&
           (release->ProcessId == 0 || cell->ProcessId == 0 || cell->ProcessId == release->ProcessId);
}

static BOOLEAN PortWalkMatches(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    return !ConnectionTableHasEnded(cell) &&
           (walk->Release != NULL ? PortWalkEndsWith(walk, cell) : PortWalkHasEnds(walk, cell));
}

// The caller holds the shard's lock. NULL: the connection is no longer in the table.
static CONNECTION_CELL *PortWalkFind(const SHARD_MAP *map, const SHARD *shard, const PORT_WALK_PLACE *end)
{
    UINT32 index = end->Place & PLACE_INDEX_MASK;
    UINT32 probes;

    for (probes = 0; probes < shard->CellCount; probes++, index++)
    {
        UINT64 *words = ShardCellAt(shard->Array, index & (shard->CellCount - 1), map->CellBytes);
        CONNECTION_CELL *cell = (CONNECTION_CELL *)(words + map->KeyWords - 1);

        if ((cell->Flags & CELL_FLAG_IN_USE) == 0 || cell->Generation == end->Generation)
        {
            return (cell->Flags & CELL_FLAG_IN_USE) != 0 ? cell : NULL;
        }
    }
    return NULL;
}

static BOOLEAN PortWalkCopy(const PORT_WALK *walk, const PORT_WALK_PLACE *place, CONNECTION *connection)
{
    SHARD *shard = &walk->Map->Shards[place->Place >> PLACE_INDEX_BITS];
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    CONNECTION_CELL *cell = PortWalkFind(walk->Map, shard, place);
    BOOLEAN matches = cell != NULL && PortWalkMatches(walk, cell);

    if (matches)
    {
        ConnectionTableCopy(walk->Table, walk->Map, cell, connection);
    }
    RwLockReleaseShared(&shard->Lock, irql);
    return matches;
}

// Visits the connections of one list that match. `walk` has what they must match.
static VOID PortWalkRun(CONNECTION_TABLE *table, BOOLEAN isV6, UINT8 protocol, UINT16 port, PORT_WALK *walk,
                        CONNECTION_VISITOR visitor, void *context)
{
    UINT32 family = ConnectionPortFamily(protocol, isV6);
    const CONNECTION_PORT_PAGE *page = ConnectionPortPage(table, family, port);
    BOOLEAN more = page != NULL;

    walk->Table = table;
    walk->Map = isV6 ? &table->Connections.V6 : &table->Connections.V4;
    walk->Stripe = ConnectionPortStripe(table, family, port);
    if (more)
    {
        PortWalkStart(walk, page, port);
    }
    while (more)
    {
        CONNECTION connection;
        UINT32 i;

        more = PortWalkOn(walk);
        for (i = 0; i < walk->FoundCount; i++)
        {
            if (PortWalkCopy(walk, &walk->Found[i], &connection))
            {
                visitor(context, &connection);
            }
        }
    }
}

_Use_decl_annotations_
VOID ConnectionTableVisitPort(CONNECTION_TABLE *table, const CONNECTION_RELEASE *release, CONNECTION_VISITOR visitor,
                              void *context)
{
    static const UINT8 anyAddress[16];
    PORT_WALK walk;

    RtlZeroMemory(&walk, sizeof(walk));
    walk.Release = release;
    walk.AnyAddress = RtlEqualMemory(release->LocalAddress, anyAddress, sizeof(anyAddress));
    PortWalkRun(table, release->IpVersion == 6, release->Protocol, release->LocalPort, &walk, visitor, context);
}

_Use_decl_annotations_
VOID ConnectionTableVisitPortless(CONNECTION_TABLE *table, const CONNECTION_KEY *ends, CONNECTION_VISITOR visitor,
                                  void *context)
{
    PORT_WALK walk;

    RtlZeroMemory(&walk, sizeof(walk));
    walk.Ends = ends;
    PortWalkRun(table, ends->IpVersion == 6, ends->Protocol, ConnectionPortOfKey(ends), &walk, visitor, context);
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
        const CONNECTION_CELL *cell = (const CONNECTION_CELL *)(words + copy->Map->KeyWords - 1);

        if ((cell->Flags & CELL_FLAG_IN_USE) == 0)
        {
            break;
        }
        if (((ConnectionTableCold(copy->Table, cell)->Place ^ bucket) & PLACE_INDEX_MASK & mask) != 0)
        {
            continue; // it is of another bucket
        }
        if (count == copy->Capacity)
        {
            return FALSE;
        }
        ConnectionTableCopy(copy->Table, copy->Map, cell, &copy->Connections[count]);
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
    return (CONNECTION_CELL *)(words + cleaning->Map->KeyWords - 1);
}

// Returns whether the connection is ended before it is removed. A question about it may be on its way to the client.
static BOOLEAN ConnectionCleaningEnds(const CONNECTION_CLEANING *cleaning, const CONNECTION_CELL *cell)
{
    return cleaning->EndReason != EndReasonClosed && cleaning->Table->Removing != NULL &&
           !ConnectionTableHasEnded(cell);
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
    ConnectionTableCopy(cleaning->Table, cleaning->Map, cell, &cleaning->Ending);
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
    if (!ConnectionTableHasEnded(cell))
    {
        ConnectionPortUnlink(cleaning->Table, cleaning->Map, cell);
    }
    SlabReturn(&cleaning->Table->ColdParts, cell->Cold);
    ConnectionTableCountScope(cleaning->Table, cell, -1);
    return SHARD_VISIT_REMOVE;
}

// Returns whether ALE_ENDPOINT_CLOSURE is sure to end this connection.
static BOOLEAN ConnectionTableHasClosure(const CONNECTION_CELL *cell)
{
    return cell->Protocol == PROTOCOL_TCP && (cell->Flags & CELL_FLAG_AUTHORIZED) != 0;
}

// Returns the seconds until a connection may be removed; 0: it is removed now.
static UINT32 ConnectionCleaningWait(const CONNECTION_CLEANING *cleaning, const CONNECTION_CELL *cell)
{
    UINT32 age = cleaning->Now - (UINT32)ReadNoFence(&cell->LastUse);
    BOOLEAN ended = ConnectionTableHasEnded(cell);
    UINT32 limit = ended ? CONNECTION_ENDED_SECONDS : CONNECTION_IDLE_SECONDS;
    BOOLEAN waiting = ConnectionTableCold(cleaning->Table, cell)->Pending != 0;

    // This cleaning has ended it.
    if (ended && cell->Generation == cleaning->Settled && !waiting)
    {
        return 0;
    }
    if (!ended && (!cleaning->IncludeIdle || ConnectionTableHasClosure(cell)))
    {
        return MAXUINT32;
    }
    // A packet on another processor may have written a time just after `Now` was read: then the age is negative.
    if ((LONG)age < 0)
    {
        age = 0;
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

    if (ConnectionTableCold(cleaning->Table, cell)->Pending == 0)
    {
        result = ConnectionCleaningRemove(context, words);
    }
    if (result == SHARD_VISIT_KEEP)
    {
        cell->Verdict = VerdictUndecided;
    }
    return result;
}

// Moves a connection's cold part into a fuller chunk.
static UINT8 ConnectionCleaningMove(VOID *context, UINT64 *words)
{
    CONNECTION_CLEANING *cleaning = (CONNECTION_CLEANING *)context;
    CONNECTION_CELL *cell = ConnectionCleaningCell(cleaning, words);
    CONNECTION_STRIPE *stripe = ConnectionPortStripeOf(cleaning->Table, cleaning->Map, cell);
    SLAB *slab = &cleaning->Table->ColdParts;
    UINT32 oldHandle = cell->Cold;
    UINT32 handle = SlabTakeBetter(slab, oldHandle);

    if (handle != 0)
    {
        KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
        *ConnectionPortEntry(cleaning->Table, handle) = *ConnectionTableCold(cleaning->Table, cell);
        if (!ConnectionTableHasEnded(cell))
        {
            ConnectionPortJoin(cleaning->Table, ConnectionPortHead(cleaning->Table, cleaning->Map, cell), handle);
            ConnectionPortMoveWalks(stripe, oldHandle, handle);
        }
        KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
        cell->Cold = handle;
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
UINT64 ConnectionTableBytes(CONNECTION_TABLE *table)
{
    UINT64 bytes =
        ConnectionMapBytes(&table->Connections) + SlabBytes(&table->ColdParts) +
        (CONNECTION_TABLE_PORT_STRIPE_COUNT + CONNECTION_TABLE_ORDER_STRIPE_COUNT) * sizeof(CONNECTION_STRIPE);
    UINT32 i;
    UINT32 page;

    for (i = 0; i < CONNECTION_TABLE_PORT_FAMILY_COUNT; i++)
    {
        for (page = 0; page < CONNECTION_TABLE_PORT_PAGE_COUNT; page++)
        {
            bytes += ReadNoFence64(&table->PortPages[i][page]) != 0 ? sizeof(CONNECTION_PORT_PAGE) : 0;
        }
    }
    return bytes;
}

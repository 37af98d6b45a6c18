#include "connection_ports.h"

// A port walk collects PORT_WALK_FOUND connections, then releases the lock.
#define PORT_WALK_FOUND 16u
#define PORT_PAGE_SIZE  256u

typedef struct _CONNECTION_PORT_PAGE
{
    UINT32 Heads[PORT_PAGE_SIZE]; // handles of cold parts, or 0
} CONNECTION_PORT_PAGE;

// A connection that a port walk has found.
typedef struct _PORT_WALK_PLACE
{
    UINT32 Place;
    UINT32 Generation;
} PORT_WALK_PLACE;

typedef struct _PORT_WALK
{
    CONNECTION_PORT_CURSOR Cursor;
    UINT32 FoundCount;
    PORT_WALK_PLACE Found[PORT_WALK_FOUND];
    CONNECTION_TABLE *Table;
    SHARD_MAP *Map;
    CONNECTION_STRIPE *Stripe;
    const CONNECTION_RELEASE *Release; // what ends with a port; or NULL
    const CONNECTION_KEY *Ends;        // whose addresses and protocol are visited; or NULL
    BOOLEAN AnyAddress;
} PORT_WALK;

// ---- The lists

static UINT32 ConnectionPortsFamily(UINT8 protocol, BOOLEAN isV6)
{
    UINT32 family = protocol == PROTOCOL_TCP ? 0 : protocol == PROTOCOL_UDP ? 2 : 4;

    return isV6 ? family + 1 : family;
}

// Returns which list a connection is in: by its port, or by its addresses if its protocol has no ports.
static UINT16 ConnectionPortsListOf(const UINT64 *words, UINT32 keyWords, UINT8 protocol, UINT16 localPort)
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

static UINT16 ConnectionPortsOfCell(const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    return ConnectionPortsListOf(ConnectionEntryWords(map, cell), map->KeyWords, cell->Protocol, cell->LocalPort);
}

static UINT16 ConnectionPortsOfKey(const CONNECTION_KEY *key)
{
    UINT64 words[CONNECTION_KEY_WORDS_V6];

    ConnectionKeyPack(key, words);
    return ConnectionPortsListOf(words, key->IpVersion == 6 ? CONNECTION_KEY_WORDS_V6 : CONNECTION_KEY_WORDS_V4,
                                 key->Protocol, key->LocalPort);
}

static CONNECTION_STRIPE *ConnectionPortsStripe(const CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    return &table->PortStripes[(family * PORT_PAGE_SIZE / 2 + port) % CONNECTION_TABLE_PORT_STRIPE_COUNT];
}

static CONNECTION_STRIPE *ConnectionPortsStripeOf(const CONNECTION_TABLE *table, const SHARD_MAP *map,
                                                  const CONNECTION_CELL *cell)
{
    return ConnectionPortsStripe(table, ConnectionPortsFamily(cell->Protocol, map == &table->Connections.V6),
                                 ConnectionPortsOfCell(map, cell));
}

// Returns the page of a port. NULL: none yet. A published page stays as long as the table.
static CONNECTION_PORT_PAGE *ConnectionPortsPage(const CONNECTION_TABLE *table, UINT32 family, UINT16 port)
{
    return (CONNECTION_PORT_PAGE *)(ULONG_PTR)ReadAcquire64(&table->PortPages[family][port / PORT_PAGE_SIZE]);
}

_Use_decl_annotations_
BOOLEAN ConnectionPortsHasPage(const CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    return ConnectionPortsPage(table, ConnectionPortsFamily(key->Protocol, key->IpVersion == 6),
                               ConnectionPortsOfKey(key)) != NULL;
}

_Use_decl_annotations_
BOOLEAN ConnectionPortsBringPage(CONNECTION_TABLE *table, const CONNECTION_KEY *key)
{
    CONNECTION_PORT_PAGE *page = (CONNECTION_PORT_PAGE *)MemoryAllocate(table->Memory, sizeof(*page));
    UINT32 family = ConnectionPortsFamily(key->Protocol, key->IpVersion == 6);
    UINT16 port = ConnectionPortsOfKey(key);

    if (page != NULL &&
        InterlockedCompareExchange64(&table->PortPages[family][port / PORT_PAGE_SIZE], (LONG64)(ULONG_PTR)page, 0) != 0)
    {
        MemoryFree(table->Memory, page);
    }
    return page != NULL;
}

// The head of a list of live connections, whose page exists.
static UINT32 *ConnectionPortsHead(const CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    UINT32 family = ConnectionPortsFamily(cell->Protocol, map == &table->Connections.V6);
    UINT16 port = ConnectionPortsOfCell(map, cell);

    return &ConnectionPortsPage(table, family, port)->Heads[port % PORT_PAGE_SIZE];
}

static CONNECTION_COLD *ConnectionPortsEntry(const CONNECTION_TABLE *table, UINT32 handle)
{
    return (CONNECTION_COLD *)SlabAt(&table->ColdParts, handle);
}

// Makes walks that would go on at one entry of a list go on at another one. The caller holds the port stripe.
static VOID ConnectionPortsMoveCursors(const CONNECTION_STRIPE *stripe, UINT32 from, UINT32 to)
{
    CONNECTION_PORT_CURSOR *cursor;

    for (cursor = stripe->Cursors; cursor != NULL; cursor = cursor->Other)
    {
        cursor->Next = cursor->Next == from ? to : cursor->Next;
    }
}

// Puts a cold part with its links between its neighbors. The caller holds the port stripe.
static VOID ConnectionPortsJoin(const CONNECTION_TABLE *table, UINT32 *head, UINT32 handle)
{
    const CONNECTION_COLD *cold = ConnectionPortsEntry(table, handle);

    *(cold->Previous != 0 ? &ConnectionPortsEntry(table, cold->Previous)->Next : head) = handle;
    if (cold->Next != 0)
    {
        ConnectionPortsEntry(table, cold->Next)->Previous = handle;
    }
}

_Use_decl_annotations_
VOID ConnectionPortsLink(CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    CONNECTION_STRIPE *stripe = ConnectionPortsStripeOf(table, map, cell);
    UINT32 *head = ConnectionPortsHead(table, map, cell);
    CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    cold->Previous = 0;
    cold->Next = *head;
    ConnectionPortsJoin(table, head, cell->Cold);
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
}

_Use_decl_annotations_
VOID ConnectionPortsUnlink(CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell)
{
    CONNECTION_STRIPE *stripe = ConnectionPortsStripeOf(table, map, cell);
    UINT32 *head = ConnectionPortsHead(table, map, cell);
    const CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    *(cold->Previous != 0 ? &ConnectionPortsEntry(table, cold->Previous)->Next : head) = cold->Next;
    if (cold->Next != 0)
    {
        ConnectionPortsEntry(table, cold->Next)->Previous = cold->Previous;
    }
    ConnectionPortsMoveCursors(stripe, cell->Cold, cold->Next);
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
}

_Use_decl_annotations_
VOID ConnectionPortsMoveCold(CONNECTION_TABLE *table, const SHARD_MAP *map, CONNECTION_CELL *cell, UINT32 handle)
{
    CONNECTION_STRIPE *stripe = ConnectionPortsStripeOf(table, map, cell);

    KeAcquireSpinLockAtDpcLevel(&stripe->Lock);
    *ConnectionPortsEntry(table, handle) = *ConnectionEntryCold(table, cell);
    if (!ConnectionEntryHasEnded(cell))
    {
        ConnectionPortsJoin(table, ConnectionPortsHead(table, map, cell), handle);
        ConnectionPortsMoveCursors(stripe, cell->Cold, handle);
    }
    KeReleaseSpinLockFromDpcLevel(&stripe->Lock);
    cell->Cold = handle;
}

// ---- The connections of a port

// Collects the next few connections. FALSE: the walk is over, and the stripe knows it no longer.
static BOOLEAN PortWalkOn(PORT_WALK *walk)
{
    CONNECTION_PORT_CURSOR **place = &walk->Stripe->Cursors;
    BOOLEAN more;
    KIRQL irql;

    walk->FoundCount = 0;
    KeAcquireSpinLock(&walk->Stripe->Lock, &irql);
    while (walk->Cursor.Next != 0 && walk->FoundCount < PORT_WALK_FOUND)
    {
        const CONNECTION_COLD *passed = ConnectionPortsEntry(walk->Table, walk->Cursor.Next);

        walk->Found[walk->FoundCount].Place = passed->Place;
        walk->Found[walk->FoundCount].Generation = passed->Generation;
        walk->FoundCount++;
        walk->Cursor.Next = passed->Next;
    }
    // Other threads change walk->Cursor.Next while the walk is known to the stripe.
    more = walk->Cursor.Next != 0;
    if (!more)
    {
        while (*place != &walk->Cursor)
        {
            place = &(*place)->Other;
        }
        *place = walk->Cursor.Other;
    }
    KeReleaseSpinLock(&walk->Stripe->Lock, irql);
    return more;
}

static VOID PortWalkStart(PORT_WALK *walk, const CONNECTION_PORT_PAGE *page, UINT16 port)
{
    KIRQL irql;

    KeAcquireSpinLock(&walk->Stripe->Lock, &irql);
    walk->Cursor.Next = page->Heads[port % PORT_PAGE_SIZE];
    walk->Cursor.Other = walk->Stripe->Cursors;
    walk->Stripe->Cursors = &walk->Cursor;
    KeReleaseSpinLock(&walk->Stripe->Lock, irql);
}

// Several sockets of a process may share a port, so a release ends the connects of its own socket alone.
// ALE does not know a connection of an unknown process, such as a stray reset, so no closure of it will come.
static BOOLEAN PortWalkEndsTcp(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    UINT64 released = walk->Release->EndpointHandle;
    UINT64 endpoint = ConnectionEntryCold(walk->Table, cell)->Handle;

    if ((cell->Flags & CELL_FLAG_CONNECTING) != 0)
    {
        return released == 0 || endpoint == 0 || endpoint == released;
    }
    return cell->ProcessId == 0 && (cell->Flags & (CELL_FLAG_INBOUND | CELL_FLAG_AUTHORIZED)) == 0;
}

static BOOLEAN PortWalkHasEnds(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    CONNECTION_KEY key;

    ConnectionKeyUnpack(ConnectionEntryWords(walk->Map, cell), walk->Map->KeyWords, &key);
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
    const UINT64 *localAddress = ConnectionEntryWords(walk->Map, cell);
    SIZE_T addressLength = release->IpVersion == 6 ? 16 : 4;

    return cell->Protocol == release->Protocol && !PortWalkSpares(release, cell->Scope) &&
           (walk->AnyAddress || RtlEqualMemory(localAddress, release->LocalAddress, addressLength)) &&
           (release->Protocol != PROTOCOL_TCP || PortWalkEndsTcp(walk, cell)) &&
           (release->ProcessId == 0 || cell->ProcessId == 0 || cell->ProcessId == release->ProcessId);
}

static BOOLEAN PortWalkMatches(const PORT_WALK *walk, const CONNECTION_CELL *cell)
{
    return !ConnectionEntryHasEnded(cell) &&
           (walk->Release != NULL ? PortWalkEndsWith(walk, cell) : PortWalkHasEnds(walk, cell));
}

// The caller holds the shard's lock. NULL: the connection is no longer in the table.
static CONNECTION_CELL *PortWalkFind(const SHARD_MAP *map, const SHARD *shard, const PORT_WALK_PLACE *end)
{
    UINT32 index = end->Place & CONNECTION_PLACE_INDEX_MASK;
    UINT32 probes;

    for (probes = 0; probes < shard->CellCount; probes++, index++)
    {
        UINT64 *words = ShardCellAt(shard->Array, index & (shard->CellCount - 1), map->CellBytes);
        CONNECTION_CELL *cell = ConnectionEntryOfWords(map, words);

        if ((cell->Flags & CELL_FLAG_IN_USE) == 0 || cell->Generation == end->Generation)
        {
            return (cell->Flags & CELL_FLAG_IN_USE) != 0 ? cell : NULL;
        }
    }
    return NULL;
}

static BOOLEAN PortWalkCopy(const PORT_WALK *walk, const PORT_WALK_PLACE *place, CONNECTION *connection)
{
    SHARD *shard = &walk->Map->Shards[place->Place >> CONNECTION_PLACE_INDEX_BITS];
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    CONNECTION_CELL *cell = PortWalkFind(walk->Map, shard, place);
    BOOLEAN matches = cell != NULL && PortWalkMatches(walk, cell);

    if (matches)
    {
        ConnectionEntryCopy(walk->Table, walk->Map, cell, connection);
    }
    RwLockReleaseShared(&shard->Lock, irql);
    return matches;
}

// Visits the connections of one list that match. `walk` has what they must match.
static VOID PortWalkRun(CONNECTION_TABLE *table, BOOLEAN isV6, UINT8 protocol, UINT16 port, PORT_WALK *walk,
                        CONNECTION_VISITOR visitor, void *context)
{
    UINT32 family = ConnectionPortsFamily(protocol, isV6);
    const CONNECTION_PORT_PAGE *page = ConnectionPortsPage(table, family, port);
    BOOLEAN more = page != NULL;

    walk->Table = table;
    walk->Map = isV6 ? &table->Connections.V6 : &table->Connections.V4;
    walk->Stripe = ConnectionPortsStripe(table, family, port);
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
VOID ConnectionPortsVisitPort(CONNECTION_TABLE *table, const CONNECTION_RELEASE *release, CONNECTION_VISITOR visitor,
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
VOID ConnectionPortsVisitPortless(CONNECTION_TABLE *table, const CONNECTION_KEY *ends, CONNECTION_VISITOR visitor,
                                  void *context)
{
    PORT_WALK walk;

    RtlZeroMemory(&walk, sizeof(walk));
    walk.Ends = ends;
    PortWalkRun(table, ends->IpVersion == 6, ends->Protocol, ConnectionPortsOfKey(ends), &walk, visitor, context);
}

// ---- Memory

_Use_decl_annotations_
VOID ConnectionPortsFreePages(CONNECTION_TABLE *table)
{
    UINT32 family;
    UINT32 page;

    for (family = 0; family < CONNECTION_TABLE_PORT_FAMILY_COUNT; family++)
    {
        for (page = 0; page < CONNECTION_TABLE_PORT_PAGE_COUNT; page++)
        {
            MemoryFree(table->Memory, ConnectionPortsPage(table, family, (UINT16)(page * PORT_PAGE_SIZE)));
        }
    }
}

_Use_decl_annotations_
UINT64 ConnectionPortsBytes(const CONNECTION_TABLE *table)
{
    UINT64 pages = 0;
    UINT32 family;
    UINT32 page;

    for (family = 0; family < CONNECTION_TABLE_PORT_FAMILY_COUNT; family++)
    {
        for (page = 0; page < CONNECTION_TABLE_PORT_PAGE_COUNT; page++)
        {
            pages += ReadNoFence64(&table->PortPages[family][page]) != 0 ? 1 : 0;
        }
    }
    return pages * sizeof(CONNECTION_PORT_PAGE);
}

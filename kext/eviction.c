#include "eviction.h"

#include "entry_life.h"
#include "verdict.h"

// Cells in use that are looked at before one is evicted.
#define EVICTION_WINDOW 32u

// At the limit the search goes on as long as it has found none that the table can do without.
#define EVICTION_FULL_WINDOW 256u

// At the limit, if questions wait about all that were seen.
#define EVICTION_MOST_CELLS 4096u

// Free cells are counted too: those of one lock, and those of one search. So are shards, because most may be empty.
#define EVICTION_LOCKED_CELLS 256u
#define EVICTION_MOST_LOOKED  (16u * EVICTION_MOST_CELLS)
#define EVICTION_MOST_SHARDS  (2u * SHARD_MAP_SHARDS)

// Connections that are chosen in vain, because each is used or removed meanwhile, before an insertion is refused.
#define EVICTION_TRIES 4u

// Connections that an insertion removes near the limit. More than one, so that the table goes back from the limit.
#define EVICTION_RELIEF 2u

// Why a connection may be evicted; the first ones go first.
typedef enum _EVICTION_ROW
{
    EvictionEnded,
    EvictionRefused,
    EvictionEmbryonic,
    EvictionOverShare,
    EvictionOverShareLast,
    EvictionLargerSide, // from here on only at the limit
    EvictionLargerSideTcp,
    EvictionSmallerSide,
    EvictionSmallerSideTcp,
    EvictionNever
} EVICTION_ROW;

// A rank orders what may be evicted, the least first: the row, then the mark of a recent use, then the age.
#define EVICTION_RANK_ROW_SHIFT 33u
#define EVICTION_RANK_RECENT    (1ULL << 32)
#define EVICTION_RANK_NEVER     ((UINT64)EvictionNever << EVICTION_RANK_ROW_SHIFT)

typedef struct _EVICTION_SEARCH
{
    CONNECTION_TABLE *Table;
    UINT32 Now;
    UINT32 Share;
    BOOLEAN MoreInbound;
    UINT32 Newest;     // generation of the connection that was inserted just now; 0: none
    UINT32 Seen;       // cells in use
    UINT32 Looked;     // also at free cells
    UINT32 SeenShards; // also those without a cell
    UINT64 Rank;       // of Victim
    CONNECTION Victim;
} EVICTION_SEARCH;

// ---- The order

static BOOLEAN EvictionIsRefused(const EVICTION_SEARCH *search, const CONNECTION_CELL *cell)
{
    const VERDICT_ROW *row = VerdictRow(ConnectionEntryVerdict(cell));

    return cell->Protocol == PROTOCOL_TCP && !ConnectionEntryIsInbound(cell) &&
           row->Ale[DirectionOutbound] != DecisionPermit && row->Ale[DirectionOutbound] != DecisionAsk &&
           (cell->Flags & CELL_FLAG_AUTHORIZED) == 0 &&
           ConnectionEntryAge(cell, search->Now) > EVICTION_REFUSED_SECONDS;
}

static EVICTION_ROW EvictionRowOf(const EVICTION_SEARCH *search, const CONNECTION_CELL *cell)
{
    BOOLEAN isTcp = cell->Protocol == PROTOCOL_TCP;

    if (ConnectionEntryIsWaiting(cell) || cell->Generation == search->Newest)
    {
        return EvictionNever;
    }
    if (ConnectionEntryHasEnded(cell))
    {
        return EvictionEnded;
    }
    if (EvictionIsRefused(search, cell))
    {
        return EvictionRefused;
    }
    if ((ReadNoFence(&cell->Use) & CELL_USE_GROWN) == 0)
    {
        return EvictionEmbryonic;
    }
    if (OwnerSharesCount(&search->Table->Shares, ConnectionEntryCold(search->Table, cell)->Owner) > search->Share)
    {
        return ConnectionEntryHasClosure(cell) || VerdictRedirects(ConnectionEntryVerdict(cell)) ? EvictionOverShareLast
                                                                                                 : EvictionOverShare;
    }
    if (ConnectionEntryIsInbound(cell) == search->MoreInbound)
    {
        return isTcp ? EvictionLargerSideTcp : EvictionLargerSide;
    }
    return isTcp ? EvictionSmallerSideTcp : EvictionSmallerSide;
}

// A connection that is of no use any more gets no second chance.
static UINT64 EvictionRankOf(const EVICTION_SEARCH *search, const CONNECTION_CELL *cell)
{
    EVICTION_ROW row = EvictionRowOf(search, cell);
    UINT64 rank = ((UINT64)row << EVICTION_RANK_ROW_SHIFT) + MAXUINT32 - ConnectionEntryAge(cell, search->Now);

    if (row > EvictionRefused && (ReadNoFence(&cell->Use) & CELL_USE_RECENT) != 0)
    {
        rank |= EVICTION_RANK_RECENT;
    }
    return rank;
}

// Returns whether the table can do without the connection that was found.
static BOOLEAN EvictionFoundSpare(const EVICTION_SEARCH *search)
{
    return search->Rank < (UINT64)EvictionLargerSide << EVICTION_RANK_ROW_SHIFT &&
           (search->Rank & EVICTION_RANK_RECENT) == 0;
}

// ---- The search

static VOID EvictionStart(EVICTION_SEARCH *search, CONNECTION_TABLE *table)
{
    UINT64 count = ShardQuotaCount(&table->Connections.Quota);

    RtlZeroMemory(search, sizeof(*search));
    search->Table = table;
    search->Now = ClockSeconds(table->Clock);
    search->Share = (UINT32)((UINT64)ReadNoFence64(&table->Connections.Quota.Most) / OWNER_SHARES_PARTS);
    search->MoreInbound = OwnerSharesInbound(&table->Shares) * 2 > count;
    search->Rank = EVICTION_RANK_NEVER;
}

// Looks at cells of a shard from its hand on. Returns the best one, or NULL: none is better than the one before.
static const CONNECTION_CELL *EvictionLookAt(EVICTION_SEARCH *search, const SHARD_MAP *map, SHARD *shard)
{
    const CONNECTION_CELL *best = NULL;
    UINT32 seenEnd = search->Seen + EVICTION_WINDOW;
    UINT32 lookedEnd = search->Looked + EVICTION_LOCKED_CELLS;

    for (; shard->Hand < shard->CellCount && search->Seen < seenEnd && search->Looked < lookedEnd; shard->Hand++)
    {
        CONNECTION_CELL *cell = ConnectionEntryOfWords(map, ShardCellAt(shard->Array, shard->Hand, map->CellBytes));
        UINT64 rank;

        search->Looked++;
        if ((cell->Flags & CELL_FLAG_IN_USE) == 0)
        {
            continue;
        }
        search->Seen++;
        rank = EvictionRankOf(search, cell);
        if (rank < search->Rank)
        {
            search->Rank = rank;
            best = cell;
        }
        WriteNoFence(&cell->Use, ReadNoFence(&cell->Use) & ~CELL_USE_RECENT);
    }
    return best;
}

// Looks at the next cells of the table.
static VOID EvictionLookOn(EVICTION_SEARCH *search)
{
    CONNECTION_TABLE *table = search->Table;
    LONG hand = ReadNoFence(&table->Hand);
    UINT32 number = (UINT32)hand % EVICTION_MOST_SHARDS;
    SHARD_MAP *map = number % 2 == 0 ? &table->Connections.V4 : &table->Connections.V6;
    SHARD *shard = &map->Shards[number / 2];
    KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
    const CONNECTION_CELL *best = EvictionLookAt(search, map, shard);

    if (best != NULL)
    {
        ConnectionEntryCopy(table, map, best, &search->Victim);
    }
    if (shard->Hand >= shard->CellCount)
    {
        shard->Hand = 0;
        search->SeenShards++;
        InterlockedCompareExchange(&table->Hand, hand + 1, hand);
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
}

static VOID EvictionSearchSome(EVICTION_SEARCH *search, UINT32 cells)
{
    while (search->Seen < cells && search->SeenShards < EVICTION_MOST_SHARDS && search->Looked < EVICTION_MOST_LOOKED)
    {
        EvictionLookOn(search);
    }
}

// The more is found the shorter is the search.
static VOID EvictionSearchAtLimit(EVICTION_SEARCH *search)
{
    UINT32 cells;

    for (cells = EVICTION_WINDOW; cells <= EVICTION_FULL_WINDOW && !EvictionFoundSpare(search);
         cells += EVICTION_WINDOW)
    {
        EvictionSearchSome(search, cells);
    }
    for (; cells <= EVICTION_MOST_CELLS && search->Rank >= EVICTION_RANK_NEVER; cells += EVICTION_WINDOW)
    {
        EvictionSearchSome(search, cells);
    }
}

// ---- The removal

// Removes the connection that was found. FALSE: it was used, removed or replaced meanwhile.
static BOOLEAN EvictionRemoveVictim(EVICTION_SEARCH *search)
{
    CONNECTION_TABLE *table = search->Table;
    CONNECTION *victim = &search->Victim;
    CONNECTION_PLACE place;
    CONNECTION_CELL *cell;
    BOOLEAN removes;
    KIRQL irql;

    if (!victim->State.Ended && table->Removing != NULL)
    {
        victim->Life.EndReason = EndReasonEvicted;
        table->Removing(table->RemovingContext, victim);
    }
    ConnectionMapLocate(&table->Connections, &victim->Key, &place);
    irql = RwLockAcquireExclusive(&place.In.Shard->Lock);
    cell = ConnectionEntryFind(table, &place);
    removes = cell != NULL && cell->Generation == victim->State.Generation && !ConnectionEntryIsWaiting(cell) &&
              (ConnectionEntryHasEnded(cell) || table->Removing == NULL);
    if (removes)
    {
        EntryLifeRelease(table, place.Map, cell);
        ShardMapRemoveCell(place.Map, place.In.Shard, ConnectionEntryWords(place.Map, cell));
    }
    RwLockReleaseExclusive(&place.In.Shard->Lock, irql);
    return removes;
}

_Use_decl_annotations_
VOID EvictionRelieve(CONNECTION_TABLE *table, UINT32 newest)
{
    EVICTION_SEARCH search;
    UINT32 i;

    for (i = 0; i < EVICTION_RELIEF && EvictionIsDue(table); i++)
    {
        EvictionStart(&search, table);
        search.Newest = newest;
        EvictionSearchSome(&search, EVICTION_WINDOW);
        if (EvictionFoundSpare(&search) && EvictionRemoveVictim(&search))
        {
            ShardQuotaReturn(&table->Connections.Quota, 1);
        }
    }
}

_Use_decl_annotations_
BOOLEAN EvictionMakeRoom(CONNECTION_TABLE *table)
{
    EVICTION_SEARCH search;
    UINT32 i;

    for (i = 0; i < EVICTION_TRIES; i++)
    {
        EvictionStart(&search, table);
        EvictionSearchAtLimit(&search);
        if (search.Rank >= EVICTION_RANK_NEVER)
        {
            return FALSE;
        }
        if (EvictionRemoveVictim(&search))
        {
            return TRUE;
        }
    }
    return FALSE;
}

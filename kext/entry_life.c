#include "entry_life.h"

static UINT32 EntryLifeNextGeneration(CONNECTION_TABLE *table)
{
    LONG generation;

    do
    {
        generation = InterlockedIncrement(&table->LastGeneration);
    } while (generation == 0);
    return (UINT32)generation;
}

// Counts an entry of its owner and of its scope.
// Nearly all connections are of the default scope, which is always in use, so no counter is shared by all.
static VOID EntryLifeCount(CONNECTION_TABLE *table, const CONNECTION_CELL *cell, UINT16 owner, BOOLEAN inbound)
{
    OwnerSharesAdd(&table->Shares, owner, inbound);
    if (cell->Scope != SCOPE_DEFAULT)
    {
        InterlockedIncrement(&table->ScopeUses[cell->Scope]);
    }
}

// Undoes EntryLifeCount.
static VOID EntryLifeUncount(CONNECTION_TABLE *table, const CONNECTION_CELL *cell)
{
    OwnerSharesRemove(&table->Shares, ConnectionEntryCold(table, cell)->Owner, ConnectionEntryIsInbound(cell));
    if (cell->Scope != SCOPE_DEFAULT)
    {
        InterlockedDecrement(&table->ScopeUses[cell->Scope]);
    }
}

static VOID EntryLifeStartCold(CONNECTION_COLD *cold, const CONNECTION_PLACE *place, UINT32 generation, UINT16 owner)
{
    RtlZeroMemory(cold, sizeof(*cold));
    cold->Place = (UINT32)(place->In.Hash >> (64 - SHARD_MAP_SHIFT)) << CONNECTION_PLACE_INDEX_BITS |
                  ((UINT32)place->In.Hash & CONNECTION_PLACE_INDEX_MASK);
    cold->Generation = generation;
    cold->Owner = owner;
    ConnectionEntrySetStart(cold);
}

_Use_decl_annotations_
VOID EntryLifeStart(CONNECTION_TABLE *table, const CONNECTION_PLACE *place, const CONNECTION_KEY *key, UINT32 processId,
                    UINT8 direction, CONNECTION_CELL *cell)
{
    BOOLEAN inbound = direction == DirectionInbound;
    UINT16 owner = inbound ? OwnerSharesOfRemote(&table->Shares, key) : OwnerSharesOfProcess(&table->Shares, processId);
    CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);

    // The new one is counted first, so a scope in use never looks unused.
    EntryLifeCount(table, cell, owner, inbound);
    if (ConnectionEntryHasEnded(cell))
    {
        EntryLifeUncount(table, cell);
    }
    cell->Verdict = VerdictUndecided;
    cell->Flags = CELL_FLAG_IN_USE | (inbound ? CELL_FLAG_INBOUND : 0);
    cell->Generation = EntryLifeNextGeneration(table);
    cell->ProcessId = processId;
    WriteNoFence(&cell->Use, 0);
    ConnectionEntryTouch(table, cell, 0);
    EntryLifeStartCold(cold, place, cell->Generation, owner);
    ConnectionPortsLink(table, place->Map, cell);
}

_Use_decl_annotations_
VOID EntryLifeSetOwner(CONNECTION_TABLE *table, CONNECTION_CELL *cell, UINT16 owner)
{
    CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);
    BOOLEAN inbound = ConnectionEntryIsInbound(cell);

    OwnerSharesAdd(&table->Shares, owner, inbound);
    OwnerSharesRemove(&table->Shares, cold->Owner, inbound);
    cold->Owner = owner;
}

_Use_decl_annotations_
VOID EntryLifeEnd(CONNECTION_TABLE *table, const SHARD_MAP *map, CONNECTION_CELL *cell)
{
    ConnectionEntryTouch(table, cell, 0);
    cell->Flags |= CELL_FLAG_ENDED;
    ConnectionEntryCold(table, cell)->Handle = 0;
    ConnectionPortsUnlink(table, map, cell);
}

_Use_decl_annotations_
VOID EntryLifeRelease(CONNECTION_TABLE *table, const SHARD_MAP *map, CONNECTION_CELL *cell)
{
    if (!ConnectionEntryHasEnded(cell))
    {
        ConnectionPortsUnlink(table, map, cell);
    }
    EntryLifeUncount(table, cell);
    SlabReturn(&table->ColdParts, cell->Cold);
}

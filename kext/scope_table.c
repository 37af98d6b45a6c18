#include "scope_table.h"

#define SCOPE_COMPARTMENT_MASK 0xFFFFFFFFULL

static UINT64 ScopeIdentity(UINT32 interfaceIndex, COMPARTMENT_ID compartment)
{
    UINT32 known = compartment == UNSPECIFIED_COMPARTMENT_ID ? DEFAULT_COMPARTMENT_ID : compartment;

    return (UINT64)interfaceIndex << 32 | known;
}

static UINT64 ScopeTableIdentity(const SCOPE_TABLE *table, UINT32 scope)
{
    return scope == SCOPE_DEFAULT ? ScopeIdentity(0, DEFAULT_COMPARTMENT_ID)
                                  : (UINT64)ReadAcquire64(&table->Scopes[scope].Identity);
}

_Use_decl_annotations_
VOID ScopeTableInitialize(SCOPE_TABLE *table, const CLOCK *clock, CONNECTION_TABLE *connections)
{
    RtlZeroMemory(table, sizeof(*table));
    table->Clock = clock;
    table->Connections = connections;
    KeInitializeSpinLock(&table->Lock);
}

// ---- Finding and adding

static UINT8 ScopeTableSearch(const SCOPE_TABLE *table, UINT64 identity)
{
    UINT32 last = ScopeTableLast(table);
    UINT32 scope;

    for (scope = SCOPE_DEFAULT; scope <= last; scope++)
    {
        if (ScopeTableIdentity(table, scope) == identity)
        {
            return (UINT8)scope;
        }
    }
    return SCOPE_NONE;
}

// Marks a scope as used now. FALSE: it has given way meanwhile.
// ScopeTableGivesWay writes the identity, then reads the time. This function does both the other way round.
static BOOLEAN ScopeTableUse(SCOPE_TABLE *table, UINT8 scope, UINT64 identity)
{
    SCOPE *used = &table->Scopes[scope];
    LONG now = (LONG)ClockSeconds(table->Clock);

    if (ReadAcquire(&used->LastUse) != now)
    {
        InterlockedExchange(&used->LastUse, now);
    }
    return scope == SCOPE_DEFAULT || (UINT64)ReadAcquire64(&used->Identity) == identity;
}

// Frees a scope that nothing uses. The caller holds the lock.
static BOOLEAN ScopeTableGivesWay(SCOPE_TABLE *table, UINT8 scope)
{
    SCOPE *unused = &table->Scopes[scope];
    LONG lastUse = ReadNoFence(&unused->LastUse);
    LONG64 identity;

    if (ClockSeconds(table->Clock) - (UINT32)lastUse <= SCOPE_KEPT_SECONDS)
    {
        return FALSE;
    }
    identity = InterlockedExchange64(&unused->Identity, 0);
    if (ReadAcquire(&unused->LastUse) == lastUse && !ConnectionTableHasScope(table->Connections, scope))
    {
        return TRUE;
    }
    InterlockedExchange64(&unused->Identity, identity);
    return FALSE;
}

// Returns a scope without an identity. SCOPE_NONE: all are used. The caller holds the lock.
static UINT8 ScopeTableTakeFree(SCOPE_TABLE *table)
{
    UINT8 scope;

    if (table->Count < (LONG)SCOPE_NONE - 1)
    {
        return (UINT8)(table->Count + 1);
    }
    for (scope = SCOPE_DEFAULT + 1; scope < SCOPE_NONE; scope++)
    {
        if (ScopeTableGivesWay(table, scope))
        {
            break;
        }
    }
    return scope;
}

static UINT8 ScopeTableAdd(SCOPE_TABLE *table, UINT64 identity)
{
    UINT8 scope;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    scope = ScopeTableSearch(table, identity);
    if (scope == SCOPE_NONE)
    {
        scope = ScopeTableTakeFree(table);
    }
    if (scope != SCOPE_NONE)
    {
        (VOID) ScopeTableUse(table, scope, identity);
        if (ScopeTableIdentity(table, scope) != identity)
        {
            WriteNoFence64(&table->Scopes[scope].Luid, 0);
            InterlockedExchange64(&table->Scopes[scope].Identity, (LONG64)identity);
        }
        if (scope > table->Count)
        {
            InterlockedExchange(&table->Count, scope);
        }
    }
    KeReleaseSpinLock(&table->Lock, irql);
    return scope;
}

_Use_decl_annotations_
UINT8 ScopeTableFind(SCOPE_TABLE *table, const SCOPE_PLACE *place)
{
    UINT64 identity = ScopeIdentity(place->InterfaceIndex, place->Compartment);
    UINT8 scope = ScopeTableSearch(table, identity);

    if (scope == SCOPE_NONE || !ScopeTableUse(table, scope, identity))
    {
        scope = ScopeTableAdd(table, identity);
    }
    if (scope != SCOPE_NONE && place->InterfaceIndex != 0 && place->InterfaceLuid != 0 &&
        (UINT64)ReadNoFence64(&table->Scopes[scope].Luid) != place->InterfaceLuid)
    {
        WriteNoFence64(&table->Scopes[scope].Luid, (LONG64)place->InterfaceLuid);
    }
    return scope;
}

_Use_decl_annotations_
UINT8 ScopeTableWithoutLink(SCOPE_TABLE *table, UINT8 scope)
{
    SCOPE_PLACE place;

    if (scope == SCOPE_DEFAULT || scope == SCOPE_NONE)
    {
        return scope;
    }
    RtlZeroMemory(&place, sizeof(place));
    place.Compartment = (COMPARTMENT_ID)(ScopeTableIdentity(table, scope) & SCOPE_COMPARTMENT_MASK);
    return ScopeTableFind(table, &place);
}

// ---- Seeking

static BOOLEAN ScopeTableAgrees(const SCOPE_TABLE *table, UINT32 scope, const SCOPE_PLACE *place, BOOLEAN hasLink)
{
    UINT64 identity = ScopeTableIdentity(table, scope);
    UINT64 luid = (UINT64)ReadNoFence64(&table->Scopes[scope].Luid);

    return (place->Compartment == UNSPECIFIED_COMPARTMENT_ID ||
            (identity & SCOPE_COMPARTMENT_MASK) == (UINT32)place->Compartment) &&
           (!hasLink || luid == 0 || place->InterfaceLuid == 0 || luid == place->InterfaceLuid);
}

_Use_decl_annotations_
UINT8 ScopeTableSeek(SCOPE_TABLE *table, const CONNECTION_KEY *key, const SCOPE_PLACE *place, UINT64 handle)
{
    UINT32 last = ScopeTableLast(table);
    BOOLEAN hasLink = ScopeHasLink(key);
    CONNECTION_KEY sought = *key;
    UINT8 found = SCOPE_NONE;
    CONNECTION connection;
    UINT32 scope;

    for (scope = SCOPE_DEFAULT; scope <= last; scope++)
    {
        sought.Scope = (UINT8)scope;
        if (!ScopeTableAgrees(table, scope, place, hasLink) ||
            !ConnectionTableCopyLive(table->Connections, &sought, &connection))
        {
            continue;
        }
        if (handle != 0 && connection.Life.Handle == handle)
        {
            return (UINT8)scope;
        }
        found = found == SCOPE_NONE ? (UINT8)scope : found;
    }
    return found;
}

_Use_decl_annotations_
VOID ScopeTableSpare(const SCOPE_TABLE *table, const SCOPE_PLACE *place, BOOLEAN hasLink, UINT64 *spared)
{
    UINT32 last = ScopeTableLast(table);
    UINT32 scope;

    for (scope = SCOPE_DEFAULT; scope <= last; scope++)
    {
        if (!ScopeTableAgrees(table, scope, place, hasLink))
        {
            spared[scope / 64] |= 1ULL << (scope % 64);
        }
    }
}

#include "redirect_table.h"

#define REDIRECT_KEY_WORDS  5u
#define REDIRECT_CELL_BYTES 128u

typedef struct _REDIRECT_CELL
{
    UINT64 Target[REDIRECT_KEY_WORDS]; // see RedirectTableLocate
    CONNECTION_KEY Original;
    volatile LONG LastUse; // ClockSeconds of the last use; readers write it too
    UINT8 Padding[REDIRECT_CELL_BYTES - 2 * sizeof(CONNECTION_KEY) - sizeof(LONG)];
} REDIRECT_CELL;

// A redirected connection is of TCP or UDP, whose numbers leave this bit to the IP version.
#define REDIRECT_KEY_V6 0x80u

static_assert(sizeof(REDIRECT_CELL) == REDIRECT_CELL_BYTES &&
                  FIELD_OFFSET(CONNECTION_KEY, IpVersion) == REDIRECT_KEY_WORDS * sizeof(UINT64) - 2,
              "the key ends where the flags start");

// The last two bytes of a cell's key are its flags, so the IP version goes into the protocol.
static VOID RedirectTableLocate(const REDIRECT_TABLE *table, const CONNECTION_KEY *target, SHARD_PLACE *place)
{
    CONNECTION_KEY key = *target;

    key.Protocol = (UINT8)(key.Protocol | (key.IpVersion == 6 ? REDIRECT_KEY_V6 : 0));
    key.IpVersion = 0;
    key.Reserved = 0;
    RtlCopyMemory(place->Key, &key, sizeof(place->Key));
    ShardMapLocate(&table->Targets, place, REDIRECT_KEY_WORDS);
}

_Use_decl_annotations_
NTSTATUS RedirectTableInitialize(REDIRECT_TABLE *table, MEMORY *memory, const CLOCK *clock, UINT64 maxEntries)
{
    table->Clock = clock;
    table->Quota.Most = (LONG64)maxEntries;
    table->Quota.Count = 0;
    return ShardMapInitialize(&table->Targets, memory, &table->Quota, REDIRECT_KEY_WORDS, REDIRECT_CELL_BYTES);
}

_Use_decl_annotations_
VOID RedirectTableUninitialize(REDIRECT_TABLE *table)
{
    ShardMapUninitialize(&table->Targets);
}

// Finds a cell and marks it as used now. The caller holds the shard's lock.
static REDIRECT_CELL *RedirectTableUse(const REDIRECT_TABLE *table, const SHARD_PLACE *place)
{
    REDIRECT_CELL *cell = (REDIRECT_CELL *)ShardFind(place, REDIRECT_KEY_WORDS, REDIRECT_CELL_BYTES);
    LONG now = (LONG)ClockSeconds(table->Clock);

    if (cell != NULL && ReadNoFence(&cell->LastUse) != now)
    {
        WriteNoFence(&cell->LastUse, now);
    }
    return cell;
}

static BOOLEAN RedirectTableRead(const REDIRECT_TABLE *table, const SHARD_PLACE *place, CONNECTION_KEY *original)
{
    KIRQL irql = RwLockAcquireShared(&place->Shard->Lock);
    const REDIRECT_CELL *cell = RedirectTableUse(table, place);

    if (cell != NULL)
    {
        *original = cell->Original;
    }
    RwLockReleaseShared(&place->Shard->Lock, irql);
    return cell != NULL;
}

_Use_decl_annotations_
BOOLEAN RedirectTableFind(REDIRECT_TABLE *table, const CONNECTION_KEY *target, CONNECTION_KEY *original)
{
    SHARD_PLACE place;

    RedirectTableLocate(table, target, &place);
    return RedirectTableRead(table, &place, original);
}

// The caller holds the shard's lock.
static NTSTATUS RedirectTableTryStore(REDIRECT_TABLE *table, SHARD_PLACE *place, SHARD_GROWTH *growth,
                                      const CONNECTION_KEY *original)
{
    REDIRECT_CELL *cell = RedirectTableUse(table, place);
    NTSTATUS status = STATUS_SUCCESS;

    if (cell == NULL)
    {
        status = ShardMapStartCell(&table->Targets, place, growth, (UINT64 **)&cell);
        if (!NT_SUCCESS(status))
        {
            return status;
        }
        cell->LastUse = (LONG)ClockSeconds(table->Clock);
    }
    cell->Original = *original;
    return status;
}

_Use_decl_annotations_
NTSTATUS RedirectTableNote(REDIRECT_TABLE *table, const CONNECTION_KEY *target, const CONNECTION_KEY *original)
{
    SHARD_GROWTH growth = {NULL, 0, FALSE, FALSE, FALSE};
    CONNECTION_KEY noted;
    SHARD_PLACE place;

    RedirectTableLocate(table, target, &place);
    if (RedirectTableRead(table, &place, &noted) && ConnectionKeysEqual(&noted, original))
    {
        return STATUS_SUCCESS;
    }
    for (;;)
    {
        KIRQL irql = RwLockAcquireExclusive(&place.Shard->Lock);
        NTSTATUS status = RedirectTableTryStore(table, &place, &growth, original);

        RwLockReleaseExclusive(&place.Shard->Lock, irql);
        if (status != STATUS_RETRY)
        {
            MemoryFree(table->Targets.Memory, growth.Array);
            return status;
        }
        ShardMapBringGrowth(&table->Targets, &growth);
    }
}

typedef struct _REDIRECT_CLEANING
{
    const CLOCK *Clock;
    UINT32 WaitSeconds; // until an entry that stays may be removed
} REDIRECT_CLEANING;

static UINT8 RedirectTableIsIdle(VOID *context, UINT64 *cell)
{
    REDIRECT_CLEANING *cleaning = (REDIRECT_CLEANING *)context;
    UINT32 age = ClockSeconds(cleaning->Clock) - (UINT32)ReadNoFence(&((REDIRECT_CELL *)cell)->LastUse);
    UINT32 wait = CONNECTION_IDLE_SECONDS + 1 - age;

    if (age > CONNECTION_IDLE_SECONDS)
    {
        return SHARD_VISIT_REMOVE;
    }
    cleaning->WaitSeconds = wait < cleaning->WaitSeconds ? wait : cleaning->WaitSeconds;
    return SHARD_VISIT_KEEP;
}

_Use_decl_annotations_
UINT64 RedirectTableClean(REDIRECT_TABLE *table, UINT32 *waitSeconds)
{
    REDIRECT_CLEANING cleaning;
    UINT64 removed = 0;

    cleaning.Clock = table->Clock;
    cleaning.WaitSeconds = MAXUINT32;
    if (RedirectTableCount(table) != 0)
    {
        removed = ShardMapVisit(&table->Targets, RedirectTableIsIdle, NULL, &cleaning);
    }
    if (waitSeconds != NULL)
    {
        *waitSeconds = cleaning.WaitSeconds;
    }
    return removed;
}

_Use_decl_annotations_
VOID RedirectTableClear(REDIRECT_TABLE *table)
{
    ShardMapFreeTaken(&table->Targets, ShardMapTakeAll(&table->Targets));
}

_Use_decl_annotations_
UINT64 RedirectTableCount(const REDIRECT_TABLE *table)
{
    return ShardQuotaCount(&table->Quota);
}

_Use_decl_annotations_
UINT64 RedirectTableBytes(REDIRECT_TABLE *table)
{
    return ShardMapBytes(&table->Targets);
}

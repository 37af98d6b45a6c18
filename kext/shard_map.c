#include "shard_map.h"

// The smallest array of a shard has this many cells, free ones included.
// A map with few entries has about one entry in each shard, so its arrays stay this small.
#define SHARD_LEAST_CELLS 4u

// An array grows when more than 5/8 full. So a lookup reads fewer than two cells on average, adjacent in memory.
#define SHARD_FULL_NUMERATOR   5u
#define SHARD_FULL_DENOMINATOR 8u

// An array shrinks when less than 1/8 full, which is far from growing again.
#define SHARD_SPARSE_DENOMINATOR 8u

// Cells that a visit looks at before it releases the lock for others.
#define SHARD_VISIT_CELLS 256u

// Shards without an array that a walk passes before it lowers the IRQL. To change it costs more than the look.
#define SHARD_PASSED_AT_ONCE 64u

static BOOLEAN ShardIsCrowded(UINT32 count, UINT32 cells)
{
    return (UINT64)count * SHARD_FULL_DENOMINATOR > (UINT64)cells * SHARD_FULL_NUMERATOR;
}

static BOOLEAN ShardIsSparse(UINT32 count, UINT32 cells)
{
    return cells > SHARD_LEAST_CELLS && (UINT64)count * SHARD_SPARSE_DENOMINATOR < cells;
}

// Returns the number of cells that makes an array with `count` entries between a quarter and half full.
static UINT32 ShardFittingCells(UINT32 count)
{
    UINT32 cells = SHARD_LEAST_CELLS;

    while (cells < count * 2)
    {
        cells *= 2;
    }
    return cells;
}

static BOOLEAN ShardIsCellInUse(const SHARD_MAP *map, const UINT64 *cell)
{
    return (cell[map->KeyWords - 1] & SHARD_CELL_IN_USE) != 0;
}

// Returns the low bits of the hash, which choose the cell.
static UINT32 ShardHashOfCell(const SHARD_MAP *map, const UINT64 *cell)
{
    UINT64 key[SHARD_MAX_KEY_WORDS];

    RtlCopyMemory(key, cell, map->KeyWords * sizeof(UINT64));
    key[map->KeyWords - 1] &= SHARD_KEY_MASK;
    return (UINT32)SipHash13OfWords(&map->HashKey, key, map->KeyWords);
}

static UINT64 *ShardFindFree(const SHARD_MAP *map, const SHARD *shard, UINT32 hash)
{
    UINT64 *cell;

    do
    {
        cell = ShardCellAt(shard->Array, hash & (shard->CellCount - 1), map->CellBytes);
        hash++;
    } while (ShardIsCellInUse(map, cell));
    return cell;
}

static SHARD_ARRAY *ShardAllocateArray(SHARD_MAP *map, UINT32 cellCount)
{
    SHARD_ARRAY *array = (SHARD_ARRAY *)MemoryAllocateCacheAligned(map->Memory, sizeof(SHARD_ARRAY) +
                                                                                    (SIZE_T)cellCount * map->CellBytes);

    if (array != NULL)
    {
        array->CellCount = cellCount;
    }
    return array;
}

// Moves all cells into `array`, which is empty and large enough. Returns the old array.
static SHARD_ARRAY *ShardReplaceArray(const SHARD_MAP *map, SHARD *shard, SHARD_ARRAY *array)
{
    SHARD_ARRAY *old = shard->Array;
    UINT32 oldCount = shard->CellCount;
    UINT32 i;

    shard->Array = array;
    shard->CellCount = array->CellCount;
    for (i = 0; i < oldCount; i++)
    {
        const UINT64 *cell = ShardCellAt(old, i, map->CellBytes);

        if (ShardIsCellInUse(map, cell))
        {
            RtlCopyMemory(ShardFindFree(map, shard, ShardHashOfCell(map, cell)), cell, map->CellBytes);
        }
    }
    return old;
}

// Removes a cell and leaves no tombstone: cells behind the hole that were pushed out of their place move back.
static VOID ShardRemove(const SHARD_MAP *map, SHARD *shard, UINT32 index)
{
    UINT64 *hole = ShardCellAt(shard->Array, index, map->CellBytes);
    UINT32 mask = shard->CellCount - 1;
    UINT32 holeIndex = index;
    UINT32 steps;

    for (steps = 0; steps < mask; steps++)
    {
        UINT64 *next;

        index = (index + 1) & mask;
        next = ShardCellAt(shard->Array, index, map->CellBytes);
        if (!ShardIsCellInUse(map, next))
        {
            break;
        }
        if (((index - ShardHashOfCell(map, next)) & mask) >= ((index - holeIndex) & mask))
        {
            RtlCopyMemory(hole, next, map->CellBytes);
            hole = next;
            holeIndex = index;
        }
    }
    hole[map->KeyWords - 1] = 0;
    shard->Count--;
}

_Use_decl_annotations_
NTSTATUS ShardMapInitialize(SHARD_MAP *map, MEMORY *memory, SHARD_QUOTA *quota, UINT32 keyWords, UINT32 cellBytes)
{
    UINT32 i;

    map->Memory = memory;
    map->Quota = quota;
    map->KeyWords = keyWords;
    map->CellBytes = cellBytes;
    SipHashKeyInitialize(&map->HashKey);
    map->Shards = (SHARD *)MemoryAllocateCacheAligned(memory, SHARD_MAP_SHARDS * sizeof(SHARD));
    if (map->Shards == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (i = 0; i < SHARD_MAP_SHARDS; i++)
    {
        RwLockInitialize(&map->Shards[i].Lock);
        map->Shards[i].FirstCellCount = SHARD_LEAST_CELLS;
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID ShardMapUninitialize(SHARD_MAP *map)
{
    ShardMapFreeTaken(map, ShardMapTakeAll(map));
    MemoryFree(map->Memory, map->Shards);
    map->Shards = NULL;
}

// ---- Insertion

_Use_decl_annotations_
NTSTATUS ShardMapStartCell(SHARD_MAP *map, SHARD_PLACE *place, SHARD_GROWTH *growth, UINT64 **cell)
{
    SHARD *shard = place->Shard;

    if (growth->IsNew && growth->Array->CellCount > shard->CellCount)
    {
        growth->Array = ShardReplaceArray(map, shard, growth->Array);
        growth->IsNew = FALSE;
    }
    if (ShardIsCrowded(shard->Count + 1, shard->CellCount) && !growth->Failed)
    {
        growth->CellCount = shard->CellCount != 0 ? shard->CellCount * 2 : shard->FirstCellCount;
        return STATUS_RETRY;
    }
    if (shard->Count == shard->CellCount)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (!growth->HasSlot && !ShardQuotaTake(map->Quota))
    {
        return STATUS_QUOTA_EXCEEDED;
    }
    growth->HasSlot = FALSE;
    *cell = ShardFindFree(map, shard, (UINT32)place->Hash);
    RtlCopyMemory(*cell, place->Key, map->KeyWords * sizeof(UINT64));
    (*cell)[map->KeyWords - 1] |= SHARD_CELL_IN_USE;
    shard->Count++;
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID ShardMapBringGrowth(SHARD_MAP *map, SHARD_GROWTH *growth)
{
    MemoryFree(map->Memory, growth->Array);
    growth->Array = ShardAllocateArray(map, growth->CellCount);
    growth->IsNew = growth->Array != NULL;
    growth->Failed = growth->Array == NULL;
}

// ---- Removal

_Use_decl_annotations_
VOID ShardMapRemoveCell(SHARD_MAP *map, SHARD *shard, const UINT64 *cell)
{
    SIZE_T offset = (SIZE_T)((const UINT8 *)cell - (const UINT8 *)(shard->Array + 1));

    ShardRemove(map, shard, (UINT32)(offset / map->CellBytes));
}

static UINT32 ShardVisitSome(SHARD_MAP *map, SHARD *shard, UINT32 index, SHARD_VISITOR visitor, VOID *context)
{
    UINT32 cells = shard->CellCount;
    UINT32 steps;

    for (steps = 0; steps < SHARD_VISIT_CELLS && index < cells; steps++)
    {
        UINT64 *cell = ShardCellAt(shard->Array, index, map->CellBytes);
        UINT8 result = ShardIsCellInUse(map, cell) ? visitor(context, cell) : (UINT8)SHARD_VISIT_KEEP;

        if (result == SHARD_VISIT_PAUSE)
        {
            break;
        }
        if (result == SHARD_VISIT_REMOVE)
        {
            ShardRemove(map, shard, index); // another cell may be at this index now
        }
        else
        {
            index++;
        }
    }
    return index;
}

static UINT64 ShardVisit(SHARD_MAP *map, SHARD *shard, SHARD_VISITOR visitor, SHARD_PAUSE pause, VOID *context)
{
    UINT64 removed = 0;
    UINT32 index = 0;
    UINT32 cells = 0;

    do
    {
        KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
        UINT32 before = shard->Count;

        if (shard->CellCount != cells)
        {
            cells = shard->CellCount; // every cell may be somewhere else now
            index = 0;
        }
        index = ShardVisitSome(map, shard, index, visitor, context);
        removed += before - shard->Count;
        RwLockReleaseExclusive(&shard->Lock, irql);
        if (pause != NULL)
        {
            pause(context);
        }
    } while (index < cells);
    return removed;
}

// Frees the array of an empty shard. A sparse shard gets a smaller array, or keeps its array if there is no memory.
static VOID ShardShrink(SHARD_MAP *map, SHARD *shard)
{
    KIRQL irql = RwLockAcquireShared(&shard->Lock);
    UINT32 count = shard->Count;
    UINT32 cells = shard->CellCount;
    SHARD_ARRAY *smaller = NULL;
    SHARD_ARRAY *old = NULL;

    RwLockReleaseShared(&shard->Lock, irql);
    if (cells == 0 || (count != 0 && !ShardIsSparse(count, cells)))
    {
        return;
    }
    if (count != 0)
    {
        smaller = ShardAllocateArray(map, ShardFittingCells(count));
    }

    irql = RwLockAcquireExclusive(&shard->Lock);
    if (shard->Count == 0)
    {
        old = shard->Array;
        shard->Array = NULL;
        shard->CellCount = 0;
        shard->FirstCellCount = SHARD_LEAST_CELLS;
    }
    else if (smaller != NULL && smaller->CellCount < shard->CellCount &&
             !ShardIsCrowded(shard->Count, smaller->CellCount))
    {
        old = ShardReplaceArray(map, shard, smaller);
        smaller = NULL;
    }
    RwLockReleaseExclusive(&shard->Lock, irql);
    MemoryFree(map->Memory, smaller);
    MemoryFree(map->Memory, old);
}

// A shard without an array that does not remember a larger one.
static BOOLEAN ShardIsUnused(SHARD *shard)
{
    BOOLEAN isUnused;

    RwLockAcquireSharedAtDpcLevel(&shard->Lock);
    isUnused = shard->CellCount == 0 && shard->FirstCellCount == SHARD_LEAST_CELLS;
    RwLockReleaseSharedFromDpcLevel(&shard->Lock);
    return isUnused;
}

// Returns the first shard from `index` on that may be in use, or SHARD_MAP_SHARDS.
static UINT32 ShardMapPassUnused(SHARD_MAP *map, UINT32 index)
{
    UINT32 end = SHARD_MAP_SHARDS - index > SHARD_PASSED_AT_ONCE ? index + SHARD_PASSED_AT_ONCE : SHARD_MAP_SHARDS;
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    while (index < end && ShardIsUnused(&map->Shards[index]))
    {
        index++;
    }
    KeLowerIrql(irql);
    return index;
}

_Use_decl_annotations_
UINT64 ShardMapVisit(SHARD_MAP *map, SHARD_VISITOR visitor, SHARD_PAUSE pause, VOID *context)
{
    UINT64 removed = 0;
    UINT32 i;

    for (i = ShardMapPassUnused(map, 0); i < SHARD_MAP_SHARDS; i = ShardMapPassUnused(map, i + 1))
    {
        UINT64 ofShard = ShardVisit(map, &map->Shards[i], visitor, pause, context);

        ShardQuotaReturn(map->Quota, ofShard);
        removed += ofShard;
        ShardShrink(map, &map->Shards[i]);
    }
    return removed;
}

_Use_decl_annotations_
SHARD_ARRAY *ShardMapTakeAll(SHARD_MAP *map)
{
    SHARD_ARRAY *taken = NULL;
    UINT32 i;

    for (i = ShardMapPassUnused(map, 0); i < SHARD_MAP_SHARDS; i = ShardMapPassUnused(map, i + 1))
    {
        SHARD *shard = &map->Shards[i];
        KIRQL irql = RwLockAcquireExclusive(&shard->Lock);
        SHARD_ARRAY *array = shard->Array;
        UINT32 count = shard->Count;

        shard->Array = NULL;
        shard->CellCount = 0;
        shard->Count = 0;
        shard->FirstCellCount = ShardFittingCells(count);
        RwLockReleaseExclusive(&shard->Lock, irql);
        if (array != NULL)
        {
            ShardQuotaReturn(map->Quota, count);
            array->Next = taken;
            taken = array;
        }
    }
    return taken;
}

_Use_decl_annotations_
UINT64 *ShardMapNextTaken(const SHARD_MAP *map, SHARD_CURSOR *cursor)
{
    while (cursor->Array != NULL)
    {
        for (; cursor->Index < cursor->Array->CellCount; cursor->Index++)
        {
            UINT64 *cell = ShardCellAt(cursor->Array, cursor->Index, map->CellBytes);

            if (ShardIsCellInUse(map, cell))
            {
                cursor->Index++;
                return cell;
            }
        }
        cursor->Array = cursor->Array->Next;
        cursor->Index = 0;
    }
    return NULL;
}

_Use_decl_annotations_
VOID ShardMapFreeTaken(SHARD_MAP *map, SHARD_ARRAY *taken)
{
    while (taken != NULL)
    {
        SHARD_ARRAY *next = taken->Next;

        MemoryFree(map->Memory, taken);
        taken = next;
    }
}

_Use_decl_annotations_
UINT64 ShardMapBytes(SHARD_MAP *map)
{
    UINT64 bytes = SHARD_MAP_SHARDS * sizeof(SHARD);
    UINT32 i;

    for (i = ShardMapPassUnused(map, 0); i < SHARD_MAP_SHARDS; i = ShardMapPassUnused(map, i + 1))
    {
        SHARD *shard = &map->Shards[i];
        KIRQL irql = RwLockAcquireShared(&shard->Lock);

        bytes += shard->CellCount != 0 ? sizeof(SHARD_ARRAY) + (UINT64)shard->CellCount * map->CellBytes : 0;
        RwLockReleaseShared(&shard->Lock, irql);
    }
    return bytes;
}

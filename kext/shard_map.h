// A hash map in shards: fixed-size cells, found by a key at their start.
//
// The high bits of a keyed hash choose one of SHARD_MAP_SHARDS shards.
// Each shard is one cache line: a reader-writer lock and the address of its own open-addressed array.
// The low bits of the hash choose a cell of the array. Probing is linear.
// So a lookup costs one shared lock and, in a large map, one cache miss. Growing moves the cells of one shard only.
//
// A cell is an array of 8-byte words. The key fills the first words, except the last two bytes of its last word.
// The first of those two bytes is free for the owner of the map.
// The second byte holds flags: the highest marks a cell in use, and the others are free for the owner of the map.
// The hash is not stored.
//
// The caller holds the shard's lock as long as it has a pointer to a cell.
// Memory is allocated and freed with no lock held.
// An inline function of this header takes the sizes of key and cell as constants.

#pragma once

#include "memory.h"
#include "rw_lock.h"
#include "siphash.h"

EXTERN_C_START

#define SHARD_MAP_SHIFT  (10 - PLATFORM_TABLE_SHRINK)
#define SHARD_MAP_SHARDS (1u << SHARD_MAP_SHIFT)

// Words of the longest key.
#define SHARD_MAX_KEY_WORDS 5u

// Masks of the last word of a key: the bytes of the key, and the flag that marks a cell in use.
#define SHARD_KEY_MASK    0x0000FFFFFFFFFFFFULL
#define SHARD_CELL_IN_USE 0x8000000000000000ULL

/// An array of cells, which follow this header.
typedef struct _SHARD_ARRAY
{
    struct _SHARD_ARRAY *Next; ///< next array that was taken out of the map
    UINT32 CellCount;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(PVOID) - sizeof(UINT32)];
} SHARD_ARRAY;

static_assert(sizeof(SHARD_ARRAY) == PLATFORM_CACHE_LINE, "the cells behind it stay aligned");

typedef struct _SHARD
{
    RW_LOCK Lock;
    UINT32 CellCount; ///< cells of the array: a power of two, or 0
    UINT32 Count;
    UINT32 FirstCellCount; ///< cells of the next array, while there is no array
    SHARD_ARRAY *Array;    ///< NULL: none
    UINT32 Hand;           ///< where the owner of the map goes on when it looks at cells in turn
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(RW_LOCK) - 4 * sizeof(UINT32) - sizeof(PVOID)];
} SHARD;

static_assert(sizeof(SHARD) == PLATFORM_CACHE_LINE, "shards must not share a line");

/// How many cells one or several maps may have in use together.
typedef struct _SHARD_QUOTA
{
    volatile LONG64 Most;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Count;
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} SHARD_QUOTA;

typedef struct _SHARD_MAP
{
    MEMORY *Memory;
    SHARD_QUOTA *Quota;
    SHARD *Shards;
    SIPHASH_KEY HashKey;
    UINT32 KeyWords;
    UINT32 CellBytes;
} SHARD_MAP;

/// A key, and where it belongs.
typedef struct _SHARD_PLACE
{
    UINT64 Key[SHARD_MAX_KEY_WORDS]; ///< the last two bytes are 0
    UINT64 Hash;
    SHARD *Shard;
} SHARD_PLACE;

/// What an insertion brings along: a larger array, or the smaller one that it takes back, and a slot of the quota.
typedef struct _SHARD_GROWTH
{
    SHARD_ARRAY *Array;
    UINT32 CellCount; ///< cells of the array that is wanted
    BOOLEAN IsNew;    ///< TRUE: Array still has to go into the shard
    BOOLEAN Failed;   ///< there was no memory: the shard takes cells until it is full
    BOOLEAN HasSlot;  ///< a cell that was removed has left its slot to this insertion
} SHARD_GROWTH;

/// A place among the cells of arrays that ShardMapTakeAll returned. Starts with the first array and 0.
typedef struct _SHARD_CURSOR
{
    SHARD_ARRAY *Array;
    UINT32 Index;
} SHARD_CURSOR;

// What a visitor returns.
#define SHARD_VISIT_KEEP   0u
#define SHARD_VISIT_REMOVE 1u ///< the caller removes the cell
#define SHARD_VISIT_PAUSE  2u ///< the caller releases the lock, and visits this cell again after the pause

/// Called for one cell in use, with the shard's lock held exclusively.
typedef UINT8 (*SHARD_VISITOR)(_Inout_opt_ VOID *context, _Inout_ UINT64 *cell);

/// Called between visits, with no lock held.
typedef VOID (*SHARD_PAUSE)(_Inout_opt_ VOID *context);

/// Makes an empty map. STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ShardMapInitialize(_Out_ SHARD_MAP *map, _Inout_ MEMORY *memory, _Inout_ SHARD_QUOTA *quota,
                            _In_ UINT32 keyWords, _In_ UINT32 cellBytes);

/// Frees everything. Nobody else may be using the map.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ShardMapUninitialize(_Inout_ SHARD_MAP *map);

/// Starts a cell for a key that the shard does not have. The caller holds the lock exclusively.
/// The new cell has its key. The bytes behind the key are zero or old content.
/// STATUS_RETRY: release the lock, call ShardMapBringGrowth, look for the key again and come back.
/// STATUS_QUOTA_EXCEEDED, STATUS_INSUFFICIENT_RESOURCES: there is no room.
_IRQL_requires_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ShardMapStartCell(_Inout_ SHARD_MAP *map, _Inout_ SHARD_PLACE *place, _Inout_ SHARD_GROWTH *growth,
                           _Outptr_ UINT64 **cell);

/// Allocates the array that ShardMapStartCell wants. No lock is held.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ShardMapBringGrowth(_Inout_ SHARD_MAP *map, _Inout_ SHARD_GROWTH *growth);

/// Removes a cell of a shard, whose lock the caller holds exclusively. The caller gets the cell's slot of the quota.
_IRQL_requires_(DISPATCH_LEVEL)
VOID ShardMapRemoveCell(_Inout_ SHARD_MAP *map, _Inout_ SHARD *shard, _In_ const UINT64 *cell);

/// Calls `visitor` for every cell, some cells under one lock, and removes those that it wants removed.
/// A cell may be visited more than once. At the end memory is given back.
/// `pause` is called after each lock, also after the last one. NULL: nothing is.
/// Returns how many cells were removed.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ShardMapVisit(_Inout_ SHARD_MAP *map, _In_ SHARD_VISITOR visitor, _In_opt_ SHARD_PAUSE pause,
                     _Inout_opt_ VOID *context);

/// Takes all arrays out of the map, which is empty then.
/// A cell that is added during the call is in one of the arrays or in the map.
_IRQL_requires_max_(DISPATCH_LEVEL)
SHARD_ARRAY *ShardMapTakeAll(_Inout_ SHARD_MAP *map);

/// Returns the next cell in use of the arrays that were taken, or NULL. Any IRQL.
UINT64 *ShardMapNextTaken(_In_ const SHARD_MAP *map, _Inout_ SHARD_CURSOR *cursor);

/// Frees the arrays that were taken.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ShardMapFreeTaken(_Inout_ SHARD_MAP *map, _In_opt_ SHARD_ARRAY *taken);

/// Pool bytes of the map now. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ShardMapBytes(_Inout_ SHARD_MAP *map);

FORCEINLINE UINT64 *ShardCellAt(_In_ SHARD_ARRAY *array, _In_ UINT32 index, _In_ UINT32 cellBytes)
{
    return (UINT64 *)((UINT8 *)(array + 1) + (SIZE_T)index * cellBytes);
}

/// Fills in the hash and the shard of a place that has its key.
FORCEINLINE VOID ShardMapLocate(_In_ const SHARD_MAP *map, _Inout_ SHARD_PLACE *place, _In_ UINT32 keyWords)
{
    place->Hash = SipHash13OfWords(&map->HashKey, place->Key, keyWords);
    place->Shard = &map->Shards[place->Hash >> (64 - SHARD_MAP_SHIFT)];
}

/// TRUE if the cell is in use and has this key. Compares the last words first, where most keys of a map differ.
FORCEINLINE BOOLEAN ShardCellHasKey(_In_ const UINT64 *cell, _In_ const UINT64 *key, _In_ UINT32 keyWords)
{
    UINT64 difference = 0;
    UINT32 i;

    if (((cell[keyWords - 1] ^ key[keyWords - 1]) & (SHARD_KEY_MASK | SHARD_CELL_IN_USE)) != SHARD_CELL_IN_USE)
    {
        return FALSE;
    }
    for (i = 0; i + 1 < keyWords; i++)
    {
        difference |= cell[i] ^ key[i];
    }
    return difference == 0;
}

/// Returns the cell with the key of `place`, or NULL. The caller holds the shard's lock.
FORCEINLINE UINT64 *ShardFind(_In_ const SHARD_PLACE *place, _In_ UINT32 keyWords, _In_ UINT32 cellBytes)
{
    const SHARD *shard = place->Shard;
    UINT32 index = (UINT32)place->Hash;
    UINT32 mask = shard->CellCount - 1;
    UINT32 last = index + mask;

    if (shard->CellCount == 0)
    {
        return NULL;
    }
    for (;; index++)
    {
        UINT64 *cell = ShardCellAt(shard->Array, index & mask, cellBytes);

        if (ShardCellHasKey(cell, place->Key, keyWords))
        {
            return cell;
        }
        // A full array has no free cell that ends the probing.
        if ((cell[keyWords - 1] & SHARD_CELL_IN_USE) == 0 || index == last)
        {
            return NULL;
        }
    }
}

/// Takes a slot. FALSE: there is none. Any IRQL.
FORCEINLINE BOOLEAN ShardQuotaTake(_Inout_ SHARD_QUOTA *quota)
{
    if (InterlockedIncrement64(&quota->Count) <= ReadNoFence64(&quota->Most))
    {
        return TRUE;
    }
    InterlockedDecrement64(&quota->Count);
    return FALSE;
}

/// Gives `count` slots back. Any IRQL.
FORCEINLINE VOID ShardQuotaReturn(_Inout_ SHARD_QUOTA *quota, _In_ UINT64 count)
{
    InterlockedExchangeAdd64(&quota->Count, -(LONG64)count);
}

/// Cells in use now. Any IRQL.
FORCEINLINE UINT64 ShardQuotaCount(_In_ const SHARD_QUOTA *quota)
{
    return (UINT64)ReadNoFence64(&quota->Count);
}

EXTERN_C_END

// A bounded set of recent pairs of a key and a value. The oldest pairs make room for new ones.
//
// The key chooses one of a fixed number of sets, so it must be the result of a keyed hash.
// Each set has a spin lock, a leaf, and keeps its newest pairs in the order in which they came.
//
// The memory comes with RecentSetAllocate and stays until RecentSetUninitialize. A set without memory keeps nothing.

#pragma once

#include "memory.h"

EXTERN_C_START

typedef struct _RECENT_SET
{
    MEMORY *Memory;
    UINT32 SetCount;
    UINT32 PairsPerSet;
    volatile LONG64 Sets; ///< address of the first set; 0: no memory yet
} RECENT_SET;

/// Makes a set without memory. `pairsPerSet`: most pairs whose keys choose the same set.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RecentSetInitialize(_Out_ RECENT_SET *recent, _Inout_ MEMORY *memory, _In_ UINT32 setCount,
                         _In_ UINT32 pairsPerSet);

/// Frees everything. Nobody else may be using the set.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RecentSetUninitialize(_Inout_ RECENT_SET *recent);

/// Gives the set its memory. Does nothing if it has memory already, or if the pool has none.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RecentSetAllocate(_Inout_ RECENT_SET *recent);

/// TRUE once the set has memory. Any IRQL.
BOOLEAN RecentSetIsAllocated(_In_ const RECENT_SET *recent);

/// Adds a pair, also beside others with the same key.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RecentSetAdd(_Inout_ RECENT_SET *recent, _In_ UINT64 key, _In_ UINT64 value);

/// Reads the value of the newest pair with this key. FALSE: there is none.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN RecentSetFind(_Inout_ RECENT_SET *recent, _In_ UINT64 key, _Out_ UINT64 *value);

/// Reads and removes the newest pair with this key. FALSE: there is none. Only one caller takes a pair.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN RecentSetTake(_Inout_ RECENT_SET *recent, _In_ UINT64 key, _Out_ UINT64 *value);

/// Removes every pair.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RecentSetClear(_Inout_ RECENT_SET *recent);

/// Counts the pairs with a value of at least `least`. Walks the sets.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 RecentSetCount(_Inout_ RECENT_SET *recent, _In_ UINT64 least);

/// Pool bytes of the set now. Any IRQL.
UINT64 RecentSetBytes(_In_ const RECENT_SET *recent);

EXTERN_C_END

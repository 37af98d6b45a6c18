// Finds who has most of something in constant time, however many have it.
//
// Each amount has a rank. The ranks of amounts below 16 are exact.
// A greater amount shares its rank with amounts that differ from it by less than an eighth.
// The caller serializes all calls.

#pragma once

#include "platform.h"

EXTERN_C_START

#define RANKING_RANKS 256u

/// One who has an amount of something. All zero: nothing.
typedef struct _RANKED
{
    LIST_ENTRY Link; ///< the ranking's own, while the amount is not 0
    UINT64 Amount;
    UINT32 Rank;
} RANKED;

typedef struct _RANKING
{
    UINT64 Filled[RANKING_RANKS / 64]; ///< a bit for each list that is not empty
    LIST_ENTRY Lists[RANKING_RANKS];   ///< by rank; first the one that has its rank the longest
} RANKING;

/// Makes an empty ranking. Any IRQL.
VOID RankingInitialize(_Out_ RANKING *ranking);

/// Returns the rank of an amount: 0 for nothing, and more for more. Any IRQL.
UINT32 RankingOf(_In_ UINT64 amount);

/// Changes an amount. O(1). Any IRQL.
VOID RankingSet(_Inout_ RANKING *ranking, _Inout_ RANKED *ranked, _In_ UINT64 amount);

/// Returns the first of the highest rank. NULL: nobody has anything. O(1). Any IRQL.
_Ret_maybenull_
RANKED *RankingTop(_In_ RANKING *ranking);

EXTERN_C_END

#include "ranking.h"

// A power of two has this many ranks, as a power of two.
#define RANKING_STEP_BITS 3u

_Use_decl_annotations_
VOID RankingInitialize(RANKING *ranking)
{
    UINT32 i;

    RtlZeroMemory(ranking, sizeof(*ranking));
    for (i = 0; i < RANKING_RANKS; i++)
    {
        InitializeListHead(&ranking->Lists[i]);
    }
}

// Returns the number of the highest bit that is set. `value` is not 0.
static UINT32 RankingHighestBit(UINT64 value)
{
    UINT32 bit = 0;
    UINT32 step;

    for (step = 32; step != 0; step /= 2)
    {
        if (value >> step != 0)
        {
            value >>= step;
            bit += step;
        }
    }
    return bit;
}

_Use_decl_annotations_
UINT32 RankingOf(UINT64 amount)
{
    UINT32 bits;
    UINT32 rank;

    if (amount >> RANKING_STEP_BITS == 0)
    {
        return (UINT32)amount;
    }
    bits = RankingHighestBit(amount) - RANKING_STEP_BITS;
    rank = (bits << RANKING_STEP_BITS) + (UINT32)(amount >> bits);
    return rank < RANKING_RANKS ? rank : RANKING_RANKS - 1;
}

static VOID RankingLeave(RANKING *ranking, RANKED *ranked)
{
    if (ranked->Rank != 0 && RemoveEntryList(&ranked->Link))
    {
        ranking->Filled[ranked->Rank / 64] &= ~(1ULL << ranked->Rank % 64);
    }
}

static VOID RankingEnter(RANKING *ranking, RANKED *ranked)
{
    if (ranked->Rank != 0)
    {
        InsertTailList(&ranking->Lists[ranked->Rank], &ranked->Link);
        ranking->Filled[ranked->Rank / 64] |= 1ULL << ranked->Rank % 64;
    }
}

_Use_decl_annotations_
VOID RankingSet(RANKING *ranking, RANKED *ranked, UINT64 amount)
{
    UINT32 rank = RankingOf(amount);

    ranked->Amount = amount;
    if (ranked->Rank != rank)
    {
        RankingLeave(ranking, ranked);
        ranked->Rank = rank;
        RankingEnter(ranking, ranked);
    }
}

_Use_decl_annotations_
RANKED *RankingTop(RANKING *ranking)
{
    UINT32 word = RANKING_RANKS / 64;

    while (word != 0)
    {
        word--;
        if (ranking->Filled[word] != 0)
        {
            return CONTAINING_RECORD(ranking->Lists[word * 64 + RankingHighestBit(ranking->Filled[word])].Flink, RANKED,
                                     Link);
        }
    }
    return NULL;
}

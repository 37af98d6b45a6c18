#include "ranking.h"

#include "kext_test.h"

#include <memory>
#include <random>
#include <vector>

namespace
{

class RankingTest : public testing::Test
{
  protected:
    RankingTest() { RankingInitialize(&ranking_); }

    RANKING ranking_;
};

TEST_F(RankingTest, AnEmptyRankingHasNoTop)
{
    RANKED ranked = {};

    EXPECT_EQ(RankingTop(&ranking_), nullptr);
    RankingSet(&ranking_, &ranked, 5);
    EXPECT_EQ(RankingTop(&ranking_), &ranked);
    RankingSet(&ranking_, &ranked, 0);
    EXPECT_EQ(RankingTop(&ranking_), nullptr);
}

TEST_F(RankingTest, MoreHasNoLowerRankAndAnEighthMoreAHigherOne)
{
    for (uint64_t amount = 0; amount < 100000; amount++)
    {
        EXPECT_LE(RankingOf(amount), RankingOf(amount + 1));
        EXPECT_LT(RankingOf(amount), RankingOf(amount + amount / 8 + 1));
    }
    for (uint64_t amount = 0; amount < 16; amount++)
    {
        EXPECT_EQ(RankingOf(amount), amount);
    }
    EXPECT_EQ(RankingOf(UINT64_MAX), RANKING_RANKS - 1);
}

TEST_F(RankingTest, TheFirstOfARankIsTheOneThatHasItLongest)
{
    RANKED first = {};
    RANKED second = {};

    RankingSet(&ranking_, &first, 5);
    RankingSet(&ranking_, &second, 5);
    EXPECT_EQ(RankingTop(&ranking_), &first);
    RankingSet(&ranking_, &first, 4);
    RankingSet(&ranking_, &first, 5);
    EXPECT_EQ(RankingTop(&ranking_), &second);
}

TEST_F(RankingTest, TheTopIsWithinAnEighthOfTheMost)
{
    std::mt19937_64 random(5);
    std::vector<RANKED> all(50);

    for (int i = 0; i < 20000; i++)
    {
        uint64_t most = 0;

        RankingSet(&ranking_, &all[random() % all.size()], random() >> (40 + random() % 24));
        for (const RANKED &ranked : all)
        {
            most = std::max<uint64_t>(most, ranked.Amount);
        }
        const RANKED *top = RankingTop(&ranking_);
        ASSERT_EQ(top == nullptr, most == 0);
        if (top != nullptr)
        {
            ASSERT_GE(top->Amount + top->Amount / 8 + 1, most);
        }
    }
}

} // namespace

#include "recent_set.h"

#include "kext_test.h"

#include <random>

namespace
{

class RecentSetTest : public kext_test::KextTest
{
  protected:
    static constexpr UINT32 kSets = 16;
    static constexpr UINT32 kPairs = 3;

    RecentSetTest()
    {
        RecentSetInitialize(&set_, &memory_, kSets, kPairs);
        RecentSetAllocate(&set_);
    }

    ~RecentSetTest() override { RecentSetUninitialize(&set_); }

    // The value of the newest pair with this key, or 0.
    UINT64 Find(UINT64 key)
    {
        UINT64 value = 0;

        return RecentSetFind(&set_, key, &value) ? value : 0;
    }

    UINT64 Take(UINT64 key)
    {
        UINT64 value = 0;

        return RecentSetTake(&set_, key, &value) ? value : 0;
    }

    RECENT_SET set_;
};

TEST_F(RecentSetTest, FindsWhatWasAddedAndNothingElse)
{
    RecentSetAdd(&set_, 5, 50);
    RecentSetAdd(&set_, 5 + kSets, 60);
    EXPECT_EQ(Find(5), 50u);
    EXPECT_EQ(Find(5 + kSets), 60u);
    EXPECT_EQ(Find(5 + 2 * kSets), 0u);
    EXPECT_EQ(Find(6), 0u);
    EXPECT_EQ(Find(5), 50u) << "finding removes nothing";
}

TEST_F(RecentSetTest, FindsTheNewestOfEqualKeys)
{
    RecentSetAdd(&set_, 5, 50);
    RecentSetAdd(&set_, 5, 51);
    EXPECT_EQ(Find(5), 51u);
    EXPECT_EQ(Take(5), 51u);
    EXPECT_EQ(Take(5), 50u);
    EXPECT_EQ(Take(5), 0u);
}

TEST_F(RecentSetTest, AFullSetReplacesItsOldestPair)
{
    for (UINT64 i = 0; i < kPairs + 1; i++)
    {
        RecentSetAdd(&set_, i * kSets, i + 1);
    }
    RecentSetAdd(&set_, 1, 100);
    EXPECT_EQ(Find(0), 0u);
    for (UINT64 i = 1; i < kPairs + 1; i++)
    {
        EXPECT_EQ(Find(i * kSets), i + 1);
    }
    EXPECT_EQ(Find(1), 100u) << "another set";
}

TEST_F(RecentSetTest, ATakenPairMakesRoomWhereverItWas)
{
    for (UINT64 taken = 0; taken < kPairs; taken++)
    {
        for (UINT64 i = 0; i < kPairs; i++)
        {
            RecentSetAdd(&set_, i * kSets, i + 1);
        }
        EXPECT_EQ(Take(taken * kSets), taken + 1);
        RecentSetAdd(&set_, 100 * kSets, 101);
        for (UINT64 i = 0; i < kPairs; i++)
        {
            EXPECT_EQ(Find(i * kSets), i == taken ? 0 : i + 1);
        }
        EXPECT_EQ(Find(100 * kSets), 101u);
        RecentSetClear(&set_);
    }
}

TEST_F(RecentSetTest, CountsValuesFromTheLeastOn)
{
    RecentSetAdd(&set_, 1, 10);
    RecentSetAdd(&set_, 2, 20);
    RecentSetAdd(&set_, 2, 30);
    EXPECT_EQ(RecentSetCount(&set_, 0), 3u);
    EXPECT_EQ(RecentSetCount(&set_, 20), 2u);
    EXPECT_EQ(RecentSetCount(&set_, 31), 0u);
    RecentSetClear(&set_);
    EXPECT_EQ(RecentSetCount(&set_, 0), 0u);
    EXPECT_EQ(Find(1), 0u);
}

TEST_F(RecentSetTest, KeepsNothingWithoutMemory)
{
    RECENT_SET set;

    RecentSetInitialize(&set, &memory_, kSets, kPairs);
    machine_.faults().FailAll();
    RecentSetAllocate(&set);
    machine_.faults().Stop();
    EXPECT_FALSE(RecentSetIsAllocated(&set));
    UINT64 value;
    RecentSetAdd(&set, 1, 10);
    EXPECT_FALSE(RecentSetFind(&set, 1, &value));
    EXPECT_FALSE(RecentSetTake(&set, 1, &value));
    EXPECT_EQ(RecentSetCount(&set, 0), 0u);
    EXPECT_EQ(RecentSetBytes(&set), 0u);
    RecentSetClear(&set);

    RecentSetAllocate(&set);
    RecentSetAdd(&set, 1, 10);
    RecentSetAllocate(&set);
    EXPECT_TRUE(RecentSetFind(&set, 1, &value)) << "a second allocation changes nothing";
    EXPECT_EQ(RecentSetBytes(&set), kSets * (kPairs + 1) * 16);
    RecentSetUninitialize(&set);
}

TEST_F(RecentSetTest, AgreesWithASimpleModel)
{
    std::vector<std::vector<std::pair<UINT64, UINT64>>> model(kSets);
    std::mt19937 random(5);

    for (UINT64 step = 1; step < 20000; step++)
    {
        const UINT64 key = random() % (kSets * 5);
        auto &pairs = model[key % kSets];
        const auto newest =
            std::find_if(pairs.rbegin(), pairs.rend(), [&](const auto &pair) { return pair.first == key; });
        const UINT64 expected = newest != pairs.rend() ? newest->second : 0;

        switch (random() % 3)
        {
        case 0:
            RecentSetAdd(&set_, key, step);
            pairs.emplace_back(key, step);
            if (pairs.size() > kPairs)
            {
                pairs.erase(pairs.begin());
            }
            break;
        case 1:
            ASSERT_EQ(Take(key), expected);
            if (expected != 0)
            {
                pairs.erase(std::next(newest).base());
            }
            break;
        default:
            ASSERT_EQ(Find(key), expected);
        }
    }
}

TEST_F(RecentSetTest, RacingCallersTakeEachPairOnce)
{
    constexpr UINT64 kAdded = 4000;
    std::atomic<UINT64> sum{0};
    RECENT_SET set;

    RecentSetInitialize(&set, &memory_, 64, 2 * (kAdded / 64 + 1));
    RecentSetAllocate(&set);
    RunThreads(4,
               [&](unsigned thread)
               {
                   for (UINT64 i = 1; i <= kAdded; i++)
                   {
                       UINT64 value;

                       if (thread % 2 == 0)
                       {
                           RecentSetAdd(&set, i, i);
                       }
                       else if (RecentSetTake(&set, i, &value))
                       {
                           sum += value;
                       }
                   }
               });
    for (UINT64 i = 1; i <= kAdded; i++)
    {
        UINT64 value;

        while (RecentSetTake(&set, i, &value))
        {
            sum += value;
        }
    }
    EXPECT_EQ(sum, kAdded * (kAdded + 1));
    RecentSetUninitialize(&set);
}

TEST_F(RecentSetTest, WorksAtDispatchLevel)
{
    const kext_test::AtDispatchLevel dispatch;

    RecentSetAdd(&set_, 1, 10);
    EXPECT_EQ(Take(1), 10u);
    RecentSetClear(&set_);
}

} // namespace

#include "shard_map.h"

#include "kext_test.h"

#include <map>
#include <random>

namespace
{

// A map with keys of two words and cells of four, as IPv4 connections have.
class ShardMapTest : public kext_test::KextTest
{
  protected:
    static constexpr UINT32 kKeyWords = 2;
    static constexpr UINT32 kCellBytes = 32;
    static constexpr UINT64 kMost = 100000;

    ShardMapTest()
    {
        quota_.Most = kMost;
        EXPECT_EQ(ShardMapInitialize(&map_, &memory_, &quota_, kKeyWords, kCellBytes), STATUS_SUCCESS);
    }

    ~ShardMapTest() override { ShardMapUninitialize(&map_); }

    SHARD_PLACE Locate(UINT64 n)
    {
        SHARD_PLACE place = {};

        place.Key[0] = n;
        place.Key[1] = n & 0xFF;
        ShardMapLocate(&map_, &place, kKeyWords);
        return place;
    }

    // A key of this shard.
    UINT64 KeyOf(UINT32 shard, UINT64 after)
    {
        while (Locate(++after).Shard != &map_.Shards[shard])
        {
        }
        return after;
    }

    // The value behind the key, or 0.
    UINT64 Find(UINT64 n)
    {
        const SHARD_PLACE place = Locate(n);
        const KIRQL irql = RwLockAcquireShared(&place.Shard->Lock);
        const UINT64 *cell = ShardFind(&place, kKeyWords, kCellBytes);
        const UINT64 value = cell != nullptr ? cell[2] : 0;

        RwLockReleaseShared(&place.Shard->Lock, irql);
        return value;
    }

    // Adds a key, or changes its value.
    NTSTATUS Put(UINT64 n, UINT64 value)
    {
        SHARD_PLACE place = Locate(n);
        SHARD_GROWTH growth = {};

        for (;;)
        {
            const KIRQL irql = RwLockAcquireExclusive(&place.Shard->Lock);
            UINT64 *cell = ShardFind(&place, kKeyWords, kCellBytes);
            const NTSTATUS status = cell != nullptr ? STATUS_SUCCESS : ShardMapStartCell(&map_, &place, &growth, &cell);

            if (NT_SUCCESS(status))
            {
                cell[2] = value;
            }
            RwLockReleaseExclusive(&place.Shard->Lock, irql);
            if (status != STATUS_RETRY)
            {
                MemoryFree(&memory_, growth.Array);
                return status;
            }
            ShardMapBringGrowth(&map_, &growth);
        }
    }

    // Removes the keys whose value `wants` removed.
    UINT64 RemoveIf(std::function<bool(UINT64)> wants)
    {
        return ShardMapVisit(
            &map_,
            [](VOID *context, UINT64 *cell) -> UINT8
            {
                return (*static_cast<std::function<bool(UINT64)> *>(context))(cell[2]) ? SHARD_VISIT_REMOVE
                                                                                       : SHARD_VISIT_KEEP;
            },
            nullptr, &wants);
    }

    std::map<UINT64, UINT64> Taken(SHARD_ARRAY *taken)
    {
        std::map<UINT64, UINT64> cells;
        SHARD_CURSOR cursor = {taken, 0};

        while (const UINT64 *cell = ShardMapNextTaken(&map_, &cursor))
        {
            EXPECT_TRUE(cells.emplace(cell[0], cell[2]).second);
        }
        ShardMapFreeTaken(&map_, taken);
        return cells;
    }

    SHARD_QUOTA quota_ = {};
    SHARD_MAP map_;
};

TEST_F(ShardMapTest, FindsWhatWasPutAndNothingElse)
{
    EXPECT_EQ(Find(1), 0u);
    ASSERT_EQ(Put(1, 10), STATUS_SUCCESS);
    ASSERT_EQ(Put(2, 20), STATUS_SUCCESS);
    EXPECT_EQ(Find(1), 10u);
    EXPECT_EQ(Find(2), 20u);
    EXPECT_EQ(Find(3), 0u);
    EXPECT_EQ(ShardQuotaCount(&quota_), 2u);
}

TEST_F(ShardMapTest, TheTwoBytesBehindTheKeyAreNotAPartOfIt)
{
    const SHARD_PLACE place = Locate(7);

    ASSERT_EQ(Put(7, 70), STATUS_SUCCESS);
    for (UINT64 bytes = 0; bytes < 0x8000; bytes += 0x111)
    {
        const KIRQL irql = RwLockAcquireExclusive(&place.Shard->Lock);
        UINT64 *cell = ShardFind(&place, kKeyWords, kCellBytes);

        ASSERT_NE(cell, nullptr);
        cell[1] = (cell[1] & SHARD_KEY_MASK) | SHARD_CELL_IN_USE | bytes << 48;
        RwLockReleaseExclusive(&place.Shard->Lock, irql);
    }
    for (UINT64 n = 100; n < 20000; n++)
    {
        ASSERT_EQ(Put(n, 1), STATUS_SUCCESS);
    }
    EXPECT_EQ(Find(7), 70u) << "its shard has grown meanwhile";
    EXPECT_EQ(RemoveIf([](UINT64 value) { return value == 1; }), 19900u);
    EXPECT_EQ(Find(7), 70u);
}

TEST_F(ShardMapTest, AgreesWithASimpleModelWithinOneShard)
{
    std::map<UINT64, UINT64> model;
    std::vector<UINT64> keys;
    std::mt19937 random(11);

    for (UINT64 key = 0; keys.size() < 60;)
    {
        key = KeyOf(3, key);
        keys.push_back(key);
    }
    for (UINT64 step = 1; step < 6000; step++)
    {
        const UINT64 key = keys[random() % (step % 2000 < 1000 ? 60 : 6)];

        if (random() % 3 != 0)
        {
            ASSERT_EQ(Put(key, step), STATUS_SUCCESS);
            model[key] = step;
        }
        else
        {
            const auto found = model.find(key);
            const UINT64 value = found != model.end() ? found->second : 0;

            ASSERT_EQ(RemoveIf([&](UINT64 other) { return other == value; }), value != 0 ? 1u : 0u);
            model.erase(key);
        }
        if (step % 50 == 0)
        {
            for (UINT64 any : keys)
            {
                ASSERT_EQ(Find(any), model.count(any) != 0 ? model[any] : 0);
            }
            ASSERT_EQ(ShardQuotaCount(&quota_), model.size());
        }
    }
}

TEST_F(ShardMapTest, HoldsItsQuotaAndNoMore)
{
    quota_.Most = 100;
    for (UINT64 n = 1; n <= 100; n++)
    {
        ASSERT_EQ(Put(n, n), STATUS_SUCCESS);
    }
    EXPECT_EQ(Put(101, 1), STATUS_QUOTA_EXCEEDED);
    EXPECT_EQ(Put(50, 5), STATUS_SUCCESS) << "known";
    EXPECT_EQ(RemoveIf([](UINT64 value) { return value == 1; }), 1u);
    EXPECT_EQ(Put(101, 1), STATUS_SUCCESS);
}

TEST_F(ShardMapTest, AShardThatCannotGrowWorksUntilItIsFull)
{
    std::vector<UINT64> kept;
    UINT64 key = 0;

    for (unsigned i = 0; i < 40; i++)
    {
        key = KeyOf(5, key);
        if (i == 5)
        {
            machine_.faults().FailAll();
        }
        const NTSTATUS status = Put(key, key);
        ASSERT_EQ(status, i < 8 ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES) << i;
        if (NT_SUCCESS(status))
        {
            kept.push_back(key);
        }
        ASSERT_EQ(Find(key), NT_SUCCESS(status) ? key : 0) << "also in a shard without a free cell";
    }
    EXPECT_EQ(RemoveIf([&](UINT64 value) { return value == kept[3]; }), 1u);
    for (UINT64 other : kept)
    {
        EXPECT_EQ(Find(other), other == kept[3] ? 0 : other) << "removal from a full array keeps the rest";
    }
    machine_.faults().Stop();
    EXPECT_EQ(Put(key, key), STATUS_SUCCESS);
}

TEST_F(ShardMapTest, GivesMemoryBack)
{
    const UINT64 empty = ShardMapBytes(&map_);
    const UINT64 pool = MemoryBytes(&memory_);

    for (UINT64 n = 1; n <= 50000; n++)
    {
        ASSERT_EQ(Put(n, n), STATUS_SUCCESS);
    }
    const UINT64 full = ShardMapBytes(&map_) - empty;
    EXPECT_GE(full, 50000u * kCellBytes);
    EXPECT_EQ(RemoveIf([](UINT64 value) { return value % 20 != 0; }), 47500u);
    EXPECT_LT(ShardMapBytes(&map_) - empty, full / 5);
    for (UINT64 n = 20; n <= 50000; n += 20)
    {
        ASSERT_EQ(Find(n), n);
    }
    RemoveIf([](UINT64) { return true; });
    EXPECT_EQ(ShardMapBytes(&map_), empty);
    EXPECT_EQ(MemoryBytes(&memory_), pool);
}

TEST_F(ShardMapTest, KeepsALargeArrayWithoutMemoryForASmallerOne)
{
    for (UINT64 n = 1; n <= 20000; n++)
    {
        ASSERT_EQ(Put(n, n), STATUS_SUCCESS);
    }
    machine_.faults().FailAll();
    EXPECT_EQ(RemoveIf([](UINT64 value) { return value % 20 != 0; }), 19000u);
    machine_.faults().Stop();
    for (UINT64 n = 20; n <= 20000; n += 20)
    {
        ASSERT_EQ(Find(n), n);
    }
}

TEST_F(ShardMapTest, TakesAllCells)
{
    std::map<UINT64, UINT64> expected;

    for (UINT64 n = 1; n <= 10000; n++)
    {
        ASSERT_EQ(Put(n, n + 1), STATUS_SUCCESS);
        expected[n] = n + 1;
    }
    EXPECT_EQ(Taken(ShardMapTakeAll(&map_)), expected);
    EXPECT_EQ(ShardQuotaCount(&quota_), 0u);
    EXPECT_EQ(Find(1), 0u);
    EXPECT_TRUE(Taken(ShardMapTakeAll(&map_)).empty());
}

TEST_F(ShardMapTest, TheNextArrayAfterTakingIsAsLargeAsTheLastOneHadToBe)
{
    for (UINT64 n = 1; n <= 20000; n++)
    {
        ASSERT_EQ(Put(n, n), STATUS_SUCCESS);
    }
    ShardMapFreeTaken(&map_, ShardMapTakeAll(&map_));
    machine_.faults().FailNth(1000000);
    for (UINT64 n = 1; n <= 20000; n++)
    {
        ASSERT_EQ(Put(n, n), STATUS_SUCCESS);
    }
    EXPECT_LE(machine_.faults().calls(), 1.2 * SHARD_MAP_SHARDS);
    machine_.faults().Stop();
}

TEST_F(ShardMapTest, AFailedInitializationLeavesNothing)
{
    const UINT64 before = MemoryBytes(&memory_);
    SHARD_MAP map;

    machine_.faults().FailAll();
    EXPECT_EQ(ShardMapInitialize(&map, &memory_, &quota_, kKeyWords, kCellBytes), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    EXPECT_EQ(MemoryBytes(&memory_), before);
}

TEST_F(ShardMapTest, EveryCellIsTakenOrRemovedOnceWhenCallersRace)
{
    std::atomic<UINT64> removed{0};
    std::atomic<UINT64> taken{0};

    RunThreads(4,
               [&](unsigned thread)
               {
                   for (UINT64 i = 0; i < 4000; i++)
                   {
                       if (thread < 2)
                       {
                           ASSERT_EQ(Put(UINT64{thread} << 32 | i, 1), STATUS_SUCCESS);
                       }
                       else if (i % 100 == 0)
                       {
                           if (thread == 2)
                           {
                               removed += RemoveIf([](UINT64) { return true; });
                           }
                           else
                           {
                               taken += Taken(ShardMapTakeAll(&map_)).size();
                           }
                       }
                   }
               });
    const UINT64 left = ShardQuotaCount(&quota_);
    EXPECT_EQ(removed + taken + left, 8000u);
    EXPECT_EQ(Taken(ShardMapTakeAll(&map_)).size(), left);
}

} // namespace

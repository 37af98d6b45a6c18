#include "packet_cache.h"

#include "kext_test.h"

#include <deque>
#include <set>
#include <vector>

namespace
{

class PacketCacheTest : public kext_test::KextTest
{
  protected:
    PacketCacheTest()
    {
        EXPECT_EQ(PacketCacheInitialize(&cache_, &memory_), STATUS_SUCCESS);
        PacketCacheSetOpen(&cache_, TRUE);
    }

    ~PacketCacheTest() override
    {
        while (PacketCacheTakeAny(&cache_) != nullptr)
        {
        }
        EXPECT_EQ(PacketCacheCount(&cache_), 0u);
        EXPECT_EQ(PacketCacheBytes(&cache_), 0u);
        PacketCacheUninitialize(&cache_);
    }

    // The test owns the packet, inserted or not.
    HELD *Make(SIZE_T bytes = 100, UINT64 deadline = 0)
    {
        held_.emplace_back();
        HELD *held = &held_.back();
        memset(held, 0, sizeof(*held));
        held->Id = PacketCacheReserveId(&cache_);
        held->Bytes = bytes;
        held->DeadlineTime = deadline;
        return held;
    }

    HELD *Insert(SIZE_T bytes = 100, UINT64 deadline = 0)
    {
        HELD *held = Make(bytes, deadline);

        EXPECT_EQ(PacketCacheInsert(&cache_, held), STATUS_SUCCESS);
        return held;
    }

    // Takes one expired packet in a new round.
    HELD *TakeExpired(UINT64 now)
    {
        UINT32 place = 0;

        return PacketCacheTakeExpired(&cache_, now, &place);
    }

    PACKET_CACHE cache_;
    std::deque<HELD> held_;
};

TEST_F(PacketCacheTest, IdsCountUpFrom1)
{
    for (UINT64 i = 1; i <= 200; i++)
    {
        EXPECT_EQ(Insert()->Id, i);
    }
    EXPECT_EQ(PacketCacheTake(&cache_, 0), nullptr);
}

TEST_F(PacketCacheTest, IdsAreNotReused)
{
    HELD *first = Insert();

    EXPECT_EQ(PacketCacheTake(&cache_, first->Id), first);
    EXPECT_EQ(Insert()->Id, 2u);
}

TEST_F(PacketCacheTest, AnIdMayBeReservedLongBeforeItsInsert)
{
    HELD *held = Make();
    const UINT64 id = held->Id;

    EXPECT_EQ(Insert()->Id, id + 1);
    ASSERT_EQ(PacketCacheInsert(&cache_, held), STATUS_SUCCESS);
    EXPECT_EQ(held->Id, id);
    EXPECT_EQ(PacketCacheTake(&cache_, id), held);
}

TEST_F(PacketCacheTest, NoIdIsEverZero)
{
    cache_.LastId = -3;

    HELD *const before = Insert();
    HELD *const last = Insert();
    HELD *const wrapped = Insert();
    EXPECT_EQ(before->Id, ~0ull - 1);
    EXPECT_EQ(last->Id, ~0ull);
    EXPECT_EQ(wrapped->Id, 1u);
    EXPECT_EQ(PacketCacheTake(&cache_, 0), nullptr);
    EXPECT_EQ(PacketCacheTake(&cache_, ~0ull), last);
    EXPECT_EQ(PacketCacheTake(&cache_, 1), wrapped);
}

TEST_F(PacketCacheTest, IdsOfAnySizeAreFound)
{
    for (const LONG64 last : {LONG64{0xFFFFFFFE}, LONG64{0x1FFFFFFFFFFFFE}, LONG64{INT64_MAX - 1}})
    {
        cache_.LastId = last;

        HELD *const below = Insert();
        HELD *const above = Insert();
        HELD *const beyond = Insert();
        EXPECT_EQ(below->Id, static_cast<UINT64>(last) + 1);
        EXPECT_EQ(beyond->Id, static_cast<UINT64>(last) + 3);
        EXPECT_EQ(PacketCacheTake(&cache_, beyond->Id), beyond);
        EXPECT_EQ(PacketCacheTake(&cache_, above->Id), above);
        EXPECT_EQ(PacketCacheTake(&cache_, below->Id), below);
    }
}

TEST_F(PacketCacheTest, EachPacketIsTakenOnce)
{
    HELD *held = Insert();

    EXPECT_EQ(PacketCacheTake(&cache_, held->Id), held);
    EXPECT_EQ(PacketCacheTake(&cache_, held->Id), nullptr);
    EXPECT_EQ(PacketCacheTake(&cache_, 12345), nullptr);
    EXPECT_EQ(PacketCacheTake(&cache_, ~0ull), nullptr);
}

TEST_F(PacketCacheTest, CountsPacketsAndBytes)
{
    HELD *first = Insert(100);
    Insert(50);

    EXPECT_EQ(PacketCacheCount(&cache_), 2u);
    EXPECT_EQ(PacketCacheBytes(&cache_), 150u);
    EXPECT_EQ(PacketCacheTake(&cache_, first->Id), first);
    EXPECT_EQ(PacketCacheCount(&cache_), 1u);
    EXPECT_EQ(PacketCacheBytes(&cache_), 50u);
}

TEST_F(PacketCacheTest, HoldsAMillionPackets)
{
    constexpr UINT32 kMillion = 1'000'000;
    std::vector<HELD> many(kMillion);

    for (HELD &held : many)
    {
        held.Id = PacketCacheReserveId(&cache_);
        held.Bytes = 100;
        ASSERT_EQ(PacketCacheInsert(&cache_, &held), STATUS_SUCCESS);
    }
    EXPECT_EQ(PacketCacheCount(&cache_), kMillion);
    EXPECT_EQ(PacketCacheTake(&cache_, 1), &many[0]);
    while (PacketCacheTakeAny(&cache_) != nullptr)
    {
    }
}

TEST_F(PacketCacheTest, AClosedCacheAcceptsNothing)
{
    HELD *held = Insert();

    PacketCacheSetOpen(&cache_, FALSE);
    EXPECT_EQ(PacketCacheInsert(&cache_, Make()), STATUS_DEVICE_NOT_READY);
    EXPECT_EQ(PacketCacheCount(&cache_), 1u);
    EXPECT_EQ(PacketCacheTakeAny(&cache_), held);
    PacketCacheSetOpen(&cache_, TRUE);
    Insert();
}

TEST_F(PacketCacheTest, StartsClosed)
{
    PACKET_CACHE cache;

    ASSERT_EQ(PacketCacheInitialize(&cache, &memory_), STATUS_SUCCESS);
    EXPECT_EQ(PacketCacheInsert(&cache, Make()), STATUS_DEVICE_NOT_READY);
    PacketCacheUninitialize(&cache);
}

TEST_F(PacketCacheTest, FindsTheEarliestDeadlineOfAllShards)
{
    EXPECT_EQ(PacketCacheNextDeadline(&cache_), CLOCK_NEVER);
    Insert();
    EXPECT_EQ(PacketCacheNextDeadline(&cache_), CLOCK_NEVER) << "this packet has none";
    Insert(100, 3000);
    HELD *first = Insert(100, 1000);
    Insert(100, 2000);
    EXPECT_EQ(PacketCacheNextDeadline(&cache_), 1000u);
    EXPECT_EQ(PacketCacheTake(&cache_, first->Id), first);
    EXPECT_EQ(PacketCacheNextDeadline(&cache_), 2000u);
}

TEST_F(PacketCacheTest, TakesOnlyExpiredPackets)
{
    HELD *late = Insert(100, 3000);
    HELD *never = Insert(100, 0);
    HELD *early = Insert(100, 1000);
    HELD *middle = Insert(100, 2000);

    EXPECT_EQ(TakeExpired(999), nullptr);
    EXPECT_EQ(TakeExpired(1000), early);
    EXPECT_EQ(TakeExpired(1999), nullptr);
    std::set<HELD *> taken = {TakeExpired(9999), TakeExpired(9999)};
    EXPECT_EQ(taken, (std::set<HELD *>{late, middle}));
    EXPECT_EQ(TakeExpired(~0ull), nullptr);
    EXPECT_EQ(PacketCacheTake(&cache_, never->Id), never);
}

TEST_F(PacketCacheTest, ARoundOfExpiryVisitsEachShardOnce)
{
    UINT32 place = 0;
    std::set<HELD *> expected;
    std::set<HELD *> taken;

    for (unsigned i = 0; i < PACKET_CACHE_SHARD_COUNT * 3; i++)
    {
        expected.insert(Insert(1, 1000));
    }
    for (unsigned i = 0; i < PACKET_CACHE_SHARD_COUNT * 2; i++)
    {
        taken.insert(PacketCacheTakeExpired(&cache_, 1000, &place));
    }
    const UINT32 reached = place;
    HELD *behind;
    do
    {
        behind = Insert(1, 1000);
    } while (behind->Id % PACKET_CACHE_SHARD_COUNT >= reached && PacketCacheTake(&cache_, behind->Id) == behind);
    while (HELD *held = PacketCacheTakeExpired(&cache_, 1000, &place))
    {
        taken.insert(held);
    }
    EXPECT_GT(reached, 0u);
    EXPECT_EQ(taken, expected);
    EXPECT_EQ(TakeExpired(1000), behind) << "taken in the next round";
}

TEST_F(PacketCacheTest, DeadlinesOutOfOrderWithinOneShardExpireInOrder)
{
    // A client may shorten its timeout, so that later packets expire earlier.
    std::vector<HELD *> sameShard;

    for (unsigned i = 0; i < PACKET_CACHE_SHARD_COUNT * 10; i++)
    {
        HELD *held = Insert(1, 10000 - i);

        if (i % PACKET_CACHE_SHARD_COUNT == 0)
        {
            sameShard.push_back(held);
        }
    }
    for (auto it = sameShard.rbegin(); it != sameShard.rend(); ++it)
    {
        HELD *held;

        do
        {
            held = TakeExpired((*it)->DeadlineTime);
            ASSERT_NE(held, nullptr);
            EXPECT_LE(held->DeadlineTime, (*it)->DeadlineTime);
        } while (held != *it);
    }
}

TEST_F(PacketCacheTest, APacketTakenByIdDoesNotExpire)
{
    HELD *held = Insert(100, 1000);

    EXPECT_EQ(PacketCacheTake(&cache_, held->Id), held);
    EXPECT_EQ(TakeExpired(5000), nullptr);
}

TEST_F(PacketCacheTest, TakeAnyEmptiesTheCacheRoughlyInOrder)
{
    std::vector<UINT64> order;

    for (unsigned i = 0; i < 1000; i++)
    {
        Insert(1, i % 3 == 0 ? 500 : 0);
    }
    while (HELD *held = PacketCacheTakeAny(&cache_))
    {
        order.push_back(held->Id);
    }
    ASSERT_EQ(order.size(), 1000u);
    for (size_t i = 0; i < order.size(); i++)
    {
        EXPECT_NEAR(static_cast<double>(order[i]), static_cast<double>(i + 1), PACKET_CACHE_SHARD_COUNT);
    }
}

TEST_F(PacketCacheTest, FindsEveryIdAmongMany)
{
    constexpr unsigned kCount = 40000;
    std::vector<HELD *> all;

    for (unsigned i = 0; i < kCount; i++)
    {
        all.push_back(Insert(1));
    }
    for (unsigned i = 0; i < kCount; i++)
    {
        HELD *held = all[(i * 7919u) % kCount];

        ASSERT_EQ(PacketCacheTake(&cache_, held->Id), held);
    }
    EXPECT_EQ(PacketCacheCount(&cache_), 0u);
}

TEST_F(PacketCacheTest, GrowingWithoutMemoryDoesNotFailAnInsert)
{
    machine_.faults().FailAll();
    for (unsigned i = 0; i < 10000; i++)
    {
        Insert(1);
    }
    machine_.faults().Stop();
    for (HELD &held : held_)
    {
        ASSERT_EQ(PacketCacheTake(&cache_, held.Id), &held);
    }
}

TEST_F(PacketCacheTest, EveryFailureOfInitializationIsClean)
{
    const unsigned failures = ForEachAllocationFailure(
        [&](unsigned)
        {
            PACKET_CACHE cache;

            if (NT_SUCCESS(PacketCacheInitialize(&cache, &memory_)))
            {
                PacketCacheUninitialize(&cache);
            }
        });
    EXPECT_GT(failures, 1u);
}

TEST_F(PacketCacheTest, WorksAtDispatchLevel)
{
    kext_test::AtDispatchLevel dispatch;
    HELD *held = Insert(1, 10);

    EXPECT_EQ(TakeExpired(10), held);
    PacketCacheSetOpen(&cache_, FALSE);
    PacketCacheSetOpen(&cache_, TRUE);
}

TEST_F(PacketCacheTest, RacingThreadsResolveEachPacketExactlyOnce)
{
    constexpr unsigned kPerThread = 4000;
    std::vector<std::vector<HELD>> held(2, std::vector<HELD>(kPerThread));
    std::atomic<unsigned> inserting{2};
    std::atomic<unsigned> taken{0};
    std::vector<std::atomic<unsigned>> takenById(2 * kPerThread + 1);

    auto resolve = [&](HELD *one)
    {
        if (one != nullptr)
        {
            taken++;
            EXPECT_EQ(takenById[one->Id].fetch_add(1), 0u);
        }
    };
    RunThreads(4,
               [&](unsigned thread)
               {
                   if (thread < 2)
                   {
                       for (HELD &one : held[thread])
                       {
                           memset(&one, 0, sizeof(one));
                           one.Id = PacketCacheReserveId(&cache_);
                           one.Bytes = 10;
                           one.DeadlineTime = thread == 0 ? 100 : 0;
                           ASSERT_EQ(PacketCacheInsert(&cache_, &one), STATUS_SUCCESS);
                       }
                       inserting--;
                       return;
                   }
                   for (UINT64 id = 1; inserting > 0 || taken < 2 * kPerThread; id = id % (2 * kPerThread) + 1)
                   {
                       resolve(thread == 2 ? PacketCacheTake(&cache_, id) : TakeExpired(1000));
                       if (thread == 3)
                       {
                           resolve(PacketCacheTakeAny(&cache_));
                       }
                   }
               });
    EXPECT_EQ(taken, 2 * kPerThread);
    EXPECT_EQ(PacketCacheCount(&cache_), 0u);
    EXPECT_EQ(PacketCacheBytes(&cache_), 0u);
}

TEST_F(PacketCacheTest, NothingEntersAfterClose)
{
    for (unsigned round = 0; round < 50; round++)
    {
        std::vector<HELD> held(200);
        std::atomic<unsigned> inserted{0};

        PacketCacheSetOpen(&cache_, TRUE);
        RunThreads(2,
                   [&](unsigned thread)
                   {
                       if (thread == 0)
                       {
                           for (HELD &one : held)
                           {
                               memset(&one, 0, sizeof(one));
                               one.Id = PacketCacheReserveId(&cache_);
                               if (PacketCacheInsert(&cache_, &one) != STATUS_SUCCESS)
                               {
                                   break;
                               }
                               inserted++;
                           }
                           return;
                       }
                       PacketCacheSetOpen(&cache_, FALSE);
                       while (PacketCacheTakeAny(&cache_) != nullptr)
                       {
                           inserted--;
                       }
                   });
        EXPECT_EQ(inserted, 0u);
        EXPECT_EQ(PacketCacheCount(&cache_), 0u);
    }
}

} // namespace

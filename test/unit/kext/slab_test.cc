#include "slab.h"

#include "kext_test.h"

#include <map>
#include <random>
#include <set>

namespace
{

class SlabTest : public kext_test::KextTest
{
  protected:
    static constexpr UINT32 kItemBytes = 32;
    static constexpr UINT32 kItemsPerChunk = SLAB_CHUNK_BYTES / kItemBytes - 1;

    SlabTest()
    {
        SlabInitialize(&slab_, &memory_, kItemBytes, 100000);
        // The directory's first page stays.
        EXPECT_TRUE(SlabGrow(&slab_, 0));
        SlabTrim(&slab_);
    }

    ~SlabTest() override { SlabUninitialize(&slab_); }

    // Takes an item and fills it with its handle.
    UINT32 Take(UINT32 hint)
    {
        UINT32 handle;

        while ((handle = SlabTake(&slab_, hint)) == 0)
        {
            if (!SlabGrow(&slab_, hint))
            {
                return 0;
            }
        }
        Fill(handle, handle);
        return handle;
    }

    void Fill(UINT32 handle, UINT32 value)
    {
        std::fill_n(static_cast<UINT32 *>(SlabAt(&slab_, handle)), kItemBytes / sizeof(UINT32), value);
    }

    bool Has(UINT32 handle, UINT32 value)
    {
        const UINT32 *item = static_cast<UINT32 *>(SlabAt(&slab_, handle));

        return std::all_of(item, item + kItemBytes / sizeof(UINT32), [&](UINT32 word) { return word == value; });
    }

    SLAB slab_;
};

TEST_F(SlabTest, ItemsDoNotOverlap)
{
    std::set<UINT32> handles;

    for (UINT32 i = 0; i < 5000; i++)
    {
        const UINT32 handle = Take(i % 5);

        ASSERT_NE(handle, 0u);
        ASSERT_TRUE(handles.insert(handle).second);
        ASSERT_EQ(reinterpret_cast<ULONG_PTR>(SlabAt(&slab_, handle)) % 8, 0u);
    }
    for (UINT32 handle : handles)
    {
        ASSERT_TRUE(Has(handle, handle));
        SlabReturn(&slab_, handle);
    }
}

TEST_F(SlabTest, TakesNoMemoryUntilItGrows)
{
    machine_.faults().FailAll();
    EXPECT_EQ(SlabTake(&slab_, 0), 0u);
    EXPECT_EQ(machine_.faults().calls(), 0u);
    EXPECT_FALSE(SlabGrow(&slab_, 0));
    machine_.faults().Stop();

    ASSERT_TRUE(SlabGrow(&slab_, 0));
    EXPECT_EQ(SlabTake(&slab_, 1), 0u) << "another stripe";
    std::vector<UINT32> handles;
    for (UINT32 i = 0; i < kItemsPerChunk; i++)
    {
        handles.push_back(SlabTake(&slab_, SLAB_STRIPE_COUNT));
        EXPECT_NE(handles.back(), 0u);
    }
    EXPECT_EQ(SlabTake(&slab_, 0), 0u);
    SlabReturn(&slab_, handles[7]);
    EXPECT_EQ(SlabTake(&slab_, 0), handles[7]);
    for (UINT32 handle : handles)
    {
        SlabReturn(&slab_, handle);
    }
}

TEST_F(SlabTest, TrimFreesEmptyChunksAndTheirHandlesAreUsedAgain)
{
    const UINT64 empty = SlabBytes(&slab_);
    std::vector<UINT32> handles;
    UINT64 most = 0;

    for (unsigned round = 0; round < 3; round++)
    {
        for (UINT32 i = 0; i < 50 * kItemsPerChunk; i++)
        {
            handles.push_back(Take(i));
        }
        most = std::max(most, SlabBytes(&slab_));
        EXPECT_EQ(SlabBytes(&slab_), most) << "no more than in the round before";
        for (UINT32 handle : handles)
        {
            ASSERT_TRUE(Has(handle, handle));
            SlabReturn(&slab_, handle);
        }
        handles.clear();
        SlabTrim(&slab_);
        EXPECT_EQ(SlabBytes(&slab_), empty);
    }
}

TEST_F(SlabTest, MovingItemsEmptiesSparseChunks)
{
    std::vector<UINT32> handles;

    for (UINT32 i = 0; i < 100 * kItemsPerChunk; i++)
    {
        handles.push_back(Take(i % 2));
    }
    const UINT64 full = SlabBytes(&slab_);
    EXPECT_FALSE(SlabIsSparse(&slab_, handles.size()));
    std::map<UINT32, UINT32> values; // of the handles that stay
    for (size_t i = 0; i < handles.size(); i++)
    {
        if (i % 20 == 0)
        {
            values[handles[i]] = handles[i];
        }
        else
        {
            SlabReturn(&slab_, handles[i]);
        }
    }
    SlabTrim(&slab_);
    EXPECT_TRUE(SlabIsSparse(&slab_, values.size()));
    std::map<UINT32, UINT32> moved;
    for (const auto &[handle, value] : values)
    {
        const UINT32 better = SlabTakeBetter(&slab_, handle);

        if (better != 0)
        {
            Fill(better, value);
            SlabReturn(&slab_, handle);
        }
        moved[better != 0 ? better : handle] = value;
    }
    SlabTrim(&slab_);
    EXPECT_LT(SlabBytes(&slab_), full / 5);
    EXPECT_FALSE(SlabIsSparse(&slab_, moved.size()));
    EXPECT_EQ(moved.size(), values.size());
    for (const auto &[handle, value] : moved)
    {
        EXPECT_TRUE(Has(handle, value));
        SlabReturn(&slab_, handle);
    }
}

TEST_F(SlabTest, AFullDirectoryIsNoMemory)
{
    SLAB slab;
    unsigned chunks = 0;

    SlabInitialize(&slab, &memory_, kItemBytes, 1000);
    while (SlabGrow(&slab, chunks))
    {
        chunks++;
    }
    EXPECT_GE(chunks * kItemsPerChunk, 1000u);
    EXPECT_LT(chunks, 1000u);
    SlabTrim(&slab);
    EXPECT_TRUE(SlabGrow(&slab, 0));
    SlabUninitialize(&slab);
}

TEST_F(SlabTest, AFewChunksAreNeverSparse)
{
    std::vector<UINT32> handles;

    for (UINT32 i = 0; i < 2 * SLAB_STRIPE_COUNT; i++)
    {
        handles.push_back(Take(i));
    }
    EXPECT_FALSE(SlabIsSparse(&slab_, handles.size()));
    for (UINT32 handle : handles)
    {
        EXPECT_EQ(SlabTakeBetter(&slab_, handle), 0u) << "its chunk is the only one of its stripe";
        SlabReturn(&slab_, handle);
    }
}

TEST_F(SlabTest, EveryFailedAllocationLeavesAWorkingSlab)
{
    const UINT64 before = MemoryBytes(&memory_);

    ForEachAllocationFailure(
        [&](unsigned)
        {
            SLAB slab;

            SlabInitialize(&slab, &memory_, 56, 1000);
            for (UINT32 i = 0; i < 3; i++)
            {
                const BOOLEAN grown = SlabGrow(&slab, 0);
                const UINT32 handle = SlabTake(&slab, 0);

                EXPECT_TRUE(!grown || handle != 0);
                if (handle != 0)
                {
                    memset(SlabAt(&slab, handle), 0xFF, 56);
                    SlabReturn(&slab, handle);
                }
            }
            SlabUninitialize(&slab);
            EXPECT_EQ(MemoryBytes(&memory_), before);
        });
}

TEST_F(SlabTest, WorksAtDispatchLevelOnManyProcessors)
{
    const UINT64 empty = SlabBytes(&slab_);

    RunThreads(4,
               [&](unsigned thread)
               {
                   const kext_test::AtDispatchLevel dispatch;
                   std::mt19937 random(thread);
                   std::vector<UINT32> handles;

                   for (unsigned i = 0; i < 20000; i++)
                   {
                       if (random() % 2 == 0 || handles.empty())
                       {
                           handles.push_back(Take(random()));
                       }
                       else
                       {
                           std::swap(handles[random() % handles.size()], handles.back());
                           ASSERT_TRUE(Has(handles.back(), handles.back()));
                           SlabReturn(&slab_, handles.back());
                           handles.pop_back();
                       }
                       if (i % 1000 == 0)
                       {
                           SlabTrim(&slab_);
                       }
                   }
                   for (UINT32 handle : handles)
                   {
                       SlabReturn(&slab_, handle);
                   }
               });
    SlabTrim(&slab_);
    EXPECT_EQ(SlabBytes(&slab_), empty);
}

} // namespace

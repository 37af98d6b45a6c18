#include "kext_test.h"

#include <algorithm>

namespace
{

using MemoryTest = kext_test::KextTest;

bool IsZero(const void *address, size_t bytes)
{
    const uint8_t *first = static_cast<const uint8_t *>(address);

    return std::all_of(first, first + bytes, [](uint8_t byte) { return byte == 0; });
}

TEST_F(MemoryTest, AllocatesZeroedMemoryAlignedTo16)
{
    for (size_t bytes : {1u, 15u, 16u, 17u, 40u, 4096u, 100000u})
    {
        void *address = MemoryAllocate(&memory_, bytes);

        ASSERT_NE(address, nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % 16, 0u);
        EXPECT_TRUE(IsZero(address, bytes));
        memset(address, 0xA5, bytes);
        MemoryFree(&memory_, address);
    }
}

TEST_F(MemoryTest, AllocatesCacheAlignedMemoryOnLineBoundaries)
{
    for (size_t bytes : {1u, 63u, 64u, 65u, 4096u, 131072u})
    {
        void *address = MemoryAllocateCacheAligned(&memory_, bytes);

        ASSERT_NE(address, nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % PLATFORM_CACHE_LINE, 0u);
        EXPECT_TRUE(IsZero(address, bytes));
        memset(address, 0xA5, bytes);
        MemoryFree(&memory_, address);
    }
}

TEST_F(MemoryTest, UninitializedMemoryIsWritableToItsEnd)
{
    void *address = MemoryAllocateUninitialized(&memory_, 12345);

    ASSERT_NE(address, nullptr);
    memset(address, 1, 12345);
    MemoryFree(&memory_, address);
}

TEST_F(MemoryTest, CountsAllocatedBytesAndTheirPeak)
{
    void *first = MemoryAllocate(&memory_, 1000);
    void *second = MemoryAllocate(&memory_, 500);
    UINT64 both = MemoryBytes(&memory_);

    EXPECT_GE(both, 1500u);
    EXPECT_EQ(both, static_cast<UINT64>(machine_.pool().bytes()));
    MemoryFree(&memory_, first);
    EXPECT_LT(MemoryBytes(&memory_), 1000u);
    MemoryFree(&memory_, second);
    EXPECT_EQ(MemoryBytes(&memory_), 0u);
    EXPECT_EQ(MemoryPeakBytes(&memory_), both);
}

TEST_F(MemoryTest, AFailedAllocationIsNullAndCountsNoBytes)
{
    machine_.faults().FailAll();
    EXPECT_EQ(MemoryAllocate(&memory_, 100), nullptr);
    EXPECT_EQ(MemoryAllocateUninitialized(&memory_, 100), nullptr);
    EXPECT_EQ(MemoryAllocateCacheAligned(&memory_, 100), nullptr);
    machine_.faults().Stop();

    EXPECT_EQ(MemoryBytes(&memory_), 0u);
    EXPECT_EQ(MemoryPeakBytes(&memory_), 0u);
}

TEST_F(MemoryTest, RefusesAbsurdSizes)
{
    EXPECT_EQ(MemoryAllocate(&memory_, ~static_cast<SIZE_T>(0)), nullptr);
    EXPECT_EQ(MemoryAllocateCacheAligned(&memory_, ~static_cast<SIZE_T>(0) - 63), nullptr);
    EXPECT_EQ(MemoryAllocate(&memory_, static_cast<SIZE_T>(1) << 40), nullptr);
}

TEST_F(MemoryTest, FreeingNullDoesNothing)
{
    MemoryFree(&memory_, nullptr);
    EXPECT_EQ(MemoryBytes(&memory_), 0u);
}

TEST_F(MemoryTest, WorksWithEitherPoolRoutineOfTheSystem)
{
    MEMORY without = memory_;

    without.AllocatePool2 = nullptr;
    void *address = MemoryAllocate(&without, 100);
    ASSERT_NE(address, nullptr);
    EXPECT_TRUE(IsZero(address, 100));
    MemoryFree(&without, address);

    ASSERT_NE(memory_.AllocatePool2, nullptr);
    address = MemoryAllocate(&memory_, 100);
    ASSERT_NE(address, nullptr);
    EXPECT_TRUE(IsZero(address, 100));
    MemoryFree(&memory_, address);
}

TEST_F(MemoryTest, UsesTheOlderPoolRoutineWhereTheNewerOneIsMissing)
{
    memory_.AllocatePool2 = nullptr;

    void *address = MemoryAllocate(&memory_, 100);

    ASSERT_NE(address, nullptr);
    EXPECT_TRUE(IsZero(address, 100));
    MemoryFree(&memory_, address);
}

TEST_F(MemoryTest, FailsWithoutAnyPoolRoutine)
{
    memory_.AllocatePool2 = nullptr;
    memory_.AllocatePoolWithTag = nullptr;

    EXPECT_EQ(MemoryAllocate(&memory_, 100), nullptr);
    EXPECT_EQ(MemoryBytes(&memory_), 0u);
}

TEST_F(MemoryTest, MayBeUsedAtDispatchLevel)
{
    kext_test::AtDispatchLevel dispatch;
    void *address = MemoryAllocate(&memory_, 100);

    EXPECT_NE(address, nullptr);
    MemoryFree(&memory_, address);
}

TEST_F(MemoryTest, CountsCorrectlyOnManyProcessorsAtOnce)
{
    RunThreads(4,
               [&](unsigned thread)
               {
                   for (unsigned i = 0; i < 2000; i++)
                   {
                       void *a = MemoryAllocate(&memory_, 16 + (i + thread) % 300);
                       void *b = MemoryAllocateCacheAligned(&memory_, 1 + i % 200);

                       MemoryFree(&memory_, a);
                       MemoryFree(&memory_, b);
                   }
               });
    EXPECT_EQ(MemoryBytes(&memory_), 0u);
    EXPECT_GT(MemoryPeakBytes(&memory_), 0u);
}

} // namespace

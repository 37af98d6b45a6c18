#include "nt_fixture.h"

#include "nt/driver_call.h"

#include <cstdio>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace sim::test
{
namespace
{

using ::testing::HasSubstr;

char *Allocate(size_t bytes)
{
    return static_cast<char *>(ExAllocatePoolWithTag(NonPagedPoolNx, bytes, kTag));
}

void Free(void *address)
{
    ExFreePoolWithTag(address, kTag);
}

bool IsAligned(const void *address, size_t alignment)
{
    return reinterpret_cast<uintptr_t>(address) % alignment == 0;
}

class PoolTest : public ::testing::TestWithParam<bool>
{
  protected:
    static MachineOptions Options()
    {
        MachineOptions options = Deterministic();

        options.verifier = GetParam();
        return options;
    }

    TestMachine machine{Options()};
};

INSTANTIATE_TEST_SUITE_P(VerifierOffAndOn, PoolTest, ::testing::Bool(),
                         [](const auto &info) { return info.param ? "Verified" : "Fast"; });

TEST_P(PoolTest, CountsAllocationsAndTheirBytes)
{
    void *first = Allocate(100);
    void *second = Allocate(5000);

    EXPECT_EQ(machine->pool().bytes(), 5100);
    EXPECT_EQ(machine->pool().allocations(), 2);
    Free(first);
    EXPECT_EQ(machine->pool().bytes(), 5000);
    Free(second);
    EXPECT_EQ(machine->pool().bytes(), 0);
    EXPECT_EQ(machine->pool().allocations(), 0);
}

TEST_P(PoolTest, AlignsBySize)
{
    for (size_t bytes : {size_t{1}, size_t{17}, size_t{4095}})
    {
        void *small = Allocate(bytes);

        EXPECT_TRUE(IsAligned(small, MEMORY_ALLOCATION_ALIGNMENT)) << bytes;
        Free(small);
    }
    for (size_t bytes : {size_t{4096}, size_t{70000}})
    {
        void *pages = Allocate(bytes);

        EXPECT_TRUE(IsAligned(pages, PAGE_SIZE)) << bytes;
        Free(pages);
    }
    for (size_t bytes : {nt::Pool::kLargePage, 3 * nt::Pool::kLargePage + 1})
    {
        void *large = Allocate(bytes);

        EXPECT_TRUE(IsAligned(large, nt::Pool::kLargePage)) << bytes;
        std::memset(large, 1, bytes);
        Free(large);
    }
}

TEST_P(PoolTest, AllocatePool2ZeroesUnlessUninitializedIsRequested)
{
    const std::vector<char> zeros(nt::Pool::kLargePage, 0);

    for (size_t bytes : {size_t{40}, size_t{5000}, nt::Pool::kLargePage})
    {
        void *used = Allocate(bytes);

        std::memset(used, 0x5A, bytes);
        Free(used);

        void *zeroed = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, kTag);

        EXPECT_EQ(std::memcmp(zeroed, zeros.data(), bytes), 0) << bytes;
        ExFreePool(zeroed);
    }
}

TEST_P(PoolTest, ManyAllocationsOfAllSizesKeepTheirContent)
{
    std::vector<std::pair<char *, size_t>> blocks;

    for (size_t i = 0; i < 500; i++)
    {
        size_t bytes = 1 + i * 37 % 9000;
        char *block = Allocate(bytes);

        std::memset(block, static_cast<int>(i), bytes);
        blocks.emplace_back(block, bytes);
    }
    for (size_t i = 0; i < blocks.size(); i++)
    {
        EXPECT_EQ(blocks[i].first[0], static_cast<char>(i));
        EXPECT_EQ(blocks[i].first[blocks[i].second - 1], static_cast<char>(i));
        Free(blocks[i].first);
    }
    EXPECT_EQ(machine->pool().allocations(), 0);
}

TEST_P(PoolTest, ThreadsAllocateAndFreeAtOnce)
{
    std::vector<std::thread> threads;

    for (int i = 0; i < 3; i++)
    {
        threads.emplace_back(
            [this]
            {
                Machine::Scope scope(*machine);

                for (size_t j = 1; j < 300; j++)
                {
                    char *block = Allocate(j * 31 % 6000 + 1);

                    *block = 1;
                    Free(block);
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    EXPECT_EQ(machine->pool().allocations(), 0);
    machine->pool().CheckIntegrity();
}

TEST_P(PoolTest, ReportNamesTheTag)
{
    void *block = Allocate(64);

    EXPECT_THAT(machine->pool().Report(), HasSubstr("tag 'Test': 1 allocation(s), 64 bytes"));
    Free(block);
    EXPECT_EQ(machine->pool().Report(), "");
}

TEST_P(PoolTest, InjectedFaultFailsOneAllocation)
{
    machine->faults().FailNth(1);

    void *first = Allocate(8);

    EXPECT_NE(first, nullptr);
    EXPECT_EQ(Allocate(8), nullptr);
    EXPECT_EQ(machine->faults().failures(), 1u);
    EXPECT_EQ(machine->faults().calls(), 2u);
    machine->faults().Stop();
    Free(first);
}

TEST(PoolVerifierTest, NewMemoryIsNotZero)
{
    TestMachine machine;
    char *block = Allocate(16);

    EXPECT_NE(block[0], 0);
    Free(block);
}

TEST(PoolVerifierTest, NewAndReusedMemoryIsFilledWithTheChosenByte)
{
    TestMachine machine;

    machine->pool().SetFreshByte(0x5A);
    for (size_t size : {16, 300 * 1024}) // kept after it is freed, and not kept
    {
        for (int round = 0; round < 2; round++)
        {
            char *block = Allocate(size);

            EXPECT_EQ(std::count(block, block + size, 0x5A), static_cast<ptrdiff_t>(size));
            std::memset(block, 1, size);
            Free(block);
        }
    }
}

TEST(PoolVerifierTest, ReportSaysWhereMemoryWasAllocated)
{
    TestMachine machine;
    void *first = Allocate(64);
    void *second = Allocate(64);
    std::string report = machine->pool().Report();

    // Two call sites in this function give two lines.
    EXPECT_THAT(report, HasSubstr("allocated at "));
    EXPECT_THAT(report, HasSubstr(" < "));
    EXPECT_EQ(std::count(report.begin(), report.end(), '\n'), 2) << report;
    Free(first);
    Free(second);
}

// Fails the first call from each call site.
class EachPlaceOnce : public nt::FaultPlan
{
  public:
    EachPlaceOnce() { nt::FaultInjection::SetPlan(this); }
    ~EachPlaceOnce() override { nt::FaultInjection::SetPlan(nullptr); }

    bool Fails(const nt::CallStack &stack) override { return places_.insert(stack.Hash()).second; }

    size_t places() const { return places_.size(); }

  private:
    std::set<uint64_t> places_;
};

__attribute__((noinline)) bool AllocatesAndFrees()
{
    void *block = Allocate(8);

    if (block == nullptr)
    {
        return false;
    }
    Free(block);
    return true;
}

TEST(FaultInjectionTest, APlanDecidesOnlyOnTheDriversCalls)
{
    EachPlaceOnce plan;
    TestMachine machine;

    EXPECT_TRUE(AllocatesAndFrees());
    EXPECT_EQ(plan.places(), 0u);
}

TEST(FaultInjectionTest, APlanSeesTheSameStackForEveryCallerOfTheDriver)
{
    EachPlaceOnce plan;
    TestMachine machine;
    const auto enter = []
    {
        const nt::DriverCall call("a test");

        return AllocatesAndFrees();
    };

    EXPECT_FALSE(enter());
    EXPECT_TRUE(enter()) << "the same place, called from another";
    EXPECT_EQ(plan.places(), 1u);
}

TEST(FaultInjectionTest, FailAllFailsUntilStopped)
{
    TestMachine machine;

    machine->faults().FailAll();
    EXPECT_EQ(Allocate(8), nullptr);
    EXPECT_EQ(Allocate(8), nullptr);
    machine->faults().Stop();

    void *block = Allocate(8);

    EXPECT_NE(block, nullptr);
    Free(block);
}

TEST(FaultInjectionTest, FailOneInFailsThatShareOfOnlyTheDriversCalls)
{
    constexpr int kCalls = 10000;
    TestMachine machine;
    int failed = 0;

    machine->faults().FailOneIn(10);
    EXPECT_TRUE(AllocatesAndFrees()) << "the test's own call";
    for (int i = 0; i < kCalls; i++)
    {
        const nt::DriverCall call("a test");

        failed += AllocatesAndFrees() ? 0 : 1;
    }
    EXPECT_NEAR(failed, kCalls / 10, kCalls / 50);
    EXPECT_EQ(machine->faults().failures(), static_cast<uint64_t>(failed));
}

TEST(PoolDeathTest, LeakEndsTheMachineAndReportsItsTag)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            Allocate(24);
        },
        "BUGCHECK POOL_LEAK: the machine ends(.|\n)*'Test': 1 allocation.*24 bytes, allocated at");
    EXPECT_DEATH(
        {
            TestMachine machine(WithoutVerifier());
            Allocate(24);
        },
        "BUGCHECK POOL_LEAK(.|\n)*'Test': 1 allocation.*24 bytes");
}

TEST(PoolDeathTest, DoubleFreeIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            void *block = Allocate(24);

            Free(block);
            Free(block);
        },
        "BUGCHECK POOL_DOUBLE_FREE: .*24 bytes, tag 'Test'.*allocated at .*; freed at ");
}

TEST(PoolDeathTest, WrongTagIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            ExFreePoolWithTag(Allocate(24), 'rhtO');
        },
        "BUGCHECK POOL_WRONG_TAG: .*'Test'.*is freed with tag 'Othr'");
    EXPECT_DEATH(
        {
            TestMachine machine(WithoutVerifier());
            ExFreePoolWithTag(Allocate(24), 'rhtO');
        },
        "BUGCHECK POOL_WRONG_TAG");
    EXPECT_DEATH(
        {
            TestMachine machine(WithoutVerifier());
            ExFreePoolWithTag(Allocate(8192), 'rhtO');
        },
        "BUGCHECK POOL_WRONG_TAG");
}

TEST(PoolDeathTest, FreeOfAnAddressOutsideThePoolIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            Free(Allocate(64) + 16);
        },
        "BUGCHECK POOL_BAD_ADDRESS");
    EXPECT_DEATH(
        {
            TestMachine machine(WithoutVerifier());
            Free(Allocate(64) + 16);
        },
        "BUGCHECK POOL_BAD_ADDRESS");
    EXPECT_DEATH(
        {
            TestMachine machine;
            Free(nullptr);
        },
        "BUGCHECK POOL_BAD_ADDRESS");
}

// The size is a variable, so the compiler cannot see the bad access.
void WriteAt(char *block, volatile long offset)
{
    block[offset] = 0;
}

TEST(PoolDeathTest, OverrunIsFoundAtFree)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            char *block = Allocate(21);

            WriteAt(block, 21);
            Free(block);
        },
        RULE_OR_SANITIZER("POOL_OVERRUN"));
    EXPECT_DEATH(
        {
            TestMachine machine;
            char *block = Allocate(8192);

            WriteAt(block, 8192);
            machine->pool().CheckIntegrity();
        },
        RULE_OR_SANITIZER("POOL_OVERRUN"));
}

TEST(PoolDeathTest, UnderrunIsFoundAtFree)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            char *block = Allocate(21);

            WriteAt(block, -1);
            Free(block);
        },
        RULE_OR_SANITIZER("POOL_UNDERRUN"));
}

TEST(PoolDeathTest, WriteAfterFreeIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            char *block = Allocate(21);

            Free(block);
            WriteAt(block, 3);
            machine->pool().CheckIntegrity();
        },
        RULE_OR_SANITIZER("POOL_USE_AFTER_FREE"));
    EXPECT_DEATH(
        {
            TestMachine machine;
            char *block = Allocate(21);

            Free(block);
            WriteAt(block, 3);
            for (int i = 0; i < 5000; i++)
            {
                Free(Allocate(16));
            }
        },
        RULE_OR_SANITIZER("POOL_USE_AFTER_FREE"));
}

TEST(PoolDeathTest, ZeroBytesAndZeroTagsAreFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            Allocate(0);
        },
        "BUGCHECK POOL_ZERO_BYTES");
    EXPECT_DEATH(
        {
            TestMachine machine;
            ExAllocatePoolWithTag(NonPagedPoolNx, 8, 0);
        },
        "BUGCHECK POOL_NO_TAG");
}

TEST(PoolDeathTest, PagedPoolAtDispatchLevelIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            nt::IrqlScope irql(DISPATCH_LEVEL);

            ExAllocatePoolWithTag(PagedPool, 8, kTag);
        },
        "BUGCHECK IRQL_TOO_HIGH: ExAllocatePoolWithTag was called at DISPATCH_LEVEL; its highest level is APC_LEVEL");
}

TEST(PoolDeathTest, FreeOfMemoryWithAQueuedTimerIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            PKTIMER timer = reinterpret_cast<PKTIMER>(Allocate(sizeof(KTIMER)));

            KeInitializeTimer(timer);
            KeSetTimer(timer, Relative(std::chrono::seconds(1)), nullptr);
            Free(timer);
        },
        "BUGCHECK FREED_WITH_TIMER");
}

TEST(PoolDeathTest, FreeOfMemoryWithAQueuedDpcIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            PKDPC dpc = reinterpret_cast<PKDPC>(Allocate(sizeof(KDPC)));

            KeInitializeDpc(dpc, [](PKDPC, PVOID, PVOID, PVOID) {}, nullptr);
            KeInsertQueueDpc(dpc, nullptr, nullptr);
            Free(dpc);
        },
        "BUGCHECK FREED_WITH_DPC");
}

TEST(MachineDeathTest, KernelFunctionNeedsAMachine)
{
    EXPECT_DEATH(KeQueryInterruptTime(), "BUGCHECK NO_MACHINE");
}

} // namespace
} // namespace sim::test

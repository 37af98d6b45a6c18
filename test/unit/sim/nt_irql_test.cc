#include "nt_fixture.h"

#include <ndis.h>

#include <fwpsk.h>

#include "nt/driver_call.h"

#include <thread>
#include <vector>

namespace sim::test
{
namespace
{

TEST(IrqlTest, RaisesAndLowers)
{
    KIRQL old;

    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    KeRaiseIrql(DISPATCH_LEVEL, &old);
    EXPECT_EQ(old, PASSIVE_LEVEL);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(old);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

TEST(IrqlTest, BelongsToEachThread)
{
    nt::IrqlScope irql(DISPATCH_LEVEL);
    KIRQL other = HIGH_LEVEL;

    std::thread([&other] { other = KeGetCurrentIrql(); }).join();
    EXPECT_EQ(other, PASSIVE_LEVEL);
}

TEST(SpinLockTest, RaisesToDispatchAndRestores)
{
    KSPIN_LOCK lock;
    KIRQL irql;

    KeInitializeSpinLock(&lock);
    EXPECT_TRUE(KeTestSpinLock(&lock));
    KeAcquireSpinLock(&lock, &irql);
    EXPECT_EQ(irql, PASSIVE_LEVEL);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    EXPECT_FALSE(KeTestSpinLock(&lock));
    EXPECT_EQ(nt::thread_state.locks_held, 1);
    KeReleaseSpinLock(&lock, irql);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    EXPECT_TRUE(KeTestSpinLock(&lock));
    EXPECT_EQ(nt::thread_state.locks_held, 0);
}

TEST(SpinLockTest, NestsAtDpcLevel)
{
    KSPIN_LOCK outer;
    KSPIN_LOCK inner;
    KLOCK_QUEUE_HANDLE handle;
    KLOCK_QUEUE_HANDLE inner_handle;

    KeInitializeSpinLock(&outer);
    KeInitializeSpinLock(&inner);
    KeAcquireInStackQueuedSpinLock(&outer, &handle);
    KeAcquireSpinLockAtDpcLevel(&inner);
    EXPECT_EQ(nt::thread_state.locks_held, 2);
    KeReleaseSpinLockFromDpcLevel(&inner);
    KeAcquireInStackQueuedSpinLockAtDpcLevel(&inner, &inner_handle);
    KeReleaseInStackQueuedSpinLockFromDpcLevel(&inner_handle);
    KeReleaseInStackQueuedSpinLock(&handle);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    EXPECT_EQ(nt::thread_state.locks_held, 0);
}

TEST(SpinLockTest, TryFailsWhileHeldByAnother)
{
    KSPIN_LOCK lock;
    BOOLEAN acquired = TRUE;
    KIRQL irql;

    KeInitializeSpinLock(&lock);
    KeAcquireSpinLock(&lock, &irql);
    std::thread(
        [&lock, &acquired]
        {
            nt::IrqlScope dispatch(DISPATCH_LEVEL);

            acquired = KeTryToAcquireSpinLockAtDpcLevel(&lock);
        })
        .join();
    EXPECT_FALSE(acquired);
    KeReleaseSpinLock(&lock, irql);
}

TEST(SpinLockTest, ExcludesOtherThreads)
{
    constexpr int kThreads = 3;
    constexpr int kRounds = 3000;

    KSPIN_LOCK lock;
    int counter = 0;
    std::vector<std::thread> threads;

    KeInitializeSpinLock(&lock);
    for (int i = 0; i < kThreads; i++)
    {
        threads.emplace_back(
            [&lock, &counter, i]
            {
                for (int round = 0; round < kRounds; round++)
                {
                    KLOCK_QUEUE_HANDLE handle;
                    KIRQL irql;

                    if (i % 2 == 0)
                    {
                        KeAcquireSpinLock(&lock, &irql);
                        counter++;
                        KeReleaseSpinLock(&lock, irql);
                    }
                    else
                    {
                        KeAcquireInStackQueuedSpinLock(&lock, &handle);
                        counter++;
                        KeReleaseInStackQueuedSpinLock(&handle);
                    }
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    EXPECT_EQ(counter, kThreads * kRounds);
}

TEST(IrqlDeathTest, RaisingToALowerLevelIsFound)
{
    EXPECT_DEATH(
        {
            nt::IrqlScope irql(DISPATCH_LEVEL);
            KIRQL old;

            KeRaiseIrql(APC_LEVEL, &old);
        },
        "BUGCHECK IRQL_RAISED_DOWN");
}

TEST(IrqlDeathTest, LoweringToAHigherLevelIsFound)
{
    EXPECT_DEATH(KeLowerIrql(DISPATCH_LEVEL), "BUGCHECK IRQL_LOWERED_UP");
}

TEST(IrqlDeathTest, LoweringWithALockHeldIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            KIRQL irql;

            KeAcquireSpinLock(&lock, &irql);
            KeLowerIrql(irql);
        },
        "BUGCHECK LOCK_HELD_OVER_CALL: KeLowerIrql");
}

TEST(IrqlDeathTest, PassiveOnlyFunctionAtDispatchIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            nt::IrqlScope irql(DISPATCH_LEVEL);

            KeFlushQueuedDpcs();
        },
        "BUGCHECK IRQL_WRONG: KeFlushQueuedDpcs was called at DISPATCH_LEVEL; it needs PASSIVE_LEVEL");
}

TEST(IrqlDeathTest, WaitingAtDispatchIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            KEVENT event;
            nt::IrqlScope irql(DISPATCH_LEVEL);

            KeInitializeEvent(&event, NotificationEvent, TRUE);
            KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, nullptr);
        },
        "BUGCHECK IRQL_TOO_HIGH: KeWaitForSingleObject");
}

TEST(IrqlDeathTest, PagedCodeAtDispatchIsFound)
{
    EXPECT_DEATH(
        {
            nt::IrqlScope irql(DISPATCH_LEVEL);

            PAGED_CODE();
        },
        "BUGCHECK IRQL_TOO_HIGH");
}

TEST(SpinLockDeathTest, RecursionIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            KIRQL irql;

            KeAcquireSpinLock(&lock, &irql);
            KeAcquireSpinLock(&lock, &irql);
        },
        "BUGCHECK SPIN_LOCK_RECURSION");
}

TEST(SpinLockDeathTest, TwoLocksInBothOrdersAreFoundWithoutADeadlock)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK first;
            KSPIN_LOCK second;
            nt::IrqlScope dispatch(DISPATCH_LEVEL);

            KeInitializeSpinLock(&first);
            KeInitializeSpinLock(&second);
            KeAcquireSpinLockAtDpcLevel(&first);
            KeAcquireSpinLockAtDpcLevel(&second);
            KeReleaseSpinLockFromDpcLevel(&first);
            KeReleaseSpinLockFromDpcLevel(&second);
            KeAcquireSpinLockAtDpcLevel(&second);
            KeAcquireSpinLockAtDpcLevel(&first);
        },
        "BUGCHECK SPIN_LOCK_ORDER");
}

TEST(SpinLockDeathTest, ACycleOfThreeLocksIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK locks[3];
            nt::IrqlScope dispatch(DISPATCH_LEVEL);

            for (KSPIN_LOCK &lock : locks)
            {
                KeInitializeSpinLock(&lock);
            }
            for (int i = 0; i < 3; i++)
            {
                KeAcquireSpinLockAtDpcLevel(&locks[i]);
                KeAcquireSpinLockAtDpcLevel(&locks[(i + 1) % 3]);
                KeReleaseSpinLockFromDpcLevel(&locks[(i + 1) % 3]);
                KeReleaseSpinLockFromDpcLevel(&locks[i]);
            }
        },
        "BUGCHECK SPIN_LOCK_ORDER");
}

TEST(SpinLockTest, ANewLockInReusedMemoryHasNoOrder)
{
    KSPIN_LOCK first;
    KSPIN_LOCK second;
    nt::IrqlScope dispatch(DISPATCH_LEVEL);

    KeInitializeSpinLock(&first);
    KeInitializeSpinLock(&second);
    KeAcquireSpinLockAtDpcLevel(&first);
    KeAcquireSpinLockAtDpcLevel(&second);
    KeReleaseSpinLockFromDpcLevel(&second);
    KeReleaseSpinLockFromDpcLevel(&first);
    KeInitializeSpinLock(&first);
    KeAcquireSpinLockAtDpcLevel(&second);
    KeAcquireSpinLockAtDpcLevel(&first);
    KeReleaseSpinLockFromDpcLevel(&first);
    KeReleaseSpinLockFromDpcLevel(&second);
    EXPECT_EQ(nt::thread_state.locks_held, 0);
}

TEST(SpinLockDeathTest, ReleaseOfAFreeLockIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            nt::IrqlScope irql(DISPATCH_LEVEL);

            KeReleaseSpinLockFromDpcLevel(&lock);
        },
        "BUGCHECK SPIN_LOCK_NOT_OWNED: .*nobody holds it");
}

TEST(SpinLockDeathTest, ReleaseByAnotherThreadIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            KIRQL irql;

            KeAcquireSpinLock(&lock, &irql);
            std::thread(
                [&lock]
                {
                    nt::IrqlScope dispatch(DISPATCH_LEVEL);

                    KeReleaseSpinLockFromDpcLevel(&lock);
                })
                .join();
        },
        "BUGCHECK SPIN_LOCK_NOT_OWNED: .*another thread holds it");
}

TEST(SpinLockDeathTest, ReleaseToAnotherIrqlIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            nt::IrqlScope dispatch(DISPATCH_LEVEL);

            KeAcquireSpinLockRaiseToDpc(&lock);
            KeReleaseSpinLock(&lock, PASSIVE_LEVEL);
        },
        "BUGCHECK SPIN_LOCK_WRONG_IRQL: .*released to IRQL 0; it was acquired at 2");
}

TEST(SpinLockDeathTest, ReleaseBelowDispatchIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;

            KeReleaseSpinLock(&lock, PASSIVE_LEVEL);
        },
        "BUGCHECK IRQL_WRONG: KeReleaseSpinLock");
}

TEST(SpinLockDeathTest, AcquireAtDpcLevelBelowDispatchIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;

            KeAcquireSpinLockAtDpcLevel(&lock);
        },
        "BUGCHECK IRQL_WRONG: KeAcquireSpinLockAtDpcLevel");
}

TEST(SpinLockDeathTest, QueuedLockReleasedAsPlainIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            KLOCK_QUEUE_HANDLE handle;

            KeAcquireInStackQueuedSpinLock(&lock, &handle);
            KeReleaseSpinLock(&lock, handle.OldIrql);
        },
        "BUGCHECK SPIN_LOCK_MIXED");
}

TEST(SpinLockDeathTest, CallOutWithALockHeldIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            KSPIN_LOCK lock = 0;
            KIRQL irql;

            KeAcquireSpinLock(&lock, &irql);
            FwpsCompleteOperation0(nullptr, nullptr);
        },
        "BUGCHECK LOCK_HELD_OVER_CALL: FwpsCompleteOperation0 was called with 1 spin lock");
}

TEST(DriverCallDeathTest, ReturningAtAnotherIrqlIsFound)
{
    EXPECT_DEATH(
        {
            nt::DriverCall call("classify");

            KfRaiseIrql(DISPATCH_LEVEL);
        },
        "BUGCHECK IRQL_CHANGED_BY_CALL: classify was entered at PASSIVE_LEVEL and returned at DISPATCH_LEVEL");
}

TEST(DriverCallDeathTest, UsingTooMuchStackIsFound)
{
    TestMachine machine;
    nt::DriverCall call("classify");

    AllocateBelow(nt::kMostStackOfDriver / 2);
    EXPECT_DEATH(AllocateBelow(nt::kMostStackOfDriver),
                 "BUGCHECK STACK_TOO_DEEP: ExAllocatePoolWithTag was called with .* bytes of stack in use");
}

TEST(DriverCallDeathTest, ReturningWithALockHeldIsFound)
{
    EXPECT_DEATH(
        {
            KSPIN_LOCK lock = 0;
            nt::DriverCall call("classify");

            KeAcquireSpinLockRaiseToDpc(&lock);
        },
        "BUGCHECK LOCK_HELD_AT_RETURN: classify was entered with 0 spin lock.*returned with 1");
}

} // namespace
} // namespace sim::test

#include "rw_lock.h"

#include "kext_test.h"
#include "sim/nt_fixture.h"

namespace
{

class RwLockTest : public kext_test::KextTest
{
  protected:
    RwLockTest() { RwLockInitialize(&lock_); }

    RW_LOCK lock_;
};

TEST_F(RwLockTest, RaisesToDispatchLevelAndRestoresTheOldLevel)
{
    KIRQL irql = RwLockAcquireShared(&lock_);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    RwLockReleaseShared(&lock_, irql);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);

    irql = RwLockAcquireExclusive(&lock_);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    RwLockReleaseExclusive(&lock_, irql);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);

    kext_test::AtDispatchLevel dispatch;
    irql = RwLockAcquireShared(&lock_);
    RwLockReleaseShared(&lock_, irql);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
}

TEST_F(RwLockTest, ReadersEnterTogether)
{
    std::atomic<unsigned> inside{0};

    // Each reader waits inside for the others: an exclusive lock would never let this end.
    RunThreads(4,
               [&](unsigned)
               {
                   KIRQL irql = RwLockAcquireShared(&lock_);

                   inside++;
                   while (inside < 4)
                   {
                       std::this_thread::yield();
                   }
                   RwLockReleaseShared(&lock_, irql);
               });
    EXPECT_EQ(lock_.State, 0);
}

TEST_F(RwLockTest, AWriterIsAlone)
{
    uint64_t first = 0;
    uint64_t second = 0;

    RunThreads(4,
               [&](unsigned thread)
               {
                   for (unsigned i = 0; i < 5000; i++)
                   {
                       if (thread % 2 == 0)
                       {
                           KIRQL irql = RwLockAcquireExclusive(&lock_);

                           first++;
                           second++;
                           RwLockReleaseExclusive(&lock_, irql);
                       }
                       else
                       {
                           KIRQL irql = RwLockAcquireShared(&lock_);

                           EXPECT_EQ(first, second);
                           RwLockReleaseShared(&lock_, irql);
                       }
                   }
               });
    EXPECT_EQ(first, 10000u);
    EXPECT_EQ(second, 10000u);
    EXPECT_EQ(lock_.State, 0);
}

TEST_F(RwLockTest, AWaitingWriterIsNotStarvedByReaders)
{
    std::atomic<bool> written{false};

    // Two readers always overlap, and the writer must still get in.
    RunThreads(3,
               [&](unsigned thread)
               {
                   if (thread == 0)
                   {
                       KIRQL irql = RwLockAcquireExclusive(&lock_);

                       written = true;
                       RwLockReleaseExclusive(&lock_, irql);
                       return;
                   }
                   while (!written)
                   {
                       KIRQL irql = RwLockAcquireShared(&lock_);

                       RwLockReleaseShared(&lock_, irql);
                   }
               });
    EXPECT_TRUE(written);
}

// A driver whose read routine uses its locks as a test says.
class RwLockDeathTest : public testing::Test
{
  protected:
    RwLockDeathTest()
    {
        RwLockInitialize(&lock_);
        RwLockInitialize(&other_);
        KeInitializeSpinLock(&spin_lock_);
    }

    // Reads once per use.
    void Read(const std::vector<std::function<void()>> &uses)
    {
        sim::test::TestMachine machine;
        sim::test::TestDriver driver;
        sim::nt::File *file;
        char buffer[8];

        driver.Load(*machine);
        EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &file), STATUS_SUCCESS);
        for (const std::function<void()> &use : uses)
        {
            driver.dispatch[IRP_MJ_READ] = [&use](PDEVICE_OBJECT, PIRP irp)
            {
                use();
                return sim::test::CompleteWith(irp, STATUS_SUCCESS);
            };
            machine->io().Read(file, buffer, sizeof(buffer), nullptr, nullptr);
        }
        machine->io().Close(file);
        machine->io().UnloadDriver(driver.object);
    }

    RW_LOCK lock_;
    RW_LOCK other_;
    KSPIN_LOCK spin_lock_;
};

TEST_F(RwLockDeathTest, AReaderThatEntersAgainIsFound)
{
    EXPECT_DEATH(Read({[this]
                       {
                           (void)RwLockAcquireShared(&lock_);
                           (void)RwLockAcquireShared(&lock_);
                       }}),
                 "BUGCHECK SPIN_LOCK_RECURSION");
}

TEST_F(RwLockDeathTest, AReaderThatBecomesTheWriterIsFound)
{
    EXPECT_DEATH(Read({[this]
                       {
                           (void)RwLockAcquireShared(&lock_);
                           (void)RwLockAcquireExclusive(&lock_);
                       }}),
                 "BUGCHECK SPIN_LOCK_RECURSION");
}

TEST_F(RwLockDeathTest, TwoLocksInBothOrdersAreFound)
{
    const auto take = [](RW_LOCK *first, RW_LOCK *second)
    {
        const KIRQL irql = RwLockAcquireShared(first);

        RwLockAcquireExclusiveAtDpcLevel(second);
        RwLockReleaseExclusiveFromDpcLevel(second);
        RwLockReleaseShared(first, irql);
    };

    EXPECT_DEATH(Read({[&] { take(&lock_, &other_); }, [&] { take(&other_, &lock_); }}), "BUGCHECK SPIN_LOCK_ORDER");
}

TEST_F(RwLockDeathTest, ASpinLockTakenBeforeAndAfterItIsFound)
{
    const auto spin_lock_first = [this]
    {
        KIRQL irql;

        KeAcquireSpinLock(&spin_lock_, &irql);
        RwLockAcquireSharedAtDpcLevel(&lock_);
        RwLockReleaseSharedFromDpcLevel(&lock_);
        KeReleaseSpinLock(&spin_lock_, irql);
    };
    const auto spin_lock_last = [this]
    {
        const KIRQL irql = RwLockAcquireShared(&lock_);

        KeAcquireSpinLockAtDpcLevel(&spin_lock_);
        KeReleaseSpinLockFromDpcLevel(&spin_lock_);
        RwLockReleaseShared(&lock_, irql);
    };

    EXPECT_DEATH(Read({spin_lock_first, spin_lock_last}), "BUGCHECK SPIN_LOCK_ORDER");
}

TEST_F(RwLockDeathTest, ACallOutsideWhileItIsHeldIsFound)
{
    EXPECT_DEATH(Read({[this] { (void)RwLockAcquireShared(&lock_); }}),
                 "BUGCHECK LOCK_HELD_OVER_CALL: IoCompleteRequest");
    EXPECT_DEATH(Read({[this] { (void)RwLockAcquireExclusive(&lock_); }}),
                 "BUGCHECK LOCK_HELD_OVER_CALL: IoCompleteRequest");
}

TEST_F(RwLockDeathTest, ReleasingItWithoutHoldingItIsFound)
{
    EXPECT_DEATH(Read({[this]
                       {
                           kext_test::AtDispatchLevel dispatch;

                           RwLockReleaseSharedFromDpcLevel(&lock_);
                       }}),
                 "BUGCHECK SPIN_LOCK_NOT_OWNED");
}

} // namespace

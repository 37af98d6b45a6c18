#include "rw_lock.h"

#include "kext_test.h"

namespace
{

class RwLockTest : public kext_test::KextTest
{
  protected:
    RwLockTest() { RwLockInitialize(&lock_); }

    RW_LOCK lock_;
};

TEST_F(RwLockTest, RaisesToDispatchLevelAndGivesTheOldLevelBack)
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

    // Each waits inside for the others: with a lock that lets one in at a time this would not end.
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

    // Two readers always overlap; the writer must get in all the same.
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

} // namespace

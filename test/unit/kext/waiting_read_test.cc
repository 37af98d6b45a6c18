// Reads that wait in the thread that issued them, at the queue itself.
#include "io_queue.h"

#include "kext_test.h"
#include "queue_device.h"

#include "nt/client_process.h"
#include "nt/user_wait.h"

#include <memory>
#include <random>

namespace kext_test
{
namespace
{

ByteVector MakeRecord(uint8_t type)
{
    return {type, 1, 0, 0, 0, 7};
}

class WaitingReadTest : public KextTest
{
  protected:
    explicit WaitingReadTest(const sim::MachineOptions &options = StandingClock())
        : KextTest(options), device_(std::make_unique<QueueDevice>(machine_, &memory_, true))
    {
    }

    ~WaitingReadTest() override { device_.reset(); }

    NTSTATUS Push(uint8_t type)
    {
        const ByteVector record = MakeRecord(type);
        const IO_QUEUE_PIECE piece = {record.data(), static_cast<UINT32>(record.size())};
        const IO_QUEUE_LOSS loss = {LossQueueFull, 0};

        return IoQueuePush(device_->queue(), &piece, 1, &loss);
    }

    // Starts a read on this thread. `others` is what the other threads do while it waits.
    AsyncRead *ReadWhile(const std::function<void()> &others)
    {
        const sim::nt::WhileWaiting waiting(others);

        return device_->StartRead(100);
    }

    std::unique_ptr<QueueDevice> device_;
};

TEST_F(WaitingReadTest, AReadOfZeroBytesDoesNotWait)
{
    const AsyncRead *read = device_->StartRead(0);

    EXPECT_TRUE(read->done);
    EXPECT_EQ(read->status, STATUS_SUCCESS);
}

TEST_F(WaitingReadTest, AReadThatArrivesCancelledTakesNoRecord)
{
    ASSERT_EQ(Push(1), STATUS_SUCCESS);
    const AsyncRead *cancelled = device_->StartCancelledRead(100);

    EXPECT_TRUE(cancelled->done);
    EXPECT_EQ(cancelled->status, STATUS_CANCELLED);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(1));
}

TEST_F(WaitingReadTest, AReadWithoutAClientIsCancelled)
{
    IoQueueDetach(device_->queue());
    EXPECT_EQ(device_->StartRead(100)->status, STATUS_CANCELLED);
}

TEST_F(WaitingReadTest, ADetachDoesNotWaitForAReadAndTheReadGetsNothingOfTheNextClient)
{
    const AsyncRead *read = ReadWhile(
        [this]
        {
            IoQueueDetach(device_->queue());
            IoQueueAttach(device_->queue());
            EXPECT_EQ(Push(2), STATUS_SUCCESS);
        });

    EXPECT_EQ(read->status, STATUS_CANCELLED);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(2));
}

TEST_F(WaitingReadTest, ACancelledReadLeavesItsRecordToTheNextRead)
{
    const AsyncRead *read = ReadWhile(
        [this]
        {
            EXPECT_EQ(Push(1), STATUS_SUCCESS);
            machine_.io().CancelAll(device_->file());
        });

    EXPECT_EQ(read->status, STATUS_CANCELLED);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(1));
}

TEST_F(WaitingReadTest, ACancelledReadLetsThePendedReadBehindItHaveTheRecord)
{
    AsyncRead read;
    AsyncRead *pended = nullptr;
    const sim::nt::WhileWaiting others(
        [this, &read, &pended]
        {
            IoQueueExtend(device_->queue());
            pended = device_->StartRead(100);
            EXPECT_EQ(Push(1), STATUS_SUCCESS);
            machine_.io().Cancel(device_->file(), &read);
            EXPECT_FALSE(pended->done) << "the waiting read came before";
        });

    device_->StartRead(&read, 100);
    EXPECT_EQ(read.status, STATUS_CANCELLED);
    ASSERT_TRUE(pended->done);
    EXPECT_EQ(pended->data(), MakeRecord(1));
}

TEST_F(WaitingReadTest, WaitingReadsAreServedBeforePendedOnes)
{
    AsyncRead *pended = nullptr;
    const AsyncRead *read = ReadWhile(
        [this, &pended]
        {
            IoQueueExtend(device_->queue());
            pended = device_->StartRead(6);
            EXPECT_EQ(Push(1), STATUS_SUCCESS);
            EXPECT_FALSE(pended->done);
        });

    EXPECT_EQ(read->data(), MakeRecord(1));
    EXPECT_FALSE(pended->done);
    EXPECT_EQ(Push(2), STATUS_SUCCESS);
    EXPECT_EQ(pended->data(), MakeRecord(2));
}

TEST_F(WaitingReadTest, AWaitingReadAlsoServesThePendedReadsBehindIt)
{
    AsyncRead *pended = nullptr;
    const sim::nt::WhileWaiting others(
        [this, &pended]
        {
            IoQueueExtend(device_->queue());
            pended = device_->StartRead(6);
            EXPECT_EQ(Push(1), STATUS_SUCCESS);
            EXPECT_EQ(Push(2), STATUS_SUCCESS);
        });
    const AsyncRead *read = device_->StartRead(6);

    EXPECT_EQ(read->data(), MakeRecord(1));
    ASSERT_TRUE(pended->done);
    EXPECT_EQ(pended->data(), MakeRecord(2));
}

TEST_F(WaitingReadTest, ReadsPendWhereBaseClientsReadsPendToo)
{
    IoQueueDetach(device_->queue());
    device_->queue()->BaseReadsPend = TRUE;
    IoQueueAttach(device_->queue());
    const AsyncRead *read = device_->StartRead(100);

    EXPECT_FALSE(read->done);
    EXPECT_EQ(Push(1), STATUS_SUCCESS);
    EXPECT_EQ(read->data(), MakeRecord(1));
}

TEST_F(WaitingReadTest, AWaitingReadCountsAsAnyOther)
{
    ReadWhile([this] { EXPECT_EQ(Push(1), STATUS_SUCCESS); });
    EXPECT_EQ(device_->Statistic(StatisticEventsDelivered), 1u);
    EXPECT_EQ(device_->Statistic(StatisticBytesDelivered), MakeRecord(1).size());
    EXPECT_EQ(device_->Statistic(StatisticReadsCompleted), 1u);
}

TEST_F(WaitingReadTest, AFailedAllocationFailsTheReadAlone)
{
    ASSERT_EQ(Push(1), STATUS_SUCCESS);
    machine_.faults().FailNth(0);
    EXPECT_EQ(device_->StartRead(100)->status, STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(1));
}

TEST_F(WaitingReadTest, TheQueueGoesOnlyAfterTheLastWaitingReadHasLeftIt)
{
    AsyncRead read;
    sim::nt::ClientProcess process(machine_);

    process.Start([&] { device_->StartRead(&read, 100); }).AwaitWaiting();
    device_->UninitializeQueue();
    EXPECT_EQ(device_->queue()->Readers, 0u);
    process.Kill();
    EXPECT_EQ(read.status, STATUS_CANCELLED);
}

class WaitingReadThreadsTest : public WaitingReadTest
{
  protected:
    WaitingReadThreadsTest() : WaitingReadTest(WithWorker()) {}
};

// Every end of a wait meets every other one. Each read completes once (AsyncRead), and no record is lost or doubled.
TEST_F(WaitingReadThreadsTest, EachReadEndsOnceAndNoRecordIsLost)
{
    constexpr unsigned kRounds = 400;

    for (unsigned round = 0; round < kRounds; round++)
    {
        std::mt19937 random(round);
        std::deque<AsyncRead> reads(4);
        sim::nt::ClientProcess process(machine_);
        std::vector<sim::nt::ClientThread *> threads;

        for (AsyncRead &read : reads)
        {
            threads.push_back(&process.Start([&] { device_->StartRead(&read, 6); }));
        }
        const unsigned dies = random() % 4;
        const unsigned cancelled = random() % 4;
        const bool cancels_all = random() % 4 == 0;

        RunThreads(4,
                   [&](unsigned thread)
                   {
                       switch (thread)
                       {
                       case 0:
                           EXPECT_EQ(Push(1), STATUS_SUCCESS);
                           EXPECT_EQ(Push(2), STATUS_SUCCESS);
                           break;
                       case 1:
                           threads[dies]->Terminate();
                           break;
                       case 2:
                           machine_.io().Cancel(device_->file(), &reads[cancelled]);
                           break;
                       default:
                           if (cancels_all)
                           {
                               machine_.io().CancelAll(device_->file());
                           }
                       }
                   });
        IoQueueShutdown(device_->queue());
        for (sim::nt::ClientThread *thread : threads)
        {
            thread->Join();
        }

        std::map<uint8_t, unsigned> seen;

        for (const AsyncRead &read : reads)
        {
            // A thread that was terminated before it came to its read has none.
            if (read.done && read.information != 0)
            {
                ASSERT_EQ(read.status, STATUS_SUCCESS);
                seen[read.buffer[0]]++;
            }
        }
        IoQueueExtend(device_->queue());
        while (IoQueueBytes(device_->queue()) != 0)
        {
            seen[device_->StartRead(6)->buffer[0]]++;
        }
        ASSERT_EQ(seen, (std::map<uint8_t, unsigned>{{1, 1}, {2, 1}})) << "round " << round;
        IoQueueDetach(device_->queue());
        IoQueueAttach(device_->queue());
    }
}

TEST_F(WaitingReadThreadsTest, ClientsAttachAndDetachWhileReadsWaitAndRecordsCome)
{
    std::atomic<bool> stop{false};
    sim::nt::ClientProcess process(machine_);
    std::deque<AsyncRead> reads(3);
    std::atomic<unsigned> ends{0};

    for (AsyncRead &read : reads)
    {
        process.Start(
            [&]
            {
                while (!stop)
                {
                    device_->StartRead(&read, 1 + ends % 20);
                    EXPECT_TRUE(read.done);
                    ends++;
                }
            });
    }
    RunThreads(3,
               [&](unsigned thread)
               {
                   while (thread == 0 && !stop)
                   {
                       (void)Push(1);
                   }
                   while (thread == 1 && !stop)
                   {
                       machine_.io().CancelAll(device_->file());
                       std::this_thread::yield();
                   }
                   for (unsigned i = 0; thread == 2 && i < 300; i++)
                   {
                       if (i % 3 == 0)
                       {
                           IoQueueShutdown(device_->queue());
                       }
                       IoQueueDetach(device_->queue());
                       std::this_thread::yield();
                       IoQueueAttach(device_->queue());
                       std::this_thread::sleep_for(std::chrono::microseconds(200));
                   }
                   stop = stop || thread == 2;
               });
    IoQueueDetach(device_->queue());
    process.Kill();
    EXPECT_GT(ends, 0u);
    EXPECT_EQ(machine_.io().outstanding(device_->file()), 0u);
}

} // namespace
} // namespace kext_test

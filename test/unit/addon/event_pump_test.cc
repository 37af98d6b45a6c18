// Order, backpressure and end of the pump's bytes, over a device whose reads the test completes.
#include "addon/event_pump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <thread>

namespace netverdict
{
namespace
{

using testing::ElementsAre;

constexpr int32_t kCancelled = static_cast<int32_t>(0xC0000120);
constexpr int32_t kInsufficientResources = static_cast<int32_t>(0xC000009A);
constexpr int32_t kEndOfFile = static_cast<int32_t>(0xC0000011);

// Reads pend until the test completes them, in any order.
class PendingDevice final : public Device
{
  public:
    void Read(void *buffer, uint32_t length, Completion completion, void *context) override
    {
        std::lock_guard<std::mutex> lock(mutex_);
        reads_.push_back({static_cast<uint8_t *>(buffer), length, completion, context});
        ++issued_;
        changed_.notify_all();
    }

    IoResult Write(const void *, uint32_t) override { return {}; }
    IoResult Control(uint32_t, const void *, uint32_t, void *, uint32_t) override { return {}; }

    void CancelReads() override
    {
        while (pending() != 0)
        {
            Complete(0, kCancelled, "");
        }
    }

    // The index-th pending read, in the order of issue.
    void Complete(size_t index, int32_t status, const std::string &bytes)
    {
        PendingRead read;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            read = reads_.at(index);
            reads_.erase(reads_.begin() + static_cast<std::ptrdiff_t>(index));
        }
        ASSERT_LE(bytes.size(), read.length);
        std::copy(bytes.begin(), bytes.end(), read.buffer);
        read.completion(read.context, status, bytes.size());
    }

    void AwaitIssued(size_t count)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this, count] { return issued_ >= count; });
    }

    size_t pending()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        return reads_.size();
    }

    size_t issued()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        return issued_;
    }

  private:
    struct PendingRead
    {
        uint8_t *buffer;
        uint32_t length;
        Completion completion;
        void *context;
    };

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<PendingRead> reads_;
    size_t issued_ = 0;
};

class EventPumpTest : public testing::Test
{
  protected:
    EventPump &Start(uint32_t buffers, uint64_t high_water = 1 << 20)
    {
        EventPumpOptions options;
        options.buffers = buffers;
        options.buffer_size = 16;
        options.high_water = high_water;
        pump_ = std::make_unique<EventPump>(device_, options, [this] { ++told_; });
        return *pump_;
    }

    std::vector<std::string> TakeAll()
    {
        std::vector<std::string> taken;
        while (const auto bytes = pump_->Front())
        {
            taken.emplace_back(reinterpret_cast<const char *>(bytes->data), bytes->length);
            pump_->Pop();
        }
        return taken;
    }

    PendingDevice device_;
    std::atomic<int> told_{0};
    std::unique_ptr<EventPump> pump_;
};

TEST_F(EventPumpTest, KeepsAllItsBuffersInFlight)
{
    Start(3);
    device_.AwaitIssued(3);
    EXPECT_EQ(device_.pending(), 3u);
}

TEST_F(EventPumpTest, GivesBytesInTheOrderOfIssueNotOfCompletion)
{
    Start(3);
    device_.AwaitIssued(3);
    device_.Complete(2, 0, "third");
    device_.Complete(1, 0, "second");
    EXPECT_EQ(TakeAll(), std::vector<std::string>{});
    device_.Complete(0, 0, "first");
    EXPECT_THAT(TakeAll(), ElementsAre("first", "second", "third"));
}

TEST_F(EventPumpTest, NotifiesTheConsumerOnceUntilFrontFindsNothing)
{
    Start(3);
    device_.AwaitIssued(3);
    device_.Complete(0, 0, "a");
    device_.Complete(0, 0, "b");
    EXPECT_EQ(told_, 1);
    EXPECT_THAT(TakeAll(), ElementsAre("a", "b"));
    device_.Complete(0, 0, "c");
    EXPECT_EQ(told_, 2);
}

TEST_F(EventPumpTest, ReusesBuffersThatWereTaken)
{
    Start(2);
    device_.AwaitIssued(2);
    device_.Complete(0, 0, "a");
    device_.Complete(0, 0, "b");
    EXPECT_THAT(TakeAll(), ElementsAre("a", "b"));
    device_.AwaitIssued(4);
    device_.Complete(0, 0, "c");
    EXPECT_THAT(TakeAll(), ElementsAre("c"));
}

TEST_F(EventPumpTest, StopsReadingAtHighWaterAndContinuesBelowIt)
{
    EventPump &pump = Start(4, 8);
    device_.AwaitIssued(4);
    for (int read = 0; read < 3; ++read)
    {
        device_.Complete(0, 0, "12345678");
    }
    pump.Pop();
    pump.Pop();
    for (int turn = 0; turn < 1000; ++turn)
    {
        std::this_thread::yield();
    }
    EXPECT_EQ(device_.issued(), 4u);
    pump.Pop();
    device_.AwaitIssued(7);
}

TEST_F(EventPumpTest, SkipsReadsWithoutBytes)
{
    Start(2);
    device_.AwaitIssued(2);
    device_.Complete(0, 0, "");
    device_.Complete(0, 0, "a");
    EXPECT_THAT(TakeAll(), ElementsAre("a"));
}

TEST_F(EventPumpTest, EndsAfterTheBytesBeforeTheFailedRead)
{
    EventPump &pump = Start(2);
    device_.AwaitIssued(2);
    device_.Complete(1, kEndOfFile, "");
    device_.Complete(0, 0, "last words");
    EXPECT_EQ(pump.end(), std::nullopt);
    EXPECT_THAT(TakeAll(), ElementsAre("last words"));
    EXPECT_EQ(pump.end(), kEndOfFile);
}

TEST_F(EventPumpTest, IssuesAReadAgainThatFailedForLackOfMemory)
{
    EventPump &pump = Start(2);
    device_.AwaitIssued(2);
    device_.Complete(0, kInsufficientResources, "");
    device_.Complete(0, 0, "a");
    EXPECT_THAT(TakeAll(), ElementsAre("a"));
    device_.AwaitIssued(4);
    device_.Complete(0, 0, "b");
    EXPECT_THAT(TakeAll(), ElementsAre("b"));
    EXPECT_EQ(pump.end(), std::nullopt);
}

TEST_F(EventPumpTest, EndsWhenReadsLackMemoryForTooLong)
{
    EventPumpOptions options;
    options.buffers = 2;
    options.patience = std::chrono::milliseconds(0);
    EventPump pump(device_, options, [] {});
    device_.AwaitIssued(2);
    device_.Complete(0, kInsufficientResources, "");
    EXPECT_EQ(pump.Front(), std::nullopt);
    EXPECT_EQ(pump.end(), kInsufficientResources);
}

TEST_F(EventPumpTest, IssuesNoReadAfterAFailedOne)
{
    Start(2);
    device_.AwaitIssued(2);
    device_.Complete(0, kEndOfFile, "");
    TakeAll();
    pump_->Stop();
    EXPECT_EQ(device_.issued(), 2u);
}

TEST_F(EventPumpTest, StopCancelsPendingReadsAndKeepsBytesThatWereRead)
{
    EventPump &pump = Start(3);
    device_.AwaitIssued(3);
    device_.Complete(0, 0, "read before");
    pump.Stop();
    EXPECT_EQ(device_.pending(), 0u);
    EXPECT_THAT(TakeAll(), ElementsAre("read before"));
    EXPECT_EQ(pump.end(), kCancelled);
}

// As a driver does whose reads wait in the thread that issues them. The first cancel comes too early.
TEST_F(EventPumpTest, StopEndsAReadThatWaitsInTheThreadThatIssuedIt)
{
    class WaitingDevice final : public Device
    {
      public:
        void Read(void *, uint32_t, Completion completion, void *context) override
        {
            std::unique_lock<std::mutex> lock(mutex_);
            waits_ = true;
            changed_.notify_all();
            changed_.wait(lock, [this] { return cancels_ >= 2; });
            lock.unlock();
            completion(context, kCancelled, 0);
        }

        IoResult Write(const void *, uint32_t) override { return {}; }
        IoResult Control(uint32_t, const void *, uint32_t, void *, uint32_t) override { return {}; }

        void CancelReads() override
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ++cancels_;
            changed_.notify_all();
        }

        void AwaitWaiting()
        {
            std::unique_lock<std::mutex> lock(mutex_);
            changed_.wait(lock, [this] { return waits_; });
        }

      private:
        std::mutex mutex_;
        std::condition_variable changed_;
        bool waits_ = false;
        int cancels_ = 0;
    };

    WaitingDevice device;
    EventPumpOptions options;
    options.buffer_size = 16;
    EventPump pump(device, options, [] {});
    device.AwaitWaiting();
    pump.Stop();
    EXPECT_FALSE(pump.Front());
    EXPECT_EQ(pump.end(), kCancelled);
}

TEST_F(EventPumpTest, ACompletionMayComeBeforeReadReturns)
{
    class ImmediateDevice final : public Device
    {
      public:
        void Read(void *buffer, uint32_t, Completion completion, void *context) override
        {
            const uint32_t number = next_++;
            *static_cast<uint8_t *>(buffer) = static_cast<uint8_t>(number);
            completion(context, number < 100 ? 0 : kEndOfFile, number < 100 ? 1 : 0);
        }

        IoResult Write(const void *, uint32_t) override { return {}; }
        IoResult Control(uint32_t, const void *, uint32_t, void *, uint32_t) override { return {}; }
        void CancelReads() override {}

      private:
        uint32_t next_ = 0;
    };

    ImmediateDevice device;
    EventPumpOptions options;
    options.buffer_size = 16;
    EventPump pump(device, options, [] {});
    uint32_t expected = 0;
    while (!pump.end())
    {
        if (const auto bytes = pump.Front())
        {
            ASSERT_EQ(*bytes->data, expected++);
            pump.Pop();
        }
    }
    EXPECT_EQ(expected, 100u);
    EXPECT_EQ(pump.end(), kEndOfFile);
}

} // namespace
} // namespace netverdict

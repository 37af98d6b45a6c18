// Order, backpressure and end of the pump's bytes, over a device whose reads the test completes, and over a device that
// keeps the reading thread.
#include "addon/event_pump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

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
        pump_ = std::make_unique<EventPump>(pending_, options, [this] { ++told_; });
        pump_->Start();
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

    const std::shared_ptr<PendingDevice> pending_ = std::make_shared<PendingDevice>();
    PendingDevice &device_ = *pending_;
    std::atomic<int> told_{0};
    std::unique_ptr<EventPump> pump_;
};

TEST_F(EventPumpTest, KeepsAllItsBuffersInFlight)
{
    Start(3);
    device_.AwaitIssued(3);
    EXPECT_EQ(device_.pending(), 3u);
}

TEST_F(EventPumpTest, ReadsNothingBeforeItsStart)
{
    EventPump pump(pending_, EventPumpOptions{}, [] {});

    for (int turn = 0; turn < 1000; ++turn)
    {
        std::this_thread::yield();
    }
    EXPECT_EQ(device_.issued(), 0u);
    pump.Start();
    device_.AwaitIssued(1);
}

TEST_F(EventPumpTest, MayStopWithoutAStart)
{
    EventPump pump(pending_, EventPumpOptions{}, [] {});

    pump.Stop();
    EXPECT_EQ(device_.issued(), 0u);
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
    EventPump pump(pending_, options, [] {});
    pump.Start();
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

    EventPumpOptions options;
    options.buffer_size = 16;
    EventPump pump(std::make_shared<ImmediateDevice>(), options, [] {});
    pump.Start();
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

// ---- A driver that keeps the reading thread until it has something to give

enum class Ends
{
    kByCancel,
    kBySecondCancel, // the first one comes before the read is there
    kByShutdown,
    kByNothing
};

class KeepingDevice final : public Device
{
  public:
    explicit KeepingDevice(Ends ends, bool keeps_writes = false) : ends_(ends), keeps_writes_(keeps_writes) {}

    void Read(void *buffer, uint32_t, Completion completion, void *context) override
    {
        std::unique_lock<std::mutex> lock(mutex_);

        reading_ = true;
        changed_.notify_all();
        changed_.wait(lock, [this] { return status_.has_value(); });
        reading_ = false;
        lock.unlock();
        if (*status_ == 0)
        {
            *static_cast<uint8_t *>(buffer) = 'x';
        }
        completion(context, *status_, *status_ == 0 ? 1 : 0);
    }

    IoResult Write(const void *bytes, uint32_t length) override
    {
        std::unique_lock<std::mutex> lock(mutex_);

        writes_.emplace_back(static_cast<const char *>(bytes), length);
        if (ends_ == Ends::kByShutdown)
        {
            EndLocked(kEndOfFile);
        }
        changed_.wait(lock, [this] { return !keeps_writes_ || freed_; });
        return {0, length};
    }

    IoResult Control(uint32_t, const void *, uint32_t, void *, uint32_t) override { return {}; }

    void CancelReads() override
    {
        std::lock_guard<std::mutex> lock(mutex_);

        ++cancels_;
        if (ends_ == Ends::kByCancel || (ends_ == Ends::kBySecondCancel && cancels_ == 2))
        {
            EndLocked(kCancelled);
        }
    }

    // Ends every read and write, as a driver does that comes to itself again.
    void Free(int32_t status)
    {
        std::lock_guard<std::mutex> lock(mutex_);

        freed_ = true;
        EndLocked(status);
    }

    void AwaitReading()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return reading_; });
    }

    std::vector<std::string> writes()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        return writes_;
    }

  private:
    void EndLocked(int32_t status)
    {
        status_ = status_.value_or(status);
        changed_.notify_all();
    }

    const Ends ends_;
    const bool keeps_writes_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<int32_t> status_; // of every read
    std::vector<std::string> writes_;
    int cancels_ = 0;
    bool reading_ = false;
    bool freed_ = false;
};

class KeptThreadTest : public testing::Test
{
  protected:
    KeepingDevice &Start(Ends ends, bool keeps_writes = false)
    {
        device_ = std::make_shared<KeepingDevice>(ends, keeps_writes);
        lifetime_ = device_;
        pump_ = std::make_unique<EventPump>(device_, EventPumpOptions{}, [this] { ++told_; });
        pump_->Start();
        device_->AwaitReading();
        return *device_;
    }

    // Stops the pump and gives the device up, as the end of a JavaScript object does.
    std::chrono::steady_clock::duration StopAndLetGo()
    {
        const auto start = std::chrono::steady_clock::now();

        pump_->Stop();
        pump_.reset();
        device_.reset();
        return std::chrono::steady_clock::now() - start;
    }

    bool IsGoneSoon()
    {
        for (int poll = 0; poll < 1000 && !lifetime_.expired(); ++poll)
        {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return lifetime_.expired();
    }

    const std::string shutdown_{'\0'};

    std::shared_ptr<KeepingDevice> device_;
    std::weak_ptr<KeepingDevice> lifetime_;
    std::atomic<int> told_{0};
    std::unique_ptr<EventPump> pump_;
};

constexpr std::chrono::seconds kLimit{1};

TEST_F(KeptThreadTest, StopCancelsTheReadAndWritesNothing)
{
    KeepingDevice &device = Start(Ends::kByCancel);

    pump_->Stop();
    EXPECT_THAT(device.writes(), testing::IsEmpty());
    EXPECT_LT(StopAndLetGo(), kLimit);
    EXPECT_TRUE(lifetime_.expired()) << "the device is closed when the stop returns";
}

TEST_F(KeptThreadTest, AReadThatBeginsAfterTheFirstCancelIsCancelledToo)
{
    Start(Ends::kBySecondCancel);
    EXPECT_LT(StopAndLetGo(), kLimit);
    EXPECT_TRUE(lifetime_.expired());
}

TEST_F(KeptThreadTest, AShutdownCommandEndsAReadThatCannotBeCancelled)
{
    KeepingDevice &device = Start(Ends::kByShutdown);
    const auto start = std::chrono::steady_clock::now();

    pump_->Stop();
    EXPECT_LT(std::chrono::steady_clock::now() - start, kLimit);
    EXPECT_THAT(device.writes(), ElementsAre(shutdown_));
    EXPECT_EQ(pump_->Front(), std::nullopt);
    EXPECT_EQ(pump_->end(), kEndOfFile);
    StopAndLetGo();
    EXPECT_TRUE(lifetime_.expired());
}

TEST_F(KeptThreadTest, AReadThatNothingEndsIsLeftBehindWithAllThatItTouches)
{
    KeepingDevice &device = Start(Ends::kByNothing);

    EXPECT_LT(StopAndLetGo(), kLimit);
    ASSERT_FALSE(lifetime_.expired()) << "the thread is within the device";
    EXPECT_THAT(device.writes(), ElementsAre(shutdown_));
    told_ = 0;
    device.Free(0);
    EXPECT_TRUE(IsGoneSoon()) << "the thread ends with its read";
    EXPECT_EQ(told_, 0) << "the consumer is gone";
}

TEST_F(KeptThreadTest, AWriteThatIsKeptTooIsLeftBehind)
{
    KeepingDevice &device = Start(Ends::kByNothing, true);

    EXPECT_LT(StopAndLetGo(), kLimit);
    ASSERT_FALSE(lifetime_.expired());
    device.Free(kCancelled);
    EXPECT_TRUE(IsGoneSoon());
}

TEST_F(KeptThreadTest, AKeptWriteThatEndedTheReadIsLeftBehindAlone)
{
    KeepingDevice &device = Start(Ends::kByShutdown, true);

    EXPECT_LT(StopAndLetGo(), kLimit);
    ASSERT_FALSE(lifetime_.expired());
    device.Free(kCancelled);
    EXPECT_TRUE(IsGoneSoon());
}

TEST_F(EventPumpTest, PendingReadsThatNothingEndsAreLeftBehindWithoutAShutdown)
{
    class DeafDevice final : public Device
    {
      public:
        void Read(void *, uint32_t, Completion completion, void *context) override
        {
            std::lock_guard<std::mutex> lock(mutex);
            reads.emplace_back(completion, context);
        }
        IoResult Write(const void *, uint32_t) override
        {
            ADD_FAILURE() << "no thread is within a read";
            return {};
        }
        IoResult Control(uint32_t, const void *, uint32_t, void *, uint32_t) override { return {}; }
        void CancelReads() override {}

        std::mutex mutex;
        std::vector<std::pair<Completion, void *>> reads;
    };

    auto device = std::make_shared<DeafDevice>();
    const std::weak_ptr<DeafDevice> lifetime = device;
    EventPumpOptions options;
    options.buffers = 2;
    auto pump = std::make_unique<EventPump>(device, options, [this] { ++told_; });
    pump->Start();
    while (
        [&]
        {
            const std::lock_guard<std::mutex> lock(device->mutex);
            return device->reads.size();
        }() < 2)
    {
        std::this_thread::yield();
    }

    const auto start = std::chrono::steady_clock::now();
    pump.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - start, kLimit);
    const auto reads = device->reads;
    device.reset();
    ASSERT_FALSE(lifetime.expired());
    for (const auto &[completion, context] : reads)
    {
        completion(context, kCancelled, 0);
    }
    for (int poll = 0; poll < 1000 && !lifetime.expired(); ++poll)
    {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(lifetime.expired());
    EXPECT_EQ(told_, 0);
}

} // namespace
} // namespace netverdict

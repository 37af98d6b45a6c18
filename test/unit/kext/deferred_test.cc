#include "kext_test.h"

#include "support/driver_loader.h"

#include "nt/scheduler.h"

#include <mutex>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr uint64_t kMillisecond = PLATFORM_TICKS_PER_MILLISECOND;

// Deferred work of the device of a loaded driver.
class DeferredTest : public KextTest
{
  protected:
    explicit DeferredTest(const sim::MachineOptions &options = StandingClock()) : KextTest(options), driver_(machine_)
    {
        EXPECT_EQ(driver_.Load(), STATUS_SUCCESS);
        EXPECT_EQ(DeferredInitialize(&deferred_, &clock_, driver_.context()->DeviceObject, Run, this), STATUS_SUCCESS);
    }

    ~DeferredTest() override { DeferredUninitialize(&deferred_); }

    static VOID Run(VOID *context) { static_cast<DeferredTest *>(context)->Round(); }

    virtual void Round() { due_ += DeferredTake(&deferred_, DEFERRED_DUE) ? 1 : 0; }

    size_t Timers() { return machine_.scheduler().DriverTimers().size(); }

    void RunAfter(std::chrono::milliseconds wait, UINT32 tolerance_ms)
    {
        DeferredRunAfter(&deferred_, static_cast<UINT32>(wait.count()), tolerance_ms);
    }

    DriverLoader driver_;
    DEFERRED deferred_;
    int due_ = 0;
};

TEST_F(DeferredTest, ATimeHasARunWithinItsTolerance)
{
    RunAfter(1s, 100);
    Advance(999ms);
    EXPECT_EQ(due_, 0);
    Advance(101ms);
    EXPECT_EQ(due_, 1);
    EXPECT_EQ(Timers(), 0u);
    Advance(1h);
    EXPECT_EQ(due_, 1);
}

TEST_F(DeferredTest, ATimeThatHasPassedHasARunAtOnce)
{
    DeferredRunBy(&deferred_, 0, 0);
    Advance(1ms);
    EXPECT_EQ(due_, 1);
}

TEST_F(DeferredTest, ATimeThatNeverComesArmsNoTimer)
{
    DeferredRunBy(&deferred_, CLOCK_NEVER, 0);
    EXPECT_EQ(Timers(), 0u);
}

TEST_F(DeferredTest, ALaterTimeSharesTheRunOfAnEarlierOne)
{
    RunAfter(100ms, 0);
    RunAfter(150ms, 0);
    Advance(100ms);
    EXPECT_EQ(due_, 1);
    EXPECT_EQ(Timers(), 0u) << "the run looks for the rest";
}

TEST_F(DeferredTest, AnEarlierTimeBringsTheTimerForward)
{
    RunAfter(150ms, 0);
    RunAfter(100ms, 0);
    Advance(100ms);
    EXPECT_EQ(due_, 1);
}

TEST_F(DeferredTest, ATimeBehindAPatientOneIsStillInTime)
{
    RunAfter(100ms, 1000);
    RunAfter(200ms, 50);
    Advance(250ms);
    EXPECT_EQ(due_, 1);
}

TEST_F(DeferredTest, APatientTimeSharesTheRunWithinItsTolerance)
{
    RunAfter(1100ms, 0);
    RunAfter(1000ms, 1000);
    Advance(1099ms);
    EXPECT_EQ(due_, 0);
    Advance(1ms);
    EXPECT_EQ(due_, 1);
}

TEST_F(DeferredTest, ATimeInTheLastTickOfAMillisecondIsNotEarly)
{
    Advance(std::chrono::nanoseconds(100));
    const UINT64 due = ClockNow(&clock_) + 10 * kMillisecond + 1;

    DeferredRunBy(&deferred_, due, 0);
    Advance(10ms);
    EXPECT_EQ(due_, 0);
    Advance(1ms);
    EXPECT_EQ(due_, 1);
    EXPECT_GE(ClockNow(&clock_), due);
}

TEST_F(DeferredTest, ADisarmedTimerDoesNotFire)
{
    RunAfter(100ms, 0);
    DeferredDisarm(&deferred_);
    EXPECT_EQ(Timers(), 0u);
    Advance(1s);
    EXPECT_EQ(due_, 0);
    RunAfter(100ms, 0);
    Advance(100ms);
    EXPECT_EQ(due_, 1);
}

TEST_F(DeferredTest, AfterItsEndNoTimerIsArmed)
{
    DEFERRED ended;

    ASSERT_EQ(DeferredInitialize(&ended, &clock_, driver_.context()->DeviceObject, Run, this), STATUS_SUCCESS);
    DeferredRunAfter(&ended, 100, 0);
    DeferredUninitialize(&ended);
    EXPECT_EQ(Timers(), 0u);
    DeferredRunAfter(&ended, 100, 0);
    EXPECT_EQ(Timers(), 0u);
}

// Threads add work with a time. Only the timer has it done.
class DeferredRaceTest : public DeferredTest
{
  protected:
    DeferredRaceTest() : DeferredTest(sim::MachineOptions{}) {}

    void Round() override
    {
        UINT64 next = CLOCK_NEVER;

        if (!DeferredTake(&deferred_, DEFERRED_DUE))
        {
            return;
        }
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            std::vector<UINT64> later;

            for (const UINT64 time : times_)
            {
                if (time > ClockNow(&clock_))
                {
                    later.push_back(time);
                    next = std::min(next, time);
                }
            }
            times_ = later;
        }
        DeferredRunBy(&deferred_, next, 1);
    }

    void Add(UINT64 time)
    {
        {
            const std::lock_guard<std::mutex> lock(mutex_);

            times_.push_back(time);
        }
        DeferredRunBy(&deferred_, time, 1);
    }

    bool IsDone()
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        return times_.empty();
    }

    std::mutex mutex_;
    std::vector<UINT64> times_;
};

TEST_F(DeferredRaceTest, WorkIsNeverLeftWithoutATimer)
{
    for (int n = 0; n < 100; n++)
    {
        RunThreads(3,
                   [this](unsigned thread)
                   {
                       for (unsigned i = 0; i < 4; i++)
                       {
                           Add(ClockNow(&clock_) + (thread + i) % 3 * kMillisecond);
                           std::this_thread::yield();
                       }
                   });
        const auto limit = std::chrono::steady_clock::now() + 10s;
        while (!IsDone())
        {
            ASSERT_LT(std::chrono::steady_clock::now(), limit);
            std::this_thread::sleep_for(100us);
        }
    }
    machine_.Run();
    EXPECT_EQ(ReadAcquire64(&deferred_.Alarm) == DEFERRED_DISARMED ? 0u : 1u, Timers());
}

} // namespace
} // namespace kext_test

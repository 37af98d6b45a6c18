// The clocks of a machine, in units of 100 ns. They start at kBootTicks, as on a machine that has just booted.
//
// Interrupt time and system time count the sleep of the machine, and unbiased time does not.
//
// Concurrency: any thread may read the clocks; one thread at a time may call Advance.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#if defined(__APPLE__)
#include <time.h>
#elif defined(__linux__)
#include <time.h>
#endif

namespace sim::nt
{

class Clock
{
  public:
    static constexpr uint64_t kTicksPerSecond = 10'000'000;
    static constexpr uint64_t kBootTicks = 10 * kTicksPerSecond;

    using RunUntil = std::function<void(uint64_t unbiased_time)>;

    // Advance passes the new time to `run_until`, which runs the work that is due until then and moves the clock.
    Clock(bool is_virtual, RunUntil run_until);

    Clock(const Clock &) = delete;
    Clock &operator=(const Clock &) = delete;

    bool is_virtual() const { return virtual_; }

    // Time since boot without sleep. The packet path reads it: it is cheap and coarse (a few milliseconds).
    uint64_t UnbiasedTime() const
    {
        return virtual_ ? now_.load(std::memory_order_acquire) : CoarseNow() - start_ + kBootTicks;
    }

    // Time since boot, as coarse as UnbiasedTime.
    uint64_t InterruptTime() const { return UnbiasedTime() + slept_.load(std::memory_order_acquire); }

    // Time since boot, exact to 100 ns.
    uint64_t PreciseTime() const;

    // Time since 1601. A virtual clock starts on 2024-01-01.
    uint64_t SystemTime() const;
    uint64_t PreciseSystemTime() const;

    // Virtual clock only: lets time pass. Timers fire in the order of their due times, each at its due time.
    // Deferred work runs before the time moves.
    // It runs on this thread, or on the worker of a machine that has one.
    void Advance(std::chrono::nanoseconds duration);

  private:
    friend class SchedulerState;

    static uint64_t CoarseNow()
    {
#if defined(__APPLE__)
        return clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW_APPROX) / 100;
#elif defined(CLOCK_MONOTONIC_COARSE)
        timespec now;

        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return static_cast<uint64_t>(now.tv_sec) * kTicksPerSecond + static_cast<uint64_t>(now.tv_nsec) / 100;
#else
        return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                         std::chrono::steady_clock::now().time_since_epoch())
                                         .count()) /
               100;
#endif
    }

    // Real clock only: the point in time at which UnbiasedTime has certainly reached `time`.
    std::chrono::steady_clock::time_point WhenReached(uint64_t time) const;

    void MoveTo(uint64_t unbiased_time); // virtual clock only; never moves back
    void Sleep(uint64_t ticks) { slept_.fetch_add(ticks, std::memory_order_acq_rel); } // virtual clock only

    const bool virtual_;
    const RunUntil run_until_;
    const uint64_t start_;                             // CoarseNow at boot
    const std::chrono::steady_clock::time_point boot_; // not before start_
    std::atomic<uint64_t> now_{kBootTicks};            // unbiased; virtual clock only
    std::atomic<uint64_t> slept_{0};                   // virtual clock only
};

} // namespace sim::nt

// The clocks of a machine, in 100 ns. They start kBootTicks after 0, as on a machine that has just booted.
//
// Concurrency: reading is for any thread; Advance for one thread at a time.
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

    using RunUntil = std::function<void(uint64_t interrupt_time)>;

    // Advance passes the new time to `run_until`, which runs the work that is due until then and moves the clock.
    Clock(bool is_virtual, RunUntil run_until);

    Clock(const Clock &) = delete;
    Clock &operator=(const Clock &) = delete;

    bool is_virtual() const { return virtual_; }

    // Since boot. Coarse (a few milliseconds) and cheap: the per-packet path reads it.
    uint64_t InterruptTime() const
    {
        return virtual_ ? now_.load(std::memory_order_acquire) : CoarseNow() - start_ + kBootTicks;
    }

    // Since boot, to 100 ns.
    uint64_t PreciseTime() const;

    // Since 1601. A virtual clock starts on 2024-01-01.
    uint64_t SystemTime() const;
    uint64_t PreciseSystemTime() const;

    // Virtual clock only: lets time pass. Timers fire in the order they are due, each at its due time; deferred work
    // runs before time goes on, on this thread or, on a machine with a worker, there.
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

    // Real clock only: when InterruptTime has certainly reached `time`.
    std::chrono::steady_clock::time_point WhenReached(uint64_t time) const;

    void MoveTo(uint64_t time); // virtual only, forward

    const bool virtual_;
    const RunUntil run_until_;
    const uint64_t start_;                             // CoarseNow at boot
    const std::chrono::steady_clock::time_point boot_; // the same moment or later
    std::atomic<uint64_t> now_{kBootTicks};            // virtual only
};

} // namespace sim::nt

#include "nt/clock.h"

#include <ntddk.h>

#include <utility>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/irql.h"

namespace sim::nt
{

namespace
{

constexpr uint64_t kTicksFrom1601To1970 = 116'444'736'000'000'000;
constexpr uint64_t kVirtualBootSystemTime = 133'485'408'000'000'000; // 2024-01-01

uint64_t ToTicks(std::chrono::nanoseconds duration)
{
    return static_cast<uint64_t>(duration.count()) / 100;
}

// Returns how far CoarseNow may lag behind.
std::chrono::nanoseconds CoarseResolution()
{
#if defined(CLOCK_MONOTONIC_COARSE)
    timespec resolution;

    clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
    return std::chrono::seconds(resolution.tv_sec) + std::chrono::nanoseconds(resolution.tv_nsec);
#else
    return std::chrono::milliseconds(1);
#endif
}

} // namespace

Clock::Clock(bool is_virtual, RunUntil run_until)
    : virtual_(is_virtual), run_until_(std::move(run_until)), start_(CoarseNow()),
      boot_(std::chrono::steady_clock::now())
{
}

uint64_t Clock::PreciseTime() const
{
    return virtual_ ? InterruptTime() : kBootTicks + ToTicks(std::chrono::steady_clock::now() - boot_);
}

uint64_t Clock::SystemTime() const
{
    return virtual_ ? kVirtualBootSystemTime + InterruptTime() - kBootTicks : PreciseSystemTime();
}

uint64_t Clock::PreciseSystemTime() const
{
    return virtual_ ? SystemTime()
                    : kTicksFrom1601To1970 + ToTicks(std::chrono::system_clock::now().time_since_epoch());
}

void Clock::Advance(std::chrono::nanoseconds duration)
{
    RequireIrql(PASSIVE_LEVEL, "Clock::Advance");
    if (!virtual_)
    {
        Bugcheck("CLOCK_NOT_VIRTUAL", "Clock::Advance was called on a machine with a real clock");
    }
    run_until_(now_.load(std::memory_order_acquire) + ToTicks(duration));
}

std::chrono::steady_clock::time_point Clock::WhenReached(uint64_t time) const
{
    static const std::chrono::nanoseconds resolution = CoarseResolution();

    return boot_ + std::chrono::nanoseconds((time - kBootTicks) * 100) + resolution;
}

void Clock::MoveTo(uint64_t unbiased_time)
{
    uint64_t now = now_.load(std::memory_order_acquire);

    while (now < unbiased_time && !now_.compare_exchange_weak(now, unbiased_time, std::memory_order_acq_rel))
    {
    }
}

} // namespace sim::nt

using namespace sim;

namespace
{

nt::Clock &CurrentClock()
{
    return Machine::Current().clock();
}

} // namespace

extern "C" ULONGLONG KeQueryInterruptTime(VOID)
{
    return CurrentClock().InterruptTime();
}

extern "C" ULONGLONG KeQueryUnbiasedInterruptTime(VOID)
{
    return CurrentClock().UnbiasedTime();
}

extern "C" VOID KeQuerySystemTime(PLARGE_INTEGER CurrentTime)
{
    CurrentTime->QuadPart = static_cast<LONGLONG>(CurrentClock().SystemTime());
}

extern "C" VOID KeQuerySystemTimePrecise(PLARGE_INTEGER CurrentTime)
{
    CurrentTime->QuadPart = static_cast<LONGLONG>(CurrentClock().PreciseSystemTime());
}

extern "C" LARGE_INTEGER KeQueryPerformanceCounter(PLARGE_INTEGER PerformanceFrequency)
{
    LARGE_INTEGER counter;

    if (PerformanceFrequency != nullptr)
    {
        PerformanceFrequency->QuadPart = nt::Clock::kTicksPerSecond;
    }
    counter.QuadPart = static_cast<LONGLONG>(CurrentClock().PreciseTime());
    return counter;
}

extern "C" ULONG KeQueryTimeIncrement(VOID)
{
    constexpr ULONG kTicksPerInterrupt = 156'250;

    return kTicksPerInterrupt;
}

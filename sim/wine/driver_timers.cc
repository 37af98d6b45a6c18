// Wine 8 sets and cancels a timer under a lock, and waits there for the timer's routine if it has begun.
// The routine begins by taking the same lock. So a driver that sets a timer just when it fires hangs for ever.
// Windows has no such rule, so the driver's timers run here: one thread calls what is due, without a lock.

#include "driver_timers.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include "driver_processes.h"
#include "module.h"
#include "nt/bugcheck.h"

namespace
{

using SteadyClock = std::chrono::steady_clock;
using Ticks = std::chrono::duration<int64_t, std::ratio<1, 10'000'000>>;

class DriverTimers
{
  public:
    // Returns whether the timer was set. `due` is negative and relative, in ticks; `period_ms` 0: once.
    bool Set(void *timer, int64_t due, long period_ms, void *dpc)
    {
        const std::lock_guard lock{mutex_};
        const Entry entry{SteadyClock::now() + Ticks{-due}, std::chrono::milliseconds{period_ms}, dpc};
        const bool was_set = !timers_.insert_or_assign(timer, entry).second;

        changed_.notify_all();
        return was_set;
    }

    // Returns whether the timer was set. Its routine may still run.
    bool Cancel(void *timer)
    {
        const std::lock_guard lock{mutex_};

        return timers_.erase(timer) != 0;
    }

    // Waits for the routine that runs.
    void Flush()
    {
        std::unique_lock lock{mutex_};
        const uint64_t run = runs_;

        changed_.wait(lock, [&] { return !running_ || runs_ != run; });
    }

  private:
    struct Entry
    {
        SteadyClock::time_point due;
        std::chrono::milliseconds period;
        void *dpc;
    };

    void Run()
    {
        std::unique_lock lock{mutex_};

        for (;;)
        {
            const auto first = Earliest();

            if (first == timers_.end())
            {
                changed_.wait(lock);
            }
            else if (first->second.due > SteadyClock::now())
            {
                changed_.wait_until(lock, SteadyClock::time_point{first->second.due});
            }
            else
            {
                Fire(lock, first);
            }
        }
    }

    std::map<void *, Entry>::iterator Earliest()
    {
        auto earliest = timers_.begin();

        for (auto at = timers_.begin(); at != timers_.end(); ++at)
        {
            if (at->second.due < earliest->second.due)
            {
                earliest = at;
            }
        }
        return earliest;
    }

    void Fire(std::unique_lock<std::mutex> &lock, std::map<void *, Entry>::iterator timer)
    {
        void *const dpc = timer->second.dpc;

        if (timer->second.period.count() == 0)
        {
            timers_.erase(timer);
        }
        else
        {
            timer->second.due += timer->second.period;
        }
        running_ = true;
        lock.unlock();
        RunDpcOfDriver(dpc);
        lock.lock();
        running_ = false;
        ++runs_;
        changed_.notify_all();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<void *, Entry> timers_; // a driver has few
    bool running_ = false;
    uint64_t runs_ = 0;
    std::thread thread_{[this] { Run(); }}; // last, because it uses the other members
};

// Lives as long as the process, as its thread does.
DriverTimers &TheTimers()
{
    static auto &timers = *new DriverTimers;

    return timers;
}

BOOLEAN NTAPI SetTimerOfDriver(void *timer, LARGE_INTEGER due, LONG period, void *dpc)
{
    if (due.QuadPart >= 0 || dpc == nullptr)
    {
        sim::Bugcheck("UNKNOWN_TIMER", "under Wine a timer has a relative time and a routine");
    }
    return TheTimers().Set(timer, due.QuadPart, period, dpc);
}

BOOLEAN NTAPI CancelTimerOfDriver(void *timer)
{
    return TheTimers().Cancel(timer);
}

void NTAPI FlushDpcsOfDriver()
{
    TheTimers().Flush();
    FlushDpcsOfWine();
}

} // namespace

// A driver creates its injection handles while it loads, before it sets a timer.
extern "C" NTSTATUS NTAPI CreateInjectionHandleOfDriver(ADDRESS_FAMILY family, UINT32 flags, HANDLE *handle)
{
    const sim::wine::ImportsOfCaller imports{__builtin_return_address(0)};

    imports.Replace("KeSetTimerEx", reinterpret_cast<void *>(SetTimerOfDriver));
    imports.Replace("KeCancelTimer", reinterpret_cast<void *>(CancelTimerOfDriver));
    imports.Replace("KeFlushQueuedDpcs", reinterpret_cast<void *>(FlushDpcsOfDriver));
    sim::wine::ReplaceProcesses(imports);
    return FwpsInjectionHandleCreate0(family, flags, handle);
}

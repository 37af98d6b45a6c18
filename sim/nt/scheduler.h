// Deferred work of a machine: DPCs, work items, timers, the filter engine's and the network stack's later work.
// It also does the waits of kernel threads.
//
// A machine with a worker runs all deferred work on one thread, which sleeps until work arrives or a timer is due.
// A machine without a worker runs it on the threads that call Run, Clock::Advance or a kernel wait.
// A client's thread (ClientThread) runs no deferred work, and lets no time pass while it waits.
// Work at DISPATCH_LEVEL goes before work at PASSIVE_LEVEL; within a level it runs in the order of queueing.
// Each work item of the driver has a thread of its own. While it waits, all other deferred work goes on.
//
// Concurrency: every function may be called from any thread. No lock is held while work runs.
#pragma once

#include <ntddk.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sim
{
class Machine;
}

namespace sim::nt
{

class SchedulerState;

class Scheduler
{
  public:
    using Work = std::function<void()>;
    using TimerId = uint64_t; // never 0

    explicit Scheduler(Machine &machine);
    ~Scheduler(); // drops work that has not run

    Scheduler(const Scheduler &) = delete;
    Scheduler &operator=(const Scheduler &) = delete;

    // Runs `work` later at PASSIVE_LEVEL or DISPATCH_LEVEL. The caller's IRQL is at most DISPATCH_LEVEL.
    void Queue(KIRQL level, Work work);

    // Queues `work` after a delay. CancelTimer returns false if the work has begun, or if no timer has that id.
    TimerId QueueAfter(std::chrono::nanoseconds delay, KIRQL level, Work work);
    bool CancelTimer(TimerId id);

    // Runs deferred work as Machine::Run does. Work items that wait stay waiting.
    void Run();

    // Waits until the worker is idle and ends it. The machine is then one without a worker.
    void Stop();

    // Lets time pass as Clock::Advance does, up to a point in time.
    void RunUntil(uint64_t unbiased_time);

    // Lets the machine sleep. Timers that count the sleep are due at its end if their times came in it.
    // A timer with a system time counts it. `timers_count_it`: all timers of drivers and of the simulation do.
    void SleepMachine(std::chrono::nanoseconds duration, bool timers_count_it);

    // For the kernel functions.
    bool QueueDpc(PKDPC dpc, PVOID argument1, PVOID argument2);
    bool RemoveDpc(PKDPC dpc);
    void FlushDpcs();
    void QueueWorkItem(PIO_WORKITEM item, Work work);
    // `tolerance`, in milliseconds: how late the timer may fire.
    bool SetTimer(PKTIMER timer, LARGE_INTEGER due, LONG period, ULONG tolerance, PKDPC dpc);
    bool CancelTimer(PKTIMER timer);
    LONG SetSignal(DISPATCHER_HEADER *object, LONG state);
    NTSTATUS Wait(DISPATCHER_HEADER *object, const LARGE_INTEGER *timeout, KPROCESSOR_MODE mode, bool alertable);
    NTSTATUS Sleep(const LARGE_INTEGER &interval, KPROCESSOR_MODE mode, bool alertable);

    // Blocks until `done` holds. The thread that makes `done` true calls Wake afterwards.
    // Runs deferred work while it waits, where this thread may run it.
    // Returns false if no work is left that could make `done` true, or after `limit` of real time.
    static constexpr std::chrono::nanoseconds kNoLimit = std::chrono::nanoseconds::max();
    bool WaitUntil(const std::function<bool()> &done, std::chrono::nanoseconds limit = kNoLimit);
    // Does the same until a point in the machine's time, as a kernel wait does. Returns false at the deadline.
    static constexpr uint64_t kNoDeadline = UINT64_MAX;
    bool WaitUntilTime(const std::function<bool()> &done, uint64_t unbiased_time);
    void Wake();

    // Lists the driver's timers, DPCs and work items that are still queued, one per line; empty when there are none.
    // Waits first for the items that are running.
    std::string DriverWorkLeft();

    // Returns, for each timer of the driver, when it is due and when it fires at the latest, in unbiased time.
    std::vector<std::pair<uint64_t, uint64_t>> DriverTimers();

    // Bugchecks if this memory, about to be freed, holds a queued timer or DPC of the driver.
    void CheckFreed(const void *address, size_t bytes);

  private:
    Machine &machine_;
    std::unique_ptr<SchedulerState> state_;
};

} // namespace sim::nt

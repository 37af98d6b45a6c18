// Deferred work of a machine: DPCs, work items, timers, and what the filter engine and the network stack put off; and
// the waits of kernel threads.
//
// A machine with a worker runs all of it on one thread of its own, which sleeps until there is work or the next timer
// is due. A machine without one runs it on the threads that call Run, Clock::Advance or a kernel wait. Work at
// DISPATCH_LEVEL goes before work at PASSIVE_LEVEL; within a level it runs in the order it came.
//
// Concurrency: everything may be called from any thread. No lock is held while work runs.
#pragma once

#include <ntddk.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

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
    ~Scheduler(); // work that has not run is forgotten

    Scheduler(const Scheduler &) = delete;
    Scheduler &operator=(const Scheduler &) = delete;

    // Runs `work` later at PASSIVE_LEVEL or DISPATCH_LEVEL. Any IRQL up to DISPATCH_LEVEL.
    void Queue(KIRQL level, Work work);

    // The same after a delay. CancelTimer: false when it has begun to run, or never was.
    TimerId QueueAfter(std::chrono::nanoseconds delay, KIRQL level, Work work);
    bool CancelTimer(TimerId id);

    // As Machine::Run.
    void Run();

    // Waits until the worker is idle and ends it. Afterwards it is as on a machine without one.
    void Stop();

    // As Clock::Advance, to a point in time.
    void RunUntil(uint64_t interrupt_time);

    // Of kernel functions.
    bool QueueDpc(PKDPC dpc, PVOID argument1, PVOID argument2);
    bool RemoveDpc(PKDPC dpc);
    void FlushDpcs();
    void QueueWorkItem(PIO_WORKITEM item, Work work);
    bool SetTimer(PKTIMER timer, LARGE_INTEGER due, LONG period, PKDPC dpc);
    bool CancelTimer(PKTIMER timer);
    LONG SetSignal(DISPATCHER_HEADER *object, LONG state);
    NTSTATUS Wait(DISPATCHER_HEADER *object, const LARGE_INTEGER *timeout);
    void Sleep(const LARGE_INTEGER &interval);

    // Blocks until `done` holds, running deferred work meanwhile where it is this thread's to run. Whoever makes `done`
    // true calls Wake afterwards. False: nothing that could make it true is left to run, or `limit` of real time is
    // over.
    static constexpr std::chrono::nanoseconds kNoLimit = std::chrono::nanoseconds::max();
    bool WaitUntil(const std::function<bool()> &done, std::chrono::nanoseconds limit = kNoLimit);
    void Wake();

    // The driver's timers, DPCs and work items that are still queued, one line each; empty when there are none. Waits
    // for those that are running.
    std::string DriverWorkLeft();

    // Bugchecks when a queued timer or DPC of the driver's lies in this memory, which is about to be freed.
    void CheckFreed(const void *address, size_t bytes);

  private:
    Machine &machine_;
    std::unique_ptr<SchedulerState> state_;
};

} // namespace sim::nt

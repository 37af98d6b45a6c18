// The state of the scheduler: queues, timers, the worker, the work items' threads and the waits.
//
// A work item of the driver runs on a thread of its own, as on a system with many worker threads.
// The thread that runs deferred work stands still until the item ends or waits, so one thing runs at a time.
// Once an item's wait is over, deferred work goes on with that item.
#pragma once

#include <ntddk.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nt/clock.h"
#include "nt/timer_queue.h"

namespace sim
{
class Machine;
}

namespace sim::nt
{

class SchedulerState
{
  public:
    using Work = TimerQueue::Work;
    using Condition = std::function<bool()>; // called with mutex_ held
    using RealTime = std::chrono::steady_clock::time_point;

    static constexpr RealTime kNoGiveUp = RealTime::max();

    explicit SchedulerState(Machine &machine);
    ~SchedulerState();

    SchedulerState(const SchedulerState &) = delete;
    SchedulerState &operator=(const SchedulerState &) = delete;

    void Queue(KIRQL level, Work work, const void *object);
    uint64_t QueueAfter(std::chrono::nanoseconds delay, KIRQL level, Work work);
    bool CancelTimer(uint64_t id);

    bool QueueDpc(PKDPC dpc, PVOID argument1, PVOID argument2);
    bool RemoveDpc(PKDPC dpc);
    void FlushDpcs();
    bool SetTimer(PKTIMER timer, LARGE_INTEGER due, LONG period, ULONG tolerance, PKDPC dpc);
    bool CancelTimer(PKTIMER timer);
    LONG SetSignal(DISPATCHER_HEADER *object, LONG state);

    NTSTATUS Wait(DISPATCHER_HEADER *object, const LARGE_INTEGER *timeout, KPROCESSOR_MODE mode, bool alertable);
    NTSTATUS Sleep(const LARGE_INTEGER &interval, KPROCESSOR_MODE mode, bool alertable);
    bool WaitUntil(const Condition &done, RealTime give_up);
    bool WaitUntilTime(const Condition &done, uint64_t unbiased_time);
    void Wake();

    void Run();
    void Stop();
    void RunUntil(uint64_t unbiased_time);
    void SleepMachine(uint64_t ticks, bool timers_count_it);

    std::string DriverWorkLeft();
    std::vector<std::pair<uint64_t, uint64_t>> DriverTimers();
    void CheckFreed(const void *address, size_t bytes);

  private:
    using Lock = std::unique_lock<std::mutex>;

    struct Item
    {
        const void *object = nullptr; // the driver's: a KDPC at DISPATCH_LEVEL, an IO_WORKITEM at PASSIVE_LEVEL
        Work work;                    // empty for a KDPC
    };

    // How a waiting thread moves a virtual clock when nothing else can happen.
    enum class Passing
    {
        kNever,   // does not move the clock
        kPatient, // moves it after other threads had a chance to act
        kAtOnce
    };

    // When a wait ends at the latest.
    struct Deadline
    {
        uint64_t time = TimerQueue::kNever; // unbiased time, or system time
        bool is_system_time = false;
    };

    enum class WaitEnd
    {
        kDone,
        kDeadline,
        kLimit
    };

    class WaitingThread;
    class WaitingClient;
    class RunningItem;
    struct WorkThread;
    using WorkThreads = std::list<WorkThread>;

    void WorkerMain();
    void EndWorker();
    bool MayRunHere() const;
    bool RunOne(Lock &lock);
    void RunItem(Lock &lock, std::deque<Item> &queue, KIRQL level);
    void RunWorkItem(Lock &lock, Item item);
    void WorkThreadMain(WorkThread &thread);
    void LetGoOn(Lock &lock, WorkThreads::iterator thread);
    WaitEnd WaitOnWorkThread(Lock &lock, WorkThread &thread, const Condition &done, const Deadline &deadline,
                             RealTime give_up);
    bool ResumeOne(Lock &lock);
    bool WaitIsOverLocked(WorkThread &thread);
    uint64_t NextWakeLocked() const;
    Work BindDpcLocked(PKDPC dpc);
    bool FireDueTimersLocked();
    void FireLocked(uint64_t due, TimerQueue::Timer timer);
    bool QueueDpcLocked(PKDPC dpc, PVOID argument1, PVOID argument2);
    Deadline DeadlineOf(const LARGE_INTEGER &time) const;
    uint64_t UnbiasedTimeOf(const Deadline &deadline) const;
    bool TryAcquireLocked(DISPATCHER_HEADER *object);
    static Passing PassingOfThread(Passing passing);
    static NTSTATUS EndOfWait(WaitEnd end, KPROCESSOR_MODE mode);

    WaitEnd WaitLocked(Lock &lock, const Condition &done, const Deadline &deadline, RealTime give_up, Passing passing);
    void SleepLocked(Lock &lock, uint64_t due, RealTime give_up);
    void PassTimeLocked(Lock &lock, uint64_t due, RealTime give_up, Passing passing);
    void WaitForIdleLocked(Lock &lock);
    bool HasReadyWorkLocked();
    void WakeLocked();

    Machine &machine_;
    Clock &clock_;
    std::mutex mutex_; // guards the members below
    std::condition_variable changed_;
    std::deque<Item> dispatch_;
    std::deque<Item> passive_;
    TimerQueue timers_;
    WorkThreads work_threads_;
    uint32_t sleepers_ = 0;        // threads that wait for changed_
    uint32_t running_ = 0;         // items that run
    uint32_t running_dpcs_ = 0;    // items that run at DISPATCH_LEVEL
    uint32_t running_driver_ = 0;  // the driver's items that run
    uint32_t waiting_ = 0;         // running items whose thread waits
    uint32_t waiting_forever_ = 0; // running items whose thread waits without a deadline
    bool stop_ = false;
    bool has_worker_;
    std::thread::id worker_id_;
    std::thread worker_; // used by Stop and the destructor
};

} // namespace sim::nt

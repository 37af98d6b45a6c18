#include "nt/scheduler_state.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <utility>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/call_stack.h"
#include "nt/driver_call.h"
#include "nt/irql.h"
#include "nt/thread_control.h"

namespace sim::nt
{

namespace
{

constexpr uint64_t kTicksPerMillisecond = Clock::kTicksPerSecond / 1000;
constexpr uint64_t kLongestSleep = 3600 * Clock::kTicksPerSecond; // the real clock cannot represent every deadline
constexpr std::chrono::milliseconds kPatience(10);

constexpr UCHAR kSynchronizationEventType = 1;
constexpr UCHAR kSynchronizationTimerType = 9;

// The items that this thread is inside of; an item that waits may run another.
struct ThreadItems
{
    const SchedulerState *scheduler;
    uint32_t count;
    uint32_t waiting; // how many of these are counted as waiting
};

SIM_THREAD_LOCAL ThreadItems thread_items;

// The work item whose thread this is.
struct ThreadWork
{
    const SchedulerState *scheduler;
    void *thread;
};

SIM_THREAD_LOCAL ThreadWork thread_work;

ThreadItems ItemsOfThread(const SchedulerState *scheduler)
{
    return thread_items.scheduler == scheduler ? thread_items : ThreadItems{scheduler, 0, 0};
}

bool Contains(const void *address, size_t bytes, const void *object)
{
    uintptr_t start = reinterpret_cast<uintptr_t>(address);
    uintptr_t position = reinterpret_cast<uintptr_t>(object);

    return position >= start && position < start + bytes;
}

std::string DescribeDpc(const KDPC *dpc)
{
    return dpc == nullptr ? "no DPC" : "DPC routine " + DescribeAddress(reinterpret_cast<void *>(dpc->DeferredRoutine));
}

std::string DescribePointer(const void *address)
{
    char text[32];

    std::snprintf(text, sizeof(text), "%p", address);
    return text;
}

std::string DescribeTimer(const KTIMER *timer)
{
    return "timer " + DescribePointer(timer) + " (period " + std::to_string(timer->Period) + " ms, " +
           DescribeDpc(timer->Dpc) + ")";
}

} // namespace

// A thread in WaitLocked: the items that it is inside of stand still while it waits.
class SchedulerState::WaitingThread
{
  public:
    WaitingThread(SchedulerState &state, const Deadline &deadline)
        : state_(state), previous_(thread_items), items_(ItemsOfThread(&state).count - ItemsOfThread(&state).waiting),
          forever_(deadline.time == TimerQueue::kNever ? items_ : 0)
    {
        thread_items = ItemsOfThread(&state);
        thread_items.waiting = thread_items.count;
        state_.waiting_ += items_;
        state_.waiting_forever_ += forever_;
        if (items_ != 0)
        {
            state_.WakeLocked();
        }
    }

    ~WaitingThread()
    {
        thread_items = previous_;
        state_.waiting_ -= items_;
        state_.waiting_forever_ -= forever_;
    }

  private:
    SchedulerState &state_;
    ThreadItems previous_;
    uint32_t items_;
    uint32_t forever_;
};

// A client's thread that waits in the kernel. Constructed and destroyed with mutex_ held.
class SchedulerState::WaitingClient
{
  public:
    explicit WaitingClient(SchedulerState &state)
    {
        if (thread_state.control != nullptr)
        {
            thread_state.control->waiting = true;
            state.WakeLocked();
        }
    }

    ~WaitingClient()
    {
        if (thread_state.control != nullptr)
        {
            thread_state.control->waiting = false;
        }
    }
};

// An item that this thread runs. Constructed and destroyed with mutex_ held.
class SchedulerState::RunningItem
{
  public:
    RunningItem(SchedulerState &state, KIRQL level, bool driver)
        : state_(state), previous_(thread_items), dpc_(level == DISPATCH_LEVEL), driver_(driver)
    {
        thread_items = ItemsOfThread(&state);
        thread_items.count++;
        Count(1);
    }

    ~RunningItem()
    {
        thread_items = previous_;
        Count(static_cast<uint32_t>(-1));
        state_.WakeLocked();
    }

  private:
    void Count(uint32_t change)
    {
        state_.running_ += change;
        state_.running_dpcs_ += dpc_ ? change : 0;
        state_.running_driver_ += driver_ ? change : 0;
    }

    SchedulerState &state_;
    ThreadItems previous_;
    bool dpc_;
    bool driver_;
};

// The thread of one work item. Guarded by mutex_.
struct SchedulerState::WorkThread
{
    struct Wait
    {
        const Condition *done;
        Deadline deadline;
        RealTime give_up;
        std::optional<WaitEnd> end; // set once the wait is over, although the item does not go on yet
    };

    Item item;
    bool runs = true; // the thread that runs deferred work stands still meanwhile
    bool ended = false;
    std::optional<Wait> wait;       // while the item waits
    std::condition_variable turned; // `runs` has changed
    std::thread thread;
};

SchedulerState::SchedulerState(Machine &machine)
    : machine_(machine), clock_(machine.clock()), has_worker_(machine.options().worker)
{
    if (has_worker_)
    {
        Lock lock(mutex_);

        worker_ = std::thread([this] { WorkerMain(); });
        worker_id_ = worker_.get_id();
    }
}

SchedulerState::~SchedulerState()
{
    EndWorker();
    if (!work_threads_.empty())
    {
        Bugcheck("WORK_ITEM_WAITS_AT_END", "%zu work items of the driver still wait when the machine ends",
                 work_threads_.size());
    }
}

void SchedulerState::Stop()
{
    Run();
    EndWorker();
}

void SchedulerState::EndWorker()
{
    if (!worker_.joinable())
    {
        return;
    }
    {
        Lock lock(mutex_);

        stop_ = true;
        WakeLocked();
    }
    worker_.join();

    Lock lock(mutex_);

    has_worker_ = false;
}

void SchedulerState::WorkerMain()
{
    Machine::Scope scope(machine_);
    Lock lock(mutex_);

    while (!stop_)
    {
        if (!RunOne(lock))
        {
            SleepLocked(lock, TimerQueue::kNever, kNoGiveUp);
        }
    }
}

bool SchedulerState::MayRunHere() const
{
    if (thread_state.control != nullptr)
    {
        return false;
    }
    return !has_worker_ || std::this_thread::get_id() == worker_id_;
}

// Returns false if there was nothing to do.
bool SchedulerState::RunOne(Lock &lock)
{
    bool fired = FireDueTimersLocked();

    if (!dispatch_.empty())
    {
        RunItem(lock, dispatch_, DISPATCH_LEVEL);
        return true;
    }
    if (ResumeOne(lock))
    {
        return true;
    }
    if (!passive_.empty())
    {
        RunItem(lock, passive_, PASSIVE_LEVEL);
        return true;
    }
    return fired;
}

void SchedulerState::RunItem(Lock &lock, std::deque<Item> &queue, KIRQL level)
{
    Item item = std::move(queue.front());

    queue.pop_front();
    if (item.object != nullptr && level == PASSIVE_LEVEL)
    {
        RunWorkItem(lock, std::move(item));
        return;
    }
    if (!item.work)
    {
        item.work = BindDpcLocked(static_cast<PKDPC>(const_cast<void *>(item.object)));
    }

    RunningItem running(*this, level, item.object != nullptr);

    lock.unlock();
    {
        IrqlScope irql(level);
        DriverCall call(level == DISPATCH_LEVEL ? "a DPC" : "a work item");

        item.work();
        item.work = nullptr;
    }
    lock.lock();
}

void SchedulerState::RunWorkItem(Lock &lock, Item item)
{
    const auto thread = work_threads_.emplace(work_threads_.end());

    running_++;
    running_driver_++;
    thread->item = std::move(item);
    thread->thread = std::thread([this, thread] { WorkThreadMain(*thread); });
    LetGoOn(lock, thread);
}

void SchedulerState::WorkThreadMain(WorkThread &thread)
{
    Machine::Scope scope(machine_);

    thread_work = {this, &thread};
    {
        IrqlScope irql(PASSIVE_LEVEL);
        DriverCall call("a work item");

        thread.item.work();
        thread.item.work = nullptr;
    }

    Lock lock(mutex_);

    running_--;
    running_driver_--;
    thread.runs = false;
    thread.ended = true;
    thread.turned.notify_all();
    WakeLocked();
}

// Returns when the item ends or waits.
void SchedulerState::LetGoOn(Lock &lock, WorkThreads::iterator thread)
{
    thread->turned.wait(lock, [thread] { return !thread->runs; });
    if (thread->ended)
    {
        WorkThreads ended;

        ended.splice(ended.end(), work_threads_, thread);
        lock.unlock();
        thread->thread.join();
        ended.clear();
        lock.lock();
    }
}

// A waiting item counts as one that waits forever: an idle machine may have one.
SchedulerState::WaitEnd SchedulerState::WaitOnWorkThread(Lock &lock, WorkThread &thread, const Condition &done,
                                                         const Deadline &deadline, RealTime give_up)
{
    thread.wait = {&done, deadline, give_up, std::nullopt};
    if (!WaitIsOverLocked(thread))
    {
        waiting_++;
        waiting_forever_++;
        thread.runs = false;
        thread.turned.notify_all();
        WakeLocked();
        thread.turned.wait(lock, [&thread] { return thread.runs; });
    }

    const WaitEnd end = *thread.wait->end;

    thread.wait.reset();
    return end;
}

// The condition may acquire the object that the item waits for, so it is called until it holds once.
bool SchedulerState::WaitIsOverLocked(WorkThread &thread)
{
    WorkThread::Wait &wait = *thread.wait;

    if (wait.end)
    {
        return true;
    }
    if ((*wait.done)())
    {
        wait.end = WaitEnd::kDone;
    }
    else if (wait.deadline.time != TimerQueue::kNever && clock_.UnbiasedTime() >= UnbiasedTimeOf(wait.deadline))
    {
        wait.end = WaitEnd::kDeadline;
    }
    else if (wait.give_up != kNoGiveUp && std::chrono::steady_clock::now() >= wait.give_up)
    {
        wait.end = WaitEnd::kLimit;
    }
    return wait.end.has_value();
}

// Returns false if no waiting item can go on.
bool SchedulerState::ResumeOne(Lock &lock)
{
    const auto thread = std::find_if(work_threads_.begin(), work_threads_.end(), [this](WorkThread &candidate)
                                     { return !candidate.runs && candidate.wait && WaitIsOverLocked(candidate); });

    if (thread == work_threads_.end())
    {
        return false;
    }
    waiting_--;
    waiting_forever_--;
    thread->runs = true;
    thread->turned.notify_all();
    LetGoOn(lock, thread);
    return true;
}

// The next time at which timers have to fire, or the next end of a work item's wait.
uint64_t SchedulerState::NextWakeLocked() const
{
    uint64_t next = timers_.next_wake();

    for (const WorkThread &thread : work_threads_)
    {
        next = thread.wait && !thread.wait->end ? std::min(next, UnbiasedTimeOf(thread.wait->deadline)) : next;
    }
    return next;
}

// The driver may queue the KDPC again, or free it, once DpcData is cleared.
SchedulerState::Work SchedulerState::BindDpcLocked(PKDPC dpc)
{
    dpc->DpcData = nullptr;
    return [dpc, routine = dpc->DeferredRoutine, context = dpc->DeferredContext, argument1 = dpc->SystemArgument1,
            argument2 = dpc->SystemArgument2] { routine(dpc, context, argument1, argument2); };
}

bool SchedulerState::FireDueTimersLocked()
{
    uint64_t now = clock_.UnbiasedTime();

    if (timers_.next_wake() == TimerQueue::kNever || timers_.next_wake() > now)
    {
        return false;
    }
    while (timers_.next_due() <= now)
    {
        std::pair<uint64_t, TimerQueue::Timer> next = timers_.TakeNext();

        FireLocked(next.first, std::move(next.second));
    }
    return true;
}

void SchedulerState::FireLocked(uint64_t due, TimerQueue::Timer timer)
{
    if (timer.kernel == nullptr)
    {
        (timer.level == DISPATCH_LEVEL ? dispatch_ : passive_).push_back({nullptr, std::move(timer.work)});
        return;
    }

    PKTIMER kernel = timer.kernel;

    __atomic_store_n(&kernel->Header.SignalState, 1, __ATOMIC_RELEASE);
    if (kernel->Period != 0)
    {
        uint64_t period = static_cast<uint64_t>(kernel->Period) * kTicksPerMillisecond;
        uint64_t next = due + period;

        // After a pause (a suspended machine) the missed periods do not fire in a burst.
        kernel->DueTime.QuadPart = next > clock_.UnbiasedTime() ? next : clock_.UnbiasedTime() + period;
        timer.counts_sleep = false;
        timers_.Insert(kernel->DueTime.QuadPart, std::move(timer));
    }
    if (kernel->Dpc != nullptr)
    {
        QueueDpcLocked(kernel->Dpc, nullptr, nullptr);
    }
    WakeLocked();
}

void SchedulerState::Queue(KIRQL level, Work work, const void *object)
{
    Lock lock(mutex_);

    (level == DISPATCH_LEVEL ? dispatch_ : passive_).push_back({object, std::move(work)});
    WakeLocked();
}

uint64_t SchedulerState::QueueAfter(std::chrono::nanoseconds delay, KIRQL level, Work work)
{
    uint64_t ticks = static_cast<uint64_t>(std::max<int64_t>(delay.count(), 0)) / 100;
    Lock lock(mutex_);
    uint64_t id = timers_.Insert(clock_.UnbiasedTime() + ticks, {nullptr, level, std::move(work)});

    WakeLocked();
    return id;
}

bool SchedulerState::CancelTimer(uint64_t id)
{
    Lock lock(mutex_);

    return timers_.Remove(id);
}

bool SchedulerState::QueueDpc(PKDPC dpc, PVOID argument1, PVOID argument2)
{
    Lock lock(mutex_);

    if (!QueueDpcLocked(dpc, argument1, argument2))
    {
        return false;
    }
    WakeLocked();
    return true;
}

bool SchedulerState::QueueDpcLocked(PKDPC dpc, PVOID argument1, PVOID argument2)
{
    if (dpc->DpcData != nullptr)
    {
        return false;
    }
    dpc->DpcData = this;
    dpc->SystemArgument1 = argument1;
    dpc->SystemArgument2 = argument2;
    dispatch_.push_back({dpc, nullptr});
    return true;
}

bool SchedulerState::RemoveDpc(PKDPC dpc)
{
    Lock lock(mutex_);
    auto found =
        std::find_if(dispatch_.begin(), dispatch_.end(), [dpc](const Item &item) { return item.object == dpc; });

    if (found == dispatch_.end())
    {
        return false;
    }
    dispatch_.erase(found);
    dpc->DpcData = nullptr;
    return true;
}

// Queues a marker at the end: once it has run, every DPC before it has at least begun.
void SchedulerState::FlushDpcs()
{
    std::atomic<bool> reached{false};
    Lock lock(mutex_);

    dispatch_.push_back({nullptr, [&reached] { reached.store(true); }});
    WakeLocked();
    WaitLocked(
        lock, [this, &reached] { return reached.load() && running_dpcs_ == 0; }, Deadline{}, kNoGiveUp,
        Passing::kNever);
}

bool SchedulerState::SetTimer(PKTIMER timer, LARGE_INTEGER due, LONG period, ULONG tolerance, PKDPC dpc)
{
    TimerQueue::Timer queued;

    Lock lock(mutex_);
    bool was_set = timers_.Remove(timer);

    __atomic_store_n(&timer->Header.SignalState, 0, __ATOMIC_RELEASE);
    timer->DueTime.QuadPart = UnbiasedTimeOf(DeadlineOf(due));
    timer->Period = period;
    timer->Dpc = dpc;
    queued.kernel = timer;
    queued.level = DISPATCH_LEVEL;
    queued.tolerance = tolerance * kTicksPerMillisecond;
    queued.counts_sleep = due.QuadPart >= 0;
    timers_.Insert(timer->DueTime.QuadPart, std::move(queued));
    WakeLocked();
    return was_set;
}

bool SchedulerState::CancelTimer(PKTIMER timer)
{
    Lock lock(mutex_);

    return timers_.Remove(timer);
}

// A negative time is relative to now, without the sleep to come. Any other is a system time.
SchedulerState::Deadline SchedulerState::DeadlineOf(const LARGE_INTEGER &time) const
{
    if (time.QuadPart < 0)
    {
        return {clock_.UnbiasedTime() + static_cast<uint64_t>(-time.QuadPart), false};
    }
    return {static_cast<uint64_t>(time.QuadPart), true};
}

uint64_t SchedulerState::UnbiasedTimeOf(const Deadline &deadline) const
{
    if (!deadline.is_system_time)
    {
        return deadline.time;
    }

    uint64_t system_time = clock_.SystemTime();

    return clock_.UnbiasedTime() + (deadline.time > system_time ? deadline.time - system_time : 0);
}

LONG SchedulerState::SetSignal(DISPATCHER_HEADER *object, LONG state)
{
    Lock lock(mutex_);
    LONG previous = __atomic_exchange_n(&object->SignalState, state, __ATOMIC_ACQ_REL);

    if (state != 0)
    {
        WakeLocked();
    }
    return previous;
}

bool SchedulerState::TryAcquireLocked(DISPATCHER_HEADER *object)
{
    if (__atomic_load_n(&object->SignalState, __ATOMIC_ACQUIRE) == 0)
    {
        return false;
    }
    if (object->Type == kSynchronizationEventType || object->Type == kSynchronizationTimerType)
    {
        __atomic_store_n(&object->SignalState, 0, __ATOMIC_RELEASE);
    }
    return true;
}

NTSTATUS SchedulerState::Wait(DISPATCHER_HEADER *object, const LARGE_INTEGER *timeout, KPROCESSOR_MODE mode,
                              bool alertable)
{
    Lock lock(mutex_);

    if (TryAcquireLocked(object))
    {
        return STATUS_SUCCESS;
    }
    if (timeout != nullptr && timeout->QuadPart == 0)
    {
        return STATUS_TIMEOUT;
    }

    WaitingClient client(*this);
    bool acquired = false;
    Deadline deadline = timeout == nullptr ? Deadline{} : DeadlineOf(*timeout);
    const ThreadControl *control = InterruptibleThread();
    WaitEnd end = WaitLocked(
        lock,
        [this, object, mode, alertable, control, &acquired]
        {
            acquired = TryAcquireLocked(object);
            return acquired || (control != nullptr && control->MustLeaveWait(mode, alertable));
        },
        deadline, kNoGiveUp, PassingOfThread(Passing::kPatient));

    return acquired ? STATUS_SUCCESS : EndOfWait(end, mode);
}

NTSTATUS SchedulerState::Sleep(const LARGE_INTEGER &interval, KPROCESSOR_MODE mode, bool alertable)
{
    Lock lock(mutex_);
    WaitingClient client(*this);
    const ThreadControl *control = InterruptibleThread();
    WaitEnd end = WaitLocked(
        lock, [mode, alertable, control] { return control != nullptr && control->MustLeaveWait(mode, alertable); },
        DeadlineOf(interval), kNoGiveUp, PassingOfThread(Passing::kAtOnce));

    return end == WaitEnd::kDone ? EndOfWait(end, mode) : STATUS_SUCCESS;
}

SchedulerState::Passing SchedulerState::PassingOfThread(Passing passing)
{
    return thread_state.control != nullptr ? Passing::kNever : passing;
}

// The status of a wait that ends although its object is not signaled.
NTSTATUS SchedulerState::EndOfWait(WaitEnd end, KPROCESSOR_MODE mode)
{
    if (end != WaitEnd::kDone)
    {
        return STATUS_TIMEOUT;
    }
    thread_state.control->WaitInterrupted(mode);
    return STATUS_USER_APC;
}

bool SchedulerState::WaitUntil(const Condition &done, RealTime give_up)
{
    Lock lock(mutex_);

    return WaitLocked(lock, done, Deadline{}, give_up, Passing::kNever) == WaitEnd::kDone;
}

bool SchedulerState::WaitUntilTime(const Condition &done, uint64_t unbiased_time)
{
    Lock lock(mutex_);

    return WaitLocked(lock, done, Deadline{unbiased_time, false}, kNoGiveUp, Passing::kPatient) == WaitEnd::kDone;
}

SchedulerState::WaitEnd SchedulerState::WaitLocked(Lock &lock, const Condition &done, const Deadline &deadline,
                                                   RealTime give_up, Passing passing)
{
    if (thread_work.scheduler == this)
    {
        return WaitOnWorkThread(lock, *static_cast<WorkThread *>(thread_work.thread), done, deadline, give_up);
    }

    WaitingThread waiting(*this, deadline);

    while (!done())
    {
        uint64_t due = UnbiasedTimeOf(deadline);

        if (due != TimerQueue::kNever && clock_.UnbiasedTime() >= due)
        {
            return WaitEnd::kDeadline;
        }
        if (give_up != kNoGiveUp && std::chrono::steady_clock::now() >= give_up)
        {
            return WaitEnd::kLimit;
        }
        if (MayRunHere() && RunOne(lock))
        {
            continue;
        }
        if (clock_.is_virtual() && passing != Passing::kNever && !HasReadyWorkLocked() && running_ == waiting_)
        {
            PassTimeLocked(lock, due, give_up, passing);
        }
        else
        {
            SleepLocked(lock, due, give_up);
        }
    }
    return WaitEnd::kDone;
}

void SchedulerState::SleepLocked(Lock &lock, uint64_t due, RealTime give_up)
{
    RealTime until = give_up;

    if (!clock_.is_virtual())
    {
        uint64_t next = MayRunHere() ? std::min(due, NextWakeLocked()) : due;

        if (next != TimerQueue::kNever)
        {
            until = std::min(until, clock_.WhenReached(std::min(next, clock_.UnbiasedTime() + kLongestSleep)));
        }
    }
    for (const WorkThread &thread : work_threads_)
    {
        until = thread.wait && MayRunHere() ? std::min(until, thread.wait->give_up) : until;
    }
    sleepers_++;
    if (until == kNoGiveUp)
    {
        changed_.wait(lock);
    }
    else
    {
        changed_.wait_until(lock, until);
    }
    sleepers_--;
}

// Called when nothing can happen on this machine before its clock moves.
void SchedulerState::PassTimeLocked(Lock &lock, uint64_t due, RealTime give_up, Passing passing)
{
    uint64_t next = std::min(due, NextWakeLocked());

    if (next == TimerQueue::kNever)
    {
        SleepLocked(lock, due, give_up);
        return;
    }
    if (passing == Passing::kPatient)
    {
        sleepers_++;
        std::cv_status status = changed_.wait_for(lock, kPatience);
        sleepers_--;
        if (status == std::cv_status::no_timeout)
        {
            return;
        }
    }
    clock_.MoveTo(next);
    WakeLocked();
}

void SchedulerState::Wake()
{
    Lock lock(mutex_);

    WakeLocked();
}

void SchedulerState::WakeLocked()
{
    if (sleepers_ != 0)
    {
        changed_.notify_all();
    }
}

bool SchedulerState::HasReadyWorkLocked()
{
    return !dispatch_.empty() || !passive_.empty() || timers_.next_wake() <= clock_.UnbiasedTime() ||
           std::any_of(work_threads_.begin(), work_threads_.end(),
                       [this](WorkThread &thread) { return !thread.runs && thread.wait && WaitIsOverLocked(thread); });
}

void SchedulerState::WaitForIdleLocked(Lock &lock)
{
    WaitLocked(
        lock, [this] { return !HasReadyWorkLocked() && running_ == waiting_forever_; }, Deadline{}, kNoGiveUp,
        Passing::kNever);
}

void SchedulerState::Run()
{
    Lock lock(mutex_);

    WaitForIdleLocked(lock);
}

void SchedulerState::RunUntil(uint64_t unbiased_time)
{
    Lock lock(mutex_);

    WaitForIdleLocked(lock);
    while (NextWakeLocked() <= unbiased_time)
    {
        clock_.MoveTo(NextWakeLocked());
        WakeLocked();
        WaitForIdleLocked(lock);
    }
    clock_.MoveTo(unbiased_time);
}

void SchedulerState::SleepMachine(uint64_t ticks, bool timers_count_it)
{
    Lock lock(mutex_);

    clock_.Sleep(ticks);
    timers_.Sleep(ticks, clock_.UnbiasedTime(), timers_count_it);
    WakeLocked();
}

std::string SchedulerState::DriverWorkLeft()
{
    std::string left;
    Lock lock(mutex_);

    WaitLocked(lock, [this] { return running_driver_ == 0; }, Deadline{}, kNoGiveUp, Passing::kPatient);
    for (const auto &[timer, id] : timers_.kernel_timers())
    {
        left += "    " + DescribeTimer(timer) + "\n";
    }
    for (const Item &item : dispatch_)
    {
        left +=
            item.object == nullptr ? "" : "    " + DescribeDpc(static_cast<const KDPC *>(item.object)) + " queued\n";
    }
    for (const Item &item : passive_)
    {
        left += item.object == nullptr ? "" : "    work item " + DescribePointer(item.object) + " queued\n";
    }
    return left;
}

std::vector<std::pair<uint64_t, uint64_t>> SchedulerState::DriverTimers()
{
    Lock lock(mutex_);

    return timers_.KernelWindows();
}

void SchedulerState::CheckFreed(const void *address, size_t bytes)
{
    Lock lock(mutex_);
    auto timer = timers_.kernel_timers().lower_bound(static_cast<PKTIMER>(const_cast<void *>(address)));

    if (timer != timers_.kernel_timers().end() && Contains(address, bytes, timer->first))
    {
        Bugcheck("FREED_WITH_TIMER", "pool memory %p is freed while %s in it is set", address,
                 DescribeTimer(timer->first).c_str());
    }
    for (const Item &item : dispatch_)
    {
        if (item.object != nullptr && Contains(address, bytes, item.object))
        {
            Bugcheck("FREED_WITH_DPC", "pool memory %p is freed while %s in it is queued", address,
                     DescribeDpc(static_cast<const KDPC *>(item.object)).c_str());
        }
    }
}

} // namespace sim::nt

#include "nt_fixture.h"

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace sim::test
{
namespace
{

using namespace std::chrono_literals;
using ::testing::ElementsAre;

constexpr uint64_t kTicksPerMillisecond = 10'000;

// A DPC that calls a function.
struct TestDpc
{
    KDPC dpc;
    std::function<void()> routine;

    explicit TestDpc(std::function<void()> function) : routine(std::move(function))
    {
        KeInitializeDpc(&dpc, Run, this);
    }

    static VOID Run(PKDPC, PVOID context, PVOID, PVOID) { static_cast<TestDpc *>(context)->routine(); }
};

struct TestTimer : KTIMER
{
    explicit TestTimer(TIMER_TYPE type = NotificationTimer) { KeInitializeTimerEx(this, type); }
};

struct TestEvent : KEVENT
{
    explicit TestEvent(EVENT_TYPE type = NotificationEvent) { KeInitializeEvent(this, type, FALSE); }
};

NTSTATUS WaitFor(PVOID object)
{
    return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, nullptr);
}

NTSTATUS WaitFor(PVOID object, std::chrono::nanoseconds timeout)
{
    LARGE_INTEGER time = Relative(timeout);

    return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, &time);
}

uint64_t MillisecondsSinceBoot()
{
    return (KeQueryInterruptTime() - nt::Clock::kBootTicks) / kTicksPerMillisecond;
}

TEST(DeferredWorkTest, RunsOnlyOnRequest)
{
    TestMachine machine;
    bool ran = false;

    machine->scheduler().Queue(PASSIVE_LEVEL, [&ran] { ran = true; });
    EXPECT_FALSE(ran);
    machine->Run();
    EXPECT_TRUE(ran);
}

TEST(DeferredWorkTest, RunsAtItsLevelAndDispatchGoesFirst)
{
    TestMachine machine;
    std::vector<int> levels;

    machine->scheduler().Queue(PASSIVE_LEVEL, [&levels] { levels.push_back(KeGetCurrentIrql()); });
    machine->scheduler().Queue(DISPATCH_LEVEL, [&levels] { levels.push_back(KeGetCurrentIrql()); });
    machine->Run();
    EXPECT_THAT(levels, ElementsAre(DISPATCH_LEVEL, PASSIVE_LEVEL));
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

TEST(DeferredWorkTest, RunsWorkThatWorkQueues)
{
    TestMachine machine;
    int depth = 0;
    std::function<void()> work = [&]
    {
        if (++depth < 5)
        {
            machine->scheduler().Queue(PASSIVE_LEVEL, work);
        }
    };

    machine->scheduler().Queue(PASSIVE_LEVEL, work);
    machine->Run();
    EXPECT_EQ(depth, 5);
}

TEST(DeferredWorkTest, RunsOnTheThreadOfTheWorker)
{
    TestMachine machine(RealTime());
    std::thread::id worker;
    Machine *seen = nullptr;

    machine->scheduler().Queue(PASSIVE_LEVEL,
                               [&]
                               {
                                   worker = std::this_thread::get_id();
                                   seen = &Machine::Current();
                               });
    machine->Run();
    EXPECT_NE(worker, std::thread::id());
    EXPECT_NE(worker, std::this_thread::get_id());
    EXPECT_EQ(seen, &*machine);
}

TEST(DeferredWorkTest, ThreadsQueueAtOnce)
{
    TestMachine machine(RealTime());
    std::atomic<int> ran{0};
    std::vector<std::thread> threads;

    for (int i = 0; i < 3; i++)
    {
        threads.emplace_back(
            [&machine, &ran, i]
            {
                for (int j = 0; j < 500; j++)
                {
                    machine->scheduler().Queue(i == 0 ? DISPATCH_LEVEL : PASSIVE_LEVEL, [&ran] { ran++; });
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    machine->Run();
    EXPECT_EQ(ran, 1500);
}

TEST(VirtualClockTest, StandsStillUntilAdvanced)
{
    TestMachine machine;
    uint64_t start = KeQueryInterruptTime();
    LARGE_INTEGER before;
    LARGE_INTEGER after;

    KeQuerySystemTime(&before);
    EXPECT_EQ(start, nt::Clock::kBootTicks);
    EXPECT_EQ(KeQueryInterruptTime(), start);
    machine->clock().Advance(1500ms);
    EXPECT_EQ(KeQueryInterruptTime(), start + 1500 * kTicksPerMillisecond);
    KeQuerySystemTime(&after);
    EXPECT_EQ(after.QuadPart - before.QuadPart, 1500 * 10'000);
}

TEST(RealClockTest, MovesForward)
{
    TestMachine machine(RealTime());
    LARGE_INTEGER frequency;
    LONGLONG start = KeQueryPerformanceCounter(&frequency).QuadPart;
    uint64_t coarse = KeQueryInterruptTime();

    EXPECT_EQ(frequency.QuadPart, 10'000'000);
    while (KeQueryInterruptTime() == coarse)
    {
        std::this_thread::yield();
    }
    EXPECT_GT(KeQueryPerformanceCounter(nullptr).QuadPart, start);
}

TEST(TimerTest, FiresItsDpcWhenDue)
{
    TestMachine machine;
    TestTimer timer;
    std::vector<uint64_t> fired;
    TestDpc dpc(
        [&fired]
        {
            EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
            fired.push_back(MillisecondsSinceBoot());
        });

    EXPECT_FALSE(KeSetTimer(&timer, Relative(100ms), &dpc.dpc));
    machine->clock().Advance(99ms);
    EXPECT_TRUE(fired.empty());
    EXPECT_FALSE(KeReadStateTimer(&timer));
    machine->clock().Advance(1ms);
    EXPECT_THAT(fired, ElementsAre(100));
    EXPECT_TRUE(KeReadStateTimer(&timer));
    machine->clock().Advance(1s);
    EXPECT_EQ(fired.size(), 1u);
}

TEST(TimerTest, TimersFireInOrderAtTheirDueTimes)
{
    TestMachine machine;
    TestTimer late;
    TestTimer early;
    std::vector<std::pair<char, uint64_t>> fired;
    TestDpc late_dpc([&fired] { fired.emplace_back('l', MillisecondsSinceBoot()); });
    TestDpc early_dpc([&fired] { fired.emplace_back('e', MillisecondsSinceBoot()); });

    KeSetTimer(&late, Relative(30ms), &late_dpc.dpc);
    KeSetTimer(&early, Relative(10ms), &early_dpc.dpc);
    machine->clock().Advance(1s);
    EXPECT_THAT(fired, ElementsAre(std::make_pair('e', 10u), std::make_pair('l', 30u)));
    EXPECT_EQ(MillisecondsSinceBoot(), 1000u);
}

TEST(TimerTest, PeriodicTimerFiresUntilCancelled)
{
    TestMachine machine;
    TestTimer timer;
    std::vector<uint64_t> fired;
    TestDpc dpc([&fired] { fired.push_back(MillisecondsSinceBoot()); });

    KeSetTimerEx(&timer, Relative(5ms), 10, &dpc.dpc);
    machine->clock().Advance(26ms);
    EXPECT_THAT(fired, ElementsAre(5, 15, 25));
    EXPECT_TRUE(KeCancelTimer(&timer));
    EXPECT_FALSE(KeCancelTimer(&timer));
    machine->clock().Advance(1s);
    EXPECT_EQ(fired.size(), 3u);
}

TEST(TimerTest, SettingAgainReplacesTheDueTime)
{
    TestMachine machine;
    TestTimer timer;
    int fired = 0;
    TestDpc dpc([&fired] { fired++; });

    EXPECT_FALSE(KeSetTimer(&timer, Relative(10ms), &dpc.dpc));
    EXPECT_TRUE(KeSetTimer(&timer, Relative(50ms), &dpc.dpc));
    machine->clock().Advance(49ms);
    EXPECT_EQ(fired, 0);
    machine->clock().Advance(1ms);
    EXPECT_EQ(fired, 1);
}

TEST(TimerTest, PositiveDueTimeIsASystemTime)
{
    TestMachine machine;
    TestTimer timer;
    int fired = 0;
    TestDpc dpc([&fired] { fired++; });
    LARGE_INTEGER due;

    KeQuerySystemTime(&due);
    due.QuadPart += 20 * 10'000;
    KeSetTimer(&timer, due, &dpc.dpc);
    machine->clock().Advance(19ms);
    EXPECT_EQ(fired, 0);
    machine->clock().Advance(1ms);
    EXPECT_EQ(fired, 1);
}

TEST(TimerTest, FiresOnTheRealClock)
{
    TestMachine machine(RealTime());
    TestTimer timer;
    TestEvent fired;
    uint64_t start = KeQueryInterruptTime();
    uint64_t at = 0;
    TestDpc dpc(
        [&]
        {
            at = KeQueryInterruptTime();
            KeSetEvent(&fired, IO_NO_INCREMENT, FALSE);
        });

    KeSetTimer(&timer, Relative(2ms), &dpc.dpc);
    EXPECT_EQ(WaitFor(&fired), STATUS_SUCCESS);
    EXPECT_GE(at, start + 2 * kTicksPerMillisecond) << "never early by the driver's own clock";
}

// Makes a timer fire into `fired`.
struct RecordingTimer : TestTimer
{
    std::vector<uint64_t> fired;
    TestDpc dpc{[this] { fired.push_back(MillisecondsSinceBoot()); }};

    void Set(LARGE_INTEGER due, ULONG tolerable_delay = 0, ULONG period = 0)
    {
        KeSetCoalescableTimer(this, due, period, tolerable_delay, &dpc.dpc);
    }
};

TEST(CoalescableTimerTest, FiresAsLateAsItMay)
{
    TestMachine machine;
    RecordingTimer timer;

    timer.Set(Relative(100ms), 50);
    EXPECT_THAT(machine->scheduler().DriverTimers(),
                ElementsAre(std::make_pair(nt::Clock::kBootTicks + 100 * kTicksPerMillisecond,
                                           nt::Clock::kBootTicks + 150 * kTicksPerMillisecond)));
    machine->clock().Advance(149ms);
    EXPECT_TRUE(timer.fired.empty());
    machine->clock().Advance(1ms);
    EXPECT_THAT(timer.fired, ElementsAre(150));
    EXPECT_TRUE(machine->scheduler().DriverTimers().empty());
}

TEST(CoalescableTimerTest, FiresTogetherWithATimerThatMayNotWait)
{
    TestMachine machine;
    RecordingTimer patient;
    RecordingTimer exact;
    RecordingTimer later;

    patient.Set(Relative(100ms), 1000);
    exact.Set(Relative(120ms));
    later.Set(Relative(121ms), 1000);
    machine->clock().Advance(120ms);
    EXPECT_THAT(patient.fired, ElementsAre(120));
    EXPECT_THAT(exact.fired, ElementsAre(120));
    EXPECT_TRUE(later.fired.empty());
    KeCancelTimer(&later);
}

TEST(CoalescableTimerTest, APeriodMayBeLongerByTheTolerableDelay)
{
    TestMachine machine;
    RecordingTimer timer;

    timer.Set(Relative(100ms), 50, 100);
    machine->clock().Advance(400ms);
    EXPECT_THAT(timer.fired, ElementsAre(150, 250, 350));
    KeCancelTimer(&timer);
}

TEST(SleepTest, UnbiasedTimeStandsStillAndTheOtherClocksDoNot)
{
    TestMachine machine;
    const uint64_t interrupt = KeQueryInterruptTime();
    const uint64_t unbiased = KeQueryUnbiasedInterruptTime();
    LARGE_INTEGER before;
    LARGE_INTEGER after;

    KeQuerySystemTime(&before);
    machine->Sleep(1h, SleepKind::kModernStandby);
    machine->clock().Advance(1s);
    KeQuerySystemTime(&after);
    EXPECT_EQ(KeQueryInterruptTime() - interrupt, 3601 * nt::Clock::kTicksPerSecond);
    EXPECT_EQ(static_cast<uint64_t>(after.QuadPart - before.QuadPart), 3601 * nt::Clock::kTicksPerSecond);
    EXPECT_EQ(KeQueryUnbiasedInterruptTime() - unbiased, nt::Clock::kTicksPerSecond);
}

TEST(SleepTest, ARelativeTimerDoesNotCountIt)
{
    TestMachine machine;
    RecordingTimer timer;
    int ran = 0;

    timer.Set(Relative(100ms));
    machine->scheduler().QueueAfter(100ms, PASSIVE_LEVEL, [&ran] { ran++; });
    machine->Sleep(1h, SleepKind::kModernStandby);
    machine->Run();
    EXPECT_TRUE(timer.fired.empty());
    machine->clock().Advance(99ms);
    EXPECT_TRUE(timer.fired.empty());
    machine->clock().Advance(1ms);
    EXPECT_EQ(timer.fired.size(), 1u);
    EXPECT_EQ(ran, 1);
}

TEST(SleepTest, ATimerWithASystemTimeFiresAtTheEndOfTheSleepInWhichItIsDue)
{
    TestMachine machine;
    RecordingTimer in_the_sleep;
    RecordingTimer after_the_sleep;
    LARGE_INTEGER due;

    KeQuerySystemTime(&due);
    due.QuadPart += 60 * static_cast<LONGLONG>(nt::Clock::kTicksPerSecond);
    in_the_sleep.Set(due);
    due.QuadPart += 60 * static_cast<LONGLONG>(nt::Clock::kTicksPerSecond);
    after_the_sleep.Set(due);
    machine->Sleep(110s, SleepKind::kModernStandby);
    EXPECT_TRUE(in_the_sleep.fired.empty());
    machine->Run();
    EXPECT_THAT(in_the_sleep.fired, ElementsAre(110'000));
    machine->clock().Advance(11s);
    EXPECT_THAT(after_the_sleep.fired, ElementsAre(120'000));
}

TEST(SleepTest, TimersThatCountItFireAtItsEnd)
{
    TestMachine machine;
    RecordingTimer in_the_sleep;
    RecordingTimer after_the_sleep;

    in_the_sleep.Set(Relative(60s));
    after_the_sleep.Set(Relative(120s));
    machine->Sleep(110s, SleepKind::kModernStandby, true);
    machine->Run();
    EXPECT_THAT(in_the_sleep.fired, ElementsAre(110'000));
    machine->clock().Advance(11s);
    EXPECT_THAT(after_the_sleep.fired, ElementsAre(120'000));
}

TEST(SleepTest, ATimeoutDoesNotCountItUnlessItIsASystemTime)
{
    for (const bool is_system_time : {false, true})
    {
        TestMachine machine;
        TestEvent never;
        LARGE_INTEGER timeout = Relative(60s);

        if (is_system_time)
        {
            KeQuerySystemTime(&timeout);
            timeout.QuadPart += 60 * static_cast<LONGLONG>(nt::Clock::kTicksPerSecond);
        }
        machine->scheduler().QueueAfter(1s, PASSIVE_LEVEL,
                                        [&machine] { machine->Sleep(1h, SleepKind::kModernStandby); });
        EXPECT_EQ(KeWaitForSingleObject(&never, Executive, KernelMode, FALSE, &timeout), STATUS_TIMEOUT);
        EXPECT_EQ((KeQueryUnbiasedInterruptTime() - nt::Clock::kBootTicks) / nt::Clock::kTicksPerSecond,
                  is_system_time ? 1u : 60u);
    }
}

TEST(TimerTest, WorkOfTheSimulationCanBeDelayedAndCancelled)
{
    TestMachine machine;
    std::vector<uint64_t> ran;
    auto record = [&ran] { ran.push_back(MillisecondsSinceBoot()); };

    machine->scheduler().QueueAfter(20ms, PASSIVE_LEVEL, record);
    nt::Scheduler::TimerId cancelled = machine->scheduler().QueueAfter(30ms, DISPATCH_LEVEL, record);

    EXPECT_TRUE(machine->scheduler().CancelTimer(cancelled));
    EXPECT_FALSE(machine->scheduler().CancelTimer(cancelled));
    machine->clock().Advance(1s);
    EXPECT_THAT(ran, ElementsAre(20));
}

TEST(DpcTest, IsQueuedOnce)
{
    TestMachine machine;
    int ran = 0;
    TestDpc dpc([&ran] { ran++; });

    EXPECT_TRUE(KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr));
    EXPECT_FALSE(KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr));
    machine->Run();
    EXPECT_EQ(ran, 1);
    EXPECT_TRUE(KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr));
    EXPECT_TRUE(KeRemoveQueueDpc(&dpc.dpc));
    EXPECT_FALSE(KeRemoveQueueDpc(&dpc.dpc));
    machine->Run();
    EXPECT_EQ(ran, 1);
}

TEST(DpcTest, MayQueueItselfAgain)
{
    TestMachine machine;
    int ran = 0;
    TestDpc dpc([] {});

    dpc.routine = [&ran, &dpc]
    {
        if (++ran < 3)
        {
            EXPECT_TRUE(KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr));
        }
    };
    KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr);
    machine->Run();
    EXPECT_EQ(ran, 3);
}

TEST(DpcTest, ReceivesItsArguments)
{
    TestMachine machine;
    KDPC dpc;
    std::vector<PVOID> seen;
    int marks[2];

    KeInitializeDpc(
        &dpc, [](PKDPC, PVOID context, PVOID first, PVOID second)
        { *static_cast<std::vector<PVOID> *>(context) = {first, second}; }, &seen);
    KeInsertQueueDpc(&dpc, &marks[0], &marks[1]);
    machine->Run();
    EXPECT_THAT(seen, ElementsAre(&marks[0], &marks[1]));
}

TEST(DpcTest, FlushWaitsForQueuedDpcs)
{
    for (const MachineOptions &options : {Deterministic(), RealTime()})
    {
        TestMachine machine(options);
        int ran = 0;
        TestDpc first([&ran] { ran++; });
        TestDpc second([&ran] { ran++; });

        KeInsertQueueDpc(&first.dpc, nullptr, nullptr);
        KeInsertQueueDpc(&second.dpc, nullptr, nullptr);
        KeFlushQueuedDpcs();
        EXPECT_EQ(ran, 2);
    }
}

TEST(EventTest, NotificationEventStaysSetAndSynchronizationEventDoesNot)
{
    TestMachine machine;
    TestEvent notification(NotificationEvent);
    TestEvent synchronization(SynchronizationEvent);
    LARGE_INTEGER now{};

    EXPECT_EQ(KeSetEvent(&notification, 0, FALSE), 0);
    EXPECT_EQ(KeSetEvent(&notification, 0, FALSE), 1);
    KeSetEvent(&synchronization, 0, FALSE);
    EXPECT_EQ(WaitFor(&notification), STATUS_SUCCESS);
    EXPECT_EQ(WaitFor(&notification), STATUS_SUCCESS);
    EXPECT_EQ(WaitFor(&synchronization), STATUS_SUCCESS);
    EXPECT_EQ(KeWaitForSingleObject(&synchronization, Executive, KernelMode, FALSE, &now), STATUS_TIMEOUT);
    KeClearEvent(&notification);
    EXPECT_EQ(KeReadStateEvent(&notification), 0);
    EXPECT_EQ(KeWaitForSingleObject(&notification, Executive, KernelMode, FALSE, &now), STATUS_TIMEOUT);
}

TEST(EventTest, SynchronizationEventLetsOneThreadThroughForEachSignal)
{
    TestMachine machine(RealTime());
    TestEvent event(SynchronizationEvent);
    TestEvent through(SynchronizationEvent);
    std::atomic<int> passed{0};
    std::vector<std::thread> threads;

    for (int i = 0; i < 3; i++)
    {
        threads.emplace_back(
            [&]
            {
                Machine::Scope scope(*machine);

                WaitFor(&event);
                passed++;
                KeSetEvent(&through, 0, FALSE);
            });
    }
    for (int i = 1; i <= 3; i++)
    {
        KeSetEvent(&event, 0, FALSE);
        WaitFor(&through);
        EXPECT_EQ(passed, i);
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
}

TEST(EventTest, PollingAtDispatchLevelIsAllowed)
{
    TestMachine machine;
    TestEvent event;
    LARGE_INTEGER now{};
    nt::IrqlScope irql(DISPATCH_LEVEL);

    EXPECT_EQ(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &now), STATUS_TIMEOUT);
}

TEST(WaitTest, RunsDeferredWorkThatSignals)
{
    TestMachine machine;
    TestEvent event;
    TestDpc dpc([&event] { KeSetEvent(&event, 0, FALSE); });

    KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr);
    EXPECT_EQ(WaitFor(&event), STATUS_SUCCESS);
}

TEST(WaitTest, ForATimerLetsVirtualTimePass)
{
    TestMachine machine;
    TestTimer timer(SynchronizationTimer);

    KeSetTimer(&timer, Relative(70ms), nullptr);
    EXPECT_EQ(WaitFor(&timer), STATUS_SUCCESS);
    EXPECT_EQ(MillisecondsSinceBoot(), 70u);
    EXPECT_FALSE(KeReadStateTimer(&timer));
}

TEST(WaitTest, TimesOutOnBothClocks)
{
    for (const MachineOptions &options : {Deterministic(), RealTime()})
    {
        TestMachine machine(options);
        TestEvent event;
        uint64_t start = KeQueryInterruptTime();

        EXPECT_EQ(WaitFor(&event, 3ms), STATUS_TIMEOUT);
        EXPECT_GE(KeQueryInterruptTime(), start + 3 * kTicksPerMillisecond);
    }
}

TEST(WaitTest, DelayPassesVirtualTimeAndFiresTimersOnTheWay)
{
    TestMachine machine;
    TestTimer timer;
    std::vector<uint64_t> fired;
    TestDpc dpc([&fired] { fired.push_back(MillisecondsSinceBoot()); });
    LARGE_INTEGER interval = Relative(50ms);

    KeSetTimerEx(&timer, Relative(20ms), 20, &dpc.dpc);
    EXPECT_EQ(KeDelayExecutionThread(KernelMode, FALSE, &interval), STATUS_SUCCESS);
    EXPECT_EQ(MillisecondsSinceBoot(), 50u);
    EXPECT_THAT(fired, ElementsAre(20, 40));
    KeCancelTimer(&timer);
}

TEST(WaitTest, WorkThatWaitsLetsOtherWorkRun)
{
    for (const MachineOptions &options : {Deterministic(), RealTime()})
    {
        TestMachine machine(options);
        TestEvent event;
        bool done = false;

        machine->scheduler().Queue(PASSIVE_LEVEL,
                                   [&]
                                   {
                                       machine->scheduler().Queue(PASSIVE_LEVEL,
                                                                  [&event] { KeSetEvent(&event, 0, FALSE); });
                                       WaitFor(&event);
                                       done = true;
                                   });
        machine->Run();
        EXPECT_TRUE(done);
    }
}

TEST(WaitTest, WorkThatSleepsOnAVirtualClockWithAWorkerContinues)
{
    MachineOptions options;

    options.virtual_clock = true;
    TestMachine machine(options);
    uint64_t woke = 0;

    machine->scheduler().Queue(PASSIVE_LEVEL,
                               [&woke]
                               {
                                   LARGE_INTEGER interval = Relative(40ms);

                                   KeDelayExecutionThread(KernelMode, FALSE, &interval);
                                   woke = MillisecondsSinceBoot();
                               });
    machine->Run();
    EXPECT_EQ(woke, 40u);
}

TEST(WaitTest, AdvanceWithAWorkerWaitsForTheFiredWork)
{
    MachineOptions options;

    options.virtual_clock = true;
    TestMachine machine(options);
    TestTimer timer;
    std::vector<uint64_t> fired;
    TestDpc dpc([&fired] { fired.push_back(MillisecondsSinceBoot()); });

    KeSetTimerEx(&timer, Relative(10ms), 10, &dpc.dpc);
    machine->clock().Advance(35ms);
    EXPECT_THAT(fired, ElementsAre(10, 20, 30));
    KeCancelTimer(&timer);
}

TEST(WaitTest, UntilEndsAtItsLimit)
{
    TestMachine machine;

    EXPECT_FALSE(machine->scheduler().WaitUntil([] { return false; }, 1ms));
    EXPECT_TRUE(machine->scheduler().WaitUntil([] { return true; }, 1ms));
}

TEST(ProcessorTest, NumberIsBelowTheCountAndStays)
{
    MachineOptions options = Deterministic();

    options.processors = 4;
    TestMachine machine(options);
    PROCESSOR_NUMBER number;
    ULONG first = KeGetCurrentProcessorNumberEx(&number);

    EXPECT_EQ(KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS), 4u);
    EXPECT_LT(first, 4u);
    EXPECT_EQ(number.Number, first);
    EXPECT_EQ(KeGetCurrentProcessorNumberEx(nullptr), first);
}

TEST(SchedulerDeathTest, DpcThatReturnsWithALockIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            KSPIN_LOCK lock = 0;
            TestDpc dpc([&lock] { KeAcquireSpinLockAtDpcLevel(&lock); });

            KeInsertQueueDpc(&dpc.dpc, nullptr, nullptr);
            machine->Run();
        },
        "BUGCHECK LOCK_HELD_AT_RETURN: a DPC");
}

TEST(SchedulerDeathTest, AdvanceOfARealClockIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine(RealTime());

            machine->clock().Advance(1s);
        },
        "BUGCHECK CLOCK_NOT_VIRTUAL");
}

TEST(SchedulerDeathTest, SleepOfAMachineWithARealClockIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine(RealTime());

            machine->Sleep(1s, SleepKind::kStandby);
        },
        "BUGCHECK CLOCK_NOT_VIRTUAL");
}

TEST(SchedulerDeathTest, ANegativeTolerableDelayIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestTimer timer;

            KeSetCoalescableTimer(&timer, Relative(1s), 0, static_cast<ULONG>(-1), nullptr);
        },
        "BUGCHECK TIMER_PARAMETER_NEGATIVE");
}

TEST(SchedulerDeathTest, UninitializedObjectsAreFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            KEVENT event{};

            KeSetEvent(&event, 0, FALSE);
        },
        "BUGCHECK OBJECT_NOT_INITIALIZED: KeSetEvent");
    EXPECT_DEATH(
        {
            TestMachine machine;
            KDPC dpc{};

            KeInsertQueueDpc(&dpc, nullptr, nullptr);
        },
        "BUGCHECK OBJECT_NOT_INITIALIZED: KeInsertQueueDpc");
}

} // namespace
} // namespace sim::test

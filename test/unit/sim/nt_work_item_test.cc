#include "nt_fixture.h"

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

namespace sim::test
{
namespace
{

class WorkItemTest : public ::testing::Test
{
  protected:
    void SetUp() override { ASSERT_EQ(driver.Load(*machine), STATUS_SUCCESS); }
    void TearDown() override { EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS); }

    TestMachine machine;
    TestDriver driver;
};

struct Seen
{
    PDEVICE_OBJECT device = nullptr;
    int calls = 0;
    KIRQL irql = HIGH_LEVEL;
};

VOID Record(PDEVICE_OBJECT device, PVOID context)
{
    Seen *seen = static_cast<Seen *>(context);

    seen->device = device;
    seen->calls++;
    seen->irql = KeGetCurrentIrql();
}

TEST_F(WorkItemTest, RunsAtPassiveLevelWithItsDevice)
{
    PIO_WORKITEM item = IoAllocateWorkItem(driver.device);
    Seen seen;

    IoQueueWorkItem(item, Record, DelayedWorkQueue, &seen);
    EXPECT_EQ(seen.calls, 0);
    machine->Run();
    EXPECT_EQ(seen.calls, 1);
    EXPECT_EQ(seen.device, driver.device);
    EXPECT_EQ(seen.irql, PASSIVE_LEVEL);
    IoFreeWorkItem(item);
}

TEST_F(WorkItemTest, MayFreeItself)
{
    PIO_WORKITEM item = IoAllocateWorkItem(driver.device);

    IoQueueWorkItemEx(item, [](PVOID, PVOID, PIO_WORKITEM self) { IoFreeWorkItem(self); }, DelayedWorkQueue, nullptr);
    machine->Run();
    EXPECT_EQ(machine->pool().Report().find("'WoIt'"), std::string::npos);
}

TEST_F(WorkItemTest, MayBeQueuedAgainFromItsRoutine)
{
    struct Again
    {
        PIO_WORKITEM item;
        int calls = 0;
    } again{IoAllocateWorkItem(driver.device)};
    PIO_WORKITEM_ROUTINE routine = [](PDEVICE_OBJECT, PVOID context)
    {
        Again *self = static_cast<Again *>(context);

        if (++self->calls == 1)
        {
            IoQueueWorkItem(
                self->item, [](PDEVICE_OBJECT, PVOID inner) { static_cast<Again *>(inner)->calls++; }, DelayedWorkQueue,
                self);
        }
    };

    IoQueueWorkItem(again.item, routine, DelayedWorkQueue, &again);
    machine->Run();
    EXPECT_EQ(again.calls, 2);
    IoFreeWorkItem(again.item);
}

TEST_F(WorkItemTest, AllocationMayFail)
{
    machine->faults().FailAll();
    EXPECT_EQ(IoAllocateWorkItem(driver.device), nullptr);
    machine->faults().Stop();
}

using namespace std::chrono_literals;

constexpr uint64_t kTicksPerMillisecond = 10'000;

uint64_t MillisecondsSinceBoot()
{
    return (KeQueryInterruptTime() - nt::Clock::kBootTicks) / kTicksPerMillisecond;
}

// A work item that calls a function.
class TestItem
{
  public:
    TestItem(PDEVICE_OBJECT device, std::function<void()> function)
        : item_(IoAllocateWorkItem(device)), function_(std::move(function))
    {
    }
    ~TestItem() { IoFreeWorkItem(item_); }

    TestItem(const TestItem &) = delete;
    TestItem &operator=(const TestItem &) = delete;

    void Queue() { IoQueueWorkItem(item_, Run, DelayedWorkQueue, this); }

  private:
    static VOID Run(PDEVICE_OBJECT, PVOID context) { static_cast<TestItem *>(context)->function_(); }

    PIO_WORKITEM item_;
    std::function<void()> function_;
};

MachineOptions VirtualWithWorker()
{
    MachineOptions options;

    options.virtual_clock = true;
    return options;
}

// The parameter says whether a worker runs deferred work. The clock is virtual.
class WaitingWorkItemTest : public ::testing::TestWithParam<bool>
{
  protected:
    WaitingWorkItemTest() : machine(GetParam() ? VirtualWithWorker() : Deterministic())
    {
        KeInitializeEvent(&event, NotificationEvent, FALSE);
    }

    void SetUp() override { ASSERT_EQ(driver.Load(*machine), STATUS_SUCCESS); }
    void TearDown() override { EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS); }

    NTSTATUS WaitFor(std::chrono::nanoseconds timeout)
    {
        LARGE_INTEGER time = Relative(timeout);

        return KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &time);
    }

    TestMachine machine;
    TestDriver driver;
    KEVENT event;
};

TEST_P(WaitingWorkItemTest, OtherWorkRunsWhileAnItemWaitsForAMinute)
{
    NTSTATUS waited = STATUS_PENDING;
    uint64_t ended = 0;
    uint64_t other = 0;
    uint64_t fired = 0;
    TestItem waiting(driver.device,
                     [&]
                     {
                         waited = WaitFor(60s);
                         ended = MillisecondsSinceBoot();
                     });
    TestItem second(driver.device, [&] { other = MillisecondsSinceBoot() + 1; });

    waiting.Queue();
    machine->Run();
    second.Queue();
    machine->scheduler().QueueAfter(100ms, DISPATCH_LEVEL, [&] { fired = MillisecondsSinceBoot(); });
    machine->clock().Advance(200ms);
    EXPECT_EQ(other, 1u) << "at once";
    EXPECT_EQ(fired, 100u);
    EXPECT_EQ(MillisecondsSinceBoot(), 200u) << "an item that waits does not move the clock";
    EXPECT_EQ(waited, STATUS_PENDING);
    machine->clock().Advance(60s);
    EXPECT_EQ(waited, STATUS_TIMEOUT);
    EXPECT_EQ(ended, 60'000u);
}

TEST_P(WaitingWorkItemTest, AnItemGoesOnAlthoughALaterOneStillWaits)
{
    KEVENT later;
    std::vector<int> order;

    KeInitializeEvent(&later, NotificationEvent, FALSE);
    TestItem first(driver.device,
                   [&]
                   {
                       WaitFor(60s);
                       order.push_back(1);
                       KeSetEvent(&later, IO_NO_INCREMENT, FALSE);
                   });
    TestItem second(driver.device,
                    [&]
                    {
                        KeWaitForSingleObject(&later, Executive, KernelMode, FALSE, nullptr);
                        order.push_back(2);
                    });

    first.Queue();
    second.Queue();
    machine->Run();
    EXPECT_TRUE(order.empty());
    KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
    machine->Run();
    EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST_P(WaitingWorkItemTest, ASynchronizationEventReleasesOneOfTwoItems)
{
    int released = 0;
    const auto wait = [&]
    {
        WaitFor(60s);
        released++;
    };
    TestItem first(driver.device, wait);
    TestItem second(driver.device, wait);

    KeInitializeEvent(&event, SynchronizationEvent, FALSE);
    first.Queue();
    second.Queue();
    machine->Run();
    for (int expected : {1, 2})
    {
        KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
        machine->Run();
        EXPECT_EQ(released, expected);
    }
}

TEST_P(WaitingWorkItemTest, AThreadThatWaitsForAnItemLetsTheItemsTimePass)
{
    NTSTATUS waited = STATUS_PENDING;
    KEVENT done;

    KeInitializeEvent(&done, NotificationEvent, FALSE);
    TestItem waiting(driver.device,
                     [&]
                     {
                         waited = WaitFor(60s);
                         KeSetEvent(&done, IO_NO_INCREMENT, FALSE);
                     });

    waiting.Queue();
    KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, nullptr);
    EXPECT_EQ(waited, STATUS_TIMEOUT);
    EXPECT_EQ(MillisecondsSinceBoot(), 60'000u);
}

INSTANTIATE_TEST_SUITE_P(Workers, WaitingWorkItemTest, ::testing::Bool(), [](const auto &test)
                         { return std::string(test.param ? "WithAWorker" : "OnTheCallingThread"); });

TEST(RealTimeWorkItemTest, OtherWorkRunsWithin200MsWhileAnItemWaitsForAMinute)
{
    TestMachine machine(RealTime());
    TestDriver driver;
    KEVENT event;
    KEVENT ran;
    NTSTATUS waited = STATUS_PENDING;

    ASSERT_EQ(driver.Load(*machine), STATUS_SUCCESS);
    KeInitializeEvent(&event, NotificationEvent, FALSE);
    KeInitializeEvent(&ran, NotificationEvent, FALSE);
    {
        TestItem waiting(driver.device,
                         [&]
                         {
                             LARGE_INTEGER time = Relative(60s);

                             waited = KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &time);
                         });
        TestItem second(driver.device, [&] { KeSetEvent(&ran, IO_NO_INCREMENT, FALSE); });
        LARGE_INTEGER time = Relative(200ms);

        waiting.Queue();
        second.Queue();
        EXPECT_EQ(KeWaitForSingleObject(&ran, Executive, KernelMode, FALSE, &time), STATUS_SUCCESS);
        machine->Run();
        KeSetEvent(&event, IO_NO_INCREMENT, FALSE);
        machine->Run();
        EXPECT_EQ(waited, STATUS_SUCCESS);
    }
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
}

TEST(WorkItemDeathTest, AnItemThatWaitsWhenTheMachineEndsIsFound)
{
    EXPECT_DEATH(
        {
            auto machine = std::make_unique<Machine>(Deterministic());
            Machine::Scope scope(*machine);
            KEVENT event;

            KeInitializeEvent(&event, NotificationEvent, FALSE);
            machine->scheduler().QueueWorkItem(
                reinterpret_cast<PIO_WORKITEM>(&event),
                [&] { KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, nullptr); });
            machine->Run();
            machine.reset();
        },
        "BUGCHECK WORK_ITEM_WAITS_AT_END");
}

TEST(WorkItemDeathTest, QueueingTwiceIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestDriver driver;

            driver.Load(*machine);

            PIO_WORKITEM item = IoAllocateWorkItem(driver.device);

            IoQueueWorkItem(item, Record, DelayedWorkQueue, nullptr);
            IoQueueWorkItem(item, Record, DelayedWorkQueue, nullptr);
        },
        "BUGCHECK WORK_ITEM_QUEUED_TWICE");
}

TEST(WorkItemDeathTest, FreeingWhileQueuedIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestDriver driver;

            driver.Load(*machine);

            PIO_WORKITEM item = IoAllocateWorkItem(driver.device);

            IoQueueWorkItem(item, Record, DelayedWorkQueue, nullptr);
            IoFreeWorkItem(item);
        },
        "BUGCHECK WORK_ITEM_FREED_QUEUED");
}

} // namespace
} // namespace sim::test

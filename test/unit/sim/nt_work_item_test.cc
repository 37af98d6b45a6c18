#include "nt_fixture.h"

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

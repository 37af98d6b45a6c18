// Threads and processes of user mode that are killed while a driver waits for them in the kernel.
#include "nt_fixture.h"

#include "nt/client_process.h"
#include "nt/user_wait.h"

#include <atomic>
#include <thread>

namespace sim::test
{
namespace
{

using namespace std::chrono_literals;

// Long enough that a wait which can end has ended.
constexpr auto kPatience = 30ms;

class ClientProcessTest : public ::testing::Test
{
  protected:
    void SetUp() override
    {
        KeInitializeEvent(event, SynchronizationEvent, FALSE);
        ASSERT_EQ(driver.Load(*machine), STATUS_SUCCESS);
        ASSERT_EQ(process.Open(u"\\\\.\\Test", &file), STATUS_SUCCESS);
    }

    void TearDown() override
    {
        KeSetEvent(event, IO_NO_INCREMENT, FALSE);
        process.Kill();
        EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
    }

    // Reads of the driver wait in this way for the event, and complete with the wait's status.
    void ReadsWait(KPROCESSOR_MODE mode, BOOLEAN alertable)
    {
        driver.dispatch[IRP_MJ_READ] = [this, mode, alertable](PDEVICE_OBJECT, PIRP irp)
        { return CompleteWith(irp, KeWaitForSingleObject(event, UserRequest, mode, alertable, nullptr)); };
    }

    nt::ClientThread &StartReader()
    {
        nt::ClientThread &thread = process.Start(
            [this]
            {
                machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
                came_back = true;
            });

        thread.AwaitWaiting();
        return thread;
    }

    TestMachine machine;
    TestDriver driver;
    nt::ClientProcess process{*machine};
    nt::File *file = nullptr;
    KEVENT event_of_test;
    KEVENT *const event = &event_of_test;
    char buffer[8];
    Outcome outcome;
    std::atomic<bool> came_back{false};
};

TEST_F(ClientProcessTest, TerminationInterruptsAUserModeWait)
{
    ReadsWait(UserMode, FALSE);
    nt::ClientThread &thread = StartReader();

    EXPECT_EQ(outcome.calls, 0);
    thread.Terminate();
    thread.Join();
    EXPECT_EQ(outcome.calls, 1);
    EXPECT_EQ(outcome.status, STATUS_USER_APC);
    EXPECT_FALSE(came_back) << "a terminated thread does not return to user mode";
}

TEST_F(ClientProcessTest, TerminationDoesNotInterruptAKernelModeWait)
{
    ReadsWait(KernelMode, FALSE);
    nt::ClientThread &thread = StartReader();

    thread.Terminate();
    std::this_thread::sleep_for(kPatience);
    EXPECT_FALSE(thread.ended());
    KeSetEvent(event, IO_NO_INCREMENT, FALSE);
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_SUCCESS);
    EXPECT_FALSE(came_back);
}

TEST_F(ClientProcessTest, NothingInterruptsAWaitInACriticalRegion)
{
    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        KeEnterCriticalRegion();
        const NTSTATUS status = KeWaitForSingleObject(event, UserRequest, KernelMode, TRUE, nullptr);
        KeLeaveCriticalRegion();
        return CompleteWith(irp, status);
    };
    nt::ClientThread &thread = StartReader();

    thread.QueueUserApc([] {});
    thread.Terminate();
    std::this_thread::sleep_for(kPatience);
    EXPECT_FALSE(thread.ended());
    KeSetEvent(event, IO_NO_INCREMENT, FALSE);
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_SUCCESS);
}

TEST_F(ClientProcessTest, AUserApcDoesNotInterruptAWaitThatIsNotAlertable)
{
    std::atomic<bool> delivered{false};

    ReadsWait(UserMode, FALSE);
    nt::ClientThread &thread = StartReader();

    thread.QueueUserApc([&] { delivered = true; });
    std::this_thread::sleep_for(kPatience);
    EXPECT_EQ(outcome.calls, 0);
    KeSetEvent(event, IO_NO_INCREMENT, FALSE);
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_SUCCESS);
    EXPECT_TRUE(came_back);
    EXPECT_FALSE(delivered);
}

TEST_F(ClientProcessTest, AUserApcInterruptsAnAlertableWaitAndIsDelivered)
{
    std::atomic<bool> delivered_first{false};

    ReadsWait(UserMode, TRUE);
    nt::ClientThread &thread = StartReader();

    thread.QueueUserApc([&] { delivered_first = !came_back; });
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_USER_APC);
    EXPECT_TRUE(came_back);
    EXPECT_TRUE(delivered_first);
}

TEST_F(ClientProcessTest, AnAlertableKernelModeWaitIsInterruptedWithoutDelivery)
{
    std::atomic<bool> delivered{false};

    ReadsWait(KernelMode, TRUE);
    nt::ClientThread &thread = StartReader();

    thread.QueueUserApc([&] { delivered = true; });
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_USER_APC);
    EXPECT_FALSE(delivered);
}

TEST_F(ClientProcessTest, TerminationInterruptsADelayInUserMode)
{
    driver.dispatch[IRP_MJ_READ] = [](PDEVICE_OBJECT, PIRP irp)
    {
        LARGE_INTEGER delay = Relative(1h);

        return CompleteWith(irp, KeDelayExecutionThread(UserMode, FALSE, &delay));
    };
    nt::ClientThread &thread = StartReader();

    thread.Terminate();
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_USER_APC);
}

TEST_F(ClientProcessTest, ATerminatedThreadMakesNoMoreRequests)
{
    std::atomic<bool> terminated{false};
    int calls = 0;

    driver.dispatch[IRP_MJ_READ] = [&calls](PDEVICE_OBJECT, PIRP irp)
    {
        calls++;
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    nt::ClientThread &thread = process.Start(
        [&]
        {
            while (!terminated)
            {
                std::this_thread::yield();
            }
            machine->io().ReadAndWait(file, buffer, sizeof(buffer));
        });

    thread.Terminate();
    terminated = true;
    thread.Join();
    EXPECT_EQ(calls, 0);
}

TEST_F(ClientProcessTest, AClientThatWaitsLetsNoTimePass)
{
    KTIMER timer;
    LARGE_INTEGER due = Relative(1s);
    const uint64_t before = machine->clock().InterruptTime();

    KeInitializeTimer(&timer);
    KeSetTimer(&timer, due, nullptr);
    ReadsWait(UserMode, FALSE);
    StartReader();
    std::this_thread::sleep_for(kPatience);
    EXPECT_EQ(machine->clock().InterruptTime(), before);
    KeCancelTimer(&timer);
}

// The driver marks the request pending and keeps it. Its cancel routine completes it.
NTSTATUS PendUntilCancelled(PDEVICE_OBJECT, PIRP irp)
{
    IoMarkIrpPending(irp);
    IoSetCancelRoutine(irp,
                       [](PDEVICE_OBJECT, PIRP cancelled)
                       {
                           IoReleaseCancelSpinLock(cancelled->CancelIrql);
                           CompleteWith(cancelled, STATUS_CANCELLED);
                       });
    return STATUS_PENDING;
}

TEST_F(ClientProcessTest, TheEndOfAThreadCancelsItsPendedRequestsAndNoOther)
{
    Outcome other;

    driver.dispatch[IRP_MJ_READ] = PendUntilCancelled;
    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &other);
    nt::ClientThread &thread =
        process.Start([this] { machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome); });

    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_CANCELLED);
    EXPECT_EQ(other.calls, 0);
    machine->io().CancelAll(file);
    EXPECT_EQ(other.status, STATUS_CANCELLED);
}

TEST_F(ClientProcessTest, TerminationCancelsTheRequestThatAThreadWaitsFor)
{
    std::atomic<bool> pended{false};

    driver.dispatch[IRP_MJ_READ] = [&pended](PDEVICE_OBJECT device, PIRP irp)
    {
        const NTSTATUS status = PendUntilCancelled(device, irp);

        pended = true;
        return status;
    };
    nt::ClientThread &thread = process.Start([this] { machine->io().ReadAndWait(file, buffer, sizeof(buffer)); });

    while (!pended)
    {
        std::this_thread::yield();
    }
    thread.Terminate();
    thread.Join();
    EXPECT_EQ(machine->io().outstanding(file), 0u);
}

TEST_F(ClientProcessTest, AKilledProcessClosesItsHandlesAfterItsThreadsHaveLeft)
{
    std::atomic<int> inside{0};
    std::vector<UCHAR> seen;

    driver.dispatch[IRP_MJ_READ] = [&](PDEVICE_OBJECT, PIRP irp)
    {
        inside++;
        const NTSTATUS status = KeWaitForSingleObject(event, UserRequest, UserMode, FALSE, nullptr);
        inside--;
        return CompleteWith(irp, status);
    };
    for (UCHAR major : {IRP_MJ_CLEANUP, IRP_MJ_CLOSE})
    {
        driver.dispatch[major] = [&, major](PDEVICE_OBJECT, PIRP irp)
        {
            EXPECT_EQ(inside, 0);
            seen.push_back(major);
            return CompleteWith(irp, STATUS_SUCCESS);
        };
    }
    StartReader();
    process.Start([this] { machine->io().ReadAndWait(file, buffer, sizeof(buffer)); }).AwaitWaiting();
    EXPECT_EQ(inside, 2);
    process.Kill();
    EXPECT_THAT(seen, ::testing::ElementsAre(IRP_MJ_CLEANUP, IRP_MJ_CLOSE));
    driver.dispatch.clear();
}

TEST_F(ClientProcessTest, ARequestCanBeCancelledWhileItsDispatchRoutineWaits)
{
    static KEVENT *cancelled;

    cancelled = event;
    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        IoSetCancelRoutine(irp,
                           [](PDEVICE_OBJECT, PIRP request)
                           {
                               KeSetEvent(cancelled, IO_NO_INCREMENT, FALSE);
                               IoReleaseCancelSpinLock(request->CancelIrql);
                           });
        KeWaitForSingleObject(event, UserRequest, UserMode, FALSE, nullptr);
        return CompleteWith(irp, irp->Cancel ? STATUS_CANCELLED : STATUS_SUCCESS);
    };
    nt::ClientThread &thread = StartReader();

    EXPECT_TRUE(machine->io().Cancel(file, &outcome));
    thread.Join();
    EXPECT_EQ(outcome.status, STATUS_CANCELLED);
    EXPECT_TRUE(came_back);
}

// Otherwise the handle could be closed and the driver unloaded under the dispatch routine.
TEST_F(ClientProcessTest, ARequestThatIsNotPendedCompletesWhenItsDispatchRoutineHasReturned)
{
    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        const NTSTATUS status = CompleteWith(irp, STATUS_SUCCESS);

        EXPECT_EQ(outcome.calls, 0);
        EXPECT_EQ(machine->io().outstanding(file), 1u);
        return status;
    };
    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    EXPECT_EQ(outcome.calls, 1);
    EXPECT_EQ(machine->io().outstanding(file), 0u);
}

TEST_F(ClientProcessTest, ATestActsWhileItsOwnThreadWouldWait)
{
    int acts = 0;

    ReadsWait(UserMode, FALSE);
    const nt::WhileWaiting others(
        [&]
        {
            acts++;
            EXPECT_EQ(outcome.calls, 0);
            KeSetEvent(event, IO_NO_INCREMENT, FALSE);
        });

    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    EXPECT_EQ(outcome.calls, 1);
    KeSetEvent(event, IO_NO_INCREMENT, FALSE);
    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    EXPECT_EQ(acts, 1) << "the event was set already";
}

using ClientProcessDeathTest = ClientProcessTest;

TEST_F(ClientProcessDeathTest, AUserModeWaitInACriticalRegionOrAtApcLevelIsFound)
{
    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        KeEnterCriticalRegion();
        return CompleteWith(irp, KeWaitForSingleObject(event, UserRequest, UserMode, FALSE, nullptr));
    };
    EXPECT_DEATH(machine->io().ReadAndWait(file, buffer, sizeof(buffer)), "BUGCHECK USER_MODE_WAIT_IN_CRITICAL_REGION");
    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        KIRQL irql;

        KeRaiseIrql(APC_LEVEL, &irql);
        return CompleteWith(irp, KeWaitForSingleObject(event, UserRequest, UserMode, FALSE, nullptr));
    };
    EXPECT_DEATH(machine->io().ReadAndWait(file, buffer, sizeof(buffer)), "BUGCHECK USER_MODE_WAIT_IN_CRITICAL_REGION");
}

TEST_F(ClientProcessDeathTest, AUserModeWaitForAnObjectOnTheStackIsFound)
{
    driver.dispatch[IRP_MJ_READ] = [](PDEVICE_OBJECT, PIRP irp)
    {
        KEVENT on_stack;

        KeInitializeEvent(&on_stack, NotificationEvent, FALSE);
        return CompleteWith(irp, KeWaitForSingleObject(&on_stack, UserRequest, UserMode, FALSE, nullptr));
    };
    EXPECT_DEATH(machine->io().ReadAndWait(file, buffer, sizeof(buffer)), "BUGCHECK USER_MODE_WAIT_ON_STACK");
}

TEST_F(ClientProcessDeathTest, AStackThatIsWrittenWhileItMayBeUnmappedIsFound)
{
    static volatile int *written;

    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        volatile int on_stack = 0;

        written = &on_stack;
        return CompleteWith(irp, KeWaitForSingleObject(event, UserRequest, UserMode, FALSE, nullptr) + on_stack);
    };
    EXPECT_DEATH(
        {
            const nt::WhileWaiting others(
                [this]
                {
                    *written = 1;
                    KeSetEvent(event, IO_NO_INCREMENT, FALSE);
                });

            machine->io().ReadAndWait(file, buffer, sizeof(buffer));
        },
        RULE_OR_SANITIZER("UNMAPPED_STACK_WRITTEN"));
}

TEST_F(ClientProcessDeathTest, AThreadThatCannotBeTerminatedIsFound)
{
    ReadsWait(KernelMode, FALSE);
    EXPECT_DEATH(
        {
            StartReader();
            process.Kill();
        },
        "BUGCHECK THREAD_NOT_TERMINATED");
}

TEST_F(ClientProcessDeathTest, ARequestThatOutlivesItsThreadIsFound)
{
    driver.dispatch[IRP_MJ_READ] = [](PDEVICE_OBJECT, PIRP irp)
    {
        IoMarkIrpPending(irp);
        return STATUS_PENDING;
    };
    EXPECT_DEATH(StartReader().Join(), "BUGCHECK IRP_LEFT_AFTER_THREAD|BUGCHECK THREAD_NOT_TERMINATED");
}

} // namespace
} // namespace sim::test

#include "nt_fixture.h"

#include <thread>

namespace sim::test
{
namespace
{

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DriverTest, EntryReceivesItsRegistryPath)
{
    TestMachine machine;
    TestDriver driver;
    std::u16string path;

    driver.entry = [&path](PDRIVER_OBJECT, PUNICODE_STRING registry_path)
    {
        path = std::u16string(reinterpret_cast<char16_t *>(registry_path->Buffer), registry_path->Length / 2);
        return STATUS_SUCCESS;
    };
    EXPECT_EQ(driver.Load(*machine, u"NetVerdict"), STATUS_SUCCESS);
    EXPECT_EQ(path, u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\NetVerdict");
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
}

TEST(DriverTest, DeviceIsGoneAfterUnload)
{
    TestMachine machine;
    TestDriver driver;
    nt::File *file;

    driver.Load(*machine);
    EXPECT_THAT(machine->io().DeviceNames(), ElementsAre(u"\\Device\\Test"));
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
    EXPECT_THAT(machine->io().DeviceNames(), IsEmpty());
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &file), STATUS_OBJECT_NAME_NOT_FOUND);
}

TEST(DriverTest, CanBeLoadedAgain)
{
    TestMachine machine;

    for (int i = 0; i < 3; i++)
    {
        TestDriver driver;

        EXPECT_EQ(driver.Load(*machine), STATUS_SUCCESS);
        EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
    }
}

TEST(DriverTest, FailureOfEntryIsReturned)
{
    TestMachine machine;
    TestDriver driver;

    driver.entry = [](PDRIVER_OBJECT, PUNICODE_STRING) { return STATUS_INSUFFICIENT_RESOURCES; };
    EXPECT_EQ(driver.Load(*machine), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(driver.object, nullptr);
}

TEST(DriverTest, SameServiceCannotBeLoadedTwice)
{
    TestMachine machine;
    TestDriver first;
    TestDriver second;

    first.Load(*machine);
    EXPECT_EQ(second.Load(*machine), STATUS_OBJECT_NAME_COLLISION);
    machine->io().UnloadDriver(first.object);
}

TEST(DriverTest, SameDeviceNameCollides)
{
    TestMachine machine;
    TestDriver first;
    TestDriver second;

    first.Load(*machine, u"First");
    EXPECT_EQ(second.Load(*machine, u"Second"), STATUS_OBJECT_NAME_COLLISION);
    machine->io().UnloadDriver(first.object);
}

TEST(DriverTest, WithoutUnloadRoutineCannotBeUnloaded)
{
    TestMachine machine;
    TestDriver driver;

    driver.Load(*machine);

    PDRIVER_UNLOAD unload = driver.object->DriverUnload;

    driver.object->DriverUnload = nullptr;
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_INVALID_DEVICE_REQUEST);
    driver.object->DriverUnload = unload;
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
}

TEST(DriverTest, UnloadWaitsForTheLastHandle)
{
    TestMachine machine;
    TestDriver driver;
    bool unloaded = false;
    nt::File *file;
    nt::File *other;

    driver.unload = [&unloaded] { unloaded = true; };
    driver.Load(*machine);
    machine->io().Open(u"\\\\.\\Test", &file);
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_PENDING);
    EXPECT_FALSE(unloaded);
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &other), STATUS_NO_SUCH_DEVICE);
    machine->io().Close(file);
    EXPECT_TRUE(unloaded);
}

TEST(DriverTest, UnloadWaitsForARunningWorkItem)
{
    TestMachine machine(RealTime());
    TestDriver driver;
    KEVENT started;
    PIO_WORKITEM item;
    std::atomic<bool> returned{false};

    struct Context
    {
        PKEVENT started;
        std::atomic<bool> *returned;
    } context{&started, &returned};

    KeInitializeEvent(&started, NotificationEvent, FALSE);
    driver.Load(*machine);
    item = IoAllocateWorkItem(driver.device);
    IoQueueWorkItem(
        item,
        [](PDEVICE_OBJECT, PVOID argument)
        {
            Context *self = static_cast<Context *>(argument);

            KeSetEvent(self->started, 0, FALSE);
            self->returned->store(true);
        },
        DelayedWorkQueue, &context);
    driver.unload = [&started, item]
    {
        KeWaitForSingleObject(&started, Executive, KernelMode, FALSE, nullptr);
        IoFreeWorkItem(item);
    };
    EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
    EXPECT_TRUE(returned);
}

TEST(DriverTest, SystemRoutinesAreFoundByName)
{
    TestMachine machine;
    UNICODE_STRING known = Unicode(u"ExAllocatePool2");
    UNICODE_STRING unknown = Unicode(u"ExNoSuchRoutine");

    EXPECT_EQ(MmGetSystemRoutineAddress(&known), reinterpret_cast<PVOID>(ExAllocatePool2));
    EXPECT_EQ(MmGetSystemRoutineAddress(&unknown), nullptr);
}

TEST(DriverTest, ASystemRoutineMayBeMissing)
{
    MachineOptions options = Deterministic();
    UNICODE_STRING missing = Unicode(u"KeSetCoalescableTimer");
    UNICODE_STRING known = Unicode(u"KeQueryUnbiasedInterruptTime");

    options.missing_routines = {"KeSetCoalescableTimer"};
    TestMachine machine(options);
    EXPECT_EQ(MmGetSystemRoutineAddress(&missing), nullptr);
    EXPECT_EQ(MmGetSystemRoutineAddress(&known), reinterpret_cast<PVOID>(KeQueryUnbiasedInterruptTime));
}

// Loads the driver, runs `misbehave` in its unload routine, and unloads it.
void UnloadAfter(const std::function<void(TestDriver &)> &misbehave, const MachineOptions &options = Deterministic())
{
    TestMachine machine(options);
    TestDriver driver;

    driver.unload = [&] { misbehave(driver); };
    driver.Load(*machine, u"Leaky");
    machine->io().UnloadDriver(driver.object);
}

TEST(DriverDeathTest, PoolLeftAtUnloadIsFound)
{
    EXPECT_DEATH(UnloadAfter([](TestDriver &) { ExAllocatePoolWithTag(NonPagedPoolNx, 40, kTag); }),
                 "BUGCHECK POOL_LEAK: driver Leaky was unloaded with pool memory allocated:\n.*'Test': 1 allocation");
}

TEST(DriverDeathTest, TimerLeftAtUnloadIsFound)
{
    EXPECT_DEATH(UnloadAfter(
                     [](TestDriver &)
                     {
                         static KTIMER timer;

                         KeInitializeTimer(&timer);
                         KeSetTimerEx(&timer, Relative(1s), 1000, nullptr);
                     }),
                 "BUGCHECK DRIVER_WORK_LEFT: driver Leaky was unloaded.*\n.*timer .*period 1000 ms");
}

TEST(DriverDeathTest, DpcLeftAtUnloadIsFound)
{
    EXPECT_DEATH(UnloadAfter(
                     [](TestDriver &)
                     {
                         static KDPC dpc;

                         KeInitializeDpc(&dpc, [](PKDPC, PVOID, PVOID, PVOID) {}, nullptr);
                         KeInsertQueueDpc(&dpc, nullptr, nullptr);
                     }),
                 "BUGCHECK DRIVER_WORK_LEFT: driver Leaky was unloaded.*\n.*DPC routine .* queued");
}

TEST(DriverDeathTest, WorkItemLeftAtUnloadIsFound)
{
    EXPECT_DEATH(UnloadAfter(
                     [](TestDriver &driver)
                     {
                         IoQueueWorkItem(
                             IoAllocateWorkItem(driver.device), [](PDEVICE_OBJECT, PVOID) {}, DelayedWorkQueue,
                             nullptr);
                     }),
                 "BUGCHECK DRIVER_WORK_LEFT: driver Leaky was unloaded.*\n.*work item .* queued");
}

TEST(DriverDeathTest, DeviceLeftAtUnloadIsFound)
{
    EXPECT_DEATH(UnloadAfter([](TestDriver &driver) { driver.deletes_device = false; }),
                 "BUGCHECK DEVICE_NOT_DELETED: driver Leaky was unloaded.*\n    .Device.Test");
}

TEST(DriverDeathTest, SymbolicLinkLeftAtUnloadIsFound)
{
    EXPECT_DEATH(UnloadAfter([](TestDriver &driver) { driver.deletes_link = false; }),
                 "BUGCHECK SYMBOLIC_LINK_NOT_DELETED: driver Leaky was unloaded.*\n    .DosDevices.Test");
}

TEST(DriverDeathTest, DeviceDeletedTwiceIsFound)
{
    EXPECT_DEATH(UnloadAfter([](TestDriver &driver) { IoDeleteDevice(driver.device); }),
                 "BUGCHECK DEVICE_DELETED_TWICE");
}

TEST(DriverDeathTest, UnloadThatReturnsAtDispatchIsFound)
{
    EXPECT_DEATH(UnloadAfter(
                     [](TestDriver &driver)
                     {
                         driver.deletes_link = false;
                         driver.deletes_device = false;
                         KfRaiseIrql(DISPATCH_LEVEL);
                     }),
                 "BUGCHECK IRQL_CHANGED_BY_CALL: DriverUnload");
}

TEST(DriverDeathTest, FailedEntryThatLeavesItsDeviceIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestDriver driver;

            driver.deletes_device = false;
            driver.entry = [](PDRIVER_OBJECT, PUNICODE_STRING) { return STATUS_UNSUCCESSFUL; };
            driver.Load(*machine, u"Leaky");
        },
        "BUGCHECK DEVICE_NOT_DELETED: driver Leaky failed to load");
}

TEST(DriverDeathTest, MachineThatEndsWithADriverIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestDriver driver;

            driver.Load(*machine, u"Leaky");
        },
        "BUGCHECK DRIVER_STILL_LOADED: .*Leaky");
}

} // namespace
} // namespace sim::test

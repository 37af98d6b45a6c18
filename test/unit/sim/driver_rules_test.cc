// The rules of Windows' Driver Verifier; in each test a driver that loads, works and unloads breaks one of them.
#include "nt_fixture.h"
#include "wfp_fixture.h"

#include "nt/driver_call.h"

namespace sim::test
{
namespace
{

using wfp::ClassifyCall;
using wfp::ClassifyInput;
using wfp::PacketBytes;
using wfp::TestCallout;

// A driver with a device and one callout. It handles a connect and a read, has a DPC, and is unloaded.
// All of it is right, except for the mistake that a test adds.
class DriverRulesDeathTest : public wfp::WfpTest
{
  protected:
    struct Misdeeds
    {
        std::function<void(const ClassifyCall &)> classify = [](const ClassifyCall &call) { call.Permit(); };
        std::function<void(PIRP)> read = [](PIRP) {}; // runs before the request completes
        std::function<void()> dpc = [] {};
        std::function<void(const Driver &)> unload = [](const Driver &) {};
        bool cleans_up = true; // then removes its session and its callout
    };

    void Live(const Misdeeds &misdeeds)
    {
        TestCallout callout;
        TestDriver driver;
        Driver filtering;

        misdeeds_ = &misdeeds;
        callout.classify = misdeeds.classify;
        driver.entry = [&](PDRIVER_OBJECT, PUNICODE_STRING)
        {
            filtering = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
            AddCalloutFilter(filtering, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
            return STATUS_SUCCESS;
        };
        driver.dispatch[IRP_MJ_READ] = [&](PDEVICE_OBJECT, PIRP irp)
        {
            misdeeds.read(irp);
            return CompleteWith(irp, STATUS_SUCCESS);
        };
        driver.unload = [&]
        {
            misdeeds.unload(filtering);
            if (misdeeds.cleans_up)
            {
                FwpmEngineClose0(filtering.session);
                FwpsCalloutUnregisterById0(filtering.callouts[0]);
            }
        };
        driver.Load(machine);
        Connect();
        Read();
        RunDpc();
        machine.io().UnloadDriver(driver.object);
    }

    void Connect()
    {
        ClassifyInput input = Input();

        input.can_pend = true;
        input.on_complete = [](NET_BUFFER_LIST *) {};
        engine().Classify(input);
    }

    void Read()
    {
        nt::File *file;
        char buffer[8];

        machine.io().Open(u"\\\\.\\Test", &file);
        machine.io().Read(file, buffer, sizeof(buffer), nullptr, nullptr);
        machine.io().Close(file);
    }

    void RunDpc()
    {
        KDPC dpc;

        KeInitializeDpc(
            &dpc, [](PKDPC, PVOID self, PVOID, PVOID) { static_cast<DriverRulesDeathTest *>(self)->misdeeds_->dpc(); },
            this);
        KeInsertQueueDpc(&dpc, nullptr, nullptr);
        machine.Run();
    }

    static char *Allocate(size_t bytes)
    {
        return static_cast<char *>(ExAllocatePoolWithTag(NonPagedPoolNx, bytes, kTag));
    }

    // The offset is a variable, so the compiler cannot see the bad access.
    static void WriteAt(char *block, volatile long offset) { block[offset] = 0; }

    static void Take(KSPIN_LOCK *first, KSPIN_LOCK *second)
    {
        KIRQL irql;

        KeAcquireSpinLock(first, &irql);
        KeAcquireSpinLockAtDpcLevel(second);
        KeReleaseSpinLockFromDpcLevel(second);
        KeReleaseSpinLock(first, irql);
    }

    const Misdeeds *misdeeds_ = nullptr;
    KSPIN_LOCK lock_ = 0;
    KSPIN_LOCK other_lock_ = 0;
};

TEST_F(DriverRulesDeathTest, ADriverThatKeepsTheRulesIsUnloaded)
{
    const auto before = machine.pool().bytes();

    Live({});
    EXPECT_EQ(machine.pool().bytes(), before);
}

// ---- Pool

TEST_F(DriverRulesDeathTest, MemoryWithoutATagIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP) { ExAllocatePoolWithTag(NonPagedPoolNx, 8, 0); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK POOL_NO_TAG");
}

TEST_F(DriverRulesDeathTest, MemoryFreedWithAnotherTagIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP) { ExFreePoolWithTag(Allocate(24), 'rhtO'); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK POOL_WRONG_TAG");
}

TEST_F(DriverRulesDeathTest, MemoryFreedTwiceIsFound)
{
    Misdeeds misdeeds;
    char *block = nullptr;

    misdeeds.read = [&](PIRP)
    {
        block = Allocate(24);
        ExFreePoolWithTag(block, kTag);
    };
    misdeeds.unload = [&](const Driver &) { ExFreePoolWithTag(block, kTag); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK POOL_DOUBLE_FREE");
}

TEST_F(DriverRulesDeathTest, MemoryWrittenAfterItWasFreedIsFound)
{
    Misdeeds misdeeds;
    char *block = nullptr;

    misdeeds.read = [&](PIRP)
    {
        block = Allocate(24);
        ExFreePoolWithTag(block, kTag);
    };
    misdeeds.dpc = [&] { WriteAt(block, 3); };
    EXPECT_DEATH(
        {
            Live(misdeeds);
            machine.pool().CheckIntegrity();
        },
        RULE_OR_SANITIZER("POOL_USE_AFTER_FREE"));
}

TEST_F(DriverRulesDeathTest, AnOverrunIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP)
    {
        char *block = Allocate(21);

        WriteAt(block, 21);
        ExFreePoolWithTag(block, kTag);
    };
    EXPECT_DEATH(Live(misdeeds), RULE_OR_SANITIZER("POOL_OVERRUN"));
}

TEST_F(DriverRulesDeathTest, MemoryLeftAtUnloadIsReportedWithItsTag)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP) { Allocate(40); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK POOL_LEAK: driver Test was unloaded.*:\n.*'Test': 1 allocation");
}

TEST_F(DriverRulesDeathTest, AnMdlLeftAtUnloadIsFound)
{
    Misdeeds misdeeds;
    char byte;

    misdeeds.read = [&](PIRP) { IoAllocateMdl(&byte, 1, FALSE, FALSE, nullptr); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK POOL_LEAK: driver Test was unloaded.*:\n.*'Mdl '");
}

// ---- IRQL

TEST_F(DriverRulesDeathTest, APassiveLevelFunctionInADpcIsFound)
{
    Misdeeds misdeeds;

    misdeeds.dpc = [] { FwpmTransactionBegin0(nullptr, 0); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK IRQL_TOO_HIGH: FwpmTransactionBegin0 was called at DISPATCH_LEVEL");
}

TEST_F(DriverRulesDeathTest, AWaitInADpcIsFound)
{
    Misdeeds misdeeds;
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, TRUE);
    misdeeds.dpc = [&] { KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, nullptr); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK IRQL_TOO_HIGH: KeWaitForSingleObject");
}

TEST_F(DriverRulesDeathTest, PagedCodeInADpcIsFound)
{
    Misdeeds misdeeds;

    misdeeds.dpc = [] { PAGED_CODE(); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK IRQL_TOO_HIGH");
}

// ---- Locks

TEST_F(DriverRulesDeathTest, ALockTakenTwiceIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [&](PIRP) { Take(&lock_, &lock_); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK SPIN_LOCK_RECURSION");
}

TEST_F(DriverRulesDeathTest, LocksTakenInTwoOrdersAreFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [&](PIRP) { Take(&lock_, &other_lock_); };
    misdeeds.dpc = [&] { Take(&other_lock_, &lock_); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK SPIN_LOCK_ORDER");
}

TEST_F(DriverRulesDeathTest, ALockHeldWhileNdisIsCalledIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [&](PIRP)
    {
        KeAcquireSpinLockRaiseToDpc(&lock_);
        NdisAllocateGenericObject(nullptr, kTag, 0);
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK LOCK_HELD_OVER_CALL: NdisAllocateGenericObject");
}

TEST_F(DriverRulesDeathTest, ALockHeldWhileTheFilterEngineIsCalledIsFound)
{
    Misdeeds misdeeds;

    misdeeds.classify = [&](const ClassifyCall &call)
    {
        HANDLE context;

        KeAcquireSpinLockRaiseToDpc(&lock_);
        FwpsPendOperation0(call.metadata->completionHandle, &context);
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK LOCK_HELD_OVER_CALL: FwpsPendOperation0");
}

// ---- Stack

TEST_F(DriverRulesDeathTest, ACalloutThatUsesTooMuchStackIsFound)
{
    Misdeeds misdeeds;

    misdeeds.classify = [](const ClassifyCall &call)
    {
        AllocateBelow(nt::kMostStackOfDriver);
        call.Permit();
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK STACK_TOO_DEEP: ExAllocatePoolWithTag");
}

// ---- Requests

TEST_F(DriverRulesDeathTest, ARequestCompletedTwiceIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP irp) { CompleteWith(irp, STATUS_SUCCESS); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK IRP_COMPLETED_TWICE");
}

VOID CompleteCancelled(PDEVICE_OBJECT, PIRP irp)
{
    IoReleaseCancelSpinLock(irp->CancelIrql);
    CompleteWith(irp, STATUS_CANCELLED);
}

TEST_F(DriverRulesDeathTest, ARequestCompletedWithACancelRoutineSetIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP irp) { IoSetCancelRoutine(irp, CompleteCancelled); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK IRP_COMPLETED_CANCELABLE");
}

TEST_F(DriverRulesDeathTest, ARequestCompletedAgainByItsCancelRoutineIsFound)
{
    Misdeeds misdeeds;

    misdeeds.read = [](PIRP irp)
    {
        IoSetCancelRoutine(irp, CompleteCancelled);
        IoCancelIrp(irp);
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK IRP_COMPLETED_TWICE");
}

// ---- Packets

TEST_F(DriverRulesDeathTest, ANetBufferListLeftAtUnloadIsFound)
{
    PacketBytes packet(std::vector<uint8_t>(40));
    const NDIS_HANDLE pool = machine.net_buffers().CreatePool(ndis::PoolOwner::kDriver, kTag, 0, true);
    Misdeeds misdeeds;

    misdeeds.read = [&](PIRP)
    {
        NET_BUFFER_LIST *list;

        FwpsAllocateNetBufferAndNetBufferList0(pool, 0, 0, packet.mdl(), 0, packet.length(), &list);
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK WFP_NBL_LEAKED");
    machine.net_buffers().DestroyPool(pool);
}

TEST_F(DriverRulesDeathTest, ARetreatThatIsNotUndoneIsFound)
{
    PacketBytes packet(std::vector<uint8_t>(64));
    NET_BUFFER_LIST *list = machine.net_buffers().Allocate(machine.net_buffers().stack_pool(), 0, 0, packet.mdl(), 20,
                                                           packet.length() - 20);
    Misdeeds misdeeds;

    misdeeds.classify = [&](const ClassifyCall &call)
    {
        ClassifyInput inner = Input();

        if (call.layer_data != nullptr)
        {
            NdisRetreatNetBufferDataStart(list->FirstNetBuffer, 20, 0, nullptr);
            call.Permit();
            return;
        }
        inner.layer_data = list;
        engine().Classify(inner);
        call.Permit();
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK WFP_RETREAT_NOT_UNDONE");
    machine.net_buffers().Free(list);
}

// ---- The filter engine

TEST_F(DriverRulesDeathTest, AnOperationLeftPendedAtUnloadIsFound)
{
    Misdeeds misdeeds;

    misdeeds.classify = [](const ClassifyCall &call)
    {
        HANDLE context;

        FwpsPendOperation0(call.metadata->completionHandle, &context);
        call.Absorb();
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK WFP_OPERATION_NEVER_COMPLETED");
}

TEST_F(DriverRulesDeathTest, AnOperationCompletedTwiceIsFound)
{
    Misdeeds misdeeds;
    HANDLE context;

    misdeeds.classify = [&](const ClassifyCall &call)
    {
        FwpsPendOperation0(call.metadata->completionHandle, &context);
        call.Absorb();
    };
    misdeeds.read = [&](PIRP) { FwpsCompleteOperation0(context, nullptr); };
    misdeeds.dpc = [&] { FwpsCompleteOperation0(context, nullptr); };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK WFP_OPERATION_COMPLETED_TWICE");
}

TEST_F(DriverRulesDeathTest, AnInjectionInFlightAtUnloadIsFound)
{
    std::vector<uint8_t> bytes(40);
    Misdeeds misdeeds;

    bytes[0] = 0x45;
    PacketBytes packet(bytes);
    const NDIS_HANDLE pool = machine.net_buffers().CreatePool(ndis::PoolOwner::kDriver, kTag, 0, true);

    misdeeds.unload = [&](const Driver &)
    {
        NET_BUFFER_LIST *list;
        HANDLE handle;

        FwpsInjectionHandleCreate0(AF_INET, FWPS_INJECTION_TYPE_NETWORK, &handle);
        FwpsAllocateNetBufferAndNetBufferList0(pool, 0, 0, packet.mdl(), 0, packet.length(), &list);
        FwpsInjectNetworkSendAsync0(
            handle, nullptr, 0, DEFAULT_COMPARTMENT_ID, list,
            [](void *, NET_BUFFER_LIST *injected, BOOLEAN) { FwpsFreeNetBufferList0(injected); }, nullptr);
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK WFP_INJECTION_HANDLE_LEAKED: .* with 1 injections in flight");
    machine.net_buffers().DestroyPool(pool);
}

TEST_F(DriverRulesDeathTest, ACalloutWhoseUnregistrationFailedIsFoundAtUnload)
{
    Misdeeds misdeeds;

    misdeeds.cleans_up = false;
    misdeeds.unload = [this](const Driver &driver)
    {
        // The driver ignores the status.
        engine().SetUnregisterFailures({STATUS_DEVICE_BUSY});
        FwpsCalloutUnregisterById0(driver.callouts[0]);
        FwpmEngineClose0(driver.session);
    };
    EXPECT_DEATH(Live(misdeeds), "BUGCHECK WFP_CALLOUT_LEAKED");
}

// ---- Objects alive at unload

TEST_F(DriverRulesDeathTest, ATimerAndADpcLeftAtUnloadAreFound)
{
    Misdeeds timer_left;
    KTIMER timer;

    KeInitializeTimer(&timer);
    timer_left.read = [&](PIRP) { KeSetTimerEx(&timer, Relative(std::chrono::seconds(1)), 1000, nullptr); };
    EXPECT_DEATH(Live(timer_left), "BUGCHECK DRIVER_WORK_LEFT: driver Test was unloaded.*\n.*timer ");

    Misdeeds dpc_left;
    KDPC dpc;

    KeInitializeDpc(&dpc, [](PKDPC, PVOID, PVOID, PVOID) {}, nullptr);
    dpc_left.unload = [&](const Driver &) { KeInsertQueueDpc(&dpc, nullptr, nullptr); };
    EXPECT_DEATH(Live(dpc_left), "BUGCHECK DRIVER_WORK_LEFT: driver Test was unloaded.*\n.*DPC ");
}

} // namespace
} // namespace sim::test

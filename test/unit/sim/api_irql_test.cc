// Every kernel function that is called at a wrong IRQL is found.
// The levels are those of the functions' pages in the WDK documentation.
#include "nt_fixture.h"

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <netioapi.h>

#include <fstream>
#include <regex>
#include <set>
#include <vector>

namespace sim::test
{
namespace
{

constexpr KIRQL kDeviceLevel = DISPATCH_LEVEL + 1;

struct Rule
{
    std::string name;
    KIRQL lowest;
    KIRQL highest;
    std::function<void()> call; // the level is checked before any argument
};

#define AT_MOST(irql, function, ...) {#function, PASSIVE_LEVEL, irql, [] { (void)function(__VA_ARGS__); }}
#define AT_DISPATCH(function, ...)   {#function, DISPATCH_LEVEL, DISPATCH_LEVEL, [] { (void)function(__VA_ARGS__); }}

const std::vector<Rule> &Rules()
{
    static LARGE_INTEGER time = {};
    static KIRQL irql;
    static const std::vector<Rule> rules = {
        AT_MOST(DISPATCH_LEVEL, ExAllocatePool2, POOL_FLAG_NON_PAGED, 1, kTag),
        AT_MOST(DISPATCH_LEVEL, ExAllocatePoolWithTag, NonPagedPoolNx, 1, kTag),
        AT_MOST(APC_LEVEL, ExCreateCallback, nullptr, nullptr, FALSE, TRUE),
        AT_MOST(DISPATCH_LEVEL, ExFreePool, nullptr),
        AT_MOST(DISPATCH_LEVEL, ExFreePoolWithTag, nullptr, kTag),
        AT_MOST(APC_LEVEL, ExRegisterCallback, nullptr, nullptr, nullptr),
        AT_MOST(APC_LEVEL, ExUnregisterCallback, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoAcquireCancelSpinLock, &irql),
        AT_MOST(DISPATCH_LEVEL, IoAllocateErrorLogEntry, nullptr, 0),
        AT_MOST(DISPATCH_LEVEL, IoAllocateMdl, nullptr, 0, FALSE, FALSE, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoAllocateWorkItem, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoBuildPartialMdl, nullptr, nullptr, nullptr, 0),
        AT_MOST(DISPATCH_LEVEL, IoCancelIrp, nullptr),
        AT_MOST(DISPATCH_LEVEL, IofCompleteRequest, nullptr, 0),
        AT_MOST(APC_LEVEL, IoCreateDevice, nullptr, 0, nullptr, 0, 0, FALSE, nullptr),
        AT_MOST(PASSIVE_LEVEL, IoCreateDeviceSecure, nullptr, 0, nullptr, 0, 0, FALSE, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, IoCreateSymbolicLink, nullptr, nullptr),
        AT_MOST(APC_LEVEL, IoDeleteDevice, nullptr),
        AT_MOST(PASSIVE_LEVEL, IoDeleteSymbolicLink, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoFreeErrorLogEntry, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoFreeMdl, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoFreeWorkItem, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoQueueWorkItem, nullptr, nullptr, DelayedWorkQueue, nullptr),
        AT_MOST(DISPATCH_LEVEL, IoQueueWorkItemEx, nullptr, nullptr, DelayedWorkQueue, nullptr),
        AT_DISPATCH(IoReleaseCancelSpinLock, PASSIVE_LEVEL),
        AT_MOST(DISPATCH_LEVEL, IoWriteErrorLogEntry, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeAcquireInStackQueuedSpinLock, nullptr, nullptr),
        AT_DISPATCH(KeAcquireInStackQueuedSpinLockAtDpcLevel, nullptr, nullptr),
        AT_DISPATCH(KeAcquireSpinLockAtDpcLevel, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeAcquireSpinLockRaiseToDpc, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeCancelTimer, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeClearEvent, nullptr),
        AT_MOST(APC_LEVEL, KeDelayExecutionThread, KernelMode, FALSE, &time),
        AT_MOST(APC_LEVEL, KeEnterCriticalRegion),
        AT_MOST(PASSIVE_LEVEL, KeFlushQueuedDpcs),
        AT_MOST(DISPATCH_LEVEL, KeInitializeTimer, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeInitializeTimerEx, nullptr, NotificationTimer),
        AT_MOST(APC_LEVEL, KeLeaveCriticalRegion),
        AT_DISPATCH(KeReleaseInStackQueuedSpinLock, nullptr),
        AT_DISPATCH(KeReleaseInStackQueuedSpinLockFromDpcLevel, nullptr),
        AT_DISPATCH(KeReleaseSpinLock, nullptr, PASSIVE_LEVEL),
        AT_DISPATCH(KeReleaseSpinLockFromDpcLevel, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeResetEvent, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeSetEvent, nullptr, 0, FALSE),
        AT_MOST(DISPATCH_LEVEL, KeSetTimer, nullptr, time, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeSetTimerEx, nullptr, time, 0, nullptr),
        AT_MOST(DISPATCH_LEVEL, KeSetCoalescableTimer, nullptr, time, 0, 0, nullptr),
        AT_DISPATCH(KeTryToAcquireSpinLockAtDpcLevel, nullptr),
        AT_MOST(APC_LEVEL, KeWaitForSingleObject, nullptr, Executive, KernelMode, FALSE, nullptr),
        AT_MOST(DISPATCH_LEVEL, MmBuildMdlForNonPagedPool, nullptr),
        AT_MOST(PASSIVE_LEVEL, MmGetSystemRoutineAddress, nullptr),
        AT_MOST(DISPATCH_LEVEL, MmMapLockedPagesSpecifyCache, nullptr, KernelMode, MmCached, nullptr, FALSE, 0),
        AT_MOST(DISPATCH_LEVEL, MmUnmapLockedPages, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, ObfDereferenceObject, nullptr),
        AT_MOST(APC_LEVEL, PsLookupProcessByProcessId, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, ZwClose, nullptr),
        AT_MOST(PASSIVE_LEVEL, ZwOpenKey, nullptr, KEY_READ, nullptr),
        AT_MOST(PASSIVE_LEVEL, ZwQueryValueKey, nullptr, nullptr, KeyValuePartialInformation, nullptr, 0, nullptr),
        AT_MOST(PASSIVE_LEVEL, RtlGetVersion, nullptr),

        AT_MOST(DISPATCH_LEVEL, NdisAdvanceNetBufferDataStart, nullptr, 0, FALSE, nullptr),
        AT_MOST(DISPATCH_LEVEL, NdisAllocateGenericObject, nullptr, kTag, 0),
        AT_MOST(PASSIVE_LEVEL, NdisAllocateNetBufferListPool, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, NdisFreeGenericObject, nullptr),
        AT_MOST(PASSIVE_LEVEL, NdisFreeNetBufferListPool, nullptr),
        AT_MOST(DISPATCH_LEVEL, NdisGetDataBuffer, nullptr, 0, nullptr, 1, 0),
        AT_MOST(DISPATCH_LEVEL, NdisRetreatNetBufferDataStart, nullptr, 0, 0, nullptr),

        AT_MOST(DISPATCH_LEVEL, FwpmBfeStateGet0),
        AT_MOST(PASSIVE_LEVEL, FwpmBfeStateSubscribeChanges0, nullptr, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmBfeStateUnsubscribeChanges0, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmCalloutAdd0, nullptr, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmEngineClose0, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmEngineOpen0, nullptr, RPC_C_AUTHN_WINNT, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmFilterAdd0, nullptr, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmFilterDeleteById0, nullptr, 0),
        AT_MOST(PASSIVE_LEVEL, FwpmProviderAdd0, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmSubLayerAdd0, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmTransactionAbort0, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpmTransactionBegin0, nullptr, 0),
        AT_MOST(PASSIVE_LEVEL, FwpmTransactionCommit0, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsAllocateCloneNetBufferList0, nullptr, nullptr, nullptr, 0, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsAllocateNetBufferAndNetBufferList0, nullptr, 0, 0, nullptr, 0, 0, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpsCalloutRegister2, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpsCalloutUnregisterById0, 0),
        AT_MOST(DISPATCH_LEVEL, FwpsCompleteOperation0, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsConstructIpHeaderForTransportPacket0, nullptr, 0, AF_INET, nullptr, nullptr,
                IPPROTO_TCP, 0, nullptr, 0, 0, nullptr, 0, 0),
        AT_MOST(DISPATCH_LEVEL, FwpsDereferenceNetBufferList0, nullptr, FALSE),
        AT_MOST(DISPATCH_LEVEL, FwpsFlowAbort0, 0),
        AT_MOST(DISPATCH_LEVEL, FwpsFreeCloneNetBufferList0, nullptr, 0),
        AT_MOST(DISPATCH_LEVEL, FwpsFreeNetBufferList0, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsGetPacketListSecurityInformation0, nullptr, 0, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsInjectNetworkReceiveAsync0, nullptr, nullptr, 0, UNSPECIFIED_COMPARTMENT_ID, 0, 0,
                nullptr, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsInjectNetworkSendAsync0, nullptr, nullptr, 0, UNSPECIFIED_COMPARTMENT_ID, nullptr,
                nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsInjectTransportReceiveAsync0, nullptr, nullptr, nullptr, 0, AF_INET,
                UNSPECIFIED_COMPARTMENT_ID, 0, 0, nullptr, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsInjectTransportSendAsync1, nullptr, nullptr, 0, 0, nullptr, AF_INET,
                UNSPECIFIED_COMPARTMENT_ID, nullptr, nullptr, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpsInjectionHandleCreate0, AF_INET, 0, nullptr),
        AT_MOST(PASSIVE_LEVEL, FwpsInjectionHandleDestroy0, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsPendOperation0, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsQueryPacketInjectionState0, nullptr, nullptr, nullptr),
        AT_MOST(DISPATCH_LEVEL, FwpsReferenceNetBufferList0, nullptr, FALSE),
        AT_MOST(PASSIVE_LEVEL, CancelMibChangeNotify2, nullptr),
        AT_MOST(PASSIVE_LEVEL, FreeMibTable, nullptr),
        AT_MOST(PASSIVE_LEVEL, GetUnicastIpAddressTable, AF_INET, nullptr),
        AT_MOST(PASSIVE_LEVEL, NotifyUnicastIpAddressChange, AF_INET, nullptr, nullptr, FALSE, nullptr),
    };

    return rules;
}

#undef AT_MOST
#undef AT_DISPATCH

// The functions without a limit, among those that the driver needs.
const std::set<std::string> kAnyLevel = {
    "DbgPrintEx",
    "KeGetCurrentIrql",
    "KeGetCurrentProcessorNumberEx",
    "KeInitializeDpc",
    "KeInitializeEvent",
    "KeInsertQueueDpc",
    "KeQueryActiveProcessorCountEx",
    "KeQueryInterruptTime",
    "KeQueryPerformanceCounter",
    "KeQuerySystemTime",
    "KfLowerIrql",
    "KfRaiseIrql",
    "PsGetCurrentProcessId",
    "PsGetProcessCreateTimeQuadPart",
    "RtlAppendUnicodeStringToString",
    "RtlAppendUnicodeToString",
    "RtlInitUnicodeString",
    "_vsnprintf",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
};

void CallAt(KIRQL irql, const std::function<void()> &call)
{
    nt::IrqlScope scope(irql);

    call();
}

// The kernel driver's imports, from the definition files that it is linked with.
std::set<std::string> Imports()
{
    static const std::regex name("^    ([A-Za-z_0-9]+).*");
    std::set<std::string> imports;

    for (const char *library : {"fwpkclnt", "ndis", "netio", "ntoskrnl"})
    {
        std::ifstream file(std::string(SOURCE_ROOT "/kext/exports/") + library + ".def");
        std::string line;
        std::smatch match;

        while (std::getline(file, line))
        {
            if (std::regex_match(line, match, name))
            {
                imports.insert(match[1]);
            }
        }
    }
    return imports;
}

TEST(ApiIrqlDeathTest, EveryFunctionAboveItsHighestLevelIsFound)
{
    TestMachine machine;

    for (const Rule &rule : Rules())
    {
        SCOPED_TRACE(rule.name);
        EXPECT_DEATH(
            CallAt(rule.highest == DISPATCH_LEVEL ? kDeviceLevel : static_cast<KIRQL>(rule.highest + 1), rule.call),
            "BUGCHECK IRQL_(TOO_HIGH|WRONG): ");
    }
}

TEST(ApiIrqlDeathTest, EveryFunctionBelowItsLowestLevelIsFound)
{
    TestMachine machine;

    for (const Rule &rule : Rules())
    {
        if (rule.lowest != PASSIVE_LEVEL)
        {
            SCOPED_TRACE(rule.name);
            EXPECT_DEATH(CallAt(PASSIVE_LEVEL, rule.call), "BUGCHECK IRQL_WRONG: ");
        }
    }
}

// No lock may be held over a call from the driver into another driver.
// No lock may be held over the setting of a timer: it takes locks, and in Wine it waits for the timer's routine.
bool CallsOut(const Rule &rule)
{
    return rule.highest == DISPATCH_LEVEL &&
           (rule.name.rfind("Fwp", 0) == 0 || rule.name.rfind("Ndis", 0) == 0 || rule.name == "KeSetTimerEx" ||
            rule.name == "KeSetCoalescableTimer" || rule.name == "KeCancelTimer");
}

TEST(ApiLockDeathTest, EveryCallToNdisTheFilterEngineOrATimerWithALockHeldIsFound)
{
    TestMachine machine;
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    for (const Rule &rule : Rules())
    {
        if (CallsOut(rule))
        {
            SCOPED_TRACE(rule.name);
            EXPECT_DEATH(
                {
                    KeAcquireSpinLockRaiseToDpc(&lock);
                    rule.call();
                },
                "BUGCHECK LOCK_HELD_OVER_CALL: " + rule.name);
        }
    }
}

TEST(ApiIrqlTest, EveryImportedFunctionHasARule)
{
    std::set<std::string> ruled = kAnyLevel;

    for (const Rule &rule : Rules())
    {
        ruled.insert(rule.name);
    }
    EXPECT_GT(Imports().size(), 70u);
    for (const std::string &import : Imports())
    {
        EXPECT_TRUE(ruled.count(import) == 1) << import;
    }
}

} // namespace
} // namespace sim::test

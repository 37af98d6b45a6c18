#include "driver.h"

#include <wdmsec.h>

#include "callouts.h"
#include "context.h"
#include "device.h"
#include "maintenance.h"
#include "parameters.h"
#include "power.h"
#include "report.h"
#include "session.h"

// These limits bound the nonpaged pool that the network and the client can take.
#define DRIVER_MAX_BANDWIDTH_ENTRIES (256u * 1024u)

// How long an unload waits before it tries again to unregister a callout that is in use.
#define DRIVER_CALLOUT_WAIT_MS 10

#define DRIVER_DEVICE_PREFIX L"\\Device\\"

// Access for the system and administrators alone.
#define DRIVER_SDDL L"D:P(A;;GA;;;SY)(A;;GA;;;BA)"

static DRIVER_UNLOAD DriverUnload;

static const WCHAR DefaultName[] = L"NetVerdict";

// The class of the device. An administrator may set another security descriptor for it.
static const GUID DeviceClass = {0x92993849, 0x0d51, 0x4a14, {0xbc, 0xc1, 0xed, 0xe5, 0x43, 0xb3, 0xa1, 0x23}};

// Gets the last component of the service's registry path.
PLATFORM_INIT
static VOID DriverGetServiceName(PCUNICODE_STRING registryPath, PUNICODE_STRING name)
{
    USHORT length = registryPath->Length / sizeof(WCHAR);
    USHORT start = length;

    while (start > 0 && registryPath->Buffer[start - 1] != L'\\')
    {
        start--;
    }
    if (start == length)
    {
        RtlInitUnicodeString(name, DefaultName);
        return;
    }
    name->Buffer = registryPath->Buffer + start;
    name->Length = (USHORT)((length - start) * sizeof(WCHAR));
    name->MaximumLength = name->Length;
}

PLATFORM_INIT
static NTSTATUS DriverJoinName(const WCHAR *prefix, PCUNICODE_STRING name, WCHAR *buffer, USHORT bufferBytes,
                               PUNICODE_STRING joined)
{
    NTSTATUS status;

    joined->Buffer = buffer;
    joined->Length = 0;
    joined->MaximumLength = bufferBytes;
    status = RtlAppendUnicodeToString(joined, prefix);
    return NT_SUCCESS(status) ? RtlAppendUnicodeStringToString(joined, name) : status;
}

PLATFORM_INIT
static NTSTATUS DriverCreateDevice(PDRIVER_OBJECT driver, PCUNICODE_STRING name, PDEVICE_OBJECT *device)
{
    WCHAR buffer[sizeof(DRIVER_DEVICE_PREFIX) / sizeof(WCHAR) + DRIVER_MAX_NAME_LENGTH];
    UNICODE_STRING deviceName;
    UNICODE_STRING sddl;
    NTSTATUS status = DriverJoinName(DRIVER_DEVICE_PREFIX, name, buffer, sizeof(buffer), &deviceName);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    RtlInitUnicodeString(&sddl, DRIVER_SDDL);
    status = IoCreateDeviceSecure(driver, sizeof(DRIVER_CONTEXT), &deviceName, PROTOCOL_DEVICE_TYPE,
                                  FILE_DEVICE_SECURE_OPEN, FALSE, &sddl, &DeviceClass, device);
    if (NT_SUCCESS(status))
    {
        // Direct I/O copies each record once, into the reader's pages.
        (*device)->Flags |= DO_DIRECT_IO;
    }
    return status;
}

PLATFORM_INIT
static NTSTATUS DriverCreateLink(DRIVER_CONTEXT *context, PCUNICODE_STRING name)
{
    WCHAR buffer[sizeof(DRIVER_DEVICE_PREFIX) / sizeof(WCHAR) + DRIVER_MAX_NAME_LENGTH];
    UNICODE_STRING deviceName;
    NTSTATUS status = DriverJoinName(DRIVER_DEVICE_PREFIX, name, buffer, sizeof(buffer), &deviceName);

    if (NT_SUCCESS(status))
    {
        status = DriverJoinName(DRIVER_LINK_PREFIX, name, context->LinkBuffer, sizeof(context->LinkBuffer),
                                &context->LinkName);
    }
    return NT_SUCCESS(status) ? IoCreateSymbolicLink(&context->LinkName, &deviceName) : status;
}

PLATFORM_INIT
static VOID DriverInitializeTablesThatCannotFail(DRIVER_CONTEXT *context)
{
    ScopeTableInitialize(&context->Scopes, &context->Clock, &context->Connections);
    MulticastPortsInitialize(&context->MulticastPorts, &context->Memory, &context->Clock);
    SubnetsInitialize(&context->Subnets, &context->Memory, &context->Deferred, &context->Log);
    ControlTrafficInitialize(&context->ControlTraffic, &context->Clock);
    PendedEchoesInitialize(&context->PendedEchoes, &context->Memory);
}

// Initializes the lookup tables.
PLATFORM_INIT
static NTSTATUS DriverInitializeTables(DRIVER_CONTEXT *context)
{
    MEMORY *memory = &context->Memory;
    NTSTATUS status =
        ConnectionTableInitialize(&context->Connections, memory, &context->Clock, OPTIONS_DEFAULT_MAX_CONNECTIONS);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    ConnectionTableEndRemoved(&context->Connections, ReportEndOfRemoved, context);
    status = PacketCacheInitialize(&context->Packets, memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupConnections;
    }
    status = FragmentTableInitialize(&context->Fragments, memory, &context->Clock, &context->Statistics);
    if (!NT_SUCCESS(status))
    {
        goto cleanupPackets;
    }
    status = RedirectTableInitialize(&context->Redirects, memory, &context->Clock, REDIRECT_TABLE_MAX_ENTRIES);
    if (!NT_SUCCESS(status))
    {
        goto cleanupFragments;
    }
    status = BandwidthInitialize(&context->Bandwidth, memory, &context->Log, DRIVER_MAX_BANDWIDTH_ENTRIES);
    if (!NT_SUCCESS(status))
    {
        goto cleanupRedirects;
    }
    DriverInitializeTablesThatCannotFail(context);
    return STATUS_SUCCESS;

cleanupRedirects:
    RedirectTableUninitialize(&context->Redirects);
cleanupFragments:
    FragmentTableUninitialize(&context->Fragments);
cleanupPackets:
    PacketCacheUninitialize(&context->Packets);
cleanupConnections:
    ConnectionTableUninitialize(&context->Connections);
    return status;
}

static VOID DriverUninitializeTables(DRIVER_CONTEXT *context)
{
    PendedEchoesUninitialize(&context->PendedEchoes);
    SubnetsUninitialize(&context->Subnets);
    MulticastPortsUninitialize(&context->MulticastPorts);
    BandwidthUninitialize(&context->Bandwidth);
    RedirectTableUninitialize(&context->Redirects);
    FragmentTableUninitialize(&context->Fragments);
    PacketCacheUninitialize(&context->Packets);
    ConnectionTableUninitialize(&context->Connections);
}

// Initializes the parts that every other part writes into.
PLATFORM_INIT
static NTSTATUS DriverInitializeReporting(DRIVER_CONTEXT *context)
{
    NTSTATUS status;

    ClockInitialize(&context->Clock);
    MemoryInitialize(&context->Memory);
    status = StatisticsInitialize(&context->Statistics, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = LogInitialize(&context->Log, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        StatisticsUninitialize(&context->Statistics);
        return status;
    }
    status = IoQueueInitialize(&context->Queue, &context->Memory, &context->Statistics, &context->Log);
    if (!NT_SUCCESS(status))
    {
        LogUninitialize(&context->Log);
        StatisticsUninitialize(&context->Statistics);
        return status;
    }
    SystemLogInitialize(&context->SystemLog, context->DeviceObject, &context->Log);
    EventsInitialize(&context->Events, &context->Memory, &context->Queue);
    return STATUS_SUCCESS;
}

static VOID DriverUninitializeReporting(DRIVER_CONTEXT *context)
{
    // The queue adds to the processes of the events until its end.
    IoQueueUninitialize(&context->Queue);
    EventsUninitialize(&context->Events);
    SystemLogUninitialize(&context->SystemLog);
    LogUninitialize(&context->Log);
    StatisticsUninitialize(&context->Statistics);
}

static VOID DriverUnregisterCallouts(DRIVER_CONTEXT *context, FWP_ACTION_TYPE action)
{
    LARGE_INTEGER interval;

    interval.QuadPart = -(LONG64)(DRIVER_CALLOUT_WAIT_MS * PLATFORM_TICKS_PER_MILLISECOND);
    while (!CalloutsUnregister(context, action))
    {
        KeDelayExecutionThread(KernelMode, FALSE, &interval);
    }
}

// Starts the parts that the filter engine and the system call.
PLATFORM_INIT
static NTSTATUS DriverStart(DRIVER_CONTEXT *context)
{
    const ENGINE_OWNER owner = SessionAsEngineOwner(context);
    NTSTATUS status = ContextRegister(context);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = DeferredInitialize(&context->Deferred, &context->Clock, context->DeviceObject, MaintenanceRound, context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupContext;
    }
    status = EngineInitialize(&context->Engine, &context->Clock, context->DeviceObject, &context->Log,
                              &context->SystemLog, &context->Statistics, context->Cookie, &owner);
    if (!NT_SUCCESS(status))
    {
        goto cleanupDeferred;
    }
    status = CalloutsRegister(context, FWP_ACTION_CALLOUT_INSPECTION);
    if (!NT_SUCCESS(status))
    {
        goto cleanupCallouts;
    }
    EngineRenew(&context->Engine);
    PowerInitialize(context);
    SubnetsStart(&context->Subnets);
    return STATUS_SUCCESS;

cleanupCallouts:
    DriverUnregisterCallouts(context, FWP_ACTION_CALLOUT_INSPECTION);
    EngineUninitialize(&context->Engine);
cleanupDeferred:
    DeferredUninitialize(&context->Deferred);
cleanupContext:
    ContextUnregister(context);
    return status;
}

// The last handle was closed before, so no classify requests deferred work.
// The filters go before the callouts, so that no filter is without its callout.
static VOID DriverStop(DRIVER_CONTEXT *context)
{
    UNLOAD_WATCH *watch = &context->Unload;

    UnloadWatchStep(watch, "its notification of sleep and resume");
    PowerUninitialize(context);
    UnloadWatchStep(watch, "its notification of new addresses");
    SubnetsStop(&context->Subnets);
    UnloadWatchStep(watch, "its deferred work");
    DeferredUninitialize(&context->Deferred);
    UnloadWatchStep(watch, "the filter engine, perhaps for another product's transaction");
    EngineUninitialize(&context->Engine);
    UnloadWatchStep(watch, "callouts that still run");
    DriverUnregisterCallouts(context, FWP_ACTION_CALLOUT_TERMINATING);
    DriverUnregisterCallouts(context, FWP_ACTION_CALLOUT_INSPECTION);
    ContextUnregister(context);
}

PLATFORM_INIT
static NTSTATUS DriverInitializeContext(PDRIVER_OBJECT driver, DRIVER_CONTEXT *context)
{
    NTSTATUS status = DriverInitializeReporting(context);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = DriverInitializeTables(context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupReporting;
    }
    status = ClientInitialize(&context->Client, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupTables;
    }
    status = InjectorInitialize(&context->Injector, driver, &context->Memory, &context->Clock, &context->Deferred,
                                &context->Bandwidth, &context->Statistics, &context->Log);
    if (!NT_SUCCESS(status))
    {
        goto cleanupClient;
    }
    status = DriverStart(context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupInjector;
    }
    return STATUS_SUCCESS;

cleanupInjector:
    InjectorUninitialize(&context->Injector);
cleanupClient:
    ClientUninitialize(&context->Client);
cleanupTables:
    DriverUninitializeTables(context);
cleanupReporting:
    DriverUninitializeReporting(context);
    return status;
}

// Undoes DriverInitializeContext. No packet is held, because the last handle was closed before.
static VOID DriverUninitializeContext(DRIVER_CONTEXT *context)
{
    UnloadWatchStart(&context->Unload);
    DriverStop(context);
    UnloadWatchStep(&context->Unload, "injected packets that are not complete");
    InjectorUninitialize(&context->Injector);
    ClientUninitialize(&context->Client);
    DriverUninitializeTables(context);
    UnloadWatchStep(&context->Unload, "the event queue");
    DriverUninitializeReporting(context);
    UnloadWatchStop(&context->Unload);
}

// Wine dispatches one request at a time. A read that waits in its dispatch routine would keep the client's writes out.
PLATFORM_INIT
static VOID DriverReadParameters(DRIVER_CONTEXT *context, PCUNICODE_STRING registryPath)
{
    if (ParametersReadDword(registryPath, L"BaseReadsPend") != 0)
    {
        context->Queue.BaseReadsPend = TRUE;
        LogWarning(&context->Log, "The reads of base clients pend: BaseReadsPend is set");
    }
}

_Use_decl_annotations_
static VOID NTAPI DriverUnload(PDRIVER_OBJECT driver)
{
    DRIVER_CONTEXT *context = ContextOfDevice(driver->DeviceObject);

    IoDeleteSymbolicLink(&context->LinkName);
    DriverUninitializeContext(context);
    IoDeleteDevice(driver->DeviceObject);
}

_Use_decl_annotations_
PLATFORM_INIT
NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING registryPath)
{
    DRIVER_CONTEXT *context;
    UNICODE_STRING name;
    PDEVICE_OBJECT device;
    NTSTATUS status;

    DriverGetServiceName(registryPath, &name);
    status = DriverCreateDevice(driver, &name, &device);
    if (!NT_SUCCESS(status))
    {
        goto reportFailure;
    }
    context = ContextOfDevice(device);
    context->DeviceObject = device;
    driver->DriverUnload = DriverUnload;
    DeviceSetDispatch(driver);

    status = DriverInitializeContext(driver, context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupDevice;
    }
    DriverReadParameters(context, registryPath);
    status = DriverCreateLink(context, &name);
    if (!NT_SUCCESS(status))
    {
        goto cleanupContext;
    }
    return STATUS_SUCCESS;

cleanupContext:
    DriverUninitializeContext(context);
cleanupDevice:
    IoDeleteDevice(device);
reportFailure:
    SystemLogStartFailed(driver, status);
    return status;
}

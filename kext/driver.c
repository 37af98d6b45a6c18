#include "driver.h"

#include <wdmsec.h>

#include "context.h"
#include "device.h"
#include "maintenance.h"

// Bounds of nonpaged pool, whatever the network and the client do.
#define DRIVER_MAX_CONNECTIONS       (1024u * 1024u)
#define DRIVER_MAX_BANDWIDTH_ENTRIES (256u * 1024u)

#define DRIVER_DEVICE_PREFIX L"\\Device\\"

// Only the system and administrators.
#define DRIVER_SDDL L"D:P(A;;GA;;;SY)(A;;GA;;;BA)"

static DRIVER_UNLOAD DriverUnload;

static const WCHAR DefaultName[] = L"NetVerdict";

// {92993849-0D51-4A14-BCC1-EDE543B3A123}: under this class an administrator may set another security descriptor.
static const GUID DeviceClass = {0x92993849, 0x0d51, 0x4a14, {0xbc, 0xc1, 0xed, 0xe5, 0x43, 0xb3, 0xa1, 0x23}};

// The last component of the service's registry path.
PLATFORM_INIT
static VOID GetServiceName(PCUNICODE_STRING registryPath, PUNICODE_STRING name)
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
static NTSTATUS JoinName(const WCHAR *prefix, PCUNICODE_STRING name, WCHAR *buffer, USHORT bufferBytes,
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
static NTSTATUS CreateDevice(PDRIVER_OBJECT driver, PCUNICODE_STRING name, PDEVICE_OBJECT *device)
{
    WCHAR buffer[sizeof(DRIVER_DEVICE_PREFIX) / sizeof(WCHAR) + DRIVER_MAX_NAME_LENGTH];
    UNICODE_STRING deviceName;
    UNICODE_STRING sddl;
    NTSTATUS status = JoinName(DRIVER_DEVICE_PREFIX, name, buffer, sizeof(buffer), &deviceName);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    RtlInitUnicodeString(&sddl, DRIVER_SDDL);
    status = IoCreateDeviceSecure(driver, sizeof(DRIVER_CONTEXT), &deviceName, PROTOCOL_DEVICE_TYPE,
                                  FILE_DEVICE_SECURE_OPEN, FALSE, &sddl, &DeviceClass, device);
    if (NT_SUCCESS(status))
    {
        // Records are copied once, into the reader's own pages.
        (*device)->Flags |= DO_DIRECT_IO;
    }
    return status;
}

PLATFORM_INIT
static NTSTATUS CreateLink(DRIVER_CONTEXT *context, PCUNICODE_STRING name)
{
    WCHAR buffer[sizeof(DRIVER_DEVICE_PREFIX) / sizeof(WCHAR) + DRIVER_MAX_NAME_LENGTH];
    UNICODE_STRING deviceName;
    NTSTATUS status = JoinName(DRIVER_DEVICE_PREFIX, name, buffer, sizeof(buffer), &deviceName);

    if (NT_SUCCESS(status))
    {
        status =
            JoinName(DRIVER_LINK_PREFIX, name, context->LinkBuffer, sizeof(context->LinkBuffer), &context->LinkName);
    }
    return NT_SUCCESS(status) ? IoCreateSymbolicLink(&context->LinkName, &deviceName) : status;
}

// The caches, which depend on nothing but memory.
PLATFORM_INIT
static NTSTATUS InitializeTables(DRIVER_CONTEXT *context)
{
    MEMORY *memory = &context->Memory;
    NTSTATUS status = ConnectionTableInitialize(&context->Connections, memory, DRIVER_MAX_CONNECTIONS);

    if (!NT_SUCCESS(status))
    {
        goto cleanupConnections;
    }
    status = PacketCacheInitialize(&context->Packets, memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupPackets;
    }
    status = FragmentTableInitialize(&context->Fragments, memory, &context->Statistics);
    if (!NT_SUCCESS(status))
    {
        goto cleanupFragments;
    }
    status = RedirectTableInitialize(&context->Redirects, memory, REDIRECT_TABLE_MAX_ENTRIES);
    if (!NT_SUCCESS(status))
    {
        goto cleanupRedirects;
    }
    status = BandwidthInitialize(&context->Bandwidth, memory, DRIVER_MAX_BANDWIDTH_ENTRIES);
    if (!NT_SUCCESS(status))
    {
        goto cleanupBandwidth;
    }
    return STATUS_SUCCESS;

cleanupBandwidth:
    BandwidthUninitialize(&context->Bandwidth);
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

static VOID UninitializeTables(DRIVER_CONTEXT *context)
{
    BandwidthUninitialize(&context->Bandwidth);
    RedirectTableUninitialize(&context->Redirects);
    FragmentTableUninitialize(&context->Fragments);
    PacketCacheUninitialize(&context->Packets);
    ConnectionTableUninitialize(&context->Connections);
}

// What every other part writes into.
PLATFORM_INIT
static NTSTATUS InitializeReporting(DRIVER_CONTEXT *context)
{
    NTSTATUS status;

    MemoryInitialize(&context->Memory);
    status = StatisticsInitialize(&context->Statistics, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupStatistics;
    }
    status = LogInitialize(&context->Log, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupLog;
    }
    IoQueueInitialize(&context->Queue, &context->Memory, &context->Statistics, &context->Log);
    EventsInitialize(&context->Events, &context->Memory, &context->Queue);
    return STATUS_SUCCESS;

cleanupLog:
    LogUninitialize(&context->Log);
cleanupStatistics:
    StatisticsUninitialize(&context->Statistics);
    return status;
}

static VOID UninitializeReporting(DRIVER_CONTEXT *context)
{
    EventsUninitialize(&context->Events);
    IoQueueUninitialize(&context->Queue);
    LogUninitialize(&context->Log);
    StatisticsUninitialize(&context->Statistics);
}

PLATFORM_INIT
static NTSTATUS InitializeContext(PDRIVER_OBJECT driver, DRIVER_CONTEXT *context)
{
    NTSTATUS status = InitializeReporting(context);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = InitializeTables(context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupReporting;
    }
    status = ClientInitialize(&context->Client, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupClient;
    }
    status = HoldInitialize(&context->Hold, &context->Memory);
    if (!NT_SUCCESS(status))
    {
        goto cleanupHold;
    }
    status = InjectorInitialize(&context->Injector, driver, &context->Memory, &context->Statistics, &context->Log);
    if (!NT_SUCCESS(status))
    {
        goto cleanupInjector;
    }
    status = CalloutsRegister(context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupCallouts;
    }
    status = DeferredInitialize(&context->Deferred, context->DeviceObject, MaintenanceRound, context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupCallouts;
    }
    status = CalloutsStart(context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupStart;
    }
    PowerInitialize(context);
    return STATUS_SUCCESS;

cleanupStart:
    CalloutsStop(context);
    DeferredUninitialize(&context->Deferred);
cleanupCallouts:
    CalloutsUnregister(context);
cleanupInjector:
    InjectorUninitialize(&context->Injector);
cleanupHold:
    HoldUninitialize(&context->Hold);
cleanupClient:
    ClientUninitialize(&context->Client);
    UninitializeTables(context);
cleanupReporting:
    UninitializeReporting(context);
    return status;
}

// The mirror of InitializeContext. Nothing is held, and no classify asks for deferred work: the last handle was closed
// before. A last round of maintenance may use the filter engine's session.
static VOID UninitializeContext(DRIVER_CONTEXT *context)
{
    PowerUninitialize(context);
    CalloutsStop(context);
    DeferredUninitialize(&context->Deferred);
    CalloutsUnregister(context);
    InjectorUninitialize(&context->Injector);
    HoldUninitialize(&context->Hold);
    ClientUninitialize(&context->Client);
    UninitializeTables(context);
    UninitializeReporting(context);
}

_Use_decl_annotations_
static VOID NTAPI DriverUnload(PDRIVER_OBJECT driver)
{
    DRIVER_CONTEXT *context = ContextOfDevice(driver->DeviceObject);

    IoDeleteSymbolicLink(&context->LinkName);
    UninitializeContext(context);
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

    GetServiceName(registryPath, &name);
    status = CreateDevice(driver, &name, &device);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    context = ContextOfDevice(device);
    context->DeviceObject = device;
    driver->DriverUnload = DriverUnload;
    DeviceSetDispatch(driver);

    status = InitializeContext(driver, context);
    if (!NT_SUCCESS(status))
    {
        goto cleanupDevice;
    }
    status = CreateLink(context, &name);
    if (!NT_SUCCESS(status))
    {
        goto cleanupContext;
    }
    return STATUS_SUCCESS;

cleanupContext:
    UninitializeContext(context);
cleanupDevice:
    IoDeleteDevice(device);
    return status;
}

#include "device.h"

#include "command.h"
#include "context.h"
#include "session.h"
#include "snapshot.h"
#include "stall.h"

_Dispatch_type_(IRP_MJ_CREATE) static DRIVER_DISPATCH DeviceCreate;
_Dispatch_type_(IRP_MJ_CLEANUP) _Dispatch_type_(IRP_MJ_CLOSE) static DRIVER_DISPATCH DeviceDetach;
_Dispatch_type_(IRP_MJ_READ) static DRIVER_DISPATCH DeviceRead;
_Dispatch_type_(IRP_MJ_WRITE) static DRIVER_DISPATCH DeviceWrite;
_Dispatch_type_(IRP_MJ_DEVICE_CONTROL) static DRIVER_DISPATCH DeviceControl;

static NTSTATUS DeviceComplete(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

// The I/O manager has mapped generic rights. Wine gives no security context.
static BOOLEAN DeviceMayAttach(const IO_STACK_LOCATION *stack)
{
    const IO_SECURITY_CONTEXT *security = stack->Parameters.Create.SecurityContext;
    const ACCESS_MASK needed = FILE_READ_DATA | FILE_WRITE_DATA;

    return security == NULL || (security->DesiredAccess & needed) == needed;
}

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceCreate(PDEVICE_OBJECT device, PIRP irp)
{
    const IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    NTSTATUS status = STATUS_SUCCESS;

    if (DeviceMayAttach(stack))
    {
        status = SessionAttach(ContextOfDevice(device), stack->FileObject);
    }
    return DeviceComplete(irp, status, 0);
}

// IRP_MJ_CLEANUP says that the last handle is closed. Wine sends IRP_MJ_CLOSE alone, so that detaches too.
_Use_decl_annotations_
static NTSTATUS NTAPI DeviceDetach(PDEVICE_OBJECT device, PIRP irp)
{
    SessionDetach(ContextOfDevice(device), IoGetCurrentIrpStackLocation(irp)->FileObject);
    return DeviceComplete(irp, STATUS_SUCCESS, 0);
}

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceRead(PDEVICE_OBJECT device, PIRP irp)
{
    DRIVER_CONTEXT *context = ContextOfDevice(device);
    RUNDOWN_SLOT *slot = ClientEnterRequest(&context->Client, IoGetCurrentIrpStackLocation(irp)->FileObject);
    WAITING_READ *waiting;
    NTSTATUS status;

    if (slot == NULL)
    {
        return DeviceComplete(irp, STATUS_CANCELLED, 0);
    }
    status = IoQueueRead(&context->Queue, irp, &waiting);
    ClientLeave(&context->Client.Requests, slot);
    // The wait is outside the rundown, so that a detach does not wait for it.
    return waiting != NULL ? IoQueueAwaitRead(&context->Queue, waiting) : status;
}

static NTSTATUS DeviceExecute(DRIVER_CONTEXT *context, PIRP irp, SIZE_T length, SIZE_T *consumed)
{
    const UINT8 *bytes = NULL;

    *consumed = 0;
    if (length != 0)
    {
        bytes = (const UINT8 *)MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);
        if (bytes == NULL)
        {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    return CommandExecute(context, bytes, length, consumed);
}

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceWrite(PDEVICE_OBJECT device, PIRP irp)
{
    DRIVER_CONTEXT *context = ContextOfDevice(device);
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(irp);
    RUNDOWN_SLOT *slot = ClientEnterRequest(&context->Client, stack->FileObject);
    SIZE_T consumed;
    NTSTATUS status;

    if (slot == NULL)
    {
        return DeviceComplete(irp, STATUS_CANCELLED, 0);
    }
    status = DeviceExecute(context, irp, stack->Parameters.Write.Length, &consumed);
    ClientLeave(&context->Client.Requests, slot);
    return DeviceComplete(irp, status, consumed);
}

// ---- IOCTLs. They are buffered: input and output are the same buffer.

static const VERSION_WIRE DeviceVersion = {PROTOCOL_VERSION_MAJOR, PROTOCOL_VERSION_MINOR, PROTOCOL_VERSION_REVISION,
                                           PROTOCOL_VERSION_BUILD};
static const CAPABILITIES_WIRE DeviceCapabilities = {
    sizeof(CAPABILITIES_WIRE), PROTOCOL_EXTENSION,
    FEATURE_EXTENDED_RECORDS | FEATURE_OPTIONS | FEATURE_STATISTICS | FEATURE_COMMAND_BATCHES | FEATURE_STALL |
        FEATURE_MAX_CONNECTIONS | FEATURE_GET_CONNECTIONS | FEATURE_UPDATE_CONNECTION | FEATURE_CONNECTION_INFO |
        FEATURE_TRAFFIC_FLAGS,
    PROTOCOL_MAX_COMMANDS_PER_WRITE};

typedef struct _DEVICE_CONTROL
{
    DRIVER_CONTEXT *Context;
    UINT8 *Buffer;
    SIZE_T InputLength;
    SIZE_T OutputLength;
    SIZE_T Written;
} DEVICE_CONTROL;

// Replies with a structure, cut to the caller's buffer. The buffer holds at least 4 bytes.
static NTSTATUS DeviceReply(DEVICE_CONTROL *control, const VOID *reply, SIZE_T length)
{
    if (control->OutputLength < sizeof(UINT32))
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    control->Written = control->OutputLength < length ? control->OutputLength : length;
    RtlCopyMemory(control->Buffer, reply, control->Written);
    return STATUS_SUCCESS;
}

static NTSTATUS DeviceGetStatistics(DEVICE_CONTROL *control)
{
    DRIVER_CONTEXT *context = control->Context;
    STATISTICS_WIRE wire;

    StatisticsEncode(&context->Statistics, &wire);
    wire.Counters[StatisticPacketsHeld] = PacketCacheCount(&context->Packets);
    wire.Counters[StatisticConnections] = ConnectionTableCount(&context->Connections);
    wire.Counters[StatisticBandwidthEntries] = BandwidthEntries(&context->Bandwidth);
    wire.Counters[StatisticEngineState] = (UINT64)EngineState(&context->Engine);
    return DeviceReply(control, &wire, sizeof(wire));
}

static NTSTATUS DeviceUpdateConnection(DEVICE_CONTROL *control)
{
    BOOLEAN known;
    NTSTATUS status;

    if (control->OutputLength < sizeof(UINT8))
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    status = CommandUpdateConnection(control->Context, control->Buffer, control->InputLength, &known);
    if (NT_SUCCESS(status))
    {
        control->Buffer[0] = known ? 1 : 0;
        control->Written = sizeof(UINT8);
    }
    return status;
}

static NTSTATUS DevicePerformControl(DEVICE_CONTROL *control, ULONG code)
{
    switch (code)
    {
    case IOCTL_NETVERDICT_VERSION:
        return DeviceReply(control, &DeviceVersion, sizeof(DeviceVersion));
    case IOCTL_NETVERDICT_SHUTDOWN_REQUEST:
        SessionShutdown(control->Context);
        return STATUS_SUCCESS;
    case IOCTL_NETVERDICT_GET_CAPABILITIES:
        return DeviceReply(control, &DeviceCapabilities, sizeof(DeviceCapabilities));
    case IOCTL_NETVERDICT_SET_OPTIONS:
        return SessionSetOptions(control->Context, control->Buffer, control->InputLength);
    case IOCTL_NETVERDICT_GET_STATISTICS:
        return DeviceGetStatistics(control);
    case IOCTL_NETVERDICT_KEEPALIVE:
        StallHear(control->Context);
        EngineReauthorize(&control->Context->Engine);
        return STATUS_SUCCESS;
    case IOCTL_NETVERDICT_GET_CONNECTIONS:
        return SnapshotConnections(&control->Context->Connections, control->Buffer, control->InputLength,
                                   control->Buffer, control->OutputLength, &control->Written);
    case IOCTL_NETVERDICT_UPDATE_CONNECTION:
        return DeviceUpdateConnection(control);
    default:
        return STATUS_INVALID_DEVICE_REQUEST;
    }
}

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceControl(PDEVICE_OBJECT device, PIRP irp)
{
    DRIVER_CONTEXT *context = ContextOfDevice(device);
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(irp);
    RUNDOWN_SLOT *slot = ClientEnterRequest(&context->Client, stack->FileObject);
    DEVICE_CONTROL control;
    NTSTATUS status;

    if (slot == NULL)
    {
        return DeviceComplete(irp, STATUS_CANCELLED, 0);
    }
    control.Context = context;
    control.Buffer = (UINT8 *)irp->AssociatedIrp.SystemBuffer;
    control.InputLength = stack->Parameters.DeviceIoControl.InputBufferLength;
    control.OutputLength = stack->Parameters.DeviceIoControl.OutputBufferLength;
    control.Written = 0;
    status = DevicePerformControl(&control, stack->Parameters.DeviceIoControl.IoControlCode);
    ClientLeave(&context->Client.Requests, slot);
    return DeviceComplete(irp, status, control.Written);
}

_Use_decl_annotations_
VOID DeviceSetDispatch(PDRIVER_OBJECT driver)
{
    driver->MajorFunction[IRP_MJ_CREATE] = DeviceCreate;
    driver->MajorFunction[IRP_MJ_CLEANUP] = DeviceDetach;
    driver->MajorFunction[IRP_MJ_CLOSE] = DeviceDetach;
    driver->MajorFunction[IRP_MJ_READ] = DeviceRead;
    driver->MajorFunction[IRP_MJ_WRITE] = DeviceWrite;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DeviceControl;
}

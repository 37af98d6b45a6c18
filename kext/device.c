#include "device.h"

#include "command.h"
#include "context.h"
#include "session.h"

_Dispatch_type_(IRP_MJ_CREATE) static DRIVER_DISPATCH DeviceCreate;
_Dispatch_type_(IRP_MJ_CLEANUP) static DRIVER_DISPATCH DeviceCleanup;
_Dispatch_type_(IRP_MJ_CLOSE) static DRIVER_DISPATCH DeviceClose;
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

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceCreate(PDEVICE_OBJECT device, PIRP irp)
{
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(irp)->FileObject;

    return DeviceComplete(irp, SessionAttach(ContextOfDevice(device), file), 0);
}

// The last handle is closed. Wine sends IRP_MJ_CLOSE alone, which does the same.
_Use_decl_annotations_
static NTSTATUS NTAPI DeviceCleanup(PDEVICE_OBJECT device, PIRP irp)
{
    SessionDetach(ContextOfDevice(device), IoGetCurrentIrpStackLocation(irp)->FileObject);
    return DeviceComplete(irp, STATUS_SUCCESS, 0);
}

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceClose(PDEVICE_OBJECT device, PIRP irp)
{
    SessionDetach(ContextOfDevice(device), IoGetCurrentIrpStackLocation(irp)->FileObject);
    return DeviceComplete(irp, STATUS_SUCCESS, 0);
}

_Use_decl_annotations_
static NTSTATUS NTAPI DeviceRead(PDEVICE_OBJECT device, PIRP irp)
{
    DRIVER_CONTEXT *context = ContextOfDevice(device);
    RUNDOWN_SLOT *slot = ClientEnterRequest(&context->Client, IoGetCurrentIrpStackLocation(irp)->FileObject);
    NTSTATUS status;

    if (slot == NULL)
    {
        return DeviceComplete(irp, STATUS_CANCELLED, 0);
    }
    status = IoQueueRead(&context->Queue, irp);
    ClientLeaveRequest(&context->Client, slot);
    return status;
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
    ClientLeaveRequest(&context->Client, slot);
    return DeviceComplete(irp, status, consumed);
}

// ---- IOCTLs. They are buffered: input and output are the same buffer.

typedef struct _DEVICE_CONTROL
{
    DRIVER_CONTEXT *Context;
    UINT8 *Buffer;
    SIZE_T InputLength;
    SIZE_T OutputLength;
    SIZE_T Written;
} DEVICE_CONTROL;

static NTSTATUS DeviceGetVersion(DEVICE_CONTROL *control)
{
    static const VERSION_WIRE version = {PROTOCOL_VERSION_MAJOR, PROTOCOL_VERSION_MINOR, PROTOCOL_VERSION_REVISION,
                                         PROTOCOL_VERSION_BUILD};

    if (control->OutputLength < sizeof(version))
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(control->Buffer, &version, sizeof(version));
    control->Written = sizeof(version);
    return STATUS_SUCCESS;
}

// A caller that knows fewer fields gets fewer.
static NTSTATUS DeviceGetCapabilities(DEVICE_CONTROL *control)
{
    CAPABILITIES_WIRE capabilities;

    if (control->OutputLength < sizeof(capabilities.StructSize))
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    capabilities.StructSize = sizeof(capabilities);
    capabilities.ProtocolExtension = PROTOCOL_EXTENSION;
    capabilities.FeatureBits =
        FEATURE_EXTENDED_RECORDS | FEATURE_OPTIONS | FEATURE_STATISTICS | FEATURE_COMMAND_BATCHES;
    capabilities.MaxCommandsPerWrite = PROTOCOL_MAX_COMMANDS_PER_WRITE;
    control->Written = control->OutputLength < sizeof(capabilities) ? control->OutputLength : sizeof(capabilities);
    RtlCopyMemory(control->Buffer, &capabilities, control->Written);
    return STATUS_SUCCESS;
}

static NTSTATUS DeviceGetStatistics(DEVICE_CONTROL *control)
{
    DRIVER_CONTEXT *context = control->Context;
    STATISTICS_GAUGES gauges;

    gauges.PacketsHeld = PacketCacheCount(&context->Packets);
    gauges.Connections = ConnectionTableCount(&context->Connections);
    gauges.BandwidthEntries = BandwidthEntries(&context->Bandwidth);
    return StatisticsEncode(&context->Statistics, &gauges, control->Buffer, control->OutputLength, &control->Written);
}

static NTSTATUS DevicePerformControl(DEVICE_CONTROL *control, ULONG code)
{
    switch (code)
    {
    case IOCTL_NETVERDICT_VERSION:
        return DeviceGetVersion(control);
    case IOCTL_NETVERDICT_SHUTDOWN_REQUEST:
        SessionShutdown(control->Context);
        return STATUS_SUCCESS;
    case IOCTL_NETVERDICT_GET_CAPABILITIES:
        return DeviceGetCapabilities(control);
    case IOCTL_NETVERDICT_SET_OPTIONS:
        return SessionSetOptions(control->Context, control->Buffer, control->InputLength);
    case IOCTL_NETVERDICT_GET_STATISTICS:
        return DeviceGetStatistics(control);
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
    ClientLeaveRequest(&context->Client, slot);
    return DeviceComplete(irp, status, control.Written);
}

_Use_decl_annotations_
VOID DeviceSetDispatch(PDRIVER_OBJECT driver)
{
    driver->MajorFunction[IRP_MJ_CREATE] = DeviceCreate;
    driver->MajorFunction[IRP_MJ_CLEANUP] = DeviceCleanup;
    driver->MajorFunction[IRP_MJ_CLOSE] = DeviceClose;
    driver->MajorFunction[IRP_MJ_READ] = DeviceRead;
    driver->MajorFunction[IRP_MJ_WRITE] = DeviceWrite;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DeviceControl;
}

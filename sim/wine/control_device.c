// Waiting reads are in a list under one lock; the thread that takes a request out of the list completes it.
// Wine calls the dispatch routines on one thread; the simulation notifies on any thread.

#define IoCreateDevice              WineIoCreateDevice
#define IoCreateSymbolicLink        WineIoCreateSymbolicLink
#define IoDeleteSymbolicLink        WineIoDeleteSymbolicLink
#define IoReleaseCancelSpinLock     WineIoReleaseCancelSpinLock
#define IofCompleteRequest          WineIofCompleteRequest
#define KeAcquireSpinLockRaiseToDpc WineKeAcquireSpinLockRaiseToDpc
#define KeReleaseSpinLock           WineKeReleaseSpinLock
#define RtlInitUnicodeString        WineRtlInitUnicodeString

#include <ntddk.h>

#include <stdlib.h>
#include <string.h>

#include "control_device.h"
#include "control_protocol.h"

// A function of Wine: creates a driver without a file.
NTSTATUS WINAPI WineIoCreateDriver(UNICODE_STRING *name, PDRIVER_INITIALIZE entry);

typedef struct _HANDLE_STATE
{
    BOOLEAN GivesEvents;
    UINT64 Session; // the session of the events
    UINT8 *Response;
    SIZE_T ResponseLength;
} HANDLE_STATE;

static KSPIN_LOCK WaitingLock;
static LIST_ENTRY WaitingReads;

static NTSTATUS Complete(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static HANDLE_STATE *StateOf(PIRP irp)
{
    return (HANDLE_STATE *)IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext;
}

static NTSTATUS WINAPI Create(PDEVICE_OBJECT device, PIRP irp)
{
    HANDLE_STATE *state = calloc(1, sizeof(*state));

    UNREFERENCED_PARAMETER(device);
    IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext = state;
    return Complete(irp, state == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS, 0);
}

static NTSTATUS WINAPI Close(PDEVICE_OBJECT device, PIRP irp)
{
    HANDLE_STATE *state = StateOf(irp);

    UNREFERENCED_PARAMETER(device);
    ControlHandleClosed(state);
    free(state->Response);
    free(state);
    return Complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS WINAPI Write(PDEVICE_OBJECT device, PIRP irp)
{
    HANDLE_STATE *state = StateOf(irp);
    const UINT8 *request = (const UINT8 *)irp->AssociatedIrp.SystemBuffer;
    ULONG length = IoGetCurrentIrpStackLocation(irp)->Parameters.Write.Length;

    UNREFERENCED_PARAMETER(device);
    if (length == 0 || state->Response != NULL || state->GivesEvents)
    {
        return Complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    if (request[0] == kControlEvents)
    {
        state->GivesEvents = TRUE;
        state->Session = ControlSession();
        return Complete(irp, STATUS_SUCCESS, length);
    }
    if (!ControlExecute(state, request, length, &state->Response, &state->ResponseLength))
    {
        return Complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
    }
    return Complete(irp, STATUS_SUCCESS, length);
}

static NTSTATUS ReadResponse(PIRP irp, HANDLE_STATE *state)
{
    SIZE_T length = state->ResponseLength;

    if (state->Response == NULL)
    {
        return Complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    if (IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length < length)
    {
        return Complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    memcpy(irp->AssociatedIrp.SystemBuffer, state->Response, length);
    free(state->Response);
    state->Response = NULL;
    return Complete(irp, STATUS_SUCCESS, length);
}

static void WINAPI CancelRead(PDEVICE_OBJECT device, PIRP irp)
{
    KIRQL irql;

    UNREFERENCED_PARAMETER(device);
    IoReleaseCancelSpinLock(irp->CancelIrql);
    KeAcquireSpinLock(&WaitingLock, &irql);
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&WaitingLock, irql);
    Complete(irp, STATUS_CANCELLED, 0);
}

// Takes the oldest read that need not wait and is not cancelled.
static PIRP TakeReadableRead(void)
{
    PIRP taken = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&WaitingLock, &irql);
    for (PLIST_ENTRY entry = WaitingReads.Flink; entry != &WaitingReads && taken == NULL; entry = entry->Flink)
    {
        PIRP irp = CONTAINING_RECORD(entry, IRP, Tail.Overlay.ListEntry);

        if (ControlIsReadable(StateOf(irp)->Session) && IoSetCancelRoutine(irp, NULL) != NULL)
        {
            RemoveEntryList(entry);
            taken = irp;
        }
    }
    KeReleaseSpinLock(&WaitingLock, irql);
    return taken;
}

static void AddWaitingRead(PIRP irp)
{
    BOOLEAN cancelled;
    KIRQL irql;

    KeAcquireSpinLock(&WaitingLock, &irql);
    InsertTailList(&WaitingReads, &irp->Tail.Overlay.ListEntry);
    IoSetCancelRoutine(irp, CancelRead);
    cancelled = irp->Cancel && IoSetCancelRoutine(irp, NULL) != NULL;
    if (cancelled)
    {
        RemoveEntryList(&irp->Tail.Overlay.ListEntry);
    }
    KeReleaseSpinLock(&WaitingLock, irql);
    if (cancelled)
    {
        Complete(irp, STATUS_CANCELLED, 0);
    }
}

static BOOLEAN ReadEvents(PIRP irp)
{
    INT64 taken = ControlTakeEvents(StateOf(irp)->Session, (UINT8 *)irp->AssociatedIrp.SystemBuffer,
                                    IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length);

    if (taken == 0)
    {
        return FALSE;
    }
    Complete(irp, taken < 0 ? STATUS_END_OF_FILE : STATUS_SUCCESS, taken < 0 ? 0 : (ULONG_PTR)taken);
    return TRUE;
}

void ControlDeviceNotify(void)
{
    PIRP irp;

    // Another thread may have taken the events, or new events may have come while this thread had the request.
    while ((irp = TakeReadableRead()) != NULL)
    {
        if (!ReadEvents(irp))
        {
            AddWaitingRead(irp);
        }
    }
}

static NTSTATUS WINAPI Read(PDEVICE_OBJECT device, PIRP irp)
{
    HANDLE_STATE *state = StateOf(irp);

    UNREFERENCED_PARAMETER(device);
    if (!state->GivesEvents)
    {
        return ReadResponse(irp, state);
    }
    if (IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length < CONTROL_EVENT_BYTES)
    {
        return Complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    IoMarkIrpPending(irp);
    AddWaitingRead(irp);
    ControlDeviceNotify();
    return STATUS_PENDING;
}

// Windows' I/O manager answers this query for every device; Wine passes it to the driver.
// Node.js opens no file whose kind it cannot learn.
static NTSTATUS WINAPI QueryVolume(PDEVICE_OBJECT device, PIRP irp)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(irp);
    FILE_FS_DEVICE_INFORMATION *information = (FILE_FS_DEVICE_INFORMATION *)irp->AssociatedIrp.SystemBuffer;

    if (stack->Parameters.QueryVolume.FsInformationClass != FileFsDeviceInformation ||
        stack->Parameters.QueryVolume.Length < sizeof(*information))
    {
        return Complete(irp, STATUS_INVALID_PARAMETER, 0);
    }
    information->DeviceType = device->DeviceType;
    information->Characteristics = device->Characteristics;
    return Complete(irp, STATUS_SUCCESS, sizeof(*information));
}

static NTSTATUS WINAPI Entry(PDRIVER_OBJECT driver, PUNICODE_STRING registry_path)
{
    UNICODE_STRING name;
    UNICODE_STRING link;
    PDEVICE_OBJECT device;
    NTSTATUS status;

    UNREFERENCED_PARAMETER(registry_path);
    RtlInitUnicodeString(&name, CONTROL_DEVICE_NAME);
    RtlInitUnicodeString(&link, CONTROL_LINK_NAME);
    driver->MajorFunction[IRP_MJ_CREATE] = Create;
    driver->MajorFunction[IRP_MJ_CLOSE] = Close;
    driver->MajorFunction[IRP_MJ_READ] = Read;
    driver->MajorFunction[IRP_MJ_WRITE] = Write;
    driver->MajorFunction[IRP_MJ_QUERY_VOLUME_INFORMATION] = QueryVolume;
    status = IoCreateDevice(driver, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    device->Flags |= DO_BUFFERED_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;

    // In Wine a link outlives the process that created it.
    IoDeleteSymbolicLink(&link);
    return IoCreateSymbolicLink(&link, &name);
}

int32_t ControlDeviceCreate(void)
{
    UNICODE_STRING name;

    WaitingReads.Flink = &WaitingReads;
    WaitingReads.Blink = &WaitingReads;
    RtlInitUnicodeString(&name, L"\\Driver\\NetVerdictSimulation");
    return WineIoCreateDriver(&name, Entry);
}

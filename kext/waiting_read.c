#include "waiting_read.h"

static DRIVER_CANCEL WaitingReadCancel;

_Use_decl_annotations_
static VOID WaitingReadCancel(PDEVICE_OBJECT device, PIRP irp)
{
    WAITING_READ *read = (WAITING_READ *)irp->Tail.Overlay.DriverContext[0];

    UNREFERENCED_PARAMETER(device);
    KeSetEvent(&read->Wake, IO_NO_INCREMENT, FALSE);
    // The read and the IRP may be gone once the lock is released.
    IoReleaseCancelSpinLock(irp->CancelIrql);
}

_Use_decl_annotations_
WAITING_READ *WaitingReadCreate(MEMORY *memory, PIRP irp)
{
    WAITING_READ *read = (WAITING_READ *)MemoryAllocate(memory, sizeof(*read));

    if (read == NULL)
    {
        return NULL;
    }
    read->Irp = irp;
    KeInitializeEvent(&read->Wake, SynchronizationEvent, FALSE);
    irp->Tail.Overlay.DriverContext[0] = read;
    IoSetCancelRoutine(irp, WaitingReadCancel);
    return read;
}

_Use_decl_annotations_
VOID WaitingReadWake(WAITING_READ *read)
{
    if (!read->Woken)
    {
        read->Woken = TRUE;
        KeSetEvent(&read->Wake, IO_NETWORK_INCREMENT, FALSE);
    }
}

_Use_decl_annotations_
NTSTATUS WaitingReadWait(WAITING_READ *read)
{
    return KeWaitForSingleObject(&read->Wake, UserRequest, UserMode, FALSE, NULL);
}

_Use_decl_annotations_
VOID WaitingReadFree(MEMORY *memory, WAITING_READ *read)
{
    if (IoSetCancelRoutine(read->Irp, NULL) == NULL)
    {
        KIRQL irql;

        // The cancel routine runs, or is about to run, under this lock.
        IoAcquireCancelSpinLock(&irql);
        IoReleaseCancelSpinLock(irql);
    }
    MemoryFree(memory, read);
}

#include "deferred.h"

static KDEFERRED_ROUTINE DeferredTimerFired;
static IO_WORKITEM_ROUTINE DeferredRun;

_Use_decl_annotations_
static VOID NTAPI DeferredTimerFired(PKDPC dpc, PVOID deferredContext, PVOID argument1, PVOID argument2)
{
    DEFERRED *deferred = (DEFERRED *)deferredContext;

    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    DeferredRequest(deferred, DEFERRED_DUE);
    DeferredQueue(deferred);
}

// Counts one more outstanding run. FALSE: DeferredUninitialize has waited for the last run, so none may follow.
static BOOLEAN DeferredAcquire(DEFERRED *deferred)
{
    LONG outstanding = ReadNoFence(&deferred->Outstanding);

    while (outstanding != 0)
    {
        LONG found = InterlockedCompareExchange(&deferred->Outstanding, outstanding + 1, outstanding);

        if (found == outstanding)
        {
            return TRUE;
        }
        outstanding = found;
    }
    return FALSE;
}

static VOID DeferredRelease(DEFERRED *deferred)
{
    if (InterlockedDecrement(&deferred->Outstanding) == 0)
    {
        KeSetEvent(&deferred->Idle, IO_NO_INCREMENT, FALSE);
    }
}

_Use_decl_annotations_
static VOID NTAPI DeferredRun(PDEVICE_OBJECT device, PVOID workContext)
{
    DEFERRED *deferred = (DEFERRED *)workContext;

    UNREFERENCED_PARAMETER(device);
    // Another run may be queued from here on, so no later request is missed.
    (VOID) DeferredTake(deferred, DEFERRED_QUEUED);
    deferred->Routine(deferred->Context);
    DeferredRelease(deferred);
}

_Use_decl_annotations_
NTSTATUS DeferredInitialize(DEFERRED *deferred, PDEVICE_OBJECT device, DEFERRED_ROUTINE routine, VOID *context)
{
    RtlZeroMemory(deferred, sizeof(*deferred));
    deferred->Routine = routine;
    deferred->Context = context;
    deferred->Outstanding = 1;
    KeInitializeEvent(&deferred->Idle, NotificationEvent, FALSE);
    KeInitializeTimerEx(&deferred->Timer, NotificationTimer);
    KeInitializeTimerEx(&deferred->RetryTimer, NotificationTimer);
    KeInitializeDpc(&deferred->Dpc, DeferredTimerFired, deferred);
    deferred->WorkItem = IoAllocateWorkItem(device);
    return deferred->WorkItem != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID DeferredUninitialize(DEFERRED *deferred)
{
    DeferredRelease(deferred);
    KeWaitForSingleObject(&deferred->Idle, Executive, KernelMode, FALSE, NULL);
    // The last run may have set the retry timer.
    KeCancelTimer(&deferred->RetryTimer);
    KeCancelTimer(&deferred->Timer);
    KeFlushQueuedDpcs();
    IoFreeWorkItem(deferred->WorkItem);
}

_Use_decl_annotations_
VOID DeferredRequest(DEFERRED *deferred, LONG work)
{
    InterlockedOr(&deferred->Work, work);
}

_Use_decl_annotations_
BOOLEAN DeferredTake(DEFERRED *deferred, LONG work)
{
    return (InterlockedAnd(&deferred->Work, ~work) & work) != 0;
}

_Use_decl_annotations_
VOID DeferredQueue(DEFERRED *deferred)
{
    if (ReadNoFence(&deferred->Work) == 0 || (InterlockedOr(&deferred->Work, DEFERRED_QUEUED) & DEFERRED_QUEUED) != 0)
    {
        return;
    }
    if (DeferredAcquire(deferred))
    {
        IoQueueWorkItem(deferred->WorkItem, DeferredRun, DelayedWorkQueue, deferred);
    }
}

static LARGE_INTEGER DeferredAfter(UINT32 milliseconds)
{
    LARGE_INTEGER due;

    due.QuadPart = -(LONG64)(milliseconds * PLATFORM_TICKS_PER_MILLISECOND);
    return due;
}

_Use_decl_annotations_
VOID DeferredRetry(DEFERRED *deferred, UINT32 milliseconds)
{
    KeSetTimerEx(&deferred->RetryTimer, DeferredAfter(milliseconds), 0, &deferred->Dpc);
}

_Use_decl_annotations_
VOID DeferredStart(DEFERRED *deferred, UINT32 periodMs)
{
    KeSetTimerEx(&deferred->Timer, DeferredAfter(periodMs), (LONG)periodMs, &deferred->Dpc);
}

_Use_decl_annotations_
VOID DeferredStop(DEFERRED *deferred)
{
    KeCancelTimer(&deferred->Timer);
}

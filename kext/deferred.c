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
    InterlockedExchange64(&deferred->Alarm, DEFERRED_DISARMED);
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
NTSTATUS DeferredInitialize(DEFERRED *deferred, const CLOCK *clock, PDEVICE_OBJECT device, DEFERRED_ROUTINE routine,
                            VOID *context)
{
    RtlZeroMemory(deferred, sizeof(*deferred));
    deferred->Routine = routine;
    deferred->Context = context;
    deferred->Clock = clock;
    deferred->Alarm = DEFERRED_DISARMED;
    deferred->Outstanding = 1;
    KeInitializeEvent(&deferred->Idle, NotificationEvent, FALSE);
    KeInitializeTimerEx(&deferred->Timer, NotificationTimer);
    KeInitializeDpc(&deferred->Dpc, DeferredTimerFired, deferred);
    deferred->WorkItem = IoAllocateWorkItem(device);
    return deferred->WorkItem != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID DeferredUninitialize(DEFERRED *deferred)
{
    DeferredRelease(deferred);
    KeWaitForSingleObject(&deferred->Idle, Executive, KernelMode, FALSE, NULL);
    // The last run may have armed the timer.
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

// Makes the timer what Alarm says. A thread that changes Alarm calls this function afterwards.
// The last of several calls at once sees the last change, so the timer ends up right.
static VOID DeferredSetTimer(DEFERRED *deferred)
{
    LONG64 alarm;

    do
    {
        UINT32 toleranceMs;

        alarm = ReadAcquire64(&deferred->Alarm);
        if (alarm == DEFERRED_DISARMED)
        {
            KeCancelTimer(&deferred->Timer);
            continue;
        }
        toleranceMs = (UINT32)(alarm & DEFERRED_MAX_TOLERANCE);
        ClockSetTimer(deferred->Clock, &deferred->Timer,
                      ((UINT64)(alarm >> DEFERRED_TOLERANCE_BITS) - toleranceMs) * PLATFORM_TICKS_PER_MILLISECOND,
                      toleranceMs, &deferred->Dpc);
    } while (ReadAcquire64(&deferred->Alarm) != alarm);
}

_Use_decl_annotations_
VOID DeferredDisarm(DEFERRED *deferred)
{
    InterlockedExchange64(&deferred->Alarm, DEFERRED_DISARMED);
    DeferredSetTimer(deferred);
}

_Use_decl_annotations_
VOID DeferredArm(DEFERRED *deferred, LONG64 alarm)
{
    LONG64 found = ReadNoFence64(&deferred->Alarm);

    if (!DeferredAcquire(deferred))
    {
        return;
    }
    while (alarm < found)
    {
        LONG64 before = InterlockedCompareExchange64(&deferred->Alarm, alarm, found);

        if (before == found)
        {
            DeferredSetTimer(deferred);
            break;
        }
        found = before;
    }
    DeferredRelease(deferred);
}

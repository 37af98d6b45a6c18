#include "maintenance.h"

#include "context.h"

#define MAINTENANCE_PERIOD_MS        1000u
#define MAINTENANCE_URGENT_PERIOD_MS 100u // while held packets can time out
#define MAINTENANCE_RETRY_MS         1000u

// The table is walked as a whole: not oftener than this, however often the timer fires.
#define MAINTENANCE_CLEAN_PERIOD PLATFORM_TICKS_PER_SECOND

static KDEFERRED_ROUTINE MaintenanceDpc;
static IO_WORKITEM_ROUTINE MaintenanceRun;

_Use_decl_annotations_
static VOID NTAPI MaintenanceDpc(PKDPC dpc, PVOID deferredContext, PVOID argument1, PVOID argument2)
{
    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    MaintenanceQueue((DRIVER_CONTEXT *)deferredContext);
}

_Use_decl_annotations_
VOID MaintenanceClean(DRIVER_CONTEXT *context)
{
    (VOID) ConnectionTableClean(&context->Connections, TRUE);
    (VOID) RedirectTableClean(&context->Redirects);
}

static VOID CleanWhenDue(DRIVER_CONTEXT *context, UINT64 now)
{
    volatile LONG64 *next = &context->Maintenance.NextClean;
    LONG64 due = ReadNoFence64(next);

    if ((LONG64)now < due || InterlockedCompareExchange64(next, (LONG64)(now + MAINTENANCE_CLEAN_PERIOD), due) != due)
    {
        return;
    }
    MaintenanceClean(context);
}

// FALSE: MaintenanceUninitialize has come to its end.
static BOOLEAN AcquireOutstanding(MAINTENANCE *maintenance)
{
    LONG outstanding = ReadNoFence(&maintenance->Outstanding);

    while (outstanding != 0)
    {
        LONG found = InterlockedCompareExchange(&maintenance->Outstanding, outstanding + 1, outstanding);

        if (found == outstanding)
        {
            return TRUE;
        }
        outstanding = found;
    }
    return FALSE;
}

static VOID ReleaseOutstanding(MAINTENANCE *maintenance)
{
    if (InterlockedDecrement(&maintenance->Outstanding) == 0)
    {
        KeSetEvent(&maintenance->Idle, IO_NO_INCREMENT, FALSE);
    }
}

_Use_decl_annotations_
static VOID NTAPI MaintenanceRun(PDEVICE_OBJECT device, PVOID workContext)
{
    DRIVER_CONTEXT *context = (DRIVER_CONTEXT *)workContext;
    UINT64 now = KeQueryInterruptTime();

    UNREFERENCED_PARAMETER(device);
    // From here on another run may be queued: nothing that comes later is missed.
    InterlockedExchange(&context->Maintenance.Queued, FALSE);

    InjectResolveRefused(&context->Injector, ClientFailVerdict(&context->Client) == VerdictAccept);
    HoldResolveFailed(context);
    HoldExpire(context, now);
    FragmentTableExpire(&context->Fragments, now);
    HoldReauthorize(context);
    CleanWhenDue(context, now);
    ReleaseOutstanding(&context->Maintenance);
}

_Use_decl_annotations_
NTSTATUS MaintenanceInitialize(DRIVER_CONTEXT *context)
{
    MAINTENANCE *maintenance = &context->Maintenance;

    RtlZeroMemory(maintenance, sizeof(*maintenance));
    maintenance->Outstanding = 1;
    KeInitializeEvent(&maintenance->Idle, NotificationEvent, FALSE);
    KeInitializeTimerEx(&maintenance->Timer, NotificationTimer);
    KeInitializeTimerEx(&maintenance->RetryTimer, NotificationTimer);
    KeInitializeDpc(&maintenance->Dpc, MaintenanceDpc, context);
    maintenance->WorkItem = IoAllocateWorkItem(context->DeviceObject);
    return maintenance->WorkItem != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID MaintenanceUninitialize(DRIVER_CONTEXT *context)
{
    MAINTENANCE *maintenance = &context->Maintenance;

    ReleaseOutstanding(maintenance);
    KeWaitForSingleObject(&maintenance->Idle, Executive, KernelMode, FALSE, NULL);
    // Only now: the last run may have set it.
    KeCancelTimer(&maintenance->RetryTimer);
    MaintenanceStop(context);
    KeFlushQueuedDpcs();
    if (maintenance->WorkItem != NULL)
    {
        IoFreeWorkItem(maintenance->WorkItem);
    }
}

static LARGE_INTEGER After(UINT32 milliseconds)
{
    LARGE_INTEGER due;

    due.QuadPart = -(LONG64)(milliseconds * PLATFORM_TICKS_PER_MILLISECOND);
    return due;
}

_Use_decl_annotations_
VOID MaintenanceStart(DRIVER_CONTEXT *context)
{
    UINT32 periodMs =
        ReadNoFence(&context->Client.PendingTimeoutMs) != 0 ? MAINTENANCE_URGENT_PERIOD_MS : MAINTENANCE_PERIOD_MS;

    KeSetTimerEx(&context->Maintenance.Timer, After(periodMs), (LONG)periodMs, &context->Maintenance.Dpc);
}

_Use_decl_annotations_
VOID MaintenanceRetry(DRIVER_CONTEXT *context)
{
    KeSetTimerEx(&context->Maintenance.RetryTimer, After(MAINTENANCE_RETRY_MS), 0, &context->Maintenance.Dpc);
}

_Use_decl_annotations_
VOID MaintenanceStop(DRIVER_CONTEXT *context)
{
    KeCancelTimer(&context->Maintenance.Timer);
}

_Use_decl_annotations_
VOID MaintenanceQueue(DRIVER_CONTEXT *context)
{
    MAINTENANCE *maintenance = &context->Maintenance;

    if (InterlockedExchange(&maintenance->Queued, TRUE) != FALSE)
    {
        return;
    }
    if (AcquireOutstanding(maintenance))
    {
        IoQueueWorkItem(maintenance->WorkItem, MaintenanceRun, DelayedWorkQueue, context);
    }
}

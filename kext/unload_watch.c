#include "unload_watch.h"

#define UNLOAD_WATCH_PERIOD_MS 1000

static KDEFERRED_ROUTINE UnloadWatchReport;

_Use_decl_annotations_
static VOID NTAPI UnloadWatchReport(PKDPC dpc, PVOID deferredContext, PVOID argument1, PVOID argument2)
{
    UNLOAD_WATCH *watch = (UNLOAD_WATCH *)deferredContext;

    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    DbgPrintEx(DPFLTR_IHVNETWORK_ID, DPFLTR_WARNING_LEVEL, "netverdict: the unload waits for %s, for %u s now\n",
               watch->Step, (unsigned)InterlockedIncrement(&watch->Seconds));
}

_Use_decl_annotations_
VOID UnloadWatchStart(UNLOAD_WATCH *watch)
{
    LARGE_INTEGER due;

    watch->Seconds = 0;
    watch->Step = "its start";
    KeInitializeTimerEx(&watch->Timer, NotificationTimer);
    KeInitializeDpc(&watch->Dpc, UnloadWatchReport, watch);
    due.QuadPart = -(LONG64)(UNLOAD_WATCH_PERIOD_MS * PLATFORM_TICKS_PER_MILLISECOND);
    KeSetTimerEx(&watch->Timer, due, UNLOAD_WATCH_PERIOD_MS, &watch->Dpc);
}

_Use_decl_annotations_
VOID UnloadWatchStep(UNLOAD_WATCH *watch, const char *step)
{
    InterlockedExchangePointer((PVOID volatile *)&watch->Step, (PVOID)(ULONG_PTR)step);
    InterlockedExchange(&watch->Seconds, 0);
}

_Use_decl_annotations_
VOID UnloadWatchStop(UNLOAD_WATCH *watch)
{
    KeCancelTimer(&watch->Timer);
    KeFlushQueuedDpcs();
}

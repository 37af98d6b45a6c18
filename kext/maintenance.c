#include "maintenance.h"

#include "context.h"
#include "hold.h"

// The least time between two cleanings. A cleaning walks the whole table, and the timer may fire more often.
#define MAINTENANCE_CLEAN_PERIOD PLATFORM_TICKS_PER_SECOND

static VOID MaintenanceClean(DRIVER_CONTEXT *context, UINT64 now)
{
    volatile LONG64 *next = &context->NextClean;
    LONG64 due = ReadNoFence64(next);

    if ((LONG64)now < due || InterlockedCompareExchange64(next, (LONG64)(now + MAINTENANCE_CLEAN_PERIOD), due) != due)
    {
        return;
    }
    (VOID) ConnectionTableClean(&context->Connections, TRUE);
    (VOID) RedirectTableClean(&context->Redirects);
}

_Use_decl_annotations_
VOID MaintenanceRound(VOID *driverContext)
{
    DRIVER_CONTEXT *context = (DRIVER_CONTEXT *)driverContext;
    BOOLEAN due = DeferredTake(&context->Deferred, DEFERRED_DUE);
    UINT64 now = KeQueryInterruptTime();

    if (due)
    {
        InjectResolveRefused(&context->Injector, VerdictPermits(ClientFailVerdict(&context->Client)));
    }
    if (DeferredTake(&context->Deferred, DEFERRED_FAILED_HOLDS))
    {
        HoldResolveFailed(context);
    }
    if (due)
    {
        HoldExpire(context, now);
        (VOID) FragmentTableForget(&context->Fragments, now, FALSE);
    }
    EngineReauthorize(&context->Engine);
    if (due)
    {
        MaintenanceClean(context, now);
    }
}

#include "maintenance.h"

#include "context.h"
#include "hold.h"
#include "stall.h"

// The least time between two rounds for one kind of work. A cleaning walks the whole table.
#define MAINTENANCE_HOLD_PERIOD     (50 * PLATFORM_TICKS_PER_MILLISECOND)
#define MAINTENANCE_FRAGMENT_PERIOD (250 * PLATFORM_TICKS_PER_MILLISECOND)
#define MAINTENANCE_CLEAN_PERIOD    (5 * PLATFORM_TICKS_PER_SECOND)

// Connections that one round evicts. The next round goes on, so that other work comes in between.
#define MAINTENANCE_EVICTIONS 4096u

// How long to wait for verdicts if questions wait about all connections above the limit.
#define MAINTENANCE_EVICT_WAIT_MS 1000u

static UINT64 MaintenanceLater(UINT64 time, UINT64 other)
{
    return time > other ? time : other;
}

// Cleans the tables, unless they were cleaned a moment ago. Returns when they are to be cleaned next (ClockNow).
static UINT64 MaintenanceClean(DRIVER_CONTEXT *context, UINT64 now)
{
    volatile LONG64 *next = &context->NextClean;
    LONG64 due = ReadNoFence64(next);
    UINT32 connectionWait;
    UINT32 redirectWait;

    if ((LONG64)now < due || InterlockedCompareExchange64(next, (LONG64)(now + MAINTENANCE_CLEAN_PERIOD), due) != due)
    {
        return ConnectionTableCount(&context->Connections) != 0 || RedirectTableCount(&context->Redirects) != 0
                   ? (UINT64)ReadNoFence64(next)
                   : CLOCK_NEVER;
    }
    (VOID) ConnectionTableClean(&context->Connections, TRUE, &connectionWait);
    (VOID) RedirectTableClean(&context->Redirects, &redirectWait);
    connectionWait = connectionWait < redirectWait ? connectionWait : redirectWait;
    if (connectionWait == MAXUINT32)
    {
        return CLOCK_NEVER;
    }
    return MaintenanceLater(now + connectionWait * PLATFORM_TICKS_PER_SECOND, now + MAINTENANCE_CLEAN_PERIOD);
}

// Does what is due, and arms the timer for what is left.
// A detach waits for this function by the rundown of classifies, and stops the timer afterwards.
static VOID MaintenanceDoDue(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Client.Classifies);
    DEFERRED *deferred = &context->Deferred;
    UINT64 now = ClockNow(&context->Clock);

    InjectResolveRefused(&context->Injector, VerdictPermits(ClientFailVerdict(&context->Client)));
    HoldExpire(context, now);
    HoldReportRefused(context, now);
    DeferredRunBy(deferred, MaintenanceLater(StallCheck(context, now), now + MAINTENANCE_HOLD_PERIOD),
                  HOLD_TOLERANCE_MS);
    FragmentTableForget(&context->Fragments, now);
    DeferredRunBy(deferred, MaintenanceLater(PacketCacheNextDeadline(&context->Packets), now + MAINTENANCE_HOLD_PERIOD),
                  HOLD_TOLERANCE_MS);
    DeferredRunBy(deferred,
                  MaintenanceLater(FragmentTableNextExpiry(&context->Fragments), now + MAINTENANCE_FRAGMENT_PERIOD),
                  FRAGMENT_TOLERANCE_MS);
    DeferredRunBy(deferred, MaintenanceClean(context, now), CONNECTION_CLEAN_TOLERANCE_MS);
    if (ConnectionTableIsOverLimit(&context->Connections))
    {
        DeferredRequest(deferred, DEFERRED_EVICT);
    }
    RundownLeave(&context->Client.Classifies, slot);
}

// The limit of connections was lowered. A cleaning afterwards gives the memory back.
static VOID MaintenanceEvict(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Client.Classifies);

    if (ConnectionTableEvict(&context->Connections, MAINTENANCE_EVICTIONS))
    {
        DeferredRequest(&context->Deferred, DEFERRED_EVICT);
        DeferredQueue(&context->Deferred);
    }
    else if (ConnectionTableIsOverLimit(&context->Connections))
    {
        // Questions wait about all that are left.
        DeferredRunAfter(&context->Deferred, MAINTENANCE_EVICT_WAIT_MS, MAINTENANCE_EVICT_WAIT_MS);
    }
    else
    {
        (VOID) ConnectionTableClean(&context->Connections, FALSE, NULL);
    }
    RundownLeave(&context->Client.Classifies, slot);
}

_Use_decl_annotations_
VOID MaintenanceRound(VOID *driverContext)
{
    DRIVER_CONTEXT *context = (DRIVER_CONTEXT *)driverContext;

    if (DeferredTake(&context->Deferred, DEFERRED_FAILED_HOLDS))
    {
        HoldResolveFailed(context);
    }
    if (DeferredTake(&context->Deferred, DEFERRED_SUBNETS))
    {
        SubnetsRead(&context->Subnets);
    }
    if (DeferredTake(&context->Deferred, DEFERRED_DUE))
    {
        MaintenanceDoDue(context);
    }
    if (DeferredTake(&context->Deferred, DEFERRED_EVICT))
    {
        MaintenanceEvict(context);
    }
    // Reauthorization comes last, because a hold that was resolved before may have requested it.
    EngineReauthorize(&context->Engine);
}

#include "nt/irql.h"

#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/sanitizer.h"

namespace sim::nt
{

SIM_THREAD_LOCAL ThreadState thread_state;

namespace
{

const char *IrqlName(KIRQL irql)
{
    switch (irql)
    {
    case PASSIVE_LEVEL:
        return "PASSIVE_LEVEL";
    case APC_LEVEL:
        return "APC_LEVEL";
    case DISPATCH_LEVEL:
        return "DISPATCH_LEVEL";
    default:
        return "a level above DISPATCH_LEVEL";
    }
}

} // namespace

void BugcheckIrqlTooHigh(const char *function, KIRQL maximum)
{
    Bugcheck("IRQL_TOO_HIGH", "%s was called at %s; its highest level is %s", function, IrqlName(thread_state.irql),
             IrqlName(maximum));
}

void BugcheckIrqlWrong(const char *function, KIRQL required)
{
    Bugcheck("IRQL_WRONG", "%s was called at %s; it needs %s", function, IrqlName(thread_state.irql),
             IrqlName(required));
}

void BugcheckLocksHeld(const char *function)
{
    Bugcheck("LOCK_HELD_OVER_CALL", "%s was called with %u spin lock(s) held", function,
             static_cast<unsigned>(thread_state.locks_held));
}

void BugcheckIrqlRaisedDown(KIRQL irql)
{
    Bugcheck("IRQL_RAISED_DOWN", "KeRaiseIrql to %s was called at %s", IrqlName(irql), IrqlName(thread_state.irql));
}

void BugcheckIrqlLoweredUp(KIRQL irql)
{
    Bugcheck("IRQL_LOWERED_UP", "KeLowerIrql to %s was called at %s", IrqlName(irql), IrqlName(thread_state.irql));
}

// The frames of sanitizers and of unoptimized code are larger than the driver's frames on Windows.
#if defined(__OPTIMIZE__) && !defined(SIM_ADDRESS_SANITIZER) && !defined(__SANITIZE_THREAD__)
const ptrdiff_t kMostStackOfDriver = 4 * 1024;
#else
const ptrdiff_t kMostStackOfDriver = 64 * 1024;
#endif

void BugcheckStackTooDeep(const char *function, ptrdiff_t bytes)
{
    Bugcheck("STACK_TOO_DEEP", "%s was called with %td bytes of stack in use; the driver's share is %td", function,
             bytes, kMostStackOfDriver);
}

void BugcheckCallChangedIrql(const char *routine, KIRQL before)
{
    Bugcheck("IRQL_CHANGED_BY_CALL", "%s was entered at %s and returned at %s", routine, IrqlName(before),
             IrqlName(thread_state.irql));
}

void BugcheckCallKeptLocks(const char *routine, unsigned before)
{
    Bugcheck("LOCK_HELD_AT_RETURN", "%s was entered with %u spin lock(s) held and returned with %u", routine, before,
             static_cast<unsigned>(thread_state.locks_held));
}

void BugcheckCallKeptCriticalRegion(const char *routine, unsigned before)
{
    Bugcheck("CRITICAL_REGION_AT_RETURN", "%s was entered inside %u critical region(s) and returned inside %u", routine,
             before, static_cast<unsigned>(thread_state.critical_regions));
}

} // namespace sim::nt

using namespace sim::nt;

extern "C" KIRQL KeGetCurrentIrql(VOID)
{
    return CurrentIrql();
}

extern "C" KIRQL KfRaiseIrql(KIRQL NewIrql)
{
    return RaiseIrql(NewIrql);
}

extern "C" VOID KeLowerIrql(KIRQL NewIrql)
{
    if (NewIrql < DISPATCH_LEVEL && thread_state.locks_held != 0)
    {
        BugcheckLocksHeld("KeLowerIrql to below DISPATCH_LEVEL");
    }
    LowerIrql(NewIrql);
}

extern "C" VOID KeEnterCriticalRegion(VOID)
{
    RequireIrqlAtMost(APC_LEVEL, "KeEnterCriticalRegion");
    thread_state.critical_regions++;
}

extern "C" VOID KeLeaveCriticalRegion(VOID)
{
    RequireIrqlAtMost(APC_LEVEL, "KeLeaveCriticalRegion");
    if (thread_state.critical_regions == 0)
    {
        sim::Bugcheck("CRITICAL_REGION_NOT_ENTERED", "KeLeaveCriticalRegion was called outside a critical region");
    }
    thread_state.critical_regions--;
}

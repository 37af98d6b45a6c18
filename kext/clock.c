#include "clock.h"

// KeQueryInterruptTime is a macro in some kits, so it has no address there.
static ULONGLONG NTAPI ClockQueryInterruptTime(VOID)
{
    return KeQueryInterruptTime();
}

_Use_decl_annotations_
VOID ClockInitialize(CLOCK *clock)
{
    clock->QueryTime = (CLOCK_QUERY_TIME)PlatformFindRoutine(L"KeQueryUnbiasedInterruptTime");
    if (clock->QueryTime == NULL)
    {
        clock->QueryTime = ClockQueryInterruptTime;
    }
    clock->SetCoalescableTimer = (CLOCK_SET_COALESCABLE_TIMER)PlatformFindRoutine(L"KeSetCoalescableTimer");
}

_Use_decl_annotations_
VOID ClockSetTimer(const CLOCK *clock, PKTIMER timer, UINT64 dueTime, UINT32 toleranceMs, PKDPC dpc)
{
    UINT64 now = ClockNow(clock);
    LARGE_INTEGER wait;

    // A negative time is relative to now. A wait of 0 would be a time of the system clock.
    wait.QuadPart = dueTime > now ? -(LONG64)(dueTime - now) : -1;
    if (clock->SetCoalescableTimer != NULL)
    {
        clock->SetCoalescableTimer(timer, wait, 0, toleranceMs, dpc);
    }
    else
    {
        KeSetTimerEx(timer, wait, 0, dpc);
    }
}

// The clock of all deadlines, ages and idle times, and the timers that fire by it.
//
// The clock is the unbiased interrupt time: it stands still while the system sleeps.
// So a long sleep makes no connection idle, and lets no packet time out before its client can run.
//
// A packet reads the clock, which costs one call of a routine that reads memory shared by all processors.
// The driver keeps no bias of its own: Modern Standby notifies nobody, and a packet may come before a notification.
//
// Both routines are found by name. A system that lacks the first one gets the interrupt time, which counts sleep.

#pragma once

#include "platform.h"

EXTERN_C_START

/// A time that never comes.
#define CLOCK_NEVER ((UINT64)MAXLONG64)

typedef ULONGLONG(NTAPI *CLOCK_QUERY_TIME)(VOID);
typedef BOOLEAN(NTAPI *CLOCK_SET_COALESCABLE_TIMER)(PKTIMER timer, LARGE_INTEGER dueTime, ULONG period,
                                                    ULONG tolerableDelay, PKDPC dpc);

typedef struct _CLOCK
{
    CLOCK_QUERY_TIME QueryTime;                      ///< KeQueryUnbiasedInterruptTime, or the interrupt time
    CLOCK_SET_COALESCABLE_TIMER SetCoalescableTimer; ///< KeSetCoalescableTimer, or NULL on a system without it
} CLOCK;

/// Finds the system's routines.
_IRQL_requires_(PASSIVE_LEVEL)
VOID ClockInitialize(_Out_ CLOCK *clock);

/// The time in units of 100 ns. Any IRQL.
FORCEINLINE UINT64 ClockNow(_In_ const CLOCK *clock)
{
    return clock->QueryTime();
}

/// The time in seconds. Differences stay right when the counter wraps around. Any IRQL.
FORCEINLINE UINT32 ClockSeconds(_In_ const CLOCK *clock)
{
    return (UINT32)(ClockNow(clock) / PLATFORM_TICKS_PER_SECOND);
}

/// Sets a timer that fires once, between `dueTime` and `toleranceMs` later. A time that has passed is now.
/// Without coalescable timers it fires at `dueTime`. No lock is held: under Wine the call waits for the timer's
/// routine.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ClockSetTimer(_In_ const CLOCK *clock, _Inout_ PKTIMER timer, _In_ UINT64 dueTime, _In_ UINT32 toleranceMs,
                   _In_ PKDPC dpc);

EXTERN_C_END

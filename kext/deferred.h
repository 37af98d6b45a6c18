// Deferred work: a work item that runs the owner's routine, and a timer for the work that has a time.
//
// Deferred work is a set of bits. A request only sets bits, at any IRQL and however often.
// DeferredQueue queues a run when bits are set, so many requests share one run.
// A run takes each bit when it comes to that work.
// At most one run waits. It may overlap with a run that is running.
//
// The timer runs only while there is work that has a time, and fires once.
// A thread that adds such work calls DeferredRunBy afterwards, which ends after one read if the timer fires in time.
// The timer's routine disarms the timer, sets DEFERRED_DUE and queues a run.
// The run looks for all work that has a time, does what is due, and calls DeferredRunBy for the rest.
// The work is under a lock, or counted by an interlocked operation, which orders these steps:
// a run that does not see the work disarmed the timer before, so the thread that adds the work finds it disarmed.
// test/models/deferred.pml is a model of this.

#pragma once

#include "clock.h"

EXTERN_C_START

// The kinds of deferred work, as bits of DEFERRED.Work.
#define DEFERRED_REAUTHORIZE  0x1  // make the filter engine authorize all flows again
#define DEFERRED_FAILED_HOLDS 0x2  // resolve what was pended and could not be reported
#define DEFERRED_DUE          0x4  // do the work that is due by the clock; the timer sets this bit
#define DEFERRED_QUEUED       0x8  // set by DeferredQueue alone: a run waits
#define DEFERRED_SUBNETS      0x10 // read the addresses of this machine
#define DEFERRED_EVICT        0x20 // bring the connection table down to its limit

// DEFERRED.Alarm while the timer is not armed.
#define DEFERRED_DISARMED MAXLONG64

// The largest tolerance of a time, in milliseconds. It fits into the low bits of an alarm.
#define DEFERRED_TOLERANCE_BITS 16
#define DEFERRED_MAX_TOLERANCE  ((1u << DEFERRED_TOLERANCE_BITS) - 1)

/// Takes bits and does their work. Several runs may overlap. PASSIVE_LEVEL.
typedef VOID (*DEFERRED_ROUTINE)(_Inout_ VOID *context);

typedef struct _DEFERRED
{
    DEFERRED_ROUTINE Routine;
    VOID *Context;
    const CLOCK *Clock;
    volatile LONG64 Alarm; ///< the millisecond by which the timer fires, and its tolerance; or DEFERRED_DISARMED
    KTIMER Timer;
    KDPC Dpc;
    PIO_WORKITEM WorkItem;
    volatile LONG Work;        ///< DEFERRED_ bits
    volatile LONG Outstanding; ///< runs that wait or run, calls that set the timer, and one for the owner
    KEVENT Idle;
} DEFERRED;

/// Allocates the work item. The timer is not armed. Fails with STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
DeferredInitialize(_Out_ DEFERRED *deferred, _In_ const CLOCK *clock, _In_ PDEVICE_OBJECT device,
                   _In_ DEFERRED_ROUTINE routine, _In_ VOID *context);

/// Stops the timer and waits for the runs. Later requests are not carried out.
_IRQL_requires_(PASSIVE_LEVEL)
VOID DeferredUninitialize(_Inout_ DEFERRED *deferred);

/// Sets DEFERRED_ bits; DeferredQueue or the timer has them carried out. Any IRQL.
VOID DeferredRequest(_Inout_ DEFERRED *deferred, _In_ LONG work);

/// Clears a bit for the run that does this work. FALSE: it was not set. Any IRQL.
BOOLEAN DeferredTake(_Inout_ DEFERRED *deferred, _In_ LONG work);

/// Queues a run if bits are set and no run waits.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredQueue(_Inout_ DEFERRED *deferred);

/// Stops the timer. Work that has a time waits until the timer is armed again.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredDisarm(_Inout_ DEFERRED *deferred);

/// Brings the timer forward to `alarm`, unless it fires by then.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredArm(_Inout_ DEFERRED *deferred, _In_ LONG64 alarm);

/// Has a run with DEFERRED_DUE start between `dueTime` (ClockNow) and `toleranceMs` later, or before.
/// CLOCK_NEVER asks for no run. No lock is held.
_IRQL_requires_max_(DISPATCH_LEVEL)
FORCEINLINE VOID DeferredRunBy(_Inout_ DEFERRED *deferred, _In_ UINT64 dueTime, _In_ UINT32 toleranceMs)
{
    // Rounded up, so that the timer does not fire early.
    UINT64 dueMs = (dueTime + PLATFORM_TICKS_PER_MILLISECOND - 1) / PLATFORM_TICKS_PER_MILLISECOND;
    LONG64 alarm = (LONG64)((dueMs + toleranceMs) << DEFERRED_TOLERANCE_BITS | toleranceMs);

    if (dueTime != CLOCK_NEVER && alarm < ReadNoFence64(&deferred->Alarm))
    {
        DeferredArm(deferred, alarm);
    }
}

/// DeferredRunBy with the time `waitMs` from now.
_IRQL_requires_max_(DISPATCH_LEVEL)
FORCEINLINE VOID DeferredRunAfter(_Inout_ DEFERRED *deferred, _In_ UINT32 waitMs, _In_ UINT32 toleranceMs)
{
    DeferredRunBy(deferred, ClockNow(deferred->Clock) + waitMs * PLATFORM_TICKS_PER_MILLISECOND, toleranceMs);
}

EXTERN_C_END

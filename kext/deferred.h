// Deferred work: a periodic timer, a timer for one retry, and a work item that runs the owner's routine.
//
// Deferred work is a set of bits. A request only sets bits, at any IRQL and however often.
// DeferredQueue queues a run when bits are set, so many requests share one run.
// A run takes each bit when it comes to that work.
// At most one run waits. It may overlap with a run that is running.

#pragma once

#include "platform.h"

EXTERN_C_START

// The kinds of deferred work, as bits of DEFERRED.Work.
#define DEFERRED_REAUTHORIZE  0x1 // make the filter engine authorize all flows again
#define DEFERRED_FAILED_HOLDS 0x2 // resolve what was pended and could not be reported
#define DEFERRED_DUE          0x4 // do the work that is due by the clock; each timer sets this bit
#define DEFERRED_QUEUED       0x8 // set by DeferredQueue alone: a run waits

/// Takes bits and does their work. Several runs may overlap. PASSIVE_LEVEL.
typedef VOID (*DEFERRED_ROUTINE)(_Inout_ VOID *context);

typedef struct _DEFERRED
{
    DEFERRED_ROUTINE Routine;
    VOID *Context;
    KTIMER Timer;
    KTIMER RetryTimer;
    KDPC Dpc; ///< of both timers
    PIO_WORKITEM WorkItem;
    volatile LONG Work;        ///< DEFERRED_ bits
    volatile LONG Outstanding; ///< runs that wait or run, and one for the owner
    KEVENT Idle;
} DEFERRED;

/// Allocates the work item. No timer runs yet. Fails with STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
DeferredInitialize(_Out_ DEFERRED *deferred, _In_ PDEVICE_OBJECT device, _In_ DEFERRED_ROUTINE routine,
                   _In_ VOID *context);

/// Stops the timers and waits for the runs. Later requests are not carried out.
_IRQL_requires_(PASSIVE_LEVEL)
VOID DeferredUninitialize(_Inout_ DEFERRED *deferred);

/// Sets DEFERRED_ bits; DeferredQueue or DeferredRetry has them carried out. Any IRQL.
VOID DeferredRequest(_Inout_ DEFERRED *deferred, _In_ LONG work);

/// Clears a bit for the run that does this work. FALSE: it was not set. Any IRQL.
BOOLEAN DeferredTake(_Inout_ DEFERRED *deferred, _In_ LONG work);

/// Queues a run if bits are set and no run waits.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredQueue(_Inout_ DEFERRED *deferred);

/// Queues a run `milliseconds` from now.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredRetry(_Inout_ DEFERRED *deferred, _In_ UINT32 milliseconds);

/// Queues a run each `periodMs` milliseconds from now on. A running timer starts anew.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredStart(_Inout_ DEFERRED *deferred, _In_ UINT32 periodMs);

/// Stops the periodic timer. The timer of a retry runs on.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredStop(_Inout_ DEFERRED *deferred);

EXTERN_C_END

// Deferred work: a periodic timer, a timer for one retry, and a work item that runs the owner's routine.
//
// What has to be done is a set of bits. A request only sets bits, at any IRQL and however often. DeferredQueue queues a
// run when bits are set, so that many requests share one run. A run takes each bit when it comes to that work. At most
// one run waits; it may overlap with one that is running.

#pragma once

#include "platform.h"

EXTERN_C_START

// What a run may be asked for. The bits are one word, DEFERRED.Work.
#define DEFERRED_REAUTHORIZE  0x1 // make the filter engine authorize all flows again
#define DEFERRED_FAILED_HOLDS 0x2 // resolve what was pended and could not be reported
#define DEFERRED_DUE          0x4 // what is due by the clock; each timer asks for it
#define DEFERRED_QUEUED       0x8 // set by DeferredQueue alone: a run waits

/// Takes bits and does what they ask for. Several runs may overlap. PASSIVE_LEVEL.
typedef VOID (*DEFERRED_ROUTINE)(_Inout_ VOID *context);

typedef struct _DEFERRED
{
    DEFERRED_ROUTINE Routine;
    VOID *Context;
    KTIMER Timer;
    KTIMER RetryTimer;
    KDPC Dpc; ///< of both
    PIO_WORKITEM WorkItem;
    volatile LONG Work;        ///< DEFERRED_ bits
    volatile LONG Outstanding; ///< runs that wait or run, and one for the owner
    KEVENT Idle;
} DEFERRED;

/// Allocates the work item; no timer runs yet. STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
DeferredInitialize(_Out_ DEFERRED *deferred, _In_ PDEVICE_OBJECT device, _In_ DEFERRED_ROUTINE routine,
                   _In_ VOID *context);

/// Stops the timers and waits for the runs. What is asked for from now on is not done.
_IRQL_requires_(PASSIVE_LEVEL)
VOID DeferredUninitialize(_Inout_ DEFERRED *deferred);

/// Sets DEFERRED_ bits; DeferredQueue or DeferredRetry has them carried out. Any IRQL.
VOID DeferredRequest(_Inout_ DEFERRED *deferred, _In_ LONG work);

/// Clears a bit for the run that does this work. FALSE: it was not set. Any IRQL.
BOOLEAN DeferredTake(_Inout_ DEFERRED *deferred, _In_ LONG work);

/// Queues a run if something was asked for, unless one waits already.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredQueue(_Inout_ DEFERRED *deferred);

/// Queues a run one second from now.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredRetry(_Inout_ DEFERRED *deferred);

/// Queues a run each `periodMs` milliseconds from now on. A timer that runs starts anew.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredStart(_Inout_ DEFERRED *deferred, _In_ UINT32 periodMs);

/// Stops the periodic timer, not that of a retry.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DeferredStop(_Inout_ DEFERRED *deferred);

EXTERN_C_END

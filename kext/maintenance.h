// What is to be done from time to time, or soon but not here: a periodic timer whose DPC queues one work item, which
// applies time-outs, to fragments too, resolves what a classify had to leave behind, carries out requested
// reauthorizations and removes old connections.
//
// The timer runs while a client is attached. A second one fires once, where something is to be tried again, client or
// not. At most one run of the work item waits; it may overlap with one that is running, and everything it does allows
// that.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

typedef struct _MAINTENANCE
{
    KTIMER Timer;
    KTIMER RetryTimer;
    KDPC Dpc; ///< of both
    PIO_WORKITEM WorkItem;
    volatile LONG Queued;
    volatile LONG Outstanding; ///< runs of the work item, and one for the owner
    volatile LONG64 NextClean; ///< KeQueryInterruptTime
    KEVENT Idle;
} MAINTENANCE;

/// Allocates the work item; the timer does not run yet. STATUS_INSUFFICIENT_RESOURCES, after which
/// MaintenanceUninitialize is allowed and nothing else.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
MaintenanceInitialize(_Inout_ struct _DRIVER_CONTEXT *context);

/// Stops the timers and waits for the work item.
_IRQL_requires_(PASSIVE_LEVEL)
VOID MaintenanceUninitialize(_Inout_ struct _DRIVER_CONTEXT *context);

/// Starts the timer, or gives it the period that the client's options now ask for.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MaintenanceStart(_Inout_ struct _DRIVER_CONTEXT *context);

/// Queues a run of the work item a second from now.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MaintenanceRetry(_Inout_ struct _DRIVER_CONTEXT *context);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MaintenanceStop(_Inout_ struct _DRIVER_CONTEXT *context);

/// Removes old connections, and what goes with them.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MaintenanceClean(_Inout_ struct _DRIVER_CONTEXT *context);

/// Queues a run of the work item, unless one waits already.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MaintenanceQueue(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

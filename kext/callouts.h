// Our part of the filter engine: one dynamic session, one sublayer, and one callout with one filter for each layer.
//
// The callouts are known to the filter engine's kernel part as long as the driver is loaded. The session with all the
// rest lives in the base filtering engine, a service in user mode that may start after the driver, stop, and start
// again: then the session is gone, with what it held. So it is opened when the service says that it runs, and closed
// when it says that it stops. While it does not run nothing can be filtered, whatever the fail policy: there is nobody
// to hold a filter that blocks.
//
// While the session is open only the filters of the resettable layers change: they are swapped in one transaction,
// which makes the filter engine authorize every flow of those layers again. One thread at a time opens, closes and
// swaps; whoever comes meanwhile makes it go round once more, so a round begins after every request.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

#define CALLOUT_COUNT 18

typedef struct _CALLOUTS
{
    HANDLE Engine;                    ///< the session, or NULL. Of the thread that renews the filters
    HANDLE Subscription;              ///< to the service's changes, or NULL
    volatile LONG ServiceState;       ///< FWPM_SERVICE_STATE; FWPM_SERVICE_STATE_MAX: not told yet
    volatile LONG SessionLost;        ///< the service has stopped, or will: what is open is to be closed
    UINT32 RegisteredCount;           ///< callouts known to the filter engine, from the start of the table
    UINT32 CalloutIds[CALLOUT_COUNT]; ///< run-time ids
    UINT64 FilterIds[CALLOUT_COUNT];
    volatile LONG RenewRequests; ///< above 0: some thread renews the filters
} CALLOUTS;

/// Registers the callouts. A failure leaves nothing registered.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS CalloutsRegister(_Inout_ struct _DRIVER_CONTEXT *context);

/// Removes all that is left; when it returns no classify runs. After CalloutsStop, and with no reauthorization to come.
_IRQL_requires_(PASSIVE_LEVEL)
VOID CalloutsUnregister(_Inout_ struct _DRIVER_CONTEXT *context);

/// Adds the filters, and classifies come from now on: at once if the filter engine's service runs, else as soon as it
/// does. The context is all set up but for this. A service that stops is no failure. After a failure its changes are
/// not followed.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS CalloutsStart(_Inout_ struct _DRIVER_CONTEXT *context);

/// When it returns the service's changes are not followed any more.
_IRQL_requires_(PASSIVE_LEVEL)
VOID CalloutsStop(_Inout_ struct _DRIVER_CONTEXT *context);

/// Makes the filter engine authorize all flows again: at once, or after the round of another thread. While its service
/// does not run there is nothing to do. A failure is logged, and tried again by the maintenance work item.
_IRQL_requires_(PASSIVE_LEVEL)
VOID CalloutsReauthorize(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

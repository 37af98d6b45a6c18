// The session with the filter engine: one sublayer, and one callout with one filter for each layer.
//
// The session lives in the base filtering engine, a service in user mode that may start after the driver, stop, and
// start again. When it stops, the session and its objects are gone. So the session is opened when the service says that
// it runs, and closed when it says that it stops. While it does not run nothing is filtered, whatever the fail policy:
// no filter exists that could block.
//
// While the session is open only the filters of the resettable layers change. They are swapped in one transaction, and
// the filter engine then authorizes every flow of those layers again. One thread at a time opens, closes and swaps. A
// request that comes meanwhile makes that thread go round once more, so a round begins after every request.

#pragma once

#include "deferred.h"
#include "layers.h"
#include "log.h"

EXTERN_C_START

typedef struct _ENGINE
{
    PDEVICE_OBJECT Device;
    LOG *Log;
    DEFERRED *Deferred;
    UINT64 RawContext;             ///< of every filter
    HANDLE Session;                ///< or NULL; of the thread that renews the filters
    HANDLE Subscription;           ///< to the service's changes
    volatile LONG ServiceState;    ///< FWPM_SERVICE_STATE; FWPM_SERVICE_STATE_MAX: not known yet
    volatile LONG SessionLost;     ///< the service has stopped or stops: the open session is to be closed
    volatile LONG RenewRequests;   ///< above 0: a thread renews the filters
    UINT64 FilterIds[LAYER_COUNT]; ///< by row of Layers
} ENGINE;

/// `rawContext` is what each classify finds in its filter's context. Any IRQL.
VOID EngineInitialize(_Out_ ENGINE *engine, _In_ PDEVICE_OBJECT device, _Inout_ LOG *log, _Inout_ DEFERRED *deferred,
                      _In_ UINT64 rawContext);

/// Closes the session: no classify begins from now on. After EngineStop, and with no reauthorization to come.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineUninitialize(_Inout_ ENGINE *engine);

/// Follows the service's changes and adds the filters, now or as soon as the service runs: classifies begin. The
/// callouts are registered. A service that stops meanwhile is no failure. A failure stops what was started.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS EngineStart(_Inout_ ENGINE *engine);

/// Follows the service's changes no longer.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineStop(_Inout_ ENGINE *engine);

/// Makes the filter engine authorize all flows again: at once, or after the round of another thread. Does nothing while
/// the service does not run. A failure is logged, and a deferred run tries again.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineReauthorize(_Inout_ ENGINE *engine);

EXTERN_C_END

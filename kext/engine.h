// The session with the filter engine: one sublayer, and one callout with one filter for each layer.
//
// The session lives in the base filtering engine, a service in user mode.
// The service may start after the driver, stop, and start again. A stop deletes the session and its objects.
// The driver opens the session when the service reports that it runs, and closes it when the service reports a stop.
// Nothing is filtered while the service does not run, whatever the fail policy: no filter exists that could block.
//
// While the session is open, only the filters of the resettable layers change. One transaction swaps them.
// After a swap the filter engine authorizes every flow of the swapped layers again.
// One thread at a time opens the session, closes it, or swaps filters.
// A request during a round makes the same thread go round once more, so a round begins after every request.

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
    UINT64 RawContext;             ///< context of every filter
    HANDLE Session;                ///< NULL: closed; used only by the thread that renews the filters
    HANDLE Subscription;           ///< subscription to the service's changes
    volatile LONG ServiceState;    ///< FWPM_SERVICE_STATE; FWPM_SERVICE_STATE_MAX: not known yet
    volatile LONG SessionLost;     ///< the service has stopped or stops: the open session must be closed
    volatile LONG RenewRequests;   ///< above 0: a thread renews the filters
    UINT64 FilterIds[LAYER_COUNT]; ///< indexed by row of Layers
} ENGINE;

/// `rawContext` is what each classify finds in its filter's context. Any IRQL.
VOID EngineInitialize(_Out_ ENGINE *engine, _In_ PDEVICE_OBJECT device, _Inout_ LOG *log, _Inout_ DEFERRED *deferred,
                      _In_ UINT64 rawContext);

/// Closes the session, so no classify begins. Call after EngineStop, when no reauthorization can follow.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineUninitialize(_Inout_ ENGINE *engine);

/// Follows the service's changes, and adds the filters now or as soon as the service runs. Then classifies begin.
/// The caller has registered the callouts. A service that stops during the call is no failure.
/// A failure stops everything that the call started.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS EngineStart(_Inout_ ENGINE *engine);

/// Stops following the service's changes.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineStop(_Inout_ ENGINE *engine);

/// Makes the filter engine authorize all flows again: at once, or after the round of another thread.
/// Does nothing while the service does not run. A failure is logged, and a deferred run tries again.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineReauthorize(_Inout_ ENGINE *engine);

EXTERN_C_END

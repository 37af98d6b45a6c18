// The session with the filter engine: one sublayer, and one callout with one filter for each layer.
//
// The session lives in the base filtering engine, a service in user mode.
// The service may start late, stop, be busy with another product's transaction, refuse, or lose the session.
// None of that is a failure of the driver: a round tries again until the engine has the filters that the owner wants.
// Only a round and EngineUninitialize call Fwpm* functions, which may wait. Rounds run in a work item of their own.
// So no request of a client and no deadline ever waits behind the filter engine.
//
// The session is open only while filters are wanted, so a computer without a client has nothing of the driver in it.
// One transaction adds, removes or swaps filters, so the engine has all of them or none.
// A swap of the resettable filters makes the filter engine authorize every flow of their layers again.

#pragma once

#include "deferred.h"
#include "layers.h"
#include "log.h"
#include "statistics.h"
#include "system_log.h"

EXTERN_C_START

/// Which filters the engine has, or the owner wants.
typedef enum _ENGINE_FILTERS
{
    EngineFiltersNone,
    EngineFiltersPermit, ///< a filter whose callout is not registered permits
    EngineFiltersBlock   ///< a terminating filter whose callout is not registered blocks
} ENGINE_FILTERS;

/// An English sentence. `Length` does not count the terminator.
typedef struct _ENGINE_TEXT
{
    const CHAR *Characters;
    UINT32 Length;
} ENGINE_TEXT;

/// The part of the driver that the engine serves. Each function gets Context.
typedef struct _ENGINE_OWNER
{
    VOID *Context;

    /// Returns which filters the owner wants now. PASSIVE_LEVEL.
    ENGINE_FILTERS (*Wanted)(_In_ VOID *context);

    /// Registers the deciding callouts, because filters for them follow. PASSIVE_LEVEL.
    /// A failure counts as one of the engine.
    NTSTATUS (*Register)(_In_ VOID *context);

    /// Unregisters the deciding callouts, which have no filters. FALSE: some are still in use. PASSIVE_LEVEL.
    BOOLEAN (*Unregister)(_In_ VOID *context);

    /// A round has ended in `state`: EngineFiltering means that all filters are committed. PASSIVE_LEVEL.
    VOID (*Settled)(_In_ VOID *context, _In_ ENGINE_STATE state);

    /// Filters are gone that nobody here removed, or soon will be. The next round adds them anew. PASSIVE_LEVEL.
    VOID (*Lost)(_In_ VOID *context);
} ENGINE_OWNER;

typedef struct _ENGINE
{
    PDEVICE_OBJECT Device;
    LOG *Log;
    SYSTEM_LOG *SystemLog;
    STATISTICS *Statistics;
    ENGINE_OWNER Owner;
    UINT64 Cookie; ///< a filter's context is this value exclusive-or its layer's row
    DEFERRED Deferred;
    volatile LONG Rounds;       ///< above 0: a round runs; a request meanwhile makes it go round once more
    volatile LONG State;        ///< ENGINE_STATE
    volatile LONG ServiceState; ///< FWPM_SERVICE_STATE; FWPM_SERVICE_STATE_MAX: not known yet
    volatile LONG SessionLost;  ///< the open session has lost its filters
    volatile LONG Closing;      ///< the filters that disappear now are closed with their session

    // Rounds and EngineUninitialize use the members below, one at a time.
    HANDLE Subscription;
    HANDLE Session;
    BOOLEAN HasObjects; ///< the session has the provider, the sublayer and the callouts
    BOOLEAN Reported;   ///< the system's event log has an entry of a trouble that lasts
    ENGINE_FILTERS Filters;
    // A notification reads these while a round writes them. Indexed by row of Layers.
    volatile LONG64 FilterIds[LAYER_COUNT];
    volatile LONG64 RemovedIds[LAYER_COUNT]; ///< the filters that the open transaction removes
} ENGINE;

/// Starts with no session. `cookie` has 8 low bits of 0. Fails with STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
EngineInitialize(_Out_ ENGINE *engine, _In_ const CLOCK *clock, _In_ PDEVICE_OBJECT device, _Inout_ LOG *log,
                 _Inout_ SYSTEM_LOG *systemLog, _Inout_ STATISTICS *statistics, _In_ UINT64 cookie,
                 _In_ const ENGINE_OWNER *owner);

/// Removes the filters and closes the session: no classify begins any more.
/// Waits without limit for another product's transaction, and reports that once a second.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineUninitialize(_Inout_ ENGINE *engine);

/// Has a round bring the engine's filters to what the owner wants. Returns at once.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EngineRenew(_Inout_ ENGINE *engine);

/// Requests that all flows are authorized again. EngineRenew or a later round carries it out. Any IRQL.
VOID EngineRequestReauthorization(_Inout_ ENGINE *engine);

/// Has a round carry out requested reauthorizations, if there are any. Returns at once.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EngineReauthorize(_Inout_ ENGINE *engine);

/// The filter engine has deleted this filter of the driver at this row of Layers.
_IRQL_requires_(PASSIVE_LEVEL)
VOID EngineFilterDeleted(_Inout_ ENGINE *engine, _In_ UINT32 row, _In_ UINT64 filterId);

/// Returns the state after the last round. Any IRQL.
ENGINE_STATE EngineState(_In_ const ENGINE *engine);

/// Says in one English sentence what a state means. Any IRQL.
const ENGINE_TEXT *EngineStateText(_In_ ENGINE_STATE state);

/// TRUE: the session has lost its filters, and no round has seen that yet. Any IRQL.
BOOLEAN EngineIsLost(_In_ const ENGINE *engine);

EXTERN_C_END

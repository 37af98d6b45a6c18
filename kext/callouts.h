// Our part of the filter engine: one dynamic session, one sublayer, and one callout with one filter for each layer.
//
// Everything is set up and torn down at PASSIVE_LEVEL by the loading and unloading thread. In between only the filters
// of the resettable layers change: CalloutsReauthorize swaps them in one transaction, which makes the filter engine
// authorize every flow of those layers again. One thread at a time swaps; whoever comes meanwhile makes it go round
// once more, so a swap begins after every request.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

#define CALLOUT_COUNT 18

typedef struct _CALLOUTS
{
    HANDLE Engine;
    UINT32 RegisteredCount;           ///< callouts known to the filter engine, from the start of the table
    UINT32 CalloutIds[CALLOUT_COUNT]; ///< run-time ids
    UINT64 FilterIds[CALLOUT_COUNT];
    volatile LONG ReauthorizeRequests; ///< above 0: some thread is swapping
} CALLOUTS;

/// Registers the callouts and adds their filters; classifies come from now on. The context is all set up but for this.
/// On failure nothing is left behind.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS CalloutsRegister(_Inout_ struct _DRIVER_CONTEXT *context);

/// Removes all that; when it returns no classify runs.
_IRQL_requires_(PASSIVE_LEVEL)
VOID CalloutsUnregister(_Inout_ struct _DRIVER_CONTEXT *context);

/// Makes the filter engine authorize all flows again. A failure is logged, and tried again by the maintenance work item
/// while a client is attached.
_IRQL_requires_(PASSIVE_LEVEL)
VOID CalloutsReauthorize(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

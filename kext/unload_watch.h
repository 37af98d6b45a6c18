// Reports once a second what an unload waits for. Only an unload may wait without limit.
//
// The report goes to the kernel debugger, because an unload has no client that could read the log.

#pragma once

#include "platform.h"

EXTERN_C_START

typedef struct _UNLOAD_WATCH
{
    KTIMER Timer;
    KDPC Dpc;
    const char *volatile Step; ///< what the unload does now
    volatile LONG Seconds;     ///< since the step began
} UNLOAD_WATCH;

_IRQL_requires_(PASSIVE_LEVEL)
VOID UnloadWatchStart(_Out_ UNLOAD_WATCH *watch);

/// `step` names what the unload waits for from now on. It stays valid until UnloadWatchStop.
_IRQL_requires_(PASSIVE_LEVEL)
VOID UnloadWatchStep(_Inout_ UNLOAD_WATCH *watch, _In_z_ const char *step);

/// On return no report runs, and none follows.
_IRQL_requires_(PASSIVE_LEVEL)
VOID UnloadWatchStop(_Inout_ UNLOAD_WATCH *watch);

EXTERN_C_END

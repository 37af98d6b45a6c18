// Sleep and resume. Programs stop when the system leaves its working state (S0).
// Connections do not outlive a long sleep, and no verdict can come during it.
// So the fail policy resolves every held packet when the system leaves S0.
// Back in S0, every flow is authorized again. Deadlines go on, because their clock stood still.
// Modern Standby stays in S0, so nothing notifies of it, and nothing has to be done.
//
// The system notifies before the transition, through \Callback\PowerState, at IRQL <= DISPATCH_LEVEL.
// So the work of a notification never waits.
// Without that callback object (Wine has none) the driver works as if the computer never slept.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// Follows the system's power changes. The rest of the context is set up before.
PLATFORM_INIT
_IRQL_requires_(PASSIVE_LEVEL)
VOID PowerInitialize(_Inout_ struct _DRIVER_CONTEXT *context);

/// When this returns no notification runs, and none follows.
_IRQL_requires_(PASSIVE_LEVEL)
VOID PowerUninitialize(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

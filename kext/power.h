// Sleep and resume. Programs stop when the system leaves its working state (S0), and connections do not outlive a long
// sleep: what is held then is resolved by the fail policy, so that nothing waits through the sleep for a verdict that
// nobody can give. Back in S0, every flow is authorized again, and the maintenance timer starts anew.
//
// The system tells of it before the transition, through \Callback\PowerState, at IRQL <= DISPATCH_LEVEL: nothing here
// waits. Without that callback object (Wine has none) the driver works as if the computer never slept.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

typedef struct _POWER
{
    PCALLBACK_OBJECT Callback; ///< or NULL
    PVOID Registration;        ///< or NULL
} POWER;

/// The context is all set up but for this.
PLATFORM_INIT
_IRQL_requires_(PASSIVE_LEVEL)
VOID PowerInitialize(_Inout_ struct _DRIVER_CONTEXT *context);

/// When this returns no notification runs, and none follows.
_IRQL_requires_(PASSIVE_LEVEL)
VOID PowerUninitialize(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

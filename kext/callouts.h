// The callouts: the one classify function of all layers, and the table of the handlers that it calls.
//
// A handler of a deciding layer decides while a client is attached. The fail policy decides otherwise.
// An inspection callout lets everything continue.
// The callouts that inspect are registered as long as the driver is loaded.
// Those that decide are registered only while the filter engine has filters for them, or is about to get some.
// While a deciding callout is registered, the network adapters' offloads of its packets may be off.

#pragma once

#include "layers.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// Registers the callouts of filters with this action that are not registered.
/// A failure leaves some of them registered.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS CalloutsRegister(_Inout_ struct _DRIVER_CONTEXT *context, _In_ FWP_ACTION_TYPE action);

/// Tries once to unregister each callout of filters with this action. These filters are gone before.
/// TRUE: no such callout is registered, and none runs. FALSE: the filter engine still uses one.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
BOOLEAN CalloutsUnregister(_Inout_ struct _DRIVER_CONTEXT *context, _In_ FWP_ACTION_TYPE action);

EXTERN_C_END

// The callouts: the one classify function of all layers, and the table of the handlers that it calls.
//
// A handler of a deciding layer decides while a client is attached. The fail policy decides otherwise.
// An inspection callout lets everything continue.
// The callouts are registered with the filter engine as long as the driver is loaded, with or without their filters.

#pragma once

#include "layers.h"

EXTERN_C_START

/// Registers a callout for each layer. `ids` gets the callouts' run-time ids, by row of Layers.
/// A failure leaves no callout registered.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
CalloutsRegister(_In_ PDEVICE_OBJECT device, _Out_writes_all_(LAYER_COUNT) UINT32 *ids);

/// Unregisters the callouts. Their filters are gone before. No classify runs when this function returns.
_IRQL_requires_(PASSIVE_LEVEL)
VOID CalloutsUnregister(_In_reads_(LAYER_COUNT) const UINT32 *ids);

EXTERN_C_END

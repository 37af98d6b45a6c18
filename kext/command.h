// Commands of the client: parses what a write holds and carries it out, one whole command after the other.
//
// The bytes may change under our eyes (they are the client's own pages): each command is copied once, and only the copy
// is looked at.

#pragma once

#include "protocol.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// Carries out the commands of one write, in order, up to the first that is not valid. `consumed`: bytes of the whole,
/// valid commands that were carried out. STATUS_INVALID_PARAMETER: an empty write, or an unknown, truncated or invalid
/// command after those, or too many; an error line in the log says why.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS
CommandExecute(_Inout_ struct _DRIVER_CONTEXT *context, _In_reads_bytes_(length) const UINT8 *bytes, _In_ SIZE_T length,
               _Out_ SIZE_T *consumed);

EXTERN_C_END

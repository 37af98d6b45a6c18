// Commands of the client: parses the bytes of a write and carries them out, one whole command after the other.
//
// The bytes of a write are the client's own pages, so the client may change them during the write.
// So each command is copied once, and only the copy is read.

#pragma once

#include "protocol.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// Carries out the commands of one write, in order, up to the first invalid one.
/// `consumed` gets the length in bytes of the commands that were carried out.
/// STATUS_INVALID_PARAMETER: the write is empty or has too many commands.
/// STATUS_INVALID_PARAMETER also: the next command is unknown, truncated or invalid. The log has an error line why.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS
CommandExecute(_Inout_ struct _DRIVER_CONTEXT *context, _In_reads_bytes_(length) const UINT8 *bytes, _In_ SIZE_T length,
               _Out_ SIZE_T *consumed);

/// Carries out the Update command that `bytes` are. `known` gets whether the connection is known and live.
/// STATUS_INVALID_PARAMETER: the bytes are not one whole Update command. The log has an error line why.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS CommandUpdateConnection(_Inout_ struct _DRIVER_CONTEXT *context, _In_reads_bytes_(length) const UINT8 *bytes,
                                 _In_ SIZE_T length, _Out_ BOOLEAN *known);

EXTERN_C_END

// The reply of GetConnections: the connections of the table, a part at a time.
//
// The client passes the cursor of the last reply, so the driver keeps nothing between two requests.
// No lock is held while an entry is encoded.

#pragma once

#include "connection_table.h"

EXTERN_C_START

/// Encodes the connections from the cursor of `request` on, as many as `reply` has room for.
/// `request` and `reply` may be the same memory. `written` gets the length of the reply in bytes.
/// STATUS_INVALID_PARAMETER: the request is cut off. STATUS_INSUFFICIENT_RESOURCES: there is no memory.
/// STATUS_BUFFER_TOO_SMALL: there is no room for the next connections.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS SnapshotConnections(_Inout_ CONNECTION_TABLE *table, _In_reads_bytes_(requestLength) const UINT8 *request,
                             _In_ SIZE_T requestLength, _Out_writes_bytes_to_(replyLength, *written) UINT8 *reply,
                             _In_ SIZE_T replyLength, _Out_ SIZE_T *written);

EXTERN_C_END

// When processes started. Windows reuses the id of a process; id and start together are never reused.

#pragma once

#include "platform.h"

EXTERN_C_START

/// Returns when the running process with this id started, in units of 100 ns since 1601, UTC. 0: unknown.
/// Windows finds a process only at low IRQLs. Above PASSIVE_LEVEL the start is unknown.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ProcessStartTime(_In_ UINT64 processId);

EXTERN_C_END

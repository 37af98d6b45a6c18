// Live TCP flows: a permanent block ends them.

#pragma once

#include "connection_key.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// Aborts the flow of a live TCP connection that has the verdict PermanentBlock, so that both ends see a reset.
/// Does nothing for any other connection. A flow that has ended meanwhile is unknown to the filter engine, which is
/// harmless. The packets of a connection whose flow cannot be aborted are blocked by its verdict.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID FlowAbortBlocked(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const CONNECTION_KEY *key);

EXTERN_C_END

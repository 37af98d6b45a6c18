// The ALE layers: connections are authorized, with their process; sockets are bound, closed and released.
//
// The handlers run on several processors at once.
// The handlers share the connection table, the packet cache and the event queue, each of which has its own locks.
// No lock is held across a call into the filter engine.

#pragma once

#include "classify.h"

EXTERN_C_START

/// ALE_AUTH_CONNECT and ALE_AUTH_RECV_ACCEPT: decides on first authorizations and on reauthorizations.
/// Packets that this driver injected come here too.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyAuthorize(_Inout_ CLASSIFY *classify);

/// ALE_FLOW_ESTABLISHED: one connection came up.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyEstablished(_Inout_ CLASSIFY *classify);

/// ALE_ENDPOINT_CLOSURE: one connection ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyClosure(_Inout_ CLASSIFY *classify);

/// ALE_RESOURCE_ASSIGNMENT, whether a client is attached or not: logs the assignment.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleLogAssignment(_Inout_ CLASSIFY *classify);

/// ALE_RESOURCE_RELEASE: the live connections of one local port ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyRelease(_Inout_ CLASSIFY *classify);

EXTERN_C_END

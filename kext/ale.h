// The ALE layers: connections are authorized, with their process; sockets are bound, closed and released.
//
// The handlers run at once on any processor. They share the connection table, the packet cache and the event queue,
// each with its own locks; no lock is held across a call into the filter engine.

#pragma once

#include "classify.h"

EXTERN_C_START

/// ALE_AUTH_CONNECT and ALE_AUTH_RECV_ACCEPT: first authorizations, reauthorizations, and packets that this driver
/// injected.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyAuthorize(_Inout_ CLASSIFY *classify);

/// ALE_ENDPOINT_CLOSURE: one connection ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyClosure(_Inout_ CLASSIFY *classify);

/// ALE_RESOURCE_ASSIGNMENT, whether a client is attached or not: logs it.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleLogAssignment(_Inout_ CLASSIFY *classify);

/// ALE_RESOURCE_RELEASE: the live connections of one local port ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID AleClassifyRelease(_Inout_ CLASSIFY *classify);

EXTERN_C_END

// Which scope a connection is in, as a classify shows it.

#pragma once

#include "classify.h"
#include "connection_ports.h"

EXTERN_C_START

/// Sets the scope of a key that a classify with an interface index shows.
/// A key of the default compartment without a link-local address has SCOPE_DEFAULT, without a look at the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ScopeSet(_In_ const CLASSIFY *classify, _Inout_ CONNECTION_KEY *key);

/// Sets the scope of a live connection's key at a layer without an interface index: finds the connection.
/// `handle` is of its endpoint or its flow. 0: not known. SCOPE_NONE: there is no such connection.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ScopeSeek(_In_ const CLASSIFY *classify, _In_ UINT64 handle, _Inout_ CONNECTION_KEY *key);

/// Spares the connections of other scopes from the release of a port, whose other members are set.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ScopeSpareOthers(_In_ const CLASSIFY *classify, _Inout_ CONNECTION_RELEASE *release);

EXTERN_C_END

// The identifiers of echo requests whose authorizations were pended.
//
// The authorization that follows the completion of a pended one shows no packet, and so no identifier.
// Windows has one ALE flow for all echo requests of an endpoint to one address. The newest identifier is meant.
//
// The memory comes with the first pended echo request, and is bounded. What it forgets, the packet layer decides on.

#pragma once

#include "connection_key.h"
#include "recent_set.h"
#include "siphash.h"

EXTERN_C_START

typedef struct _PENDED_ECHOES
{
    SIPHASH_KEY HashKey;
    RECENT_SET Identifiers;
} PENDED_ECHOES;

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PendedEchoesInitialize(_Out_ PENDED_ECHOES *echoes, _Inout_ MEMORY *memory);

/// Frees everything. Nobody else may be using the echoes.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PendedEchoesUninitialize(_Inout_ PENDED_ECHOES *echoes);

/// Notes that `endpointHandle` sends the echo request of the conversation `key`, which has its identifier.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PendedEchoesNote(_Inout_ PENDED_ECHOES *echoes, _In_ UINT64 endpointHandle, _In_ const CONNECTION_KEY *key);

/// Completes `key` with the newest identifier of the endpoint's conversations that agree in the rest of it.
/// FALSE: none is known.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN PendedEchoesFind(_Inout_ PENDED_ECHOES *echoes, _In_ UINT64 endpointHandle, _Inout_ CONNECTION_KEY *key);

EXTERN_C_END

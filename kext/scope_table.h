// The scopes of connections. A scope is a link, or none, in a compartment.
//
// Two links may have the same link-local addresses, and two compartments may have the same addresses of any kind.
// So the key of a connection has a scope: the link of a link-local address (RFC 4007), and the compartment.
// A byte stands for it. Nearly all connections have SCOPE_DEFAULT, which needs no look at the table.
//
// A scope is found without a lock. The lock is for adding one, which happens once for each link.
// When the table is full, a scope gives way that has no connection and was not used for SCOPE_KEPT_SECONDS.
// No thread and no other table still uses such a scope.
// If no scope can give way, what would need one has SCOPE_NONE: no connection is kept, and each packet is asked about.

#pragma once

#include "address.h"
#include "connection_table.h"

EXTERN_C_START

#define SCOPE_KEPT_SECONDS (CONNECTION_IDLE_SECONDS + CONNECTION_ENDED_SECONDS)

/// Where something was seen, as far as its layer shows it.
typedef struct _SCOPE_PLACE
{
    UINT32 InterfaceIndex;      ///< 0: not shown
    UINT64 InterfaceLuid;       ///< 0: not shown
    COMPARTMENT_ID Compartment; ///< UNSPECIFIED_COMPARTMENT_ID: not shown
} SCOPE_PLACE;

typedef struct _SCOPE
{
    volatile LONG64 Identity; ///< interface index above compartment; 0: it has just given way
    volatile LONG64 Luid;     ///< of the interface; 0: not known
    volatile LONG LastUse;    ///< ClockSeconds
} SCOPE;

typedef struct _SCOPE_TABLE
{
    const CLOCK *Clock;
    CONNECTION_TABLE *Connections;
    KSPIN_LOCK Lock; ///< a leaf
    volatile LONG Count;
    SCOPE Scopes[SCOPE_NONE]; ///< by scope; the first one is SCOPE_DEFAULT and stays empty
} SCOPE_TABLE;

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ScopeTableInitialize(_Out_ SCOPE_TABLE *table, _In_ const CLOCK *clock, _In_ CONNECTION_TABLE *connections);

/// TRUE if the key has a link-local address. Any IRQL.
FORCEINLINE BOOLEAN ScopeHasLink(_In_ const CONNECTION_KEY *key)
{
    return AddressIsLinkLocal(key->IpVersion, key->LocalAddress) ||
           AddressIsLinkLocal(key->IpVersion, key->RemoteAddress);
}

/// Returns the scope of an interface and a compartment, which is added if it is new.
/// Interface 0: none. An unspecified compartment is the default one. SCOPE_NONE: the table has no room.
/// `place->InterfaceLuid` is noted for ScopeTableSeek.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT8 ScopeTableFind(_Inout_ SCOPE_TABLE *table, _In_ const SCOPE_PLACE *place);

/// Returns the scope with the same compartment and no link, for the target of a redirection.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT8 ScopeTableWithoutLink(_Inout_ SCOPE_TABLE *table, _In_ UINT8 scope);

/// Finds the scope of a live connection at a layer that shows no interface index.
/// Looks among the known scopes that agree in all that `place` shows. Of several, the connection with `handle` is
/// meant. `handle` is its endpoint's or its flow's, as CONNECTION_LIFE has it. 0: not known. SCOPE_NONE: there is none.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT8 ScopeTableSeek(_Inout_ SCOPE_TABLE *table, _In_ const CONNECTION_KEY *key, _In_ const SCOPE_PLACE *place,
                     _In_ UINT64 handle);

/// Sets the bit of each scope that does not agree in what `place` shows. `hasLink`: also its interface counts.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ScopeTableSpare(_In_ const SCOPE_TABLE *table, _In_ const SCOPE_PLACE *place, _In_ BOOLEAN hasLink,
                     _Inout_updates_(4) UINT64 *spared);

/// Returns the highest scope that is known. Any IRQL.
FORCEINLINE UINT8 ScopeTableLast(_In_ const SCOPE_TABLE *table)
{
    return (UINT8)ReadAcquire(&table->Count);
}

EXTERN_C_END

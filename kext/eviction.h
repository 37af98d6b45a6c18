// Eviction: which connection leaves the table when it is nearly full, so that a new connection always finds room.
//
// Nothing is evicted below three quarters of the limit. From there on each insertion removes up to two connections
// that the table can do without, the first of these that it sees:
// - one that ended;
// - a TCP connect that was refused for good over EVICTION_REFUSED_SECONDS ago;
// - an embryonic one: at most one packet each way;
// - the least recently used one of an owner over its share; redirected and ALE-authorized TCP connections come last.
// At the limit an insertion takes the place of one connection. If it sees none of the above, it takes the least
// recently used UDP connection, then the TCP connection, of the side (outbound, inbound) that holds more.
// A connection with a question that waits is never evicted.
//
// A hand goes round all cells. It looks at a bounded number of them for each insertion, so the least recently used
// connection is the best one of those. A connection in use gets a second chance: the hand takes its mark first.
//
// No lock is held during a call. A connection that is evicted alive is ended as one that is idle is.

#pragma once

#include "connection_entry.h"

EXTERN_C_START

#define EVICTION_REFUSED_SECONDS 5u

/// TRUE if the table is so full that connections are evicted. Any IRQL.
FORCEINLINE BOOLEAN EvictionIsDue(_In_ const CONNECTION_TABLE *table)
{
    UINT64 most = (UINT64)ReadNoFence64(&table->Connections.Quota.Most);

    return ShardQuotaCount(&table->Connections.Quota) > most - most / 4;
}

/// Removes up to two connections that the table can do without, but not the one of the generation `newest`.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EvictionRelieve(_Inout_ CONNECTION_TABLE *table, _In_ UINT32 newest);

/// Removes the connection that the table can best do without. The caller gets its slot of the quota.
/// FALSE: none of those that were looked at may be evicted.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN EvictionMakeRoom(_Inout_ CONNECTION_TABLE *table);

EXTERN_C_END

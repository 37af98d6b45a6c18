// The redirect table matches an answer from a redirect's target to the redirected connection.
// An entry names the connection whose packet was sent last to the target.
//
// The table is a shard map. Its key is the redirected connection as it is at the target.
// A call for a known connection takes one shared lock.

#pragma once

#include "clock.h"
#include "connection_key.h"
#include "shard_map.h"

EXTERN_C_START

// One entry for each local port of TCP and UDP, on IPv4 and IPv6: a machine with one address never reaches this limit.
#define REDIRECT_TABLE_MAX_ENTRIES (4u * 65536u)

typedef struct _REDIRECT_TABLE
{
    const CLOCK *Clock;
    SHARD_QUOTA Quota;
    SHARD_MAP Targets;
} REDIRECT_TABLE;

/// Makes an empty table that takes up to `maxEntries`. STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS
RedirectTableInitialize(_Out_ REDIRECT_TABLE *table, _Inout_ MEMORY *memory, _In_ const CLOCK *clock,
                        _In_ UINT64 maxEntries);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RedirectTableUninitialize(_Inout_ REDIRECT_TABLE *table);

/// Notes that `original` sends to `target` now, both from this machine's view.
/// O(1). Allocates nothing for a known `target`.
/// STATUS_QUOTA_EXCEEDED, STATUS_INSUFFICIENT_RESOURCES: answers from `target` would not be found.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS RedirectTableNote(_Inout_ REDIRECT_TABLE *table, _In_ const CONNECTION_KEY *target,
                           _In_ const CONNECTION_KEY *original);

/// Finds the connection that sent to `target` last. FALSE: none did. O(1), allocates nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN RedirectTableFind(_Inout_ REDIRECT_TABLE *table, _In_ const CONNECTION_KEY *target,
                          _Out_ CONNECTION_KEY *original);

/// Removes entries that were used in neither direction for over CONNECTION_IDLE_SECONDS. Returns how many.
/// `waitSeconds` gets the seconds until the next entry may be removed; MAXUINT32: the table has none.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 RedirectTableClean(_Inout_ REDIRECT_TABLE *table, _Out_opt_ UINT32 *waitSeconds);

/// Removes everything.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RedirectTableClear(_Inout_ REDIRECT_TABLE *table);

/// Entries in the table now. Any IRQL.
UINT64 RedirectTableCount(_In_ const REDIRECT_TABLE *table);

/// Pool bytes of the table now. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 RedirectTableBytes(_Inout_ REDIRECT_TABLE *table);

EXTERN_C_END

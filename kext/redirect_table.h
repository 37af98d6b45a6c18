// The redirect table: for whom the last packet went to a redirect's target, so that the answers from there are found.
//
// A hash table of the redirected connections, as they are at the target. Its buckets share a few reader-writer locks,
// all of them leaves; a known connection takes one of them shared. Memory is allocated and given back with no lock
// held.

#pragma once

#include "connection_table.h"

EXTERN_C_START

// As many as there are local ports of TCP and UDP, IPv4 and IPv6: on a machine with one address no limit at all.
#define REDIRECT_TABLE_MAX_ENTRIES (4u * 65536u)

typedef struct _REDIRECT_STRIPE REDIRECT_STRIPE;
typedef struct _REDIRECT_ENTRY REDIRECT_ENTRY;

typedef struct _REDIRECT_TABLE
{
    MEMORY *Memory;
    SIPHASH_KEY HashKey;
    REDIRECT_STRIPE *Stripes;
    REDIRECT_ENTRY **Buckets;
    UINT64 MaxEntries;
    volatile LONG64 Count;
} REDIRECT_TABLE;

/// Makes an empty table that takes up to `maxEntries`. STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS RedirectTableInitialize(_Out_ REDIRECT_TABLE *table, _Inout_ MEMORY *memory, _In_ UINT64 maxEntries);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RedirectTableUninitialize(_Inout_ REDIRECT_TABLE *table);

/// Notes that `original` is what sends to `target` now, both from this machine's view. O(1); allocates nothing for a
/// `target` that is known. STATUS_QUOTA_EXCEEDED, STATUS_INSUFFICIENT_RESOURCES: its answers would not be found.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS RedirectTableNote(_Inout_ REDIRECT_TABLE *table, _In_ const CONNECTION_KEY *target,
                           _In_ const CONNECTION_KEY *original);

/// Who last sent to `target`. FALSE: nobody. O(1), allocates nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN RedirectTableFind(_Inout_ REDIRECT_TABLE *table, _In_ const CONNECTION_KEY *target,
                          _Out_ CONNECTION_KEY *original);

/// Forgets what was used neither way for over CONNECTION_IDLE_SECONDS. Returns how many.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 RedirectTableClean(_Inout_ REDIRECT_TABLE *table);

/// Forgets everything.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RedirectTableClear(_Inout_ REDIRECT_TABLE *table);

/// Entries in the table now, and the pool bytes of all. Any IRQL.
UINT64 RedirectTableCount(_In_ const REDIRECT_TABLE *table);
UINT64 RedirectTableBytes(_In_ const REDIRECT_TABLE *table);

EXTERN_C_END

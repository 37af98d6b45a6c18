// The return table: packets that we injected and that may come back as copies of another product's.
//
// Two products that hold packets and inject copies of them would do so with each other's copies for ever, because a
// copy does not tell that the packet was decided on before. So the packets that we inject last are remembered, by a
// keyed hash of their bytes, and let through once when they come back.
//
// Nothing is remembered until another product is seen to inject. One spin lock, held for one entry: the hash says
// which, and a packet of the same place takes it over.

#pragma once

#include "siphash.h"

EXTERN_C_START

#define RETURN_TABLE_COUNT   (256u >> PLATFORM_TABLE_SHRINK)
#define RETURN_TABLE_TIME_MS 10000u

typedef struct _RETURN_ENTRY
{
    UINT64 Hash;
    UINT64 Until; ///< KeQueryInterruptTime; 0: free
} RETURN_ENTRY;

typedef struct _RETURN_TABLE
{
    SIPHASH_KEY Key;
    volatile LONG Enabled;
    KSPIN_LOCK Lock;
    RETURN_ENTRY Entries[RETURN_TABLE_COUNT]; // under Lock
} RETURN_TABLE;

/// Makes an empty table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReturnTableInitialize(_Out_ RETURN_TABLE *table);

/// Another product injects: from now on packets are remembered. Any IRQL.
VOID ReturnTableEnable(_Inout_ RETURN_TABLE *table);

/// Remembers a packet that is about to be injected.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReturnTableAdd(_Inout_ RETURN_TABLE *table, _In_reads_bytes_(length) const UINT8 *packet, _In_ UINT32 length);

/// Whether the packet was injected within the last RETURN_TABLE_TIME_MS. It is forgotten then.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ReturnTableTake(_Inout_ RETURN_TABLE *table, _In_reads_bytes_(length) const UINT8 *packet, _In_ UINT32 length);

EXTERN_C_END

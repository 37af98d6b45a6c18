// The shares of the connection table: how many connections each owner has in it.
//
// The owner of an outbound connection is its program's image, or its process if the image is not known.
// The owner of an inbound connection is the remote network, and never the program that listens:
// the program does not choose who connects to it.
//
// An owner has a counter in a fixed table, chosen by a keyed hash, so nothing is allocated for an owner.
// Owners that share a counter are one owner. They cannot be chosen without the key.
// Counters are interlocked. There are no locks.

#pragma once

#include "connection_key.h"
#include "memory.h"
#include "siphash.h"

EXTERN_C_START

// So many that few owners share one: 63 owners at most can be over their shares.
#define OWNER_SHARES_COUNTERS (16384u >> PLATFORM_TABLE_SHRINK)

/// A share is this part of what the table may hold.
#define OWNER_SHARES_PARTS 64u

typedef struct _OWNER_SHARES
{
    MEMORY *Memory;
    SIPHASH_KEY HashKey;
    volatile LONG *Counters;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Inbound; ///< connections of that side
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} OWNER_SHARES;

/// Allocates the counters. STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS OwnerSharesInitialize(_Out_ OWNER_SHARES *shares, _Inout_ MEMORY *memory);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID OwnerSharesUninitialize(_Inout_ OWNER_SHARES *shares);

/// Returns the owner of a process's connections while its image is not known. 0 stands for unknown processes. Any IRQL.
UINT16 OwnerSharesOfProcess(_In_ const OWNER_SHARES *shares, _In_ UINT64 processId);

/// Returns the owner of the connections of a program. `path` is its image path of `bytes` bytes. Any IRQL.
UINT16 OwnerSharesOfImage(_In_ const OWNER_SHARES *shares, _In_reads_bytes_(bytes) const VOID *path, _In_ UINT32 bytes);

/// Returns the owner of what the remote network sends: its /24 of IPv4, its /48 of IPv6. Any IRQL.
UINT16 OwnerSharesOfRemote(_In_ const OWNER_SHARES *shares, _In_ const CONNECTION_KEY *key);

/// Counts a connection of an owner. Any IRQL.
FORCEINLINE VOID OwnerSharesAdd(_Inout_ OWNER_SHARES *shares, _In_ UINT16 owner, _In_ BOOLEAN inbound)
{
    InterlockedIncrement(&shares->Counters[owner]);
    if (inbound)
    {
        InterlockedIncrement64(&shares->Inbound);
    }
}

/// Undoes one OwnerSharesAdd. Any IRQL.
FORCEINLINE VOID OwnerSharesRemove(_Inout_ OWNER_SHARES *shares, _In_ UINT16 owner, _In_ BOOLEAN inbound)
{
    InterlockedDecrement(&shares->Counters[owner]);
    if (inbound)
    {
        InterlockedDecrement64(&shares->Inbound);
    }
}

/// Connections of an owner now. Any IRQL.
FORCEINLINE UINT32 OwnerSharesCount(_In_ const OWNER_SHARES *shares, _In_ UINT16 owner)
{
    return (UINT32)ReadNoFence(&shares->Counters[owner]);
}

/// Inbound connections of all owners now. Any IRQL.
FORCEINLINE UINT64 OwnerSharesInbound(_In_ const OWNER_SHARES *shares)
{
    return (UINT64)ReadNoFence64(&shares->Inbound);
}

/// Pool bytes of the counters. Any IRQL.
FORCEINLINE UINT64 OwnerSharesBytes(VOID)
{
    return OWNER_SHARES_COUNTERS * sizeof(LONG);
}

EXTERN_C_END

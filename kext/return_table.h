// The return table: packets that we injected and that may come back as copies of another product's.
//
// Two products that hold packets and inject copies of them would do so with each other's copies for ever, because a
// copy does not tell that the packet was decided on before. So the packets that we inject last are remembered, by a
// keyed hash of their bytes, and let through once when they come back.
//
// Nothing is remembered until another product is seen to inject; then the memory for it is allocated, and stays. The
// hash says in which set a packet is; each set has a spin lock, a leaf, and keeps its newest packets.

#pragma once

#include "memory.h"
#include "siphash.h"

EXTERN_C_START

// 15,872 packets in 256 KiB. With half as many on their way it is one in millions that a set has too many of them.
#define RETURN_TABLE_SETS    (512u >> PLATFORM_TABLE_SHRINK)
#define RETURN_TABLE_WAYS    31u
#define RETURN_TABLE_TIME_MS 10000u

typedef struct _RETURN_TABLE
{
    MEMORY *Memory;
    SIPHASH_KEY Key;
    volatile LONG64 Sets; ///< address of the first; 0: no other product was seen
} RETURN_TABLE;

/// Makes an empty table that remembers nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReturnTableInitialize(_Out_ RETURN_TABLE *table, _Inout_ MEMORY *memory);

/// Frees everything. Nobody else may be using the table.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReturnTableUninitialize(_Inout_ RETURN_TABLE *table);

/// Another product injects: from now on packets are remembered. Without memory for that the next call tries again.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReturnTableEnable(_Inout_ RETURN_TABLE *table);

/// Remembers a packet that is about to be injected.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReturnTableAdd(_Inout_ RETURN_TABLE *table, _In_reads_bytes_(length) const UINT8 *packet, _In_ UINT32 length);

/// Whether the packet was injected within the last RETURN_TABLE_TIME_MS. It is forgotten then.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ReturnTableTake(_Inout_ RETURN_TABLE *table, _In_reads_bytes_(length) const UINT8 *packet, _In_ UINT32 length);

/// Packets that are remembered now (walks the table), and the pool bytes of all.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ReturnTableCount(_Inout_ RETURN_TABLE *table);
UINT64 ReturnTableBytes(_Inout_ RETURN_TABLE *table);

EXTERN_C_END

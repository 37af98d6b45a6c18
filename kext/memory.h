// All memory of the kext: nonpaged, not executable, counted, with one pool tag.
//
// Every allocation may fail, and every caller goes on without it.
// The counters are the only shared state. They are updated interlocked, so all functions run on any processor.

#pragma once

#include "platform.h"

EXTERN_C_START

// Shows as "NtVd" in pool tools.
#define MEMORY_TAG 'dVtN'

typedef PVOID(NTAPI *MEMORY_ALLOCATE_POOL2)(UINT64 flags, SIZE_T bytes, ULONG tag);
typedef PVOID(NTAPI *MEMORY_ALLOCATE_POOL_WITH_TAG)(POOL_TYPE type, SIZE_T bytes, ULONG tag);

// Every allocation writes the counters, so the padding keeps their cache line for them alone.
typedef struct _MEMORY
{
    MEMORY_ALLOCATE_POOL2 AllocatePool2;               ///< ExAllocatePool2, or NULL on a system without it
    MEMORY_ALLOCATE_POOL_WITH_TAG AllocatePoolWithTag; ///< ExAllocatePoolWithTag, for older systems
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Bytes;     ///< pool bytes in use, headers included
    volatile LONG64 PeakBytes; ///< highest value of Bytes
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} MEMORY;

static_assert(FIELD_OFFSET(MEMORY, Bytes) >= PLATFORM_CACHE_LINE + sizeof(PVOID) &&
                  sizeof(MEMORY) - FIELD_OFFSET(MEMORY, PeakBytes) >= PLATFORM_CACHE_LINE + sizeof(LONG64),
              "the counters share a line with nothing");

/// Clears the counters and finds the system's pool routines.
_IRQL_requires_(PASSIVE_LEVEL)
VOID MemoryInitialize(_Out_ MEMORY *memory);

/// Allocates `bytes` zeroed bytes, aligned to 16. Returns NULL when the pool refuses.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
PVOID MemoryAllocate(_Inout_ MEMORY *memory, _In_ SIZE_T bytes);

/// Allocates like MemoryAllocate, but leaves the content unspecified. The caller writes every byte.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
PVOID
MemoryAllocateUninitialized(_Inout_ MEMORY *memory, _In_ SIZE_T bytes);

/// Allocates like MemoryAllocate, aligned to PLATFORM_CACHE_LINE.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
PVOID
MemoryAllocateCacheAligned(_Inout_ MEMORY *memory, _In_ SIZE_T bytes);

/// Frees memory of any of the three functions above. NULL is allowed.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MemoryFree(_Inout_ MEMORY *memory, _In_opt_ PVOID address);

/// Pool bytes in use now. Any IRQL.
FORCEINLINE UINT64 MemoryBytes(_In_ const MEMORY *memory)
{
    return (UINT64)ReadNoFence64(&memory->Bytes);
}

/// The highest number of pool bytes so far. Any IRQL.
FORCEINLINE UINT64 MemoryPeakBytes(_In_ const MEMORY *memory)
{
    return (UINT64)ReadNoFence64(&memory->PeakBytes);
}

EXTERN_C_END

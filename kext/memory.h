// All of the kext's memory: nonpaged, not executable, one tag, counted.
//
// Every allocation may fail, and every caller must be able to go on when it does. The counters are the only shared
// state and are updated interlocked, so every function may run on any processor at once.

#pragma once

#include "platform.h"

EXTERN_C_START

// Shows as "NtVd" in pool tools.
#define MEMORY_TAG 'dVtN'

typedef PVOID(NTAPI *MEMORY_ALLOCATE_POOL2)(UINT64 flags, SIZE_T bytes, ULONG tag);
typedef PVOID(NTAPI *MEMORY_ALLOCATE_POOL_WITH_TAG)(POOL_TYPE type, SIZE_T bytes, ULONG tag);

// Every allocation writes the counters, which therefore share a line with nothing before or behind the structure.
typedef struct _MEMORY
{
    MEMORY_ALLOCATE_POOL2 AllocatePool2;               ///< ExAllocatePool2 where the system has it, else NULL
    MEMORY_ALLOCATE_POOL_WITH_TAG AllocatePoolWithTag; ///< ExAllocatePoolWithTag, for where it has not
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Bytes;     ///< taken from the pool now, our own headers included
    volatile LONG64 PeakBytes; ///< the most that Bytes has been
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} MEMORY;

static_assert(FIELD_OFFSET(MEMORY, Bytes) >= PLATFORM_CACHE_LINE + sizeof(PVOID) &&
                  sizeof(MEMORY) - FIELD_OFFSET(MEMORY, PeakBytes) >= PLATFORM_CACHE_LINE + sizeof(LONG64),
              "the counters share a line with nothing");

/// Prepares the counters and looks for this system's pool routines.
_IRQL_requires_(PASSIVE_LEVEL)
VOID MemoryInitialize(_Out_ MEMORY *memory);

/// Allocates `bytes` zeroed bytes, aligned to 16. NULL when the pool has none.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
PVOID MemoryAllocate(_Inout_ MEMORY *memory, _In_ SIZE_T bytes);

/// As MemoryAllocate, with unspecified content: for buffers whose every byte the caller writes.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
PVOID
MemoryAllocateUninitialized(_Inout_ MEMORY *memory, _In_ SIZE_T bytes);

/// As MemoryAllocate, aligned to PLATFORM_CACHE_LINE.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
PVOID
MemoryAllocateCacheAligned(_Inout_ MEMORY *memory, _In_ SIZE_T bytes);

/// Gives back what any of the three gave. NULL is allowed.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MemoryFree(_Inout_ MEMORY *memory, _In_opt_ PVOID address);

/// Bytes taken from the pool now, and the most that it has been.
UINT64 MemoryBytes(_In_ const MEMORY *memory);
UINT64 MemoryPeakBytes(_In_ const MEMORY *memory);

EXTERN_C_END

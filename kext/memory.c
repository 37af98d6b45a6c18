#include "memory.h"

// Precedes the caller's memory and keeps its alignment of 16 bytes.
typedef struct _MEMORY_HEADER
{
    PVOID Block;  // address that the pool returned
    SIZE_T Bytes; // of the whole block
} MEMORY_HEADER;

static_assert(sizeof(MEMORY_HEADER) == 16, "the caller's alignment depends on it");

// ExAllocatePool2's flags (WDK page "POOL_FLAGS").
static const UINT64 MemoryPoolUninitialized = 0x2;
static const UINT64 MemoryPoolNonPaged = 0x40;

// No caller needs a larger block. A larger request is a mistake and fails as if the pool refused it.
static const SIZE_T MemoryMaxAllocationBytes = 1u << 30;

// Finds both routines by name: Windows 10 1809 lacks the new one, and newer kits deprecate the old one.
_Use_decl_annotations_
VOID MemoryInitialize(MEMORY *memory)
{
    RtlZeroMemory(memory, sizeof(*memory));
    memory->AllocatePool2 = (MEMORY_ALLOCATE_POOL2)PlatformFindRoutine(L"ExAllocatePool2");
    memory->AllocatePoolWithTag = (MEMORY_ALLOCATE_POOL_WITH_TAG)PlatformFindRoutine(L"ExAllocatePoolWithTag");
}

static PVOID MemoryAllocateFromPool(MEMORY *memory, SIZE_T bytes)
{
    if (memory->AllocatePool2 != NULL)
    {
        return memory->AllocatePool2(MemoryPoolNonPaged | MemoryPoolUninitialized, bytes, MEMORY_TAG);
    }
    if (memory->AllocatePoolWithTag != NULL)
    {
        return memory->AllocatePoolWithTag(NonPagedPoolNx, bytes, MEMORY_TAG);
    }
    return NULL;
}

static VOID MemoryCount(MEMORY *memory, SIZE_T bytes)
{
    LONG64 now = InterlockedExchangeAdd64(&memory->Bytes, (LONG64)bytes) + (LONG64)bytes;
    LONG64 peak = ReadNoFence64(&memory->PeakBytes);

    while (now > peak)
    {
        LONG64 seen = InterlockedCompareExchange64(&memory->PeakBytes, now, peak);

        if (seen == peak)
        {
            return;
        }
        peak = seen;
    }
}

static PVOID MemoryAllocateAligned(MEMORY *memory, SIZE_T bytes, SIZE_T alignment)
{
    // The pool aligns to 16.
    SIZE_T overhead = sizeof(MEMORY_HEADER) + alignment - 16;
    ULONG_PTR address;
    PVOID block;
    MEMORY_HEADER *header;

    block = bytes <= MemoryMaxAllocationBytes ? MemoryAllocateFromPool(memory, bytes + overhead) : NULL;
    if (block == NULL)
    {
        return NULL;
    }

    address = ((ULONG_PTR)block + overhead) & ~(ULONG_PTR)(alignment - 1);
    header = (MEMORY_HEADER *)address - 1;
    header->Block = block;
    header->Bytes = bytes + overhead;
    MemoryCount(memory, bytes + overhead);
    return (PVOID)address;
}

static PVOID MemoryAllocateZeroed(MEMORY *memory, SIZE_T bytes, SIZE_T alignment)
{
    PVOID address = MemoryAllocateAligned(memory, bytes, alignment);

    if (address != NULL)
    {
        RtlZeroMemory(address, bytes);
    }
    return address;
}

_Use_decl_annotations_
PVOID MemoryAllocate(MEMORY *memory, SIZE_T bytes)
{
    return MemoryAllocateZeroed(memory, bytes, 16);
}

_Use_decl_annotations_
PVOID MemoryAllocateUninitialized(MEMORY *memory, SIZE_T bytes)
{
    return MemoryAllocateAligned(memory, bytes, 16);
}

_Use_decl_annotations_
PVOID MemoryAllocateCacheAligned(MEMORY *memory, SIZE_T bytes)
{
    return MemoryAllocateZeroed(memory, bytes, PLATFORM_CACHE_LINE);
}

_Use_decl_annotations_
VOID MemoryFree(MEMORY *memory, PVOID address)
{
    MEMORY_HEADER *header;

    if (address == NULL)
    {
        return;
    }
    header = (MEMORY_HEADER *)address - 1;
    InterlockedExchangeAdd64(&memory->Bytes, -(LONG64)header->Bytes);
    ExFreePoolWithTag(header->Block, MEMORY_TAG);
}

// Items of one size in chunks of about a page, each named by a 32-bit handle that is never 0.
//
// A directory of two levels finds the chunk of a handle. Chunks belong to a few stripes, each with a spin lock, a leaf.
// A hint chooses the stripe of a new item.
//
// Taking and returning an item allocates and frees no memory, so a caller may do both under a lock. Memory comes with
// SlabGrow and goes with SlabTrim, which are called with no lock held.
//
// An item stays at its address until it is returned. Reading the item of a handle in use takes no lock.

#pragma once

#include "memory.h"

EXTERN_C_START

#define SLAB_STRIPE_COUNT 16u

// A chunk and the headers of its allocation fit in a page of 4 KiB.
#define SLAB_CHUNK_BYTES 3968u

// A handle is the number of a chunk and, in its low bits, a slot. Slot 0 of a chunk is its header.
#define SLAB_SLOT_BITS        7u
#define SLAB_LEAST_ITEM_BYTES 32u

// Bounds of the directory: chunks of a page, and pages.
#define SLAB_PAGE_SHIFT 6u
#define SLAB_PAGE_COUNT 1024u

/// Each entry of a directory page is the address of a chunk, or SLAB_VACANT of the next vacant entry.
typedef struct _SLAB_PAGE
{
    ULONG_PTR Entries[1u << SLAB_PAGE_SHIFT];
} SLAB_PAGE;

typedef struct _SLAB_STRIPE
{
    KSPIN_LOCK Lock;
    UINT32 ItemCount;   ///< in use
    LIST_ENTRY Partial; ///< chunks with some items in use, the sparse ones last; full chunks are in no list
    LIST_ENTRY Empty;   ///< chunks with no item in use
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK) - sizeof(UINT64) - 2 * sizeof(LIST_ENTRY)];
} SLAB_STRIPE;

typedef struct _SLAB
{
    MEMORY *Memory;
    UINT32 ItemBytes;
    UINT32 SlotCount; ///< of a chunk
    SLAB_STRIPE *Stripes;
    SLAB_PAGE **Pages;
    KSPIN_LOCK DirectoryLock; ///< a leaf, around the following
    UINT32 EntryCount;        ///< directory entries that were ever in use
    UINT32 VacantEntry;       ///< first vacant one of these, or SLAB_NO_ENTRY
    UINT32 ChunkCount;
} SLAB;

/// Makes an empty slab. `itemBytes`: a multiple of 8, at least SLAB_LEAST_ITEM_BYTES. STATUS_INSUFFICIENT_RESOURCES:
/// nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS SlabInitialize(_Out_ SLAB *slab, _Inout_ MEMORY *memory, _In_ UINT32 itemBytes);

/// Frees everything. No item is in use.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SlabUninitialize(_Inout_ SLAB *slab);

/// Takes an item, whose content is not defined. 0: the stripe has none; call SlabGrow with the same hint.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
UINT32 SlabTake(_Inout_ SLAB *slab, _In_ UINT32 hint);

/// Takes an item to replace that of `handle`, whose chunk is sparse. 0: the chunk is not sparse, or others move into
/// it. A caller that copies the content and returns `handle` helps to empty sparse chunks.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
UINT32 SlabTakeBetter(_Inout_ SLAB *slab, _In_ UINT32 handle);

/// Returns an item.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SlabReturn(_Inout_ SLAB *slab, _In_ UINT32 handle);

/// Adds a chunk to a stripe. FALSE: no memory, or the directory is full.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN SlabGrow(_Inout_ SLAB *slab, _In_ UINT32 hint);

/// Frees the chunks with no item in use.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SlabTrim(_Inout_ SLAB *slab);

/// TRUE if under a quarter of the items are in use, in so many chunks that moving the items is worth it.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN SlabIsSparse(_Inout_ SLAB *slab);

/// Pool bytes of the slab now.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 SlabBytes(_Inout_ SLAB *slab);

/// The item of a handle in use. Any IRQL.
FORCEINLINE VOID *SlabAt(_In_ const SLAB *slab, _In_ UINT32 handle)
{
    UINT32 entry = handle >> SLAB_SLOT_BITS;
    UINT8 *chunk = (UINT8 *)slab->Pages[entry >> SLAB_PAGE_SHIFT]->Entries[entry & ((1u << SLAB_PAGE_SHIFT) - 1)];

    return chunk + (SIZE_T)(handle & ((1u << SLAB_SLOT_BITS) - 1)) * slab->ItemBytes;
}

EXTERN_C_END

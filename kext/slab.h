// Items of one size in chunks, each named by a 32-bit handle that is never 0.
//
// A directory finds the chunk of a handle. It grows by pages, which stay as long as the slab. Chunks belong to a few
// stripes, each with a spin lock, a leaf. A hint chooses the stripe of a new item.
//
// Taking and returning an item allocates and frees no memory, so a caller may do both under a lock.
// SlabGrow allocates memory and SlabTrim frees it. Both are called with no lock held.
//
// An item stays at its address until it is returned. Reading the item of a handle in use takes no lock.

#pragma once

#include "memory.h"

EXTERN_C_START

#define SLAB_STRIPE_COUNT 8u

// A chunk and the headers of its allocation fit in two pages of 4 KiB.
#define SLAB_CHUNK_BYTES 8064u

// A handle is the number of a chunk and, in its low bits, a slot. Slot 0 of a chunk is its header.
#define SLAB_SLOT_BITS        8u
#define SLAB_LEAST_ITEM_BYTES 32u

// Chunks in a page of the directory, which has 4 KiB.
#define SLAB_PAGE_BITS 9u
#define SLAB_MAX_PAGES 128u

typedef struct _SLAB_STRIPE
{
    KSPIN_LOCK Lock;
    LIST_ENTRY Chunks; ///< chunks with free slots; chunks without an item in use are last
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK) - sizeof(LIST_ENTRY)];
} SLAB_STRIPE;

typedef struct _SLAB
{
    MEMORY *Memory;
    UINT32 ItemBytes;
    UINT32 SlotCount; ///< slots of a chunk
    UINT32 MaxChunks;
    UINT32 NextChunk;              ///< where the directory is searched next; guarded by DirectoryLock
    volatile LONG ChunkCount;      ///< written under DirectoryLock
    volatile LONG PageCount;       ///< written under DirectoryLock
    KSPIN_LOCK DirectoryLock;      ///< a leaf
    UINT8 **Pages[SLAB_MAX_PAGES]; ///< of the directory; a chunk that is NULL is free
    UINT8 Padding[PLATFORM_CACHE_LINE];
    SLAB_STRIPE Stripes[SLAB_STRIPE_COUNT];
} SLAB;

/// Makes an empty slab of at least `maxItems`, as far as SLAB_MAX_PAGES allow. Allocates nothing.
/// `itemBytes`: a multiple of 8, at least SLAB_LEAST_ITEM_BYTES.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SlabInitialize(_Out_ SLAB *slab, _Inout_ MEMORY *memory, _In_ UINT32 itemBytes, _In_ UINT64 maxItems);

/// Frees everything. No item is in use.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SlabUninitialize(_Inout_ SLAB *slab);

/// Takes an item, whose content is not defined. 0: the stripe has none; call SlabGrow with the same hint.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
UINT32 SlabTake(_Inout_ SLAB *slab, _In_ UINT32 hint);

/// Takes an item to replace the item of `handle`, whose chunk is sparse.
/// 0: the chunk is not sparse, or other items move into it.
/// A caller that copies the content and returns `handle` helps to empty sparse chunks.
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

/// TRUE if `items` in use are under a quarter of the slots, and moving them would free a chunk. Any IRQL.
BOOLEAN SlabIsSparse(_In_ const SLAB *slab, _In_ UINT64 items);

/// Pool bytes of the slab now. Any IRQL.
UINT64 SlabBytes(_In_ const SLAB *slab);

/// The item of a handle in use. Any IRQL.
FORCEINLINE VOID *SlabAt(_In_ const SLAB *slab, _In_ UINT32 handle)
{
    UINT32 number = handle >> SLAB_SLOT_BITS;

    return slab->Pages[number >> SLAB_PAGE_BITS][number & ((1u << SLAB_PAGE_BITS) - 1)] +
           (SIZE_T)(UINT8)handle * slab->ItemBytes;
}

static_assert(SLAB_SLOT_BITS == 8, "the slot is the handle's lowest byte");

EXTERN_C_END

#include "slab.h"

// Slot 0 of a chunk; guarded by the stripe. The first byte of a free slot is the next free slot, or 0.
typedef struct _SLAB_CHUNK
{
    LIST_ENTRY Link; // in the list of its stripe, while the chunk has a free slot
    UINT32 Number;
    UINT8 Stripe;
    UINT8 FreeSlot; // 0: none
    UINT8 UsedCount;
} SLAB_CHUNK;

static_assert(sizeof(SLAB_CHUNK) <= SLAB_LEAST_ITEM_BYTES, "a chunk's header fits in its first slot");

#define SLAB_PAGE_CHUNKS (1u << SLAB_PAGE_BITS)
#define SLAB_PAGE_BYTES  (SLAB_PAGE_CHUNKS * sizeof(UINT8 *))

// The entry of a chunk in the directory.
static UINT8 **SlabChunk(const SLAB *slab, UINT32 number)
{
    return &slab->Pages[number / SLAB_PAGE_CHUNKS][number % SLAB_PAGE_CHUNKS];
}

static SLAB_CHUNK *SlabChunkOf(const SLAB *slab, UINT32 handle)
{
    return (SLAB_CHUNK *)*SlabChunk(slab, handle >> SLAB_SLOT_BITS);
}

_Use_decl_annotations_
VOID SlabInitialize(SLAB *slab, MEMORY *memory, UINT32 itemBytes, UINT64 maxItems)
{
    UINT32 i;

    RtlZeroMemory(slab, sizeof(*slab));
    slab->Memory = memory;
    slab->ItemBytes = itemBytes;
    slab->SlotCount = SLAB_CHUNK_BYTES / itemBytes;
    // The directory has room for chunks that are not full, because each stripe may have some.
    slab->MaxChunks = (UINT32)(maxItems / slab->SlotCount * 5 / 4) + 8 * SLAB_STRIPE_COUNT;
    slab->MaxChunks =
        slab->MaxChunks < SLAB_MAX_PAGES * SLAB_PAGE_CHUNKS ? slab->MaxChunks : SLAB_MAX_PAGES * SLAB_PAGE_CHUNKS;
    KeInitializeSpinLock(&slab->DirectoryLock);
    for (i = 0; i < SLAB_STRIPE_COUNT; i++)
    {
        KeInitializeSpinLock(&slab->Stripes[i].Lock);
        InitializeListHead(&slab->Stripes[i].Chunks);
    }
}

_Use_decl_annotations_
VOID SlabUninitialize(SLAB *slab)
{
    UINT32 i;

    SlabTrim(slab);
    for (i = 0; i < SLAB_MAX_PAGES; i++)
    {
        MemoryFree(slab->Memory, (PVOID)slab->Pages[i]);
    }
}

// ---- Items

// Takes an item from a chunk with a free slot. The caller holds the stripe's lock.
static UINT32 SlabTakeFrom(const SLAB *slab, SLAB_CHUNK *chunk)
{
    UINT32 handle = chunk->Number << SLAB_SLOT_BITS | chunk->FreeSlot;

    chunk->FreeSlot = *(const UINT8 *)SlabAt(slab, handle);
    chunk->UsedCount++;
    if (chunk->FreeSlot == 0)
    {
        RemoveEntryList(&chunk->Link);
    }
    return handle;
}

_Use_decl_annotations_
UINT32 SlabTake(SLAB *slab, UINT32 hint)
{
    SLAB_STRIPE *stripe = &slab->Stripes[hint % SLAB_STRIPE_COUNT];
    UINT32 handle = 0;
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    if (!IsListEmpty(&stripe->Chunks))
    {
        handle = SlabTakeFrom(slab, CONTAINING_RECORD(stripe->Chunks.Flink, SLAB_CHUNK, Link));
    }
    KeReleaseSpinLock(&stripe->Lock, irql);
    return handle;
}

_Use_decl_annotations_
UINT32 SlabTakeBetter(SLAB *slab, UINT32 handle)
{
    SLAB_CHUNK *chunk = SlabChunkOf(slab, handle);
    SLAB_STRIPE *stripe = &slab->Stripes[chunk->Stripe];
    UINT32 better = 0;
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    // A sparse chunk is in the list of its stripe, because it has a free slot.
    if (chunk->UsedCount * 4u < slab->SlotCount && stripe->Chunks.Flink != &chunk->Link)
    {
        better = SlabTakeFrom(slab, CONTAINING_RECORD(stripe->Chunks.Flink, SLAB_CHUNK, Link));
    }
    KeReleaseSpinLock(&stripe->Lock, irql);
    return better;
}

_Use_decl_annotations_
VOID SlabReturn(SLAB *slab, UINT32 handle)
{
    SLAB_CHUNK *chunk = SlabChunkOf(slab, handle);
    SLAB_STRIPE *stripe = &slab->Stripes[chunk->Stripe];
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    if (chunk->FreeSlot == 0)
    {
        InsertHeadList(&stripe->Chunks, &chunk->Link);
    }
    *(UINT8 *)SlabAt(slab, handle) = chunk->FreeSlot;
    chunk->FreeSlot = (UINT8)handle;
    chunk->UsedCount--;
    if (chunk->UsedCount == 0)
    {
        RemoveEntryList(&chunk->Link);
        InsertTailList(&stripe->Chunks, &chunk->Link);
    }
    KeReleaseSpinLock(&stripe->Lock, irql);
}

// ---- Chunks

// The caller holds DirectoryLock.
static UINT32 SlabRoom(const SLAB *slab)
{
    UINT32 room = (UINT32)slab->PageCount * SLAB_PAGE_CHUNKS;

    return room < slab->MaxChunks ? room : slab->MaxChunks;
}

// Enters a chunk into the directory. Takes `page` over if it is needed. FALSE: the directory is full.
static BOOLEAN SlabEnter(SLAB *slab, SLAB_CHUNK *chunk, UINT8 ***page)
{
    BOOLEAN hasRoom;
    KIRQL irql;

    KeAcquireSpinLock(&slab->DirectoryLock, &irql);
    if ((UINT32)slab->ChunkCount == SlabRoom(slab) && SlabRoom(slab) < slab->MaxChunks && *page != NULL)
    {
        slab->Pages[slab->PageCount] = *page;
        *page = NULL;
        WriteNoFence(&slab->PageCount, slab->PageCount + 1);
    }
    hasRoom = (UINT32)slab->ChunkCount < SlabRoom(slab);
    if (hasRoom)
    {
        while (*SlabChunk(slab, slab->NextChunk) != NULL)
        {
            slab->NextChunk = (slab->NextChunk + 1) % SlabRoom(slab);
        }
        chunk->Number = slab->NextChunk;
        *SlabChunk(slab, chunk->Number) = (UINT8 *)chunk;
        WriteNoFence(&slab->ChunkCount, slab->ChunkCount + 1);
    }
    KeReleaseSpinLock(&slab->DirectoryLock, irql);
    return hasRoom;
}

static VOID SlabLeave(SLAB *slab, const SLAB_CHUNK *chunk)
{
    KIRQL irql;

    KeAcquireSpinLock(&slab->DirectoryLock, &irql);
    *SlabChunk(slab, chunk->Number) = NULL;
    slab->NextChunk = chunk->Number;
    WriteNoFence(&slab->ChunkCount, slab->ChunkCount - 1);
    KeReleaseSpinLock(&slab->DirectoryLock, irql);
}

// Enters a chunk with a new page if need be. FALSE: no memory, or the directory is full.
static BOOLEAN SlabEnterWithPage(SLAB *slab, SLAB_CHUNK *chunk)
{
    UINT8 **page = NULL;
    BOOLEAN entered = SlabEnter(slab, chunk, &page);

    if (!entered)
    {
        page = (UINT8 **)MemoryAllocate(slab->Memory, SLAB_PAGE_BYTES);
        entered = SlabEnter(slab, chunk, &page);
        MemoryFree(slab->Memory, (PVOID)page);
    }
    return entered;
}

_Use_decl_annotations_
BOOLEAN SlabGrow(SLAB *slab, UINT32 hint)
{
    SLAB_STRIPE *stripe = &slab->Stripes[hint % SLAB_STRIPE_COUNT];
    SLAB_CHUNK *chunk = (SLAB_CHUNK *)MemoryAllocate(slab->Memory, (SIZE_T)slab->SlotCount * slab->ItemBytes);
    UINT32 slot;
    KIRQL irql;

    if (chunk == NULL || !SlabEnterWithPage(slab, chunk))
    {
        MemoryFree(slab->Memory, chunk);
        return FALSE;
    }
    chunk->Stripe = (UINT8)(hint % SLAB_STRIPE_COUNT);
    chunk->FreeSlot = 1;
    for (slot = 1; slot + 1 < slab->SlotCount; slot++)
    {
        *(UINT8 *)SlabAt(slab, chunk->Number << SLAB_SLOT_BITS | slot) = (UINT8)(slot + 1);
    }
    KeAcquireSpinLock(&stripe->Lock, &irql);
    InsertTailList(&stripe->Chunks, &chunk->Link);
    KeReleaseSpinLock(&stripe->Lock, irql);
    return TRUE;
}

static SLAB_CHUNK *SlabTakeEmpty(SLAB_STRIPE *stripe)
{
    SLAB_CHUNK *chunk;
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    chunk = IsListEmpty(&stripe->Chunks) ? NULL : CONTAINING_RECORD(stripe->Chunks.Blink, SLAB_CHUNK, Link);
    if (chunk != NULL && chunk->UsedCount != 0)
    {
        chunk = NULL;
    }
    if (chunk != NULL)
    {
        RemoveEntryList(&chunk->Link);
    }
    KeReleaseSpinLock(&stripe->Lock, irql);
    return chunk;
}

_Use_decl_annotations_
VOID SlabTrim(SLAB *slab)
{
    UINT32 i;

    for (i = 0; i < SLAB_STRIPE_COUNT; i++)
    {
        SLAB_CHUNK *chunk;

        while ((chunk = SlabTakeEmpty(&slab->Stripes[i])) != NULL)
        {
            SlabLeave(slab, chunk);
            MemoryFree(slab->Memory, chunk);
        }
    }
}

_Use_decl_annotations_
BOOLEAN SlabIsSparse(const SLAB *slab, UINT64 items)
{
    UINT64 chunks = (UINT64)ReadNoFence(&slab->ChunkCount);

    return chunks > 2 * SLAB_STRIPE_COUNT && items * 4 < chunks * slab->SlotCount;
}

_Use_decl_annotations_
UINT64 SlabBytes(const SLAB *slab)
{
    return (UINT64)ReadNoFence(&slab->PageCount) * SLAB_PAGE_BYTES +
           (UINT64)ReadNoFence(&slab->ChunkCount) * slab->SlotCount * slab->ItemBytes;
}

#include "slab.h"

#define SLAB_NO_ENTRY     0x7FFFFFFFu
#define SLAB_VACANT(next) ((ULONG_PTR)(next) << 1 | 1)

// Slot 0 of a chunk. The first byte of a free slot is the next free slot, or 0.
typedef struct _SLAB_CHUNK
{
    LIST_ENTRY Link; // of its stripe; guarded by the stripe, as the following
    UINT32 Entry;    // of the directory
    UINT8 Stripe;
    UINT8 FreeSlot; // 0: none
    UINT8 UsedCount;
} SLAB_CHUNK;

static_assert(sizeof(SLAB_CHUNK) <= SLAB_LEAST_ITEM_BYTES, "a chunk's header fits in its first slot");

static SLAB_CHUNK *SlabChunkOf(const SLAB *slab, UINT32 handle)
{
    return (SLAB_CHUNK *)SlabAt(slab, handle & ~((1u << SLAB_SLOT_BITS) - 1));
}

static UINT8 *SlabSlot(const SLAB *slab, SLAB_CHUNK *chunk, UINT32 slot)
{
    return (UINT8 *)chunk + (SIZE_T)slot * slab->ItemBytes;
}

static ULONG_PTR *SlabEntry(const SLAB *slab, UINT32 entry)
{
    return &slab->Pages[entry >> SLAB_PAGE_SHIFT]->Entries[entry & ((1u << SLAB_PAGE_SHIFT) - 1)];
}

static BOOLEAN SlabIsChunkSparse(const SLAB *slab, const SLAB_CHUNK *chunk)
{
    return chunk->UsedCount * 4u < slab->SlotCount;
}

_Use_decl_annotations_
NTSTATUS SlabInitialize(SLAB *slab, MEMORY *memory, UINT32 itemBytes)
{
    UINT32 slots = SLAB_CHUNK_BYTES / itemBytes;
    UINT32 i;

    RtlZeroMemory(slab, sizeof(*slab));
    slab->Memory = memory;
    slab->ItemBytes = itemBytes;
    slab->SlotCount = slots < (1u << SLAB_SLOT_BITS) ? slots : 1u << SLAB_SLOT_BITS;
    slab->VacantEntry = SLAB_NO_ENTRY;
    KeInitializeSpinLock(&slab->DirectoryLock);
    slab->Pages = (SLAB_PAGE **)MemoryAllocate(memory, SLAB_PAGE_COUNT * sizeof(SLAB_PAGE *));
    if (slab->Pages == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    slab->Stripes = (SLAB_STRIPE *)MemoryAllocateCacheAligned(memory, SLAB_STRIPE_COUNT * sizeof(SLAB_STRIPE));
    if (slab->Stripes == NULL)
    {
        MemoryFree(memory, slab->Pages);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (i = 0; i < SLAB_STRIPE_COUNT; i++)
    {
        KeInitializeSpinLock(&slab->Stripes[i].Lock);
        InitializeListHead(&slab->Stripes[i].Partial);
        InitializeListHead(&slab->Stripes[i].Empty);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID SlabUninitialize(SLAB *slab)
{
    UINT32 i;

    SlabTrim(slab);
    for (i = 0; i < SLAB_PAGE_COUNT; i++)
    {
        MemoryFree(slab->Memory, slab->Pages[i]);
    }
    MemoryFree(slab->Memory, slab->Stripes);
    MemoryFree(slab->Memory, slab->Pages);
}

// ---- Items

// With the stripe's lock held, from a chunk with a free slot.
static UINT32 SlabTakeFrom(SLAB *slab, SLAB_STRIPE *stripe, SLAB_CHUNK *chunk)
{
    UINT32 slot = chunk->FreeSlot;

    RemoveEntryList(&chunk->Link);
    chunk->FreeSlot = *SlabSlot(slab, chunk, slot);
    chunk->UsedCount++;
    stripe->ItemCount++;
    if (chunk->FreeSlot != 0)
    {
        InsertHeadList(&stripe->Partial, &chunk->Link);
    }
    return chunk->Entry << SLAB_SLOT_BITS | slot;
}

_Use_decl_annotations_
UINT32 SlabTake(SLAB *slab, UINT32 hint)
{
    SLAB_STRIPE *stripe = &slab->Stripes[hint % SLAB_STRIPE_COUNT];
    LIST_ENTRY *list;
    UINT32 handle = 0;
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    list = IsListEmpty(&stripe->Partial) ? &stripe->Empty : &stripe->Partial;
    if (!IsListEmpty(list))
    {
        handle = SlabTakeFrom(slab, stripe, CONTAINING_RECORD(list->Flink, SLAB_CHUNK, Link));
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
    SLAB_CHUNK *first;
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    first = CONTAINING_RECORD(stripe->Partial.Flink, SLAB_CHUNK, Link);
    if (SlabIsChunkSparse(slab, chunk) && first != chunk)
    {
        better = SlabTakeFrom(slab, stripe, first);
    }
    KeReleaseSpinLock(&stripe->Lock, irql);
    return better;
}

_Use_decl_annotations_
VOID SlabReturn(SLAB *slab, UINT32 handle)
{
    SLAB_CHUNK *chunk = SlabChunkOf(slab, handle);
    SLAB_STRIPE *stripe = &slab->Stripes[chunk->Stripe];
    UINT32 slot = handle & ((1u << SLAB_SLOT_BITS) - 1);
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    if (chunk->FreeSlot != 0)
    {
        RemoveEntryList(&chunk->Link);
    }
    *SlabSlot(slab, chunk, slot) = chunk->FreeSlot;
    chunk->FreeSlot = (UINT8)slot;
    chunk->UsedCount--;
    stripe->ItemCount--;
    if (chunk->UsedCount == 0)
    {
        InsertTailList(&stripe->Empty, &chunk->Link);
    }
    else if (SlabIsChunkSparse(slab, chunk))
    {
        InsertTailList(&stripe->Partial, &chunk->Link);
    }
    else
    {
        InsertHeadList(&stripe->Partial, &chunk->Link);
    }
    KeReleaseSpinLock(&stripe->Lock, irql);
}

// ---- Chunks

// Enters a chunk into the directory. STATUS_RETRY: bring a page. A page that was used is NULL afterwards.
static NTSTATUS SlabEnter(SLAB *slab, SLAB_CHUNK *chunk, SLAB_PAGE **page)
{
    NTSTATUS status = STATUS_SUCCESS;
    UINT32 entry;
    KIRQL irql;

    KeAcquireSpinLock(&slab->DirectoryLock, &irql);
    entry = slab->VacantEntry != SLAB_NO_ENTRY ? slab->VacantEntry : slab->EntryCount;
    if (entry >> SLAB_PAGE_SHIFT == SLAB_PAGE_COUNT)
    {
        status = STATUS_QUOTA_EXCEEDED;
    }
    else if (slab->Pages[entry >> SLAB_PAGE_SHIFT] == NULL && *page == NULL)
    {
        status = STATUS_RETRY;
    }
    else
    {
        if (slab->Pages[entry >> SLAB_PAGE_SHIFT] == NULL)
        {
            slab->Pages[entry >> SLAB_PAGE_SHIFT] = *page;
            *page = NULL;
        }
        if (entry == slab->EntryCount)
        {
            slab->EntryCount++;
        }
        else
        {
            slab->VacantEntry = (UINT32)(*SlabEntry(slab, entry) >> 1);
        }
        *SlabEntry(slab, entry) = (ULONG_PTR)chunk;
        chunk->Entry = entry;
        slab->ChunkCount++;
    }
    KeReleaseSpinLock(&slab->DirectoryLock, irql);
    return status;
}

static VOID SlabLeave(SLAB *slab, const SLAB_CHUNK *chunk)
{
    KIRQL irql;

    KeAcquireSpinLock(&slab->DirectoryLock, &irql);
    *SlabEntry(slab, chunk->Entry) = SLAB_VACANT(slab->VacantEntry);
    slab->VacantEntry = chunk->Entry;
    slab->ChunkCount--;
    KeReleaseSpinLock(&slab->DirectoryLock, irql);
}

static NTSTATUS SlabEnterWithPage(SLAB *slab, SLAB_CHUNK *chunk)
{
    SLAB_PAGE *page = NULL;
    NTSTATUS status = SlabEnter(slab, chunk, &page);

    if (status == STATUS_RETRY)
    {
        page = (SLAB_PAGE *)MemoryAllocate(slab->Memory, sizeof(*page));
        status = page != NULL ? SlabEnter(slab, chunk, &page) : STATUS_INSUFFICIENT_RESOURCES;
        MemoryFree(slab->Memory, page);
    }
    return status;
}

_Use_decl_annotations_
BOOLEAN SlabGrow(SLAB *slab, UINT32 hint)
{
    SLAB_STRIPE *stripe = &slab->Stripes[hint % SLAB_STRIPE_COUNT];
    SLAB_CHUNK *chunk =
        (SLAB_CHUNK *)MemoryAllocateUninitialized(slab->Memory, (SIZE_T)slab->SlotCount * slab->ItemBytes);
    UINT32 slot;
    KIRQL irql;

    if (chunk == NULL)
    {
        return FALSE;
    }
    chunk->Stripe = (UINT8)(hint % SLAB_STRIPE_COUNT);
    chunk->UsedCount = 0;
    chunk->FreeSlot = 1;
    for (slot = 1; slot < slab->SlotCount; slot++)
    {
        *SlabSlot(slab, chunk, slot) = (UINT8)(slot + 1 < slab->SlotCount ? slot + 1 : 0);
    }
    if (!NT_SUCCESS(SlabEnterWithPage(slab, chunk)))
    {
        MemoryFree(slab->Memory, chunk);
        return FALSE;
    }
    KeAcquireSpinLock(&stripe->Lock, &irql);
    InsertTailList(&stripe->Empty, &chunk->Link);
    KeReleaseSpinLock(&stripe->Lock, irql);
    return TRUE;
}

static SLAB_CHUNK *SlabTakeEmpty(SLAB_STRIPE *stripe)
{
    SLAB_CHUNK *chunk = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&stripe->Lock, &irql);
    if (!IsListEmpty(&stripe->Empty))
    {
        chunk = CONTAINING_RECORD(RemoveHeadList(&stripe->Empty), SLAB_CHUNK, Link);
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
BOOLEAN SlabIsSparse(SLAB *slab)
{
    UINT64 items = 0;
    UINT32 chunks;
    KIRQL irql;
    UINT32 i;

    KeAcquireSpinLock(&slab->DirectoryLock, &irql);
    chunks = slab->ChunkCount;
    KeReleaseSpinLock(&slab->DirectoryLock, irql);
    for (i = 0; i < SLAB_STRIPE_COUNT; i++)
    {
        KeAcquireSpinLock(&slab->Stripes[i].Lock, &irql);
        items += slab->Stripes[i].ItemCount;
        KeReleaseSpinLock(&slab->Stripes[i].Lock, irql);
    }
    return chunks > 2 * SLAB_STRIPE_COUNT && items * 4 < (UINT64)chunks * slab->SlotCount;
}

_Use_decl_annotations_
UINT64 SlabBytes(SLAB *slab)
{
    UINT64 bytes = SLAB_STRIPE_COUNT * sizeof(SLAB_STRIPE) + SLAB_PAGE_COUNT * sizeof(SLAB_PAGE *);
    KIRQL irql;

    KeAcquireSpinLock(&slab->DirectoryLock, &irql);
    bytes += (UINT64)slab->ChunkCount * slab->SlotCount * slab->ItemBytes +
             (UINT64)((slab->EntryCount + (1u << SLAB_PAGE_SHIFT) - 1) >> SLAB_PAGE_SHIFT) * sizeof(SLAB_PAGE);
    KeReleaseSpinLock(&slab->DirectoryLock, irql);
    return bytes;
}

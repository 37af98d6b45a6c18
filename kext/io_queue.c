#include "io_queue.h"

#include "options.h"

// The pool rounds up; with the header of the allocation a chunk makes 64 KiB.
#define CHUNK_ALLOCATION_BYTES (64u * 1024u - 16u)
#define CHUNK_DATA_BYTES       (CHUNK_ALLOCATION_BYTES - (UINT32)sizeof(PVOID))

struct _IO_QUEUE_CHUNK
{
    IO_QUEUE_CHUNK *Next;
    UINT8 Data[CHUNK_DATA_BYTES];
};

static_assert(sizeof(IO_QUEUE_CHUNK) == CHUNK_ALLOCATION_BYTES, "64 KiB with the header of the allocation");

// Where a read's copying has come to, in bytes that nobody writes any more. `Chunk` is left behind only when more is
// read, since the link of the last one is not there yet.
typedef struct _CURSOR
{
    IO_QUEUE_CHUNK *Chunk;
    UINT32 Offset;
} CURSOR;

// One read being served, and what the delivery will have taken from the queue.
typedef struct _DELIVERY
{
    PIRP Irp;
    NTSTATUS Status;
    UINT32 Generation;
    CURSOR Cursor;
    UINT64 Available;
    UINT32 SplitRemaining;
    UINT32 Copied;
    UINT32 Records; // whose last byte was copied
} DELIVERY;

static KDEFERRED_ROUTINE DeliverLater;
static DRIVER_CANCEL CancelRead;

// ---- Chunks

static VOID FreeChunks(IO_QUEUE *queue, IO_QUEUE_CHUNK *chunk)
{
    while (chunk != NULL)
    {
        IO_QUEUE_CHUNK *next = chunk->Next;

        MemoryFree(queue->Memory, chunk);
        chunk = next;
    }
}

static VOID PushChunk(IO_QUEUE_CHUNK **list, IO_QUEUE_CHUNK *chunk)
{
    chunk->Next = *list;
    *list = chunk;
}

static IO_QUEUE_CHUNK *PopChunk(IO_QUEUE_CHUNK **list)
{
    IO_QUEUE_CHUNK *chunk = *list;

    *list = chunk->Next;
    return chunk;
}

// The lock is held. A drained chunk is kept for the next records, or goes to those that the caller frees.
static VOID RecycleChunk(IO_QUEUE *queue, IO_QUEUE_CHUNK *chunk, IO_QUEUE_CHUNK **surplus)
{
    if (queue->SpareCount < IO_QUEUE_MAX_SPARE_CHUNKS)
    {
        PushChunk(&queue->Spare, chunk);
        queue->SpareCount++;
    }
    else
    {
        PushChunk(surplus, chunk);
    }
}

// The lock is held. Chunks that a record of this length needs beyond the tail.
static UINT32 ChunksNeeded(const IO_QUEUE *queue, UINT64 length)
{
    UINT32 space = queue->Tail != NULL ? CHUNK_DATA_BYTES - queue->TailOffset : 0;

    return length <= space ? 0 : (UINT32)((length - space + CHUNK_DATA_BYTES - 1) / CHUNK_DATA_BYTES);
}

static VOID AppendChunk(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNK *chunk = PopChunk(&queue->Spare);

    queue->SpareCount--;
    chunk->Next = NULL;
    if (queue->Tail != NULL)
    {
        queue->Tail->Next = chunk;
    }
    else
    {
        queue->Head = chunk;
        queue->HeadOffset = 0;
    }
    queue->Tail = chunk;
    queue->TailOffset = 0;
}

// The lock is held, and there are enough spare chunks.
static VOID AppendBytes(IO_QUEUE *queue, const VOID *data, UINT32 length)
{
    const UINT8 *bytes = (const UINT8 *)data;

    queue->QueuedBytes += length;
    while (length != 0)
    {
        UINT32 part;

        if (queue->Tail == NULL || queue->TailOffset == CHUNK_DATA_BYTES)
        {
            AppendChunk(queue);
        }
        part = CHUNK_DATA_BYTES - queue->TailOffset;
        part = length < part ? length : part;
        RtlCopyMemory(queue->Tail->Data + queue->TailOffset, bytes, part);
        queue->TailOffset += part;
        bytes += part;
        length -= part;
    }
}

// ---- Losses

static UINT32 LossRecordsBytes(const IO_QUEUE *queue)
{
    UINT32 bytes = 0;
    UINT32 reason;

    if (queue->LostTotal == 0 || !queue->Extended)
    {
        return 0;
    }
    for (reason = LossQueueFull; reason < LossReasonCount; reason++)
    {
        bytes += queue->Lost[reason] != 0 ? (UINT32)sizeof(EVENTS_LOST_WIRE) : 0;
    }
    return bytes;
}

static VOID ForgetLosses(IO_QUEUE *queue)
{
    RtlZeroMemory(queue->Lost, sizeof(queue->Lost));
    queue->LostTotal = 0;
}

// The lock is held, and there is room. Returns the number of records.
static UINT32 AppendLossRecords(IO_QUEUE *queue)
{
    UINT32 records = 0;
    UINT32 reason;

    if (LossRecordsBytes(queue) == 0)
    {
        return 0;
    }
    for (reason = LossQueueFull; reason < LossReasonCount; reason++)
    {
        EVENTS_LOST_WIRE wire;

        if (queue->Lost[reason] == 0)
        {
            continue;
        }
        wire.Header.Type = InfoEventsLost;
        wire.Header.Length = sizeof(wire) - sizeof(wire.Header);
        wire.Count = queue->Lost[reason];
        wire.Reason = (UINT8)reason;
        AppendBytes(queue, &wire, sizeof(wire));
        records++;
    }
    queue->QueuedRecords += records;
    ForgetLosses(queue);
    return records;
}

// The lock is held. Where nothing new is pushed any more, a drained queue tells its losses by itself.
static UINT32 AppendLossRecordsIfRoom(IO_QUEUE *queue)
{
    UINT32 bytes = LossRecordsBytes(queue);

    if (bytes == 0 || queue->QueuedBytes + bytes > queue->MaxBytes || ChunksNeeded(queue, bytes) > queue->SpareCount)
    {
        return 0;
    }
    return AppendLossRecords(queue);
}

// ---- Pended reads

static UINT32 ReadLength(PIRP irp)
{
    return IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
}

static UINT8 *ReadBuffer(PIRP irp)
{
    return (UINT8 *)MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);
}

static VOID CompleteRead(PIRP irp, NTSTATUS status, UINT32 bytes)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = bytes;
    IoCompleteRequest(irp, bytes != 0 ? IO_NETWORK_INCREMENT : IO_NO_INCREMENT);
}

static PIRP IrpOf(LIST_ENTRY *entry)
{
    return CONTAINING_RECORD(entry, IRP, Tail.Overlay.ListEntry);
}

// The lock is held. Takes the oldest read whose cancel routine could be cleared; one that is being cancelled stays on
// the list for its cancel routine.
static PIRP TakeRead(IO_QUEUE *queue)
{
    LIST_ENTRY *entry;

    for (entry = queue->Reads.Flink; entry != &queue->Reads; entry = entry->Flink)
    {
        PIRP irp = IrpOf(entry);

        if (IoSetCancelRoutine(irp, NULL) != NULL)
        {
            RemoveEntryList(entry);
            return irp;
        }
    }
    return NULL;
}

_Use_decl_annotations_
static VOID CancelRead(PDEVICE_OBJECT device, PIRP irp)
{
    IO_QUEUE *queue = (IO_QUEUE *)irp->Tail.Overlay.DriverContext[0];
    KIRQL irql;

    UNREFERENCED_PARAMETER(device);
    IoReleaseCancelSpinLock(irp->CancelIrql);

    KeAcquireSpinLock(&queue->Lock, &irql);
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&queue->Lock, irql);
    CompleteRead(irp, STATUS_CANCELLED, 0);
}

// ---- Copying, by the deliverer, without the lock

static VOID ReadBytes(CURSOR *cursor, UINT8 *buffer, UINT32 length)
{
    while (length != 0)
    {
        UINT32 part;

        if (cursor->Offset == CHUNK_DATA_BYTES)
        {
            cursor->Chunk = cursor->Chunk->Next;
            cursor->Offset = 0;
        }
        part = CHUNK_DATA_BYTES - cursor->Offset;
        part = length < part ? length : part;
        RtlCopyMemory(buffer, cursor->Chunk->Data + cursor->Offset, part);
        cursor->Offset += part;
        buffer += part;
        length -= part;
    }
}

static VOID SkipBytes(CURSOR *cursor, UINT32 length)
{
    while (length > CHUNK_DATA_BYTES - cursor->Offset)
    {
        length -= CHUNK_DATA_BYTES - cursor->Offset;
        cursor->Chunk = cursor->Chunk->Next;
        cursor->Offset = 0;
    }
    cursor->Offset += length;
}

// Length of the record that starts at the cursor, header included; steps over it.
static UINT32 SkipRecord(CURSOR *cursor)
{
    INFO_HEADER_WIRE header;

    ReadBytes(cursor, (UINT8 *)&header, sizeof(header));
    SkipBytes(cursor, header.Length);
    return (UINT32)sizeof(header) + header.Length;
}

// How much to copy into a buffer of this size: the rest of a split record, then whole records; or, where not even one
// fits, the start of one.
static UINT32 MeasureRecords(DELIVERY *delivery, UINT32 capacity)
{
    CURSOR cursor = delivery->Cursor;
    UINT32 measured;

    measured = delivery->SplitRemaining < capacity ? delivery->SplitRemaining : capacity;
    delivery->SplitRemaining -= measured;
    if (delivery->SplitRemaining != 0)
    {
        return measured;
    }
    delivery->Records += measured != 0 ? 1 : 0;
    SkipBytes(&cursor, measured);

    while (measured < capacity && measured < delivery->Available)
    {
        UINT32 record = SkipRecord(&cursor);

        if (record > capacity - measured)
        {
            if (measured == 0)
            {
                delivery->SplitRemaining = record - capacity;
                measured = capacity;
            }
            break;
        }
        measured += record;
        delivery->Records++;
    }
    return measured;
}

static VOID FillRead(DELIVERY *delivery)
{
    UINT8 *buffer;

    if (delivery->Available == 0)
    {
        return;
    }
    // It was mapped when the read came in, so this only looks the address up.
    buffer = ReadBuffer(delivery->Irp);
    delivery->Copied = MeasureRecords(delivery, ReadLength(delivery->Irp));
    ReadBytes(&delivery->Cursor, buffer, delivery->Copied);
}

// ---- Delivering

// The lock is held. Takes the next read that can complete now. FALSE: none.
static BOOLEAN StartDelivery(IO_QUEUE *queue, DELIVERY *delivery)
{
    RtlZeroMemory(delivery, sizeof(*delivery));
    if (queue->QueuedBytes == 0 && queue->State != IoQueueShuttingDown)
    {
        return FALSE;
    }
    delivery->Irp = TakeRead(queue);
    if (delivery->Irp == NULL)
    {
        return FALSE;
    }

    delivery->Status = queue->QueuedBytes != 0 ? STATUS_SUCCESS : STATUS_END_OF_FILE;
    delivery->Generation = queue->Generation;
    delivery->Cursor.Chunk = queue->Head;
    delivery->Cursor.Offset = queue->HeadOffset;
    delivery->Available = queue->QueuedBytes;
    delivery->SplitRemaining = queue->SplitRemaining;
    queue->Copying = queue->QueuedBytes != 0;
    return TRUE;
}

// The lock is held. Takes off the queue what was copied. Returns chunks for the caller to free.
static IO_QUEUE_CHUNK *CommitDelivery(IO_QUEUE *queue, const DELIVERY *delivery)
{
    IO_QUEUE_CHUNK *surplus = queue->Orphans;

    queue->Copying = FALSE;
    queue->Orphans = NULL;
    if (queue->Generation != delivery->Generation || delivery->Copied == 0)
    {
        return surplus;
    }

    while (queue->Head != delivery->Cursor.Chunk)
    {
        RecycleChunk(queue, PopChunk(&queue->Head), &surplus);
    }
    queue->HeadOffset = delivery->Cursor.Offset;
    queue->SplitRemaining = delivery->SplitRemaining;
    queue->QueuedBytes -= delivery->Copied;
    queue->QueuedRecords -= delivery->Records;
    if (queue->QueuedBytes == 0)
    {
        // Head is Tail then. The next records overwrite what is still in the processor's cache.
        queue->HeadOffset = 0;
        queue->TailOffset = 0;
    }
    return surplus;
}

// At DISPATCH_LEVEL.
static VOID ServeRead(IO_QUEUE *queue, DELIVERY *delivery)
{
    IO_QUEUE_CHUNK *surplus;
    UINT32 lossRecords;

    FillRead(delivery);

    KeAcquireSpinLockAtDpcLevel(&queue->Lock);
    surplus = CommitDelivery(queue, delivery);
    lossRecords = AppendLossRecordsIfRoom(queue);
    KeReleaseSpinLockFromDpcLevel(&queue->Lock);

    FreeChunks(queue, surplus);
    StatisticsAdd(queue->Statistics, StatisticEventsQueued, lossRecords);
    StatisticsAdd(queue->Statistics, StatisticEventsDelivered, delivery->Records);
    StatisticsAdd(queue->Statistics, StatisticBytesDelivered, delivery->Copied);
    StatisticsAdd(queue->Statistics, StatisticReadsCompleted, 1);
    CompleteRead(delivery->Irp, delivery->Status, delivery->Copied);
}

// The lock is held. TRUE: there is work, and the caller is the deliverer now.
static BOOLEAN BecomeDeliverer(IO_QUEUE *queue)
{
    if (queue->Delivering || IsListEmpty(&queue->Reads) ||
        (queue->QueuedBytes == 0 && queue->State != IoQueueShuttingDown))
    {
        return FALSE;
    }
    queue->Delivering = TRUE;
    return TRUE;
}

// The lock is held. The last that a deliverer does with the queue.
static VOID EndDelivering(IO_QUEUE *queue)
{
    queue->Delivering = FALSE;
    if (queue->Uninitializing)
    {
        KeSetEvent(&queue->Idle, IO_NO_INCREMENT, FALSE);
    }
}

// At DISPATCH_LEVEL, by the deliverer, with no lock held.
static VOID ServeReads(IO_QUEUE *queue)
{
    UINT32 served;

    for (served = 0; served < IO_QUEUE_DELIVERY_BUDGET; served++)
    {
        DELIVERY delivery;
        BOOLEAN started;

        KeAcquireSpinLockAtDpcLevel(&queue->Lock);
        started = StartDelivery(queue, &delivery);
        if (!started)
        {
            EndDelivering(queue);
        }
        KeReleaseSpinLockFromDpcLevel(&queue->Lock);
        if (!started)
        {
            return;
        }
        ServeRead(queue, &delivery);
    }
    // A reader as fast as this would hold a producer here for good: the DPC is the deliverer from now on.
    KeInsertQueueDpc(&queue->DeliverDpc, NULL, NULL);
}

// By the deliverer, with no lock held. Nobody else delivers meanwhile, so it is raised out of the scheduler's reach: a
// producer may be any program's thread, one that is suspended or of idle priority too.
static VOID Deliver(IO_QUEUE *queue)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    ServeReads(queue);
    KeLowerIrql(irql);
}

_Use_decl_annotations_
static VOID DeliverLater(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    ServeReads((IO_QUEUE *)context);
}

// ---- Losses that are reported

// The lock is held. While records wait, losses add up and go before the next one; an empty queue tells them at once.
static UINT32 AddLosses(IO_QUEUE *queue, UINT64 count, UINT8 reason, BOOLEAN *deliver)
{
    UINT32 records = 0;

    queue->Lost[reason] += count;
    queue->LostTotal += count;
    if (queue->QueuedBytes == 0)
    {
        records = AppendLossRecordsIfRoom(queue);
        *deliver = records != 0 && BecomeDeliverer(queue);
    }
    return records;
}

_Use_decl_annotations_
VOID IoQueueReportLost(IO_QUEUE *queue, UINT64 count, UINT8 reason)
{
    BOOLEAN attached;
    BOOLEAN deliver = FALSE;
    UINT32 records = 0;
    KIRQL irql;

    if (reason == LossUncounted || reason >= LossReasonCount)
    {
        return;
    }
    KeAcquireSpinLock(&queue->Lock, &irql);
    attached = queue->State == IoQueueAttached;
    if (attached)
    {
        records = AddLosses(queue, count, reason, &deliver);
    }
    KeReleaseSpinLock(&queue->Lock, irql);
    if (attached)
    {
        StatisticsAdd(queue->Statistics, StatisticEventsLost, (LONG64)count);
        StatisticsAdd(queue->Statistics, StatisticEventsQueued, (LONG64)records);
    }
    if (deliver)
    {
        Deliver(queue);
    }
}

// ---- Records

// A record on its way into the queue, with the chunks that it has brought along.
typedef struct _PUSH
{
    const IO_QUEUE_PIECE *Pieces;
    UINT32 PieceCount;
    UINT64 Length;
    UINT8 LossReason;
    IO_QUEUE_CHUNK *Chunks; // into the queue with the record; afterwards those that are too many
    UINT32 ChunkCount;
    UINT32 MissingChunks;
    UINT32 LossRecords;  // that went before the record
    UINT64 UntoldLosses; // that a base client can only find in the log
} PUSH;

static NTSTATUS MeasurePush(PUSH *push)
{
    INFO_HEADER_WIRE header;
    UINT32 i;

    if (push->PieceCount == 0 || push->Pieces[0].Length < sizeof(header))
    {
        return STATUS_INVALID_PARAMETER;
    }
    for (i = 0; i < push->PieceCount; i++)
    {
        push->Length += push->Pieces[i].Length;
    }
    // The deliverer finds the records again by this length.
    RtlCopyMemory(&header, push->Pieces[0].Data, sizeof(header));
    return push->Length == sizeof(header) + (UINT64)header.Length ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

// The lock is held.
static VOID PutInChunks(IO_QUEUE *queue, PUSH *push)
{
    while (push->ChunkCount != 0)
    {
        PushChunk(&queue->Spare, PopChunk(&push->Chunks));
        queue->SpareCount++;
        push->ChunkCount--;
    }
}

// The lock is held.
static VOID TakeOutSurplus(IO_QUEUE *queue, PUSH *push)
{
    while (queue->SpareCount > IO_QUEUE_MAX_SPARE_CHUNKS)
    {
        PushChunk(&push->Chunks, PopChunk(&queue->Spare));
        queue->SpareCount--;
    }
}

// The lock is held, and there is room and memory.
static VOID AppendRecord(IO_QUEUE *queue, PUSH *push)
{
    UINT32 i;

    push->LossRecords = AppendLossRecords(queue);
    push->UntoldLosses = queue->LostTotal;
    ForgetLosses(queue);
    for (i = 0; i < push->PieceCount; i++)
    {
        AppendBytes(queue, push->Pieces[i].Data, push->Pieces[i].Length);
    }
    queue->QueuedRecords++;
}

// The lock is held. STATUS_RETRY: bring MissingChunks and come again.
static NTSTATUS TryPush(IO_QUEUE *queue, PUSH *push)
{
    UINT64 length = push->Length + LossRecordsBytes(queue);
    UINT32 needed;

    if (queue->State != IoQueueAttached)
    {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    if (length > queue->MaxBytes || queue->QueuedBytes > queue->MaxBytes - length)
    {
        return STATUS_BUFFER_OVERFLOW;
    }
    needed = ChunksNeeded(queue, length);
    if (needed > queue->SpareCount + push->ChunkCount)
    {
        push->MissingChunks = needed - queue->SpareCount - push->ChunkCount;
        return STATUS_RETRY;
    }

    PutInChunks(queue, push);
    AppendRecord(queue, push);
    TakeOutSurplus(queue, push);
    return STATUS_SUCCESS;
}

// Without the lock.
static BOOLEAN BringChunks(IO_QUEUE *queue, PUSH *push)
{
    for (; push->MissingChunks != 0; push->MissingChunks--)
    {
        IO_QUEUE_CHUNK *chunk = (IO_QUEUE_CHUNK *)MemoryAllocateUninitialized(queue->Memory, sizeof(IO_QUEUE_CHUNK));

        if (chunk == NULL)
        {
            return FALSE;
        }
        PushChunk(&push->Chunks, chunk);
        push->ChunkCount++;
    }
    return TRUE;
}

static NTSTATUS PushRecord(IO_QUEUE *queue, PUSH *push, BOOLEAN *deliver)
{
    for (;;)
    {
        NTSTATUS status;
        KIRQL irql;

        KeAcquireSpinLock(&queue->Lock, &irql);
        status = TryPush(queue, push);
        *deliver = status == STATUS_SUCCESS && BecomeDeliverer(queue);
        KeReleaseSpinLock(&queue->Lock, irql);
        if (status != STATUS_RETRY)
        {
            return status;
        }
        if (!BringChunks(queue, push))
        {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
}

static VOID CountLoss(IO_QUEUE *queue, const PUSH *push, NTSTATUS status)
{
    if (push->LossReason != LossUncounted && status != STATUS_DEVICE_NOT_CONNECTED)
    {
        IoQueueReportLost(queue, 1, status == STATUS_INSUFFICIENT_RESOURCES ? LossOutOfMemory : push->LossReason);
    }
}

_Use_decl_annotations_
NTSTATUS IoQueuePush(IO_QUEUE *queue, const IO_QUEUE_PIECE *pieces, UINT32 count, UINT8 lossReason)
{
    BOOLEAN deliver;
    NTSTATUS status;
    PUSH push;

    RtlZeroMemory(&push, sizeof(push));
    push.Pieces = pieces;
    push.PieceCount = count;
    push.LossReason = lossReason;
    status = MeasurePush(&push);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    status = PushRecord(queue, &push, &deliver);
    FreeChunks(queue, push.Chunks);
    if (status != STATUS_SUCCESS)
    {
        CountLoss(queue, &push, status);
        return status;
    }

    StatisticsAdd(queue->Statistics, StatisticEventsQueued, (LONG64)push.LossRecords + 1);
    if (push.UntoldLosses != 0)
    {
        LogWarning(queue->Log, "%llu events were lost", (unsigned long long)push.UntoldLosses);
    }
    if (deliver)
    {
        Deliver(queue);
    }
    return STATUS_SUCCESS;
}

// ---- Reads

static NTSTATUS CheckRead(PIRP irp)
{
    if (irp->MdlAddress == NULL)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return ReadBuffer(irp) != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

// The lock is held. FALSE: it was cancelled before, and is the caller's to complete.
static BOOLEAN PendRead(IO_QUEUE *queue, PIRP irp)
{
    IoMarkIrpPending(irp);
    irp->Tail.Overlay.DriverContext[0] = queue;
    IoSetCancelRoutine(irp, CancelRead);
    if (irp->Cancel && IoSetCancelRoutine(irp, NULL) != NULL)
    {
        return FALSE;
    }
    // Where the cancel routine runs already, it waits for the lock and then finds the read on the list.
    InsertTailList(&queue->Reads, &irp->Tail.Overlay.ListEntry);
    return TRUE;
}

_Use_decl_annotations_
NTSTATUS IoQueueRead(IO_QUEUE *queue, PIRP irp)
{
    BOOLEAN deliver = FALSE;
    BOOLEAN pended = FALSE;
    NTSTATUS status;
    KIRQL irql;

    status = ReadLength(irp) != 0 ? CheckRead(irp) : STATUS_SUCCESS;
    if (ReadLength(irp) == 0 || !NT_SUCCESS(status))
    {
        CompleteRead(irp, status, 0);
        return status;
    }

    KeAcquireSpinLock(&queue->Lock, &irql);
    if (queue->State != IoQueueDetached)
    {
        pended = PendRead(queue, irp);
        deliver = pended && BecomeDeliverer(queue);
        status = STATUS_PENDING;
    }
    KeReleaseSpinLock(&queue->Lock, irql);

    if (!pended)
    {
        CompleteRead(irp, STATUS_CANCELLED, 0);
        return status == STATUS_PENDING ? STATUS_PENDING : STATUS_CANCELLED;
    }
    if (deliver)
    {
        Deliver(queue);
    }
    return STATUS_PENDING;
}

// ---- Clients coming and going

_Use_decl_annotations_
VOID IoQueueInitialize(IO_QUEUE *queue, MEMORY *memory, STATISTICS *statistics, LOG *log)
{
    RtlZeroMemory(queue, sizeof(*queue));
    queue->Memory = memory;
    queue->Statistics = statistics;
    queue->Log = log;
    queue->MaxBytes = OPTIONS_DEFAULT_MAX_QUEUED_BYTES;
    KeInitializeSpinLock(&queue->Lock);
    InitializeListHead(&queue->Reads);
    KeInitializeEvent(&queue->Idle, NotificationEvent, FALSE);
    KeInitializeDpc(&queue->DeliverDpc, DeliverLater, queue);
}

_Use_decl_annotations_
VOID IoQueueUninitialize(IO_QUEUE *queue)
{
    BOOLEAN delivering;
    KIRQL irql;

    IoQueueDetach(queue);

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->Uninitializing = TRUE;
    delivering = queue->Delivering;
    KeReleaseSpinLock(&queue->Lock, irql);
    if (delivering)
    {
        KeWaitForSingleObject(&queue->Idle, Executive, KernelMode, FALSE, NULL);
    }

    // The deliverer set the event under the lock and may not have released it yet; the DPC may not have returned yet.
    KeAcquireSpinLock(&queue->Lock, &irql);
    KeReleaseSpinLock(&queue->Lock, irql);
    KeFlushQueuedDpcs();
}

_Use_decl_annotations_
VOID IoQueueAttach(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNK *reserved = (IO_QUEUE_CHUNK *)MemoryAllocateUninitialized(queue->Memory, sizeof(IO_QUEUE_CHUNK));
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    if (reserved != NULL)
    {
        PushChunk(&queue->Spare, reserved);
        queue->SpareCount++;
    }
    queue->State = IoQueueAttached;
    queue->Extended = FALSE;
    queue->MaxBytes = OPTIONS_DEFAULT_MAX_QUEUED_BYTES;
    KeReleaseSpinLock(&queue->Lock, irql);
}

// The lock is held. Empties the queue; returns the chunks that the caller may free now.
static IO_QUEUE_CHUNK *Discard(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNK *chunks = queue->Head;

    // A deliverer reads at most the chunks of the first discard that comes over it.
    if (queue->Copying && queue->Orphans == NULL)
    {
        queue->Orphans = chunks;
        chunks = NULL;
    }
    while (queue->SpareCount != 0)
    {
        PushChunk(&chunks, PopChunk(&queue->Spare));
        queue->SpareCount--;
    }
    queue->Generation++;
    queue->Head = NULL;
    queue->Tail = NULL;
    queue->HeadOffset = 0;
    queue->TailOffset = 0;
    queue->SplitRemaining = 0;
    queue->QueuedBytes = 0;
    queue->QueuedRecords = 0;
    ForgetLosses(queue);
    return chunks;
}

// The lock is held. Takes all reads that the caller may complete, oldest first.
static VOID TakeReads(IO_QUEUE *queue, LIST_ENTRY *taken)
{
    PIRP irp;

    InitializeListHead(taken);
    for (irp = TakeRead(queue); irp != NULL; irp = TakeRead(queue))
    {
        InsertTailList(taken, &irp->Tail.Overlay.ListEntry);
    }
}

_Use_decl_annotations_
VOID IoQueueDetach(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNK *chunks;
    LIST_ENTRY reads;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->State = IoQueueDetached;
    TakeReads(queue, &reads);
    chunks = Discard(queue);
    KeReleaseSpinLock(&queue->Lock, irql);

    FreeChunks(queue, chunks);
    while (!IsListEmpty(&reads))
    {
        CompleteRead(IrpOf(RemoveHeadList(&reads)), STATUS_CANCELLED, 0);
    }
}

_Use_decl_annotations_
VOID IoQueueShutdown(IO_QUEUE *queue)
{
    BOOLEAN deliver = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    if (queue->State == IoQueueAttached)
    {
        queue->State = IoQueueShuttingDown;
        deliver = BecomeDeliverer(queue);
    }
    KeReleaseSpinLock(&queue->Lock, irql);
    if (deliver)
    {
        Deliver(queue);
    }
}

_Use_decl_annotations_
VOID IoQueueSetOptions(IO_QUEUE *queue, UINT32 maxBytes, BOOLEAN extended)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->MaxBytes = maxBytes > IO_QUEUE_LEAST_MAX_BYTES ? maxBytes : IO_QUEUE_LEAST_MAX_BYTES;
    queue->Extended = extended;
    KeReleaseSpinLock(&queue->Lock, irql);
}

_Use_decl_annotations_
UINT64 IoQueueBytes(IO_QUEUE *queue)
{
    UINT64 bytes;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    bytes = queue->QueuedBytes;
    KeReleaseSpinLock(&queue->Lock, irql);
    return bytes;
}

_Use_decl_annotations_
UINT64 IoQueueRecords(IO_QUEUE *queue)
{
    UINT64 records;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    records = queue->QueuedRecords;
    KeReleaseSpinLock(&queue->Lock, irql);
    return records;
}

#include "io_queue.h"

#include "options.h"

// A chunk and the 16 bytes of its pool header make 64 KiB, because the pool rounds allocations up.
#define CHUNK_ALLOCATION_BYTES (64u * 1024u - 16u)
#define CHUNK_DATA_BYTES       (CHUNK_ALLOCATION_BYTES - (UINT32)sizeof(PVOID))

struct _IO_QUEUE_CHUNK
{
    IO_QUEUE_CHUNK *Next;
    UINT8 Data[CHUNK_DATA_BYTES];
};

static_assert(sizeof(IO_QUEUE_CHUNK) == CHUNK_ALLOCATION_BYTES, "64 KiB with the header of the allocation");

// How far the copying to a read has come. No thread writes the bytes up to here again.
// A cursor leaves `Chunk` only to read more bytes, because the newest chunk has no link yet.
typedef struct _CURSOR
{
    IO_QUEUE_CHUNK *Chunk;
    UINT32 Offset;
} CURSOR;

// One read that is being served, and the bytes and records that its delivery takes from the queue.
typedef struct _DELIVERY
{
    PIRP Irp;
    NTSTATUS Status;
    UINT32 Generation;
    CURSOR Cursor;
    UINT64 Available;
    UINT32 SplitRemaining;
    UINT32 Copied;
    UINT32 Records; // records whose last byte was copied
} DELIVERY;

static KDEFERRED_ROUTINE IoQueueDeliverLater;
static DRIVER_CANCEL IoQueueCancelRead;

// ---- Chunks

static VOID IoQueueFreeChunks(IO_QUEUE *queue, IO_QUEUE_CHUNK *chunk)
{
    while (chunk != NULL)
    {
        IO_QUEUE_CHUNK *next = chunk->Next;

        MemoryFree(queue->Memory, chunk);
        chunk = next;
    }
}

static VOID IoQueuePushChunk(IO_QUEUE_CHUNKS *list, IO_QUEUE_CHUNK *chunk)
{
    chunk->Next = list->First;
    list->First = chunk;
    list->Count++;
}

static IO_QUEUE_CHUNK *IoQueuePopChunk(IO_QUEUE_CHUNKS *list)
{
    IO_QUEUE_CHUNK *chunk = list->First;

    list->First = chunk->Next;
    list->Count--;
    return chunk;
}

// Moves chunks from `from` to `to`, until `keep` chunks are left in `from`.
static VOID IoQueueMoveChunks(IO_QUEUE_CHUNKS *from, UINT32 keep, IO_QUEUE_CHUNKS *to)
{
    while (from->Count > keep)
    {
        IoQueuePushChunk(to, IoQueuePopChunk(from));
    }
}

// Allocates a chunk. FALSE: there is no memory.
static BOOLEAN IoQueueAllocateChunk(IO_QUEUE *queue, IO_QUEUE_CHUNKS *list)
{
    IO_QUEUE_CHUNK *chunk = (IO_QUEUE_CHUNK *)MemoryAllocateUninitialized(queue->Memory, sizeof(IO_QUEUE_CHUNK));

    if (chunk != NULL)
    {
        IoQueuePushChunk(list, chunk);
    }
    return chunk != NULL;
}

// The lock is held. Counts the chunks that a record of this length needs beyond the tail.
static UINT32 IoQueueChunksNeeded(const IO_QUEUE *queue, UINT64 length)
{
    UINT32 space = queue->Tail != NULL ? CHUNK_DATA_BYTES - queue->TailOffset : 0;

    return length <= space ? 0 : (UINT32)((length - space + CHUNK_DATA_BYTES - 1) / CHUNK_DATA_BYTES);
}

static VOID IoQueueAppendChunk(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNK *chunk = IoQueuePopChunk(&queue->Spare);

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

// The lock is held, and there are enough spare chunks for the bytes to append.
static VOID IoQueueAppendBytes(IO_QUEUE *queue, const VOID *data, UINT32 length)
{
    const UINT8 *bytes = (const UINT8 *)data;

    queue->QueuedBytes += length;
    while (length != 0)
    {
        UINT32 part;

        if (queue->Tail == NULL || queue->TailOffset == CHUNK_DATA_BYTES)
        {
            IoQueueAppendChunk(queue);
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

static UINT32 IoQueueLossRecordBytes(const IO_QUEUE *queue)
{
    return (UINT32)sizeof(EVENTS_LOST_WIRE) + (queue->Extension >= 2 ? (UINT32)sizeof(EVENTS_LOST_OWNER_WIRE) : 0);
}

static UINT32 IoQueueLossRecordsBytes(const IO_QUEUE *queue)
{
    UINT32 bytes = 0;
    UINT32 reason;

    if (queue->LostTotal == 0 || queue->Extension == 0)
    {
        return 0;
    }
    for (reason = LossQueueFull; reason < LossReasonCount; reason++)
    {
        bytes += queue->Lost[reason].Count != 0 ? IoQueueLossRecordBytes(queue) : 0;
    }
    return bytes;
}

static VOID IoQueueForgetLosses(IO_QUEUE *queue)
{
    RtlZeroMemory(queue->Lost, sizeof(queue->Lost));
    queue->LostTotal = 0;
}

// The lock is held, and there is room for the loss records. Returns their number.
static UINT32 IoQueueAppendLossRecords(IO_QUEUE *queue)
{
    UINT32 records = 0;
    UINT32 reason;

    if (IoQueueLossRecordsBytes(queue) == 0)
    {
        return 0;
    }
    for (reason = LossQueueFull; reason < LossReasonCount; reason++)
    {
        const IO_QUEUE_LOSSES *lost = &queue->Lost[reason];
        EVENTS_LOST_OWNER_WIRE owner;
        EVENTS_LOST_WIRE wire;

        if (lost->Count == 0)
        {
            continue;
        }
        wire.Header.Type = InfoEventsLost;
        wire.Header.Length = IoQueueLossRecordBytes(queue) - (UINT32)sizeof(wire.Header);
        wire.Count = lost->Count;
        wire.Reason = (UINT8)reason;
        owner.ProcessId = lost->ProcessId;
        IoQueueAppendBytes(queue, &wire, sizeof(wire));
        IoQueueAppendBytes(queue, &owner, IoQueueLossRecordBytes(queue) - (UINT32)sizeof(wire));
        records++;
    }
    queue->QueuedRecords += records;
    IoQueueForgetLosses(queue);
    return records;
}

// The lock is held. A drained queue reports its losses at once, because perhaps no further push comes to report them.
static UINT32 IoQueueAppendLossRecordsIfRoom(IO_QUEUE *queue)
{
    UINT32 bytes = IoQueueLossRecordsBytes(queue);

    if (bytes == 0 || queue->QueuedBytes + bytes > queue->MaxBytes ||
        IoQueueChunksNeeded(queue, bytes) > queue->Spare.Count)
    {
        return 0;
    }
    return IoQueueAppendLossRecords(queue);
}

// ---- Pended reads

static UINT32 IoQueueReadLength(PIRP irp)
{
    return IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length;
}

static UINT8 *IoQueueReadBuffer(PIRP irp)
{
    return (UINT8 *)MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);
}

static VOID IoQueueCompleteRead(PIRP irp, NTSTATUS status, UINT32 bytes)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = bytes;
    IoCompleteRequest(irp, bytes != 0 ? IO_NETWORK_INCREMENT : IO_NO_INCREMENT);
}

static PIRP IoQueueIrpOf(LIST_ENTRY *entry)
{
    return CONTAINING_RECORD(entry, IRP, Tail.Overlay.ListEntry);
}

// The lock is held. Takes the oldest read whose cancel routine could be cleared.
// A read whose cancel routine runs stays on the list, for the cancel routine to take.
static PIRP IoQueueTakeRead(IO_QUEUE *queue)
{
    LIST_ENTRY *entry;

    for (entry = queue->Reads.Flink; entry != &queue->Reads; entry = entry->Flink)
    {
        PIRP irp = IoQueueIrpOf(entry);

        if (IoSetCancelRoutine(irp, NULL) != NULL)
        {
            RemoveEntryList(entry);
            return irp;
        }
    }
    return NULL;
}

_Use_decl_annotations_
static VOID IoQueueCancelRead(PDEVICE_OBJECT device, PIRP irp)
{
    IO_QUEUE *queue = (IO_QUEUE *)irp->Tail.Overlay.DriverContext[0];
    KIRQL irql;

    UNREFERENCED_PARAMETER(device);
    IoReleaseCancelSpinLock(irp->CancelIrql);

    KeAcquireSpinLock(&queue->Lock, &irql);
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&queue->Lock, irql);
    IoQueueCompleteRead(irp, STATUS_CANCELLED, 0);
}

// ---- Copying, by the deliverer, without the lock

static VOID IoQueueReadBytes(CURSOR *cursor, UINT8 *buffer, UINT32 length)
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

static VOID IoQueueSkipBytes(CURSOR *cursor, UINT32 length)
{
    while (length > CHUNK_DATA_BYTES - cursor->Offset)
    {
        length -= CHUNK_DATA_BYTES - cursor->Offset;
        cursor->Chunk = cursor->Chunk->Next;
        cursor->Offset = 0;
    }
    cursor->Offset += length;
}

// Steps over the record at the cursor. Returns its length, header included.
static UINT32 IoQueueSkipRecord(CURSOR *cursor)
{
    INFO_HEADER_WIRE header;

    IoQueueReadBytes(cursor, (UINT8 *)&header, sizeof(header));
    IoQueueSkipBytes(cursor, header.Length);
    return (UINT32)sizeof(header) + header.Length;
}

// Measures how many bytes to copy into a buffer of this size: the rest of a split record, then whole records.
// If not even one whole record fits, the start of a record is copied.
static UINT32 IoQueueMeasureRecords(DELIVERY *delivery, UINT32 capacity)
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
    IoQueueSkipBytes(&cursor, measured);

    while (measured < capacity && measured < delivery->Available)
    {
        UINT32 record = IoQueueSkipRecord(&cursor);

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

static VOID IoQueueFillRead(DELIVERY *delivery)
{
    UINT8 *buffer;

    if (delivery->Available == 0)
    {
        return;
    }
    // The buffer was mapped when the read came, so this call only looks up its address.
    buffer = IoQueueReadBuffer(delivery->Irp);
    delivery->Copied = IoQueueMeasureRecords(delivery, IoQueueReadLength(delivery->Irp));
    IoQueueReadBytes(&delivery->Cursor, buffer, delivery->Copied);
}

// ---- Delivering

// The lock is held. TRUE: a read can complete now.
static BOOLEAN IoQueueHasWork(const IO_QUEUE *queue)
{
    return queue->QueuedBytes != 0 || queue->State == IoQueueShuttingDown;
}

// The lock is held, and there is work.
static VOID IoQueueBeginDelivery(IO_QUEUE *queue, DELIVERY *delivery, PIRP irp)
{
    RtlZeroMemory(delivery, sizeof(*delivery));
    delivery->Irp = irp;
    delivery->Status = queue->QueuedBytes != 0 ? STATUS_SUCCESS : STATUS_END_OF_FILE;
    delivery->Generation = queue->Generation;
    delivery->Cursor.Chunk = queue->Head;
    delivery->Cursor.Offset = queue->HeadOffset;
    delivery->Available = queue->QueuedBytes;
    delivery->SplitRemaining = queue->SplitRemaining;
    queue->Copying = queue->QueuedBytes != 0;
}

// The lock is held. Removes the copied bytes from the queue. Returns chunks for the caller to free.
static IO_QUEUE_CHUNK *IoQueueCommitDelivery(IO_QUEUE *queue, const DELIVERY *delivery)
{
    IO_QUEUE_CHUNKS surplus;

    surplus.First = queue->Orphans;
    surplus.Count = 0;
    queue->Copying = FALSE;
    queue->Orphans = NULL;
    if (queue->Generation != delivery->Generation || delivery->Copied == 0)
    {
        return surplus.First;
    }

    while (queue->Head != delivery->Cursor.Chunk)
    {
        IO_QUEUE_CHUNK *drained = queue->Head;

        queue->Head = drained->Next;
        // Some of the drained chunks are kept for the next records.
        IoQueuePushChunk(queue->Spare.Count < IO_QUEUE_MAX_SPARE_CHUNKS ? &queue->Spare : &surplus, drained);
    }
    queue->HeadOffset = delivery->Cursor.Offset;
    queue->SplitRemaining = delivery->SplitRemaining;
    queue->QueuedBytes -= delivery->Copied;
    queue->QueuedRecords -= delivery->Records;
    if (queue->QueuedBytes == 0)
    {
        // Head is Tail here. The next records start over in that chunk, whose bytes are in the processor's cache.
        queue->HeadOffset = 0;
        queue->TailOffset = 0;
    }
    return surplus.First;
}

// Copies to one read, without completing it. The IRQL is DISPATCH_LEVEL, and the caller is the deliverer.
static VOID IoQueueFinishDelivery(IO_QUEUE *queue, DELIVERY *delivery)
{
    IO_QUEUE_CHUNK *surplus;
    UINT32 lossRecords;

    IoQueueFillRead(delivery);

    KeAcquireSpinLockAtDpcLevel(&queue->Lock);
    surplus = IoQueueCommitDelivery(queue, delivery);
    lossRecords = IoQueueAppendLossRecordsIfRoom(queue);
    KeReleaseSpinLockFromDpcLevel(&queue->Lock);

    IoQueueFreeChunks(queue, surplus);
    StatisticsAdd(queue->Statistics, StatisticEventsQueued, lossRecords);
    StatisticsAdd(queue->Statistics, StatisticEventsDelivered, delivery->Records);
    StatisticsAdd(queue->Statistics, StatisticBytesDelivered, delivery->Copied);
    StatisticsAdd(queue->Statistics, StatisticReadsCompleted, 1);
}

// The lock is held. Wakes the thread of the oldest waiting read. FALSE: no read waits.
static BOOLEAN IoQueueWakeReader(IO_QUEUE *queue)
{
    if (IsListEmpty(&queue->WaitingReads))
    {
        return FALSE;
    }
    WaitingReadWake(CONTAINING_RECORD(queue->WaitingReads.Flink, WAITING_READ, Entry));
    return TRUE;
}

// The lock is held. TRUE: there is work, and the caller is the deliverer now.
// A waiting read's own thread is the next deliverer, so no other thread is while a read waits.
static BOOLEAN IoQueueBecomeDeliverer(IO_QUEUE *queue)
{
    if (queue->Delivering || !IoQueueHasWork(queue) || IoQueueWakeReader(queue) || IsListEmpty(&queue->Reads))
    {
        return FALSE;
    }
    queue->Delivering = TRUE;
    return TRUE;
}

// The lock is held. Once it is released, the caller must not touch the queue.
static VOID IoQueueSignalIdle(IO_QUEUE *queue)
{
    if (queue->Uninitializing && !queue->Delivering && queue->Readers == 0)
    {
        KeSetEvent(&queue->Idle, IO_NO_INCREMENT, FALSE);
    }
}

// The lock is held. Once it is released, the deliverer that called this must not touch the queue.
static VOID IoQueueEndDelivering(IO_QUEUE *queue)
{
    queue->Delivering = FALSE;
    IoQueueSignalIdle(queue);
}

// The lock is held. Takes the next pended read that can complete now. FALSE: there is none.
static BOOLEAN IoQueueStartDelivery(IO_QUEUE *queue, DELIVERY *delivery)
{
    PIRP irp;

    if (!IoQueueHasWork(queue) || IoQueueWakeReader(queue))
    {
        return FALSE;
    }
    irp = IoQueueTakeRead(queue);
    if (irp == NULL)
    {
        return FALSE;
    }
    IoQueueBeginDelivery(queue, delivery, irp);
    return TRUE;
}

// The deliverer calls this at DISPATCH_LEVEL, with no lock held.
static VOID IoQueueServeReads(IO_QUEUE *queue)
{
    UINT32 served;

    for (served = 0; served < IO_QUEUE_DELIVERY_BUDGET; served++)
    {
        DELIVERY delivery;
        BOOLEAN started;

        KeAcquireSpinLockAtDpcLevel(&queue->Lock);
        started = IoQueueStartDelivery(queue, &delivery);
        if (!started)
        {
            IoQueueEndDelivering(queue);
        }
        KeReleaseSpinLockFromDpcLevel(&queue->Lock);
        if (!started)
        {
            return;
        }
        IoQueueFinishDelivery(queue, &delivery);
        IoQueueCompleteRead(delivery.Irp, delivery.Status, delivery.Copied);
    }
    // A fast reader would keep a producer here without end, so the DPC is the deliverer from now on.
    KeInsertQueueDpc(&queue->DeliverDpc, NULL, NULL);
}

// The deliverer calls this with no lock held. No other thread delivers meanwhile.
// A producer may be any program's thread, even a thread that is suspended or has idle priority.
// So the deliverer runs at DISPATCH_LEVEL, above the scheduler.
static VOID IoQueueDeliver(IO_QUEUE *queue)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    IoQueueServeReads(queue);
    KeLowerIrql(irql);
}

_Use_decl_annotations_
static VOID IoQueueDeliverLater(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    UNREFERENCED_PARAMETER(dpc);
    UNREFERENCED_PARAMETER(argument1);
    UNREFERENCED_PARAMETER(argument2);
    IoQueueServeReads((IO_QUEUE *)context);
}

// ---- Losses that are reported

// The lock is held. While records wait, losses add up and are reported before the next record.
// An empty queue reports losses at once.
static UINT32 IoQueueAddLosses(IO_QUEUE *queue, UINT64 count, UINT8 reason, UINT64 processId, BOOLEAN *deliver)
{
    IO_QUEUE_LOSSES *lost = &queue->Lost[reason];
    UINT32 records = 0;

    lost->ProcessId = lost->Count == 0 || lost->ProcessId == processId ? processId : 0;
    lost->Count += count;
    queue->LostTotal += count;
    if (queue->QueuedBytes == 0)
    {
        records = IoQueueAppendLossRecordsIfRoom(queue);
        *deliver = records != 0 && IoQueueBecomeDeliverer(queue);
    }
    return records;
}

_Use_decl_annotations_
VOID IoQueueReportLost(IO_QUEUE *queue, UINT64 count, UINT8 reason, UINT64 processId)
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
        records = IoQueueAddLosses(queue, count, reason, processId, &deliver);
    }
    KeReleaseSpinLock(&queue->Lock, irql);
    if (attached)
    {
        StatisticsAdd(queue->Statistics, StatisticEventsLost, (LONG64)count);
        StatisticsAdd(queue->Statistics, StatisticEventsQueued, (LONG64)records);
    }
    if (deliver)
    {
        IoQueueDeliver(queue);
    }
}

// ---- Records

// A record that is being pushed, and the chunks that its producer has allocated for it.
typedef struct _PUSH
{
    const IO_QUEUE_PIECE *Pieces;
    UINT32 PieceCount;
    UINT64 Length;
    UINT32 Records;
    const IO_QUEUE_LOSS *Loss;
    BOOLEAN OutOfMemory;    // no further chunk can be allocated
    BOOLEAN Deliver;        // the producer became the deliverer
    IO_QUEUE_CHUNKS Chunks; // the chunks that the producer brings; after the push, those to free
    UINT32 MissingChunks;
    UINT32 LossRecords;      // the loss records that went before the record
    UINT64 UnreportedLosses; // losses that a base client finds only in the log
} PUSH;

// Returns the number of pieces of the record that starts with the piece `first`. 0: its header does not fit them.
static UINT32 IoQueueMeasureRecord(PUSH *push, UINT32 first)
{
    INFO_HEADER_WIRE header;
    UINT64 length = 0;
    UINT32 i;

    if (push->Pieces[first].Length < sizeof(header))
    {
        return 0;
    }
    // The deliverer finds the records again by this length.
    RtlCopyMemory(&header, push->Pieces[first].Data, sizeof(header));
    for (i = first; i < push->PieceCount && length < sizeof(header) + (UINT64)header.Length; i++)
    {
        length += push->Pieces[i].Length;
    }
    push->Length += length;
    push->Records++;
    return length == sizeof(header) + (UINT64)header.Length ? i - first : 0;
}

static NTSTATUS IoQueueMeasurePush(PUSH *push)
{
    UINT32 first = 0;

    while (first < push->PieceCount)
    {
        UINT32 pieces = IoQueueMeasureRecord(push, first);

        if (pieces == 0)
        {
            return STATUS_INVALID_PARAMETER;
        }
        first += pieces;
    }
    return push->Records != 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

// The lock is held, and there are room and chunks for the record.
static VOID IoQueueAppendRecord(IO_QUEUE *queue, PUSH *push)
{
    UINT32 i;

    push->LossRecords = IoQueueAppendLossRecords(queue);
    push->UnreportedLosses = queue->LostTotal;
    IoQueueForgetLosses(queue);
    for (i = 0; i < push->PieceCount; i++)
    {
        IoQueueAppendBytes(queue, push->Pieces[i].Data, push->Pieces[i].Length);
    }
    queue->QueuedRecords += push->Records;
}

// The lock is held. STATUS_RETRY: allocate MissingChunks and try again.
static NTSTATUS IoQueueTryPush(IO_QUEUE *queue, PUSH *push)
{
    UINT64 length = push->Length + IoQueueLossRecordsBytes(queue);
    UINT32 needed;

    if (queue->State != IoQueueAttached)
    {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    if (length > queue->MaxBytes || queue->QueuedBytes > queue->MaxBytes - length)
    {
        return STATUS_BUFFER_OVERFLOW;
    }
    needed = IoQueueChunksNeeded(queue, length);
    if (needed > queue->Spare.Count + push->Chunks.Count)
    {
        push->MissingChunks = needed - queue->Spare.Count - push->Chunks.Count;
        return push->OutOfMemory ? STATUS_INSUFFICIENT_RESOURCES : STATUS_RETRY;
    }

    IoQueueMoveChunks(&push->Chunks, 0, &queue->Spare);
    IoQueueAppendRecord(queue, push);
    IoQueueMoveChunks(&queue->Spare, IO_QUEUE_MAX_SPARE_CHUNKS, &push->Chunks);
    return STATUS_SUCCESS;
}

// Allocates the missing chunks. The lock is not held.
static BOOLEAN IoQueueBringChunks(IO_QUEUE *queue, PUSH *push)
{
    while (push->MissingChunks != 0 && IoQueueAllocateChunk(queue, &push->Chunks))
    {
        push->MissingChunks--;
    }
    return push->MissingChunks == 0;
}

static NTSTATUS IoQueuePushOnce(IO_QUEUE *queue, PUSH *push)
{
    NTSTATUS status;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    status = IoQueueTryPush(queue, push);
    push->Deliver = status == STATUS_SUCCESS && IoQueueBecomeDeliverer(queue);
    KeReleaseSpinLock(&queue->Lock, irql);
    return status;
}

static NTSTATUS IoQueuePassOnce(IO_QUEUE *queue, const IO_QUEUE_GATE *gate, PUSH *push)
{
    NTSTATUS status = STATUS_NOT_FOUND;
    KIRQL irql;

    KeAcquireSpinLock(gate->Lock, &irql);
    if (gate->MayPass(gate->Context))
    {
        status = IoQueuePushOnce(queue, push);
        if (status != STATUS_RETRY)
        {
            gate->Settled(gate->Context, status);
        }
    }
    KeReleaseSpinLock(gate->Lock, irql);
    return status;
}

static NTSTATUS IoQueuePushRecord(IO_QUEUE *queue, const IO_QUEUE_GATE *gate, PUSH *push)
{
    for (;;)
    {
        NTSTATUS status = gate != NULL ? IoQueuePassOnce(queue, gate, push) : IoQueuePushOnce(queue, push);

        if (status != STATUS_RETRY)
        {
            return status;
        }
        push->OutOfMemory = !IoQueueBringChunks(queue, push);
    }
}

static VOID IoQueueCountLoss(IO_QUEUE *queue, const PUSH *push, NTSTATUS status)
{
    const IO_QUEUE_LOSS *loss = push->Loss;

    if (loss->Reason != LossUncounted && status != STATUS_DEVICE_NOT_CONNECTED && status != STATUS_NOT_FOUND)
    {
        IoQueueReportLost(queue, 1, status == STATUS_INSUFFICIENT_RESOURCES ? LossOutOfMemory : loss->Reason,
                          loss->ProcessId);
    }
}

_Use_decl_annotations_
NTSTATUS IoQueuePushInOrder(IO_QUEUE *queue, const IO_QUEUE_GATE *gate, const IO_QUEUE_PIECE *pieces, UINT32 count,
                            const IO_QUEUE_LOSS *loss)
{
    NTSTATUS status;
    PUSH push;

    RtlZeroMemory(&push, sizeof(push));
    push.Pieces = pieces;
    push.PieceCount = count;
    push.Loss = loss;
    status = IoQueueMeasurePush(&push);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    status = IoQueuePushRecord(queue, gate, &push);
    IoQueueFreeChunks(queue, push.Chunks.First);
    if (status != STATUS_SUCCESS)
    {
        IoQueueCountLoss(queue, &push, status);
        return status;
    }

    StatisticsAdd(queue->Statistics, StatisticEventsQueued, (LONG64)push.LossRecords + push.Records);
    if (push.UnreportedLosses != 0)
    {
        LogWarning(queue->Log, "%llu events were lost", (unsigned long long)push.UnreportedLosses);
    }
    if (push.Deliver)
    {
        IoQueueDeliver(queue);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
NTSTATUS IoQueuePush(IO_QUEUE *queue, const IO_QUEUE_PIECE *pieces, UINT32 count, const IO_QUEUE_LOSS *loss)
{
    return IoQueuePushInOrder(queue, NULL, pieces, count, loss);
}

// ---- Reads

static NTSTATUS IoQueueCheckRead(PIRP irp)
{
    if (irp->MdlAddress == NULL)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return IoQueueReadBuffer(irp) != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

// The lock is held. FALSE: the read was cancelled before, and the caller completes it.
static BOOLEAN IoQueuePendRead(IO_QUEUE *queue, PIRP irp)
{
    IoMarkIrpPending(irp);
    irp->Tail.Overlay.DriverContext[0] = queue;
    IoSetCancelRoutine(irp, IoQueueCancelRead);
    if (irp->Cancel && IoSetCancelRoutine(irp, NULL) != NULL)
    {
        return FALSE;
    }
    // A cancel routine that already runs waits for the lock, and then finds the read on the list.
    InsertTailList(&queue->Reads, &irp->Tail.Overlay.ListEntry);
    return TRUE;
}

static NTSTATUS IoQueuePend(IO_QUEUE *queue, PIRP irp)
{
    NTSTATUS status = STATUS_CANCELLED;
    BOOLEAN deliver = FALSE;
    BOOLEAN pended = FALSE;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    if (queue->State != IoQueueDetached)
    {
        pended = IoQueuePendRead(queue, irp);
        deliver = pended && IoQueueBecomeDeliverer(queue);
        status = STATUS_PENDING;
    }
    KeReleaseSpinLock(&queue->Lock, irql);

    if (!pended)
    {
        IoQueueCompleteRead(irp, STATUS_CANCELLED, 0);
    }
    if (deliver)
    {
        IoQueueDeliver(queue);
    }
    return status;
}

// Adds a waiting read. Where that fails, it completes the IRP.
static NTSTATUS IoQueueAddWaitingRead(IO_QUEUE *queue, PIRP irp, WAITING_READ **waiting)
{
    WAITING_READ *read = WaitingReadCreate(queue->Memory, irp);
    BOOLEAN attached;
    KIRQL irql;

    if (read == NULL)
    {
        IoQueueCompleteRead(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeAcquireSpinLock(&queue->Lock, &irql);
    attached = queue->State != IoQueueDetached;
    if (attached)
    {
        InsertTailList(&queue->WaitingReads, &read->Entry);
        queue->Readers++;
    }
    KeReleaseSpinLock(&queue->Lock, irql);

    if (!attached)
    {
        WaitingReadFree(queue->Memory, read);
        IoQueueCompleteRead(irp, STATUS_CANCELLED, 0);
        return STATUS_CANCELLED;
    }
    *waiting = read;
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
NTSTATUS IoQueueRead(IO_QUEUE *queue, PIRP irp, WAITING_READ **waiting)
{
    NTSTATUS status = IoQueueReadLength(irp) != 0 ? IoQueueCheckRead(irp) : STATUS_SUCCESS;

    *waiting = NULL;
    if (IoQueueReadLength(irp) == 0 || !NT_SUCCESS(status))
    {
        IoQueueCompleteRead(irp, status, 0);
        return status;
    }
    return ReadNoFence(&queue->ReadsPend) != 0 ? IoQueuePend(queue, irp) : IoQueueAddWaitingRead(queue, irp, waiting);
}

// ---- Waiting reads, in their own threads

// The lock is held. FALSE: the read waits on. TRUE: the queue does not know the read any longer.
// If the read gets records or the end of the file, the caller is the deliverer, and delivery->Irp is set.
static BOOLEAN IoQueueEndWait(IO_QUEUE *queue, WAITING_READ *read, NTSTATUS waited, DELIVERY *delivery)
{
    RtlZeroMemory(delivery, sizeof(*delivery));
    if (read->Detached)
    {
        delivery->Status = STATUS_CANCELLED;
        return TRUE;
    }
    if (read->Irp->Cancel || waited != STATUS_SUCCESS)
    {
        delivery->Status = read->Irp->Cancel ? STATUS_CANCELLED : waited;
    }
    else if (queue->WaitingReads.Flink == &read->Entry && !queue->Delivering && IoQueueHasWork(queue))
    {
        queue->Delivering = TRUE;
        IoQueueBeginDelivery(queue, delivery, read->Irp);
    }
    else
    {
        return FALSE;
    }
    RemoveEntryList(&read->Entry);
    return TRUE;
}

// Ends the wait if there is a reason to, and then lets the next read have its turn.
static BOOLEAN IoQueueTryEndWait(IO_QUEUE *queue, WAITING_READ *read, NTSTATUS waited, DELIVERY *delivery)
{
    BOOLEAN ended;
    BOOLEAN deliver;
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    KeAcquireSpinLockAtDpcLevel(&queue->Lock);
    ended = IoQueueEndWait(queue, read, waited, delivery);
    deliver = ended && (delivery->Irp != NULL || IoQueueBecomeDeliverer(queue));
    KeReleaseSpinLockFromDpcLevel(&queue->Lock);

    if (delivery->Irp != NULL)
    {
        IoQueueFinishDelivery(queue, delivery);
    }
    if (deliver)
    {
        IoQueueServeReads(queue);
    }
    KeLowerIrql(irql);
    return ended;
}

static VOID IoQueueLeave(IO_QUEUE *queue)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->Readers--;
    IoQueueSignalIdle(queue);
    KeReleaseSpinLock(&queue->Lock, irql);
}

_Use_decl_annotations_
NTSTATUS IoQueueAwaitRead(IO_QUEUE *queue, WAITING_READ *read)
{
    NTSTATUS waited = STATUS_SUCCESS;
    PIRP irp = read->Irp;
    DELIVERY delivery;

    while (!IoQueueTryEndWait(queue, read, waited, &delivery))
    {
        waited = WaitingReadWait(read);
    }
    WaitingReadFree(queue->Memory, read);
    IoQueueLeave(queue);
    IoQueueCompleteRead(irp, delivery.Status, delivery.Copied);
    return delivery.Status;
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
    InitializeListHead(&queue->WaitingReads);
    KeInitializeEvent(&queue->Idle, NotificationEvent, FALSE);
    KeInitializeDpc(&queue->DeliverDpc, IoQueueDeliverLater, queue);
}

_Use_decl_annotations_
VOID IoQueueUninitialize(IO_QUEUE *queue)
{
    BOOLEAN busy;
    KIRQL irql;

    IoQueueDetach(queue);

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->Uninitializing = TRUE;
    busy = queue->Delivering || queue->Readers != 0;
    KeReleaseSpinLock(&queue->Lock, irql);
    if (busy)
    {
        KeWaitForSingleObject(&queue->Idle, Executive, KernelMode, FALSE, NULL);
    }

    // The event was set under the lock, so that thread may still hold the lock, and a deliverer's DPC may still run.
    KeAcquireSpinLock(&queue->Lock, &irql);
    KeReleaseSpinLock(&queue->Lock, irql);
    KeFlushQueuedDpcs();
}

_Use_decl_annotations_
VOID IoQueueAttach(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNKS reserved = {NULL, 0};
    KIRQL irql;

    (VOID) IoQueueAllocateChunk(queue, &reserved);
    KeAcquireSpinLock(&queue->Lock, &irql);
    IoQueueMoveChunks(&reserved, 0, &queue->Spare);
    queue->State = IoQueueAttached;
    queue->Extension = 0;
    InterlockedExchange(&queue->ReadsPend, queue->BaseReadsPend);
    queue->MaxBytes = OPTIONS_DEFAULT_MAX_QUEUED_BYTES;
    KeReleaseSpinLock(&queue->Lock, irql);
}

// The lock is held. Empties the queue. Returns the chunks that the caller may free now.
static IO_QUEUE_CHUNK *IoQueueDiscard(IO_QUEUE *queue)
{
    IO_QUEUE_CHUNKS chunks;

    chunks.First = queue->Head;
    chunks.Count = 0;
    // A deliverer reads at most the chunks of the first discard that comes while it copies.
    if (queue->Copying && queue->Orphans == NULL)
    {
        queue->Orphans = chunks.First;
        chunks.First = NULL;
    }
    IoQueueMoveChunks(&queue->Spare, 0, &chunks);
    queue->Generation++;
    queue->Head = NULL;
    queue->Tail = NULL;
    queue->HeadOffset = 0;
    queue->TailOffset = 0;
    queue->SplitRemaining = 0;
    queue->QueuedBytes = 0;
    queue->QueuedRecords = 0;
    IoQueueForgetLosses(queue);
    return chunks.First;
}

// The lock is held. Takes all reads that the caller may complete, oldest first.
static VOID IoQueueTakeReads(IO_QUEUE *queue, LIST_ENTRY *taken)
{
    PIRP irp;

    InitializeListHead(taken);
    for (irp = IoQueueTakeRead(queue); irp != NULL; irp = IoQueueTakeRead(queue))
    {
        InsertTailList(taken, &irp->Tail.Overlay.ListEntry);
    }
}

// The lock is held. The threads of the waiting reads complete them.
static VOID IoQueueDetachWaitingReads(IO_QUEUE *queue)
{
    while (!IsListEmpty(&queue->WaitingReads))
    {
        WAITING_READ *read = CONTAINING_RECORD(RemoveHeadList(&queue->WaitingReads), WAITING_READ, Entry);

        read->Detached = TRUE;
        WaitingReadWake(read);
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
    IoQueueTakeReads(queue, &reads);
    IoQueueDetachWaitingReads(queue);
    chunks = IoQueueDiscard(queue);
    KeReleaseSpinLock(&queue->Lock, irql);

    IoQueueFreeChunks(queue, chunks);
    while (!IsListEmpty(&reads))
    {
        IoQueueCompleteRead(IoQueueIrpOf(RemoveHeadList(&reads)), STATUS_CANCELLED, 0);
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
        deliver = IoQueueBecomeDeliverer(queue);
    }
    KeReleaseSpinLock(&queue->Lock, irql);
    if (deliver)
    {
        IoQueueDeliver(queue);
    }
}

_Use_decl_annotations_
VOID IoQueueSetOptions(IO_QUEUE *queue, UINT32 maxBytes, UINT8 extension)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->MaxBytes = maxBytes > IO_QUEUE_LEAST_MAX_BYTES ? maxBytes : IO_QUEUE_LEAST_MAX_BYTES;
    queue->Extension = extension;
    KeReleaseSpinLock(&queue->Lock, irql);
}

_Use_decl_annotations_
VOID IoQueuePendReads(IO_QUEUE *queue)
{
    InterlockedExchange(&queue->ReadsPend, TRUE);
}

_Use_decl_annotations_
BOOLEAN IoQueueIsHalfFull(IO_QUEUE *queue)
{
    BOOLEAN halfFull;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    halfFull = queue->QueuedBytes > queue->MaxBytes / 2;
    KeReleaseSpinLock(&queue->Lock, irql);
    return halfFull;
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

#include "io_queue.h"

#include "options.h"

static KDEFERRED_ROUTINE IoQueueDeliverLater;
static DRIVER_CANCEL IoQueueCancelRead;

// ---- Units

// The lock is held.
static UINT64 IoQueueWaitingBytes(const IO_QUEUE *queue)
{
    return queue->Lanes.QueuedBytes + queue->RestBytes;
}

// The lock is held, or the caller alone knows the unit.
static VOID IoQueueFreeUnit(IO_QUEUE *queue, LANE_RECORD *record)
{
    if (record != &queue->LossUnit.Record)
    {
        MemoryFree(queue->Memory, record);
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

static UINT8 *IoQueuePutLosses(const IO_QUEUE *queue, UINT8 *end, UINT8 reason)
{
    const IO_QUEUE_LOSSES *lost = &queue->Lost[reason];
    EVENTS_LOST_OWNER_WIRE owner;
    EVENTS_LOST_WIRE wire;

    wire.Header.Type = InfoEventsLost;
    wire.Header.Length = IoQueueLossRecordBytes(queue) - (UINT32)sizeof(wire.Header);
    wire.Count = lost->Count;
    wire.Reason = reason;
    owner.ProcessId = lost->ProcessId;
    RtlCopyMemory(end, &wire, sizeof(wire));
    RtlCopyMemory(end + sizeof(wire), &owner, sizeof(owner));
    return end + IoQueueLossRecordBytes(queue);
}

// The lock is held. Queues the report of all losses, if there is room. Returns the number of its records.
// The memory of the report before may still be in use. Then its losses wait for the next one.
static UINT32 IoQueueAppendLosses(IO_QUEUE *queue)
{
    LANE_RECORD *record = &queue->LossUnit.Record;
    UINT32 bytes = IoQueueLossRecordsBytes(queue);
    UINT8 *end = LaneRecordBytes(record);
    UINT32 reason;

    if (bytes == 0 || queue->LossUnitWaits || IoQueueWaitingBytes(queue) + bytes > queue->MaxBytes)
    {
        return 0;
    }
    RtlZeroMemory(record, sizeof(*record));
    for (reason = LossQueueFull; reason < LossReasonCount; reason++)
    {
        if (queue->Lost[reason].Count != 0)
        {
            end = IoQueuePutLosses(queue, end, (UINT8)reason);
            record->Records++;
        }
    }
    record->Length = bytes;
    queue->LossUnitWaits = TRUE;
    IoQueueForgetLosses(queue);
    LanesAppend(&queue->Lanes, NULL, record, NULL);
    return record->Records;
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

// ---- Adding units to a read

// The lock is held. Returns whether to leave out the ProcessInfo of a unit, because the client has it.
// It is not left out where the read would be empty without it.
static BOOLEAN IoQueueHasProcess(IO_QUEUE *queue, const DELIVERY *delivery, const LANE_RECORD *record)
{
    UINT64 value;

    return record->Optional != 0 && RecentSetFind(queue->Delivered, record->ProcessKey, &value) &&
           value == record->ProcessValue &&
           (record->Optional != record->Length || delivery->Planned != 0 || queue->Lanes.QueuedBytes != record->Length);
}

static VOID IoQueueNoteProcess(IO_QUEUE *queue, const LANE_RECORD *record)
{
    UINT64 value;

    if (record->Optional != 0)
    {
        (VOID) RecentSetTake(queue->Delivered, record->ProcessKey, &value);
        RecentSetAdd(queue->Delivered, record->ProcessKey, record->ProcessValue);
    }
}

// The lock is held, and there is room for the unit.
static VOID IoQueueAddUnit(IO_QUEUE *queue, DELIVERY *delivery, LANE_RECORD *record)
{
    LanesTake(&queue->Lanes, record);
    if (record->To != 0)
    {
        record->Records--;
        delivery->LeftOut++;
    }
    IoQueueNoteProcess(queue, record);
    DeliveryAdd(delivery, record);
    if (delivery->Rest != NULL)
    {
        queue->RestBytes = record->Length - record->To;
        queue->RestRecords = record->Records;
    }
}

// The lock is held. Adds the next units. delivery->More: perhaps more units fit.
static VOID IoQueueAddUnits(IO_QUEUE *queue, DELIVERY *delivery)
{
    UINT32 i;

    delivery->More = FALSE;
    for (i = 0; i < IO_QUEUE_UNITS_AT_ONCE && delivery->Rest == NULL; i++)
    {
        LANE_RECORD *record = queue->Generation == delivery->Generation ? LanesNext(&queue->Lanes) : NULL;

        if (record == NULL)
        {
            return;
        }
        record->To = IoQueueHasProcess(queue, delivery, record) ? record->Optional : 0;
        if (!DeliveryHasRoom(delivery, record))
        {
            return;
        }
        IoQueueAddUnit(queue, delivery, record);
    }
    delivery->More = delivery->Rest == NULL;
}

// The lock is held. Adds what is left of the unit before.
static VOID IoQueueAddRest(IO_QUEUE *queue, DELIVERY *delivery)
{
    LANE_RECORD *rest = queue->Rest;

    if (rest != NULL)
    {
        queue->Rest = NULL;
        DeliveryAdd(delivery, rest);
        queue->RestBytes = rest->Length - rest->To;
        queue->RestRecords = rest->Records;
    }
}

// Copies the units that were added, and frees those that are delivered. The lock is not held.
static VOID IoQueueCopyUnits(IO_QUEUE *queue, DELIVERY *delivery)
{
    // The buffer was mapped when the read came, so this call only looks up its address.
    UINT8 *buffer = delivery->Planned != 0 ? IoQueueReadBuffer(delivery->Irp) : NULL;
    LANE_RECORD *record;

    while ((record = DeliveryCopy(delivery, buffer)) != NULL)
    {
        delivery->Losses = delivery->Losses || record == &queue->LossUnit.Record;
        if (record != delivery->Rest)
        {
            IoQueueFreeUnit(queue, record);
        }
    }
}

// ---- Delivering

// The lock is held. TRUE: a read can complete now.
static BOOLEAN IoQueueHasWork(const IO_QUEUE *queue)
{
    return IoQueueWaitingBytes(queue) != 0 || queue->State == IoQueueShuttingDown;
}

// The lock is held, and there is work.
static VOID IoQueueBeginDelivery(IO_QUEUE *queue, DELIVERY *delivery, PIRP irp)
{
    DeliveryInitialize(delivery, IoQueueReadLength(irp));
    delivery->Irp = irp;
    delivery->Status = IoQueueWaitingBytes(queue) != 0 ? STATUS_SUCCESS : STATUS_END_OF_FILE;
    delivery->Generation = queue->Generation;
    IoQueueAddRest(queue, delivery);
    IoQueueAddUnits(queue, delivery);
}

// The lock is held. Returns a unit that the caller frees, or NULL.
static LANE_RECORD *IoQueueEndDelivery(IO_QUEUE *queue, const DELIVERY *delivery)
{
    LANE_RECORD *unwanted = NULL;

    if (queue->Generation == delivery->Generation)
    {
        queue->Rest = delivery->Rest;
    }
    else
    {
        unwanted = delivery->Rest;
    }
    if (delivery->Losses && (delivery->Rest != &queue->LossUnit.Record || unwanted != NULL))
    {
        queue->LossUnitWaits = FALSE;
    }
    return unwanted;
}

// Copies to one read, without completing it. The IRQL is DISPATCH_LEVEL, and the caller is the deliverer.
static VOID IoQueueFinishDelivery(IO_QUEUE *queue, DELIVERY *delivery)
{
    LANE_RECORD *unwanted = NULL;
    UINT32 lossRecords = 0;
    BOOLEAN more;

    do
    {
        IoQueueCopyUnits(queue, delivery);
        KeAcquireSpinLockAtDpcLevel(&queue->Lock);
        more = delivery->More;
        if (more)
        {
            IoQueueAddUnits(queue, delivery);
        }
        else
        {
            unwanted = IoQueueEndDelivery(queue, delivery);
            lossRecords = queue->State != IoQueueDetached ? IoQueueAppendLosses(queue) : 0;
        }
        KeReleaseSpinLockFromDpcLevel(&queue->Lock);
    } while (more);

    IoQueueFreeUnit(queue, unwanted);
    StatisticsAdd(queue->Statistics, StatisticEventsQueued, (LONG64)lossRecords - delivery->LeftOut);
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
    if (IoQueueWaitingBytes(queue) == 0)
    {
        records = IoQueueAppendLosses(queue);
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

// A unit that is being pushed.
typedef struct _PUSH
{
    const IO_QUEUE_UNIT *Unit;
    UINT64 Length;
    UINT32 Records;
    LANE_RECORD *Record;     // its memory; NULL: there is none
    BOOLEAN Deliver;         // the producer became the deliverer
    UINT32 LossRecords;      // the loss records that went before the record
    UINT64 UnreportedLosses; // losses that a base client finds only in the log
} PUSH;

// Returns the number of pieces of the record that starts with the piece `first`. 0: its header does not fit them.
static UINT32 IoQueueMeasureRecord(PUSH *push, UINT32 first)
{
    INFO_HEADER_WIRE header;
    UINT64 length = 0;
    UINT32 i;

    if (push->Unit->Pieces[first].Length < sizeof(header))
    {
        return 0;
    }
    // The deliverer finds the records again by this length.
    RtlCopyMemory(&header, push->Unit->Pieces[first].Data, sizeof(header));
    for (i = first; i < push->Unit->PieceCount && length < sizeof(header) + (UINT64)header.Length; i++)
    {
        length += push->Unit->Pieces[i].Length;
    }
    push->Length += length;
    push->Records++;
    return length == sizeof(header) + (UINT64)header.Length ? i - first : 0;
}

static NTSTATUS IoQueueMeasurePush(PUSH *push)
{
    UINT32 first = 0;

    while (first < push->Unit->PieceCount)
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

// Copies the records into the memory of the unit. A gate may have changed them before.
static VOID IoQueueFillUnit(PUSH *push)
{
    const IO_QUEUE_PROCESS *process = push->Unit->Process;
    LANE_RECORD *record = push->Record;
    UINT8 *end;
    UINT32 i;

    if (record == NULL)
    {
        return;
    }
    RtlZeroMemory(record, sizeof(*record));
    record->Length = (UINT32)push->Length;
    record->Records = push->Records;
    record->Asks = push->Unit->Asks;
    record->Ends = push->Unit->Ends;
    record->Barrier = push->Unit->Barrier;
    if (process != NULL)
    {
        record->Optional = process->Length;
        record->ProcessKey = process->Key;
        record->ProcessValue = process->Value;
    }
    end = LaneRecordBytes(record);
    for (i = 0; i < push->Unit->PieceCount; i++)
    {
        RtlCopyMemory(end, push->Unit->Pieces[i].Data, push->Unit->Pieces[i].Length);
        end += push->Unit->Pieces[i].Length;
    }
}

// The lock is held. Returns the bytes that may wait once this unit waits.
// Ends would else fill the queue and leave the questions of others to the fail policy.
static UINT64 IoQueueLimit(const IO_QUEUE *queue, const IO_QUEUE_UNIT *unit)
{
    return unit->Owner == NULL || unit->Asks ? queue->MaxBytes
                                             : queue->MaxBytes - queue->MaxBytes / IO_QUEUE_QUESTION_PART;
}

// The lock is held. There is no room for the unit.
static NTSTATUS IoQueueMakeRoom(IO_QUEUE *queue, const PUSH *push)
{
    LANE_QUESTION *question = push->Unit->Question;

    return question != NULL && question->Lane != NULL && push->Length <= queue->MaxBytes
               ? LanesMakeRoom(&queue->Lanes, question, push->Length)
               : STATUS_BUFFER_OVERFLOW;
}

// The lock is held. A base client gets no record of losses.
static VOID IoQueueReportLosses(IO_QUEUE *queue, PUSH *push)
{
    push->LossRecords = IoQueueAppendLosses(queue);
    if (queue->Extension == 0)
    {
        push->UnreportedLosses = queue->LostTotal;
        IoQueueForgetLosses(queue);
    }
}

// The lock is held.
static NTSTATUS IoQueueTryPush(IO_QUEUE *queue, PUSH *push)
{
    UINT64 limit = IoQueueLimit(queue, push->Unit);

    if (queue->State != IoQueueAttached)
    {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    if (push->Length > limit || IoQueueWaitingBytes(queue) > limit - push->Length)
    {
        return IoQueueMakeRoom(queue, push);
    }
    if (push->Record == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IoQueueReportLosses(queue, push);
    LanesAppend(&queue->Lanes, push->Unit->Owner, push->Record, push->Unit->Question);
    push->Record = NULL;
    return STATUS_SUCCESS;
}

static NTSTATUS IoQueuePushOnce(IO_QUEUE *queue, PUSH *push)
{
    NTSTATUS status;
    KIRQL irql;

    IoQueueFillUnit(push);
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

static VOID IoQueueCountLoss(IO_QUEUE *queue, const IO_QUEUE_LOSS *loss, NTSTATUS status)
{
    if (loss->Reason != LossUncounted && (status == STATUS_BUFFER_OVERFLOW || status == STATUS_INSUFFICIENT_RESOURCES))
    {
        IoQueueReportLost(queue, 1, status == STATUS_INSUFFICIENT_RESOURCES ? LossOutOfMemory : loss->Reason,
                          loss->ProcessId);
    }
}

static VOID IoQueueEndPush(IO_QUEUE *queue, const PUSH *push)
{
    StatisticsAdd(queue->Statistics, StatisticEventsQueued, (LONG64)push->LossRecords + push->Records);
    if (push->UnreportedLosses != 0)
    {
        LogWarning(queue->Log, "%llu events were lost", (unsigned long long)push->UnreportedLosses);
    }
    if (push->Deliver)
    {
        IoQueueDeliver(queue);
    }
}

_Use_decl_annotations_
NTSTATUS IoQueuePushUnit(IO_QUEUE *queue, const IO_QUEUE_GATE *gate, const IO_QUEUE_UNIT *unit)
{
    NTSTATUS status;
    PUSH push;

    RtlZeroMemory(&push, sizeof(push));
    push.Unit = unit;
    status = IoQueueMeasurePush(&push);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    push.Record = (LANE_RECORD *)MemoryAllocateUninitialized(queue->Memory, sizeof(LANE_RECORD) + (SIZE_T)push.Length);
    status = gate != NULL ? IoQueuePassOnce(queue, gate, &push) : IoQueuePushOnce(queue, &push);
    IoQueueFreeUnit(queue, push.Record);
    if (status == STATUS_SUCCESS)
    {
        IoQueueEndPush(queue, &push);
        return status;
    }
    IoQueueCountLoss(queue, unit->Loss, status);
    return status;
}

_Use_decl_annotations_
NTSTATUS IoQueuePush(IO_QUEUE *queue, const IO_QUEUE_PIECE *pieces, UINT32 count, const IO_QUEUE_LOSS *loss)
{
    IO_QUEUE_UNIT unit;

    RtlZeroMemory(&unit, sizeof(unit));
    unit.Pieces = pieces;
    unit.PieceCount = count;
    unit.Loss = loss;
    return IoQueuePushUnit(queue, NULL, &unit);
}

// ---- What questions hold

_Use_decl_annotations_
NTSTATUS IoQueueAdmit(IO_QUEUE *queue, const LANE_OWNER *owner, LANE_QUESTION *question)
{
    NTSTATUS status = STATUS_DEVICE_NOT_CONNECTED;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    if (queue->State == IoQueueAttached)
    {
        status = LanesAdmit(&queue->Lanes, owner, question);
    }
    KeReleaseSpinLock(&queue->Lock, irql);
    return status;
}

_Use_decl_annotations_
BOOLEAN IoQueueWithdraw(IO_QUEUE *queue, LANE_QUESTION *question)
{
    BOOLEAN unknown;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    unknown = LanesWithdraw(&queue->Lanes, question);
    KeReleaseSpinLock(&queue->Lock, irql);
    return unknown;
}

static VOID IoQueueFreeUnwanted(IO_QUEUE *queue, LANE_QUESTION *question)
{
    while (question->Unwanted != NULL)
    {
        LANE_RECORD *unwanted = question->Unwanted;

        question->Unwanted = unwanted->Next;
        StatisticsAdd(queue->Statistics, StatisticEventsQueued, -(LONG64)unwanted->Records);
        IoQueueFreeUnit(queue, unwanted);
    }
}

_Use_decl_annotations_
VOID IoQueueRelease(IO_QUEUE *queue, LANE_QUESTION *question)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    LanesRelease(&queue->Lanes, question);
    KeReleaseSpinLock(&queue->Lock, irql);
    IoQueueFreeUnwanted(queue, question);
}

_Use_decl_annotations_
BOOLEAN IoQueueTakeRefused(IO_QUEUE *queue, UINT64 now, UINT64 *count, UINT64 *processId)
{
    BOOLEAN taken;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    taken = LanesTakeRefused(&queue->Lanes, now, IO_QUEUE_REFUSED_PERIOD_MS * PLATFORM_TICKS_PER_MILLISECOND, count,
                             processId);
    KeReleaseSpinLock(&queue->Lock, irql);
    return taken;
}

_Use_decl_annotations_
BOOLEAN IoQueueHasRefused(IO_QUEUE *queue)
{
    BOOLEAN refused;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    refused = LanesHaveRefused(&queue->Lanes);
    KeReleaseSpinLock(&queue->Lock, irql);
    return refused;
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
NTSTATUS IoQueueInitialize(IO_QUEUE *queue, MEMORY *memory, STATISTICS *statistics, LOG *log)
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
    return LanesInitialize(&queue->Lanes, memory);
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
    LanesUninitialize(&queue->Lanes);
}

_Use_decl_annotations_
VOID IoQueueAttach(IO_QUEUE *queue)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->State = IoQueueAttached;
    queue->Extension = 0;
    queue->Lanes.InTurn = FALSE;
    InterlockedExchange(&queue->ReadsPend, queue->BaseReadsPend);
    queue->MaxBytes = OPTIONS_DEFAULT_MAX_QUEUED_BYTES;
    KeReleaseSpinLock(&queue->Lock, irql);
}

// The lock is held. Forgets what a deliverer does not have. Returns the rest of a unit, or NULL.
static LANE_RECORD *IoQueueForget(IO_QUEUE *queue)
{
    LANE_RECORD *rest = queue->Rest;

    queue->Generation++;
    queue->Rest = NULL;
    queue->RestBytes = 0;
    queue->RestRecords = 0;
    if (rest == &queue->LossUnit.Record)
    {
        queue->LossUnitWaits = FALSE;
    }
    IoQueueForgetLosses(queue);
    LanesForgetRefused(&queue->Lanes);
    return rest;
}

// The lock is held. Takes the next units, of which the caller frees those in `taken`. FALSE: none is left.
static BOOLEAN IoQueueTakeUnits(IO_QUEUE *queue, LIST_ENTRY *taken)
{
    LANE_RECORD *record = LanesNext(&queue->Lanes);
    UINT32 i;

    InitializeListHead(taken);
    for (i = 0; i < IO_QUEUE_UNITS_AT_ONCE && record != NULL; i++)
    {
        LanesTake(&queue->Lanes, record);
        InsertTailList(taken, &record->Link);
        if (record == &queue->LossUnit.Record)
        {
            queue->LossUnitWaits = FALSE;
        }
        record = LanesNext(&queue->Lanes);
    }
    return !IsListEmpty(taken);
}

// Frees all units that wait, a few at a time. No unit comes, because no client is attached.
static VOID IoQueueDiscard(IO_QUEUE *queue)
{
    LIST_ENTRY taken;
    BOOLEAN more;
    KIRQL irql;

    do
    {
        KeAcquireSpinLock(&queue->Lock, &irql);
        more = IoQueueTakeUnits(queue, &taken);
        KeReleaseSpinLock(&queue->Lock, irql);
        while (!IsListEmpty(&taken))
        {
            IoQueueFreeUnit(queue, CONTAINING_RECORD(RemoveHeadList(&taken), LANE_RECORD, Link));
        }
    } while (more);
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
    LANE_RECORD *rest;
    LIST_ENTRY reads;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->State = IoQueueDetached;
    IoQueueTakeReads(queue, &reads);
    IoQueueDetachWaitingReads(queue);
    rest = IoQueueForget(queue);
    KeReleaseSpinLock(&queue->Lock, irql);

    IoQueueFreeUnit(queue, rest);
    IoQueueDiscard(queue);
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
VOID IoQueueSetHeldLimits(IO_QUEUE *queue, UINT32 maxPackets, UINT64 maxBytes)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    queue->Lanes.MaxHeld[LaneHeldPackets] = maxPackets;
    queue->Lanes.MaxHeld[LaneHeldBytes] = maxBytes;
    KeReleaseSpinLock(&queue->Lock, irql);
}

_Use_decl_annotations_
VOID IoQueueExtend(IO_QUEUE *queue)
{
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    InterlockedExchange(&queue->ReadsPend, TRUE);
    queue->Lanes.InTurn = TRUE;
    KeReleaseSpinLock(&queue->Lock, irql);
}

_Use_decl_annotations_
BOOLEAN IoQueueIsHalfFull(IO_QUEUE *queue)
{
    BOOLEAN halfFull;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    halfFull = IoQueueWaitingBytes(queue) > queue->MaxBytes / 2;
    KeReleaseSpinLock(&queue->Lock, irql);
    return halfFull;
}

_Use_decl_annotations_
UINT64 IoQueueBytes(IO_QUEUE *queue)
{
    UINT64 bytes;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    bytes = IoQueueWaitingBytes(queue);
    KeReleaseSpinLock(&queue->Lock, irql);
    return bytes;
}

_Use_decl_annotations_
UINT64 IoQueueRecords(IO_QUEUE *queue)
{
    UINT64 records;
    KIRQL irql;

    KeAcquireSpinLock(&queue->Lock, &irql);
    records = queue->Lanes.QueuedRecords + queue->RestRecords;
    KeReleaseSpinLock(&queue->Lock, irql);
    return records;
}

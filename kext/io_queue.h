// The event queue: records that wait for the client's reads, and reads that wait for records.
//
// One spin lock guards everything but the copying. The order of the records is that of their lanes (lanes.h).
// Producers copy their record before they take the lock, and only link it under the lock.
// At most one thread at a time is the deliverer.
// The deliverer takes a read and units of records off their lists under the lock. Then they belong to the deliverer.
// It copies the records, frees them and completes the read without the lock.
// The deliverer runs at DISPATCH_LEVEL, because no other thread could deliver while it is not scheduled.
// After IO_QUEUE_DELIVERY_BUDGET reads a deliverer hands over to a DPC, so a producer soon returns to its packet.
//
// A read of an extended client pends. A read of a base client waits in the thread that issued it (waiting_read.h).
// A waiting read's own thread delivers to it, and becomes the deliverer for that.
// Where a thread would become the deliverer and a read waits, it wakes the oldest one instead.
// So waiting reads are served in their order, and before the pended ones, which can only have come later.
// A thread whose wait ends for another reason gives its turn to the next read.
// Readers counts the threads of waiting reads. IoQueueUninitialize waits until they have left.
//
// The thread that takes a pended read off the list under the lock completes that read.
// The deliverer and IoQueueDetach take only reads whose cancel routine they could clear.
// The cancel routine takes the other reads.
//
// A gate makes records of several threads keep an order: under the gate's lock a thread asks whether its record may be
// queued, queues it, and notes that. The gate's functions are the driver's own, and take at most locks of a table.
//
// The queue's lock is a leaf under the cancel spin lock's rules. It is taken after a gate's lock.
// While the lock is held no IRP is completed, no memory is allocated or freed, and no line is logged.
//
// test/models/io_queue.pml is a model of this queue. test/models/base_read.pml is one of its waiting reads.
// The model's states `detached`, `attached` and `shutting_down` are the values of IO_QUEUE_STATE.
// The model's `delivering` and `generation` are the members of IO_QUEUE with those names.

#pragma once

#include "delivery.h"
#include "log.h"
#include "recent_set.h"
#include "statistics.h"
#include "waiting_read.h"

EXTERN_C_START

/// One piece of a record. A record is given as an array of pieces, in order.
typedef struct _IO_QUEUE_PIECE
{
    const VOID *Data;
    UINT32 Length;
} IO_QUEUE_PIECE;

/// A process that a unit names first. Its ProcessInfo is left out if the client has it.
typedef struct _IO_QUEUE_PROCESS
{
    UINT32 Length; ///< of the unit's first record, the ProcessInfo
    UINT64 Key;    ///< of the pair that the set of delivered processes gets, or has
    UINT64 Value;
} IO_QUEUE_PROCESS;

/// What counts as lost if a unit is not queued.
typedef struct _IO_QUEUE_LOSS
{
    UINT8 Reason;     ///< LOSS_REASON of a unit that finds no room. LossUncounted: the caller keeps the data
    UINT64 ProcessId; ///< that the unit is about; 0: none
} IO_QUEUE_LOSS;

/// One or several whole records that are queued as one unit: all or none.
typedef struct _IO_QUEUE_UNIT
{
    const IO_QUEUE_PIECE *Pieces; ///< in order; each record starts with a piece
    UINT32 PieceCount;
    const IO_QUEUE_LOSS *Loss;       ///< a unit counts as one loss
    const LANE_OWNER *Owner;         ///< NULL: it is a reply, a log line or a loss
    BOOLEAN Asks;                    ///< it has a question
    BOOLEAN Ends;                    ///< it is the end of a connection
    BOOLEAN Barrier;                 ///< it follows all units that came before; a reply
    LANE_QUESTION *Question;         ///< that question, if it may be given up; or NULL
    const IO_QUEUE_PROCESS *Process; ///< or NULL
} IO_QUEUE_UNIT;

/// What keeps a record in order with other records. All of them share the lock.
typedef struct _IO_QUEUE_GATE
{
    KSPIN_LOCK *Lock;
    /// Returns whether the record may be queued now. It may be called several times.
    BOOLEAN (*MayPass)(_Inout_ VOID *context);
    /// Follows a last MayPass under the same hold of the lock. `status` is the answer that the caller gets.
    VOID (*Settled)(_Inout_ VOID *context, _In_ NTSTATUS status);
    VOID *Context;
} IO_QUEUE_GATE;

typedef enum _IO_QUEUE_STATE
{
    IoQueueDetached,
    IoQueueAttached,
    IoQueueShuttingDown ///< no new records; reads get the rest, then end-of-file
} IO_QUEUE_STATE;

// Reads that one producer or reader completes before it hands over to the DPC.
#define IO_QUEUE_DELIVERY_BUDGET 16

// The most units that are added to a read under one hold of the lock, or discarded.
#define IO_QUEUE_UNITS_AT_ONCE 32

// Records about connections leave this part of the queue to questions: one in so many bytes.
#define IO_QUEUE_QUESTION_PART 8

#define IO_QUEUE_LEAST_MAX_BYTES 1024u

// An owner's refused questions are reported at most once in this time.
#define IO_QUEUE_REFUSED_PERIOD_MS 1000u

/// The losses of one reason that are not yet reported.
typedef struct _IO_QUEUE_LOSSES
{
    UINT64 Count;
    UINT64 ProcessId; ///< that all of them are about; 0: several or none
} IO_QUEUE_LOSSES;

/// The unit that reports losses. It needs no memory, of which the want may be the reason of a loss.
typedef struct _IO_QUEUE_LOSS_UNIT
{
    LANE_RECORD Record;
    UINT8 Bytes[LossReasonCount * (sizeof(EVENTS_LOST_WIRE) + sizeof(EVENTS_LOST_OWNER_WIRE))];
} IO_QUEUE_LOSS_UNIT;

typedef struct _IO_QUEUE
{
    MEMORY *Memory;
    STATISTICS *Statistics;
    LOG *Log;
    RECENT_SET *Delivered; ///< key and value of each IO_QUEUE_PROCESS that the client has; set before the first attach
    KDPC DeliverDpc;
    KEVENT Idle;             ///< set when a waiting IoQueueUninitialize may go on
    BOOLEAN BaseReadsPend;   ///< base clients' reads pend, too; set before the first client attaches
    volatile LONG ReadsPend; ///< reads that come now pend

    KSPIN_LOCK Lock;
    // Lock guards all members below.
    IO_QUEUE_STATE State;
    UINT8 Extension;         ///< the protocol extension whose EventsLost the client understands; 0: none
    BOOLEAN Delivering;      ///< there is a deliverer, or the DPC is queued to be one
    BOOLEAN Uninitializing;  ///< IoQueueUninitialize waits for the deliverer and for the readers
    UINT32 Generation;       ///< changes with each detach
    UINT32 Readers;          ///< threads of waiting reads
    LIST_ENTRY WaitingReads; ///< WAITING_READs by Entry, oldest first
    LIST_ENTRY Reads;        ///< pended IRPs by Tail.Overlay.ListEntry, oldest first
    UINT64 MaxBytes;
    LANES Lanes;
    LANE_RECORD *Rest; ///< a unit whose start was delivered, and that no deliverer has now; or NULL
    UINT32 RestBytes;  ///< of that unit, also while a deliverer has it
    UINT32 RestRecords;
    UINT64 LostTotal;
    IO_QUEUE_LOSSES Lost[LossReasonCount]; ///< by reason
    IO_QUEUE_LOSS_UNIT LossUnit;
    BOOLEAN LossUnitWaits; ///< it is in its lane, or a deliverer has it
} IO_QUEUE;

/// Makes a detached, empty queue with the bounds of a base client.
/// STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
IoQueueInitialize(_Out_ IO_QUEUE *queue, _Inout_ MEMORY *memory, _Inout_ STATISTICS *statistics, _Inout_ LOG *log);

/// Detaches, waits for a delivery in progress and for waiting reads, and frees everything.
/// No producer or reader may come afterwards.
_IRQL_requires_(PASSIVE_LEVEL)
VOID IoQueueUninitialize(_Inout_ IO_QUEUE *queue);

/// Attaches a base client: the queue takes records and reads from now on.
/// The queue starts with an empty stream and with the options of a base client.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueAttach(_Inout_ IO_QUEUE *queue);

/// Detaches the client: discards all records and cancels all reads (STATUS_CANCELLED).
/// A read that the deliverer fills at this moment completes later, and so does a waiting read, in its own thread.
/// The function does not wait for them.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueDetach(_Inout_ IO_QUEUE *queue);

/// Makes the queue take no more records. Until IoQueueDetach, reads get the records that are left.
/// When no record is left, reads complete with STATUS_END_OF_FILE.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueShutdown(_Inout_ IO_QUEUE *queue);

/// Sets the bound for the bytes that wait to `maxBytes`, or to IO_QUEUE_LEAST_MAX_BYTES if that is more.
/// Records that wait already stay. `extension`: the protocol extension whose EventsLost is sent; 0: none.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueSetOptions(_Inout_ IO_QUEUE *queue, _In_ UINT32 maxBytes, _In_ UINT8 extension);

/// Sets the bounds for what questions hold. What is held stays.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueSetHeldLimits(_Inout_ IO_QUEUE *queue, _In_ UINT32 maxPackets, _In_ UINT64 maxBytes);

/// Charges a question to its owner, under the rules of LanesAdmit. The record of the question is pushed later.
/// STATUS_RETRY: the caller withdraws and resolves the question `question->Displaced`, and tries again.
/// STATUS_DEVICE_NOT_CONNECTED: there is no client.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS IoQueueAdmit(_Inout_ IO_QUEUE *queue, _In_ const LANE_OWNER *owner, _Inout_ LANE_QUESTION *question);

/// Withdraws a question that was given up (LanesWithdraw). IoQueueRelease frees its records.
/// TRUE: the client knows nothing of the connection.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN IoQueueWithdraw(_Inout_ IO_QUEUE *queue, _Inout_ LANE_QUESTION *question);

/// Takes back what a question is charged for, when it is resolved. It may be charged for nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueRelease(_Inout_ IO_QUEUE *queue, _Inout_ LANE_QUESTION *question);

/// Takes the refusals of one owner that are to be reported now (LanesTakeRefused).
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN IoQueueTakeRefused(_Inout_ IO_QUEUE *queue, _In_ UINT64 now, _Out_ UINT64 *count, _Out_ UINT64 *processId);

/// Returns whether refusals are to be looked for again after IO_QUEUE_REFUSED_PERIOD_MS.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN IoQueueHasRefused(_Inout_ IO_QUEUE *queue);

/// Queues a unit of whole records, headers included. Never waits. A failure queues nothing.
/// STATUS_BUFFER_OVERFLOW: there is no room. The unit counts as lost for unit->Loss->Reason.
/// STATUS_INSUFFICIENT_RESOURCES: there is no memory. The unit counts as lost for want of memory.
/// STATUS_DEVICE_NOT_CONNECTED: there is no client. The unit is not counted.
/// STATUS_INVALID_PARAMETER: a header's length differs from the length of its pieces. The unit is not counted.
/// STATUS_RETRY, STATUS_QUOTA_EXCEEDED: as of IoQueueAdmit, for a question. The unit is not counted.
/// `gate` keeps records in order, and may change the owner and the loss. It is not settled by STATUS_RETRY. No memory
/// is allocated under the gate's lock. STATUS_NOT_FOUND: the gate let no record pass. Nothing is queued or counted.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS IoQueuePushUnit(_Inout_ IO_QUEUE *queue, _In_opt_ const IO_QUEUE_GATE *gate, _In_ const IO_QUEUE_UNIT *unit);

/// Queues a reply, a log line or a loss: a unit without an owner.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS IoQueuePush(_Inout_ IO_QUEUE *queue, _In_reads_(count) const IO_QUEUE_PIECE *pieces, _In_ UINT32 count,
                     _In_ const IO_QUEUE_LOSS *loss);

/// Counts `count` records about a process that were lost before they reached the queue. `reason` is a LOSS_REASON.
/// `processId` 0: several or none. Without a client nothing counts as lost.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueReportLost(_Inout_ IO_QUEUE *queue, _In_ UINT64 count, _In_ UINT8 reason, _In_ UINT64 processId);

/// The client is an extended one. Reads that come from now on pend, and records that come leave in turn.
/// Reads that wait already are not affected.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueExtend(_Inout_ IO_QUEUE *queue);

/// Handles IRP_MJ_READ of a direct I/O device. Pends or completes the IRP, or sets `waiting`.
/// Returns the status that the dispatch routine returns, unless `waiting` is set. IoQueueAwaitRead returns it then.
/// STATUS_INSUFFICIENT_RESOURCES: the read takes nothing from the queue.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS IoQueueRead(_Inout_ IO_QUEUE *queue, _Inout_ PIRP irp, _Outptr_result_maybenull_ WAITING_READ **waiting);

/// Waits until the read ends, completes its IRP, and returns its status, which the dispatch routine returns.
/// STATUS_USER_APC: the thread is being terminated. Under the rules of WaitingReadWait.
_IRQL_requires_(PASSIVE_LEVEL)
NTSTATUS IoQueueAwaitRead(_Inout_ IO_QUEUE *queue, _In_ WAITING_READ *read);

/// TRUE if the bytes that wait fill over half of their bound.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN IoQueueIsHalfFull(_Inout_ IO_QUEUE *queue);

/// Returns the bytes that wait for a read now.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 IoQueueBytes(_Inout_ IO_QUEUE *queue);
/// Returns the number of records that wait for a read now.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 IoQueueRecords(_Inout_ IO_QUEUE *queue);

EXTERN_C_END

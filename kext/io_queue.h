// The event queue: records that wait for the client's reads, and reads that wait for records.
//
// One spin lock guards everything but the copying to the reader. Producers copy their record into the tail chunk under
// it. At most one thread at a time is the deliverer: it takes reads off the list, copies records into them and
// completes them, with the lock released. Chunks before the tail's write position are never written again, and only the
// deliverer frees them, so it copies without the lock. It runs at DISPATCH_LEVEL, because no other thread delivers
// while it is not scheduled. After a number of reads a deliverer hands over to a DPC, so that a producer soon returns
// to its packet.
//
// The thread that takes a pended read off the list under the lock completes it. The deliverer and IoQueueDetach take
// only reads whose cancel routine they could clear; the cancel routine takes the others.
//
// Locks: the queue's lock is a leaf under the cancel spin lock's rules. While it is held no IRP is completed, no memory
// is allocated or freed, and no line is logged.
//
// test/models/io_queue.pml is a model of all this. Its states `detached`, `attached` and `shutting_down` are those of
// IO_QUEUE_STATE; `delivering`, `copying`, `orphans` and `generation` are the members of IO_QUEUE with those names.

#pragma once

#include "log.h"
#include "statistics.h"

EXTERN_C_START

typedef struct _IO_QUEUE_CHUNK IO_QUEUE_CHUNK;

/// A list of chunks, newest first.
typedef struct _IO_QUEUE_CHUNKS
{
    IO_QUEUE_CHUNK *First;
    UINT32 Count;
} IO_QUEUE_CHUNKS;

/// A part of a record, in order.
typedef struct _IO_QUEUE_PIECE
{
    const VOID *Data;
    UINT32 Length;
} IO_QUEUE_PIECE;

typedef enum _IO_QUEUE_STATE
{
    IoQueueDetached,
    IoQueueAttached,
    IoQueueShuttingDown ///< no new records; reads get the rest, then end-of-file
} IO_QUEUE_STATE;

// Reads that one producer or reader completes before it hands over to the DPC.
#define IO_QUEUE_DELIVERY_BUDGET 16

// The most drained chunks that are kept for the next records.
#define IO_QUEUE_MAX_SPARE_CHUNKS 4

#define IO_QUEUE_LEAST_MAX_BYTES 1024u

typedef struct _IO_QUEUE
{
    MEMORY *Memory;
    STATISTICS *Statistics;
    LOG *Log;
    KDPC DeliverDpc;
    KEVENT Idle; ///< set when a waiting IoQueueUninitialize may go on

    KSPIN_LOCK Lock;
    // All below is guarded by Lock.
    IO_QUEUE_STATE State;
    BOOLEAN Extended;       ///< the client understands EventsLost
    BOOLEAN Delivering;     ///< there is a deliverer, or the DPC is queued to be one
    BOOLEAN Copying;        ///< the deliverer reads chunks at this moment
    BOOLEAN Uninitializing; ///< IoQueueUninitialize waits for the deliverer
    UINT32 Generation;      ///< changes with each discard
    LIST_ENTRY Reads;       ///< IRPs by Tail.Overlay.ListEntry, oldest first
    UINT64 QueuedBytes;
    UINT64 QueuedRecords; ///< a record whose start was delivered counts
    UINT64 MaxBytes;
    IO_QUEUE_CHUNK *Head; ///< oldest chunk; the deliverer reads from HeadOffset on
    UINT32 HeadOffset;
    UINT32 SplitRemaining; ///< bytes at HeadOffset of a record whose start was delivered
    IO_QUEUE_CHUNK *Tail;  ///< newest chunk; every other one is full
    UINT32 TailOffset;     ///< where the next record goes
    IO_QUEUE_CHUNKS Spare;
    IO_QUEUE_CHUNK *Orphans; ///< discarded while a deliverer reads them: it frees them
    UINT64 LostTotal;
    UINT64 Lost[LossReasonCount]; ///< not yet reported, by reason
} IO_QUEUE;

/// Makes a detached, empty queue bounded by OPTIONS_DEFAULT_MAX_QUEUED_BYTES. Allocates nothing.
_IRQL_requires_(PASSIVE_LEVEL)
VOID IoQueueInitialize(_Out_ IO_QUEUE *queue, _Inout_ MEMORY *memory, _Inout_ STATISTICS *statistics, _Inout_ LOG *log);

/// Detaches, waits for a delivery in progress and frees everything. No producer or reader may come afterwards.
_IRQL_requires_(PASSIVE_LEVEL)
VOID IoQueueUninitialize(_Inout_ IO_QUEUE *queue);

/// A client attaches: the queue takes records and pends reads from now on. It starts with an empty stream and with the
/// options of a base client. Reserves memory for the first records, or for the report that they were lost, if there is
/// any.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueAttach(_Inout_ IO_QUEUE *queue);

/// The client detaches: discards all records and cancels all pended reads (STATUS_CANCELLED). Does not wait for a read
/// that the deliverer fills; that one completes later.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueDetach(_Inout_ IO_QUEUE *queue);

/// Takes no more records. Until IoQueueDetach, reads get what is left, and then complete with STATUS_END_OF_FILE.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueShutdown(_Inout_ IO_QUEUE *queue);

/// `maxBytes` bounds the bytes that wait, at least to IO_QUEUE_LEAST_MAX_BYTES; what waits already stays. `extended`:
/// the client understands EventsLost records.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueSetOptions(_Inout_ IO_QUEUE *queue, _In_ UINT32 maxBytes, _In_ BOOLEAN extended);

/// Queues one whole record, header included, given in pieces. Never waits. Fails, with nothing queued, with
/// STATUS_BUFFER_OVERFLOW (no room: lost with `lossReason`), STATUS_INSUFFICIENT_RESOURCES (lost, out of memory),
/// STATUS_DEVICE_NOT_CONNECTED (no client: not counted) or STATUS_INVALID_PARAMETER (the header's length is not that of
/// the pieces: not counted). With `lossReason` LossUncounted the caller keeps the data, and nothing counts as lost.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS IoQueuePush(_Inout_ IO_QUEUE *queue, _In_reads_(count) const IO_QUEUE_PIECE *pieces, _In_ UINT32 count,
                     _In_ UINT8 lossReason);

/// Counts `count` records that were lost before they reached the queue (LOSS_REASON). Without a client nothing is lost.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID IoQueueReportLost(_Inout_ IO_QUEUE *queue, _In_ UINT64 count, _In_ UINT8 reason);

/// The IRP_MJ_READ of a direct I/O device. Pends or completes the IRP and returns what the dispatch routine returns.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS IoQueueRead(_Inout_ IO_QUEUE *queue, _Inout_ PIRP irp);

/// Bytes and records that wait for a read now.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 IoQueueBytes(_Inout_ IO_QUEUE *queue);
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 IoQueueRecords(_Inout_ IO_QUEUE *queue);

EXTERN_C_END

// Info records: encodes each once, in its final wire bytes, and queues it.
//
// Several processors may encode records at the same time. They share only the set of reported processes.
// No lock of the set of reported processes is held while a record is queued.

#pragma once

#include "connection_table.h"
#include "io_queue.h"
#include "recent_set.h"

EXTERN_C_START

// The number of sets of reported processes, and the most processes in a set. A hash of the process id chooses the set.
// A full set forgets its oldest process, which is reported once more if it connects again.
#define EVENTS_PROCESS_SETS      256u
#define EVENTS_PROCESSES_PER_SET 15u

// Longest image path in a ProcessInfo record, in bytes; a longer one is cut.
#define EVENTS_MAX_PATH_BYTES 65534u

/// What comes with a Connection record: what its ConnectionInfo and its ProcessInfo say, as far as the caller knows.
typedef struct _EVENT_DETAILS
{
    UINT32 InterfaceIndex;
    UINT32 Compartment;
    BOOLEAN Loopback;
    BOOLEAN AskedAgain;
    LANE_QUESTION *Question; ///< that may be given up, or NULL
    const WCHAR *Path;       ///< of the process's image, in UTF-16; or NULL
    UINT32 PathBytes;        ///< a terminator is left out
} EVENT_DETAILS;

typedef struct _EVENTS
{
    IO_QUEUE *Queue;
    MEMORY *Memory;
    volatile LONG Extension;      ///< the protocol extension whose records the client understands; 0: none
    volatile LONG ConnectionInfo; ///< ConnectionInfo and ConnectionEnded are sent
    volatile LONG PayloadLimit;
    volatile LONG64 Replies[CommandCount]; ///< commands of each kind since the client attached
    SIPHASH_KEY HashKey;
    RECENT_SET Processes; ///< reported ones: hash of the process id → hash of its path. The queue adds them
    RECENT_SET Images;    ///< seen ones: the same
} EVENTS;

/// Never fails. Without memory for the reported processes, each connection record is preceded by its ProcessInfo.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventsInitialize(_Out_ EVENTS *events, _Inout_ MEMORY *memory, _Inout_ IO_QUEUE *queue);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventsUninitialize(_Inout_ EVENTS *events);

/// Prepares for a new client: nothing reported, and the options of a base client. Call before IoQueueAttach.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventsReset(_Inout_ EVENTS *events);

/// `extension`: the protocol extension whose records are sent; 0: none of type 64 and up.
/// `payloadLimit`: most payload bytes of one connection record.
/// ConnectionInfo and ConnectionEnded are not sent until EventsSetConnectionInfo.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventsSetOptions(_Inout_ EVENTS *events, _In_ UINT8 extension, _In_ UINT32 payloadLimit);

/// A client that knows extension 2 gets ConnectionInfo and ConnectionEnded, each right before its record.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventsSetConnectionInfo(_Inout_ EVENTS *events, _In_ BOOLEAN wanted);

/// Returns whether the client gets ConnectionInfo and ConnectionEnded. Any IRQL.
BOOLEAN EventWantsConnectionInfo(_In_ const EVENTS *events);

/// Queues ConnectionV4 or ConnectionV6, which asks for a verdict on `id`. `payload` is cut to the payload limit.
/// `payloadLayer` is PROTOCOL_PAYLOAD_NETWORK_LAYER or PROTOCOL_PAYLOAD_TRANSPORT_LAYER.
/// A ProcessInfo with `details` comes right before it for an extended client that has none with this path.
/// A ConnectionInfo with `details` comes right before it for a client that wants it. All or none are queued.
/// `gate` keeps the records of a connection in order, and may change `details`. NULL: the record has no connection.
/// Fails as IoQueuePushUnit does. After a failure the client does not know of `id`.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS EventConnection(_Inout_ EVENTS *events, _In_ UINT64 id, _In_ const CONNECTION_KEY *key, _In_ UINT64 processId,
                         _In_ UINT8 direction, _In_ UINT8 payloadLayer,
                         _In_reads_bytes_opt_(payloadLength) const VOID *payload, _In_ UINT32 payloadLength,
                         _In_opt_ const EVENT_DETAILS *details, _In_opt_ const IO_QUEUE_GATE *gate);

/// Queues ConnectionEndV4 or ConnectionEndV6 in the order of `gate`. Fails as IoQueuePushUnit does.
/// The gate may change `connection`, apart from its key. The records show what it lets pass.
/// A ConnectionEnded comes right before it for a client that wants it: both or none are queued.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS EventConnectionEnd(_Inout_ EVENTS *events, _In_ const CONNECTION *connection,
                            _In_opt_ const IO_QUEUE_GATE *gate);

/// Finds out whose the records of a connection are. An outbound connection is its image's.
/// Its image is known from the calls of EventNoteImage. Any other connection is its process's.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventOwner(_Inout_ EVENTS *events, _In_ const CONNECTION_KEY *key, _In_ UINT8 direction, _In_ UINT64 processId,
                _Out_ LANE_OWNER *owner);

/// Notes which image a process has. `path` is UTF-16 and `bytes` long. A terminator is left out.
/// An empty path tells nothing: such processes, like the System process, are owners of their own.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventNoteImage(_Inout_ EVENTS *events, _In_ UINT64 processId, _In_reads_bytes_opt_(bytes) const WCHAR *path,
                    _In_ UINT32 bytes);

/// Queues ProcessInfo for extended clients, unless the client has one of this process id with this path.
/// It comes before later records of the connection with this owner. NULL: before replies.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS EventProcessInfo(_Inout_ EVENTS *events, _In_opt_ const LANE_OWNER *owner, _In_ UINT64 processId,
                          _In_reads_bytes_opt_(bytes) const WCHAR *path, _In_ UINT32 bytes);

/// Queues EventsLost for extended clients: so many questions of one owner were refused over its share.
/// `processId` 0: of several processes. If it cannot be queued, they are counted and reported with other losses.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID EventRefused(_Inout_ EVENTS *events, _In_ UINT64 count, _In_ UINT64 processId);

/// Queues LogLine. `text` is UTF-8, not terminated. A line that is not queued does not count as lost: the log keeps it.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS EventLogLine(_Inout_ EVENTS *events, _In_ UINT8 severity, _In_reads_(length) const CHAR *text,
                      _In_ UINT32 length);

/// Numbers a command of one kind, from 1 on, when its work begins. Base clients' commands count too.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 EventNumberReply(_Inout_ EVENTS *events, _In_ UINT8 command);

/// Queues ReplyEnd for extended clients: all records of the command with this number lie before it.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS EventReplyEnd(_Inout_ EVENTS *events, _In_ UINT8 command, _In_ UINT64 sequence);

/// Queues ConnectionTimeout for extended clients: the driver itself resolved the question `id`.
/// `connection` has the key, the process, the direction, and the verdict that was applied. `cause`: a TIMEOUT_CAUSE.
/// `id` 0: the connection was decided without a question.
/// Only clients of extension 2 learn of that, and of another cause than TimeoutCauseTime.
/// A record with `id` 0 does not count as lost, because what caused the decision is counted already.
/// STATUS_BUFFER_OVERFLOW: the queue is half full, which leaves no room for a record with `id` 0.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS EventConnectionTimeout(_Inout_ EVENTS *events, _In_ UINT64 id, _In_ const CONNECTION *connection,
                                _In_ UINT8 cause);

/// Queues ClientStalled for clients of extension 2: so many decisions were made while the client was stalled.
/// STATUS_BUFFER_OVERFLOW: there is no room. The record does not count as lost, because the caller tries again.
_IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS EventClientStalled(_Inout_ EVENTS *events, _In_ UINT64 count, _In_ UINT64 durationMs);

/// Reported processes that are remembered now. Walks the sets.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 EventsProcessCount(_Inout_ EVENTS *events);

/// Pool bytes of the reported processes now. Any IRQL.
UINT64 EventsProcessBytes(_In_ const EVENTS *events);

EXTERN_C_END

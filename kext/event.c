#include "event.h"

#include "options.h"
#include "process.h"
#include "wire.h"

_Use_decl_annotations_
VOID EventsInitialize(EVENTS *events, MEMORY *memory, IO_QUEUE *queue)
{
    events->Queue = queue;
    SipHashKeyInitialize(&events->HashKey);
    RecentSetInitialize(&events->Processes, memory, EVENTS_PROCESS_SETS, EVENTS_PROCESSES_PER_SET);
    RecentSetAllocate(&events->Processes);
    EventsReset(events);
}

_Use_decl_annotations_
VOID EventsUninitialize(EVENTS *events)
{
    RecentSetUninitialize(&events->Processes);
}

_Use_decl_annotations_
VOID EventsReset(EVENTS *events)
{
    UINT32 i;

    EventsSetOptions(events, 0, OPTIONS_PAYLOAD_UNLIMITED);
    for (i = 0; i < CommandCount; i++)
    {
        InterlockedExchange64(&events->Replies[i], 0);
    }
    RecentSetClear(&events->Processes);
}

_Use_decl_annotations_
VOID EventsSetOptions(EVENTS *events, UINT8 extension, UINT32 payloadLimit)
{
    WriteNoFence(&events->ConnectionInfo, FALSE);
    WriteNoFence(&events->Extension, extension);
    WriteNoFence(&events->PayloadLimit, (LONG)payloadLimit);
}

_Use_decl_annotations_
VOID EventsSetConnectionInfo(EVENTS *events, BOOLEAN wanted)
{
    WriteNoFence(&events->ConnectionInfo, wanted);
}

// TRUE if the client knows the records of this extension.
static BOOLEAN EventKnows(const EVENTS *events, LONG extension)
{
    return ReadNoFence(&events->Extension) >= extension;
}

_Use_decl_annotations_
BOOLEAN EventWantsConnectionInfo(const EVENTS *events)
{
    return ReadNoFence(&events->ConnectionInfo) != 0 && EventKnows(events, 2);
}

static LONG EventExtensionOf(UINT8 type)
{
    return type < InfoEventsLost ? 0 : type < InfoClientStalled ? 1 : 2;
}

static VOID EventPutHeader(VOID *record, UINT8 type, UINT32 length)
{
    INFO_HEADER_WIRE header;

    header.Type = type;
    header.Length = length - (UINT32)sizeof(header);
    RtlCopyMemory(record, &header, sizeof(header));
}

// `pieces` are a whole record before this one, if any, then two pieces for this record.
// Fills in the INFO_HEADER_WIRE at the start of `record`. `tail` follows the fixed part.
// A client gets no record of an extension that it does not know.
static NTSTATUS EventPushAfter(EVENTS *events, const IO_QUEUE_GATE *gate, IO_QUEUE_PIECE *pieces, UINT32 before,
                               UINT8 type, VOID *record, UINT32 length, const VOID *tail, UINT32 tailLength,
                               const IO_QUEUE_LOSS *loss)
{
    if (!EventKnows(events, EventExtensionOf(type)))
    {
        return STATUS_SUCCESS;
    }
    if (tailLength > PROTOCOL_MAX_RECORD_LENGTH - length)
    {
        return STATUS_INVALID_PARAMETER;
    }
    EventPutHeader(record, type, length + tailLength);
    pieces[before].Data = record;
    pieces[before].Length = length;
    pieces[before + 1].Data = tail;
    pieces[before + 1].Length = tailLength;
    return IoQueuePushInOrder(events->Queue, gate, pieces, before + (tailLength != 0 ? 2 : 1), loss);
}

static NTSTATUS EventPush(EVENTS *events, UINT8 type, VOID *record, UINT32 length, const VOID *tail, UINT32 tailLength,
                          UINT8 lossReason, UINT64 processId)
{
    IO_QUEUE_PIECE pieces[2];
    IO_QUEUE_LOSS loss;

    loss.Reason = lossReason;
    loss.ProcessId = processId;
    return EventPushAfter(events, NULL, pieces, 0, type, record, length, tail, tailLength, &loss);
}

static NTSTATUS EventPushWhole(EVENTS *events, UINT8 type, VOID *record, UINT32 length)
{
    return EventPush(events, type, record, length, NULL, 0, LossQueueFull, 0);
}

// ---- Connections

// Records about a connection. They are written again once their gate lets them pass, and show the connection of then.
typedef struct _EVENT_PASS
{
    IO_QUEUE_GATE Gate;
    const IO_QUEUE_GATE *Callers;
    VOID (*Write)(_Inout_ VOID *records);
    VOID *Records;
} EVENT_PASS;

static BOOLEAN EventMayPass(VOID *context)
{
    const EVENT_PASS *pass = (const EVENT_PASS *)context;
    BOOLEAN passes = pass->Callers->MayPass(pass->Callers->Context);

    if (passes)
    {
        pass->Write(pass->Records);
    }
    return passes;
}

static VOID EventSettled(VOID *context, NTSTATUS status)
{
    const EVENT_PASS *pass = (const EVENT_PASS *)context;

    pass->Callers->Settled(pass->Callers->Context, status);
}

// Writes the records. Returns the gate for them, or NULL without a caller's gate.
static const IO_QUEUE_GATE *EventPreparePass(EVENT_PASS *pass, const IO_QUEUE_GATE *gate, VOID (*write)(VOID *records),
                                             VOID *records)
{
    write(records);
    if (gate == NULL)
    {
        return NULL;
    }
    pass->Gate.Lock = gate->Lock;
    pass->Gate.MayPass = EventMayPass;
    pass->Gate.Settled = EventSettled;
    pass->Gate.Context = pass;
    pass->Callers = gate;
    pass->Write = write;
    pass->Records = records;
    return &pass->Gate;
}

static UINT64 EventSystemTime(VOID)
{
    LARGE_INTEGER now;

    KeQuerySystemTime(&now);
    return (UINT64)now.QuadPart;
}

static BOOLEAN EventIsMulticast(const CONNECTION_KEY *key, const UINT8 *address)
{
    return key->IpVersion == 4 ? (address[0] & 0xF0) == 0xE0 : address[0] == 0xFF;
}

static BOOLEAN EventIsBroadcast(const CONNECTION_KEY *key, const UINT8 *address)
{
    static const UINT8 everyone[] = {255, 255, 255, 255};

    return key->IpVersion == 4 && RtlEqualMemory(address, everyone, sizeof(everyone));
}

static UINT32 EventInfoFlags(const CONNECTION_KEY *key, UINT8 direction, const EVENT_DETAILS *details)
{
    const UINT8 *destination = direction == DirectionOutbound ? key->RemoteAddress : key->LocalAddress;

    return (details->Loopback ? CONNECTION_INFO_LOOPBACK : 0) |
           (EventIsMulticast(key, destination) ? CONNECTION_INFO_MULTICAST : 0) |
           (EventIsBroadcast(key, destination) ? CONNECTION_INFO_BROADCAST : 0) |
           (details->AskedAgain ? CONNECTION_INFO_ASKED_AGAIN : 0);
}

typedef struct _EVENT_INFO
{
    UINT64 Id;
    const CONNECTION_KEY *Key;
    UINT8 Direction;
    UINT64 ProcessStart;
    const EVENT_DETAILS *Details; // NULL: none are sent
    CONNECTION_INFO_WIRE Wire;
} EVENT_INFO;

static VOID EventWriteInfo(VOID *records)
{
    EVENT_INFO *info = (EVENT_INFO *)records;
    CONNECTION_INFO_WIRE *wire = &info->Wire;

    if (info->Details != NULL)
    {
        EventPutHeader(wire, InfoConnectionInfo, sizeof(*wire));
        wire->Id = info->Id;
        wire->Time = EventSystemTime();
        wire->ProcessStart = info->ProcessStart;
        wire->Flags = EventInfoFlags(info->Key, info->Direction, info->Details);
        wire->InterfaceIndex = info->Details->InterfaceIndex;
        wire->Compartment = info->Details->Compartment;
    }
}

_Use_decl_annotations_
NTSTATUS EventConnection(EVENTS *events, UINT64 id, const CONNECTION_KEY *key, UINT64 processId, UINT8 direction,
                         UINT8 payloadLayer, const VOID *payload, UINT32 payloadLength, const EVENT_DETAILS *details,
                         const IO_QUEUE_GATE *gate)
{
    UINT32 limit = (UINT32)ReadNoFence(&events->PayloadLimit);
    UINT8 record[WIRE_LONGEST_CONNECTION];
    UINT8 *end = record + sizeof(INFO_HEADER_WIRE);
    UINT8 type = key->IpVersion == 4 ? InfoConnectionV4 : InfoConnectionV6;
    IO_QUEUE_PIECE pieces[3];
    IO_QUEUE_LOSS loss;
    EVENT_INFO info;
    EVENT_PASS pass;

    payloadLength = payloadLength < limit ? payloadLength : limit;
    end = WirePut(end, &id, sizeof(id));
    end = WirePutConnection(end, key, processId, direction);
    end = WirePut(end, &payloadLayer, sizeof(payloadLayer));
    end = WirePut(end, &payloadLength, sizeof(payloadLength));
    info.Id = id;
    info.Key = key;
    info.Direction = direction;
    info.ProcessStart = EventWantsConnectionInfo(events) ? ProcessStartTime(processId) : 0;
    info.Details = EventWantsConnectionInfo(events) ? details : NULL;
    gate = EventPreparePass(&pass, gate, EventWriteInfo, &info);
    loss.Reason = LossQueueFull;
    loss.ProcessId = processId;
    pieces[0].Data = &info.Wire;
    pieces[0].Length = sizeof(info.Wire);
    return EventPushAfter(events, gate, pieces, info.Details != NULL ? 1 : 0, type, record, (UINT32)(end - record),
                          payload, payloadLength, &loss);
}

typedef struct _EVENT_END
{
    const CONNECTION *Connection;
    CONNECTION_ENDED_WIRE Ended;
    UINT8 Record[WIRE_LONGEST_CONNECTION];
    UINT32 Length; // of the record
    IO_QUEUE_LOSS Loss;
} EVENT_END;

static UINT8 EventEndType(const CONNECTION *connection)
{
    return connection->Key.IpVersion == 4 ? InfoConnectionEndV4 : InfoConnectionEndV6;
}

static VOID EventWriteEnd(VOID *records)
{
    EVENT_END *end = (EVENT_END *)records;
    const CONNECTION *connection = end->Connection;
    const CONNECTION_LIFE *life = &connection->Life;
    CONNECTION_ENDED_WIRE *ended = &end->Ended;
    UINT8 *place = WirePutConnection(end->Record + sizeof(INFO_HEADER_WIRE), &connection->Key,
                                     connection->State.ProcessId, connection->State.Direction);

    end->Loss.Reason = LossQueueFull;
    end->Loss.ProcessId = connection->State.ProcessId;
    end->Length = (UINT32)(place - end->Record);
    EventPutHeader(end->Record, EventEndType(connection), end->Length);
    EventPutHeader(ended, InfoConnectionEnded, sizeof(*ended));
    ended->Id = life->Question;
    ended->StartTime = life->StartTime;
    ended->EndTime = EventSystemTime();
    ended->TransmittedBytes = life->TransmittedBytes;
    ended->ReceivedBytes = life->ReceivedBytes;
    ended->Verdict = connection->State.Verdict;
    ended->Reason = life->EndReason;
}

_Use_decl_annotations_
NTSTATUS EventConnectionEnd(EVENTS *events, const CONNECTION *connection, const IO_QUEUE_GATE *gate)
{
    UINT32 before = EventWantsConnectionInfo(events) ? 1 : 0;
    IO_QUEUE_PIECE pieces[3];
    EVENT_PASS pass;
    EVENT_END end;

    end.Connection = connection;
    gate = EventPreparePass(&pass, gate, EventWriteEnd, &end);
    pieces[0].Data = &end.Ended;
    pieces[0].Length = sizeof(end.Ended);
    return EventPushAfter(events, gate, pieces, before, EventEndType(connection), end.Record, end.Length, NULL, 0,
                          &end.Loss);
}

// ---- Processes

// Returns the bytes of a path in whole characters. The terminators, which the metadata may count in, are left out.
static UINT32 EventPathBytes(const WCHAR *path, UINT32 bytes)
{
    UINT32 length = (bytes < EVENTS_MAX_PATH_BYTES ? bytes : EVENTS_MAX_PATH_BYTES) / sizeof(WCHAR);

    while (length != 0 && path[length - 1] == L'\0')
    {
        length--;
    }
    return length * sizeof(WCHAR);
}

_Use_decl_annotations_
NTSTATUS EventProcessInfo(EVENTS *events, UINT64 processId, const WCHAR *path, UINT32 bytes)
{
    UINT32 pathBytes = path != NULL ? EventPathBytes(path, bytes) : 0;
    PROCESS_INFO_WIRE wire;
    UINT64 processHash;
    UINT64 pathHash;
    UINT64 reported;
    NTSTATUS status;

    if (!EventKnows(events, 1))
    {
        return STATUS_SUCCESS;
    }
    processHash = SipHash13(&events->HashKey, &processId, sizeof(processId));
    pathHash = SipHash13(&events->HashKey, path, pathBytes);
    if (RecentSetFind(&events->Processes, processHash, &reported) && reported == pathHash)
    {
        return STATUS_SUCCESS;
    }

    wire.ProcessId = processId;
    status = EventPush(events, InfoProcessInfo, &wire, sizeof(wire), path, pathBytes, LossQueueFull, processId);
    if (NT_SUCCESS(status))
    {
        // Reported is set after the push, so no other thread's connection record overtakes this record.
        (VOID) RecentSetTake(&events->Processes, processHash, &reported);
        RecentSetAdd(&events->Processes, processHash, pathHash);
    }
    return status;
}

_Use_decl_annotations_
UINT64 EventsProcessCount(EVENTS *events)
{
    return RecentSetCount(&events->Processes, 0);
}

_Use_decl_annotations_
UINT64 EventsProcessBytes(const EVENTS *events)
{
    return RecentSetBytes(&events->Processes);
}

// ---- Other records

_Use_decl_annotations_
NTSTATUS EventLogLine(EVENTS *events, UINT8 severity, const CHAR *text, UINT32 length)
{
    LOG_LINE_WIRE wire;

    wire.Severity = severity;
    return EventPush(events, InfoLogLine, &wire, sizeof(wire), text, length, LossUncounted, 0);
}

_Use_decl_annotations_
UINT64 EventNumberReply(EVENTS *events, UINT8 command)
{
    return (UINT64)InterlockedIncrement64(&events->Replies[command]);
}

_Use_decl_annotations_
NTSTATUS EventReplyEnd(EVENTS *events, UINT8 command, UINT64 sequence)
{
    REPLY_END_WIRE wire;

    wire.Command = command;
    wire.Sequence = sequence;
    return EventPushWhole(events, InfoReplyEnd, &wire, sizeof(wire));
}

// Clients of an older extension get only the id.
static UINT8 *EventPutTimeout(UINT8 *end, const CONNECTION *connection, UINT8 cause)
{
    CONNECTION_TIMEOUT_VERDICT_WIRE wire;

    wire.Verdict = connection->State.Verdict;
    wire.Cause = cause;
    wire.Type = EventEndType(connection);
    end = WirePut(end, &wire, sizeof(wire));
    return WirePutConnection(end, &connection->Key, connection->State.ProcessId, connection->State.Direction);
}

_Use_decl_annotations_
NTSTATUS EventConnectionTimeout(EVENTS *events, UINT64 id, const CONNECTION *connection, UINT8 cause)
{
    UINT8 record[sizeof(CONNECTION_TIMEOUT_WIRE) + sizeof(CONNECTION_TIMEOUT_VERDICT_WIRE) + WIRE_CONNECTION_END_V6];
    UINT8 *end = WirePut(record + sizeof(INFO_HEADER_WIRE), &id, sizeof(id));

    if (id == 0 && IoQueueIsHalfFull(events->Queue))
    {
        // A flood that is decided without questions leaves half of the queue to the questions.
        return STATUS_BUFFER_OVERFLOW;
    }
    if (EventKnows(events, 2))
    {
        end = EventPutTimeout(end, connection, cause);
    }
    else if (id == 0 || cause != TimeoutCauseTime)
    {
        return STATUS_SUCCESS;
    }
    return EventPush(events, InfoConnectionTimeout, record, (UINT32)(end - record), NULL, 0,
                     id != 0 ? LossQueueFull : LossUncounted, connection->State.ProcessId);
}

_Use_decl_annotations_
NTSTATUS EventClientStalled(EVENTS *events, UINT64 count, UINT64 durationMs)
{
    CLIENT_STALLED_WIRE wire;

    wire.Count = count;
    wire.DurationMs = durationMs;
    return EventPushWhole(events, InfoClientStalled, &wire, sizeof(wire));
}

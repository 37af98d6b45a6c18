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
    RecentSetInitialize(&events->Images, memory, EVENTS_PROCESS_SETS, EVENTS_PROCESSES_PER_SET);
    RecentSetAllocate(&events->Images);
    queue->Delivered = &events->Processes;
    EventsReset(events);
}

_Use_decl_annotations_
VOID EventsUninitialize(EVENTS *events)
{
    RecentSetUninitialize(&events->Images);
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

// The records of one unit, and whose they are.
typedef struct _EVENT_UNIT
{
    IO_QUEUE_UNIT Unit;
    IO_QUEUE_LOSS Loss;
    IO_QUEUE_PIECE
    Pieces[5]; // of a ProcessInfo two, a ConnectionInfo or ConnectionEnded one, and the record itself two
} EVENT_UNIT;

static VOID EventUnitInitialize(EVENT_UNIT *unit, const LANE_OWNER *owner, UINT8 lossReason, UINT64 processId)
{
    RtlZeroMemory(unit, sizeof(*unit));
    unit->Unit.Pieces = unit->Pieces;
    unit->Unit.Owner = owner;
    unit->Unit.Loss = &unit->Loss;
    unit->Loss.Reason = lossReason;
    unit->Loss.ProcessId = processId;
}

static VOID EventAddPiece(EVENT_UNIT *unit, const VOID *data, UINT32 length)
{
    IO_QUEUE_PIECE *piece = &unit->Pieces[unit->Unit.PieceCount];

    if (length != 0)
    {
        piece->Data = data;
        piece->Length = length;
        unit->Unit.PieceCount++;
    }
}

// Fills in the INFO_HEADER_WIRE at the start of `record`. `tail` follows the fixed part.
static VOID EventAddRecord(EVENT_UNIT *unit, UINT8 type, VOID *record, UINT32 length, const VOID *tail,
                           UINT32 tailLength)
{
    EventPutHeader(record, type, length + tailLength);
    EventAddPiece(unit, record, length);
    EventAddPiece(unit, tail, tailLength);
}

// Pushes a record with no other record in its unit. A client gets no record of an extension that it does not know.
static NTSTATUS EventPushOf(EVENTS *events, const LANE_OWNER *owner, UINT8 type, VOID *record, UINT32 length,
                            const VOID *tail, UINT32 tailLength, UINT8 lossReason, UINT64 processId)
{
    EVENT_UNIT unit;

    if (!EventKnows(events, EventExtensionOf(type)))
    {
        return STATUS_SUCCESS;
    }
    if (tailLength > PROTOCOL_MAX_RECORD_LENGTH - length)
    {
        return STATUS_INVALID_PARAMETER;
    }
    EventUnitInitialize(&unit, owner, lossReason, processId);
    EventAddRecord(&unit, type, record, length, tail, tailLength);
    return IoQueuePushUnit(events->Queue, NULL, &unit.Unit);
}

static NTSTATUS EventPush(EVENTS *events, UINT8 type, VOID *record, UINT32 length, const VOID *tail, UINT32 tailLength,
                          UINT8 lossReason)
{
    return EventPushOf(events, NULL, type, record, length, tail, tailLength, lossReason, 0);
}

// ---- Owners and processes

static UINT64 EventHashProcess(const EVENTS *events, UINT64 processId)
{
    return SipHash13(&events->HashKey, &processId, sizeof(processId));
}

static UINT64 EventImageOf(EVENTS *events, UINT64 processId)
{
    UINT64 process = EventHashProcess(events, processId);
    UINT64 image;

    return RecentSetFind(&events->Images, process, &image) ? image : process;
}

// The network of an IPv4 address has 24 bits, and that of an IPv6 address 48.
static UINT64 EventNetworkOf(const EVENTS *events, const CONNECTION_KEY *key)
{
    UINT64 words[2];

    words[0] = (UINT64)key->IpVersion << 16 | key->LocalPort;
    words[1] = 0;
    RtlCopyMemory(&words[1], key->RemoteAddress, key->IpVersion == 4 ? 3 : 6);
    return SipHash13OfWords(&events->HashKey, words, 2);
}

_Use_decl_annotations_
VOID EventOwner(EVENTS *events, const CONNECTION_KEY *key, UINT8 direction, UINT64 processId, LANE_OWNER *owner)
{
    UINT64 port = key->LocalPort;
    UINT64 connection;

    owner->Side = direction == DirectionInbound ? LaneInbound : LaneOutbound;
    owner->Group =
        direction == DirectionInbound ? SipHash13OfWords(&events->HashKey, &port, 1) : EventImageOf(events, processId);
    owner->Network = direction == DirectionInbound ? EventNetworkOf(events, key) : 0;
    connection = SipHash13(&events->HashKey, key, sizeof(*key));
    owner->Connection = connection != 0 ? connection : 1;
}

// Returns the bytes of a path in whole characters. The terminators, which the metadata may count in, are left out.
static UINT32 EventPathBytes(const WCHAR *path, UINT32 bytes)
{
    UINT32 length = (bytes < EVENTS_MAX_PATH_BYTES ? bytes : EVENTS_MAX_PATH_BYTES) / sizeof(WCHAR);

    while (path != NULL && length != 0 && path[length - 1] == L'\0')
    {
        length--;
    }
    return path != NULL ? length * sizeof(WCHAR) : 0;
}

_Use_decl_annotations_
VOID EventNoteImage(EVENTS *events, UINT64 processId, const WCHAR *path, UINT32 bytes)
{
    UINT64 process = EventHashProcess(events, processId);
    UINT32 pathBytes = EventPathBytes(path, bytes);
    UINT64 image = SipHash13(&events->HashKey, path, pathBytes);
    UINT64 known;

    if (pathBytes == 0)
    {
        return;
    }
    if (!RecentSetFind(&events->Images, process, &known) || known != image)
    {
        (VOID) RecentSetTake(&events->Images, process, &known);
        RecentSetAdd(&events->Images, process, image);
    }
}

// The ProcessInfo of a unit.
typedef struct _EVENT_PROCESS
{
    IO_QUEUE_PROCESS Process;
    PROCESS_INFO_WIRE Wire;
} EVENT_PROCESS;

// Adds the ProcessInfo to a unit without records, unless the client has it. Returns whether it was added.
static BOOLEAN EventAddProcess(EVENTS *events, EVENT_UNIT *unit, EVENT_PROCESS *process, UINT64 processId,
                               const WCHAR *path, UINT32 bytes)
{
    UINT32 pathBytes = EventPathBytes(path, bytes);
    UINT64 reported;

    process->Process.Key = EventHashProcess(events, processId);
    process->Process.Value = SipHash13(&events->HashKey, path, pathBytes);
    process->Process.Length = (UINT32)sizeof(process->Wire) + pathBytes;
    if (!EventKnows(events, 1) ||
        (RecentSetFind(&events->Processes, process->Process.Key, &reported) && reported == process->Process.Value))
    {
        return FALSE;
    }
    process->Wire.ProcessId = processId;
    EventAddRecord(unit, InfoProcessInfo, &process->Wire, sizeof(process->Wire), path, pathBytes);
    unit->Unit.Process = &process->Process;
    return TRUE;
}

_Use_decl_annotations_
NTSTATUS EventProcessInfo(EVENTS *events, const LANE_OWNER *owner, UINT64 processId, const WCHAR *path, UINT32 bytes)
{
    EVENT_PROCESS process;
    EVENT_UNIT unit;

    EventUnitInitialize(&unit, owner, LossQueueFull, processId);
    return EventAddProcess(events, &unit, &process, processId, path, bytes)
               ? IoQueuePushUnit(events->Queue, NULL, &unit.Unit)
               : STATUS_SUCCESS;
}

_Use_decl_annotations_
UINT64 EventsProcessCount(EVENTS *events)
{
    return RecentSetCount(&events->Processes, 0);
}

_Use_decl_annotations_
UINT64 EventsProcessBytes(const EVENTS *events)
{
    return RecentSetBytes(&events->Processes) + RecentSetBytes(&events->Images);
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

// Adds the records that come right before a question.
static VOID EventAddDetails(EVENTS *events, EVENT_UNIT *unit, EVENT_PROCESS *process, EVENT_INFO *info,
                            UINT64 processId)
{
    if (info->Details == NULL)
    {
        return;
    }
    unit->Unit.Question = info->Details->Question;
    if (info->Details->Path != NULL)
    {
        (VOID) EventAddProcess(events, unit, process, processId, info->Details->Path, info->Details->PathBytes);
    }
    if (EventWantsConnectionInfo(events))
    {
        EventAddPiece(unit, &info->Wire, sizeof(info->Wire));
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
    EVENT_PROCESS process;
    LANE_OWNER owner;
    EVENT_UNIT unit;
    EVENT_INFO info;
    EVENT_PASS pass;

    payloadLength = payloadLength < limit ? payloadLength : limit;
    end = WirePut(end, &id, sizeof(id));
    end = WirePutConnection(end, key, processId, direction);
    end = WirePut(end, &payloadLayer, sizeof(payloadLayer));
    end = WirePut(end, &payloadLength, sizeof(payloadLength));
    if (payloadLength > PROTOCOL_MAX_RECORD_LENGTH - (UINT32)(end - record))
    {
        return STATUS_INVALID_PARAMETER;
    }
    EventOwner(events, key, direction, processId, &owner);
    EventUnitInitialize(&unit, &owner, LossQueueFull, processId);
    unit.Unit.Asks = TRUE;
    info.Id = id;
    info.Key = key;
    info.Direction = direction;
    info.ProcessStart = EventWantsConnectionInfo(events) ? ProcessStartTime(processId) : 0;
    info.Details = details;
    gate = EventPreparePass(&pass, gate, EventWriteInfo, &info);
    EventAddDetails(events, &unit, &process, &info, processId);
    EventAddRecord(&unit, key->IpVersion == 4 ? InfoConnectionV4 : InfoConnectionV6, record, (UINT32)(end - record),
                   payload, payloadLength);
    return IoQueuePushUnit(events->Queue, gate, &unit.Unit);
}

typedef struct _EVENT_END
{
    EVENTS *Events;
    const CONNECTION *Connection;
    LANE_OWNER Owner;
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

    EventOwner(end->Events, &connection->Key, connection->State.Direction, connection->State.ProcessId, &end->Owner);
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
    EVENT_UNIT unit;
    EVENT_PASS pass;
    EVENT_END end;

    end.Events = events;
    end.Connection = connection;
    gate = EventPreparePass(&pass, gate, EventWriteEnd, &end);
    EventUnitInitialize(&unit, &end.Owner, LossQueueFull, 0);
    unit.Unit.Loss = &end.Loss;
    unit.Unit.Ends = TRUE;
    if (EventWantsConnectionInfo(events))
    {
        EventAddPiece(&unit, &end.Ended, sizeof(end.Ended));
    }
    EventAddPiece(&unit, end.Record, end.Length);
    return IoQueuePushUnit(events->Queue, gate, &unit.Unit);
}

// ---- Other records

_Use_decl_annotations_
NTSTATUS EventLogLine(EVENTS *events, UINT8 severity, const CHAR *text, UINT32 length)
{
    LOG_LINE_WIRE wire;

    wire.Severity = severity;
    return EventPush(events, InfoLogLine, &wire, sizeof(wire), text, length, LossUncounted);
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
    EVENT_UNIT unit;

    if (!EventKnows(events, EventExtensionOf(InfoReplyEnd)))
    {
        return STATUS_SUCCESS;
    }
    wire.Command = command;
    wire.Sequence = sequence;
    EventUnitInitialize(&unit, NULL, LossQueueFull, 0);
    EventAddRecord(&unit, InfoReplyEnd, &wire, sizeof(wire), NULL, 0);
    // These commands queue ends, which wait in other lanes.
    unit.Unit.Barrier = command == CommandClearCache || command == CommandCleanEndedConnections;
    return IoQueuePushUnit(events->Queue, NULL, &unit.Unit);
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
    LANE_OWNER owner;

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
    EventOwner(events, &connection->Key, connection->State.Direction, connection->State.ProcessId, &owner);
    return EventPushOf(events, &owner, InfoConnectionTimeout, record, (UINT32)(end - record), NULL, 0,
                       id != 0 ? LossQueueFull : LossUncounted, connection->State.ProcessId);
}

_Use_decl_annotations_
NTSTATUS EventClientStalled(EVENTS *events, UINT64 count, UINT64 durationMs)
{
    CLIENT_STALLED_WIRE wire;

    wire.Count = count;
    wire.DurationMs = durationMs;
    return EventPush(events, InfoClientStalled, &wire, sizeof(wire), NULL, 0, LossUncounted);
}

_Use_decl_annotations_
VOID EventRefused(EVENTS *events, UINT64 count, UINT64 processId)
{
    EVENTS_LOST_OWNER_WIRE owner;
    EVENTS_LOST_WIRE wire;
    NTSTATUS status;

    wire.Count = count;
    wire.Reason = LossOwnerShare;
    owner.ProcessId = processId;
    status = EventPush(events, InfoEventsLost, &wire, sizeof(wire), &owner, EventKnows(events, 2) ? sizeof(owner) : 0,
                       LossUncounted);
    if (NT_SUCCESS(status))
    {
        StatisticsAdd(events->Queue->Statistics, StatisticEventsLost, (LONG64)count);
    }
    else
    {
        IoQueueReportLost(events->Queue, count, LossOwnerShare, processId);
    }
}

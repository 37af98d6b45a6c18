#include "event.h"

#include "options.h"
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

static BOOLEAN EventWantsConnectionInfo(const EVENTS *events)
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
static NTSTATUS EventPushAfter(EVENTS *events, IO_QUEUE_PIECE *pieces, UINT32 before, UINT8 type, VOID *record,
                               UINT32 length, const VOID *tail, UINT32 tailLength, UINT8 lossReason)
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
    return IoQueuePush(events->Queue, pieces, before + (tailLength != 0 ? 2 : 1), lossReason);
}

static NTSTATUS EventPush(EVENTS *events, UINT8 type, VOID *record, UINT32 length, const VOID *tail, UINT32 tailLength,
                          UINT8 lossReason)
{
    IO_QUEUE_PIECE pieces[2];

    return EventPushAfter(events, pieces, 0, type, record, length, tail, tailLength, lossReason);
}

static NTSTATUS EventPushWhole(EVENTS *events, UINT8 type, VOID *record, UINT32 length)
{
    return EventPush(events, type, record, length, NULL, 0, LossQueueFull);
}

// ---- Connections

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

static VOID EventFillInfo(CONNECTION_INFO_WIRE *wire, UINT64 id, const CONNECTION_KEY *key, UINT8 direction,
                          const EVENT_DETAILS *details)
{
    EventPutHeader(wire, InfoConnectionInfo, sizeof(*wire));
    wire->Id = id;
    wire->Time = EventSystemTime();
    wire->ProcessStart = 0;
    wire->Flags = EventInfoFlags(key, direction, details);
    wire->InterfaceIndex = details->InterfaceIndex;
    wire->Compartment = details->Compartment;
}

_Use_decl_annotations_
NTSTATUS EventConnection(EVENTS *events, UINT64 id, const CONNECTION_KEY *key, UINT64 processId, UINT8 direction,
                         UINT8 payloadLayer, const VOID *payload, UINT32 payloadLength, const EVENT_DETAILS *details)
{
    UINT32 limit = (UINT32)ReadNoFence(&events->PayloadLimit);
    UINT8 record[WIRE_LONGEST_CONNECTION];
    UINT8 *end = record + sizeof(INFO_HEADER_WIRE);
    IO_QUEUE_PIECE pieces[3];
    CONNECTION_INFO_WIRE info;
    UINT32 before = 0;

    payloadLength = payloadLength < limit ? payloadLength : limit;
    end = WirePut(end, &id, sizeof(id));
    end = WirePutConnection(end, key, processId, direction);
    end = WirePut(end, &payloadLayer, sizeof(payloadLayer));
    end = WirePut(end, &payloadLength, sizeof(payloadLength));
    if (details != NULL && EventWantsConnectionInfo(events))
    {
        EventFillInfo(&info, id, key, direction, details);
        pieces[0].Data = &info;
        pieces[0].Length = sizeof(info);
        before = 1;
    }
    return EventPushAfter(events, pieces, before, key->IpVersion == 4 ? InfoConnectionV4 : InfoConnectionV6, record,
                          (UINT32)(end - record), payload, payloadLength, LossQueueFull);
}

static UINT8 EventEndType(const CONNECTION *connection)
{
    return connection->Key.IpVersion == 4 ? InfoConnectionEndV4 : InfoConnectionEndV6;
}

static VOID EventFillEnded(CONNECTION_ENDED_WIRE *wire, const CONNECTION *connection)
{
    const CONNECTION_LIFE *life = &connection->Life;

    EventPutHeader(wire, InfoConnectionEnded, sizeof(*wire));
    wire->Id = life->Question;
    wire->StartTime = life->StartTime;
    wire->EndTime = EventSystemTime();
    wire->TransmittedBytes = life->TransmittedBytes;
    wire->ReceivedBytes = life->ReceivedBytes;
    wire->Verdict = connection->State.Verdict;
    wire->Reason = life->EndReason;
}

_Use_decl_annotations_
NTSTATUS EventConnectionEnd(EVENTS *events, const CONNECTION *connection)
{
    UINT8 record[WIRE_LONGEST_CONNECTION];
    UINT8 *end = WirePutConnection(record + sizeof(INFO_HEADER_WIRE), &connection->Key, connection->State.ProcessId,
                                   connection->State.Direction);
    CONNECTION_ENDED_WIRE ended;
    IO_QUEUE_PIECE pieces[3];
    UINT32 before = 0;

    if (EventWantsConnectionInfo(events))
    {
        EventFillEnded(&ended, connection);
        pieces[0].Data = &ended;
        pieces[0].Length = sizeof(ended);
        before = 1;
    }
    return EventPushAfter(events, pieces, before, EventEndType(connection), record, (UINT32)(end - record), NULL, 0,
                          LossQueueFull);
}

_Use_decl_annotations_
VOID EventConnectionRemoved(void *events, const CONNECTION *connection)
{
    if (EventWantsConnectionInfo((const EVENTS *)events))
    {
        (VOID) EventConnectionEnd((EVENTS *)events, connection);
    }
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
    status = EventPush(events, InfoProcessInfo, &wire, sizeof(wire), path, pathBytes, LossQueueFull);
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
                     id != 0 ? LossQueueFull : LossUncounted);
}

_Use_decl_annotations_
NTSTATUS EventClientStalled(EVENTS *events, UINT64 count, UINT64 durationMs)
{
    CLIENT_STALLED_WIRE wire;

    wire.Count = count;
    wire.DurationMs = durationMs;
    return EventPushWhole(events, InfoClientStalled, &wire, sizeof(wire));
}

#include "event.h"

#include "options.h"

typedef struct _TOLD_PROCESS
{
    UINT64 ProcessId;
    UINT64 PathHash;
    BOOLEAN InUse;
} TOLD_PROCESS;

struct _EVENTS_TOLD_SET
{
    TOLD_PROCESS Ways[EVENTS_TOLD_WAYS];
    UINT32 NextWay; // that the next unknown process replaces
};

_Use_decl_annotations_
VOID EventsInitialize(EVENTS *events, MEMORY *memory, IO_QUEUE *queue)
{
    RtlZeroMemory(events, sizeof(*events));
    events->Memory = memory;
    events->Queue = queue;
    KeInitializeSpinLock(&events->ToldLock);
    SipHashKeyInitialize(&events->PathKey);
    events->Told = (EVENTS_TOLD_SET *)MemoryAllocate(memory, EVENTS_TOLD_SETS * sizeof(EVENTS_TOLD_SET));
    EventsReset(events);
}

_Use_decl_annotations_
VOID EventsUninitialize(EVENTS *events)
{
    MemoryFree(events->Memory, events->Told);
    events->Told = NULL;
}

_Use_decl_annotations_
VOID EventsReset(EVENTS *events)
{
    KIRQL irql;
    UINT32 i;

    EventsSetOptions(events, FALSE, OPTIONS_PAYLOAD_UNLIMITED);
    for (i = 0; i < CommandCount; i++)
    {
        InterlockedExchange64(&events->Replies[i], 0);
    }
    if (events->Told != NULL)
    {
        KeAcquireSpinLock(&events->ToldLock, &irql);
        RtlZeroMemory(events->Told, EVENTS_TOLD_SETS * sizeof(EVENTS_TOLD_SET));
        WriteNoFence(&events->ToldCount, 0);
        KeReleaseSpinLock(&events->ToldLock, irql);
    }
}

_Use_decl_annotations_
VOID EventsSetOptions(EVENTS *events, BOOLEAN extended, UINT32 payloadLimit)
{
    WriteNoFence(&events->Extended, extended);
    WriteNoFence(&events->PayloadLimit, (LONG)payloadLimit);
}

static BOOLEAN IsExtended(const EVENTS *events)
{
    return ReadNoFence(&events->Extended) != 0;
}

// `wire` starts with an INFO_HEADER_WIRE, which this fills in; `tail` is what follows the fixed part.
static NTSTATUS Push(EVENTS *events, UINT8 type, VOID *wire, UINT32 wireLength, const VOID *tail, UINT32 tailLength,
                     UINT8 lossReason)
{
    INFO_HEADER_WIRE header;
    IO_QUEUE_PIECE pieces[2];

    if (tailLength > PROTOCOL_MAX_RECORD_LENGTH - wireLength)
    {
        return STATUS_INVALID_PARAMETER;
    }
    header.Type = type;
    header.Length = wireLength - (UINT32)sizeof(header) + tailLength;
    RtlCopyMemory(wire, &header, sizeof(header));
    pieces[0].Data = wire;
    pieces[0].Length = wireLength;
    pieces[1].Data = tail;
    pieces[1].Length = tailLength;
    return IoQueuePush(events->Queue, pieces, tailLength != 0 ? 2 : 1, lossReason);
}

static NTSTATUS PushRecord(EVENTS *events, UINT8 type, VOID *wire, UINT32 wireLength, const VOID *tail,
                           UINT32 tailLength)
{
    return Push(events, type, wire, wireLength, tail, tailLength, LossQueueFull);
}

// What one connection record says, whatever its IP version.
typedef struct _CONNECTION_EVENT
{
    UINT64 Id;
    const CONNECTION_KEY *Key;
    UINT64 ProcessId;
    UINT8 Direction;
    UINT8 PayloadLayer;
    const VOID *Payload;
    UINT32 PayloadLength;
} CONNECTION_EVENT;

static NTSTATUS PushConnectionV4(EVENTS *events, const CONNECTION_EVENT *event)
{
    const CONNECTION_KEY *key = event->Key;
    CONNECTION_V4_WIRE wire;

    wire.Id = event->Id;
    wire.ProcessId = event->ProcessId;
    wire.Direction = event->Direction;
    wire.Protocol = key->Protocol;
    RtlCopyMemory(wire.LocalAddress, key->LocalAddress, sizeof(wire.LocalAddress));
    RtlCopyMemory(wire.RemoteAddress, key->RemoteAddress, sizeof(wire.RemoteAddress));
    wire.LocalPort = key->LocalPort;
    wire.RemotePort = key->RemotePort;
    wire.PayloadLayer = event->PayloadLayer;
    wire.PayloadLength = event->PayloadLength;
    return PushRecord(events, InfoConnectionV4, &wire, sizeof(wire), event->Payload, event->PayloadLength);
}

static NTSTATUS PushConnectionV6(EVENTS *events, const CONNECTION_EVENT *event)
{
    const CONNECTION_KEY *key = event->Key;
    CONNECTION_V6_WIRE wire;

    wire.Id = event->Id;
    wire.ProcessId = event->ProcessId;
    wire.Direction = event->Direction;
    wire.Protocol = key->Protocol;
    RtlCopyMemory(wire.LocalAddress, key->LocalAddress, sizeof(wire.LocalAddress));
    RtlCopyMemory(wire.RemoteAddress, key->RemoteAddress, sizeof(wire.RemoteAddress));
    wire.LocalPort = key->LocalPort;
    wire.RemotePort = key->RemotePort;
    wire.PayloadLayer = event->PayloadLayer;
    wire.PayloadLength = event->PayloadLength;
    return PushRecord(events, InfoConnectionV6, &wire, sizeof(wire), event->Payload, event->PayloadLength);
}

_Use_decl_annotations_
NTSTATUS EventConnection(EVENTS *events, UINT64 id, const CONNECTION_KEY *key, UINT64 processId, UINT8 direction,
                         UINT8 payloadLayer, const VOID *payload, UINT32 payloadLength)
{
    UINT32 limit = (UINT32)ReadNoFence(&events->PayloadLimit);
    CONNECTION_EVENT event;

    event.Id = id;
    event.Key = key;
    event.ProcessId = processId;
    event.Direction = direction;
    event.PayloadLayer = payloadLayer;
    event.Payload = payload;
    event.PayloadLength = payloadLength < limit ? payloadLength : limit;
    return key->IpVersion == 4 ? PushConnectionV4(events, &event) : PushConnectionV6(events, &event);
}

static NTSTATUS PushConnectionEndV4(EVENTS *events, const CONNECTION *connection)
{
    const CONNECTION_KEY *key = &connection->Key;
    CONNECTION_END_V4_WIRE wire;

    wire.ProcessId = connection->ProcessId;
    wire.Direction = connection->Direction;
    wire.Protocol = key->Protocol;
    RtlCopyMemory(wire.LocalAddress, key->LocalAddress, sizeof(wire.LocalAddress));
    RtlCopyMemory(wire.RemoteAddress, key->RemoteAddress, sizeof(wire.RemoteAddress));
    wire.LocalPort = key->LocalPort;
    wire.RemotePort = key->RemotePort;
    return PushRecord(events, InfoConnectionEndV4, &wire, sizeof(wire), NULL, 0);
}

static NTSTATUS PushConnectionEndV6(EVENTS *events, const CONNECTION *connection)
{
    const CONNECTION_KEY *key = &connection->Key;
    CONNECTION_END_V6_WIRE wire;

    wire.ProcessId = connection->ProcessId;
    wire.Direction = connection->Direction;
    wire.Protocol = key->Protocol;
    RtlCopyMemory(wire.LocalAddress, key->LocalAddress, sizeof(wire.LocalAddress));
    RtlCopyMemory(wire.RemoteAddress, key->RemoteAddress, sizeof(wire.RemoteAddress));
    wire.LocalPort = key->LocalPort;
    wire.RemotePort = key->RemotePort;
    return PushRecord(events, InfoConnectionEndV6, &wire, sizeof(wire), NULL, 0);
}

_Use_decl_annotations_
NTSTATUS EventConnectionEnd(EVENTS *events, const CONNECTION *connection)
{
    return connection->Key.IpVersion == 4 ? PushConnectionEndV4(events, connection)
                                          : PushConnectionEndV6(events, connection);
}

// ---- Processes

static EVENTS_TOLD_SET *SetOf(const EVENTS *events, UINT64 processId)
{
    return &events->Told[SipHash13(&events->PathKey, &processId, sizeof(processId)) % EVENTS_TOLD_SETS];
}

static TOLD_PROCESS *FindTold(EVENTS_TOLD_SET *set, UINT64 processId)
{
    UINT32 way;

    for (way = 0; way < EVENTS_TOLD_WAYS; way++)
    {
        if (set->Ways[way].InUse && set->Ways[way].ProcessId == processId)
        {
            return &set->Ways[way];
        }
    }
    return NULL;
}

static BOOLEAN WasTold(EVENTS *events, UINT64 processId, UINT64 pathHash)
{
    TOLD_PROCESS *told;
    BOOLEAN same;
    KIRQL irql;

    if (events->Told == NULL)
    {
        return FALSE;
    }
    KeAcquireSpinLock(&events->ToldLock, &irql);
    told = FindTold(SetOf(events, processId), processId);
    same = told != NULL && told->PathHash == pathHash;
    KeReleaseSpinLock(&events->ToldLock, irql);
    return same;
}

static VOID RememberTold(EVENTS *events, UINT64 processId, UINT64 pathHash)
{
    EVENTS_TOLD_SET *set;
    TOLD_PROCESS *told;
    KIRQL irql;

    if (events->Told == NULL)
    {
        return;
    }
    KeAcquireSpinLock(&events->ToldLock, &irql);
    set = SetOf(events, processId);
    told = FindTold(set, processId);
    if (told == NULL)
    {
        told = &set->Ways[set->NextWay];
        set->NextWay = (set->NextWay + 1) % EVENTS_TOLD_WAYS;
        WriteNoFence(&events->ToldCount, events->ToldCount + (told->InUse ? 0 : 1));
    }
    told->ProcessId = processId;
    told->PathHash = pathHash;
    told->InUse = TRUE;
    KeReleaseSpinLock(&events->ToldLock, irql);
}

// Whole characters, without the terminators that the metadata may count in.
static UINT32 PathBytes(const WCHAR *path, UINT32 bytes)
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
    UINT32 pathBytes = path != NULL ? PathBytes(path, bytes) : 0;
    PROCESS_INFO_WIRE wire;
    UINT64 pathHash;
    NTSTATUS status;

    if (!IsExtended(events))
    {
        return STATUS_SUCCESS;
    }
    pathHash = SipHash13(&events->PathKey, path, pathBytes);
    if (WasTold(events, processId, pathHash))
    {
        return STATUS_SUCCESS;
    }

    wire.ProcessId = processId;
    status = PushRecord(events, InfoProcessInfo, &wire, sizeof(wire), path, pathBytes);
    if (NT_SUCCESS(status))
    {
        // Only now: another thread's connection record must not overtake this one.
        RememberTold(events, processId, pathHash);
    }
    return status;
}

_Use_decl_annotations_
UINT64 EventsToldCount(const EVENTS *events)
{
    return (UINT64)ReadNoFence(&events->ToldCount);
}

_Use_decl_annotations_
UINT64 EventsToldBytes(const EVENTS *events)
{
    return events->Told != NULL ? EVENTS_TOLD_SETS * sizeof(EVENTS_TOLD_SET) : 0;
}

// ---- The small ones

_Use_decl_annotations_
NTSTATUS EventLogLine(EVENTS *events, UINT8 severity, const CHAR *text, UINT32 length)
{
    LOG_LINE_WIRE wire;

    wire.Severity = severity;
    return Push(events, InfoLogLine, &wire, sizeof(wire), text, length, LossUncounted);
}

_Use_decl_annotations_
NTSTATUS EventReplyEnd(EVENTS *events, UINT8 command)
{
    // A base client's replies count too: it may become an extended one.
    LONG64 sequence = InterlockedIncrement64(&events->Replies[command]);
    REPLY_END_WIRE wire;

    if (!IsExtended(events))
    {
        return STATUS_SUCCESS;
    }
    wire.Command = command;
    wire.Sequence = (UINT64)sequence;
    return PushRecord(events, InfoReplyEnd, &wire, sizeof(wire), NULL, 0);
}

_Use_decl_annotations_
NTSTATUS EventConnectionTimeout(EVENTS *events, UINT64 id)
{
    CONNECTION_TIMEOUT_WIRE wire;

    if (!IsExtended(events))
    {
        return STATUS_SUCCESS;
    }
    wire.Id = id;
    return PushRecord(events, InfoConnectionTimeout, &wire, sizeof(wire), NULL, 0);
}

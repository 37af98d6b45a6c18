#include "command.h"

#include "connection_ports.h"
#include "connection_text.h"
#include "context.h"
#include "flow.h"
#include "hold.h"
#include "session.h"
#include "stall.h"
#include "wire.h"

// A command in the bytes of a write. Its first byte is the command's number.
// The last byte of a command with a body is a verdict.
typedef union _COMMAND_WIRE
{
    UINT8 Bytes[WIRE_UPDATE_V6];
    COMMAND_VERDICT_WIRE Verdict;
} COMMAND_WIRE;

// ---- Checking

static SIZE_T CommandLength(UINT8 command)
{
    switch (command)
    {
    case CommandVerdict:
        return sizeof(COMMAND_VERDICT_WIRE);
    case CommandUpdateV4:
        return WIRE_UPDATE_V4;
    case CommandUpdateV6:
        return WIRE_UPDATE_V6;
    default:
        return sizeof(UINT8);
    }
}

// Copies the next command. Returns NULL, or why the command is not valid. `length` is not 0.
static const char *CommandFetch(const UINT8 *bytes, SIZE_T length, COMMAND_WIRE *wire, SIZE_T *wireLength)
{
    wire->Bytes[0] = bytes[0];
    if (wire->Bytes[0] >= CommandCount)
    {
        return "there is no such command";
    }
    *wireLength = CommandLength(wire->Bytes[0]);
    if (*wireLength > length)
    {
        return "the command is cut off";
    }
    // The first byte may have changed meanwhile, so it stays the one that chose the length.
    RtlCopyMemory(wire->Bytes + 1, bytes + 1, *wireLength - 1);
    // A command with a body ends with its verdict.
    return *wireLength == 1 || wire->Bytes[*wireLength - 1] < VerdictCount ? NULL : "there is no such verdict";
}

// ---- Carrying out

// Counts a verdict. `applied` is FALSE if the verdict's id or connection was not found.
static BOOLEAN CommandCountVerdict(DRIVER_CONTEXT *context, BOOLEAN applied)
{
    StatisticsAdd(&context->Statistics, applied ? StatisticVerdictsApplied : StatisticVerdictsUnknownId, 1);
    return applied;
}

static VOID CommandApplyVerdict(DRIVER_CONTEXT *context, const COMMAND_VERDICT_WIRE *wire)
{
    StallHear(context);
    if (!CommandCountVerdict(context, HoldApplyVerdict(context, wire->Id, wire->Verdict)))
    {
        LogWarning(&context->Log, "Verdict %u came for id %llu, which waits for none", wire->Verdict,
                   (unsigned long long)wire->Id);
    }
}

static VOID CommandLogUpdate(LOG *log, const CONNECTION_KEY *key, const CONNECTION_STATE *state)
{
    CONNECTION_TEXT text;

    LogDebug(log, "updated to verdict %s: %s, process %llu", VerdictRow(state->Verdict)->Name,
             ConnectionTextWrite(&text, key, state->Direction), (unsigned long long)state->ProcessId);
}

// An update that is carried out.
typedef struct _COMMAND_UPDATE
{
    DRIVER_CONTEXT *Context;
    UINT8 Verdict;
    BOOLEAN Known; // the driver knows such a connection
} COMMAND_UPDATE;

static VOID CommandUpdateOne(COMMAND_UPDATE *update, const CONNECTION_KEY *key)
{
    DRIVER_CONTEXT *context = update->Context;
    CONNECTION_STATE state;

    if (ConnectionTableSetVerdict(&context->Connections, key, update->Verdict, &state))
    {
        update->Known = TRUE;
        CommandLogUpdate(&context->Log, key, &state);
        FlowAbortBlocked(context, key);
    }
}

static VOID CommandUpdateVisited(void *update, const CONNECTION *connection)
{
    CommandUpdateOne((COMMAND_UPDATE *)update, &connection->Key);
}

// Updates the connections with these ports in every scope, because the client knows no scopes.
static VOID CommandUpdateAll(COMMAND_UPDATE *update, CONNECTION_KEY *key)
{
    UINT32 last = ScopeTableLast(&update->Context->Scopes);
    UINT32 scope;

    for (scope = SCOPE_DEFAULT; scope <= last; scope++)
    {
        key->Scope = (UINT8)scope;
        CommandUpdateOne(update, key);
    }
}

// Carries out an update of a connection's verdict. Both IP versions have the same fields in the same order.
// The client does not know what tells apart conversations of a protocol without ports, so all of them are updated.
// FALSE: the connection is unknown.
static BOOLEAN CommandUpdate(DRIVER_CONTEXT *context, const UINT8 *wire)
{
    COMMAND_UPDATE update;
    CONNECTION_KEY key;

    StallHear(context);
    RtlZeroMemory(&key, sizeof(key));
    key.IpVersion = wire[0] == CommandUpdateV4 ? 4 : 6;
    wire = WireGet(wire + sizeof(UINT8), &key.Protocol, sizeof(key.Protocol));
    wire = WireGetEndpoints(wire, &key);
    update.Context = context;
    update.Verdict = *wire;
    update.Known = FALSE;
    if (ConnectionKeyHasPorts(&key))
    {
        CommandUpdateAll(&update, &key);
    }
    else
    {
        ConnectionPortsVisitPortless(&context->Connections, &key, CommandUpdateVisited, &update);
    }
    if (CommandCountVerdict(context, update.Known))
    {
        // The ALE layers decide again on what they blocked or permitted.
        EngineRequestReauthorization(&context->Engine);
    }
    return update.Known;
}

static BOOLEAN CommandQueueLogLine(void *events, UINT8 severity, const CHAR *text, UINT32 length)
{
    return NT_SUCCESS(EventLogLine((EVENTS *)events, severity, text, length));
}

static VOID CommandAnswerLogs(DRIVER_CONTEXT *context)
{
    UINT64 overwritten = LogDrain(&context->Log, CommandQueueLogLine, &context->Events);

    if (overwritten != 0)
    {
        // The next answer carries this warning, because the lines of this answer are already queued.
        LogWarning(&context->Log, "%llu log lines were overwritten before they were fetched",
                   (unsigned long long)overwritten);
    }
}

// The client asked for these lines, so they are kept at any level of the log.
static VOID CommandPrintTable(LOG *log, const char *name, UINT64 entries, UINT64 bytes)
{
    LogWrite(log, LogSeverityInfo, __FILE__, __LINE__, "%s: %llu entries, %llu bytes", name,
             (unsigned long long)entries, (unsigned long long)bytes);
}

static VOID CommandPrintMemory(DRIVER_CONTEXT *context)
{
    LOG *log = &context->Log;
    UINT64 refusedCount;
    UINT64 refusedBytes;

    InjectCountRefused(&context->Injector, &refusedCount, &refusedBytes);
    CommandPrintTable(log, "connections", ConnectionTableCount(&context->Connections),
                      ConnectionTableBytes(&context->Connections));
    CommandPrintTable(log, "held packets", PacketCacheCount(&context->Packets), PacketCacheBytes(&context->Packets));
    CommandPrintTable(log, "fragments", FragmentTableCount(&context->Fragments),
                      FragmentTableBytes(&context->Fragments));
    CommandPrintTable(log, "redirects", RedirectTableCount(&context->Redirects),
                      RedirectTableBytes(&context->Redirects));
    CommandPrintTable(log, "refused injections", refusedCount, refusedBytes);
    CommandPrintTable(log, "returning injections", InjectionTrackerCount(&context->Injector.Returns),
                      InjectionTrackerBytes(&context->Injector.Returns));
    CommandPrintTable(log, "bandwidth", BandwidthEntries(&context->Bandwidth), BandwidthBytes(&context->Bandwidth));
    CommandPrintTable(log, "reported processes", EventsProcessCount(&context->Events),
                      EventsProcessBytes(&context->Events));
    CommandPrintTable(log, "event queue", IoQueueRecords(&context->Queue), IoQueueBytes(&context->Queue));
    LogWrite(log, LogSeverityInfo, __FILE__, __LINE__, "pool: %llu bytes now, %llu at most",
             (unsigned long long)MemoryBytes(&context->Memory), (unsigned long long)MemoryPeakBytes(&context->Memory));
}

static VOID CommandAnswerBandwidth(DRIVER_CONTEXT *context)
{
    NTSTATUS status = BandwidthReport(&context->Bandwidth, &context->Events);

    if (!NT_SUCCESS(status) && LogMayRepeat(&context->Log, LogLimitBandwidth))
    {
        LogWarning(&context->Log, "A bandwidth report was left for the next one: status 0x%08x", (unsigned)status);
    }
}

// Carries out a command without a body.
static VOID CommandPerform(DRIVER_CONTEXT *context, UINT8 command)
{
    switch (command)
    {
    case CommandShutdown:
        SessionShutdown(context);
        break;
    case CommandClearCache:
        ConnectionTableClearCache(&context->Connections);
        RedirectTableClear(&context->Redirects);
        EngineRequestReauthorization(&context->Engine);
        break;
    case CommandGetLogs:
        CommandAnswerLogs(context);
        break;
    case CommandGetBandwidthStats:
        CommandAnswerBandwidth(context);
        break;
    case CommandPrintMemoryStats:
        CommandPrintMemory(context);
        break;
    default:
        (VOID) ConnectionTableClean(&context->Connections, TRUE, NULL);
        (VOID) RedirectTableClean(&context->Redirects, NULL);
        break;
    }
}

static VOID CommandExecuteOne(DRIVER_CONTEXT *context, const COMMAND_WIRE *wire)
{
    UINT64 sequence;

    switch (wire->Bytes[0])
    {
    case CommandVerdict:
        CommandApplyVerdict(context, &wire->Verdict);
        return;
    case CommandUpdateV4:
    case CommandUpdateV6:
        (VOID) CommandUpdate(context, wire->Bytes);
        return;
    default:
        // The reply's number is taken before the work, so that two writes at once keep the order of their starts.
        sequence = EventNumberReply(&context->Events, wire->Bytes[0]);
        CommandPerform(context, wire->Bytes[0]);
        (VOID) EventReplyEnd(&context->Events, wire->Bytes[0], sequence);
        return;
    }
}

static NTSTATUS CommandReject(DRIVER_CONTEXT *context, const char *reason, SIZE_T offset)
{
    StatisticsAdd(&context->Statistics, StatisticCommandsRejected, 1);
    LogError(&context->Log, "A write was rejected at byte %llu: %s", (unsigned long long)offset, reason);
    return STATUS_INVALID_PARAMETER;
}

static NTSTATUS CommandExecuteAll(DRIVER_CONTEXT *context, const UINT8 *bytes, SIZE_T length, SIZE_T *consumed)
{
    UINT32 count;

    for (count = 0; *consumed < length; count++)
    {
        const char *reason;
        SIZE_T wireLength;
        COMMAND_WIRE wire;

        if (count == PROTOCOL_MAX_COMMANDS_PER_WRITE)
        {
            return CommandReject(context, "there are too many commands", *consumed);
        }
        reason = CommandFetch(bytes + *consumed, length - *consumed, &wire, &wireLength);
        if (reason != NULL)
        {
            return CommandReject(context, reason, *consumed);
        }
        CommandExecuteOne(context, &wire);
        *consumed += wireLength;
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
NTSTATUS CommandExecute(DRIVER_CONTEXT *context, const UINT8 *bytes, SIZE_T length, SIZE_T *consumed)
{
    NTSTATUS status;

    *consumed = 0;
    if (length == 0)
    {
        return CommandReject(context, "it is empty", 0);
    }
    status = CommandExecuteAll(context, bytes, length, consumed);
    // All verdicts of a write share one reauthorization.
    EngineReauthorize(&context->Engine);
    return status;
}

_Use_decl_annotations_
NTSTATUS CommandUpdateConnection(DRIVER_CONTEXT *context, const UINT8 *bytes, SIZE_T length, BOOLEAN *known)
{
    const char *reason = "it is empty";
    SIZE_T wireLength = 0;
    COMMAND_WIRE wire;

    *known = FALSE;
    if (length != 0)
    {
        reason = CommandFetch(bytes, length, &wire, &wireLength);
    }
    if (reason == NULL &&
        (wireLength != length || (wire.Bytes[0] != CommandUpdateV4 && wire.Bytes[0] != CommandUpdateV6)))
    {
        reason = "it is not one update";
    }
    if (reason != NULL)
    {
        return CommandReject(context, reason, 0);
    }
    *known = CommandUpdate(context, wire.Bytes);
    EngineReauthorize(&context->Engine);
    return STATUS_SUCCESS;
}

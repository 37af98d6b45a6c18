#include "command.h"

#include "context.h"
#include "session.h"

// A command as it lies in the write, by its first byte.
typedef union _COMMAND_WIRE
{
    UINT8 Command;
    COMMAND_VERDICT_WIRE Verdict;
    COMMAND_UPDATE_V4_WIRE UpdateV4;
    COMMAND_UPDATE_V6_WIRE UpdateV6;
} COMMAND_WIRE;

// ---- Checking

static SIZE_T LengthOf(UINT8 command)
{
    switch (command)
    {
    case CommandVerdict:
        return sizeof(COMMAND_VERDICT_WIRE);
    case CommandUpdateV4:
        return sizeof(COMMAND_UPDATE_V4_WIRE);
    case CommandUpdateV6:
        return sizeof(COMMAND_UPDATE_V6_WIRE);
    default:
        return sizeof(UINT8);
    }
}

static BOOLEAN HasValidVerdict(const COMMAND_WIRE *wire)
{
    switch (wire->Command)
    {
    case CommandVerdict:
        return wire->Verdict.Verdict < VerdictCount;
    case CommandUpdateV4:
        return wire->UpdateV4.Verdict < VerdictCount;
    case CommandUpdateV6:
        return wire->UpdateV6.Verdict < VerdictCount;
    default:
        return TRUE;
    }
}

// Copies the next command; NULL, or why it is not valid. `length` is not 0.
static const char *Fetch(const UINT8 *bytes, SIZE_T length, COMMAND_WIRE *wire, SIZE_T *wireLength)
{
    wire->Command = bytes[0];
    if (wire->Command >= CommandCount)
    {
        return "there is no such command";
    }
    *wireLength = LengthOf(wire->Command);
    if (*wireLength > length)
    {
        return "the command is cut off";
    }
    // The first byte may have changed meanwhile: it stays what the length was taken from.
    RtlCopyMemory((UINT8 *)wire + 1, bytes + 1, *wireLength - 1);
    return HasValidVerdict(wire) ? NULL : "there is no such verdict";
}

// ---- Carrying out

static VOID ApplyVerdict(DRIVER_CONTEXT *context, const COMMAND_VERDICT_WIRE *wire)
{
    if (HoldApplyVerdict(context, wire->Id, wire->Verdict))
    {
        StatisticsAdd(&context->Statistics, StatisticVerdictsApplied, 1);
        return;
    }
    StatisticsAdd(&context->Statistics, StatisticVerdictsUnknownId, 1);
    LogWarning(&context->Log, "Verdict %u came for id %llu, which waits for none", wire->Verdict,
               (unsigned long long)wire->Id);
}

static VOID UpdateVerdict(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT8 verdict)
{
    if (!ConnectionTableSetVerdict(&context->Connections, key, verdict))
    {
        StatisticsAdd(&context->Statistics, StatisticVerdictsUnknownId, 1);
        return;
    }
    StatisticsAdd(&context->Statistics, StatisticVerdictsApplied, 1);
    // What was blocked or permitted at the ALE layers has to be asked about there again.
    DeferredRequest(&context->Deferred, DEFERRED_REAUTHORIZE);
}

// Both IP versions have the same fields, one after the other.
static VOID Update(DRIVER_CONTEXT *context, UINT8 ipVersion, const UINT8 *wire)
{
    UINT32 addressLength = ipVersion == 6 ? 16 : 4;
    const UINT8 *local = wire + FIELD_OFFSET(COMMAND_UPDATE_V4_WIRE, LocalAddress);
    const UINT8 *remote = local + addressLength + sizeof(UINT16);
    CONNECTION_KEY key;

    RtlZeroMemory(&key, sizeof(key));
    key.IpVersion = ipVersion;
    key.Protocol = wire[FIELD_OFFSET(COMMAND_UPDATE_V4_WIRE, Protocol)];
    RtlCopyMemory(key.LocalAddress, local, addressLength);
    RtlCopyMemory(&key.LocalPort, local + addressLength, sizeof(key.LocalPort));
    RtlCopyMemory(key.RemoteAddress, remote, addressLength);
    RtlCopyMemory(&key.RemotePort, remote + addressLength, sizeof(key.RemotePort));
    UpdateVerdict(context, &key, remote[addressLength + sizeof(UINT16)]);
}

static_assert(FIELD_OFFSET(COMMAND_UPDATE_V4_WIRE, LocalAddress) ==
                      FIELD_OFFSET(COMMAND_UPDATE_V6_WIRE, LocalAddress) &&
                  FIELD_OFFSET(COMMAND_UPDATE_V4_WIRE, Verdict) ==
                      FIELD_OFFSET(COMMAND_UPDATE_V4_WIRE, LocalAddress) + 2 * (4 + sizeof(UINT16)) &&
                  FIELD_OFFSET(COMMAND_UPDATE_V6_WIRE, Verdict) ==
                      FIELD_OFFSET(COMMAND_UPDATE_V6_WIRE, LocalAddress) + 2 * (16 + sizeof(UINT16)),
              "one code for both IP versions");

static BOOLEAN QueueLogLine(void *events, UINT8 severity, const CHAR *text, UINT32 length)
{
    return NT_SUCCESS(EventLogLine((EVENTS *)events, severity, text, length));
}

static VOID GetLogs(DRIVER_CONTEXT *context)
{
    UINT64 overwritten = LogDrain(&context->Log, QueueLogLine, &context->Events);

    if (overwritten != 0)
    {
        // Told with the next lines: those of this answer are already on their way.
        LogWarning(&context->Log, "%llu log lines were overwritten before they were fetched",
                   (unsigned long long)overwritten);
    }
}

// The client has asked for these lines: they are kept whatever the log's level.
static VOID PrintCache(LOG *log, const char *name, UINT64 entries, UINT64 bytes)
{
    LogWrite(log, LogSeverityInfo, __FILE__, __LINE__, "%s: %llu entries, %llu bytes", name,
             (unsigned long long)entries, (unsigned long long)bytes);
}

static VOID PrintMemoryStats(DRIVER_CONTEXT *context)
{
    LOG *log = &context->Log;
    UINT64 refusedCount;
    UINT64 refusedBytes;

    InjectCountRefused(&context->Injector, &refusedCount, &refusedBytes);
    PrintCache(log, "connections", ConnectionTableCount(&context->Connections),
               ConnectionTableBytes(&context->Connections));
    PrintCache(log, "held packets", PacketCacheCount(&context->Packets), PacketCacheBytes(&context->Packets));
    PrintCache(log, "fragments", FragmentTableCount(&context->Fragments), FragmentTableBytes(&context->Fragments));
    PrintCache(log, "redirects", RedirectTableCount(&context->Redirects), RedirectTableBytes(&context->Redirects));
    PrintCache(log, "refused injections", refusedCount, refusedBytes);
    PrintCache(log, "returning injections", ReturnTableCount(&context->Injector.Returns),
               ReturnTableBytes(&context->Injector.Returns));
    PrintCache(log, "bandwidth", BandwidthCount(&context->Bandwidth), BandwidthBytes(&context->Bandwidth));
    PrintCache(log, "told processes", EventsToldCount(&context->Events), EventsToldBytes(&context->Events));
    PrintCache(log, "event queue", IoQueueRecords(&context->Queue), IoQueueBytes(&context->Queue));
    LogWrite(log, LogSeverityInfo, __FILE__, __LINE__, "pool: %llu bytes now, %llu at most",
             (unsigned long long)MemoryBytes(&context->Memory), (unsigned long long)MemoryPeakBytes(&context->Memory));
}

static VOID GetBandwidthStats(DRIVER_CONTEXT *context)
{
    NTSTATUS status = BandwidthReport(&context->Bandwidth, &context->Events);

    if (!NT_SUCCESS(status) && LogMayRepeat(&context->Log, LogLimitBandwidth))
    {
        LogWarning(&context->Log, "A bandwidth report was left for the next one: status 0x%08x", (unsigned)status);
    }
}

// Of the commands without a body.
static VOID Perform(DRIVER_CONTEXT *context, UINT8 command)
{
    switch (command)
    {
    case CommandShutdown:
        SessionShutdown(context);
        break;
    case CommandClearCache:
        ConnectionTableForget(&context->Connections);
        RedirectTableClear(&context->Redirects);
        DeferredRequest(&context->Deferred, DEFERRED_REAUTHORIZE);
        break;
    case CommandGetLogs:
        GetLogs(context);
        break;
    case CommandGetBandwidthStats:
        GetBandwidthStats(context);
        break;
    case CommandPrintMemoryStats:
        PrintMemoryStats(context);
        break;
    default:
        (VOID) ConnectionTableClean(&context->Connections, TRUE);
        (VOID) RedirectTableClean(&context->Redirects);
        break;
    }
}

static VOID Execute(DRIVER_CONTEXT *context, const COMMAND_WIRE *wire)
{
    switch (wire->Command)
    {
    case CommandVerdict:
        ApplyVerdict(context, &wire->Verdict);
        return;
    case CommandUpdateV4:
        Update(context, 4, (const UINT8 *)&wire->UpdateV4);
        return;
    case CommandUpdateV6:
        Update(context, 6, (const UINT8 *)&wire->UpdateV6);
        return;
    default:
        Perform(context, wire->Command);
        (VOID) EventReplyEnd(&context->Events, wire->Command);
        return;
    }
}

static NTSTATUS Reject(DRIVER_CONTEXT *context, const char *reason, SIZE_T offset)
{
    StatisticsAdd(&context->Statistics, StatisticCommandsRejected, 1);
    LogError(&context->Log, "A write was rejected at byte %llu: %s", (unsigned long long)offset, reason);
    return STATUS_INVALID_PARAMETER;
}

static NTSTATUS ExecuteAll(DRIVER_CONTEXT *context, const UINT8 *bytes, SIZE_T length, SIZE_T *consumed)
{
    UINT32 count;

    for (count = 0; *consumed < length; count++)
    {
        const char *reason;
        SIZE_T wireLength;
        COMMAND_WIRE wire;

        if (count == PROTOCOL_MAX_COMMANDS_PER_WRITE)
        {
            return Reject(context, "there are too many commands", *consumed);
        }
        reason = Fetch(bytes + *consumed, length - *consumed, &wire, &wireLength);
        if (reason != NULL)
        {
            return Reject(context, reason, *consumed);
        }
        Execute(context, &wire);
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
        return Reject(context, "it is empty", 0);
    }
    status = ExecuteAll(context, bytes, length, consumed);
    // All verdicts of a write share one reauthorization.
    DeferredQueue(&context->Deferred);
    return status;
}

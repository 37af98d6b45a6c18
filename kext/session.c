#include "session.h"

#include "callouts.h"
#include "context.h"
#include "hold.h"
#include "stall.h"

// The longest time that an attach waits for its filters.
#define SESSION_ATTACH_WAIT_MS 2000

// The most bytes that all held packets together take up.
#define SESSION_MAX_HELD_BYTES (256ULL * 1024ULL * 1024ULL)

// A critical region prevents suspension: a thread that is suspended here would keep every other client out.
static VOID SessionBeginTransition(CLIENT *client)
{
    KeEnterCriticalRegion();
    KeWaitForSingleObject(&client->Transition, Executive, KernelMode, FALSE, NULL);
}

static VOID SessionEndTransition(CLIENT *client)
{
    KeSetEvent(&client->Transition, IO_NO_INCREMENT, FALSE);
    KeLeaveCriticalRegion();
}

static_assert(OPTIONS_MOST_MAX_CONNECTIONS <= CONNECTION_TABLE_MOST, "the table takes every limit");

static VOID SessionSetMaxConnections(DRIVER_CONTEXT *context, UINT32 maxConnections)
{
    if (ConnectionTableSetLimit(&context->Connections, maxConnections))
    {
        DeferredRequest(&context->Deferred, DEFERRED_EVICT);
        DeferredQueue(&context->Deferred);
    }
}

// The caller is within a transition.
static VOID SessionApplyOptions(DRIVER_CONTEXT *context, const OPTIONS *options)
{
    UINT8 extension = OptionsRecordExtension(options);

    ClientSetOptions(&context->Client, options);
    StallSetTimeout(context, options->StallTimeoutMs);
    LogSetLevel(&context->Log, options->LogLevel);
    IoQueueSetOptions(&context->Queue, options->MaxQueuedBytes, extension);
    EventsSetOptions(&context->Events, extension, options->PayloadLimit);
    EventsSetConnectionInfo(&context->Events, OptionsHas(options, OPTION_FLAG_CONNECTION_INFO));
    BandwidthKeepTotals(&context->Bandwidth, extension >= 2 ? &context->Connections : NULL);
    IoQueueSetHeldLimits(&context->Queue, options->MaxHeldPackets, SESSION_MAX_HELD_BYTES);
    SessionSetMaxConnections(context, options->MaxConnections);
}

// ---- The filters that the session wants

static ENGINE_FILTERS SessionWantedFilters(VOID *driverContext)
{
    const CLIENT *client = &((DRIVER_CONTEXT *)driverContext)->Client;

    if (ReadNoFence(&client->FailClosed) != 0)
    {
        return EngineFiltersBlock;
    }
    return ReadAcquire(&client->Attached) != 0 ? EngineFiltersPermit : EngineFiltersNone;
}

// The filters go one after the other, so no decision may count on another layer's filter from here on.
static VOID SessionLoseFilters(VOID *driverContext)
{
    CLIENT *client = &((DRIVER_CONTEXT *)driverContext)->Client;

    InterlockedCompareExchange(&client->Mode, ClientAbsentMode(client), ClientFiltering);
}

// The caller is within a transition. TRUE: filtering begins now.
static BOOLEAN SessionBeginFiltering(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;

    if (ReadNoFence(&client->Attached) == 0 || ReadNoFence(&client->Mode) == ClientFiltering)
    {
        return FALSE;
    }
    if (client->HasFiltered)
    {
        // Connections have come and gone unseen, so an entry may be that of a predecessor.
        ConnectionTableClearCache(&context->Connections);
        RedirectTableClear(&context->Redirects);
    }
    client->HasFiltered = TRUE;
    client->WarnedState = ENGINE_STATE_COUNT;
    InterlockedExchange(&client->Mode, ClientFiltering);
    return TRUE;
}

// The caller is within a transition. A base client finds the same line in the log.
static VOID SessionWarnOfEngine(DRIVER_CONTEXT *context, ENGINE_STATE state)
{
    CLIENT *client = &context->Client;
    const ENGINE_TEXT *text = EngineStateText(state);

    if (state == EngineReady || state == EngineFiltering || client->WarnedState == (LONG)state ||
        ReadNoFence(&client->Attached) == 0 || ReadNoFence(&client->Mode) == ClientFiltering ||
        ReadNoFence(&client->Extended) == 0)
    {
        return;
    }
    client->WarnedState = (LONG)state;
    (VOID) EventLogLine(&context->Events, LogSeverityWarning, text->Characters, text->Length);
}

static VOID SessionFollowEngine(VOID *driverContext, ENGINE_STATE state)
{
    DRIVER_CONTEXT *context = (DRIVER_CONTEXT *)driverContext;
    CLIENT *client = &context->Client;
    BOOLEAN begins = FALSE;

    SessionBeginTransition(client);
    if (state == EngineFiltering)
    {
        begins = SessionBeginFiltering(context);
        if (EngineIsLost(&context->Engine))
        {
            SessionLoseFilters(context);
        }
    }
    SessionWarnOfEngine(context, state);
    // A round that began before the attach may end in EngineReady. Another one follows it, as after a loss.
    if (state != EngineBusy && state != EngineReady && state != EngineLost)
    {
        KeSetEvent(&client->Settled, IO_NO_INCREMENT, FALSE);
    }
    SessionEndTransition(client);
    if (begins)
    {
        // A flow that was authorized between the commit and now is authorized again.
        EngineRequestReauthorization(&context->Engine);
        EngineReauthorize(&context->Engine);
    }
}

static NTSTATUS SessionRegisterCallouts(VOID *driverContext)
{
    return CalloutsRegister((DRIVER_CONTEXT *)driverContext, FWP_ACTION_CALLOUT_TERMINATING);
}

static BOOLEAN SessionUnregisterCallouts(VOID *driverContext)
{
    return CalloutsUnregister((DRIVER_CONTEXT *)driverContext, FWP_ACTION_CALLOUT_TERMINATING);
}

_Use_decl_annotations_
ENGINE_OWNER SessionAsEngineOwner(DRIVER_CONTEXT *context)
{
    ENGINE_OWNER owner;

    owner.Context = context;
    owner.Wanted = SessionWantedFilters;
    owner.Register = SessionRegisterCallouts;
    owner.Unregister = SessionUnregisterCallouts;
    owner.Settled = SessionFollowEngine;
    owner.Lost = SessionLoseFilters;
    return owner;
}

// ---- Attach, detach, shutdown

// The caller is within a transition.
static VOID SessionStart(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;
    OPTIONS options;

    OptionsSetDefaults(&options);
    // Packets that were refused after the last client detached are too old by now.
    InjectResolveRefused(&context->Injector, FALSE);
    EventsReset(&context->Events);
    IoQueueAttach(&context->Queue);
    InterlockedExchange(&client->Extended, FALSE);
    SessionApplyOptions(context, &options);
    StallReset(context);
    PacketCacheSetOpen(&context->Packets, TRUE);
    KeClearEvent(&client->Settled);
    client->HasFiltered = FALSE;
    client->WarnedState = ENGINE_STATE_COUNT;
    InterlockedExchange(&client->Mode, ClientAbsentMode(client));
    InterlockedExchange(&client->Attached, TRUE);
}

// The caller is within a transition. A client that waits for its filters is not absent.
static VOID SessionReportAbsence(DRIVER_CONTEXT *context)
{
    const CLIENT *client = &context->Client;

    if (ReadNoFence(&client->Attached) == 0 && ReadNoFence(&client->Mode) == ClientAbsentBlock)
    {
        SystemLogWrite(&context->SystemLog, SystemEventFailClosed, STATUS_SUCCESS);
    }
}

// The caller is within a transition. On return nothing is held, and no decision of this client is left.
// The model test/models/hold.pml calls this Stop: `failed` and `cached` become `taken` and then `resolved`.
// Stop also waits for the holds that a resolver has `taken`.
static VOID SessionStop(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;
    CLIENT_MODE absent = ClientAbsentMode(client);

    if (InterlockedExchange(&client->Attached, FALSE) == FALSE)
    {
        return;
    }
    InterlockedExchange(&client->Mode, absent);
    PacketCacheSetOpen(&context->Packets, FALSE);
    RundownWait(&client->Classifies);
    HoldResolveAll(context);
    StallEnd(context);
    FragmentTableForget(&context->Fragments, CLOCK_NEVER);
    ConnectionTableRemoveAll(&context->Connections);
    RedirectTableClear(&context->Redirects);
    BandwidthClear(&context->Bandwidth);
    // A round of maintenance that saw the tables before has armed the timer when this wait is over.
    RundownWait(&client->Classifies);
    DeferredDisarm(&context->Deferred);
    InjectResolveRefused(&context->Injector, absent == ClientAbsentPermit);
    SessionReportAbsence(context);
}

// Waits for the filters, but not for long: the client may attach to an engine that is busy or does not run.
static VOID SessionAwaitFilters(CLIENT *client)
{
    LARGE_INTEGER timeout;

    timeout.QuadPart = -(LONG64)(SESSION_ATTACH_WAIT_MS * PLATFORM_TICKS_PER_MILLISECOND);
    (VOID) KeWaitForSingleObject(&client->Settled, Executive, KernelMode, FALSE, &timeout);
}

// Also for a detach: the process is the one that attached last.
static VOID SessionLog(DRIVER_CONTEXT *context, const CHAR *event)
{
    LogInfo(&context->Log, "%s: process %llu", event, (unsigned long long)ReadNoFence64(&context->Client.ProcessId));
}

static VOID SessionLogOptions(DRIVER_CONTEXT *context, const OPTIONS *options)
{
    LogInfo(
        &context->Log,
        "options of process %llu: flags 0x%x, log level %u, payload limit %u, pending timeout %u ms with verdict %s, "
        "stall timeout %u ms, ports %u, %u and %u, at most %u queued bytes, %u held packets and %u connections",
        (unsigned long long)ReadNoFence64(&context->Client.ProcessId), options->Flags, options->LogLevel,
        options->PayloadLimit, options->PendingTimeoutMs, VerdictRow(options->TimeoutVerdict)->Name,
        options->StallTimeoutMs, options->DnsPort, options->TunnelPort, options->SplitTunnelPort,
        options->MaxQueuedBytes, options->MaxHeldPackets, options->MaxConnections);
}

_Use_decl_annotations_
NTSTATUS SessionAttach(DRIVER_CONTEXT *context, PFILE_OBJECT file)
{
    CLIENT *client = &context->Client;

    if (InterlockedCompareExchange(&client->Taken, TRUE, FALSE) != FALSE)
    {
        return STATUS_DEVICE_ALREADY_ATTACHED;
    }
    SessionBeginTransition(client);
    InterlockedExchange64(&client->ProcessId, (LONG64)(ULONG_PTR)PsGetCurrentProcessId());
    // The level of the last client is in force until the new client's options are.
    SessionLog(context, "attached");
    SessionStart(context);
    InterlockedExchangePointer((PVOID volatile *)&client->File, file);
    SessionEndTransition(client);

    EngineRenew(&context->Engine);
    SessionAwaitFilters(client);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID SessionDetach(DRIVER_CONTEXT *context, PFILE_OBJECT file)
{
    CLIENT *client = &context->Client;

    if (InterlockedCompareExchangePointer((PVOID volatile *)&client->File, NULL, file) != file)
    {
        return;
    }
    // A thread that is suspended before the end of its detach would keep the next client out.
    KeEnterCriticalRegion();
    RundownWait(&client->Requests);

    SessionBeginTransition(client);
    SessionStop(context);
    IoQueueDetach(&context->Queue);
    SessionLog(context, "detached");
    SessionEndTransition(client);

    // Where filters stay, flows that this client's verdicts blocked are authorized again.
    EngineRequestReauthorization(&context->Engine);
    EngineReauthorize(&context->Engine);
    InterlockedExchange(&client->Taken, FALSE);
    KeLeaveCriticalRegion();
}

_Use_decl_annotations_
VOID SessionShutdown(DRIVER_CONTEXT *context)
{
    SessionBeginTransition(&context->Client);
    SessionStop(context);
    SessionLog(context, "stopped filtering");
    HoldReportRefused(context, CLOCK_NEVER);
    IoQueueShutdown(&context->Queue);
    SessionEndTransition(&context->Client);
    EngineRequestReauthorization(&context->Engine);
    EngineReauthorize(&context->Engine);
}

_Use_decl_annotations_
NTSTATUS SessionSetOptions(DRIVER_CONTEXT *context, const UINT8 *request, SIZE_T length)
{
    CLIENT *client = &context->Client;
    BOOLEAN asksAnew;
    OPTIONS options;
    NTSTATUS status;

    OptionsSetDefaults(&options);
    status = OptionsParse(request, length, &options);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    SessionBeginTransition(client);
    asksAnew = InterlockedExchange(&client->Extended, TRUE) == FALSE ||
               (OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS) && ReadNoFence(&context->Events.Extension) == 0);
    SessionApplyOptions(context, &options);
    IoQueueExtend(&context->Queue);
    SessionLogOptions(context, &options);
    if (ReadNoFence(&client->Mode) != ClientFiltering)
    {
        InterlockedExchange(&client->Mode, ClientAbsentMode(client));
        SessionReportAbsence(context);
    }
    SessionEndTransition(client);
    if (asksAnew)
    {
        // Connections from before are authorized again, by the rules of extended clients and with their process.
        EngineRequestReauthorization(&context->Engine);
    }
    // The fail policy is also a property of the filters.
    EngineRenew(&context->Engine);
    return STATUS_SUCCESS;
}

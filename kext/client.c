#include "client.h"

#include "context.h"

#define CLIENT_PERIOD_MS        1000u
#define CLIENT_URGENT_PERIOD_MS 100u // while held packets can time out

_Use_decl_annotations_
NTSTATUS ClientInitialize(CLIENT *client, MEMORY *memory)
{
    NTSTATUS status;

    RtlZeroMemory(client, sizeof(*client));
    client->Mode = ClientAbsentPermit;
    KeInitializeEvent(&client->Transition, SynchronizationEvent, TRUE);

    status = RundownInitialize(&client->Classifies, memory);
    if (NT_SUCCESS(status))
    {
        status = RundownInitialize(&client->Requests, memory);
    }
    return status;
}

_Use_decl_annotations_
VOID ClientUninitialize(CLIENT *client)
{
    RundownUninitialize(&client->Requests);
    RundownUninitialize(&client->Classifies);
}

// A thread that was suspended within a transition would keep every other client out.
static VOID BeginTransition(CLIENT *client)
{
    KeEnterCriticalRegion();
    KeWaitForSingleObject(&client->Transition, Executive, KernelMode, FALSE, NULL);
}

static VOID EndTransition(CLIENT *client)
{
    KeSetEvent(&client->Transition, IO_NO_INCREMENT, FALSE);
    KeLeaveCriticalRegion();
}

// A thread that was suspended inside a rundown would keep a detach waiting until it is resumed.
static RUNDOWN_SLOT *Enter(RUNDOWN *rundown)
{
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
    {
        KeEnterCriticalRegion();
    }
    return RundownEnter(rundown);
}

static VOID Leave(RUNDOWN *rundown, RUNDOWN_SLOT *slot)
{
    RundownLeave(rundown, slot);
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
    {
        KeLeaveCriticalRegion();
    }
}

static CLIENT_MODE AbsentMode(const CLIENT *client)
{
    return ReadNoFence(&client->FailClosed) != 0 ? ClientAbsentBlock : ClientAbsentPermit;
}

// Within a transition.
static VOID ApplyOptions(DRIVER_CONTEXT *context, const OPTIONS *options)
{
    CLIENT *client = &context->Client;

    InterlockedExchange(&client->FailClosed, OptionsHas(options, OPTION_FLAG_FAIL_CLOSED));
    InterlockedExchange64(&client->OwnPorts, (LONG64)options->DnsPort | (LONG64)options->TunnelPort << 16 |
                                                 (LONG64)options->SplitTunnelPort << 32);
    InterlockedExchange(&client->TimeoutVerdict, options->TimeoutVerdict);
    InterlockedExchange(&client->PendingTimeoutMs, (LONG)options->PendingTimeoutMs);
    InterlockedExchange(&client->Extended, OptionsHas(options, OPTION_FLAG_EXTENDED_RECORDS));

    LogSetLevel(&context->Log, options->LogLevel);
    IoQueueSetOptions(&context->Queue, options->MaxQueuedBytes, OptionsHas(options, OPTION_FLAG_EXTENDED_RECORDS));
    EventsSetOptions(&context->Events, OptionsHas(options, OPTION_FLAG_EXTENDED_RECORDS), options->PayloadLimit);
    PacketCacheSetLimit(&context->Packets, options->MaxHeldPackets, PACKET_CACHE_DEFAULT_MAX_BYTES);
}

// Within a transition.
static VOID StartFiltering(DRIVER_CONTEXT *context)
{
    OPTIONS options;

    OptionsSetDefaults(&options);
    // What was refused after the client before had gone is too old by now.
    InjectResolveRefused(&context->Injector, FALSE);
    CommandReset(&context->Commands);
    EventsReset(&context->Events);
    IoQueueAttach(&context->Queue);
    ApplyOptions(context, &options);
    PacketCacheOpen(&context->Packets);
    InterlockedExchange(&context->Client.Mode, ClientFiltering);
    DeferredStart(&context->Deferred, ClientRoundPeriodMs(&context->Client));
}

// Within a transition. After this nothing is held, and nothing of this client's decisions is left: Stop of
// test/models/hold.pml, where what is `failed` or `cached` is `taken` and `resolved` here, or `taken` by a resolver
// that is waited for.
static VOID StopFiltering(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;
    BOOLEAN failOpen = AbsentMode(client) == ClientAbsentPermit;

    if (ReadNoFence(&client->Mode) != ClientFiltering)
    {
        return;
    }
    InterlockedExchange(&client->Mode, AbsentMode(client));
    PacketCacheClose(&context->Packets);
    RundownWait(&client->Classifies);
    DeferredStop(&context->Deferred);
    HoldResolveAll(context);
    InjectChain(FragmentTableResolve(&context->Fragments, failOpen));
    InjectResolveRefused(&context->Injector, failOpen);
    ConnectionTableClear(&context->Connections);
    RedirectTableClear(&context->Redirects);
    BandwidthClear(&context->Bandwidth);
}

_Use_decl_annotations_
NTSTATUS ClientAttach(DRIVER_CONTEXT *context, PFILE_OBJECT file)
{
    CLIENT *client = &context->Client;

    if (InterlockedCompareExchange(&client->Taken, TRUE, FALSE) != FALSE)
    {
        return STATUS_DEVICE_ALREADY_ATTACHED;
    }
    BeginTransition(client);
    InterlockedExchange64(&client->ProcessId, (LONG64)(ULONG_PTR)PsGetCurrentProcessId());
    StartFiltering(context);
    InterlockedExchangePointer((PVOID volatile *)&client->File, file);
    EndTransition(client);

    // Flows that were there before are authorized now, with their process.
    CalloutsReauthorize(context);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID ClientDetach(DRIVER_CONTEXT *context, PFILE_OBJECT file)
{
    CLIENT *client = &context->Client;

    if (InterlockedCompareExchangePointer((PVOID volatile *)&client->File, NULL, file) != file)
    {
        return;
    }
    // Until the next client may come.
    KeEnterCriticalRegion();
    RundownWait(&client->Requests);

    BeginTransition(client);
    StopFiltering(context);
    IoQueueDetach(&context->Queue);
    EndTransition(client);

    // What this client's verdicts blocked is not blocked any more.
    CalloutsReauthorize(context);
    InterlockedExchange(&client->Taken, FALSE);
    KeLeaveCriticalRegion();
}

_Use_decl_annotations_
VOID ClientShutdown(DRIVER_CONTEXT *context)
{
    BeginTransition(&context->Client);
    StopFiltering(context);
    IoQueueShutdown(&context->Queue);
    EndTransition(&context->Client);
    CalloutsReauthorize(context);
}

_Use_decl_annotations_
NTSTATUS ClientSetOptions(DRIVER_CONTEXT *context, const UINT8 *request, SIZE_T length)
{
    CLIENT *client = &context->Client;
    BOOLEAN wasExtended;
    OPTIONS options;
    NTSTATUS status;

    OptionsSetDefaults(&options);
    status = OptionsParse(request, length, &options);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    BeginTransition(client);
    wasExtended = ReadNoFence(&client->Extended) != 0;
    ApplyOptions(context, &options);
    if (ReadNoFence(&client->Mode) == ClientFiltering)
    {
        DeferredStart(&context->Deferred, ClientRoundPeriodMs(&context->Client));
    }
    else
    {
        InterlockedExchange(&client->Mode, AbsentMode(client));
    }
    EndTransition(client);
    if (OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS) && !wasExtended)
    {
        // Connections that came before are authorized again, with their process: now the client wants to know it.
        CalloutsReauthorize(context);
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
RUNDOWN_SLOT *ClientEnterRequest(CLIENT *client, PFILE_OBJECT file)
{
    RUNDOWN_SLOT *slot = Enter(&client->Requests);

    if (file != NULL && client->File == file)
    {
        return slot;
    }
    Leave(&client->Requests, slot);
    return NULL;
}

_Use_decl_annotations_
VOID ClientLeaveRequest(CLIENT *client, RUNDOWN_SLOT *slot)
{
    Leave(&client->Requests, slot);
}

_Use_decl_annotations_
RUNDOWN_SLOT *ClientEnterClassify(CLIENT *client, CLIENT_MODE *mode)
{
    RUNDOWN_SLOT *slot;

    // Without a client nothing is counted.
    *mode = (CLIENT_MODE)ReadNoFence(&client->Mode);
    if (*mode != ClientFiltering)
    {
        return NULL;
    }
    slot = Enter(&client->Classifies);
    *mode = (CLIENT_MODE)ReadAcquire(&client->Mode);
    if (*mode == ClientFiltering)
    {
        return slot;
    }
    Leave(&client->Classifies, slot);
    return NULL;
}

_Use_decl_annotations_
VOID ClientLeaveClassify(CLIENT *client, RUNDOWN_SLOT *slot)
{
    Leave(&client->Classifies, slot);
}

_Use_decl_annotations_
BOOLEAN ClientOwnsPort(const CLIENT *client, UINT16 port)
{
    UINT64 ports = (UINT64)ReadNoFence64(&client->OwnPorts);

    return port == (UINT16)ports || port == (UINT16)(ports >> 16) || port == (UINT16)(ports >> 32);
}

_Use_decl_annotations_
UINT16 ClientRedirectPort(const CLIENT *client, UINT8 verdict)
{
    UINT64 ports = (UINT64)ReadNoFence64(&client->OwnPorts);

    switch (verdict)
    {
    case VerdictRedirectNameServer:
        return (UINT16)ports;
    case VerdictRedirectTunnel:
        return (UINT16)(ports >> 16);
    case VerdictRedirectSplitTunnel:
        return (UINT16)(ports >> 32);
    default:
        return 0;
    }
}

_Use_decl_annotations_
UINT32 ClientRoundPeriodMs(const CLIENT *client)
{
    return ReadNoFence(&client->PendingTimeoutMs) != 0 ? CLIENT_URGENT_PERIOD_MS : CLIENT_PERIOD_MS;
}

_Use_decl_annotations_
UINT8 ClientFailVerdict(const CLIENT *client)
{
    return ReadNoFence(&client->FailClosed) != 0 ? VerdictBlock : VerdictAccept;
}

#include "session.h"

#include "context.h"
#include "hold.h"

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

// The caller is within a transition.
static VOID SessionApplyOptions(DRIVER_CONTEXT *context, const OPTIONS *options)
{
    BOOLEAN extended = OptionsHas(options, OPTION_FLAG_EXTENDED_RECORDS);

    ClientSetOptions(&context->Client, options);
    LogSetLevel(&context->Log, options->LogLevel);
    IoQueueSetOptions(&context->Queue, options->MaxQueuedBytes, extended);
    EventsSetOptions(&context->Events, extended, options->PayloadLimit);
    PacketCacheSetLimit(&context->Packets, options->MaxHeldPackets, PACKET_CACHE_DEFAULT_MAX_BYTES);
}

static VOID SessionStartTimer(DRIVER_CONTEXT *context)
{
    DeferredStart(&context->Deferred, ClientRoundPeriodMs(&context->Client));
}

// The caller is within a transition.
static VOID SessionStartFiltering(DRIVER_CONTEXT *context)
{
    OPTIONS options;

    OptionsSetDefaults(&options);
    // Packets that were refused after the last client detached are too old by now.
    InjectResolveRefused(&context->Injector, FALSE);
    EventsReset(&context->Events);
    IoQueueAttach(&context->Queue);
    SessionApplyOptions(context, &options);
    PacketCacheSetOpen(&context->Packets, TRUE);
    InterlockedExchange(&context->Client.Mode, ClientFiltering);
    SessionStartTimer(context);
}

// The caller is within a transition. On return nothing is held, and no decision of this client is left.
// The model test/models/hold.pml calls this Stop: `failed` and `cached` become `taken` and then `resolved`.
// Stop also waits for the holds that a resolver has `taken`.
static VOID SessionStopFiltering(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;
    CLIENT_MODE absent = ClientAbsentMode(client);

    if (ReadNoFence(&client->Mode) != ClientFiltering)
    {
        return;
    }
    InterlockedExchange(&client->Mode, absent);
    PacketCacheSetOpen(&context->Packets, FALSE);
    RundownWait(&client->Classifies);
    DeferredStop(&context->Deferred);
    HoldResolveAll(context);
    InjectChain(FragmentTableForget(&context->Fragments, MAXLONG64, absent == ClientAbsentPermit));
    InjectResolveRefused(&context->Injector, absent == ClientAbsentPermit);
    ConnectionTableRemoveAll(&context->Connections);
    RedirectTableClear(&context->Redirects);
    BandwidthClear(&context->Bandwidth);
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
    SessionStartFiltering(context);
    InterlockedExchangePointer((PVOID volatile *)&client->File, file);
    SessionEndTransition(client);

    // Flows that existed before the attach are authorized now, with their process.
    EngineReauthorize(&context->Engine);
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
    SessionStopFiltering(context);
    IoQueueDetach(&context->Queue);
    SessionEndTransition(client);

    // Flows that this client's verdicts blocked are authorized again.
    EngineReauthorize(&context->Engine);
    InterlockedExchange(&client->Taken, FALSE);
    KeLeaveCriticalRegion();
}

_Use_decl_annotations_
VOID SessionShutdown(DRIVER_CONTEXT *context)
{
    SessionBeginTransition(&context->Client);
    SessionStopFiltering(context);
    IoQueueShutdown(&context->Queue);
    SessionEndTransition(&context->Client);
    EngineReauthorize(&context->Engine);
}

_Use_decl_annotations_
NTSTATUS SessionSetOptions(DRIVER_CONTEXT *context, const UINT8 *request, SIZE_T length)
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
    SessionBeginTransition(client);
    wasExtended = ReadNoFence(&client->Extended) != 0;
    SessionApplyOptions(context, &options);
    if (ReadNoFence(&client->Mode) == ClientFiltering)
    {
        SessionStartTimer(context);
    }
    else
    {
        InterlockedExchange(&client->Mode, ClientAbsentMode(client));
    }
    SessionEndTransition(client);
    if (OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS) && !wasExtended)
    {
        // Connections from before are authorized again, so that their process is reported.
        EngineReauthorize(&context->Engine);
    }
    return STATUS_SUCCESS;
}

#include "client.h"

_Use_decl_annotations_
NTSTATUS ClientInitialize(CLIENT *client, MEMORY *memory)
{
    NTSTATUS status;

    RtlZeroMemory(client, sizeof(*client));
    client->Mode = ClientAbsentPermit;
    KeInitializeEvent(&client->Transition, SynchronizationEvent, TRUE);
    KeInitializeEvent(&client->Settled, NotificationEvent, FALSE);

    status = RundownInitialize(&client->Classifies, memory);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = RundownInitialize(&client->Requests, memory);
    if (!NT_SUCCESS(status))
    {
        RundownUninitialize(&client->Classifies);
    }
    return status;
}

_Use_decl_annotations_
VOID ClientUninitialize(CLIENT *client)
{
    RundownUninitialize(&client->Requests);
    RundownUninitialize(&client->Classifies);
}

// A critical region prevents suspension: a thread that is suspended inside a rundown would block a detach.
static RUNDOWN_SLOT *ClientEnter(RUNDOWN *rundown)
{
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
    {
        KeEnterCriticalRegion();
    }
    return RundownEnter(rundown);
}

_Use_decl_annotations_
VOID ClientLeave(RUNDOWN *rundown, RUNDOWN_SLOT *slot)
{
    RundownLeave(rundown, slot);
    if (KeGetCurrentIrql() < DISPATCH_LEVEL)
    {
        KeLeaveCriticalRegion();
    }
}

_Use_decl_annotations_
VOID ClientSetOptions(CLIENT *client, const OPTIONS *options)
{
    InterlockedExchange(&client->Flags, (LONG)options->Flags);
    InterlockedExchange(&client->FailClosed, OptionsHas(options, OPTION_FLAG_FAIL_CLOSED));
    InterlockedExchange64(&client->OwnPorts, (LONG64)options->DnsPort | (LONG64)options->TunnelPort << 16 |
                                                 (LONG64)options->SplitTunnelPort << 32);
    InterlockedExchange(&client->TimeoutVerdict, options->TimeoutVerdict);
    InterlockedExchange(&client->PendingTimeoutMs, (LONG)options->PendingTimeoutMs);
}

_Use_decl_annotations_
UINT64 ClientStallLimit(const CLIENT *client, UINT64 askedTime)
{
    UINT32 timeout = (UINT32)ReadNoFence(&client->StallTimeoutMs);
    UINT64 heardTime = (UINT64)ReadNoFence64(&client->HeardTime);

    if (timeout == 0 || askedTime == CLOCK_NEVER)
    {
        return CLOCK_NEVER;
    }
    return (askedTime > heardTime ? askedTime : heardTime) + timeout * PLATFORM_TICKS_PER_MILLISECOND;
}

_Use_decl_annotations_
CLIENT_MODE ClientAbsentMode(const CLIENT *client)
{
    return ReadNoFence(&client->FailClosed) != 0 ? ClientAbsentBlock : ClientAbsentPermit;
}

_Use_decl_annotations_
RUNDOWN_SLOT *ClientEnterRequest(CLIENT *client, PFILE_OBJECT file)
{
    RUNDOWN_SLOT *slot = ClientEnter(&client->Requests);

    if (file != NULL && client->File == file)
    {
        return slot;
    }
    ClientLeave(&client->Requests, slot);
    return NULL;
}

_Use_decl_annotations_
RUNDOWN_SLOT *ClientEnterClassify(CLIENT *client, CLIENT_MODE *mode)
{
    RUNDOWN_SLOT *slot;

    // A classify without a client does not enter the rundown.
    *mode = (CLIENT_MODE)ReadNoFence(&client->Mode);
    if (*mode != ClientFiltering)
    {
        return NULL;
    }
    slot = ClientEnter(&client->Classifies);
    *mode = (CLIENT_MODE)ReadAcquire(&client->Mode);
    if (*mode == ClientFiltering)
    {
        return slot;
    }
    ClientLeave(&client->Classifies, slot);
    return NULL;
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

    return (UINT16)(ports >> (16 * VerdictRow(verdict)->Port));
}

_Use_decl_annotations_
UINT8 ClientFailVerdict(const CLIENT *client)
{
    return ReadNoFence(&client->FailClosed) != 0 ? VerdictBlock : VerdictAccept;
}

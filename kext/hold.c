#include "hold.h"

#include "context.h"
#include "stream.h"

_Use_decl_annotations_
NTSTATUS HoldInitialize(HOLD *hold, MEMORY *memory)
{
    RtlZeroMemory(hold, sizeof(*hold));
    KeInitializeSpinLock(&hold->FailedLock);
    InitializeListHead(&hold->Failed);
    return RundownInitialize(&hold->Resolvers, memory);
}

_Use_decl_annotations_
VOID HoldUninitialize(HOLD *hold)
{
    RundownUninitialize(&hold->Resolvers);
}

// ---- Resolving

static BOOLEAN IsPermit(UINT8 verdict)
{
    return verdict == VerdictAccept || verdict == VerdictPermanentAccept;
}

static BOOLEAN IsOfPacketLayer(const HELD *held)
{
    return held->Kind == HeldPacketOutbound || held->Kind == HeldPacketInbound;
}

// A connection that ended, or that is another's by now, is not decided any more.
static VOID StoreVerdict(DRIVER_CONTEXT *context, const HELD *held, UINT8 verdict)
{
    (VOID) ConnectionTableSetVerdictOf(&context->Connections, &held->Key, held->Generation, verdict);
    ConnectionTableLetGo(&context->Connections, &held->Key, held->Generation);
}

static VOID CountResolved(DRIVER_CONTEXT *context, const HELD *held, BOOLEAN permitted)
{
    if (IsOfPacketLayer(held))
    {
        StatisticsAdd(&context->Statistics, permitted ? StatisticPacketsPermitted : StatisticPacketsBlocked, 1);
    }
    else if (held->Kind == HeldAleRecvAccept && !permitted)
    {
        // Not classified again, so nobody else counts it.
        StatisticsAdd(&context->Statistics, StatisticPacketsBlocked, 1);
    }
}

// ---- Resolving with a redirection

// The program here is who was asked for: there is nothing to redirect.
static BOOLEAN IsInboundConnection(DRIVER_CONTEXT *context, const HELD *held)
{
    CONNECTION connection;

    if (held->Kind == HeldAleRecvAccept)
    {
        return TRUE;
    }
    return held->Kind != HeldAleConnect && ConnectionTableGet(&context->Connections, &held->Key, &connection) &&
           connection.Direction == DirectionInbound;
}

// What was held becomes packets of `target`.
static INJECT_PACKET *TakeRedirected(DRIVER_CONTEXT *context, HELD *held, const CONNECTION_KEY *target)
{
    INJECT_PACKET *taken = NULL;
    INJECT_PACKET **last = &taken;

    while (held->Packet != NULL)
    {
        INJECT_PACKET *packet = held->Packet;
        STATISTICS *statistics = packet->Injector->Statistics;
        UINT32 length = packet->Length;

        held->Packet = packet->Next;
        *last = InjectTakeToRewrite(packet, &held->Key);
        if (*last != NULL)
        {
            if (held->Kind == HeldAleConnect && held->Key.Protocol == PROTOCOL_UDP)
            {
                DatagramCountSent(context, &held->Key, length);
            }
            last = &(*last)->Next;
        }
        else
        {
            StatisticsAdd(statistics, StatisticInjectFailures, 1);
        }
    }
    return RedirectChain(taken, target, DirectionOutbound);
}

// A reauthorization of an outbound connection may carry a packet that the remote end has sent, which is neither for the
// resolver or tunnel nor, since it did not come from there, for the program.
static BOOLEAN IsReceived(const INJECT_PACKET *packet)
{
    return packet != NULL && (packet->Method == InjectNetworkReceive || packet->Method == InjectTransportReceive);
}

static BOOLEAN MayRedirect(DRIVER_CONTEXT *context, const HELD *held, UINT8 verdict, CONNECTION_KEY *target)
{
    NTSTATUS status;

    if (!RedirectIsVerdict(verdict) || held->Direction != DirectionOutbound || IsReceived(held->Packet))
    {
        return FALSE;
    }
    status = RedirectStart(&context->Redirects, &context->Client, verdict, &held->Key, target);
    if (!NT_SUCCESS(status))
    {
        LogError(&context->Log, "Verdict %u drops the packet of id %llu, which cannot be redirected: status 0x%08x",
                 verdict, (unsigned long long)held->Id, (unsigned)status);
    }
    return NT_SUCCESS(status);
}

// Takes what is to be injected out of `held`; what is left there is dropped.
static INJECT_PACKET *TakePermitted(DRIVER_CONTEXT *context, HELD *held, UINT8 verdict)
{
    FRAGMENT_ACTION fragments = FragmentAbsorb;
    INJECT_PACKET *packets = NULL;
    INJECT_PACKET **last = &packets;
    CONNECTION_KEY target;

    if (IsPermit(verdict))
    {
        packets = held->Packet;
        held->Packet = NULL;
        fragments = FragmentPermit;
    }
    else if (MayRedirect(context, held, verdict, &target))
    {
        packets = TakeRedirected(context, held, &target);
        fragments = FragmentRedirect;
    }
    while (*last != NULL)
    {
        last = &(*last)->Next;
    }
    if (held->Datagram != 0 && !FragmentTableDecide(&context->Fragments, held->Datagram, fragments,
                                                    fragments == FragmentRedirect ? &target : NULL, last))
    {
        InjectDropChain(packets);
        return NULL;
    }
    return packets;
}

// Where a connection is accepted the filter engine goes on with the packet that is injected next; it wants to see which
// (WDK page "FwpsInjectTransportReceiveAsync0"). A connect goes on by itself.
static VOID CompleteOperation(const HELD *held, const INJECT_PACKET *packets)
{
    BOOLEAN shows = held->Kind == HeldAleRecvAccept && packets != NULL;

    FwpsCompleteOperation0(held->CompletionContext, shows ? packets->NetBufferList : NULL);
}

static VOID Resolve(DRIVER_CONTEXT *context, HELD *held, UINT8 verdict)
{
    INJECT_PACKET *packets;

    StoreVerdict(context, held, verdict);
    if (RedirectIsVerdict(verdict) && IsInboundConnection(context, held))
    {
        verdict = VerdictPermanentAccept;
    }
    packets = TakePermitted(context, held, verdict);
    CountResolved(context, held, packets != NULL || (IsPermit(verdict) && !IsOfPacketLayer(held)));

    if (held->CompletionContext != NULL)
    {
        CompleteOperation(held, packets);
    }
    else if (!IsOfPacketLayer(held))
    {
        DeferredRequest(&context->Deferred, DEFERRED_REAUTHORIZE);
    }

    InjectChain(packets);
    InjectDropChain(held->Packet);
    MemoryFree(&context->Memory, held);
}

_Use_decl_annotations_
BOOLEAN HoldApplyVerdict(DRIVER_CONTEXT *context, UINT64 id, UINT8 verdict)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Hold.Resolvers);
    HELD *held = PacketCacheTake(&context->Packets, id);

    if (held != NULL)
    {
        Resolve(context, held, verdict);
    }
    RundownLeave(&context->Hold.Resolvers, slot);
    return held != NULL;
}

_Use_decl_annotations_
VOID HoldExpire(DRIVER_CONTEXT *context, UINT64 now)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Hold.Resolvers);
    UINT8 verdict = (UINT8)ReadNoFence(&context->Client.TimeoutVerdict);
    UINT32 place = 0;
    HELD *held;

    while ((held = PacketCacheTakeExpired(&context->Packets, now, &place)) != NULL)
    {
        (VOID) EventConnectionTimeout(&context->Events, held->Id);
        Resolve(context, held, verdict);
    }
    RundownLeave(&context->Hold.Resolvers, slot);
}

static HELD *TakeFailed(HOLD *hold)
{
    HELD *held = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&hold->FailedLock, &irql);
    if (!IsListEmpty(&hold->Failed))
    {
        held = CONTAINING_RECORD(RemoveHeadList(&hold->Failed), HELD, Link);
    }
    KeReleaseSpinLock(&hold->FailedLock, irql);
    return held;
}

_Use_decl_annotations_
VOID HoldResolveFailed(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Hold.Resolvers);
    HELD *held;

    while ((held = TakeFailed(&context->Hold)) != NULL)
    {
        Resolve(context, held, ClientFailVerdict(&context->Client));
    }
    RundownLeave(&context->Hold.Resolvers, slot);
}

_Use_decl_annotations_
UINT64 HoldResolvePresent(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Hold.Resolvers);
    UINT64 present = PacketCacheCount(&context->Packets);
    UINT64 resolved = 0;
    HELD *held;

    while (resolved < present && (held = PacketCacheTakeAny(&context->Packets)) != NULL)
    {
        Resolve(context, held, ClientFailVerdict(&context->Client));
        resolved++;
    }
    RundownLeave(&context->Hold.Resolvers, slot);
    return resolved;
}

_Use_decl_annotations_
VOID HoldResolveAll(DRIVER_CONTEXT *context)
{
    UINT8 verdict = ClientFailVerdict(&context->Client);
    HELD *held;

    HoldResolveFailed(context);
    while ((held = PacketCacheTakeAny(&context->Packets)) != NULL)
    {
        Resolve(context, held, verdict);
    }
    RundownWait(&context->Hold.Resolvers);
}

// ---- Holding

_Use_decl_annotations_
HOLD_RESULT HoldFail(DRIVER_CONTEXT *context, UINT8 lossReason)
{
    if (lossReason != LossUncounted)
    {
        IoQueueReportLost(&context->Queue, 1, lossReason);
    }
    if (LogMayRepeat(&context->Log, LogLimitFailure))
    {
        LogWarning(&context->Log, "A packet could not be held, the fail policy decides: loss reason %u", lossReason);
    }
    return ReadNoFence(&context->Client.FailClosed) != 0 ? HoldBlock : HoldPermit;
}

static UINT64 DeadlineOf(const CLIENT *client)
{
    UINT32 timeout = (UINT32)ReadNoFence(&client->PendingTimeoutMs);

    return timeout != 0 ? KeQueryInterruptTime() + timeout * PLATFORM_TICKS_PER_MILLISECOND : 0;
}

static HELD *MakeHeld(DRIVER_CONTEXT *context, const HOLD_QUESTION *question)
{
    HELD *held = (HELD *)MemoryAllocate(&context->Memory, sizeof(*held));

    if (held == NULL)
    {
        return NULL;
    }
    held->Id = PacketCacheReserveId(&context->Packets);
    held->Kind = question->Kind;
    held->Key = *question->Key;
    held->Generation = question->Generation;
    held->Datagram = question->Datagram;
    held->ProcessId = question->ProcessId;
    held->Direction = question->Direction;
    held->Packet = question->Packets;
    held->Bytes = sizeof(*held) + InjectChainBytes(question->Packets);
    held->DeadlineTime = DeadlineOf(&context->Client);
    return held;
}

// The filter engine may refuse to pend. Then a copied packet can still be held; without one there is nothing to hold.
static BOOLEAN PendOrKeep(HELD *held, const HOLD_QUESTION *question)
{
    if (question->CompletionHandle == NULL ||
        NT_SUCCESS(FwpsPendOperation0(question->CompletionHandle, &held->CompletionContext)))
    {
        return TRUE;
    }
    held->CompletionContext = NULL;
    return held->Packet != NULL;
}

// Notes that the client knows of the connection; its end may have come before, and was told to nobody then.
static VOID MarkReported(DRIVER_CONTEXT *context, const CONNECTION_KEY *key)
{
    CONNECTION connection;

    if (!ConnectionTableSetReported(&context->Connections, key) &&
        ConnectionTableGet(&context->Connections, key, &connection) && connection.Ended)
    {
        (VOID) EventConnectionEnd(&context->Events, &connection);
    }
}

static NTSTATUS Announce(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, UINT64 id)
{
    const INJECT_PACKET *packet = question->Packets;
    UINT32 offset = question->PayloadOffset;
    const UINT8 *payload = NULL;
    UINT32 length = 0;
    NTSTATUS status;

    if (packet != NULL && packet->Length > offset)
    {
        payload = packet->Data + offset;
        length = packet->Length - offset;
    }
    status = EventConnection(&context->Events, id, question->Key, question->ProcessId, question->Direction,
                             question->PayloadLayer, payload, length);
    if (NT_SUCCESS(status) && question->Generation != 0)
    {
        MarkReported(context, question->Key);
    }
    return status;
}

static UINT8 LossReasonOf(NTSTATUS insertStatus)
{
    switch (insertStatus)
    {
    case STATUS_QUOTA_EXCEEDED:
        return LossHeldPacketLimit;
    case STATUS_INSUFFICIENT_RESOURCES:
        return LossOutOfMemory;
    default:
        return LossUncounted;
    }
}

// For what is ours again, and unknown to the client.
static HOLD_RESULT Abandon(DRIVER_CONTEXT *context, HELD *held, UINT8 lossReason)
{
    HOLD_RESULT result = HoldFail(context, lossReason);
    KIRQL irql;

    if (held->CompletionContext == NULL)
    {
        ConnectionTableLetGo(&context->Connections, &held->Key, held->Generation);
        InjectDropChain(held->Packet);
        MemoryFree(&context->Memory, held);
        return result;
    }

    KeAcquireSpinLock(&context->Hold.FailedLock, &irql);
    InsertTailList(&context->Hold.Failed, &held->Link);
    KeReleaseSpinLock(&context->Hold.FailedLock, irql);
    DeferredRequest(&context->Deferred, DEFERRED_FAILED_HOLDS);
    DeferredQueue(&context->Deferred);
    return HoldAbsorb;
}

static HOLD_RESULT InsertAndAnnounce(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, HELD *held)
{
    UINT64 id = held->Id;
    NTSTATUS status;

    // Before anybody can resolve it.
    ConnectionTableKeep(&context->Connections, &held->Key, held->Generation);
    status = PacketCacheInsert(&context->Packets, held);
    if (!NT_SUCCESS(status))
    {
        return Abandon(context, held, LossReasonOf(status));
    }
    status = Announce(context, question, id);
    if (NT_SUCCESS(status))
    {
        return HoldAbsorb;
    }
    // The queue has counted the record as lost. Whoever else took it meanwhile has resolved it.
    held = PacketCacheTake(&context->Packets, id);
    return held != NULL ? Abandon(context, held, LossUncounted) : HoldAbsorb;
}

_Use_decl_annotations_
HOLD_RESULT HoldAsk(DRIVER_CONTEXT *context, HOLD_QUESTION *question)
{
    INJECT_PACKET *packets = question->Packets;
    HELD *held = MakeHeld(context, question);
    HOLD_RESULT result;

    if (held == NULL || !PendOrKeep(held, question))
    {
        InjectDropChain(packets);
        MemoryFree(&context->Memory, held);
        return HoldFail(context, held == NULL ? LossOutOfMemory : LossUncounted);
    }

    // Its bytes are read for the record when it may be resolved already.
    if (packets != NULL)
    {
        InjectReference(packets);
    }
    result = InsertAndAnnounce(context, question, held);
    if (packets != NULL)
    {
        InjectDereference(packets);
    }
    return result;
}

#include "hold.h"

#include "connection_text.h"
#include "context.h"
#include "flow.h"
#include "report.h"

// How often a question is put to the successor of a connection that ended meanwhile.
#define HOLD_MAX_TRIES 8u

// How many questions are given up for one. A large packet may need the room of several small ones.
#define HOLD_MAX_GIVEN_UP 16u

// How late refusals may be reported.
#define HOLD_REFUSED_TOLERANCE_MS 100u

// ---- Resolving

static VOID HoldDereference(DRIVER_CONTEXT *context, HELD *held)
{
    if (InterlockedDecrement(&held->References) == 0)
    {
        MemoryFree(&context->Memory, held);
    }
}

static BOOLEAN HoldIsOfAleLayer(const HELD *held)
{
    return held->Kind == HeldAleConnect || held->Kind == HeldAleRecvAccept;
}

static BOOLEAN HoldIsOfPacketLayer(const HELD *held)
{
    return held->Kind == HeldPacketOutbound || held->Kind == HeldPacketInbound;
}

// Returns whether the verdict is carried out on the held packet alone, so it is not the connection's.
// A pended connect is refused when it is authorized again, so its connection keeps the verdict until then.
// A refused accept is not authorized again.
static BOOLEAN HoldSpendsVerdict(const CLIENT *client, const HELD *held, UINT8 verdict)
{
    return VerdictIsForOneAttempt(VerdictRow(verdict)) && ReadNoFence(&client->Extended) != 0 &&
           (held->Kind == HeldPacketOutbound || held->Kind == HeldAleRecvAccept ||
            (held->Kind == HeldAleConnect && held->CompletionContext == NULL));
}

// A connection that was refused, or decided for a stalled client, is asked about again.
// Only a pended connect finds the decision in the table. It spends it when it is authorized again.
static BOOLEAN HoldStoresNothing(const HELD *held)
{
    return (held->Refused || held->Stalled) && (held->Kind != HeldAleConnect || held->CompletionContext == NULL);
}

// Skips a connection that ended, or whose entry was reused: its generation differs.
static VOID HoldStoreVerdict(DRIVER_CONTEXT *context, const HELD *held, UINT8 verdict)
{
    UINT8 stored;

    if (held->Stalled)
    {
        (VOID) ConnectionTableSetStalled(&context->Connections, &held->Key, held->Generation, held->ProcessId);
    }
    if (HoldStoresNothing(held))
    {
        ConnectionTableReleasePending(&context->Connections, &held->Key, held->Generation);
        return;
    }
    stored = HoldSpendsVerdict(&context->Client, held, verdict) ? (UINT8)VerdictUndecided : verdict;

    if (ConnectionTableResolvePending(&context->Connections, &held->Key, held->Generation, stored) &&
        verdict == VerdictPermanentBlock)
    {
        FlowAbortBlocked(context, &held->Key);
    }
}

static VOID HoldCountResolved(STATISTICS *statistics, const HELD *held, BOOLEAN permitted)
{
    // An accept that was refused is not classified again, so no other place counts it.
    if (HoldIsOfPacketLayer(held) || (held->Kind == HeldAleRecvAccept && !permitted))
    {
        StatisticsAdd(statistics, permitted ? StatisticPacketsPermitted : StatisticPacketsBlocked, 1);
    }
}

// ---- Resolving with a redirection

// An inbound connection is not redirected: the remote end asked for this program.
static BOOLEAN HoldIsInbound(CONNECTION_TABLE *connections, const HELD *held)
{
    CONNECTION_STATE state;

    if (held->Kind == HeldAleRecvAccept)
    {
        return TRUE;
    }
    return held->Kind != HeldAleConnect && ConnectionTableLookup(connections, &held->Key, &state) &&
           state.Direction == DirectionInbound;
}

// Takes the held packets out of `held` and makes them packets of `target`.
static INJECT_PACKET *HoldTakeRedirected(DRIVER_CONTEXT *context, HELD *held, const CONNECTION_KEY *target)
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
            if (held->Kind == HeldAleConnect && held->Key.Protocol == PROTOCOL_UDP && length > UDP_HEADER_LENGTH)
            {
                // A redirected packet bypasses DATAGRAM_DATA, which counts bytes, so its bytes are counted here.
                BandwidthCount(&context->Bandwidth, &held->Key, FALSE, length - UDP_HEADER_LENGTH);
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

// A reauthorization of an outbound connection may carry a received packet. A redirection drops such a packet.
// The resolver or tunnel is not its receiver, and a redirected program gets packets only from there.
static BOOLEAN HoldIsReceived(const INJECT_PACKET *packet)
{
    return packet != NULL && (packet->Method == InjectNetworkReceive || packet->Method == InjectTransportReceive);
}

static VOID HoldLogRedirect(LOG *log, const HELD *held, const CONNECTION_KEY *target)
{
    CONNECTION_TEXT text;
    CONNECTION_TEXT targetText;

    LogDebug(log, "redirected: %s, process %llu, id %llu, becomes %s",
             ConnectionTextWrite(&text, &held->Key, held->Direction), (unsigned long long)held->ProcessId,
             (unsigned long long)held->Id, ConnectionTextWrite(&targetText, target, held->Direction));
}

static BOOLEAN HoldMayRedirect(DRIVER_CONTEXT *context, const HELD *held, UINT8 verdict, CONNECTION_KEY *target)
{
    NTSTATUS status;

    if (held->Direction != DirectionOutbound || HoldIsReceived(held->Packet))
    {
        return FALSE;
    }
    status = RedirectStart(&context->Redirects, verdict, ClientRedirectPort(&context->Client, verdict),
                           ScopeTableWithoutLink(&context->Scopes, held->Key.Scope), &held->Key, target);
    if (!NT_SUCCESS(status))
    {
        LogError(&context->Log, "Verdict %u drops the packet of id %llu, which cannot be redirected: status 0x%08x",
                 verdict, (unsigned long long)held->Id, (unsigned)status);
        return FALSE;
    }
    DeferredRunAfter(&context->Deferred, CONNECTION_IDLE_MS, CONNECTION_CLEAN_TOLERANCE_MS);
    HoldLogRedirect(&context->Log, held, target);
    return TRUE;
}

// Takes the packets that will be injected out of `held`. The caller drops the rest.
static INJECT_PACKET *HoldTakePermitted(DRIVER_CONTEXT *context, HELD *held, UINT8 verdict)
{
    DECISION decision = (DECISION)VerdictRow(verdict)->Resolve;
    INJECT_PACKET *packets = NULL;
    CONNECTION_KEY target;

    if (decision == DecisionPermit)
    {
        packets = held->Packet;
        held->Packet = NULL;
    }
    else if (decision == DecisionRedirect && HoldMayRedirect(context, held, verdict, &target))
    {
        packets = HoldTakeRedirected(context, held, &target);
    }
    else
    {
        decision = DecisionAbsorb;
    }
    if (held->Datagram != 0 &&
        !FragmentTableDecide(&context->Fragments, held->Datagram, decision,
                             decision == DecisionRedirect ? &target : NULL, InjectChainEnd(&packets)))
    {
        InjectDropChain(packets);
        return NULL;
    }
    return packets;
}

// Completes a pended operation. An accept goes on with the packet that is injected next.
// So the filter engine gets that packet at an accept's completion (WDK page "FwpsInjectTransportReceiveAsync0").
// A connect goes on by itself, without a packet.
static VOID HoldComplete(const HELD *held, const INJECT_PACKET *packets)
{
    BOOLEAN shows = held->Kind == HeldAleRecvAccept && packets != NULL;

    FwpsCompleteOperation0(held->CompletionContext, shows ? packets->NetBufferList : NULL);
}

// `cause` says where the verdict comes from: "verdict" is the client's.
static VOID HoldLogVerdict(LOG *log, const HELD *held, const CHAR *cause, UINT8 verdict)
{
    CONNECTION_TEXT text;

    LogDebug(log, "%s %s: %s, process %llu, id %llu", cause, VerdictRow(verdict)->Name,
             ConnectionTextWrite(&text, &held->Key, held->Direction), (unsigned long long)held->ProcessId,
             (unsigned long long)held->Id);
}

static VOID HoldResolve(DRIVER_CONTEXT *context, HELD *held, const CHAR *cause, UINT8 verdict)
{
    INJECT_PACKET *packets;

    HoldLogVerdict(&context->Log, held, cause, verdict);
    IoQueueRelease(&context->Queue, &held->Question);
    HoldStoreVerdict(context, held, verdict);
    if (VerdictRedirects(verdict) && HoldIsInbound(&context->Connections, held))
    {
        verdict = VerdictPermanentAccept;
    }
    packets = HoldTakePermitted(context, held, verdict);
    HoldCountResolved(&context->Statistics, held,
                      packets != NULL || (VerdictPermits(verdict) && HoldIsOfAleLayer(held)));

    if (held->CompletionContext != NULL)
    {
        HoldComplete(held, packets);
    }
    else if (HoldIsOfAleLayer(held))
    {
        EngineRequestReauthorization(&context->Engine);
    }

    InjectChain(packets);
    InjectDropChain(held->Packet);
    HoldDereference(context, held);
}

// Reports that the driver itself resolved a question. The client has no question that was withdrawn.
static VOID HoldReportResolved(EVENTS *events, const HELD *held, UINT8 verdict, UINT8 cause)
{
    CONNECTION connection;

    RtlZeroMemory(&connection, sizeof(connection));
    connection.Key = held->Key;
    connection.State.ProcessId = held->ProcessId;
    connection.State.Direction = held->Direction;
    connection.State.Verdict = verdict;
    (VOID) EventConnectionTimeout(events, held->Question.Withdrawn ? 0 : held->Id, &connection, cause);
}

static const CHAR HoldFailCause[] = "fail policy, verdict";
static const CHAR HoldRefusedCause[] = "over its owner's share, verdict";

// A classify must not complete the operation that it pended, and must not be nested in another one.
static VOID HoldResolveLater(DRIVER_CONTEXT *context, HELD *held)
{
    PacketCacheFail(&context->Packets, held);
    DeferredRequest(&context->Deferred, DEFERRED_FAILED_HOLDS);
    DeferredQueue(&context->Deferred);
}

_Use_decl_annotations_
BOOLEAN HoldApplyVerdict(DRIVER_CONTEXT *context, UINT64 id, UINT8 verdict)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Packets.Resolvers);
    HELD *held = PacketCacheTake(&context->Packets, id);

    if (held != NULL)
    {
        HoldResolve(context, held, "verdict", verdict);
    }
    RundownLeave(&context->Packets.Resolvers, slot);
    return held != NULL;
}

_Use_decl_annotations_
VOID HoldExpire(DRIVER_CONTEXT *context, UINT64 now)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Packets.Resolvers);
    UINT8 verdict = (UINT8)ReadNoFence(&context->Client.TimeoutVerdict);
    UINT32 place = 0;
    HELD *held;

    while ((held = PacketCacheTakeExpired(&context->Packets, now, &place)) != NULL)
    {
        HoldReportResolved(&context->Events, held, verdict, TimeoutCauseTime);
        HoldResolve(context, held, "timed out, verdict", verdict);
    }
    RundownLeave(&context->Packets.Resolvers, slot);
}

_Use_decl_annotations_
VOID HoldResolveFailed(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Packets.Resolvers);
    HELD *held;

    while ((held = PacketCacheTakeFailed(&context->Packets)) != NULL)
    {
        if (held->Refused)
        {
            HoldResolve(context, held, HoldRefusedCause, VerdictBlock);
        }
        else
        {
            HoldResolve(context, held, HoldFailCause, ClientFailVerdict(&context->Client));
        }
    }
    RundownLeave(&context->Packets.Resolvers, slot);
}

// Resolves a question of a client that cannot answer now. A base client finds the decision as its own verdict.
static VOID HoldResolveStalled(DRIVER_CONTEXT *context, HELD *held)
{
    UINT8 verdict = ClientFailVerdict(&context->Client);

    held->Stalled = ReadNoFence(&context->Client.Extended) != 0;
    HoldReportResolved(&context->Events, held, verdict, TimeoutCauseStall);
    HoldResolve(context, held, HoldFailCause, verdict);
}

_Use_decl_annotations_
VOID HoldResolveWhileStalled(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Packets.Resolvers);
    CLIENT *client = &context->Client;
    HELD *held;

    while (ClientIsStalled(client) && (held = PacketCacheTakeAny(&context->Packets)) != NULL)
    {
        InterlockedIncrement64(&client->StallDecisions);
        HoldResolveStalled(context, held);
    }
    RundownLeave(&context->Packets.Resolvers, slot);
}

_Use_decl_annotations_
UINT64 HoldResolvePresent(DRIVER_CONTEXT *context)
{
    RUNDOWN_SLOT *slot = RundownEnter(&context->Packets.Resolvers);
    UINT64 present = PacketCacheCount(&context->Packets);
    UINT64 resolved = 0;
    HELD *held;

    while (resolved < present && (held = PacketCacheTakeAny(&context->Packets)) != NULL)
    {
        HoldResolveStalled(context, held);
        resolved++;
    }
    RundownLeave(&context->Packets.Resolvers, slot);
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
        HoldResolve(context, held, HoldFailCause, verdict);
    }
    RundownWait(&context->Packets.Resolvers);
}

// ---- Holding

static UINT8 HoldLossReason(NTSTATUS status)
{
    switch (status)
    {
    case STATUS_QUOTA_EXCEEDED:
        return LossHeldPacketLimit;
    case STATUS_INSUFFICIENT_RESOURCES:
        return LossOutOfMemory;
    case STATUS_CONNECTION_COUNT_LIMIT:
        return LossConnectionLimit;
    default:
        return LossUncounted;
    }
}

static const CHAR *HoldFailReason(NTSTATUS status)
{
    switch (status)
    {
    case STATUS_QUOTA_EXCEEDED:
        return "too many packets are held";
    case STATUS_INSUFFICIENT_RESOURCES:
        return "there is no memory";
    case STATUS_CONNECTION_COUNT_LIMIT:
        return "the connection table is full";
    case STATUS_BUFFER_OVERFLOW:
        return "the event queue is full";
    case STATUS_NOT_SUPPORTED:
        return "the layer shows neither a packet nor an operation that can be held";
    case STATUS_CANCELLED:
        return "the client could not be asked";
    default:
        return "nothing can be held now";
    }
}

// Returns the process of a connection, or 0 if it is not known.
static UINT64 HoldProcessOf(CONNECTION_TABLE *connections, const CONNECTION_KEY *key)
{
    CONNECTION_STATE state;

    return key != NULL && ConnectionTableLookup(connections, key, &state) ? state.ProcessId : 0;
}

// Reports a connection that is decided without a question.
static VOID HoldReportUnasked(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT8 direction, UINT64 processId,
                              UINT8 verdict, UINT8 cause)
{
    CONNECTION connection;

    RtlZeroMemory(&connection, sizeof(connection));
    connection.Key = *key;
    connection.State.ProcessId = processId;
    connection.State.Direction = direction;
    connection.State.Verdict = verdict;
    (VOID) EventConnectionTimeout(&context->Events, 0, &connection, cause);
}

// Counts and logs a decision of the fail policy.
static VOID HoldCountFailure(DRIVER_CONTEXT *context, UINT64 processId, NTSTATUS status)
{
    UINT8 lossReason = HoldLossReason(status);

    IoQueueReportLost(&context->Queue, 1, lossReason, processId);
    if (lossReason != LossUncounted || status == STATUS_BUFFER_OVERFLOW)
    {
        SystemLogWrite(&context->SystemLog, SystemEventFailPolicy, status);
    }
    if (LogMayRepeat(&context->Log, LogLimitFailure))
    {
        LogWarning(&context->Log, "A packet of process %llu could not be held, the fail policy decides: %s",
                   (unsigned long long)processId, HoldFailReason(status));
    }
}

_Use_decl_annotations_
DECISION HoldFail(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT8 direction, UINT64 processId,
                  NTSTATUS status)
{
    DECISION decision = ReadNoFence(&context->Client.FailClosed) != 0 ? DecisionBlock : DecisionPermit;
    CONNECTION_TEXT text;

    processId = processId != 0 ? processId : HoldProcessOf(&context->Connections, key);
    HoldCountFailure(context, processId, status);
    LogTrace(&context->Log, "%s by the fail policy: %s: %s", VerdictDecisionText(decision),
             ConnectionTextWrite(&text, key, direction), HoldFailReason(status));
    if (key != NULL)
    {
        HoldReportUnasked(context, key, direction, processId, ClientFailVerdict(&context->Client), TimeoutCauseLimit);
    }
    return decision;
}

_Use_decl_annotations_
DECISION HoldFailStalled(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, BOOLEAN isMarked)
{
    UINT8 verdict = ClientFailVerdict(&context->Client);
    DECISION decision = VerdictPermits(verdict) ? DecisionPermit : DecisionBlock;
    CONNECTION_TEXT text;

    LogTrace(&context->Log, "%s by the fail policy: %s: the client is stalled", VerdictDecisionText(decision),
             ConnectionTextWrite(&text, question->Key, question->Direction));
    if (!isMarked &&
        ConnectionTableSetStalled(&context->Connections, question->Key, question->Generation, question->ProcessId))
    {
        InterlockedIncrement64(&context->Client.StallDecisions);
        HoldReportUnasked(context, question->Key, question->Direction, question->ProcessId, verdict, TimeoutCauseStall);
    }
    return decision;
}

_Use_decl_annotations_
DECISION HoldFailPacket(DRIVER_CONTEXT *context, const LAYER *layer, const CONNECTION_KEY *key, UINT64 processId,
                        NTSTATUS status)
{
    const CHAR *direction = layer->Direction == DirectionInbound ? "inbound" : "outbound";

    if (status != STATUS_INVALID_PARAMETER)
    {
        return HoldFail(context, key, layer->Direction, processId, status);
    }
    StatisticsAdd(&context->Statistics, StatisticMalformedPackets, 1);
    if (LogMayRepeat(&context->Log, LogLimitMalformed))
    {
        LogWarning(&context->Log, "A malformed %s IPv%u packet was blocked", direction, layer->IpVersion);
    }
    LogTrace(&context->Log, "blocked: %s IPv%u packet: it is malformed", direction, layer->IpVersion);
    return DecisionBlock;
}

// ---- Shares

_Use_decl_annotations_
VOID HoldReportRefused(DRIVER_CONTEXT *context, UINT64 now)
{
    UINT64 processId;
    UINT64 count;

    while (IoQueueTakeRefused(&context->Queue, now, &count, &processId))
    {
        EventRefused(&context->Events, count, processId);
    }
    if (IoQueueHasRefused(&context->Queue))
    {
        DeferredRunAfter(&context->Deferred, IO_QUEUE_REFUSED_PERIOD_MS, HOLD_REFUSED_TOLERANCE_MS);
    }
}

// Refuses what an owner that holds too much asks for. The fail policy is for failures of the driver and the client.
static DECISION HoldRefuse(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT8 direction, UINT64 processId)
{
    CONNECTION_TEXT text;

    if (LogMayRepeat(&context->Log, LogLimitShare))
    {
        LogWarning(&context->Log, "Process %llu was refused a connection, because its program holds too much",
                   (unsigned long long)processId);
    }
    LogTrace(&context->Log, "refused: %s: its owner holds too much", ConnectionTextWrite(&text, key, direction));
    HoldReportRefused(context, ClockNow(&context->Clock));
    HoldReportUnasked(context, key, direction, processId, VerdictBlock, TimeoutCauseShare);
    return DecisionBlock;
}

// Refuses a question whose owner gave way. The caller is inside a classify.
static VOID HoldGiveUp(DRIVER_CONTEXT *context, UINT64 id)
{
    HELD *held = PacketCacheTake(&context->Packets, id);

    // If another thread took the HELD first, that thread resolves it.
    if (held != NULL)
    {
        held->Refused = TRUE;
        ReportWithdraw(context, &held->Key, held->Generation, &held->Question);
        HoldReportResolved(&context->Events, held, VerdictBlock, TimeoutCauseShare);
        if (held->CompletionContext != NULL)
        {
            HoldResolveLater(context, held);
        }
        else
        {
            HoldResolve(context, held, HoldRefusedCause, VerdictBlock);
        }
    }
    HoldReportRefused(context, ClockNow(&context->Clock));
}

// Charges the question to its owner. STATUS_QUOTA_EXCEEDED: it is refused.
static NTSTATUS HoldAdmit(DRIVER_CONTEXT *context, HELD *held)
{
    UINT32 triesLeft = HOLD_MAX_GIVEN_UP;
    LANE_OWNER owner;
    NTSTATUS status;

    EventOwner(&context->Events, &held->Key, held->Direction, held->ProcessId, &owner);
    status = IoQueueAdmit(&context->Queue, &owner, &held->Question);
    while (status == STATUS_RETRY && triesLeft != 0)
    {
        HoldGiveUp(context, held->Question.Displaced);
        status = IoQueueAdmit(&context->Queue, &owner, &held->Question);
        triesLeft--;
    }
    if (status == STATUS_RETRY)
    {
        HoldGiveUp(context, held->Question.Displaced);
        return STATUS_QUOTA_EXCEEDED;
    }
    return status;
}

// ---- Asking

static UINT64 HoldDeadline(const CLIENT *client, UINT64 askedTime)
{
    UINT32 timeout = (UINT32)ReadNoFence(&client->PendingTimeoutMs);

    return timeout != 0 ? askedTime + timeout * PLATFORM_TICKS_PER_MILLISECOND : 0;
}

static HELD *HoldMake(DRIVER_CONTEXT *context, const HOLD_QUESTION *question)
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
    held->Packet = question->Kind != HeldNothing ? question->Packets : NULL;
    held->Bytes = sizeof(*held) + InjectChainBytes(held->Packet);
    held->AskedTime = ClockNow(&context->Clock);
    held->DeadlineTime = HoldDeadline(&context->Client, held->AskedTime);
    held->Question.Id = held->Id;
    held->Question.ProcessId = held->ProcessId;
    held->Question.Bytes = held->Bytes;
    // One is the holder's, and one is that of whoever resolves it.
    held->References = 2;
    return held;
}

// Pends the operation, if there is one. Returns FALSE if nothing can be held.
// A copied packet can be held even if the filter engine refuses to pend the operation.
static BOOLEAN HoldPend(HELD *held, const HOLD_QUESTION *question)
{
    if (question->CompletionHandle == NULL ||
        NT_SUCCESS(FwpsPendOperation0(question->CompletionHandle, &held->CompletionContext)))
    {
        return TRUE;
    }
    held->CompletionContext = NULL;
    return held->Packet != NULL;
}

// STATUS_NOT_FOUND: the connection with this generation is not live.
static NTSTATUS HoldReport(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, UINT32 generation,
                           LANE_QUESTION *charged)
{
    UINT64 id = charged->Id;
    const INJECT_PACKET *packet = question->Packets;
    const UINT8 *payload = NULL;
    UINT32 length = 0;
    EVENT_DETAILS details;
    REPORT_GATE gate;

    if (packet != NULL)
    {
        payload = packet->Data + packet->TransportOffset;
        length = packet->Length - packet->TransportOffset;
    }
    details.InterfaceIndex = question->InterfaceIndex;
    details.Compartment = question->Compartment;
    details.Loopback = question->Loopback;
    details.AskedAgain = FALSE;
    details.Question = charged;
    details.Path = question->Path;
    details.PathBytes = question->PathBytes;
    if (generation != 0)
    {
        ReportMakeGate(&gate, &context->Connections, question->Key, generation, id, &details);
    }
    return EventConnection(&context->Events, id, question->Key, question->ProcessId, question->Direction,
                           question->PayloadLayer, payload, length, &details, generation != 0 ? &gate.Gate : NULL);
}

static VOID HoldLogAsked(LOG *log, const HOLD_QUESTION *question, UINT64 id)
{
    CONNECTION_TEXT text;

    LogDebug(log, "asked: %s, process %llu, id %llu", ConnectionTextWrite(&text, question->Key, question->Direction),
             (unsigned long long)question->ProcessId, (unsigned long long)id);
}

// Undoes a hold that was never reported to the client.
static DECISION HoldUndo(DRIVER_CONTEXT *context, HELD *held, NTSTATUS status)
{
    DECISION result;

    held->Refused = status == STATUS_QUOTA_EXCEEDED;
    result = held->Refused ? HoldRefuse(context, &held->Key, held->Direction, held->ProcessId)
                           : HoldFail(context, &held->Key, held->Direction, held->ProcessId, status);
    IoQueueRelease(&context->Queue, &held->Question);
    if (held->CompletionContext == NULL)
    {
        ConnectionTableReleasePending(&context->Connections, &held->Key, held->Generation);
        InjectDropChain(held->Packet);
        HoldDereference(context, held);
        return result;
    }
    HoldResolveLater(context, held);
    return DecisionHeld;
}

// Gives up a hold whose connection ended before it was reported, because the client is not asked about such a packet.
static DECISION HoldEnded(DRIVER_CONTEXT *context, HELD *held, const CONNECTION_STATE *state)
{
    BOOLEAN permitted = held->Kind == HeldPacketInbound || VerdictPermits(state->Verdict);

    IoQueueRelease(&context->Queue, &held->Question);
    ConnectionTableReleasePending(&context->Connections, &held->Key, held->Generation);
    InjectDropChain(held->Packet);
    HoldDereference(context, held);
    return permitted ? DecisionPermit : DecisionAbsorb;
}

// Looks for the connection that a question is about after its generation ended or was forgotten.
// TRUE: held->Generation is the successor's. FALSE: `decision` is made, and `held` belongs to the caller no longer.
static BOOLEAN HoldFollow(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, HELD *held, DECISION *decision)
{
    CONNECTION_TABLE *connections = &context->Connections;
    CONNECTION_STATE state;
    NTSTATUS status;

    if (!question->Begins && ConnectionTableLookup(connections, &held->Key, &state) && state.Ended)
    {
        *decision = HoldEnded(context, held, &state);
        return FALSE;
    }
    status = ConnectionTableFindOrInsert(connections, &held->Key, held->ProcessId, question->Direction, &state);
    if (!NT_SUCCESS(status))
    {
        *decision = HoldUndo(context, held, status);
        return FALSE;
    }
    ConnectionTableReleasePending(connections, &held->Key, held->Generation);
    held->Generation = state.Generation;
    return TRUE;
}

// Reports a question. Where the queue has no room for it, one owner gives way. Fails as HoldReport and HoldAdmit do.
static NTSTATUS HoldReportInRoom(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, UINT32 generation,
                                 LANE_QUESTION *charged)
{
    UINT32 triesLeft = HOLD_MAX_GIVEN_UP;
    NTSTATUS status = HoldReport(context, question, generation, charged);

    while (status == STATUS_RETRY && triesLeft != 0)
    {
        HoldGiveUp(context, charged->Displaced);
        status = HoldReport(context, question, generation, charged);
        triesLeft--;
    }
    if (status == STATUS_RETRY)
    {
        HoldGiveUp(context, charged->Displaced);
        return STATUS_QUOTA_EXCEEDED;
    }
    return status;
}

// Has a round of maintenance look at a question that was inserted. A stall that began before may not have seen it.
static VOID HoldWatch(DRIVER_CONTEXT *context, UINT64 askedTime, UINT64 deadline)
{
    DeferredRunBy(&context->Deferred, deadline, HOLD_TOLERANCE_MS);
    DeferredRunBy(&context->Deferred, ClientStallLimit(&context->Client, askedTime), HOLD_TOLERANCE_MS);
    if (ClientIsStalled(&context->Client))
    {
        DeferredRequest(&context->Deferred, DEFERRED_DUE);
        DeferredQueue(&context->Deferred);
    }
}

// STATUS_SUCCESS: the HELD belongs to the cache, and the client is asked. Else it is the caller's again.
// NULL in `held` after a failure: another thread resolves it.
static NTSTATUS HoldTryReport(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, HELD **held)
{
    LANE_QUESTION *charged = &(*held)->Question;
    UINT64 id = (*held)->Id;
    UINT32 generation = (*held)->Generation;
    UINT64 askedTime = (*held)->AskedTime;
    UINT64 deadline = (*held)->DeadlineTime != 0 ? (*held)->DeadlineTime : CLOCK_NEVER;
    NTSTATUS status;

    // The connection is marked as pending before the insert, because another thread may resolve the HELD after it.
    // From here on a record may name the connection's process.
    ConnectionTableAddPending(&context->Connections, &(*held)->Key, generation, (*held)->ProcessId);
    status = PacketCacheInsert(&context->Packets, *held);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    HoldWatch(context, askedTime, deadline);
    status = HoldReportInRoom(context, question, generation, charged);
    if (NT_SUCCESS(status))
    {
        HoldLogAsked(&context->Log, question, id);
        return status;
    }
    // If another thread took the HELD first, that thread resolves it.
    *held = PacketCacheTake(&context->Packets, id);
    // The queue has counted the record as lost, so no status that counts as a loss follows.
    return status == STATUS_BUFFER_OVERFLOW || status == STATUS_NOT_FOUND || status == STATUS_QUOTA_EXCEEDED
               ? status
               : STATUS_CANCELLED;
}

static DECISION HoldInsertAndReport(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, HELD *held)
{
    UINT32 triesLeft = HOLD_MAX_TRIES;
    DECISION decision;

    for (;;)
    {
        NTSTATUS status = HoldTryReport(context, question, &held);

        if (NT_SUCCESS(status) || held == NULL)
        {
            return DecisionHeld;
        }
        // Each further try follows the end of a connection with this key, so the limit is hardly ever reached.
        triesLeft--;
        if (status != STATUS_NOT_FOUND || triesLeft == 0)
        {
            return HoldUndo(context, held, status != STATUS_NOT_FOUND ? status : STATUS_CANCELLED);
        }
        if (!HoldFollow(context, question, held, &decision))
        {
            return decision;
        }
    }
}

// Nothing is held, because the question cannot be asked.
static DECISION HoldCannotAsk(DRIVER_CONTEXT *context, const HOLD_QUESTION *question, HELD *held, NTSTATUS status)
{
    InjectDropChain(question->Packets);
    if (held != NULL)
    {
        IoQueueRelease(&context->Queue, &held->Question);
        MemoryFree(&context->Memory, held);
    }
    return status == STATUS_QUOTA_EXCEEDED
               ? HoldRefuse(context, question->Key, question->Direction, question->ProcessId)
               : HoldFail(context, question->Key, question->Direction, question->ProcessId, status);
}

_Use_decl_annotations_
DECISION HoldAsk(DRIVER_CONTEXT *context, HOLD_QUESTION *question)
{
    INJECT_PACKET *packets = question->Packets;
    HELD *held = HoldMake(context, question);
    NTSTATUS status;
    DECISION result;

    if (held == NULL)
    {
        return HoldCannotAsk(context, question, NULL, STATUS_INSUFFICIENT_RESOURCES);
    }
    if (question->Path != NULL)
    {
        EventNoteImage(&context->Events, question->ProcessId, question->Path, question->PathBytes);
    }
    status = HoldAdmit(context, held);
    if (!NT_SUCCESS(status))
    {
        return HoldCannotAsk(context, question, held, status);
    }
    if (!HoldPend(held, question))
    {
        return HoldCannotAsk(context, question, held, STATUS_NOT_SUPPORTED);
    }

    // Another thread may resolve the HELD while the packet's bytes are copied into the record.
    if (held->Packet != NULL)
    {
        InjectReference(packets);
    }
    result = HoldInsertAndReport(context, question, held);
    if (packets != NULL)
    {
        InjectDereference(packets);
    }
    HoldDereference(context, held);
    return result;
}

#include "packet.h"

#include "address.h"
#include "connection_text.h"
#include "context.h"
#include "hold.h"
#include "icmp.h"
#include "scope.h"

// One classify at an IP packet layer.
typedef struct _PACKET_FRAME
{
    const CLASSIFY *Classify;
    DRIVER_CONTEXT *Context;
    const NET_BUFFER_LIST *List; // the list that is examined
    INJECT_ORIGIN Origin;        // of List
    UINT32 HiddenLength;         // inbound, the data start lies behind the IP header
    UINT64 Datagram;             // id in the fragment table, while its first fragment is decided on
    BOOLEAN Extended;            // the client has sent SetOptions
    BOOLEAN InPlace;             // the packet that is examined can be neither held nor sent by this driver
    BOOLEAN ToSubnet;            // it is sent to a subnet's broadcast address
    ICMP_MESSAGE Icmp;           // of the packet that is examined, for an extended client
    BOOLEAN AnyPermitted;
    BOOLEAN AnyRefused; // the chain is not permitted: permitted packets go on as copies
    BOOLEAN AnyAbsorbed;
    INJECT_PACKET **LastInjection;
} PACKET_FRAME;

static BOOLEAN PacketIsInbound(const PACKET_FRAME *frame)
{
    return frame->Classify->Layer->Direction == DirectionInbound;
}

// ---- The log, at level trace: each packet that is not simply permitted, with the reason

static VOID PacketTrace(const PACKET_FRAME *frame, const CONNECTION_KEY *key, DECISION decision, const CHAR *reason)
{
    CONNECTION_TEXT text;

    LogTrace(&frame->Context->Log, "%s: %s: %s", VerdictDecisionText(decision),
             ConnectionTextWrite(&text, key, frame->Classify->Layer->Direction), reason);
}

// `decision` is the one of the connection's verdict.
static VOID PacketTraceRefused(const PACKET_FRAME *frame, const CONNECTION_KEY *key, DECISION decision,
                               const CONNECTION_STATE *state)
{
    CONNECTION_TEXT text;

    LogTrace(&frame->Context->Log, "%s: %s, process %llu: %sverdict %s", VerdictDecisionText(decision),
             ConnectionTextWrite(&text, key, frame->Classify->Layer->Direction), (unsigned long long)state->ProcessId,
             state->Ended ? "the connection has ended, " : "", VerdictRow(state->Verdict)->Name);
}

static VOID PacketTraceRedirected(const PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_KEY *target)
{
    UINT8 direction = frame->Classify->Layer->Direction;
    CONNECTION_TEXT targetText;
    CONNECTION_TEXT text;

    LogTrace(&frame->Context->Log, "redirected: %s becomes %s", ConnectionTextWrite(&text, key, direction),
             ConnectionTextWrite(&targetText, target, direction));
}

// ---- Packets that are decided in place

// An injection at the network layer takes no interface, so it cannot send to a link or to many.
static BOOLEAN PacketLeavesByLink(const CONNECTION_KEY *key, UINT8 direction)
{
    const UINT8 *source = direction == DirectionOutbound ? key->LocalAddress : key->RemoteAddress;
    const UINT8 *destination = direction == DirectionOutbound ? key->RemoteAddress : key->LocalAddress;

    return AddressIsOfMany(key->IpVersion, destination) || AddressIsLinkLocal(key->IpVersion, destination) ||
           AddressIsUnspecified(source);
}

// A received packet is injected with its interface, except one from this machine, which is sent once more.
static BOOLEAN PacketIsDecidedInPlace(const PACKET_FRAME *frame, const CONNECTION_KEY *key)
{
    UINT8 direction = frame->Classify->Layer->Direction;

    return (direction == DirectionOutbound || ClassifyIsLoopback(frame->Classify)) &&
           PacketLeavesByLink(key, direction);
}

// Their sender receives them too, and is asked about when they leave.
static BOOLEAN PacketIsOwnMulticast(const PACKET_FRAME *frame, const CONNECTION_KEY *key)
{
    return !PacketIsInbound(frame) && AddressIsMulticast(key->IpVersion, key->RemoteAddress) &&
           ClassifyIsLoopback(frame->Classify);
}

// ---- Deciding by the connection

// Returns whether both ends have the same address, and `port` is a port of the client's resolver or tunnel.
static BOOLEAN PacketIsOfOwnPort(const PACKET_FRAME *frame, const CONNECTION_KEY *key, UINT16 port)
{
    return RtlEqualMemory(key->LocalAddress, key->RemoteAddress, sizeof(key->LocalAddress)) &&
           ClientOwnsPort(&frame->Context->Client, port);
}

// An inbound fragment is indicated first as a packet, and that classify decides on it.
// A permitted fragment is indicated again as a fragment, and once more as a part of the reassembled datagram.
// The ALE layer decides next on the reassembled datagram.
static BOOLEAN PacketIsDecided(const PACKET_FRAME *frame)
{
    return PacketIsInbound(frame) &&
           ClassifyHasFlag(frame->Classify, FWP_CONDITION_FLAG_IS_FRAGMENT | FWP_CONDITION_FLAG_IS_REASSEMBLED);
}

// Finds the connection that a packet of the resolver or tunnel answers.
// The packet must come by loopback: a packet from another machine cannot be an answer.
// An answer to a connection that is no longer redirected is for the program itself.
static BOOLEAN PacketIsAnswer(const PACKET_FRAME *frame, const CONNECTION_KEY *key, CONNECTION_KEY *original)
{
    CONNECTION_STATE state;

    return PacketIsInbound(frame) && PacketIsOfOwnPort(frame, key, key->RemotePort) &&
           ClassifyIsLoopback(frame->Classify) && RedirectTableFind(&frame->Context->Redirects, key, original) &&
           ConnectionTableLookup(&frame->Context->Connections, original, &state) && VerdictRedirects(state.Verdict);
}

static BOOLEAN PacketIsPermittedLoopback(const PACKET_FRAME *frame, const CONNECTION_KEY *key)
{
    CONNECTION_KEY original;

    return ClassifyIsLoopback(frame->Classify) && ClientHasFlag(&frame->Context->Client, OPTION_FLAG_PERMIT_LOOPBACK) &&
           !PacketIsAnswer(frame, key, &original);
}

// The client is not asked about a connection that ended. Its last verdict decides on packets that are still sent.
// A received packet may open a new connection of the same addresses and ports. The ALE layer decides next on it.
static DECISION PacketDecideEnded(const PACKET_FRAME *frame, const CONNECTION_STATE *state)
{
    return PacketIsInbound(frame) ? DecisionPermit : (DECISION)VerdictRow(state->Verdict)->Resolve;
}

static DECISION PacketFailRedirect(const PACKET_FRAME *frame, const CONNECTION_KEY *key)
{
    DRIVER_CONTEXT *context = frame->Context;

    StatisticsAdd(&context->Statistics, StatisticInjectFailures, 1);
    if (LogMayRepeat(&context->Log, LogLimitFailure))
    {
        LogWarning(&context->Log, "A packet could not be redirected and was dropped");
    }
    PacketTrace(frame, key, DecisionAbsorb, "it could not be redirected");
    return DecisionAbsorb;
}

static DECISION PacketDecideRedirect(PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_STATE *state,
                                     CONNECTION_KEY *target)
{
    DRIVER_CONTEXT *context = frame->Context;

    if (state->Direction == DirectionInbound)
    {
        // The remote end asked for the program here, so there is nothing to redirect.
        return DecisionPermit;
    }
    if (PacketIsInbound(frame))
    {
        // A redirected connection receives only answers. The answers that this driver made come by loopback.
        if (ClassifyIsLoopback(frame->Classify))
        {
            return DecisionPermit;
        }
        PacketTrace(frame, key, DecisionAbsorb, "its connection is redirected");
        return DecisionAbsorb;
    }
    if (!NT_SUCCESS(RedirectStart(&context->Redirects, state->Verdict,
                                  ClientRedirectPort(&context->Client, state->Verdict),
                                  ScopeTableWithoutLink(&context->Scopes, key->Scope), key, target)))
    {
        return PacketFailRedirect(frame, key);
    }
    DeferredRunAfter(&context->Deferred, CONNECTION_IDLE_MS, CONNECTION_CLEAN_TOLERANCE_MS);
    return DecisionRedirect;
}

// The decision on a packet that is not asked about: a temporary verdict holds for it as a permanent one does.
static DECISION PacketStandingDecision(UINT8 verdict)
{
    const VERDICT_ROW *row = VerdictRow(verdict);

    return (DECISION)(row->Packet == DecisionAsk ? row->Resolve : row->Packet);
}

// A packet that is decided in place cannot wait for a verdict of its own.
static DECISION PacketDecisionOf(const PACKET_FRAME *frame, UINT8 verdict)
{
    return frame->InPlace && verdict != VerdictUndecided ? PacketStandingDecision(verdict)
                                                         : (DECISION)VerdictRow(verdict)->Packet;
}

// Carries out the decision of the connection's verdict as far as it needs no packet.
static DECISION PacketDecideByVerdict(PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_STATE *state,
                                      DECISION decision, CONNECTION_KEY *target)
{
    switch (decision)
    {
    case DecisionBlock:
    case DecisionAbsorb:
        PacketTraceRefused(frame, key, decision, state);
        return decision;
    case DecisionRedirect:
        return PacketDecideRedirect(frame, key, state, target);
    default:
        return decision;
    }
}

// ALE_AUTH_RECV_ACCEPT decides next on a received packet, and knows the process.
// But it is not asked about packets to many, answers to a packet that this machine sent to many, and ICMP errors.
static BOOLEAN PacketIsAskedAboutLater(const PACKET_FRAME *frame, const CONNECTION_KEY *key)
{
    if (!PacketIsInbound(frame))
    {
        return FALSE;
    }
    return !AddressIsOfMany(key->IpVersion, key->LocalAddress) && !ClassifyIsBroadcast(frame->Classify) &&
           !(frame->Extended && IcmpIs(key->IpVersion, key->Protocol) && frame->Icmp.Error) &&
           (key->Protocol != PROTOCOL_UDP ||
            !MulticastPortsTakeAnswers(&frame->Context->MulticastPorts, key->IpVersion, key->LocalPort));
}

static DECISION PacketDecideUnknown(PACKET_FRAME *frame, const IP_HEADER *header, const CONNECTION_KEY *key,
                                    CONNECTION_STATE *state, CONNECTION_KEY *target)
{
    UINT8 direction = frame->Classify->Layer->Direction;
    NTSTATUS status;

    if (PacketIsAskedAboutLater(frame, key))
    {
        return DecisionPermit;
    }
    if (direction == DirectionOutbound && header->TcpReset && frame->Extended)
    {
        // The stack refuses a stranger. A client may want this machine to be silent.
        return ClientHasFlag(&frame->Context->Client, OPTION_FLAG_DROP_STRAY_RESETS) ? DecisionAbsorb : DecisionPermit;
    }
    status = ConnectionTableFindOrInsert(&frame->Context->Connections, key, 0, direction, state);
    if (!NT_SUCCESS(status))
    {
        return HoldFail(frame->Context, key, direction, 0, status);
    }
    if (frame->ToSubnet)
    {
        ConnectionTableSetBroadcast(&frame->Context->Connections, key);
    }
    if (status != STATUS_OBJECT_NAME_EXISTS)
    {
        DeferredRunAfter(&frame->Context->Deferred, CONNECTION_IDLE_MS, CONNECTION_CLEAN_TOLERANCE_MS);
    }
    return PacketDecideByVerdict(frame, key, state, PacketDecisionOf(frame, state->Verdict), target);
}

// An ICMP error follows the connection that it quotes, and an echo's reply its request.
static BOOLEAN PacketFollows(const PACKET_FRAME *frame, const CONNECTION_KEY *key, DECISION *decision)
{
    const CONNECTION_KEY *followed = frame->Icmp.Quotes ? &frame->Icmp.Quoted : key;
    CONNECTION_STATE state;

    if ((!frame->Icmp.Quotes && !frame->Icmp.EchoReply) ||
        !ConnectionTableLookup(&frame->Context->Connections, followed, &state) || state.Verdict == VerdictUndecided)
    {
        return FALSE;
    }
    *decision = PacketStandingDecision(state.Verdict);
    if (*decision == DecisionRedirect)
    {
        *decision = DecisionPermit;
    }
    if (*decision != DecisionPermit)
    {
        PacketTraceRefused(frame, key, *decision, &state);
    }
    return TRUE;
}

// Returns whether a packet is decided by what it is, and not by its connection.
static BOOLEAN PacketIsSpecial(PACKET_FRAME *frame, const IP_HEADER *header, const CONNECTION_KEY *key,
                               DECISION *decision)
{
    *decision = DecisionPermit;
    if (PacketIsOwnMulticast(frame, key))
    {
        return TRUE;
    }
    if (!frame->Extended)
    {
        *decision = DecisionAsk;
        return !ConnectionKeyHasPorts(key);
    }
    return (!ClientHasFlag(&frame->Context->Client, OPTION_FLAG_ASK_CONTROL_TRAFFIC) &&
            ControlTrafficPermits(&frame->Context->ControlTraffic, key, frame->Classify->Layer->Direction,
                                  frame->Icmp.Type, header->HopLimit)) ||
           (IcmpIs(key->IpVersion, key->Protocol) && PacketFollows(frame, key, decision));
}

// Returns whether a packet is sent to a subnet's broadcast address. Its connection knows, if it has an entry.
static BOOLEAN PacketIsToSubnet(const PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_STATE *state)
{
    if (PacketIsInbound(frame))
    {
        return FALSE;
    }
    return state != NULL ? state->Broadcast
                         : key->IpVersion == 4 && SubnetsHaveBroadcast(&frame->Context->Subnets, key->RemoteAddress);
}

// `state` NULL: the connection has no entry.
static VOID PacketNoteDestination(PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_STATE *state)
{
    frame->ToSubnet = PacketIsToSubnet(frame, key, state);
    if (PacketIsInbound(frame) || !(frame->ToSubnet || frame->InPlace))
    {
        return;
    }
    frame->InPlace = TRUE;
    if (key->Protocol == PROTOCOL_UDP && (frame->ToSubnet || AddressIsOfMany(key->IpVersion, key->RemoteAddress)))
    {
        MulticastPortsNote(&frame->Context->MulticastPorts, key->IpVersion, key->LocalPort);
    }
}

// DecisionAsk: `state` is the state of the connection, with generation 0 if the connection has no entry.
// DecisionRedirect: the packet's connection becomes `target`.
static DECISION PacketDecideOnKey(PACKET_FRAME *frame, const IP_HEADER *header, const CONNECTION_KEY *key,
                                  CONNECTION_STATE *state, CONNECTION_KEY *target)
{
    DECISION decision;
    BOOLEAN known;

    RtlZeroMemory(state, sizeof(*state));
    frame->InPlace = PacketIsDecidedInPlace(frame, key);
    if (PacketIsPermittedLoopback(frame, key))
    {
        return DecisionPermit;
    }
    if (key->Protocol != PROTOCOL_TCP && PacketIsSpecial(frame, header, key, &decision))
    {
        return decision;
    }
    if (ConnectionKeyHasPorts(key) && PacketIsOfOwnPort(frame, key, key->LocalPort))
    {
        return DecisionPermit;
    }
    if (key->Scope == SCOPE_NONE)
    {
        return DecisionAsk;
    }
    known = ConnectionTableLookupPacket(&frame->Context->Connections, key, PacketIsInbound(frame), state);
    PacketNoteDestination(frame, key, known ? state : NULL);
    if (!known || (state->Ended && PacketIsInbound(frame) && !PacketIsAskedAboutLater(frame, key)))
    {
        return PacketIsAnswer(frame, key, target) ? DecisionRedirect
                                                  : PacketDecideUnknown(frame, header, key, state, target);
    }
    if (state->Ended && PacketIsAnswer(frame, key, target))
    {
        return DecisionRedirect;
    }
    if (state->Aborted && header->TcpReset && !PacketIsInbound(frame))
    {
        // The stack resets the flow that this driver has aborted. The remote end learns of it by this packet.
        return DecisionPermit;
    }
    decision = state->Ended ? PacketDecideEnded(frame, state) : PacketDecisionOf(frame, state->Verdict);
    return decision == DecisionPermit ? decision : PacketDecideByVerdict(frame, key, state, decision, target);
}

// ---- Reading the headers; the data start is at the IP header

// Reads headers that neither lie in one piece nor fit into the usual length.
static NTSTATUS PacketParseLongHeaders(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
{
    UINT32 length = NET_BUFFER_DATA_LENGTH(buffer);
    UINT8 *storage = (UINT8 *)MemoryAllocateUninitialized(&frame->Context->Memory, length);
    const UINT8 *bytes;
    NTSTATUS status;

    if (storage == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    bytes = (const UINT8 *)NdisGetDataBuffer(buffer, length, storage, 1, 0);
    status = bytes != NULL ? IpHeaderParse(bytes, length, length, header) : STATUS_INSUFFICIENT_RESOURCES;
    MemoryFree(&frame->Context->Memory, storage);
    return status;
}

static NTSTATUS PacketParseScattered(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
{
    UINT8 storage[IP_HEADER_USUAL_LENGTH];
    UINT32 length = NET_BUFFER_DATA_LENGTH(buffer);
    UINT32 available = length < sizeof(storage) ? length : (UINT32)sizeof(storage);
    const UINT8 *bytes = (const UINT8 *)NdisGetDataBuffer(buffer, available, storage, 1, 0);
    NTSTATUS status;

    if (bytes == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    status = IpHeaderParse(bytes, available, length, header);
    return status == STATUS_BUFFER_TOO_SMALL ? PacketParseLongHeaders(frame, buffer, header) : status;
}

static NTSTATUS PacketParse(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
{
    UINT32 length = NET_BUFFER_DATA_LENGTH(buffer);
    const UINT8 *bytes;
    NTSTATUS status;

    if (length == 0)
    {
        return STATUS_INVALID_PARAMETER;
    }
    bytes = (const UINT8 *)NdisGetDataBuffer(buffer, length, NULL, 1, 0);
    status = bytes != NULL ? IpHeaderParse(bytes, length, length, header) : PacketParseScattered(frame, buffer, header);
    if (NT_SUCCESS(status) && header->IpVersion != frame->Classify->Layer->IpVersion)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return status;
}

// Reads the ICMP message behind the IP headers.
static VOID PacketParseIcmp(PACKET_FRAME *frame, NET_BUFFER *buffer, const IP_HEADER *header)
{
    UINT8 storage[IP_HEADER_USUAL_LENGTH + ICMP_USUAL_LENGTH];
    UINT32 length = header->TotalLength < sizeof(storage) ? header->TotalLength : (UINT32)sizeof(storage);
    const UINT8 *bytes = NULL;

    if (length > header->HeaderLength)
    {
        bytes = (const UINT8 *)NdisGetDataBuffer(buffer, length, storage, 1, 0);
    }
    IcmpParse(bytes != NULL ? bytes + header->HeaderLength : NULL, bytes != NULL ? length - header->HeaderLength : 0,
              header->IpVersion, frame->Classify->Layer->Direction, &frame->Icmp);
}

// A link-local packet stays on its link, and so does the error that quotes it.
// A later fragment has no message.
static NTSTATUS PacketParseAll(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
{
    NTSTATUS status = PacketParse(frame, buffer, header);

    if (NT_SUCCESS(status) && frame->Extended && header->FragmentOffset == 0 &&
        IcmpIs(header->IpVersion, header->Protocol))
    {
        PacketParseIcmp(frame, buffer, header);
        if (frame->Icmp.Quotes)
        {
            ScopeSet(frame->Classify, &frame->Icmp.Quoted);
        }
    }
    return status;
}

// ---- Holding

static NTSTATUS PacketCopy(const PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer,
                           INJECT_PACKET **packet)
{
    const CLASSIFY *classify = frame->Classify;
    const LAYER *layer = classify->Layer;
    BOOLEAN inbound = PacketIsInbound(frame);
    BOOLEAN loopback = ClassifyIsLoopback(classify);
    INJECT_SOURCE source;

    RtlZeroMemory(&source, sizeof(source));
    // A loopback packet has no receive path to be injected into, so it is sent once more.
    source.Method = inbound && !loopback ? InjectNetworkReceive : InjectNetworkSend;
    source.Checksum = inbound ? InjectChecksumForInbound(list, loopback) : InjectChecksumPacket;
    source.IpVersion = layer->IpVersion;
    source.HiddenLength = frame->HiddenLength;
    source.Compartment = ClassifyCompartment(classify->Metadata);
    source.InterfaceIndex = ClassifyUint32(classify->Values, layer->Fields.InterfaceIndex);
    source.SubInterfaceIndex = ClassifyUint32(classify->Values, layer->Fields.SubInterfaceIndex);
    return InjectCopy(&classify->Context->Injector, &source, buffer, packet);
}

static VOID PacketDescribe(const PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_STATE *state,
                           HOLD_QUESTION *question)
{
    question->Direction = frame->Classify->Layer->Direction;
    question->Key = key;
    question->Generation = state->Generation;
    question->ProcessId = state->ProcessId;
    question->PayloadLayer = PROTOCOL_PAYLOAD_NETWORK_LAYER;
    HoldDescribe(question, frame->Classify);
}

static DECISION PacketHold(PACKET_FRAME *frame, NET_BUFFER *buffer, const CONNECTION_KEY *key,
                           const CONNECTION_STATE *state)
{
    HOLD_QUESTION question;
    NTSTATUS status;

    RtlZeroMemory(&question, sizeof(question));
    status = PacketCopy(frame, frame->List, buffer, &question.Packets);
    if (!NT_SUCCESS(status))
    {
        return HoldFailPacket(frame->Context, frame->Classify->Layer, key, state->ProcessId, status);
    }
    // Another product injected a copy of a packet that the client has decided on already.
    // The copy is permitted, because it would otherwise be held and injected without end.
    if (frame->Origin == InjectOriginOther && InjectHasReturned(&frame->Context->Injector, question.Packets))
    {
        InjectDropChain(question.Packets);
        return DecisionPermit;
    }
    question.Kind = PacketIsInbound(frame) ? HeldPacketInbound : HeldPacketOutbound;
    question.Datagram = frame->Datagram;
    PacketDescribe(frame, key, state, &question);
    return HoldAsk(frame->Context, &question);
}

// Asks about the connection. The fail policy decides on this packet, and the verdict on the next one.
static DECISION PacketAskInPlace(PACKET_FRAME *frame, NET_BUFFER *buffer, const CONNECTION_KEY *key,
                                 const CONNECTION_STATE *state)
{
    DRIVER_CONTEXT *context = frame->Context;
    DECISION decision = (DECISION)VerdictRow(ClientFailVerdict(&context->Client))->Resolve;
    HOLD_QUESTION question;
    DECISION asked;
    NTSTATUS status;

    StatisticsAdd(&context->Statistics, StatisticDecidedInPlace, 1);
    PacketTrace(frame, key, decision,
                "it cannot be held, so the fail policy decides until its connection has a verdict");
    if (state->Generation != 0 && ConnectionTableIsPending(&context->Connections, key, state->Generation))
    {
        return decision;
    }
    RtlZeroMemory(&question, sizeof(question));
    status = PacketCopy(frame, frame->List, buffer, &question.Packets);
    if (!NT_SUCCESS(status))
    {
        return HoldFailPacket(context, frame->Classify->Layer, key, state->ProcessId, status);
    }
    question.Kind = HeldNothing;
    PacketDescribe(frame, key, state, &question);
    asked = HoldAsk(context, &question);
    return asked == DecisionHeld ? decision : asked;
}

// A copy that another product injected may be of a packet that the client has decided on. PacketHold finds that out.
static DECISION PacketAsk(PACKET_FRAME *frame, NET_BUFFER *buffer, const CONNECTION_KEY *key,
                          const CONNECTION_STATE *state)
{
    HOLD_QUESTION question;

    if (ClientIsStalled(&frame->Context->Client) && frame->Origin != InjectOriginOther)
    {
        RtlZeroMemory(&question, sizeof(question));
        PacketDescribe(frame, key, state, &question);
        return HoldFailStalled(frame->Context, &question, state->Stalled);
    }
    return frame->InPlace ? PacketAskInPlace(frame, buffer, key, state) : PacketHold(frame, buffer, key, state);
}

// ---- One packet

static VOID PacketQueueInjections(PACKET_FRAME *frame, INJECT_PACKET *packets)
{
    *frame->LastInjection = packets;
    frame->LastInjection = InjectChainEnd(frame->LastInjection);
}

static DECISION PacketRedirect(PACKET_FRAME *frame, NET_BUFFER *buffer, const CONNECTION_KEY *key,
                               const CONNECTION_KEY *target)
{
    INJECT_PACKET *packet;

    if (!NT_SUCCESS(PacketCopy(frame, frame->List, buffer, &packet)))
    {
        return PacketFailRedirect(frame, key);
    }
    packet = RedirectChain(packet, target, frame->Classify->Layer->Direction);
    PacketQueueInjections(frame, packet);
    if (packet == NULL)
    {
        PacketTrace(frame, key, DecisionAbsorb, "it could not be redirected");
        return DecisionAbsorb;
    }
    PacketTraceRedirected(frame, key, target);
    return DecisionRedirect;
}

// DecisionRedirect: the packet's copy is queued, and `target` is what its connection became.
static DECISION PacketDecideOnHeader(PACKET_FRAME *frame, NET_BUFFER *buffer, const IP_HEADER *header,
                                     CONNECTION_KEY *target)
{
    DECISION decision;
    CONNECTION_KEY key;
    CONNECTION_STATE state;

    IpHeaderToKey(header, frame->Classify->Layer->Direction, &key);
    ScopeSet(frame->Classify, &key);
    if (frame->Extended && IcmpIs(key.IpVersion, key.Protocol))
    {
        IcmpSetKey(&frame->Icmp, frame->Classify->Layer->Direction, &key);
    }
    decision = PacketDecideOnKey(frame, header, &key, &state, target);
    switch (decision)
    {
    case DecisionAsk:
        return PacketAsk(frame, buffer, &key, &state);
    case DecisionRedirect:
        return PacketRedirect(frame, buffer, &key, target);
    default:
        return decision;
    }
}

// ---- Fragments, which follow the first one of their datagram

static VOID PacketReportLostFragments(DRIVER_CONTEXT *context, const FRAGMENT_ANSWER *answer)
{
    if (answer->Lost == 0)
    {
        return;
    }
    IoQueueReportLost(&context->Queue, answer->Lost, answer->LossReason, 0);
    if (LogMayRepeat(&context->Log, LogLimitFragment))
    {
        LogWarning(&context->Log, "Fragments without a permitted first one were dropped: %s",
                   answer->LossReason == LossOutOfMemory ? "there is no memory" : "too many of them wait");
    }
}

static DECISION PacketWaitForFirstFragment(PACKET_FRAME *frame, NET_BUFFER *buffer, FRAGMENT_ANSWER *answer)
{
    INJECT_PACKET *packet = NULL;
    DECISION decision;

    (VOID) PacketCopy(frame, frame->List, buffer, &packet);
    decision = FragmentTableWait(&frame->Context->Fragments, packet, answer);
    PacketReportLostFragments(frame->Context, answer);
    return decision;
}

// DecisionAsk: this is the first fragment. frame->Datagram is its datagram's id, or 0 if the table has none for it.
static DECISION PacketFollowFirstFragment(PACKET_FRAME *frame, NET_BUFFER *buffer, const IP_HEADER *header)
{
    const CLASSIFY *classify = frame->Classify;
    FRAGMENT_ANSWER answer;
    CONNECTION_KEY key;
    DECISION decision = FragmentTableEnter(&frame->Context->Fragments, header, classify->Layer->Direction,
                                           ClassifyUint32(classify->Values, classify->Layer->Fields.InterfaceIndex),
                                           ClassifyCompartment(classify->Metadata), &answer);

    PacketReportLostFragments(frame->Context, &answer);
    if (answer.Datagram != 0)
    {
        DeferredRunAfter(&frame->Context->Deferred, FRAGMENT_EARLY_MS, FRAGMENT_TOLERANCE_MS);
    }
    if (decision == DecisionHeld)
    {
        decision = PacketWaitForFirstFragment(frame, buffer, &answer);
    }
    IpHeaderToKey(header, classify->Layer->Direction, &key);
    switch (decision)
    {
    case DecisionPermit:
        return decision;
    case DecisionAsk:
        frame->Datagram = answer.Datagram;
        return decision;
    case DecisionRedirect:
        return PacketRedirect(frame, buffer, &key, &answer.Target);
    default:
        PacketTrace(frame, &key, decision,
                    decision == DecisionHeld ? "a fragment that came before its datagram's first one"
                                             : "a fragment of a datagram that is not permitted");
        return decision;
    }
}

// Makes the other fragments of a datagram follow the decision on the first one.
static VOID PacketDecideDatagram(PACKET_FRAME *frame, DECISION decision, const CONNECTION_KEY *target)
{
    INJECT_PACKET *waited;

    // The verdict on a held first fragment decides on the other fragments too, perhaps before this line runs.
    if (decision != DecisionHeld)
    {
        (VOID) FragmentTableDecide(&frame->Context->Fragments, frame->Datagram, decision,
                                   decision == DecisionRedirect ? target : NULL, &waited);
        PacketQueueInjections(frame, waited);
    }
    frame->Datagram = 0;
}

static DECISION PacketDecide(PACKET_FRAME *frame, NET_BUFFER *buffer)
{
    CONNECTION_KEY target;
    IP_HEADER header;
    DECISION decision;
    NTSTATUS status = InjectRetreat(buffer, frame->HiddenLength);

    if (NT_SUCCESS(status))
    {
        status = PacketParseAll(frame, buffer, &header);
        InjectAdvance(buffer, frame->HiddenLength);
    }
    if (!NT_SUCCESS(status))
    {
        return HoldFailPacket(frame->Context, frame->Classify->Layer, NULL, 0, status);
    }
    if (header.Fragment)
    {
        decision = PacketFollowFirstFragment(frame, buffer, &header);
        if (decision != DecisionAsk)
        {
            return decision;
        }
    }
    decision = PacketDecideOnHeader(frame, buffer, &header, &target);
    if (frame->Datagram != 0)
    {
        PacketDecideDatagram(frame, decision, &target);
    }
    return decision;
}

// ---- A chain of packets

static VOID PacketQueueCopy(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer)
{
    if (!NT_SUCCESS(PacketCopy(frame, list, buffer, frame->LastInjection)))
    {
        StatisticsAdd(&frame->Context->Statistics, StatisticInjectFailures, 1);
        PacketTrace(frame, NULL, DecisionAbsorb, "its chain is refused, and it could not be copied");
        return;
    }
    frame->LastInjection = &(*frame->LastInjection)->Next;
}

// Queues copies of all packets before the first refused one in a chain: they are permitted, but the chain is not.
static VOID PacketQueueCopiesBefore(PACKET_FRAME *frame, const NET_BUFFER *end)
{
    const NET_BUFFER_LIST *list;
    NET_BUFFER *buffer;

    for (list = (const NET_BUFFER_LIST *)frame->Classify->LayerData; list != NULL;
         list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        for (buffer = NET_BUFFER_LIST_FIRST_NB(list); buffer != NULL; buffer = NET_BUFFER_NEXT_NB(buffer))
        {
            if (buffer == end)
            {
                return;
            }
            PacketQueueCopy(frame, list, buffer);
        }
    }
}

static VOID PacketPermit(PACKET_FRAME *frame, NET_BUFFER *buffer)
{
    frame->AnyPermitted = TRUE;
    if (frame->AnyRefused)
    {
        PacketQueueCopy(frame, frame->List, buffer);
    }
}

static VOID PacketRefuse(PACKET_FRAME *frame, NET_BUFFER *buffer, DECISION decision)
{
    if (frame->AnyPermitted && !frame->AnyRefused)
    {
        PacketQueueCopiesBefore(frame, buffer);
    }
    frame->AnyRefused = TRUE;
    if (decision != DecisionBlock)
    {
        frame->AnyAbsorbed = TRUE;
    }
}

static VOID PacketExamine(PACKET_FRAME *frame, NET_BUFFER *buffer)
{
    STATISTICS *statistics = &frame->Context->Statistics;
    DECISION decision;

    if (frame->Origin == InjectOriginOwn)
    {
        PacketPermit(frame, buffer);
        return;
    }
    decision = PacketDecide(frame, buffer);
    if (decision == DecisionPermit)
    {
        StatisticsAdd(statistics, StatisticPacketsPermitted, 1);
        PacketPermit(frame, buffer);
        return;
    }
    // A held packet is counted when it is resolved.
    if (decision != DecisionHeld)
    {
        StatisticsAdd(statistics, decision == DecisionRedirect ? StatisticPacketsPermitted : StatisticPacketsBlocked,
                      1);
    }
    PacketRefuse(frame, buffer, decision);
}

static VOID PacketExamineChain(PACKET_FRAME *frame, NET_BUFFER_LIST *list)
{
    NET_BUFFER *buffer;

    for (; list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        frame->List = list;
        frame->Origin = InjectOriginOf(&frame->Context->Injector, frame->Classify->Layer->IpVersion, list);
        for (buffer = NET_BUFFER_LIST_FIRST_NB(list); buffer != NULL; buffer = NET_BUFFER_NEXT_NB(buffer))
        {
            PacketExamine(frame, buffer);
        }
    }
}

static VOID PacketAnswer(const PACKET_FRAME *frame, FWPS_CLASSIFY_OUT0 *out)
{
    if (!frame->AnyRefused)
    {
        ClassifyPermit(out);
    }
    else if (frame->AnyAbsorbed || frame->AnyPermitted)
    {
        ClassifyAbsorb(out);
    }
    else
    {
        ClassifyBlock(out);
    }
}

_Use_decl_annotations_
VOID PacketClassify(CLASSIFY *classify)
{
    PACKET_FRAME frame;

    RtlZeroMemory(&frame, sizeof(frame));
    frame.Classify = classify;
    frame.Context = classify->Context;
    frame.LastInjection = &classify->Injections;
    frame.Extended = ReadNoFence(&frame.Context->Client.Extended) != 0;
    if (PacketIsInbound(&frame) &&
        FWPS_IS_METADATA_FIELD_PRESENT(classify->Metadata, FWPS_METADATA_FIELD_IP_HEADER_SIZE))
    {
        // ipHeaderSize is the real length of the IP header, with options and extension headers.
        frame.HiddenLength = classify->Metadata->ipHeaderSize;
    }
    if (!PacketIsDecided(&frame))
    {
        PacketExamineChain(&frame, (NET_BUFFER_LIST *)classify->LayerData);
    }
    PacketAnswer(&frame, classify->Out);
}

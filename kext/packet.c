#include "packet.h"

#include "classify.h"
#include "context.h"
#include "hold.h"
#include "ip_header.h"

static_assert((UINT32)FWPS_FIELD_INBOUND_IPPACKET_V4_INTERFACE_INDEX ==
                      (UINT32)FWPS_FIELD_OUTBOUND_IPPACKET_V4_INTERFACE_INDEX &&
                  (UINT32)FWPS_FIELD_INBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX ==
                      (UINT32)FWPS_FIELD_OUTBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX &&
                  (UINT32)FWPS_FIELD_INBOUND_IPPACKET_V4_FLAGS == (UINT32)FWPS_FIELD_OUTBOUND_IPPACKET_V4_FLAGS &&
                  (UINT32)FWPS_FIELD_INBOUND_IPPACKET_V4_FLAGS == (UINT32)FWPS_FIELD_INBOUND_IPPACKET_V6_FLAGS,
              "one code for all four layers");

// One classify.
typedef struct _PACKET_FRAME
{
    DRIVER_CONTEXT *Context;
    const FWPS_INCOMING_VALUES0 *Values;
    const FWPS_INCOMING_METADATA_VALUES0 *Metadata;
    NET_BUFFER_LIST *Chain;
    UINT8 IpVersion;
    UINT8 Direction;
    UINT32 HiddenLength;  // inbound, the data start lies behind the IP header
    UINT64 Datagram;      // in the fragment table, while its first fragment is decided on
    INJECT_ORIGIN Origin; // of the list that is examined
    BOOLEAN AnyPermitted;
    BOOLEAN AnyRefused; // the chain is not permitted: permitted packets go on as copies
    BOOLEAN AnyAbsorbed;
    INJECT_PACKET *Injections;
    INJECT_PACKET **LastInjection;
} PACKET_FRAME;

// ---- Deciding on one packet

static BOOLEAN HasPorts(UINT8 protocol)
{
    return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP;
}

// The client is not asked about a connection that ended: its last verdict decides on what is still sent. What is still
// received may open a new connection of the same addresses and ports, on which the ALE layer decides next.
static DECISION DecideKnown(const PACKET_FRAME *frame, const CONNECTION_STATE *state)
{
    const VERDICT_ROW *row = VerdictRow(state->Verdict);

    if (!state->Ended)
    {
        return (DECISION)row->Packet;
    }
    return frame->Direction == DirectionInbound ? DecisionPermit : (DECISION)row->Resolve;
}

static DECISION DecideUnknown(PACKET_FRAME *frame, const CONNECTION_KEY *key, CONNECTION_STATE *state)
{
    NTSTATUS status;

    if (frame->Direction == DirectionInbound)
    {
        // ALE_AUTH_RECV_ACCEPT decides next, and knows the process.
        return DecisionPermit;
    }
    status = ConnectionTableInsert(&frame->Context->Connections, key, 0, DirectionOutbound, state);
    if (NT_SUCCESS(status) || status == STATUS_OBJECT_NAME_COLLISION)
    {
        return DecideKnown(frame, state);
    }
    return HoldFail(frame->Context, status == STATUS_QUOTA_EXCEEDED ? LossHeldPacketLimit : LossOutOfMemory);
}

// Traffic between the client's own resolver or tunnel and this machine.
static BOOLEAN IsClientsOwn(const PACKET_FRAME *frame, const CONNECTION_KEY *key)
{
    return ClientOwnsPort(&frame->Context->Client, key->LocalPort) &&
           RtlEqualMemory(key->LocalAddress, key->RemoteAddress, sizeof(key->LocalAddress));
}

static BOOLEAN HasFlag(const PACKET_FRAME *frame, UINT32 flags)
{
    return (ClassifyUint32(frame->Values, FWPS_FIELD_INBOUND_IPPACKET_V4_FLAGS) & flags) != 0;
}

static BOOLEAN IsLoopback(const PACKET_FRAME *frame)
{
    return HasFlag(frame, FWP_CONDITION_FLAG_IS_LOOPBACK);
}

// An inbound fragment is indicated as a packet first, and is decided on then. What was let in comes again as a
// fragment, and once more as a part of the reassembled datagram, on which the ALE layer decides next.
static BOOLEAN IsDecided(const PACKET_FRAME *frame)
{
    return frame->Direction == DirectionInbound &&
           HasFlag(frame, FWP_CONDITION_FLAG_IS_FRAGMENT | FWP_CONDITION_FLAG_IS_REASSEMBLED);
}

// Only what comes from here is believed to come from the resolver or tunnel; and of those that are not redirected any
// more, it is for the program itself.
static BOOLEAN IsAnswer(const PACKET_FRAME *frame, const CONNECTION_KEY *key, CONNECTION_KEY *original)
{
    CONNECTION_STATE state;

    return frame->Direction == DirectionInbound && ClientOwnsPort(&frame->Context->Client, key->RemotePort) &&
           RtlEqualMemory(key->LocalAddress, key->RemoteAddress, sizeof(key->LocalAddress)) && IsLoopback(frame) &&
           RedirectTableFind(&frame->Context->Redirects, key, original) &&
           ConnectionTableLookup(&frame->Context->Connections, original, &state) && VerdictRedirects(state.Verdict);
}

// Of a packet that could not become what it should.
static DECISION FailRedirect(PACKET_FRAME *frame)
{
    DRIVER_CONTEXT *context = frame->Context;

    StatisticsAdd(&context->Statistics, StatisticInjectFailures, 1);
    if (LogMayRepeat(&context->Log, LogLimitFailure))
    {
        LogWarning(&context->Log, "A packet could not be redirected and was dropped");
    }
    return DecisionAbsorb;
}

static DECISION DecideRedirect(PACKET_FRAME *frame, const CONNECTION_KEY *key, const CONNECTION_STATE *state,
                               CONNECTION_KEY *target)
{
    DRIVER_CONTEXT *context = frame->Context;

    if (state->Direction == DirectionInbound)
    {
        // Nothing to redirect: the program here is who was asked for.
        return DecisionPermit;
    }
    if (frame->Direction == DirectionInbound)
    {
        // Of a redirected connection answers alone are let in, and those that we made come by loopback.
        return IsLoopback(frame) ? DecisionPermit : DecisionAbsorb;
    }
    if (!NT_SUCCESS(RedirectStart(&context->Redirects, state->Verdict,
                                  ClientRedirectPort(&context->Client, state->Verdict), key, target)))
    {
        return FailRedirect(frame);
    }
    return DecisionRedirect;
}

// DecisionAsk: `generation` is the connection's, or 0 where there is none. DecisionRedirect: `target` is what the
// packet's connection becomes.
static DECISION DecideOnKey(PACKET_FRAME *frame, const CONNECTION_KEY *key, UINT32 *generation, CONNECTION_KEY *target)
{
    DECISION decision;
    CONNECTION_STATE state;
    BOOLEAN known;

    *generation = 0;
    if (!HasPorts(key->Protocol))
    {
        return DecisionAsk;
    }
    if (IsClientsOwn(frame, key))
    {
        return DecisionPermit;
    }
    known = ConnectionTableLookup(&frame->Context->Connections, key, &state);
    if ((!known || state.Ended) && IsAnswer(frame, key, target))
    {
        return DecisionRedirect;
    }
    decision = known ? DecideKnown(frame, &state) : DecideUnknown(frame, key, &state);
    if (decision == DecisionAsk)
    {
        *generation = state.Generation;
    }
    return decision == DecisionRedirect ? DecideRedirect(frame, key, &state, target) : decision;
}

static DECISION BlockMalformed(PACKET_FRAME *frame)
{
    DRIVER_CONTEXT *context = frame->Context;

    StatisticsAdd(&context->Statistics, StatisticMalformedPackets, 1);
    if (LogMayRepeat(&context->Log, LogLimitMalformed))
    {
        LogWarning(&context->Log, "A malformed %s IPv%u packet was blocked",
                   frame->Direction == DirectionInbound ? "inbound" : "outbound", frame->IpVersion);
    }
    return DecisionBlock;
}

// ---- Reading the headers. The data start is at the IP header.

// For headers that neither lie in one piece nor fit into the usual length.
static NTSTATUS ParseLongHeaders(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
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

static NTSTATUS ParseScattered(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
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
    return status == STATUS_BUFFER_TOO_SMALL ? ParseLongHeaders(frame, buffer, header) : status;
}

static NTSTATUS Parse(PACKET_FRAME *frame, NET_BUFFER *buffer, IP_HEADER *header)
{
    UINT32 length = NET_BUFFER_DATA_LENGTH(buffer);
    const UINT8 *bytes;
    NTSTATUS status;

    if (length == 0)
    {
        return STATUS_INVALID_PARAMETER;
    }
    bytes = (const UINT8 *)NdisGetDataBuffer(buffer, length, NULL, 1, 0);
    status = bytes != NULL ? IpHeaderParse(bytes, length, length, header) : ParseScattered(frame, buffer, header);
    if (NT_SUCCESS(status) && header->IpVersion != frame->IpVersion)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return status;
}

// ---- Holding

static NTSTATUS Copy(const PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer, INJECT_PACKET **packet)
{
    BOOLEAN inbound = frame->Direction == DirectionInbound;
    BOOLEAN loopback = IsLoopback(frame);
    INJECT_SOURCE source;

    RtlZeroMemory(&source, sizeof(source));
    // A loopback packet has no receive path to be put back into: it is sent once more.
    source.Method = inbound && !loopback ? InjectNetworkReceive : InjectNetworkSend;
    source.Checksum = inbound ? InjectChecksumForInbound(list, loopback) : InjectChecksumPacket;
    source.IpVersion = frame->IpVersion;
    source.Compartment = ClassifyCompartment(frame->Metadata);
    source.InterfaceIndex = ClassifyUint32(frame->Values, FWPS_FIELD_INBOUND_IPPACKET_V4_INTERFACE_INDEX);
    source.SubInterfaceIndex = ClassifyUint32(frame->Values, FWPS_FIELD_INBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX);
    return InjectCopy(&frame->Context->Injector, &source, buffer, packet);
}

static UINT64 ProcessIdOf(const PACKET_FRAME *frame, const CONNECTION_KEY *key, UINT32 generation)
{
    CONNECTION connection;

    if (generation != 0 && ConnectionTableGet(&frame->Context->Connections, key, &connection))
    {
        return connection.ProcessId;
    }
    return 0;
}

static DECISION Hold(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer, const CONNECTION_KEY *key,
                     UINT32 generation)
{
    HOLD_QUESTION question;
    NTSTATUS status;

    RtlZeroMemory(&question, sizeof(question));
    status = Copy(frame, list, buffer, &question.Packets);
    if (status == STATUS_INVALID_PARAMETER)
    {
        return BlockMalformed(frame);
    }
    if (!NT_SUCCESS(status))
    {
        return HoldFail(frame->Context, LossOutOfMemory);
    }
    // Another product's copy of what the client has decided on, which would go round for ever.
    if (frame->Origin == InjectOriginOther && InjectHasReturned(&frame->Context->Injector, question.Packets))
    {
        InjectDropChain(question.Packets);
        return DecisionPermit;
    }
    question.Kind = frame->Direction == DirectionInbound ? HeldPacketInbound : HeldPacketOutbound;
    question.Direction = frame->Direction;
    question.Key = key;
    question.Generation = generation;
    question.Datagram = frame->Datagram;
    question.ProcessId = ProcessIdOf(frame, key, generation);
    question.PayloadLayer = PROTOCOL_PAYLOAD_NETWORK_LAYER;
    return HoldAsk(frame->Context, &question);
}

// ---- One packet. From Retreat to Advance its data start is at the IP header.

static NTSTATUS Retreat(const PACKET_FRAME *frame, NET_BUFFER *buffer)
{
    return frame->HiddenLength != 0 ? NdisRetreatNetBufferDataStart(buffer, frame->HiddenLength, 0, NULL)
                                    : STATUS_SUCCESS;
}

static VOID Advance(const PACKET_FRAME *frame, NET_BUFFER *buffer)
{
    if (frame->HiddenLength != 0)
    {
        NdisAdvanceNetBufferDataStart(buffer, frame->HiddenLength, FALSE, NULL);
    }
}

static VOID QueueInjections(PACKET_FRAME *frame, INJECT_PACKET *packets)
{
    *frame->LastInjection = packets;
    while (*frame->LastInjection != NULL)
    {
        frame->LastInjection = &(*frame->LastInjection)->Next;
    }
}

static DECISION Redirect(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer,
                         const CONNECTION_KEY *target)
{
    INJECT_PACKET *packet;

    if (!NT_SUCCESS(Copy(frame, list, buffer, &packet)))
    {
        return FailRedirect(frame);
    }
    packet = RedirectChain(packet, target, frame->Direction);
    QueueInjections(frame, packet);
    return packet != NULL ? DecisionRedirect : DecisionAbsorb;
}

// DecisionRedirect: `target` is what the packet's connection became.
static DECISION DecideOnPacket(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer,
                               const IP_HEADER *header, CONNECTION_KEY *target)
{
    DECISION decision;
    CONNECTION_KEY key;
    UINT32 generation;

    IpHeaderToKey(header, frame->Direction, &key);
    decision = DecideOnKey(frame, &key, &generation, target);
    switch (decision)
    {
    case DecisionAsk:
        return Hold(frame, list, buffer, &key, generation);
    case DecisionRedirect:
        return Redirect(frame, list, buffer, target);
    default:
        return decision;
    }
}

// ---- Fragments: as the first one of their datagram

static DECISION DecideOnFirstFragment(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer,
                                      const IP_HEADER *header, UINT64 datagram)
{
    DECISION decision;
    INJECT_PACKET *waited;
    CONNECTION_KEY target;

    frame->Datagram = datagram;
    decision = DecideOnPacket(frame, list, buffer, header, &target);
    frame->Datagram = 0;
    // The verdict on a held one decides on the others too, and may have done so already.
    if (decision != DecisionHeld && datagram != 0)
    {
        (VOID) FragmentTableDecide(&frame->Context->Fragments, datagram, decision,
                                   decision == DecisionRedirect ? &target : NULL, &waited);
        QueueInjections(frame, waited);
    }
    return decision;
}

static DECISION WaitForFirstFragment(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer,
                                     UINT64 datagram, CONNECTION_KEY *target, UINT8 *lossReason)
{
    INJECT_PACKET *packet = NULL;

    (VOID) Copy(frame, list, buffer, &packet);
    return FragmentTableWait(&frame->Context->Fragments, datagram, packet, target, lossReason);
}

static DECISION DecideOnFragment(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer,
                                 const IP_HEADER *header)
{
    CONNECTION_KEY target;
    UINT8 lossReason;
    UINT64 datagram;
    DECISION decision = FragmentTableEnter(&frame->Context->Fragments, header, frame->Direction,
                                           ClassifyCompartment(frame->Metadata), &datagram, &target, &lossReason);

    if (decision == DecisionHeld)
    {
        decision = WaitForFirstFragment(frame, list, buffer, datagram, &target, &lossReason);
    }
    switch (decision)
    {
    case DecisionAsk:
        return DecideOnFirstFragment(frame, list, buffer, header, datagram);
    case DecisionRedirect:
        return Redirect(frame, list, buffer, &target);
    case DecisionFail:
        return HoldFail(frame->Context, lossReason);
    default:
        return decision;
    }
}

static DECISION DecideOnBuffer(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer)
{
    CONNECTION_KEY target;
    IP_HEADER header;
    NTSTATUS status = Parse(frame, buffer, &header);

    if (status == STATUS_INSUFFICIENT_RESOURCES)
    {
        return HoldFail(frame->Context, LossOutOfMemory);
    }
    if (!NT_SUCCESS(status))
    {
        return BlockMalformed(frame);
    }
    if (header.Fragment)
    {
        return DecideOnFragment(frame, list, buffer, &header);
    }
    return DecideOnPacket(frame, list, buffer, &header, &target);
}

static VOID CountDecision(PACKET_FRAME *frame, DECISION decision)
{
    // What is held is counted when it is resolved.
    if (decision != DecisionHeld)
    {
        BOOLEAN permitted = decision == DecisionPermit || decision == DecisionRedirect;

        StatisticsAdd(&frame->Context->Statistics, permitted ? StatisticPacketsPermitted : StatisticPacketsBlocked, 1);
    }
}

// The data start is where the chain has it.
static VOID QueueCopy(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer)
{
    NTSTATUS status = Retreat(frame, buffer);

    if (NT_SUCCESS(status))
    {
        status = Copy(frame, list, buffer, frame->LastInjection);
        Advance(frame, buffer);
    }
    if (!NT_SUCCESS(status))
    {
        StatisticsAdd(&frame->Context->Statistics, StatisticInjectFailures, 1);
        return;
    }
    frame->LastInjection = &(*frame->LastInjection)->Next;
}

// The first refusal in a chain: all packets before it were permitted, and must now go on by themselves.
static VOID QueueCopiesBefore(PACKET_FRAME *frame, const NET_BUFFER *end)
{
    NET_BUFFER_LIST *list;
    NET_BUFFER *buffer;

    for (list = frame->Chain; list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        for (buffer = NET_BUFFER_LIST_FIRST_NB(list); buffer != NULL; buffer = NET_BUFFER_NEXT_NB(buffer))
        {
            if (buffer == end)
            {
                return;
            }
            QueueCopy(frame, list, buffer);
        }
    }
}

static VOID NoteDecision(PACKET_FRAME *frame, DECISION decision, const NET_BUFFER *buffer)
{
    if (decision == DecisionPermit)
    {
        frame->AnyPermitted = TRUE;
        return;
    }
    if (frame->AnyPermitted && !frame->AnyRefused)
    {
        QueueCopiesBefore(frame, buffer);
    }
    frame->AnyRefused = TRUE;
    if (decision != DecisionBlock)
    {
        frame->AnyAbsorbed = TRUE;
    }
}

static DECISION Decide(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer)
{
    DECISION decision;

    if (frame->Origin == InjectOriginOwn)
    {
        return DecisionPermit;
    }
    if (NT_SUCCESS(Retreat(frame, buffer)))
    {
        decision = DecideOnBuffer(frame, list, buffer);
        Advance(frame, buffer);
    }
    else
    {
        decision = HoldFail(frame->Context, LossOutOfMemory);
    }
    CountDecision(frame, decision);
    return decision;
}

static VOID ExamineBuffer(PACKET_FRAME *frame, const NET_BUFFER_LIST *list, NET_BUFFER *buffer)
{
    DECISION decision = Decide(frame, list, buffer);

    if (decision == DecisionPermit && frame->AnyRefused)
    {
        QueueCopy(frame, list, buffer);
    }
    NoteDecision(frame, decision, buffer);
}

// ---- One classify

static VOID ExamineChain(PACKET_FRAME *frame)
{
    NET_BUFFER_LIST *list;
    NET_BUFFER *buffer;

    for (list = frame->Chain; list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        frame->Origin = InjectOriginOf(&frame->Context->Injector, frame->IpVersion, list);
        for (buffer = NET_BUFFER_LIST_FIRST_NB(list); buffer != NULL; buffer = NET_BUFFER_NEXT_NB(buffer))
        {
            ExamineBuffer(frame, list, buffer);
        }
    }
}

static VOID Answer(const PACKET_FRAME *frame, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    if (!frame->AnyRefused)
    {
        ClassifyPermit(classifyOut);
    }
    else if (frame->AnyAbsorbed || frame->AnyPermitted)
    {
        ClassifyAbsorb(classifyOut);
    }
    else
    {
        ClassifyBlock(classifyOut);
    }
}

static VOID Prepare(DRIVER_CONTEXT *context, const FWPS_INCOMING_VALUES0 *values,
                    const FWPS_INCOMING_METADATA_VALUES0 *metadata, NET_BUFFER_LIST *chain, PACKET_FRAME *frame)
{
    UINT16 layer = values->layerId;

    RtlZeroMemory(frame, sizeof(*frame));
    frame->Context = context;
    frame->Values = values;
    frame->Metadata = metadata;
    frame->Chain = chain;
    frame->IpVersion = layer == FWPS_LAYER_INBOUND_IPPACKET_V6 || layer == FWPS_LAYER_OUTBOUND_IPPACKET_V6 ? 6 : 4;
    frame->Direction = layer == FWPS_LAYER_INBOUND_IPPACKET_V4 || layer == FWPS_LAYER_INBOUND_IPPACKET_V6
                           ? DirectionInbound
                           : DirectionOutbound;
    if (frame->Direction == DirectionInbound &&
        FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_IP_HEADER_SIZE))
    {
        // As long as it really is, options and extension headers included.
        frame->HiddenLength = metadata->ipHeaderSize;
    }
    frame->LastInjection = &frame->Injections;
}

_Use_decl_annotations_
void NTAPI PacketClassify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                          void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter, UINT64 flowContext,
                          FWPS_CLASSIFY_OUT0 *classifyOut)
{
    DRIVER_CONTEXT *context = ContextOfFilter(filter);
    PACKET_FRAME frame;
    RUNDOWN_SLOT *slot;
    CLIENT_MODE mode;

    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    if (!ClassifyMayDecide(classifyOut))
    {
        return;
    }
    slot = ClientEnterClassify(&context->Client, &mode);
    if (slot == NULL)
    {
        ClassifyWithoutClient(mode == ClientAbsentBlock, classifyOut);
        return;
    }

    Prepare(context, values, metadata, (NET_BUFFER_LIST *)layerData, &frame);
    if (!IsDecided(&frame))
    {
        ExamineChain(&frame);
    }
    Answer(&frame, classifyOut);
    ClientLeaveClassify(&context->Client, slot);

    // Outside: an injected packet may be classified on this stack.
    InjectChain(frame.Injections);
}

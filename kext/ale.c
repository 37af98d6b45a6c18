#include "ale.h"

#include "address.h"
#include "connection_text.h"
#include "context.h"
#include "flow.h"
#include "hold.h"
#include "icmp.h"
#include "report.h"
#include "scope.h"

// One classify at an authorizing layer.
typedef struct _ALE_OPERATION
{
    const CLASSIFY *Classify;
    DRIVER_CONTEXT *Context;
    NET_BUFFER_LIST *NetBufferList; // NULL for a TCP connect, which has no packet yet
    CONNECTION_KEY Key;
    UINT32 Generation;
    UINT64 ProcessId;
    BOOLEAN Reauthorization;
    BOOLEAN New;      // the connection was not known before
    UINT8 IcmpType;   // ICMP_TYPE_NONE: another protocol
    BOOLEAN Nameless; // an echo whose identifier is not known: the packet layer knows it
} ALE_OPERATION;

// ---- Copying the packet of an operation

// Returns whether the packet is inbound. On reauthorization its direction may differ from the connection's.
static BOOLEAN AleIsPacketInbound(const CLASSIFY *classify)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = classify->Metadata;

    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_PACKET_DIRECTION)
               ? metadata->packetDirection == FWP_DIRECTION_INBOUND
               : classify->Layer->Direction == DirectionInbound;
}

// Returns the bytes before the layer's data, which starts behind both headers of an inbound packet.
static UINT32 AleHiddenLength(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    UINT32 length = metadata->ipHeaderSize;

    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE))
    {
        length += metadata->transportHeaderSize;
    }
    return length;
}

static VOID AleDescribeInbound(const ALE_OPERATION *operation, INJECT_SOURCE *source)
{
    const CLASSIFY *classify = operation->Classify;

    source->Method = InjectTransportReceive;
    source->HiddenLength = AleHiddenLength(classify->Metadata);
    source->IpHeaderLength = classify->Metadata->ipHeaderSize;
    source->Protocol = operation->Key.Protocol;
    source->InterfaceIndex = ClassifyUint32(classify->Values, classify->Layer->Fields.InterfaceIndex);
    source->SubInterfaceIndex = ClassifyUint32(classify->Values, classify->Layer->Fields.SubInterfaceIndex);
}

static VOID AleDescribeOutbound(const ALE_OPERATION *operation, INJECT_SOURCE *source)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Classify->Metadata;

    source->Method = InjectTransportSend;
    source->Checksum = ConnectionKeyHasPorts(&operation->Key) ? InjectChecksumTransport : InjectChecksumKeep;
    source->Protocol = operation->Key.Protocol;
    source->LocalAddress = operation->Key.LocalAddress;
    source->RemoteAddress = operation->Key.RemoteAddress;
    source->Scope = operation->Key.Scope;
    source->EndpointHandle = ClassifyEndpointHandle(metadata);
    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_REMOTE_SCOPE_ID))
    {
        source->RemoteScopeId = metadata->remoteScopeId;
    }
    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA) &&
        metadata->controlData != NULL)
    {
        source->ControlData = metadata->controlData;
        source->ControlDataLength = metadata->controlDataLength;
    }
    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_TRANSPORT_HEADER_INCLUDE_HEADER) &&
        metadata->headerIncludeHeader != NULL)
    {
        source->HeaderInclude = metadata->headerIncludeHeader;
        source->HeaderIncludeLength = metadata->headerIncludeHeaderLength;
    }
}

// Appends a copy of every packet of one list at `last`, and moves `last` to the new end.
static NTSTATUS AleCopyList(const ALE_OPERATION *operation, const INJECT_SOURCE *source, const NET_BUFFER_LIST *list,
                            INJECT_PACKET ***last)
{
    NTSTATUS status = STATUS_SUCCESS;
    NET_BUFFER *buffer;

    for (buffer = NET_BUFFER_LIST_FIRST_NB(list); NT_SUCCESS(status) && buffer != NULL;
         buffer = NET_BUFFER_NEXT_NB(buffer))
    {
        status = InjectCopy(&operation->Context->Injector, source, buffer, *last);
        if (NT_SUCCESS(status))
        {
            *last = &(**last)->Next;
        }
    }
    return status;
}

// IPsec has verified a secured packet with all its checksums.
static VOID AleDescribeInboundList(const CLASSIFY *classify, const NET_BUFFER_LIST *list, INJECT_SOURCE *source)
{
    source->Secured = InjectIsSecured(list);
    source->Checksum =
        source->Secured ? InjectChecksumPacket : InjectChecksumForInbound(list, ClassifyIsLoopback(classify));
}

// Copies every packet of the operation into one chain: all or nothing.
static NTSTATUS AleCopyPackets(const ALE_OPERATION *operation, INJECT_PACKET **packets)
{
    const CLASSIFY *classify = operation->Classify;
    BOOLEAN inbound = AleIsPacketInbound(classify);
    INJECT_PACKET **last = packets;
    NTSTATUS status = STATUS_SUCCESS;
    const NET_BUFFER_LIST *list;
    INJECT_SOURCE source;

    if (inbound && !FWPS_IS_METADATA_FIELD_PRESENT(classify->Metadata, FWPS_METADATA_FIELD_IP_HEADER_SIZE))
    {
        return STATUS_NOT_SUPPORTED;
    }
    RtlZeroMemory(&source, sizeof(source));
    source.IpVersion = operation->Key.IpVersion;
    source.Compartment = ClassifyCompartment(classify->Metadata);
    if (inbound)
    {
        AleDescribeInbound(operation, &source);
    }
    else
    {
        AleDescribeOutbound(operation, &source);
    }
    for (list = operation->NetBufferList; NT_SUCCESS(status) && list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        if (inbound)
        {
            AleDescribeInboundList(classify, list, &source);
        }
        status = AleCopyList(operation, &source, list, &last);
    }
    if (!NT_SUCCESS(status))
    {
        InjectDropChain(*packets);
        *packets = NULL;
    }
    return status;
}

// ---- Holding

static BOOLEAN AleIsHeldWithoutOperation(const ALE_OPERATION *operation)
{
    return operation->NetBufferList != NULL && !operation->New &&
           ConnectionTableIsPending(&operation->Context->Connections, &operation->Key, operation->Generation);
}

// Only a first authorization can be pended, and only once until its verdict.
// A later packet of a pending connection is held without an operation.
// A TCP connect has no packet, so its operation is pended or nothing is held.
static HANDLE AleCompletionHandle(const ALE_OPERATION *operation)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Classify->Metadata;

    if (operation->Reauthorization || AleIsHeldWithoutOperation(operation) ||
        !FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_COMPLETION_HANDLE))
    {
        return NULL;
    }
    return metadata->completionHandle;
}

// What follows the completion of an echo request's authorization shows no identifier.
static VOID AleNotePendedEcho(const ALE_OPERATION *operation)
{
    if (operation->Classify->Layer->Direction == DirectionOutbound && operation->IcmpType != ICMP_TYPE_NONE &&
        IcmpIsEcho(operation->Key.IpVersion, operation->IcmpType))
    {
        PendedEchoesNote(&operation->Context->PendedEchoes, ClassifyEndpointHandle(operation->Classify->Metadata),
                         &operation->Key);
    }
}

static VOID AleReadPath(const ALE_OPERATION *operation, const WCHAR **path, UINT32 *bytes)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Classify->Metadata;

    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_PROCESS_PATH) && metadata->processPath != NULL)
    {
        *path = (const WCHAR *)metadata->processPath->data;
        *bytes = metadata->processPath->size;
    }
}

// Once a connection has its process, any record may name that process, so the process is reported before.
// The packet layer may have seen the connection first, but it knows no process path. A question reports it by itself.
static VOID AleReportProcess(const ALE_OPERATION *operation, DECISION decision)
{
    EVENTS *events = &operation->Context->Events;
    const WCHAR *path = NULL;
    UINT32 bytes = 0;
    LANE_OWNER owner;

    AleReadPath(operation, &path, &bytes);
    if (path == NULL)
    {
        return;
    }
    EventNoteImage(events, operation->ProcessId, path, bytes);
    if (decision != DecisionAsk)
    {
        EventOwner(events, &operation->Key, operation->Classify->Layer->Direction, operation->ProcessId, &owner);
        (VOID) EventProcessInfo(events, &owner, operation->ProcessId, path, bytes);
    }
}

// The client is not asked. It is told of the process before a record names that process.
static DECISION AleFailStalled(const ALE_OPERATION *operation, const HOLD_QUESTION *question)
{
    if (operation->ProcessId != 0)
    {
        AleReportProcess(operation, DecisionPermit);
    }
    return HoldFailStalled(operation->Context, question, FALSE);
}

static VOID AleDescribe(const ALE_OPERATION *operation, HOLD_QUESTION *question)
{
    UINT8 direction = operation->Classify->Layer->Direction;

    RtlZeroMemory(question, sizeof(*question));
    question->Kind = direction == DirectionOutbound ? HeldAleConnect : HeldAleRecvAccept;
    question->Direction = direction;
    question->Key = &operation->Key;
    question->Generation = operation->Generation;
    question->ProcessId = operation->ProcessId;
    HoldDescribe(question, operation->Classify);
    question->PayloadLayer = PROTOCOL_PAYLOAD_TRANSPORT_LAYER;
    question->CompletionHandle = AleCompletionHandle(operation);
    question->Begins = !operation->Reauthorization;
    AleReadPath(operation, &question->Path, &question->PathBytes);
}

static DECISION AleHold(const ALE_OPERATION *operation)
{
    UINT8 direction = operation->Classify->Layer->Direction;
    CLIENT *client = &operation->Context->Client;
    NTSTATUS status = STATUS_SUCCESS;
    HOLD_QUESTION question;

    AleDescribe(operation, &question);
    if (ClientIsStalled(client))
    {
        return AleFailStalled(operation, &question);
    }
    if (operation->NetBufferList == NULL && question.CompletionHandle == NULL && ReadNoFence(&client->Extended) != 0)
    {
        // Nothing could be held until the verdict. A base client is asked all the same.
        return HoldFail(operation->Context, &operation->Key, direction, operation->ProcessId, STATUS_NOT_SUPPORTED);
    }
    if (operation->NetBufferList != NULL)
    {
        status = AleCopyPackets(operation, &question.Packets);
    }
    if (question.CompletionHandle != NULL)
    {
        AleNotePendedEcho(operation);
    }
    return NT_SUCCESS(status) ? HoldAsk(operation->Context, &question)
                              : HoldFailPacket(operation->Context, operation->Classify->Layer, &operation->Key,
                                               operation->ProcessId, status);
}

// ---- Deciding

// The program's image owns the connection's place in the table.
static VOID AleNoteOrigin(const ALE_OPERATION *operation)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Classify->Metadata;
    CONNECTION_ORIGIN origin;

    RtlZeroMemory(&origin, sizeof(origin));
    origin.ProcessId = operation->ProcessId;
    origin.IsOlder = operation->Reauthorization;
    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_PROCESS_PATH) && metadata->processPath != NULL)
    {
        origin.Path = metadata->processPath->data;
        origin.PathBytes = metadata->processPath->size;
    }
    ConnectionTableSetOrigin(&operation->Context->Connections, &operation->Key, operation->Generation, &origin);
}

// `decision` is the one of `verdict`, which the connection has.
static VOID AleTraceRefused(const ALE_OPERATION *operation, DECISION decision, UINT8 verdict)
{
    CONNECTION_TEXT text;

    LogTrace(&operation->Context->Log, "%s: authorization of %s, process %llu: verdict %s",
             VerdictDecisionText(decision),
             ConnectionTextWrite(&text, &operation->Key, operation->Classify->Layer->Direction),
             (unsigned long long)operation->ProcessId, VerdictRow(verdict)->Name);
}

// A sender to many may get answers from anybody, and the broadcast address of a subnet is known at this layer alone.
static VOID AleNoteDestination(const ALE_OPERATION *operation, const CONNECTION_STATE *state)
{
    const CONNECTION_KEY *key = &operation->Key;
    BOOLEAN broadcast = ClassifyIsBroadcast(operation->Classify);

    if (operation->Classify->Layer->Direction != DirectionOutbound ||
        (!broadcast && !AddressIsOfMany(key->IpVersion, key->RemoteAddress)))
    {
        return;
    }
    if (key->Protocol == PROTOCOL_UDP)
    {
        MulticastPortsNote(&operation->Context->MulticastPorts, key->IpVersion, key->LocalPort);
    }
    if (broadcast && !state->Broadcast)
    {
        ConnectionTableSetBroadcast(&operation->Context->Connections, key);
    }
}

// A connection that is first seen at a reauthorization may be older than the filters, and may have come up before.
static VOID AleNoteConnect(const ALE_OPERATION *operation)
{
    if (!operation->Reauthorization && operation->Key.Protocol == PROTOCOL_TCP &&
        operation->Classify->Layer->Direction == DirectionOutbound)
    {
        ConnectionTableSetConnecting(&operation->Context->Connections, &operation->Key, operation->Generation,
                                     ClassifyEndpointHandle(operation->Classify->Metadata));
    }
}

// A temporary refusal is for one attempt. The filter engine remembers that it refused a live flow.
// It forgets that by a reauthorization, so the client is asked about the flow's next packet.
static VOID AleSpendVerdict(const ALE_OPERATION *operation, UINT8 verdict)
{
    ConnectionTableForgetVerdict(&operation->Context->Connections, &operation->Key, operation->Generation, verdict);
    if (operation->Reauthorization && operation->NetBufferList != NULL)
    {
        EngineRequestReauthorization(&operation->Context->Engine);
        EngineReauthorize(&operation->Context->Engine);
    }
}

static DECISION AleDecideByVerdict(const ALE_OPERATION *operation, const CONNECTION_STATE *state)
{
    UINT8 direction = operation->Classify->Layer->Direction;
    const VERDICT_ROW *row = VerdictRow(state->Verdict);

    if (direction == DirectionOutbound && VerdictIsForOneAttempt(row) &&
        ReadNoFence(&operation->Context->Client.Extended) != 0)
    {
        AleSpendVerdict(operation, state->Verdict);
        return (DECISION)row->Attempt;
    }
    if (direction == DirectionOutbound && state->Stalled && state->Verdict == VerdictAccept)
    {
        // The fail policy let this attempt in for a stalled client, which is asked about its packets.
        ConnectionTableForgetVerdict(&operation->Context->Connections, &operation->Key, operation->Generation,
                                     VerdictAccept);
    }
    return (DECISION)row->Ale[direction];
}

static DECISION AleDecide(ALE_OPERATION *operation)
{
    CONNECTION_TABLE *connections = &operation->Context->Connections;
    UINT8 direction = operation->Classify->Layer->Direction;
    CONNECTION_STATE state;
    NTSTATUS status = ConnectionTableFindOrInsert(connections, &operation->Key, 0, direction, &state);
    DECISION decision;

    if (!NT_SUCCESS(status))
    {
        return HoldFail(operation->Context, &operation->Key, direction, operation->ProcessId, status);
    }
    operation->Generation = state.Generation;
    operation->New = status != STATUS_OBJECT_NAME_EXISTS;
    AleNoteDestination(operation, &state);
    if (operation->New)
    {
        DeferredRunAfter(&operation->Context->Deferred, CONNECTION_IDLE_MS, CONNECTION_CLEAN_TOLERANCE_MS);
        AleNoteConnect(operation);
    }
    if (operation->New || state.ProcessId == 0)
    {
        AleNoteOrigin(operation);
    }
    decision = AleDecideByVerdict(operation, &state);
    if (operation->ProcessId != 0 && (state.ProcessId == 0 || operation->Reauthorization))
    {
        AleReportProcess(operation, decision);
    }
    if (decision != DecisionAsk && state.ProcessId == 0 && operation->ProcessId != 0)
    {
        // The packet layer saw this connection first. A held connection gets its process when it becomes pending.
        (VOID) ConnectionTableFindOrInsert(connections, &operation->Key, operation->ProcessId, direction, &state);
    }
    if (decision == DecisionBlock || decision == DecisionAbsorb)
    {
        AleTraceRefused(operation, decision, state.Verdict);
    }
    if (decision == DecisionPermit && operation->Key.Protocol == PROTOCOL_TCP && !state.Authorized)
    {
        ConnectionTableSetAuthorized(connections, &operation->Key, operation->Generation);
    }
    return decision;
}

// An extended client is asked here about every protocol. A base client is asked at the packet layer, about each packet.
// A connection without a scope has no entry, so the packet layer asks about each packet.
static BOOLEAN AleIsLeftToPacketLayer(const ALE_OPERATION *operation)
{
    DRIVER_CONTEXT *context = operation->Context;

    if (operation->Key.Scope == SCOPE_NONE)
    {
        return TRUE;
    }
    if (ReadNoFence(&context->Client.Extended) == 0)
    {
        return !ConnectionKeyHasPorts(&operation->Key);
    }
    return operation->Nameless ||
           (!ClientHasFlag(&context->Client, OPTION_FLAG_ASK_CONTROL_TRAFFIC) &&
            ControlTrafficPermits(&context->ControlTraffic, &operation->Key, operation->Classify->Layer->Direction,
                                  operation->IcmpType, CONTROL_ANY_HOP_LIMIT));
}

static DECISION AleAuthorize(ALE_OPERATION *operation)
{
    const CONNECTION_KEY *key = &operation->Key;
    DECISION decision;

    if (operation->NetBufferList != NULL &&
        InjectOriginOf(&operation->Context->Injector, key->IpVersion, operation->NetBufferList) == InjectOriginOwn)
    {
        return DecisionPermit;
    }
    // A redirect's answer is an injected packet here, so it was permitted above.
    if (ClassifyIsLoopback(operation->Classify) &&
        ClientHasFlag(&operation->Context->Client, OPTION_FLAG_PERMIT_LOOPBACK))
    {
        return DecisionPermit;
    }
    if (AleIsLeftToPacketLayer(operation))
    {
        return DecisionPermit;
    }
    decision = AleDecide(operation);
    return decision == DecisionAsk ? AleHold(operation) : decision;
}

// Once the client has permitted its own connection, no other product may keep it from the network.
static BOOLEAN AleIsClientsOwn(const ALE_OPERATION *operation)
{
    return operation->Classify->Layer->Direction == DirectionOutbound && operation->ProcessId != 0 &&
           operation->ProcessId == (UINT64)ReadNoFence64(&operation->Context->Client.ProcessId);
}

static VOID AleAnswer(const ALE_OPERATION *operation, DECISION decision)
{
    FWPS_CLASSIFY_OUT0 *out = operation->Classify->Out;

    if (decision == DecisionPermit)
    {
        if (AleIsClientsOwn(operation))
        {
            ClassifyPermitFinally(out);
        }
        else
        {
            ClassifyPermit(out);
        }
        return;
    }
    // A held packet or operation is counted when it is resolved.
    if (decision != DecisionHeld)
    {
        StatisticsAdd(&operation->Context->Statistics, StatisticPacketsBlocked, 1);
    }
    if (decision == DecisionBlock)
    {
        ClassifyBlock(out);
    }
    else
    {
        ClassifyAbsorb(out);
    }
}

// Reads the four bytes of an echo that hold its identifier. Reauthorizations may show neither packet nor metadata.
static BOOLEAN AleReadEcho(const ALE_OPERATION *operation, UINT8 *identifier)
{
    NET_BUFFER *buffer = operation->NetBufferList != NULL ? NET_BUFFER_LIST_FIRST_NB(operation->NetBufferList) : NULL;
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Classify->Metadata;
    UINT8 storage[ICMP_HEADER_LENGTH];

    if (buffer != NULL && NET_BUFFER_DATA_LENGTH(buffer) >= sizeof(storage))
    {
        const UINT8 *bytes = (const UINT8 *)NdisGetDataBuffer(buffer, sizeof(storage), storage, 1, 0);

        if (bytes != NULL)
        {
            RtlCopyMemory(identifier, bytes + ICMP_IDENTIFIER_OFFSET, sizeof(metadata->icmpIdAndSequence));
            return TRUE;
        }
    }
    RtlCopyMemory(identifier, &metadata->icmpIdAndSequence, sizeof(metadata->icmpIdAndSequence));
    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_ICMP_ID_AND_SEQUENCE);
}

// Returns whether a reauthorization without an identifier is of an echo that the client refused.
// It is refused here, so that its program learns of it. What is not refused is left to the packet layer.
static BOOLEAN AleIsRefusedEcho(ALE_OPERATION *operation)
{
    DRIVER_CONTEXT *context = operation->Context;
    CONNECTION_KEY key = operation->Key;
    CONNECTION_STATE state;

    if (!operation->Reauthorization || operation->Classify->Layer->Direction != DirectionOutbound ||
        !PendedEchoesFind(&context->PendedEchoes, ClassifyEndpointHandle(operation->Classify->Metadata), &key) ||
        !ConnectionTableLookup(&context->Connections, &key, &state) || state.Ended ||
        state.Verdict == VerdictUndecided || VerdictRow(state.Verdict)->Resolve != DecisionAbsorb)
    {
        return FALSE;
    }
    operation->Key = key;
    return TRUE;
}

// The layer has an ICMP message's type and code in place of ports.
static VOID AleReadIcmp(ALE_OPERATION *operation)
{
    UINT8 identifier[sizeof(UINT32)];
    ICMP_MESSAGE message;

    RtlZeroMemory(&message, sizeof(message));
    message.Type = (UINT8)operation->Key.LocalPort;
    message.Code = (UINT8)operation->Key.RemotePort;
    if (IcmpIsEcho(operation->Key.IpVersion, message.Type))
    {
        operation->Nameless = !AleReadEcho(operation, identifier);
        message.Identifier = (UINT16)((UINT32)identifier[0] << 8 | identifier[1]);
    }
    operation->IcmpType = message.Type;
    IcmpSetKey(&message, operation->Classify->Layer->Direction, &operation->Key);
    operation->Nameless = operation->Nameless && !AleIsRefusedEcho(operation);
}

static VOID AleReadKey(ALE_OPERATION *operation)
{
    CONNECTION_KEY *key = &operation->Key;

    ClassifyKey(operation->Classify->Layer, operation->Classify->Values, key);
    ScopeSet(operation->Classify, key);
    operation->IcmpType = ICMP_TYPE_NONE;
    if (IcmpIs(key->IpVersion, key->Protocol))
    {
        AleReadIcmp(operation);
    }
    else if (!ConnectionKeyHasPorts(key))
    {
        key->LocalPort = 0;
        key->RemotePort = 0;
    }
}

_Use_decl_annotations_
VOID AleClassifyAuthorize(CLASSIFY *classify)
{
    ALE_OPERATION operation;

    RtlZeroMemory(&operation, sizeof(operation));
    operation.Classify = classify;
    operation.Context = classify->Context;
    operation.NetBufferList = (NET_BUFFER_LIST *)classify->LayerData;
    operation.ProcessId = ClassifyProcessId(classify->Metadata);
    operation.Reauthorization = ClassifyHasFlag(classify, FWP_CONDITION_FLAG_IS_REAUTHORIZE);
    AleReadKey(&operation);
    AleAnswer(&operation, AleAuthorize(&operation));
}

// ---- The life of connections

_Use_decl_annotations_
VOID AleClassifyEstablished(CLASSIFY *classify)
{
    CONNECTION_KEY key;

    ClassifyKey(classify->Layer, classify->Values, &key);
    if (key.Protocol == PROTOCOL_TCP)
    {
        ScopeSeek(classify, ClassifyEndpointHandle(classify->Metadata), &key);
        ConnectionTableSetEstablished(&classify->Context->Connections, &key, ClassifyFlowHandle(classify->Metadata));
        // The verdict may have come during the handshake.
        FlowAbortBlocked(classify->Context, &key);
    }
}

_Use_decl_annotations_
VOID AleClassifyClosure(CLASSIFY *classify)
{
    CONNECTION_KEY key;

    ClassifyKey(classify->Layer, classify->Values, &key);
    ScopeSeek(classify, ClassifyEndpointHandle(classify->Metadata), &key);
    ReportEnd(classify->Context, &key, 0, EndReasonClosed);
}

_Use_decl_annotations_
VOID AleLogAssignment(CLASSIFY *classify)
{
    const LAYER *layer = classify->Layer;

    LogDebug(&classify->Context->Log, "Process %llu binds IPv%u protocol %u port %u",
             (unsigned long long)ClassifyProcessId(classify->Metadata), layer->IpVersion,
             ClassifyUint8(classify->Values, layer->Fields.Protocol),
             ClassifyUint16(classify->Values, layer->Fields.LocalPort));
}

_Use_decl_annotations_
VOID AleClassifyRelease(CLASSIFY *classify)
{
    CONNECTION_RELEASE release;
    CONNECTION_KEY key;

    ClassifyKey(classify->Layer, classify->Values, &key);
    RtlZeroMemory(&release, sizeof(release));
    release.IpVersion = key.IpVersion;
    release.Protocol = key.Protocol;
    release.LocalPort = key.LocalPort;
    RtlCopyMemory(release.LocalAddress, key.LocalAddress, sizeof(release.LocalAddress));
    // The release names its process, because other processes may have bound the same port.
    release.ProcessId = ClassifyProcessId(classify->Metadata);
    release.EndpointHandle = ClassifyEndpointHandle(classify->Metadata);
    ScopeSpareOthers(classify, &release);
    ReportEndsOfPort(classify->Context, &release);
}

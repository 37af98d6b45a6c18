#include "ale.h"

#include "classify.h"
#include "context.h"
#include "hold.h"

static_assert((UINT32)FWPS_FIELD_ALE_AUTH_CONNECT_V4_FLAGS == (UINT32)FWPS_FIELD_ALE_AUTH_CONNECT_V6_FLAGS &&
                  (UINT32)FWPS_FIELD_ALE_AUTH_CONNECT_V4_SUB_INTERFACE_INDEX ==
                      (UINT32)FWPS_FIELD_ALE_AUTH_CONNECT_V6_SUB_INTERFACE_INDEX &&
                  (UINT32)FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_FLAGS ==
                      (UINT32)FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V6_FLAGS &&
                  (UINT32)FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_SUB_INTERFACE_INDEX ==
                      (UINT32)FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V6_SUB_INTERFACE_INDEX &&
                  (UINT32)FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_PORT ==
                      (UINT32)FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V6_IP_REMOTE_PORT &&
                  (UINT32)FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_PROTOCOL ==
                      (UINT32)FWPS_FIELD_ALE_RESOURCE_RELEASE_V6_IP_PROTOCOL &&
                  (UINT32)FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_PROTOCOL ==
                      (UINT32)FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V6_IP_PROTOCOL,
              "one code for both IP versions");

// Where one of the two authorizing layers has its values.
typedef struct _ALE_LAYER
{
    HELD_KIND Kind;
    UINT8 Direction;
    UINT32 LocalAddress;
    UINT32 LocalPort;
    UINT32 Protocol;
    UINT32 RemoteAddress;
    UINT32 RemotePort;
    UINT32 Flags;
    UINT32 InterfaceIndex;
    UINT32 SubInterfaceIndex;
} ALE_LAYER;

static const ALE_LAYER ConnectLayer = {HeldAleConnect,
                                       DirectionOutbound,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_ADDRESS,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_PORT,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_PROTOCOL,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_ADDRESS,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_PORT,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_FLAGS,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_INTERFACE_INDEX,
                                       FWPS_FIELD_ALE_AUTH_CONNECT_V4_SUB_INTERFACE_INDEX};

static const ALE_LAYER RecvAcceptLayer = {HeldAleRecvAccept,
                                          DirectionInbound,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_LOCAL_ADDRESS,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_LOCAL_PORT,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_PROTOCOL,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_REMOTE_ADDRESS,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_IP_REMOTE_PORT,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_FLAGS,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_INTERFACE_INDEX,
                                          FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_SUB_INTERFACE_INDEX};

// One classify at an authorizing layer.
typedef struct _ALE_OPERATION
{
    DRIVER_CONTEXT *Context;
    const ALE_LAYER *Layer;
    const FWPS_INCOMING_VALUES0 *Values;
    const FWPS_INCOMING_METADATA_VALUES0 *Metadata;
    NET_BUFFER_LIST *NetBufferList; // or NULL: a TCP connect has no packet yet
    CONNECTION_KEY Key;
    UINT32 Generation;
    UINT64 ProcessId;
    BOOLEAN Reauthorization;
    BOOLEAN New; // not known before
} ALE_OPERATION;

static UINT8 IpVersionOf(UINT16 layerId)
{
    switch (layerId)
    {
    case FWPS_LAYER_ALE_AUTH_CONNECT_V6:
    case FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6:
    case FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V6:
    case FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V6:
    case FWPS_LAYER_ALE_RESOURCE_RELEASE_V6:
        return 6;
    default:
        return 4;
    }
}

static UINT64 ProcessIdOf(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_PROCESS_ID) ? metadata->processId : 0;
}

// ---- Copying the packet of an operation

// Which way the packet goes; on reauthorization not always the connection's way.
static BOOLEAN IsPacketInbound(const ALE_OPERATION *operation)
{
    if (FWPS_IS_METADATA_FIELD_PRESENT(operation->Metadata, FWPS_METADATA_FIELD_PACKET_DIRECTION))
    {
        return operation->Metadata->packetDirection == FWP_DIRECTION_INBOUND;
    }
    return operation->Layer->Direction == DirectionInbound;
}

static BOOLEAN IsLoopback(const ALE_OPERATION *operation)
{
    return (ClassifyUint32(operation->Values, operation->Layer->Flags) & FWP_CONDITION_FLAG_IS_LOOPBACK) != 0;
}

// What of the packet lies before the data start that the layer gives: inbound both headers, outbound nothing.
static UINT32 HiddenHeaderLength(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    UINT32 length = metadata->ipHeaderSize;

    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE))
    {
        length += metadata->transportHeaderSize;
    }
    return length;
}

static VOID DescribeInbound(const ALE_OPERATION *operation, INJECT_SOURCE *source)
{
    source->Method = InjectTransportReceive;
    source->InterfaceIndex = ClassifyUint32(operation->Values, operation->Layer->InterfaceIndex);
    source->SubInterfaceIndex = ClassifyUint32(operation->Values, operation->Layer->SubInterfaceIndex);
}

static VOID DescribeOutbound(const ALE_OPERATION *operation, INJECT_SOURCE *source)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Metadata;

    source->Method = InjectTransportSend;
    source->Checksum = InjectChecksumTransport;
    source->Protocol = operation->Key.Protocol;
    source->LocalAddress = operation->Key.LocalAddress;
    source->RemoteAddress = operation->Key.RemoteAddress;
    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE))
    {
        source->EndpointHandle = metadata->transportEndpointHandle;
    }
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

static NTSTATUS CopyBuffer(const ALE_OPERATION *operation, const INJECT_SOURCE *source, UINT32 hiddenLength,
                           NET_BUFFER *buffer, INJECT_PACKET **packet)
{
    NTSTATUS status;

    if (hiddenLength == 0)
    {
        return InjectCopy(&operation->Context->Injector, source, buffer, packet);
    }
    status = NdisRetreatNetBufferDataStart(buffer, hiddenLength, 0, NULL);
    if (NT_SUCCESS(status))
    {
        status = InjectCopy(&operation->Context->Injector, source, buffer, packet);
        NdisAdvanceNetBufferDataStart(buffer, hiddenLength, FALSE, NULL);
    }
    return status;
}

// Appends copies of every packet of one list at `last`, and moves that on.
static NTSTATUS CopyList(const ALE_OPERATION *operation, const INJECT_SOURCE *source, UINT32 hiddenLength,
                         const NET_BUFFER_LIST *list, INJECT_PACKET ***last)
{
    NTSTATUS status = STATUS_SUCCESS;
    NET_BUFFER *buffer;

    for (buffer = NET_BUFFER_LIST_FIRST_NB(list); NT_SUCCESS(status) && buffer != NULL;
         buffer = NET_BUFFER_NEXT_NB(buffer))
    {
        status = CopyBuffer(operation, source, hiddenLength, buffer, *last);
        if (NT_SUCCESS(status))
        {
            *last = &(**last)->Next;
        }
    }
    return status;
}

// Copies every packet of the operation into one chain. All or nothing.
static NTSTATUS CopyPackets(const ALE_OPERATION *operation, INJECT_PACKET **packets, UINT32 *payloadOffset)
{
    BOOLEAN inbound = IsPacketInbound(operation);
    UINT32 hiddenLength = inbound ? HiddenHeaderLength(operation->Metadata) : 0;
    INJECT_PACKET **last = packets;
    NTSTATUS status = STATUS_SUCCESS;
    const NET_BUFFER_LIST *list;
    INJECT_SOURCE source;

    RtlZeroMemory(&source, sizeof(source));
    source.IpVersion = operation->Key.IpVersion;
    source.Compartment = ClassifyCompartment(operation->Metadata);
    if (inbound)
    {
        if (!FWPS_IS_METADATA_FIELD_PRESENT(operation->Metadata, FWPS_METADATA_FIELD_IP_HEADER_SIZE))
        {
            return STATUS_NOT_SUPPORTED;
        }
        DescribeInbound(operation, &source);
    }
    else
    {
        DescribeOutbound(operation, &source);
    }
    *payloadOffset = inbound ? operation->Metadata->ipHeaderSize : 0;

    for (list = operation->NetBufferList; NT_SUCCESS(status) && list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        if (inbound)
        {
            source.Checksum = InjectChecksumForInbound(list, IsLoopback(operation));
        }
        status = CopyList(operation, &source, hiddenLength, list, &last);
    }
    if (!NT_SUCCESS(status))
    {
        InjectDropChain(*packets);
        *packets = NULL;
    }
    return status;
}

// ---- Deciding

// Only a first authorization can be pended, and only once: for a connection that is already asked about, a packet is
// held by itself. A TCP connect has none, so there it is the operation or nothing.
static HANDLE CompletionHandleOf(const ALE_OPERATION *operation)
{
    if (operation->Reauthorization || (!operation->New && operation->NetBufferList != NULL) ||
        !FWPS_IS_METADATA_FIELD_PRESENT(operation->Metadata, FWPS_METADATA_FIELD_COMPLETION_HANDLE))
    {
        return NULL;
    }
    return operation->Metadata->completionHandle;
}

static DECISION BlockMalformed(const ALE_OPERATION *operation)
{
    DRIVER_CONTEXT *context = operation->Context;

    StatisticsAdd(&context->Statistics, StatisticMalformedPackets, 1);
    if (LogMayRepeat(&context->Log, LogLimitMalformed))
    {
        LogWarning(&context->Log, "A malformed IPv%u packet was blocked at an authorization", operation->Key.IpVersion);
    }
    return DecisionBlock;
}

static DECISION Hold(const ALE_OPERATION *operation)
{
    NTSTATUS status = STATUS_SUCCESS;
    HOLD_QUESTION question;

    RtlZeroMemory(&question, sizeof(question));
    question.Kind = operation->Layer->Kind;
    question.Direction = operation->Layer->Direction;
    question.Key = &operation->Key;
    question.Generation = operation->Generation;
    question.ProcessId = operation->ProcessId;
    question.PayloadLayer = PROTOCOL_PAYLOAD_TRANSPORT_LAYER;
    question.CompletionHandle = CompletionHandleOf(operation);
    if (operation->NetBufferList != NULL)
    {
        status = CopyPackets(operation, &question.Packets, &question.PayloadOffset);
    }
    if (status == STATUS_INVALID_PARAMETER)
    {
        return BlockMalformed(operation);
    }
    if (!NT_SUCCESS(status))
    {
        return HoldFail(operation->Context, status == STATUS_INSUFFICIENT_RESOURCES ? LossOutOfMemory : LossUncounted);
    }
    return HoldAsk(operation->Context, &question);
}

// Before the connection gets the process: from then on any record may name it, and the packet layer knows no path.
static VOID TellProcess(const ALE_OPERATION *operation)
{
    const FWPS_INCOMING_METADATA_VALUES0 *metadata = operation->Metadata;

    if (FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_PROCESS_PATH) && metadata->processPath != NULL)
    {
        (VOID) EventProcessInfo(&operation->Context->Events, operation->ProcessId,
                                (const WCHAR *)metadata->processPath->data, metadata->processPath->size);
    }
}

// The packet layer may have seen it first, and knows no process.
static VOID AdoptProcess(const ALE_OPERATION *operation)
{
    if (operation->ProcessId != 0)
    {
        ConnectionTableSetProcess(&operation->Context->Connections, &operation->Key, operation->ProcessId);
    }
}

static DECISION Decide(ALE_OPERATION *operation)
{
    CONNECTION_TABLE *connections = &operation->Context->Connections;
    CONNECTION_STATE state;
    NTSTATUS status = STATUS_OBJECT_NAME_COLLISION;

    // One that ended is an old user of the same addresses and ports.
    if (!ConnectionTableLookup(connections, &operation->Key, &state) || state.Ended)
    {
        status = ConnectionTableInsert(connections, &operation->Key, operation->ProcessId, operation->Layer->Direction,
                                       &state);
    }
    if (NT_SUCCESS(status) || status == STATUS_OBJECT_NAME_COLLISION)
    {
        operation->Generation = state.Generation;
    }
    if (NT_SUCCESS(status))
    {
        operation->New = TRUE;
        return DecisionAsk;
    }
    if (status != STATUS_OBJECT_NAME_COLLISION)
    {
        return HoldFail(operation->Context, status == STATUS_QUOTA_EXCEEDED ? LossHeldPacketLimit : LossOutOfMemory);
    }
    AdoptProcess(operation);
    return (DECISION)VerdictRow(state.Verdict)->Ale[operation->Layer->Direction];
}

static DECISION Authorize(ALE_OPERATION *operation)
{
    DECISION decision;

    if (operation->NetBufferList != NULL && InjectOriginOf(&operation->Context->Injector, operation->Key.IpVersion,
                                                           operation->NetBufferList) == InjectOriginOwn)
    {
        return DecisionPermit;
    }
    if (operation->Key.Protocol != PROTOCOL_TCP && operation->Key.Protocol != PROTOCOL_UDP)
    {
        return DecisionPermit;
    }
    TellProcess(operation);
    decision = Decide(operation);
    return decision == DecisionAsk ? Hold(operation) : decision;
}

static VOID Prepare(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                    NET_BUFFER_LIST *netBufferList, ALE_OPERATION *operation)
{
    CONNECTION_KEY *key = &operation->Key;
    const ALE_LAYER *layer =
        values->layerId == FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4 || values->layerId == FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6
            ? &RecvAcceptLayer
            : &ConnectLayer;

    RtlZeroMemory(operation, sizeof(*operation));
    operation->Layer = layer;
    operation->Values = values;
    operation->Metadata = metadata;
    operation->NetBufferList = netBufferList;
    operation->ProcessId = ProcessIdOf(metadata);
    operation->Reauthorization = (ClassifyUint32(values, layer->Flags) & FWP_CONDITION_FLAG_IS_REAUTHORIZE) != 0;

    key->IpVersion = IpVersionOf(values->layerId);
    key->Protocol = ClassifyUint8(values, layer->Protocol);
    ClassifyAddress(values, layer->LocalAddress, key->IpVersion, key->LocalAddress);
    ClassifyAddress(values, layer->RemoteAddress, key->IpVersion, key->RemoteAddress);
    key->LocalPort = ClassifyUint16(values, layer->LocalPort);
    key->RemotePort = ClassifyUint16(values, layer->RemotePort);
}

// The client must be able to reach the network whatever other products think of it, once it has decided so itself.
static BOOLEAN IsClientsOwn(const ALE_OPERATION *operation)
{
    return operation->Layer->Direction == DirectionOutbound && operation->ProcessId != 0 &&
           operation->ProcessId == (UINT64)ReadNoFence64(&operation->Context->Client.ProcessId);
}

static VOID Answer(const ALE_OPERATION *operation, DECISION decision, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    switch (decision)
    {
    case DecisionPermit:
        if (IsClientsOwn(operation))
        {
            ClassifyPermitFinally(classifyOut);
        }
        else
        {
            ClassifyPermit(classifyOut);
        }
        break;
    case DecisionBlock:
        StatisticsAdd(&operation->Context->Statistics, StatisticPacketsBlocked, 1);
        ClassifyBlock(classifyOut);
        break;
    case DecisionAbsorb:
        StatisticsAdd(&operation->Context->Statistics, StatisticPacketsBlocked, 1);
        ClassifyAbsorb(classifyOut);
        break;
    default:
        // What is held is counted when it is resolved.
        ClassifyAbsorb(classifyOut);
        break;
    }
}

_Use_decl_annotations_
void NTAPI AleClassifyAuthorize(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                                void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter,
                                UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    DRIVER_CONTEXT *context = ContextOfFilter(filter);
    DECISION decision;
    ALE_OPERATION operation;
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

    Prepare(values, metadata, (NET_BUFFER_LIST *)layerData, &operation);
    operation.Context = context;
    decision = Authorize(&operation);
    Answer(&operation, decision, classifyOut);
    ClientLeaveClassify(&context->Client, slot);
}

// ---- The end of connections

// `connectionContext`: the driver's.
static VOID TellEnd(void *connectionContext, const CONNECTION *connection)
{
    if (connection->Reported)
    {
        (VOID) EventConnectionEnd(&((DRIVER_CONTEXT *)connectionContext)->Events, connection);
    }
}

_Use_decl_annotations_
void NTAPI AleClassifyClosure(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                              void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter,
                              UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    DRIVER_CONTEXT *context = ContextOfFilter(filter);
    CONNECTION connection;
    CONNECTION_KEY key;
    RUNDOWN_SLOT *slot;
    CLIENT_MODE mode;

    UNREFERENCED_PARAMETER(metadata);
    UNREFERENCED_PARAMETER(layerData);
    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    ClassifyContinue(classifyOut);
    slot = ClientEnterClassify(&context->Client, &mode);
    if (slot == NULL)
    {
        return;
    }

    RtlZeroMemory(&key, sizeof(key));
    key.IpVersion = IpVersionOf(values->layerId);
    key.Protocol = ClassifyUint8(values, FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_PROTOCOL);
    ClassifyAddress(values, FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_ADDRESS, key.IpVersion, key.LocalAddress);
    ClassifyAddress(values, FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_ADDRESS, key.IpVersion, key.RemoteAddress);
    key.LocalPort = ClassifyUint16(values, FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_PORT);
    key.RemotePort = ClassifyUint16(values, FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_PORT);
    if (ConnectionTableEnd(&context->Connections, &key, &connection))
    {
        TellEnd(context, &connection);
    }
    ClientLeaveClassify(&context->Client, slot);
}

_Use_decl_annotations_
void NTAPI AleClassifyAssignment(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                                 void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter,
                                 UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    DRIVER_CONTEXT *context = ContextOfFilter(filter);

    UNREFERENCED_PARAMETER(layerData);
    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    ClassifyContinue(classifyOut);
    LogDebug(&context->Log, "Process %llu binds IPv%u protocol %u port %u", (unsigned long long)ProcessIdOf(metadata),
             IpVersionOf(values->layerId), ClassifyUint8(values, FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_PROTOCOL),
             ClassifyUint16(values, FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_PORT));
}

_Use_decl_annotations_
void NTAPI AleClassifyRelease(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                              void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter,
                              UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    DRIVER_CONTEXT *context = ContextOfFilter(filter);
    CONNECTION_RELEASE release;
    RUNDOWN_SLOT *slot;
    CLIENT_MODE mode;

    UNREFERENCED_PARAMETER(layerData);
    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    ClassifyContinue(classifyOut);
    slot = ClientEnterClassify(&context->Client, &mode);
    if (slot == NULL)
    {
        return;
    }

    RtlZeroMemory(&release, sizeof(release));
    release.IpVersion = IpVersionOf(values->layerId);
    release.Protocol = ClassifyUint8(values, FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_PROTOCOL);
    release.LocalPort = ClassifyUint16(values, FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_PORT);
    ClassifyAddress(values, FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_ADDRESS, release.IpVersion,
                    release.LocalAddress);
    // Others may have bound the same port.
    release.ProcessId = ProcessIdOf(metadata);
    // What a listener has accepted lives on without it, and has a closure of its own.
    release.OutboundOnly = release.Protocol == PROTOCOL_TCP;
    ConnectionTableEndByPort(&context->Connections, &release, TellEnd, context);
    ClientLeaveClassify(&context->Client, slot);
}

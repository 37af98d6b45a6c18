#include "callouts.h"

#include "ale.h"
#include "context.h"
#include "packet.h"
#include "stream.h"

// How long unloading waits before it tries again to unregister a busy callout.
#define CALLOUT_BUSY_WAIT_MS 10

// Attached runs while a client is attached, which stays attached as long as it runs. Always runs before, client or not.
typedef struct _CALLOUT_HANDLER
{
    VOID (*Attached)(_Inout_ CLASSIFY *classify);
    VOID (*Always)(_Inout_ CLASSIFY *classify);
} CALLOUT_HANDLER;

static const CALLOUT_HANDLER Handlers[LAYER_COUNT] = {
    [LAYER_ALE_AUTH_CONNECT_V4] = {AleClassifyAuthorize, NULL},
    [LAYER_ALE_AUTH_CONNECT_V6] = {AleClassifyAuthorize, NULL},
    [LAYER_ALE_AUTH_RECV_ACCEPT_V4] = {AleClassifyAuthorize, NULL},
    [LAYER_ALE_AUTH_RECV_ACCEPT_V6] = {AleClassifyAuthorize, NULL},
    [LAYER_ALE_ENDPOINT_CLOSURE_V4] = {AleClassifyClosure, NULL},
    [LAYER_ALE_ENDPOINT_CLOSURE_V6] = {AleClassifyClosure, NULL},
    [LAYER_ALE_RESOURCE_ASSIGNMENT_V4] = {NULL, AleLogAssignment},
    [LAYER_ALE_RESOURCE_ASSIGNMENT_V6] = {NULL, AleLogAssignment},
    [LAYER_ALE_RESOURCE_RELEASE_V4] = {AleClassifyRelease, NULL},
    [LAYER_ALE_RESOURCE_RELEASE_V6] = {AleClassifyRelease, NULL},
    [LAYER_STREAM_V4] = {StreamClassify, StreamAnswer},
    [LAYER_STREAM_V6] = {StreamClassify, StreamAnswer},
    [LAYER_DATAGRAM_DATA_V4] = {StreamClassifyDatagram, NULL},
    [LAYER_DATAGRAM_DATA_V6] = {StreamClassifyDatagram, NULL},
    [LAYER_OUTBOUND_IPPACKET_V4] = {PacketClassify, NULL},
    [LAYER_OUTBOUND_IPPACKET_V6] = {PacketClassify, NULL},
    [LAYER_INBOUND_IPPACKET_V4] = {PacketClassify, NULL},
    [LAYER_INBOUND_IPPACKET_V6] = {PacketClassify, NULL},
};

// FALSE: the classify is done.
static BOOLEAN CalloutInspect(const CALLOUT_HANDLER *handler, CLASSIFY *classify)
{
    ClassifyContinue(classify->Out);
    if (handler->Always != NULL)
    {
        handler->Always(classify);
    }
    return handler->Attached != NULL;
}

static void NTAPI CalloutClassify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                                  void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter,
                                  UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    UINT32 row = LayerRows[values->layerId];
    const CALLOUT_HANDLER *handler = &Handlers[row];
    BOOLEAN decides = Layers[row].Action == FWP_ACTION_CALLOUT_TERMINATING;
    CLASSIFY classify = {ContextOfFilter(filter), &Layers[row], values, metadata, layerData, classifyOut, NULL};
    RUNDOWN_SLOT *slot;
    CLIENT_MODE mode;

    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    if (decides ? !ClassifyMayDecide(classifyOut) : !CalloutInspect(handler, &classify))
    {
        return;
    }
    slot = ClientEnterClassify(&classify.Context->Client, &mode);
    if (slot == NULL)
    {
        if (decides)
        {
            ClassifyWithoutClient(mode == ClientAbsentBlock, classifyOut);
        }
        return;
    }
    handler->Attached(&classify);
    ClientLeave(&classify.Context->Client.Classifies, slot);

    if (classify.Injections != NULL)
    {
        // Outside the rundown, because an injected packet may be classified on this stack.
        InjectChain(classify.Injections);
    }
}

static NTSTATUS NTAPI CalloutNotify(FWPS_CALLOUT_NOTIFY_TYPE notifyType, const GUID *filterKey, FWPS_FILTER1 *filter)
{
    UNREFERENCED_PARAMETER(notifyType);
    UNREFERENCED_PARAMETER(filterKey);
    UNREFERENCED_PARAMETER(filter);
    return STATUS_SUCCESS;
}

static NTSTATUS CalloutRegister(PDEVICE_OBJECT device, const LAYER *layer, UINT32 *id)
{
    FWPS_CALLOUT1 callout;

    RtlZeroMemory(&callout, sizeof(callout));
    callout.calloutKey = layer->CalloutKey;
    callout.flags = layer->CalloutFlags;
    callout.classifyFn = CalloutClassify;
    callout.notifyFn = CalloutNotify;
    return FwpsCalloutRegister1(device, &callout, id);
}

static VOID CalloutUnregister(UINT32 id)
{
    LARGE_INTEGER interval;

    interval.QuadPart = -(LONG64)(CALLOUT_BUSY_WAIT_MS * PLATFORM_TICKS_PER_MILLISECOND);
    while (FwpsCalloutUnregisterById0(id) == STATUS_DEVICE_BUSY)
    {
        KeDelayExecutionThread(KernelMode, FALSE, &interval);
    }
}

static VOID CalloutUnregisterFirst(const UINT32 *ids, UINT32 count)
{
    while (count > 0)
    {
        CalloutUnregister(ids[--count]);
    }
}

_Use_decl_annotations_
NTSTATUS CalloutsRegister(PDEVICE_OBJECT device, UINT32 *ids)
{
    UINT32 i;

    for (i = 0; i < LAYER_COUNT; i++)
    {
        NTSTATUS status = CalloutRegister(device, &Layers[i], &ids[i]);

        if (!NT_SUCCESS(status))
        {
            CalloutUnregisterFirst(ids, i);
            return status;
        }
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID CalloutsUnregister(const UINT32 *ids)
{
    CalloutUnregisterFirst(ids, LAYER_COUNT);
}

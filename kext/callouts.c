#include "callouts.h"

#include "ale.h"
#include "context.h"
#include "packet.h"
#include "stream.h"

// Attached runs only while a client is attached, and the client stays attached while Attached runs.
// Always runs before Attached, whether a client is attached or not.
typedef struct _CALLOUT_HANDLER
{
    VOID (*Attached)(_Inout_ CLASSIFY *classify);
    VOID (*Always)(_Inout_ CLASSIFY *classify);
} CALLOUT_HANDLER;

static const CALLOUT_HANDLER Handlers[LAYER_KIND_COUNT] = {
    [LAYER_ALE_AUTH_CONNECT] = {AleClassifyAuthorize, NULL},
    [LAYER_ALE_AUTH_RECV_ACCEPT] = {AleClassifyAuthorize, NULL},
    [LAYER_ALE_FLOW_ESTABLISHED] = {AleClassifyEstablished, NULL},
    [LAYER_ALE_ENDPOINT_CLOSURE] = {AleClassifyClosure, NULL},
    [LAYER_ALE_RESOURCE_ASSIGNMENT] = {NULL, AleLogAssignment},
    [LAYER_ALE_RESOURCE_RELEASE] = {AleClassifyRelease, NULL},
    [LAYER_STREAM] = {StreamClassify, StreamAnswer},
    [LAYER_DATAGRAM_DATA] = {StreamClassifyDatagram, NULL},
    [LAYER_OUTBOUND_IPPACKET] = {PacketClassify, NULL},
    [LAYER_INBOUND_IPPACKET] = {PacketClassify, NULL},
};

// Answers for an inspection callout. Returns FALSE if no further handler has to run.
static BOOLEAN CalloutInspect(const CALLOUT_HANDLER *handler, CLASSIFY *classify)
{
    ClassifyContinue(classify->Out);
    if (handler->Always != NULL)
    {
        handler->Always(classify);
    }
    return handler->Attached != NULL;
}

// Another product has made this filter for a callout of the driver. It changes nothing.
static VOID CalloutIgnoreFilter(const FWPS_FILTER2 *filter, FWPS_CLASSIFY_OUT0 *out)
{
    if (filter->action.type == FWP_ACTION_CALLOUT_INSPECTION)
    {
        ClassifyContinue(out);
    }
    else
    {
        ClassifyPermit(out);
    }
}

static VOID CalloutHandle(CLASSIFY *classify, const CALLOUT_HANDLER *handler)
{
    BOOLEAN decides = classify->Layer->Action == FWP_ACTION_CALLOUT_TERMINATING;
    RUNDOWN_SLOT *slot;
    CLIENT_MODE mode;

    if (decides ? !ClassifyMayDecide(classify->Out) : !CalloutInspect(handler, classify))
    {
        return;
    }
    slot = ClientEnterClassify(&classify->Context->Client, &mode);
    if (slot == NULL)
    {
        if (decides)
        {
            ClassifyWithoutClient(mode == ClientAbsentBlock, classify->Out);
        }
        return;
    }
    handler->Attached(classify);
    ClientLeave(&classify->Context->Client.Classifies, slot);

    if (classify->Injections != NULL)
    {
        // Injection is outside the rundown, because an injected packet may be classified on this stack.
        InjectChain(classify->Injections);
    }
}

static void NTAPI CalloutClassify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                                  void *layerData, const void *classifyContext, const FWPS_FILTER2 *filter,
                                  UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    CLASSIFY classify;
    UINT32 row;

    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    classify.Context = ContextOfCookie(filter->context, &row);
    if (classify.Context == NULL)
    {
        CalloutIgnoreFilter(filter, classifyOut);
        return;
    }
    classify.Layer = &Layers[row];
    classify.Values = values;
    classify.Metadata = metadata;
    classify.LayerData = layerData;
    classify.Out = classifyOut;
    classify.Injections = NULL;
    CalloutHandle(&classify, &Handlers[row / 2]);
}

static NTSTATUS NTAPI CalloutNotify(FWPS_CALLOUT_NOTIFY_TYPE notifyType, const GUID *filterKey, FWPS_FILTER2 *filter)
{
    UINT32 row;
    DRIVER_CONTEXT *context = ContextOfCookie(filter->context, &row);

    UNREFERENCED_PARAMETER(filterKey);
    if (notifyType == FWPS_CALLOUT_NOTIFY_ADD_FILTER)
    {
        return context != NULL ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    }
    if (notifyType == FWPS_CALLOUT_NOTIFY_DELETE_FILTER && context != NULL)
    {
        EngineFilterDeleted(&context->Engine, row, filter->filterId);
    }
    return STATUS_SUCCESS;
}

// What an older system does with a flag that it does not know is not documented, so it gets none.
static UINT32 CalloutKnownFlags(VOID)
{
    RTL_OSVERSIONINFOW version;

    RtlZeroMemory(&version, sizeof(version));
    version.dwOSVersionInfoSize = sizeof(version);
    (VOID) RtlGetVersion(&version);
    return version.dwBuildNumber >= PLATFORM_UDP_FLAGS_FIRST_BUILD
               ? ~0u
               : ~(PLATFORM_CALLOUT_FLAG_ALLOW_USO | PLATFORM_CALLOUT_FLAG_ALLOW_URO);
}

_Use_decl_annotations_
NTSTATUS CalloutsRegister(DRIVER_CONTEXT *context, FWP_ACTION_TYPE action)
{
    UINT32 knownFlags = CalloutKnownFlags();
    NTSTATUS status = STATUS_SUCCESS;
    FWPS_CALLOUT2 callout;
    UINT32 i;

    RtlZeroMemory(&callout, sizeof(callout));
    callout.classifyFn = CalloutClassify;
    callout.notifyFn = CalloutNotify;
    for (i = 0; i < LAYER_COUNT && NT_SUCCESS(status); i++)
    {
        if (Layers[i].Action != action || context->CalloutIds[i] != 0)
        {
            continue;
        }
        callout.calloutKey = Layers[i].CalloutKey;
        callout.flags = Layers[i].CalloutFlags & knownFlags;
        status = FwpsCalloutRegister2(context->DeviceObject, &callout, &context->CalloutIds[i]);
        if (!NT_SUCCESS(status))
        {
            context->CalloutIds[i] = 0;
        }
    }
    return status;
}

// Until an unregistering succeeds, a classify may still run. So any other answer than these two means another try.
_Use_decl_annotations_
BOOLEAN CalloutsUnregister(DRIVER_CONTEXT *context, FWP_ACTION_TYPE action)
{
    BOOLEAN none = TRUE;
    UINT32 i;

    for (i = 0; i < LAYER_COUNT; i++)
    {
        NTSTATUS status;

        if (Layers[i].Action != action || context->CalloutIds[i] == 0)
        {
            continue;
        }
        status = FwpsCalloutUnregisterById0(context->CalloutIds[i]);
        if (NT_SUCCESS(status) || status == STATUS_FWP_CALLOUT_NOT_FOUND)
        {
            context->CalloutIds[i] = 0;
        }
        else
        {
            none = FALSE;
        }
    }
    return none;
}

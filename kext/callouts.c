// Holds the keys of the layers.
#include <initguid.h>

#include "callouts.h"

#include "ale.h"
#include "context.h"
#include "packet.h"
#include "stream.h"

// Evaluated before every other sublayer.
#define CALLOUT_SUBLAYER_WEIGHT 0xFFFF

// How long unloading waits before it asks again whether a callout has become idle.
#define CALLOUT_BUSY_WAIT_MS 10

// An inspection callout only looks at addresses and lengths, which offloads and coalescing leave right. The terminating
// ones have no flags: what they hold is copied and injected, and the stack takes an injected packet as it is. A segment
// larger than the path's MTU, or one whose checksum was left to the adapter, would not come through.
#define CALLOUT_INSPECTION_FLAGS (FWP_CALLOUT_FLAG_ALLOW_OFFLOAD | FWP_CALLOUT_FLAG_ALLOW_RSC)

// Another product's transaction is not waited for longer: a client that attaches or detaches may be waiting for ours.
#define CALLOUT_TRANSACTION_WAIT_MS 1000

typedef struct _CALLOUT_DESCRIPTION
{
    const GUID *Layer;
    GUID Key;
    const WCHAR *Name;
    FWP_ACTION_TYPE Action;
    UINT32 Flags;
    BOOLEAN Resettable; // its filter is swapped to make the layer authorize again
    FWPS_CALLOUT_CLASSIFY_FN1 Classify;
} CALLOUT_DESCRIPTION;

static const GUID ProviderKey = {0x6f1f3c52, 0x8a0e, 0x4b9d, {0x9c, 0x1e, 0x2b, 0x5d, 0x70, 0xe4, 0x16, 0xf8}};
static const GUID SubLayerKey = {0x92993849, 0x0d51, 0x4a14, {0xbc, 0xc1, 0xed, 0xe5, 0x43, 0xb3, 0xa1, 0x23}};

static const CALLOUT_DESCRIPTION Descriptions[CALLOUT_COUNT] = {
    {&FWPM_LAYER_ALE_AUTH_CONNECT_V4,
     {0xd17908a0, 0x30b4, 0x4047, {0xbb, 0x80, 0x77, 0xb6, 0x46, 0x4d, 0xa9, 0xce}},
     L"netverdict: IPv4 outbound connections",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     TRUE,
     AleClassifyAuthorize},
    {&FWPM_LAYER_ALE_AUTH_CONNECT_V6,
     {0x9f48a51f, 0x5c25, 0x403c, {0x80, 0xa0, 0x6e, 0x37, 0x51, 0x63, 0x56, 0xb0}},
     L"netverdict: IPv6 outbound connections",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     TRUE,
     AleClassifyAuthorize},
    {&FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
     {0xf9ee46e6, 0x61bc, 0x4b0d, {0xa2, 0x61, 0x07, 0xbe, 0x89, 0x06, 0xb1, 0x13}},
     L"netverdict: IPv4 inbound connections",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     TRUE,
     AleClassifyAuthorize},
    {&FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
     {0xd7f2e5c1, 0xbd51, 0x45a0, {0xac, 0xd1, 0x2a, 0x95, 0x59, 0x8f, 0x62, 0x96}},
     L"netverdict: IPv6 inbound connections",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     TRUE,
     AleClassifyAuthorize},
    {&FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V4,
     {0xf78ebbec, 0x3229, 0x437d, {0xa8, 0xfa, 0x43, 0xaf, 0xa9, 0xe6, 0x2c, 0x19}},
     L"netverdict: IPv4 closed endpoints",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     AleClassifyClosure},
    {&FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V6,
     {0xba287f0d, 0x9fa3, 0x4534, {0x9c, 0x29, 0xfc, 0x6d, 0xf0, 0x69, 0x96, 0x05}},
     L"netverdict: IPv6 closed endpoints",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     AleClassifyClosure},
    {&FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V4,
     {0x45b56a3d, 0x90f3, 0x48ac, {0x95, 0x92, 0xf8, 0x36, 0xe6, 0x15, 0x19, 0x07}},
     L"netverdict: IPv4 bound ports",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     AleClassifyAssignment},
    {&FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V6,
     {0xafc02513, 0x2d37, 0x4b84, {0x94, 0x67, 0xfc, 0xfd, 0xb3, 0x92, 0x59, 0x57}},
     L"netverdict: IPv6 bound ports",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     AleClassifyAssignment},
    {&FWPM_LAYER_ALE_RESOURCE_RELEASE_V4,
     {0xbe6bd160, 0x9813, 0x4eca, {0xb4, 0x6e, 0xa2, 0x42, 0x28, 0x46, 0x90, 0x05}},
     L"netverdict: IPv4 released ports",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     AleClassifyRelease},
    {&FWPM_LAYER_ALE_RESOURCE_RELEASE_V6,
     {0xd22676e9, 0x7d5a, 0x47dc, {0xa7, 0x6e, 0x39, 0x41, 0x1c, 0x28, 0x95, 0x6e}},
     L"netverdict: IPv6 released ports",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     AleClassifyRelease},
    {&FWPM_LAYER_STREAM_V4,
     {0x0ba1f390, 0x5088, 0x4f72, {0xb4, 0xf6, 0x7c, 0xd4, 0x90, 0xd5, 0x7c, 0x73}},
     L"netverdict: IPv4 TCP bandwidth",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     StreamClassify},
    {&FWPM_LAYER_STREAM_V6,
     {0x57a869e3, 0xa2ff, 0x4364, {0xa0, 0x4a, 0xa1, 0x22, 0x71, 0x02, 0xc0, 0x66}},
     L"netverdict: IPv6 TCP bandwidth",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     StreamClassify},
    {&FWPM_LAYER_DATAGRAM_DATA_V4,
     {0x702dd50c, 0xd27e, 0x4a74, {0xb9, 0x9a, 0x3e, 0x0d, 0x31, 0xdc, 0xeb, 0xfb}},
     L"netverdict: IPv4 UDP bandwidth",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     DatagramClassify},
    {&FWPM_LAYER_DATAGRAM_DATA_V6,
     {0xa0219e57, 0x898a, 0x4b18, {0xad, 0x98, 0x5f, 0x66, 0x6d, 0x71, 0x26, 0x4b}},
     L"netverdict: IPv6 UDP bandwidth",
     FWP_ACTION_CALLOUT_INSPECTION,
     CALLOUT_INSPECTION_FLAGS,
     FALSE,
     DatagramClassify},
    {&FWPM_LAYER_OUTBOUND_IPPACKET_V4,
     {0x3bd600d9, 0xf1ce, 0x4c56, {0xb4, 0x1a, 0x30, 0xde, 0x45, 0x20, 0x54, 0x23}},
     L"netverdict: IPv4 outbound packets",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     FALSE,
     PacketClassify},
    {&FWPM_LAYER_OUTBOUND_IPPACKET_V6,
     {0xcbf2dc89, 0x9390, 0x44cc, {0xaf, 0x4a, 0x58, 0x50, 0xc0, 0xc9, 0x4d, 0x7b}},
     L"netverdict: IPv6 outbound packets",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     FALSE,
     PacketClassify},
    {&FWPM_LAYER_INBOUND_IPPACKET_V4,
     {0x67907dbd, 0xfea1, 0x47c3, {0x9c, 0x5a, 0x6d, 0xa2, 0xfb, 0xda, 0x5b, 0xba}},
     L"netverdict: IPv4 inbound packets",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     FALSE,
     PacketClassify},
    {&FWPM_LAYER_INBOUND_IPPACKET_V6,
     {0xd944ab03, 0x7b44, 0x4634, {0x9f, 0x5c, 0x6d, 0xcb, 0x6d, 0xd5, 0x67, 0x17}},
     L"netverdict: IPv6 inbound packets",
     FWP_ACTION_CALLOUT_TERMINATING,
     0,
     FALSE,
     PacketClassify},
};

static NTSTATUS NTAPI CalloutNotify(FWPS_CALLOUT_NOTIFY_TYPE notifyType, const GUID *filterKey, FWPS_FILTER1 *filter)
{
    UNREFERENCED_PARAMETER(notifyType);
    UNREFERENCED_PARAMETER(filterKey);
    UNREFERENCED_PARAMETER(filter);
    return STATUS_SUCCESS;
}

// ---- Callouts, as the filter engine's kernel part knows them

static NTSTATUS RegisterCallouts(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;

    while (callouts->RegisteredCount < CALLOUT_COUNT)
    {
        const CALLOUT_DESCRIPTION *description = &Descriptions[callouts->RegisteredCount];
        FWPS_CALLOUT1 callout;
        NTSTATUS status;

        RtlZeroMemory(&callout, sizeof(callout));
        callout.calloutKey = description->Key;
        callout.flags = description->Flags;
        callout.classifyFn = description->Classify;
        callout.notifyFn = CalloutNotify;
        status =
            FwpsCalloutRegister1(context->DeviceObject, &callout, &callouts->CalloutIds[callouts->RegisteredCount]);
        if (!NT_SUCCESS(status))
        {
            return status;
        }
        callouts->RegisteredCount++;
    }
    return STATUS_SUCCESS;
}

static VOID UnregisterCallout(UINT32 calloutId)
{
    LARGE_INTEGER interval;

    interval.QuadPart = -(LONG64)(CALLOUT_BUSY_WAIT_MS * PLATFORM_TICKS_PER_MILLISECOND);
    while (FwpsCalloutUnregisterById0(calloutId) == STATUS_DEVICE_BUSY)
    {
        KeDelayExecutionThread(KernelMode, FALSE, &interval);
    }
}

static VOID UnregisterCallouts(CALLOUTS *callouts)
{
    while (callouts->RegisteredCount > 0)
    {
        callouts->RegisteredCount--;
        UnregisterCallout(callouts->CalloutIds[callouts->RegisteredCount]);
    }
}

// ---- Objects of the session. Within a transaction.

// Whose all of it is, for an administrator who looks at the computer's filters.
static NTSTATUS AddProvider(HANDLE engine)
{
    FWPM_PROVIDER0 provider;

    RtlZeroMemory(&provider, sizeof(provider));
    provider.providerKey = ProviderKey;
    provider.displayData.name = (wchar_t *)L"netverdict";
    return FwpmProviderAdd0(engine, &provider, NULL);
}

static NTSTATUS AddSubLayer(HANDLE engine)
{
    FWPM_SUBLAYER0 subLayer;

    RtlZeroMemory(&subLayer, sizeof(subLayer));
    subLayer.subLayerKey = SubLayerKey;
    subLayer.displayData.name = (wchar_t *)L"netverdict";
    subLayer.providerKey = (GUID *)&ProviderKey;
    subLayer.weight = CALLOUT_SUBLAYER_WEIGHT;
    return FwpmSubLayerAdd0(engine, &subLayer, NULL);
}

static NTSTATUS AddCallout(HANDLE engine, const CALLOUT_DESCRIPTION *description)
{
    FWPM_CALLOUT0 callout;

    RtlZeroMemory(&callout, sizeof(callout));
    callout.calloutKey = description->Key;
    callout.displayData.name = (wchar_t *)description->Name;
    callout.providerKey = (GUID *)&ProviderKey;
    callout.applicableLayer = *description->Layer;
    return FwpmCalloutAdd0(engine, &callout, NULL, NULL);
}

// Without conditions, and with a weight of the filter engine's choice: it is the only one of its sublayer and layer.
static NTSTATUS AddFilter(DRIVER_CONTEXT *context, const CALLOUT_DESCRIPTION *description, UINT64 *filterId)
{
    FWPM_FILTER0 filter;

    RtlZeroMemory(&filter, sizeof(filter));
    filter.displayData.name = (wchar_t *)description->Name;
    filter.providerKey = (GUID *)&ProviderKey;
    filter.layerKey = *description->Layer;
    filter.subLayerKey = SubLayerKey;
    filter.weight.type = FWP_EMPTY;
    filter.action.type = description->Action;
    filter.action.calloutKey = description->Key;
    filter.rawContext = (UINT64)(ULONG_PTR)context;
    return FwpmFilterAdd0(context->Callouts.Engine, &filter, NULL, filterId);
}

static NTSTATUS AddObjects(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;
    NTSTATUS status = AddProvider(callouts->Engine);
    UINT32 i;

    if (NT_SUCCESS(status))
    {
        status = AddSubLayer(callouts->Engine);
    }
    for (i = 0; i < CALLOUT_COUNT && NT_SUCCESS(status); i++)
    {
        status = AddCallout(callouts->Engine, &Descriptions[i]);
        if (NT_SUCCESS(status))
        {
            status = AddFilter(context, &Descriptions[i], &callouts->FilterIds[i]);
        }
    }
    return status;
}

static NTSTATUS SwapFilters(DRIVER_CONTEXT *context, UINT64 *filterIds)
{
    CALLOUTS *callouts = &context->Callouts;
    NTSTATUS status = STATUS_SUCCESS;
    UINT32 i;

    for (i = 0; i < CALLOUT_COUNT && NT_SUCCESS(status); i++)
    {
        filterIds[i] = callouts->FilterIds[i];
        if (!Descriptions[i].Resettable)
        {
            continue;
        }
        status = AddFilter(context, &Descriptions[i], &filterIds[i]);
        if (NT_SUCCESS(status))
        {
            status = FwpmFilterDeleteById0(callouts->Engine, callouts->FilterIds[i]);
        }
    }
    return status;
}

// Commits if all went well, else leaves everything as it was.
static NTSTATUS EndTransaction(HANDLE engine, NTSTATUS status)
{
    if (NT_SUCCESS(status))
    {
        status = FwpmTransactionCommit0(engine);
    }
    if (!NT_SUCCESS(status))
    {
        // After a commit that failed too: with its transaction still open the session could never begin another.
        FwpmTransactionAbort0(engine);
    }
    return status;
}

// ---- The session. By one thread at a time.

static NTSTATUS OpenEngine(HANDLE *engine)
{
    FWPM_SESSION0 session;

    RtlZeroMemory(&session, sizeof(session));
    session.displayData.name = (wchar_t *)L"netverdict";
    session.flags = FWPM_SESSION_FLAG_DYNAMIC;
    session.txnWaitTimeoutInMSec = CALLOUT_TRANSACTION_WAIT_MS;
    return FwpmEngineOpen0(NULL, RPC_C_AUTHN_WINNT, NULL, &session, engine);
}

// Closing a dynamic session deletes its objects; those of one that the service did not outlive are gone already.
static VOID CloseSession(CALLOUTS *callouts)
{
    if (callouts->Engine != NULL)
    {
        FwpmEngineClose0(callouts->Engine);
        callouts->Engine = NULL;
    }
}

static NTSTATUS OpenSession(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;
    NTSTATUS status = OpenEngine(&callouts->Engine);

    if (!NT_SUCCESS(status))
    {
        callouts->Engine = NULL;
        return status;
    }
    status = FwpmTransactionBegin0(callouts->Engine, 0);
    if (NT_SUCCESS(status))
    {
        status = EndTransaction(callouts->Engine, AddObjects(context));
    }
    if (!NT_SUCCESS(status))
    {
        CloseSession(callouts);
    }
    return status;
}

static NTSTATUS SwapInTransaction(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;
    UINT64 filterIds[CALLOUT_COUNT];
    NTSTATUS status = FwpmTransactionBegin0(callouts->Engine, 0);

    if (status == STATUS_FWP_TXN_IN_PROGRESS)
    {
        // Ours, since nobody else has the session: one that could be neither committed nor aborted.
        FwpmTransactionAbort0(callouts->Engine);
        status = FwpmTransactionBegin0(callouts->Engine, 0);
    }
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = EndTransaction(callouts->Engine, SwapFilters(context, filterIds));
    if (NT_SUCCESS(status))
    {
        RtlCopyMemory(callouts->FilterIds, filterIds, sizeof(filterIds));
    }
    return status;
}

static BOOLEAN ServiceRuns(const CALLOUTS *callouts)
{
    return ReadAcquire(&callouts->ServiceState) == FWPM_SERVICE_RUNNING;
}

// New filters make the filter engine authorize every flow of their layers, whether they are the first or not.
static NTSTATUS RenewFilters(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;

    if (InterlockedExchange(&callouts->SessionLost, FALSE) != FALSE)
    {
        LogWarning(&context->Log, "The filter engine has stopped: nothing is filtered until it runs again");
        CloseSession(callouts);
    }
    if (!ServiceRuns(callouts))
    {
        return STATUS_SUCCESS;
    }
    return callouts->Engine != NULL ? SwapInTransaction(context) : OpenSession(context);
}

// Whoever comes while another thread renews makes that one go round once more. A thread that was suspended on the way
// would keep all others from it.
static NTSTATUS RenewFiltersInTurn(DRIVER_CONTEXT *context)
{
    volatile LONG *requests = &context->Callouts.RenewRequests;
    NTSTATUS status = STATUS_SUCCESS;
    LONG served;

    KeEnterCriticalRegion();
    if (InterlockedIncrement(requests) == 1)
    {
        do
        {
            served = ReadAcquire(requests);
            status = RenewFilters(context);
        } while (InterlockedExchangeAdd(requests, -served) != served);
    }
    KeLeaveCriticalRegion();
    return status;
}

_Use_decl_annotations_
VOID CalloutsReauthorize(DRIVER_CONTEXT *context)
{
    NTSTATUS status = RenewFiltersInTurn(context);

    if (!NT_SUCCESS(status))
    {
        LogError(&context->Log, "The filter engine could not be made to authorize again: status 0x%08x",
                 (unsigned)status);
        DeferredRequest(&context->Deferred, DEFERRED_REAUTHORIZE);
        DeferredRetry(&context->Deferred);
    }
}

// ---- The filter engine's service

// PASSIVE_LEVEL, of the filter engine's choice of thread; whatever takes time is for the maintenance work item.
static VOID NTAPI ServiceStateChanged(VOID *callbackContext, FWPM_SERVICE_STATE state)
{
    DRIVER_CONTEXT *context = (DRIVER_CONTEXT *)callbackContext;
    CALLOUTS *callouts = &context->Callouts;

    InterlockedExchange(&callouts->ServiceState, (LONG)state);
    if (state == FWPM_SERVICE_STOP_PENDING || state == FWPM_SERVICE_STOPPED)
    {
        InterlockedExchange(&callouts->SessionLost, TRUE);
    }
    DeferredRequest(&context->Deferred, DEFERRED_REAUTHORIZE);
    DeferredQueue(&context->Deferred);
}

_Use_decl_annotations_
NTSTATUS CalloutsStart(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;
    NTSTATUS status;

    status =
        FwpmBfeStateSubscribeChanges0(context->DeviceObject, ServiceStateChanged, context, &callouts->Subscription);
    if (!NT_SUCCESS(status))
    {
        callouts->Subscription = NULL;
        return status;
    }
    // What the callback has said meanwhile is newer.
    InterlockedCompareExchange(&callouts->ServiceState, (LONG)FwpmBfeStateGet0(), FWPM_SERVICE_STATE_MAX);
    if (!ServiceRuns(callouts))
    {
        LogWarning(&context->Log, "The filter engine does not run: nothing is filtered until it does");
    }
    status = RenewFiltersInTurn(context);
    // The service may have stopped under it.
    if (NT_SUCCESS(status) || !ServiceRuns(callouts))
    {
        return STATUS_SUCCESS;
    }
    CalloutsStop(context);
    return status;
}

_Use_decl_annotations_
VOID CalloutsStop(DRIVER_CONTEXT *context)
{
    if (context->Callouts.Subscription != NULL)
    {
        FwpmBfeStateUnsubscribeChanges0(context->Callouts.Subscription);
    }
}

_Use_decl_annotations_
NTSTATUS CalloutsRegister(DRIVER_CONTEXT *context)
{
    CALLOUTS *callouts = &context->Callouts;
    NTSTATUS status;

    RtlZeroMemory(callouts, sizeof(*callouts));
    callouts->ServiceState = FWPM_SERVICE_STATE_MAX;
    status = RegisterCallouts(context);
    if (!NT_SUCCESS(status))
    {
        UnregisterCallouts(callouts);
    }
    return status;
}

_Use_decl_annotations_
VOID CalloutsUnregister(DRIVER_CONTEXT *context)
{
    // Without their filters the callouts are out of use.
    CloseSession(&context->Callouts);
    UnregisterCallouts(&context->Callouts);
}

#include "engine.h"

// The sublayer is evaluated before every other one.
#define ENGINE_SUBLAYER_WEIGHT 0xFFFF

// Bounds the wait for another product's transaction: a client that attaches or detaches may be waiting for ours.
#define ENGINE_TRANSACTION_WAIT_MS 1000

static const GUID ProviderKey = {0x6f1f3c52, 0x8a0e, 0x4b9d, {0x9c, 0x1e, 0x2b, 0x5d, 0x70, 0xe4, 0x16, 0xf8}};
static const GUID SubLayerKey = {0xc5878765, 0x0ef1, 0x4d80, {0xb4, 0x91, 0x62, 0x92, 0xc7, 0xa0, 0x38, 0xcf}};

// ---- Objects of the session, added within a transaction

// Identifies the owner in `netsh wfp show state`.
static NTSTATUS EngineAddProvider(HANDLE session)
{
    FWPM_PROVIDER0 provider;

    RtlZeroMemory(&provider, sizeof(provider));
    provider.providerKey = ProviderKey;
    provider.displayData.name = (wchar_t *)L"netverdict";
    return FwpmProviderAdd0(session, &provider, NULL);
}

static NTSTATUS EngineAddSubLayer(HANDLE session)
{
    FWPM_SUBLAYER0 subLayer;

    RtlZeroMemory(&subLayer, sizeof(subLayer));
    subLayer.subLayerKey = SubLayerKey;
    subLayer.displayData.name = (wchar_t *)L"netverdict";
    subLayer.providerKey = (GUID *)&ProviderKey;
    subLayer.weight = ENGINE_SUBLAYER_WEIGHT;
    return FwpmSubLayerAdd0(session, &subLayer, NULL);
}

static NTSTATUS EngineAddCallout(HANDLE session, const LAYER *layer)
{
    FWPM_CALLOUT0 callout;

    RtlZeroMemory(&callout, sizeof(callout));
    callout.calloutKey = layer->CalloutKey;
    callout.displayData.name = (wchar_t *)layer->Name;
    callout.providerKey = (GUID *)&ProviderKey;
    callout.applicableLayer = *layer->Key;
    return FwpmCalloutAdd0(session, &callout, NULL, NULL);
}

// The filter has no conditions. The filter engine chooses its weight: its sublayer and layer have no other filter.
static NTSTATUS EngineAddFilter(const ENGINE *engine, const LAYER *layer, UINT64 *filterId)
{
    FWPM_FILTER0 filter;

    RtlZeroMemory(&filter, sizeof(filter));
    filter.displayData.name = (wchar_t *)layer->Name;
    filter.providerKey = (GUID *)&ProviderKey;
    filter.layerKey = *layer->Key;
    filter.subLayerKey = SubLayerKey;
    filter.weight.type = FWP_EMPTY;
    filter.action.type = layer->Action;
    filter.action.calloutKey = layer->CalloutKey;
    filter.rawContext = engine->RawContext;
    return FwpmFilterAdd0(engine->Session, &filter, NULL, filterId);
}

static NTSTATUS EngineAddObjects(ENGINE *engine)
{
    NTSTATUS status = EngineAddProvider(engine->Session);
    UINT32 i;

    if (NT_SUCCESS(status))
    {
        status = EngineAddSubLayer(engine->Session);
    }
    for (i = 0; i < LAYER_COUNT && NT_SUCCESS(status); i++)
    {
        status = EngineAddCallout(engine->Session, &Layers[i]);
        if (NT_SUCCESS(status))
        {
            status = EngineAddFilter(engine, &Layers[i], &engine->FilterIds[i]);
        }
    }
    return status;
}

static NTSTATUS EngineSwapFilters(const ENGINE *engine, UINT64 *filterIds)
{
    NTSTATUS status = STATUS_SUCCESS;
    UINT32 i;

    for (i = 0; i < LAYER_COUNT && NT_SUCCESS(status); i++)
    {
        filterIds[i] = engine->FilterIds[i];
        if (!Layers[i].Resettable)
        {
            continue;
        }
        status = EngineAddFilter(engine, &Layers[i], &filterIds[i]);
        if (NT_SUCCESS(status))
        {
            status = FwpmFilterDeleteById0(engine->Session, engine->FilterIds[i]);
        }
    }
    return status;
}

// Commits on success. On failure aborts, so nothing changes.
static NTSTATUS EngineEndTransaction(HANDLE session, NTSTATUS status)
{
    if (NT_SUCCESS(status))
    {
        status = FwpmTransactionCommit0(session);
    }
    if (!NT_SUCCESS(status))
    {
        // A failed commit is aborted too: with an open transaction the session could never begin another.
        FwpmTransactionAbort0(session);
    }
    return status;
}

// ---- The session, used by one thread at a time

static NTSTATUS EngineOpen(HANDLE *session)
{
    FWPM_SESSION0 description;

    RtlZeroMemory(&description, sizeof(description));
    description.displayData.name = (wchar_t *)L"netverdict";
    description.flags = FWPM_SESSION_FLAG_DYNAMIC;
    description.txnWaitTimeoutInMSec = ENGINE_TRANSACTION_WAIT_MS;
    return FwpmEngineOpen0(NULL, RPC_C_AUTHN_WINNT, NULL, &description, session);
}

// Closing a dynamic session deletes its objects.
static VOID EngineCloseSession(ENGINE *engine)
{
    if (engine->Session != NULL)
    {
        FwpmEngineClose0(engine->Session);
        engine->Session = NULL;
    }
}

static NTSTATUS EngineOpenSession(ENGINE *engine)
{
    NTSTATUS status = EngineOpen(&engine->Session);

    if (!NT_SUCCESS(status))
    {
        engine->Session = NULL;
        return status;
    }
    status = FwpmTransactionBegin0(engine->Session, 0);
    if (NT_SUCCESS(status))
    {
        status = EngineEndTransaction(engine->Session, EngineAddObjects(engine));
    }
    if (!NT_SUCCESS(status))
    {
        EngineCloseSession(engine);
    }
    return status;
}

static NTSTATUS EngineSwapInTransaction(ENGINE *engine)
{
    UINT64 filterIds[LAYER_COUNT];
    NTSTATUS status = FwpmTransactionBegin0(engine->Session, 0);

    if (status == STATUS_FWP_TXN_IN_PROGRESS)
    {
        // This transaction is a leftover of an earlier swap, which could neither commit nor abort it.
        FwpmTransactionAbort0(engine->Session);
        status = FwpmTransactionBegin0(engine->Session, 0);
    }
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = EngineEndTransaction(engine->Session, EngineSwapFilters(engine, filterIds));
    if (NT_SUCCESS(status))
    {
        RtlCopyMemory(engine->FilterIds, filterIds, sizeof(filterIds));
    }
    return status;
}

static BOOLEAN EngineServiceRuns(const ENGINE *engine)
{
    return ReadAcquire(&engine->ServiceState) == FWPM_SERVICE_RUNNING;
}

// New filters, also the first ones, make the filter engine authorize every flow of their layers.
static NTSTATUS EngineRenewFilters(ENGINE *engine)
{
    if (InterlockedExchange(&engine->SessionLost, FALSE) != FALSE)
    {
        LogWarning(engine->Log, "The filter engine has stopped: nothing is filtered until it runs again");
        EngineCloseSession(engine);
    }
    if (!EngineServiceRuns(engine))
    {
        return STATUS_SUCCESS;
    }
    return engine->Session != NULL ? EngineSwapInTransaction(engine) : EngineOpenSession(engine);
}

// A request while another thread renews makes that thread go round once more.
// A critical region prevents suspension: a thread that is suspended here would keep all others from renewing.
static NTSTATUS EngineRenewInTurn(ENGINE *engine)
{
    NTSTATUS status = STATUS_SUCCESS;
    LONG served;

    KeEnterCriticalRegion();
    if (InterlockedIncrement(&engine->RenewRequests) == 1)
    {
        do
        {
            served = ReadAcquire(&engine->RenewRequests);
            status = EngineRenewFilters(engine);
        } while (InterlockedExchangeAdd(&engine->RenewRequests, -served) != served);
    }
    KeLeaveCriticalRegion();
    return status;
}

_Use_decl_annotations_
VOID EngineReauthorize(ENGINE *engine)
{
    NTSTATUS status = EngineRenewInTurn(engine);

    if (!NT_SUCCESS(status))
    {
        LogError(engine->Log, "The filter engine could not be made to authorize again: status 0x%08x",
                 (unsigned)status);
        DeferredRequest(engine->Deferred, DEFERRED_REAUTHORIZE);
        DeferredRetry(engine->Deferred);
    }
}

// ---- The filter engine's service

// The filter engine calls this on any thread, at PASSIVE_LEVEL. A deferred run does the slow work.
static VOID NTAPI EngineServiceChanged(VOID *callbackContext, FWPM_SERVICE_STATE state)
{
    ENGINE *engine = (ENGINE *)callbackContext;

    InterlockedExchange(&engine->ServiceState, (LONG)state);
    if (state == FWPM_SERVICE_STOP_PENDING || state == FWPM_SERVICE_STOPPED)
    {
        InterlockedExchange(&engine->SessionLost, TRUE);
    }
    DeferredRequest(engine->Deferred, DEFERRED_REAUTHORIZE);
    DeferredQueue(engine->Deferred);
}

_Use_decl_annotations_
NTSTATUS EngineStart(ENGINE *engine)
{
    NTSTATUS status =
        FwpmBfeStateSubscribeChanges0(engine->Device, EngineServiceChanged, engine, &engine->Subscription);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    // A state that the callback has already reported is newer than this one.
    InterlockedCompareExchange(&engine->ServiceState, (LONG)FwpmBfeStateGet0(), FWPM_SERVICE_STATE_MAX);
    if (!EngineServiceRuns(engine))
    {
        LogWarning(engine->Log, "The filter engine does not run: nothing is filtered until it does");
    }
    status = EngineRenewInTurn(engine);
    // The service may have stopped during the call, which is no failure.
    if (!NT_SUCCESS(status) && EngineServiceRuns(engine))
    {
        EngineStop(engine);
        return status;
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID EngineStop(ENGINE *engine)
{
    FwpmBfeStateUnsubscribeChanges0(engine->Subscription);
}

_Use_decl_annotations_
VOID EngineInitialize(ENGINE *engine, PDEVICE_OBJECT device, LOG *log, DEFERRED *deferred, UINT64 rawContext)
{
    RtlZeroMemory(engine, sizeof(*engine));
    engine->Device = device;
    engine->Log = log;
    engine->Deferred = deferred;
    engine->RawContext = rawContext;
    engine->ServiceState = FWPM_SERVICE_STATE_MAX;
}

_Use_decl_annotations_
VOID EngineUninitialize(ENGINE *engine)
{
    EngineCloseSession(engine);
}

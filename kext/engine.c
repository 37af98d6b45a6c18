#include "engine.h"

// The sublayer is evaluated before every other one.
#define ENGINE_SUBLAYER_WEIGHT 0xFFFF

// Bounds one wait for another product's transaction. A round that waited in vain soon tries again.
#define ENGINE_TRANSACTION_WAIT_MS 1000

#define ENGINE_BUSY_RETRY_MS 10
#define ENGINE_RETRY_MS      900

static const GUID ProviderKey = {0x6f1f3c52, 0x8a0e, 0x4b9d, {0x9c, 0x1e, 0x2b, 0x5d, 0x70, 0xe4, 0x16, 0xf8}};
static const GUID SubLayerKey = {0xc5878765, 0x0ef1, 0x4d80, {0xb4, 0x91, 0x62, 0x92, 0xc7, 0xa0, 0x38, 0xcf}};

// ---- Objects that a transaction adds

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
static NTSTATUS EngineAddFilter(const ENGINE *engine, UINT32 row, ENGINE_FILTERS wanted, UINT64 *filterId)
{
    const LAYER *layer = &Layers[row];
    FWPM_FILTER0 filter;

    RtlZeroMemory(&filter, sizeof(filter));
    filter.displayData.name = (wchar_t *)layer->Name;
    filter.providerKey = (GUID *)&ProviderKey;
    filter.layerKey = *layer->Key;
    filter.subLayerKey = SubLayerKey;
    filter.weight.type = FWP_EMPTY;
    filter.action.type = layer->Action;
    filter.action.calloutKey = layer->CalloutKey;
    filter.rawContext = engine->Cookie ^ row;
    filter.flags = wanted == EngineFiltersPermit ? FWPM_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED : 0;
    return FwpmFilterAdd0(engine->Session, &filter, NULL, filterId);
}

static NTSTATUS EngineAddObjects(HANDLE session)
{
    NTSTATUS status = EngineAddProvider(session);
    UINT32 i;

    if (NT_SUCCESS(status))
    {
        status = EngineAddSubLayer(session);
    }
    for (i = 0; i < LAYER_COUNT && NT_SUCCESS(status); i++)
    {
        status = EngineAddCallout(session, &Layers[i]);
    }
    return status;
}

// ---- Changes of the filters

// A change between no filters and some concerns every layer.
// A change of what a missing callout means concerns the terminating filters, and a reauthorization the resettable ones.
static BOOLEAN EngineChangesFilter(const ENGINE *engine, UINT32 row, ENGINE_FILTERS wanted)
{
    if (engine->Filters == wanted)
    {
        return Layers[row].Resettable;
    }
    return engine->Filters == EngineFiltersNone || wanted == EngineFiltersNone ||
           Layers[row].Action == FWP_ACTION_CALLOUT_TERMINATING;
}

static NTSTATUS EngineChangeFilter(ENGINE *engine, UINT32 row, ENGINE_FILTERS wanted, UINT64 *filterId)
{
    UINT64 removed = (UINT64)ReadNoFence64(&engine->FilterIds[row]);
    NTSTATUS status = STATUS_SUCCESS;

    *filterId = 0;
    if (wanted != EngineFiltersNone)
    {
        status = EngineAddFilter(engine, row, wanted, filterId);
    }
    if (NT_SUCCESS(status) && engine->Filters != EngineFiltersNone)
    {
        InterlockedExchange64(&engine->RemovedIds[row], (LONG64)removed);
        status = FwpmFilterDeleteById0(engine->Session, removed);
    }
    return status;
}

static NTSTATUS EngineChangeFilters(ENGINE *engine, ENGINE_FILTERS wanted, UINT64 *filterIds)
{
    NTSTATUS status = engine->HasObjects ? STATUS_SUCCESS : EngineAddObjects(engine->Session);
    UINT32 i;

    for (i = 0; i < LAYER_COUNT && NT_SUCCESS(status); i++)
    {
        filterIds[i] = (UINT64)ReadNoFence64(&engine->FilterIds[i]);
        if (EngineChangesFilter(engine, i, wanted))
        {
            status = EngineChangeFilter(engine, i, wanted, &filterIds[i]);
        }
    }
    return status;
}

static VOID EngineTakeFilters(ENGINE *engine, ENGINE_FILTERS filters, const UINT64 *filterIds)
{
    UINT32 i;

    engine->HasObjects = TRUE;
    engine->Filters = filters;
    for (i = 0; i < LAYER_COUNT; i++)
    {
        InterlockedExchange64(&engine->FilterIds[i], (LONG64)filterIds[i]);
    }
}

static NTSTATUS EngineBegin(HANDLE session)
{
    NTSTATUS status = FwpmTransactionBegin0(session, 0);

    if (status == STATUS_FWP_TXN_IN_PROGRESS)
    {
        // This transaction is a leftover of an earlier round, which could neither commit nor abort it.
        FwpmTransactionAbort0(session);
        status = FwpmTransactionBegin0(session, 0);
    }
    return status;
}

// Brings the filters to `wanted` in one transaction. A failure leaves the filters as they were.
// `isUsable` becomes FALSE if the session can begin no other transaction.
static NTSTATUS EngineChangeInTransaction(ENGINE *engine, ENGINE_FILTERS wanted, BOOLEAN *isUsable)
{
    UINT64 filterIds[LAYER_COUNT];
    NTSTATUS status = EngineBegin(engine->Session);

    // A session that has lost its filters is known by their notification, so a failure to begin is no sign of it.
    *isUsable = TRUE;
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = EngineChangeFilters(engine, wanted, filterIds);
    if (NT_SUCCESS(status))
    {
        status = FwpmTransactionCommit0(engine->Session);
    }
    if (!NT_SUCCESS(status))
    {
        *isUsable = NT_SUCCESS(FwpmTransactionAbort0(engine->Session));
        return status;
    }
    EngineTakeFilters(engine, wanted, filterIds);
    return STATUS_SUCCESS;
}

static VOID EngineLose(ENGINE *engine)
{
    InterlockedExchange(&engine->SessionLost, TRUE);
    InterlockedExchange(&engine->State, EngineLost);
    engine->Owner.Lost(engine->Owner.Context);
}

_Use_decl_annotations_
VOID EngineFilterDeleted(ENGINE *engine, UINT32 row, UINT64 filterId)
{
    if (ReadAcquire(&engine->Closing) != FALSE || (UINT64)ReadNoFence64(&engine->FilterIds[row]) != filterId ||
        (UINT64)ReadNoFence64(&engine->RemovedIds[row]) == filterId)
    {
        return;
    }
    EngineLose(engine);
    EngineRenew(engine);
}

// ---- The session

static NTSTATUS EngineOpenSession(ENGINE *engine)
{
    FWPM_SESSION0 description;
    NTSTATUS status;

    RtlZeroMemory(&description, sizeof(description));
    description.displayData.name = (wchar_t *)L"netverdict";
    description.flags = FWPM_SESSION_FLAG_DYNAMIC;
    description.txnWaitTimeoutInMSec = ENGINE_TRANSACTION_WAIT_MS;
    status = FwpmEngineOpen0(NULL, RPC_C_AUTHN_WINNT, NULL, &description, &engine->Session);
    if (!NT_SUCCESS(status))
    {
        engine->Session = NULL;
    }
    return status;
}

// Closing a dynamic session deletes its objects. It may wait for another product's transaction.
static VOID EngineCloseSession(ENGINE *engine)
{
    NTSTATUS status;

    if (engine->Session == NULL)
    {
        return;
    }
    if (engine->Filters != EngineFiltersNone)
    {
        engine->Owner.Lost(engine->Owner.Context);
    }
    InterlockedExchange(&engine->Closing, TRUE);
    status = FwpmEngineClose0(engine->Session);
    InterlockedExchange(&engine->Closing, FALSE);
    if (!NT_SUCCESS(status))
    {
        LogError(engine->Log, "The session with the filter engine could not be closed: status 0x%08x",
                 (unsigned)status);
    }
    engine->Session = NULL;
    engine->HasObjects = FALSE;
    engine->Filters = EngineFiltersNone;
}

// ---- The filter engine's service

static BOOLEAN EngineServiceRuns(const ENGINE *engine)
{
    return ReadAcquire(&engine->ServiceState) == FWPM_SERVICE_RUNNING;
}

// The filter engine calls this on any thread, at PASSIVE_LEVEL. A round does the slow work.
static VOID NTAPI EngineServiceChanged(VOID *callbackContext, FWPM_SERVICE_STATE state)
{
    ENGINE *engine = (ENGINE *)callbackContext;

    InterlockedExchange(&engine->ServiceState, (LONG)state);
    if (state == FWPM_SERVICE_STOP_PENDING || state == FWPM_SERVICE_STOPPED)
    {
        EngineLose(engine);
    }
    EngineRenew(engine);
}

static NTSTATUS EngineSubscribe(ENGINE *engine)
{
    NTSTATUS status;

    if (engine->Subscription != NULL)
    {
        return STATUS_SUCCESS;
    }
    status = FwpmBfeStateSubscribeChanges0(engine->Device, EngineServiceChanged, engine, &engine->Subscription);
    if (!NT_SUCCESS(status))
    {
        engine->Subscription = NULL;
        return status;
    }
    // A state that the callback has already reported is newer than this one.
    InterlockedCompareExchange(&engine->ServiceState, (LONG)FwpmBfeStateGet0(), FWPM_SERVICE_STATE_MAX);
    return STATUS_SUCCESS;
}

// ---- Rounds

static VOID EngineReport(ENGINE *engine, SYSTEM_EVENT event, NTSTATUS status)
{
    engine->Reported = event != SystemEventEngineBack;
    SystemLogWrite(engine->SystemLog, event, status);
}

// `isUsable` becomes FALSE if only closing the session can undo a failure.
static NTSTATUS EngineApply(ENGINE *engine, ENGINE_FILTERS wanted, BOOLEAN reauthorize, BOOLEAN *isUsable)
{
    NTSTATUS status = STATUS_SUCCESS;

    *isUsable = TRUE;
    if (wanted == engine->Filters && (!reauthorize || wanted == EngineFiltersNone))
    {
        return STATUS_SUCCESS;
    }
    if (wanted != EngineFiltersNone)
    {
        status = engine->Owner.Register(engine->Owner.Context);
    }
    if (NT_SUCCESS(status) && engine->Session == NULL)
    {
        status = EngineOpenSession(engine);
    }
    return NT_SUCCESS(status) ? EngineChangeInTransaction(engine, wanted, isUsable) : status;
}

// After a failure the filters of a usable session are still in force, and stay: without them nothing would be filtered.
// A session without filters, or one that can begin no transaction, is opened anew.
static NTSTATUS EngineFollowOwner(ENGINE *engine, BOOLEAN reauthorize)
{
    ENGINE_FILTERS wanted = engine->Owner.Wanted(engine->Owner.Context);
    BOOLEAN isUsable;
    NTSTATUS status = EngineApply(engine, wanted, reauthorize, &isUsable);

    if (!NT_SUCCESS(status) && status != STATUS_FWP_TIMEOUT && (!isUsable || engine->Filters == EngineFiltersNone))
    {
        EngineCloseSession(engine);
        status = EngineApply(engine, wanted, reauthorize, &isUsable);
    }
    return status;
}

static NTSTATUS EngineTryRound(ENGINE *engine, BOOLEAN reauthorize)
{
    NTSTATUS status = EngineSubscribe(engine);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    if (InterlockedExchange(&engine->SessionLost, FALSE) != FALSE)
    {
        if (EngineServiceRuns(engine))
        {
            LogWarning(engine->Log, "%s", EngineStateText(EngineLost)->Characters);
            EngineReport(engine, SystemEventEngineLost, STATUS_SUCCESS);
        }
        EngineCloseSession(engine);
    }
    return EngineServiceRuns(engine) ? EngineFollowOwner(engine, reauthorize) : STATUS_SUCCESS;
}

static ENGINE_STATE EngineStateAfter(const ENGINE *engine, NTSTATUS status)
{
    if (status == STATUS_FWP_TIMEOUT)
    {
        return EngineBusy;
    }
    if (!NT_SUCCESS(status))
    {
        return EngineRefused;
    }
    if (EngineIsLost(engine))
    {
        // The session was lost while the round ran. Another round follows.
        return EngineLost;
    }
    if (!EngineServiceRuns(engine))
    {
        return EngineStopped;
    }
    return engine->Filters != EngineFiltersNone ? EngineFiltering : EngineReady;
}

// A service that starts after the driver is no trouble, and neither is one that is busy while the filters are there.
static VOID EngineReportState(ENGINE *engine, ENGINE_STATE before, ENGINE_STATE state, NTSTATUS status)
{
    if (state == EngineStopped && before != ENGINE_STATE_COUNT)
    {
        EngineReport(engine, SystemEventEngineLost, status);
    }
    else if (state == EngineRefused || (state == EngineBusy && engine->Filters == EngineFiltersNone))
    {
        EngineReport(engine, SystemEventEngineRefused, status);
    }
    else if ((state == EngineReady || state == EngineFiltering) && engine->Reported)
    {
        EngineReport(engine, SystemEventEngineBack, status);
    }
}

#define ENGINE_TEXT_OF(text) {text, sizeof(text) - 1}

static const ENGINE_TEXT EngineStateTexts[] = {
    [EngineStopped] = ENGINE_TEXT_OF("The filter engine does not run: nothing is filtered until it does"),
    [EngineRefused] = ENGINE_TEXT_OF("The filter engine refuses the filters: the driver tries again"),
    [EngineBusy] = ENGINE_TEXT_OF("The filter engine is busy with another product's transaction: the filters wait"),
    [EngineReady] = ENGINE_TEXT_OF("The filter engine has no filters"),
    [EngineFiltering] = ENGINE_TEXT_OF("The filter engine is up: the filters are in force"),
    [EngineLost] = ENGINE_TEXT_OF("The filter engine has lost the driver's filters: they are added anew"),
};

_Use_decl_annotations_
const ENGINE_TEXT *EngineStateText(ENGINE_STATE state)
{
    return &EngineStateTexts[state];
}

static VOID EngineLogState(ENGINE *engine, ENGINE_STATE state, NTSTATUS status)
{
    if (state == EngineReady || state == EngineFiltering)
    {
        LogInfo(engine->Log, "%s", EngineStateText(state)->Characters);
    }
    else
    {
        LogWarning(engine->Log, "%s (status 0x%08x)", EngineStateText(state)->Characters, (unsigned)status);
    }
}

// A state that lasts is reported once.
static VOID EngineSetState(ENGINE *engine, ENGINE_STATE state, NTSTATUS status)
{
    ENGINE_STATE before = (ENGINE_STATE)InterlockedExchange(&engine->State, (LONG)state);

    if (before != state)
    {
        EngineLogState(engine, state, status);
        EngineReportState(engine, before, state, status);
    }
}

// Without filters the session and its callouts go too: a callout may switch off an offload even without a filter.
static VOID EngineRelease(ENGINE *engine)
{
    const ENGINE_OWNER *owner = &engine->Owner;

    if (engine->Filters != EngineFiltersNone || owner->Wanted(owner->Context) != EngineFiltersNone)
    {
        return;
    }
    EngineCloseSession(engine);
    if (!owner->Unregister(owner->Context))
    {
        DeferredRunAfter(&engine->Deferred, ENGINE_RETRY_MS, ENGINE_RETRY_MS / 10);
    }
}

static VOID EngineRunRound(ENGINE *engine)
{
    BOOLEAN reauthorize = DeferredTake(&engine->Deferred, DEFERRED_REAUTHORIZE);
    ENGINE_STATE state;
    NTSTATUS status;
    UINT32 wait;

    (VOID) DeferredTake(&engine->Deferred, DEFERRED_DUE);
    status = EngineTryRound(engine, reauthorize);
    state = EngineStateAfter(engine, status);
    // The state says what is true for the owner's classifies too.
    engine->Owner.Settled(engine->Owner.Context, state);
    EngineSetState(engine, state, status);
    if (!NT_SUCCESS(status))
    {
        StatisticsAdd(engine->Statistics, StatisticEngineRetries, 1);
        DeferredRequest(&engine->Deferred, reauthorize ? DEFERRED_REAUTHORIZE : 0);
        wait = state == EngineBusy ? ENGINE_BUSY_RETRY_MS : ENGINE_RETRY_MS;
        DeferredRunAfter(&engine->Deferred, wait, wait / 10);
    }
    EngineRelease(engine);
}

// A run that comes while a round runs makes that round go once more.
static VOID EngineRound(VOID *roundContext)
{
    ENGINE *engine = (ENGINE *)roundContext;
    LONG served;

    if (InterlockedIncrement(&engine->Rounds) != 1)
    {
        return;
    }
    do
    {
        served = ReadAcquire(&engine->Rounds);
        EngineRunRound(engine);
    } while (InterlockedExchangeAdd(&engine->Rounds, -served) != served);
}

_Use_decl_annotations_
VOID EngineRenew(ENGINE *engine)
{
    DeferredRequest(&engine->Deferred, DEFERRED_DUE);
    DeferredQueue(&engine->Deferred);
}

_Use_decl_annotations_
VOID EngineRequestReauthorization(ENGINE *engine)
{
    DeferredRequest(&engine->Deferred, DEFERRED_REAUTHORIZE);
}

_Use_decl_annotations_
VOID EngineReauthorize(ENGINE *engine)
{
    DeferredQueue(&engine->Deferred);
}

_Use_decl_annotations_
ENGINE_STATE EngineState(const ENGINE *engine)
{
    return (ENGINE_STATE)ReadNoFence(&engine->State);
}

_Use_decl_annotations_
BOOLEAN EngineIsLost(const ENGINE *engine)
{
    return ReadAcquire(&engine->SessionLost) != FALSE;
}

// ---- Start and end

_Use_decl_annotations_
NTSTATUS EngineInitialize(ENGINE *engine, const CLOCK *clock, PDEVICE_OBJECT device, LOG *log, SYSTEM_LOG *systemLog,
                          STATISTICS *statistics, UINT64 cookie, const ENGINE_OWNER *owner)
{
    RtlZeroMemory(engine, sizeof(*engine));
    engine->Device = device;
    engine->Log = log;
    engine->SystemLog = systemLog;
    engine->Statistics = statistics;
    engine->Cookie = cookie;
    engine->Owner = *owner;
    engine->ServiceState = FWPM_SERVICE_STATE_MAX;
    engine->State = ENGINE_STATE_COUNT;
    return DeferredInitialize(&engine->Deferred, clock, device, EngineRound, engine);
}

_Use_decl_annotations_
VOID EngineUninitialize(ENGINE *engine)
{
    BOOLEAN isUsable;

    DeferredUninitialize(&engine->Deferred);
    if (engine->Subscription != NULL)
    {
        FwpmBfeStateUnsubscribeChanges0(engine->Subscription);
    }
    while (engine->Filters != EngineFiltersNone &&
           EngineChangeInTransaction(engine, EngineFiltersNone, &isUsable) == STATUS_FWP_TIMEOUT)
    {
        // The filters go before their callouts, so no filter without a callout decides.
    }
    EngineCloseSession(engine);
}

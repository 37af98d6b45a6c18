// The management functions of fwpkclnt.sys.

#include "engine_state.h"
#include "machine.h"
#include "nt/irql.h"

namespace
{

using sim::wfp::EngineState;
using sim::wfp::ManagementCall;

// Each of these functions may call notifyFn, so it may lead out of the driver and back.
EngineState &EnterManagement(const char *function)
{
    EngineState &engine = EngineState::Current();

    sim::nt::RequireIrqlAtMost(PASSIVE_LEVEL, function);
    engine.RequireNothingHeld(function);
    return engine;
}

// Returns what `action` returns, unless the engine refuses the call or a fault is injected.
template <typename Action> NTSTATUS Carry(EngineState &engine, ManagementCall call, const Action &action)
{
    const NTSTATUS refusal = engine.RefusalOf(call);

    if (!NT_SUCCESS(refusal))
    {
        return refusal;
    }
    return engine.FaultInjected() ? STATUS_INSUFFICIENT_RESOURCES : action();
}

} // namespace

FWPM_SERVICE_STATE NTAPI FwpmBfeStateGet0(void)
{
    sim::nt::RequireIrqlAtMost(DISPATCH_LEVEL, __func__);
    EngineState::Current().RequireNothingHeld(__func__);
    return EngineState::Current().service.state();
}

NTSTATUS NTAPI FwpmBfeStateSubscribeChanges0(void *deviceObject, FWPM_SERVICE_STATE_CHANGE_CALLBACK0 callback,
                                             void *context, HANDLE *changeHandle)
{
    EngineState &engine = EnterManagement(__func__);

    if (deviceObject == nullptr || callback == nullptr || changeHandle == nullptr)
    {
        return STATUS_FWP_NULL_POINTER;
    }
    return Carry(engine, ManagementCall::kSubscribeCall,
                 [&]
                 {
                     *changeHandle = engine.service.Subscribe(callback, context);
                     return STATUS_SUCCESS;
                 });
}

NTSTATUS NTAPI FwpmBfeStateUnsubscribeChanges0(HANDLE changeHandle)
{
    return EnterManagement(__func__).service.Unsubscribe(changeHandle);
}

NTSTATUS NTAPI FwpmEngineOpen0(const wchar_t *serverName, UINT32 authnService, SEC_WINNT_AUTH_IDENTITY_W *,
                               const FWPM_SESSION0 *session, HANDLE *engineHandle)
{
    EngineState &engine = EnterManagement(__func__);

    if (engineHandle == nullptr)
    {
        return STATUS_FWP_NULL_POINTER;
    }
    if (serverName != nullptr || (authnService != RPC_C_AUTHN_WINNT && authnService != RPC_C_AUTHN_DEFAULT))
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (engine.service.state() != FWPM_SERVICE_RUNNING)
    {
        return RPC_NT_SERVER_UNAVAILABLE;
    }
    return Carry(engine, ManagementCall::kOpenCall,
                 [&] { return engine.management.OpenSession(session, engineHandle); });
}

NTSTATUS NTAPI FwpmEngineClose0(HANDLE engineHandle)
{
    EngineState &engine = EnterManagement(__func__);
    const NTSTATUS refusal = engine.RefusalOf(ManagementCall::kCloseCall);

    if (NT_SUCCESS(refusal))
    {
        return engine.management.CloseSession(engineHandle);
    }

    const NTSTATUS status = engine.management.AbandonSession(engineHandle);

    return NT_SUCCESS(status) ? refusal : status;
}

NTSTATUS NTAPI FwpmTransactionBegin0(HANDLE engineHandle, UINT32 flags)
{
    EngineState &engine = EnterManagement(__func__);

    return Carry(engine, ManagementCall::kBeginCall, [&] { return engine.management.Begin(engineHandle, flags); });
}

NTSTATUS NTAPI FwpmTransactionCommit0(HANDLE engineHandle)
{
    EngineState &engine = EnterManagement(__func__);

    // A commit that fails here leaves the transaction open.
    return Carry(engine, ManagementCall::kCommitCall, [&] { return engine.management.Commit(engineHandle); });
}

NTSTATUS NTAPI FwpmTransactionAbort0(HANDLE engineHandle)
{
    EngineState &engine = EnterManagement(__func__);
    const NTSTATUS refusal = engine.RefusalOf(ManagementCall::kAbortCall);

    if (!NT_SUCCESS(refusal))
    {
        engine.management.RecordRefusedAbort(engineHandle);
        return refusal;
    }
    return engine.management.Abort(engineHandle);
}

NTSTATUS NTAPI FwpmProviderAdd0(HANDLE engineHandle, const FWPM_PROVIDER0 *provider, PSECURITY_DESCRIPTOR)
{
    EngineState &engine = EnterManagement(__func__);

    if (provider == nullptr)
    {
        return STATUS_FWP_NULL_POINTER;
    }
    return Carry(engine, ManagementCall::kAddCall,
                 [&] { return engine.management.AddProvider(engineHandle, provider); });
}

NTSTATUS NTAPI FwpmSubLayerAdd0(HANDLE engineHandle, const FWPM_SUBLAYER0 *subLayer, PSECURITY_DESCRIPTOR)
{
    EngineState &engine = EnterManagement(__func__);

    if (subLayer == nullptr)
    {
        return STATUS_FWP_NULL_POINTER;
    }
    return Carry(engine, ManagementCall::kAddCall,
                 [&] { return engine.management.AddSubLayer(engineHandle, subLayer); });
}

NTSTATUS NTAPI FwpmCalloutAdd0(HANDLE engineHandle, const FWPM_CALLOUT0 *callout, PSECURITY_DESCRIPTOR, UINT32 *id)
{
    EngineState &engine = EnterManagement(__func__);

    if (callout == nullptr)
    {
        return STATUS_FWP_NULL_POINTER;
    }
    return Carry(engine, ManagementCall::kAddCall,
                 [&] { return engine.management.AddCallout(engineHandle, callout, id); });
}

NTSTATUS NTAPI FwpmFilterAdd0(HANDLE engineHandle, const FWPM_FILTER0 *filter, PSECURITY_DESCRIPTOR, UINT64 *id)
{
    EngineState &engine = EnterManagement(__func__);

    if (filter == nullptr)
    {
        return STATUS_FWP_NULL_POINTER;
    }
    return Carry(engine, ManagementCall::kAddCall,
                 [&] { return engine.management.AddFilter(engineHandle, filter, id); });
}

NTSTATUS NTAPI FwpmFilterDeleteById0(HANDLE engineHandle, UINT64 id)
{
    EngineState &engine = EnterManagement(__func__);

    return Carry(engine, ManagementCall::kDeleteCall, [&] { return engine.management.DeleteFilter(engineHandle, id); });
}

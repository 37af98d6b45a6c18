#include "engine.h"

#include "engine_state.h"
#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/fault_injection.h"
#include "nt/irql.h"
#include "nt/scheduler.h"

namespace sim::wfp
{

EngineState::EngineState(Machine &machine_of_engine)
    : machine(machine_of_engine), service(machine_of_engine.scheduler()),
      management(machine_of_engine, [this](const LayerSet &layers) { FiltersChanged(layers); }),
      injections(machine_of_engine), lists(machine_of_engine, machine_of_engine.options().verifier),
      verifier_(machine_of_engine.options().verifier)
{
}

EngineState &EngineState::Current()
{
    return Machine::Current().wfp().state();
}

bool EngineState::FaultInjected()
{
    return machine.faults().ShouldFail();
}

void EngineState::Refuse(NTSTATUS status, uint32_t calls)
{
    refusal_.store(NT_SUCCESS(status) ? Refusal{} : Refusal{status, calls});
}

NTSTATUS EngineState::RefusalOf(ManagementCall call) const
{
    const Refusal refusal = refusal_.load();

    return (refusal.calls & call) != 0 ? refusal.status : STATUS_SUCCESS;
}

void EngineState::FiltersChanged(const LayerSet &layers)
{
    for (uint16_t layer = 0; layer < kLayerIds; ++layer)
    {
        if (!layers.test(layer) || LayerById(layer).kind != LayerKind::kAuthorization)
        {
            continue;
        }
        if (reauthorizer.load() != nullptr && !reauthorization_queued_[layer].exchange(true))
        {
            machine.scheduler().Queue(PASSIVE_LEVEL,
                                      [this, layer]
                                      {
                                          Reauthorizer *target = reauthorizer.load();

                                          reauthorization_queued_[layer].store(false);
                                          if (target != nullptr)
                                          {
                                              target->FiltersChanged(layer);
                                          }
                                      });
        }
    }
}

NTSTATUS EngineState::AbortFlow(uint64_t flow_handle)
{
    FlowOwner *owner = flow_owner.load();

    if (owner == nullptr || !owner->CanAbort(flow_handle))
    {
        return STATUS_NOT_FOUND;
    }
    machine.scheduler().Queue(DISPATCH_LEVEL,
                              [this, flow_handle]
                              {
                                  FlowOwner *target = flow_owner.load();

                                  if (target != nullptr)
                                  {
                                      target->Abort(flow_handle);
                                  }
                              });
    return STATUS_SUCCESS;
}

void EngineState::RequireNothingHeld(const char *function) const
{
    const ClassifyFrame *frame = ClassifyFrame::Find(*this);

    nt::RequireNoLocksHeld(function);
    if (frame != nullptr && nt::CurrentIrql() > frame->irql)
    {
        Bugcheck("WFP_IRQL_RAISED_IN_CLASSIFY", "%s was called at IRQL %u inside a classify at %u: with a lock held",
                 function, nt::CurrentIrql(), frame->irql);
    }
}

Engine::Engine(Machine &machine) : state_(std::make_unique<EngineState>(machine)) {}

Engine::~Engine() = default;

ClassifyResult Engine::Classify(const ClassifyInput &input)
{
    return state_->Classify(input);
}

bool Engine::has_filters(uint16_t layer) const
{
    return layer < kLayerIds && state_->management.snapshot(layer) != nullptr;
}

uint32_t Engine::filtered_layers() const
{
    uint32_t layers = 0;

    for (uint16_t layer = 0; layer < kLayerIds; ++layer)
    {
        layers += has_filters(layer) ? 1 : 0;
    }
    return layers;
}

OffloadState Engine::offloads() const
{
    return state_->management.offloads();
}

uint64_t Engine::filter_epoch() const
{
    return state_->management.filter_epoch();
}

uint64_t Engine::objects_without_provider() const
{
    return state_->management.CountObjectsWithoutProvider();
}

uint64_t Engine::filters_that_block_without_callout() const
{
    return state_->management.CountFiltersThatBlockWithoutCallout();
}

void Engine::ReleaseWhenUnreferenced(NET_BUFFER_LIST *net_buffer_list, std::function<void()> release)
{
    state_->lists.ReleaseWhenUnreferenced(net_buffer_list, std::move(release));
}

void Engine::CopyInjectionState(const NET_BUFFER_LIST *from, NET_BUFFER_LIST *to)
{
    StateOf(to).injectors = StateOf(from).injectors;
    StateOf(to).injection_context = StateOf(from).injection_context;
}

void Engine::SetSecurity(NET_BUFFER_LIST *list, const FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 &security)
{
    FWPS_PACKET_LIST_IPSEC_INFORMATION0 information{};

    information.inbound = security;
    StateOf(list).security = information.flags;
}

uint64_t Engine::AddForeignFilter(uint16_t layer, uint16_t weight, ForeignAction action)
{
    return state_->management.AddForeignFilter(layer, weight, action);
}

void Engine::RemoveForeignFilter(uint64_t id)
{
    state_->management.RemoveForeignFilter(id);
}

void Engine::BeginForeignTransaction(const ForeignTransaction &transaction)
{
    state_->management.BeginForeign(transaction);
}

void Engine::EndForeignTransaction()
{
    state_->management.EndForeign();
}

void Engine::Refuse(NTSTATUS status, uint32_t calls)
{
    state_->Refuse(status, calls);
}

void Engine::LoseSessions(NTSTATUS status)
{
    const Machine::Scope scope(state_->machine);

    state_->management.EndSessions(status);
}

void Engine::SetUnregisterFailures(std::vector<NTSTATUS> statuses)
{
    state_->management.SetUnregisterFailures(std::move(statuses));
}

void Engine::SetPublishing(PublishOrder order, PublishWatcher between)
{
    state_->management.SetPublishing(order, std::move(between));
}

void Engine::SetInjectionTarget(InjectionTarget *target)
{
    state_->injections.SetTarget(target);
}

void Engine::SetReauthorizer(Reauthorizer *reauthorizer)
{
    state_->reauthorizer.store(reauthorizer);
}

void Engine::SetFlowOwner(FlowOwner *owner)
{
    state_->flow_owner.store(owner);
}

void Engine::SetInjectionWatcher(InjectionWatcher watcher)
{
    state_->injections.SetWatcher(std::move(watcher));
}

void Engine::SetInjectionBehavior(const InjectionBehavior &behavior)
{
    state_->injections.SetBehavior(behavior);
}

void Engine::SetPendFailure(NTSTATUS status)
{
    state_->pend_failure.store(status);
}

void Engine::SetServiceState(FWPM_SERVICE_STATE state)
{
    const Machine::Scope scope(state_->machine);

    state_->service.Set(state);
    if (state == FWPM_SERVICE_STOPPED)
    {
        state_->management.EndSessions(RPC_NT_SERVER_UNAVAILABLE);
        state_->management.EndForeign();
    }
    state_->service.Notify(state);
}

void Engine::CheckUnloaded() const
{
    state_->service.CheckUnloaded();
    state_->pended.CheckUnloaded();
    state_->management.CheckUnloaded();
    state_->injections.CheckUnloaded();
    state_->lists.CheckUnloaded();
}

EngineCounters Engine::counters() const
{
    EngineCounters counters;

    counters.classifies = state_->classifies.load();
    counters.pended_now = state_->pended.now();
    counters.pended_total = state_->pended.total();
    counters.injections_now = state_->injections.now();
    counters.injections_total = state_->injections.total();
    counters.net_buffer_lists_now = state_->lists.now();
    return counters;
}

} // namespace sim::wfp

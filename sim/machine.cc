#include "machine.h"

#include "ndis/net_buffers.h"
#include "net/stack.h"
#include "net/unicast_addresses.h"
#include "nt/bugcheck.h"
#include "nt/callback_object.h"
#include "nt/clock.h"
#include "nt/debug_port.h"
#include "nt/error_log.h"
#include "nt/fault_injection.h"
#include "nt/io_manager.h"
#include "nt/pool.h"
#include "nt/processes.h"
#include "nt/registry.h"
#include "nt/scheduler.h"
#include "wfp/engine.h"

namespace sim
{

Machine::Machine(const MachineOptions &options)
    : options_(options), faults_(std::make_unique<nt::FaultInjection>()), debug_(std::make_unique<nt::DebugPort>()),
      pool_(std::make_unique<nt::Pool>(*faults_, options.verifier)),
      clock_(std::make_unique<nt::Clock>(options.virtual_clock, [this](uint64_t time) { scheduler_->RunUntil(time); })),
      scheduler_(std::make_unique<nt::Scheduler>(*this)), io_(std::make_unique<nt::IoManager>(*this)),
      registry_(std::make_unique<nt::Registry>()), error_log_(std::make_unique<nt::ErrorLog>(*this)),
      power_state_(std::make_unique<nt::CallbackObject>()), processes_(std::make_unique<nt::Processes>(*this)),
      net_buffers_(std::make_unique<ndis::NetBuffers>(*this))
{
    Scope scope(*this);

    pool_->SetFreeCheck([this](const void *address, size_t bytes) { scheduler_->CheckFreed(address, bytes); });
    wfp_ = std::make_unique<wfp::Engine>(*this);
    net_ = std::make_unique<net::Stack>(*this);
    addresses_ = std::make_unique<net::UnicastAddresses>();
}

Machine::~Machine()
{
    Scope scope(*this);

    if (options_.worker)
    {
        scheduler_->Stop();
    }
    net_.reset();
    former_networks_.clear();
    wfp_.reset();
    net_buffers_.reset();
    io_.reset();
    pool_->CheckIntegrity();
    pool_->CheckEmpty("the machine ends");
    scheduler_.reset();
}

void Machine::Run()
{
    scheduler_->Run();
}

void Machine::Sleep(std::chrono::nanoseconds duration, SleepKind kind, bool timers_count_it)
{
    Scope scope(*this);

    if (!options_.virtual_clock)
    {
        Bugcheck("CLOCK_NOT_VIRTUAL", "Machine::Sleep was called on a machine with a real clock");
    }
    if (kind == SleepKind::kStandby)
    {
        power_state_->Notify(PO_CB_SYSTEM_STATE_LOCK, 0);
    }
    scheduler_->SleepMachine(duration, timers_count_it);
    if (kind == SleepKind::kStandby)
    {
        power_state_->Notify(PO_CB_SYSTEM_STATE_LOCK, 1);
    }
}

void Machine::RestartNetwork()
{
    Scope scope(*this);

    Run();
    net_->End();
    former_networks_.push_back(std::move(net_));
    net_ = std::make_unique<net::Stack>(*this);
}

} // namespace sim

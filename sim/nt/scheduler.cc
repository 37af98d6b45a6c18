#include "nt/scheduler.h"

#include <utility>

#include "machine.h"
#include "nt/irql.h"
#include "nt/scheduler_state.h"

namespace sim::nt
{

Scheduler::Scheduler(Machine &machine) : machine_(machine), state_(std::make_unique<SchedulerState>(machine)) {}

Scheduler::~Scheduler() = default;

void Scheduler::Queue(KIRQL level, Work work)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "Scheduler::Queue");
    state_->Queue(level, std::move(work), nullptr);
}

Scheduler::TimerId Scheduler::QueueAfter(std::chrono::nanoseconds delay, KIRQL level, Work work)
{
    return state_->QueueAfter(delay, level, std::move(work));
}

bool Scheduler::CancelTimer(TimerId id)
{
    return state_->CancelTimer(id);
}

void Scheduler::Run()
{
    Machine::Scope scope(machine_);

    RequireIrql(PASSIVE_LEVEL, "Scheduler::Run");
    state_->Run();
}

void Scheduler::Stop()
{
    Machine::Scope scope(machine_);

    state_->Stop();
}

void Scheduler::RunUntil(uint64_t unbiased_time)
{
    Machine::Scope scope(machine_);

    state_->RunUntil(unbiased_time);
}

void Scheduler::SleepMachine(std::chrono::nanoseconds duration, bool timers_count_it)
{
    state_->SleepMachine(static_cast<uint64_t>(duration.count()) / 100, timers_count_it);
}

bool Scheduler::QueueDpc(PKDPC dpc, PVOID argument1, PVOID argument2)
{
    return state_->QueueDpc(dpc, argument1, argument2);
}

bool Scheduler::RemoveDpc(PKDPC dpc)
{
    return state_->RemoveDpc(dpc);
}

void Scheduler::FlushDpcs()
{
    state_->FlushDpcs();
}

void Scheduler::QueueWorkItem(PIO_WORKITEM item, Work work)
{
    state_->Queue(PASSIVE_LEVEL, std::move(work), item);
}

bool Scheduler::SetTimer(PKTIMER timer, LARGE_INTEGER due, LONG period, ULONG tolerance, PKDPC dpc)
{
    return state_->SetTimer(timer, due, period, tolerance, dpc);
}

bool Scheduler::CancelTimer(PKTIMER timer)
{
    return state_->CancelTimer(timer);
}

LONG Scheduler::SetSignal(DISPATCHER_HEADER *object, LONG state)
{
    return state_->SetSignal(object, state);
}

NTSTATUS Scheduler::Wait(DISPATCHER_HEADER *object, const LARGE_INTEGER *timeout, KPROCESSOR_MODE mode, bool alertable)
{
    return state_->Wait(object, timeout, mode, alertable);
}

NTSTATUS Scheduler::Sleep(const LARGE_INTEGER &interval, KPROCESSOR_MODE mode, bool alertable)
{
    return state_->Sleep(interval, mode, alertable);
}

bool Scheduler::WaitUntil(const std::function<bool()> &done, std::chrono::nanoseconds limit)
{
    Machine::Scope scope(machine_);

    RequireIrqlAtMost(APC_LEVEL, "Scheduler::WaitUntil");
    return state_->WaitUntil(done,
                             limit == kNoLimit ? SchedulerState::kNoGiveUp : std::chrono::steady_clock::now() + limit);
}

bool Scheduler::WaitUntilTime(const std::function<bool()> &done, uint64_t unbiased_time)
{
    Machine::Scope scope(machine_);

    RequireIrqlAtMost(APC_LEVEL, "Scheduler::WaitUntilTime");
    return state_->WaitUntilTime(done, unbiased_time);
}

void Scheduler::Wake()
{
    state_->Wake();
}

std::string Scheduler::DriverWorkLeft()
{
    return state_->DriverWorkLeft();
}

std::vector<std::pair<uint64_t, uint64_t>> Scheduler::DriverTimers()
{
    return state_->DriverTimers();
}

void Scheduler::CheckFreed(const void *address, size_t bytes)
{
    state_->CheckFreed(address, bytes);
}

} // namespace sim::nt

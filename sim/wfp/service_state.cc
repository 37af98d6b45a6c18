#include "service_state.h"

#include "handles.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/scheduler.h"

namespace sim::wfp
{

FWPM_SERVICE_STATE ServiceState::state() const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return state_;
}

void ServiceState::Set(FWPM_SERVICE_STATE state)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    state_ = state;
}

void ServiceState::Notify(FWPM_SERVICE_STATE state)
{
    std::unique_lock<std::mutex> lock(mutex_);

    for (auto next = subscriptions_.begin(); next != subscriptions_.end();)
    {
        Subscription &subscription = next->second;

        if (subscription.ended)
        {
            ++next;
            continue;
        }
        subscription.running++;
        lock.unlock();
        {
            nt::DriverCall call("a callback of FwpmBfeStateSubscribeChanges0");

            subscription.callback(subscription.context, state);
        }
        lock.lock();
        // The iterator moves on before its subscription may be removed.
        ++next;
        subscription.running--;
        scheduler_.Wake();
    }
}

HANDLE ServiceState::Subscribe(FWPM_SERVICE_STATE_CHANGE_CALLBACK0 callback, void *context)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t number = ++last_number_;

    Subscription &subscription = subscriptions_[number];

    subscription.callback = callback;
    subscription.context = context;
    return MakeHandle(HandleKind::kServiceState, number);
}

NTSTATUS ServiceState::Unsubscribe(HANDLE handle)
{
    std::unique_lock<std::mutex> lock(mutex_);
    const auto found = subscriptions_.find(HandleNumber(HandleKind::kServiceState, handle));

    if (found == subscriptions_.end() || found->second.ended)
    {
        return STATUS_INVALID_HANDLE;
    }
    found->second.ended = true;
    lock.unlock();
    scheduler_.WaitUntilTime([&] { return found->second.running == 0; }, nt::Scheduler::kNoDeadline);
    lock.lock();
    subscriptions_.erase(found);
    return STATUS_SUCCESS;
}

void ServiceState::CheckUnloaded() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (!subscriptions_.empty())
    {
        Bugcheck("WFP_SUBSCRIPTION_LEAKED", "%zu drivers are still subscribed to the filter engine's state",
                 subscriptions_.size());
    }
}

} // namespace sim::wfp

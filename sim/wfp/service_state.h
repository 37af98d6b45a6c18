// The state of the filter engine's service (BFE, a service in user mode on Windows), and its subscribers.
//
// Concurrency: every function may be called from any thread. Drivers are notified without a lock.
#pragma once

#include <ntddk.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

namespace sim::nt
{
class Scheduler;
} // namespace sim::nt

namespace sim::wfp
{

class ServiceState
{
  public:
    explicit ServiceState(nt::Scheduler &scheduler) : scheduler_(scheduler) {}

    FWPM_SERVICE_STATE state() const;

    void Set(FWPM_SERVICE_STATE state);

    // Calls every subscriber with the state, on the calling thread.
    void Notify(FWPM_SERVICE_STATE state);

    HANDLE Subscribe(FWPM_SERVICE_STATE_CHANGE_CALLBACK0 callback, void *context);

    // Once this returns, the callback does not run and is never called again.
    NTSTATUS Unsubscribe(HANDLE handle);

    // Bugchecks on everything that a driver may not leave.
    void CheckUnloaded() const;

  private:
    struct Subscription
    {
        FWPM_SERVICE_STATE_CHANGE_CALLBACK0 callback = nullptr;
        void *context = nullptr;
        std::atomic<unsigned> running{0};
        bool ended = false;
    };

    nt::Scheduler &scheduler_;
    mutable std::mutex mutex_;
    FWPM_SERVICE_STATE state_ = FWPM_SERVICE_RUNNING;
    std::map<uint64_t, Subscription> subscriptions_; // by number
    uint64_t last_number_ = 0;
};

} // namespace sim::wfp

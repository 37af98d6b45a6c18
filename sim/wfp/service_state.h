// The state of the filter engine's service (BFE, in user mode on Windows), and the drivers that are told of its
// changes.
//
// Concurrency: everything may be called from any thread. Drivers are told with no lock held.
#pragma once

#include <ntddk.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

namespace sim::wfp
{

class ServiceState
{
  public:
    FWPM_SERVICE_STATE state() const;

    void Set(FWPM_SERVICE_STATE state);

    // Calls every subscriber with the state, on the calling thread.
    void Tell(FWPM_SERVICE_STATE state);

    HANDLE Subscribe(FWPM_SERVICE_STATE_CHANGE_CALLBACK0 callback, void *context);

    // When it returns the callback does not run, and is not called any more.
    NTSTATUS Unsubscribe(HANDLE handle);

    // Bugchecks on what a driver must not leave behind.
    void CheckUnloaded() const;

  private:
    struct Subscription
    {
        FWPM_SERVICE_STATE_CHANGE_CALLBACK0 callback = nullptr;
        void *context = nullptr;
        unsigned running = 0;
        bool ended = false;
    };

    mutable std::mutex mutex_;
    std::condition_variable idle_;
    FWPM_SERVICE_STATE state_ = FWPM_SERVICE_RUNNING;
    std::map<uint64_t, Subscription> subscriptions_; // by number
    uint64_t last_number_ = 0;
};

} // namespace sim::wfp

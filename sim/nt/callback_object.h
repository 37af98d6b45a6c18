// A callback object of the system's, as \Callback\PowerState: drivers register functions with it, which Notify calls.
//
// Concurrency: everything may be called from any thread. No lock is held while a driver's function runs.
#pragma once

#include <ntddk.h>

#include <condition_variable>
#include <list>
#include <mutex>
#include <string>

namespace sim::nt
{

class CallbackObject
{
  public:
    void Reference();
    void Dereference();

    void *Register(PCALLBACK_FUNCTION function, void *context);
    // Waits for calls of it that are running.
    static void Unregister(void *registration);

    // Calls every registered function, at the caller's IRQL.
    void Notify(uintptr_t argument1, uintptr_t argument2);

    // What drivers have not given back, in words; empty: nothing.
    std::string Left() const;

  private:
    struct Registration
    {
        CallbackObject *owner;
        PCALLBACK_FUNCTION function;
        void *context;
        uint32_t running = 0;
        bool ended = false;
    };

    mutable std::mutex mutex_; // of everything below
    std::condition_variable idle_;
    std::list<Registration> registrations_;
    uint32_t references_ = 0;
};

} // namespace sim::nt

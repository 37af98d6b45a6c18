// A system callback object such as \Callback\PowerState: drivers register functions, and Notify calls them.
//
// Concurrency: every function may be called from any thread.
// No lock is held while a driver's function runs.
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
    // Waits until no call of the registered function is running.
    static void Unregister(void *registration);

    // Calls every registered function, at the caller's IRQL.
    void Notify(uintptr_t argument1, uintptr_t argument2);

    // Describes the registrations that drivers did not remove; empty when there are none.
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

    mutable std::mutex mutex_; // guards the members below
    std::condition_variable idle_;
    std::list<Registration> registrations_;
    uint32_t references_ = 0;
};

} // namespace sim::nt

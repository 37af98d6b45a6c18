// A call into the driver: it must come back at the IRQL and with the spin locks that it was entered with.
#pragma once

#include "thread_state.h"

namespace sim::nt
{

[[noreturn]] void BugcheckCallChangedIrql(const char *routine, KIRQL before);
[[noreturn]] void BugcheckCallKeptLocks(const char *routine, unsigned before);

// Stands around the call, in a block of its own. `routine`: what is called, as in "DriverUnload"; it must outlive the
// call.
class DriverCall
{
  public:
    explicit DriverCall(const char *routine)
        : routine_(routine), locks_held_(thread_state.locks_held), irql_(thread_state.irql)
    {
    }

    ~DriverCall()
    {
        if (thread_state.locks_held != locks_held_)
        {
            BugcheckCallKeptLocks(routine_, locks_held_);
        }
        if (thread_state.irql != irql_)
        {
            BugcheckCallChangedIrql(routine_, irql_);
        }
    }

    DriverCall(const DriverCall &) = delete;
    DriverCall &operator=(const DriverCall &) = delete;

  private:
    const char *routine_;
    uint16_t locks_held_;
    KIRQL irql_;
};

} // namespace sim::nt

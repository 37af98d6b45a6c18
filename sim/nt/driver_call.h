// A call into the driver, with the checks that it returns as it was entered and does not use too much stack.
// The IRQL, the spin locks and the critical regions must be the same after the call as before it.
// The frames above the call on the stack belong to the driver (CallStack::CaptureInDriver).
#pragma once

#include <cstddef>

#include "thread_state.h"

#include <utility>

namespace sim::nt
{

// A thread on Windows has 24 KiB of stack, and the driver's callers have used most of it.
extern const ptrdiff_t kMostStackOfDriver;

[[noreturn]] void BugcheckStackTooDeep(const char *function, ptrdiff_t bytes);
[[noreturn]] void BugcheckCallChangedIrql(const char *routine, KIRQL before);
[[noreturn]] void BugcheckCallKeptLocks(const char *routine, unsigned before);
[[noreturn]] void BugcheckCallKeptCriticalRegion(const char *routine, unsigned before);

// For kernel functions that a driver may call at any depth of the stack.
inline void RequireStack(const char *function)
{
    const char *caller = static_cast<const char *>(thread_state.driver_caller);
    const char *here = static_cast<const char *>(__builtin_frame_address(0));

    if (caller != nullptr && caller - here > kMostStackOfDriver)
    {
        BugcheckStackTooDeep(function, caller - here);
    }
}

// Constructed before the call and destroyed after it.
// `routine` is the called routine, such as "DriverUnload"; the string must outlive the call.
class DriverCall
{
  public:
    // Inlined, so that the frame is that of its caller.
    __attribute__((always_inline)) explicit DriverCall(const char *routine)
        : routine_(routine), caller_(thread_state.driver_caller), locks_held_(thread_state.locks_held),
          critical_regions_(thread_state.critical_regions), irql_(thread_state.irql)
    {
        thread_state.driver_caller = __builtin_frame_address(0);
    }

    ~DriverCall()
    {
        thread_state.driver_caller = caller_;
        if (thread_state.locks_held != locks_held_)
        {
            BugcheckCallKeptLocks(routine_, locks_held_);
        }
        if (thread_state.critical_regions != critical_regions_)
        {
            BugcheckCallKeptCriticalRegion(routine_, critical_regions_);
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
    const void *caller_;
    uint16_t locks_held_;
    uint16_t critical_regions_;
    KIRQL irql_;
};

// Stands around the kernel's own work inside a driver's call: functions called there do not count as the driver's.
class KernelCall
{
  public:
    KernelCall() : caller_(std::exchange(thread_state.driver_caller, nullptr)) {}
    ~KernelCall() { thread_state.driver_caller = caller_; }

    KernelCall(const KernelCall &) = delete;
    KernelCall &operator=(const KernelCall &) = delete;

  private:
    const void *caller_;
};

} // namespace sim::nt

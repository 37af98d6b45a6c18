// The interrupt request level of a thread, and the rules for it.
// A thread at DISPATCH_LEVEL is not pinned to a processor; everything that Windows forbids there is found.
#pragma once

#include "thread_state.h"

namespace sim::nt
{

[[noreturn]] void BugcheckIrqlTooHigh(const char *function, KIRQL maximum);
[[noreturn]] void BugcheckIrqlWrong(const char *function, KIRQL required);
[[noreturn]] void BugcheckLocksHeld(const char *function);
[[noreturn]] void BugcheckIrqlRaisedDown(KIRQL irql);
[[noreturn]] void BugcheckIrqlLoweredUp(KIRQL irql);

inline KIRQL CurrentIrql()
{
    return thread_state.irql;
}

inline KIRQL RaiseIrql(KIRQL irql)
{
    KIRQL old = thread_state.irql;

    if (irql < old)
    {
        BugcheckIrqlRaisedDown(irql);
    }
    thread_state.irql = irql;
    return old;
}

inline void LowerIrql(KIRQL irql)
{
    if (irql > thread_state.irql)
    {
        BugcheckIrqlLoweredUp(irql);
    }
    thread_state.irql = irql;
}

// `function` is the kernel function that has this rule.
inline void RequireIrqlAtMost(KIRQL maximum, const char *function)
{
    if (thread_state.irql > maximum)
    {
        BugcheckIrqlTooHigh(function, maximum);
    }
}

inline void RequireIrql(KIRQL required, const char *function)
{
    if (thread_state.irql != required)
    {
        BugcheckIrqlWrong(function, required);
    }
}

// For calls that a driver must not make while it holds a spin lock.
inline void RequireNoLocksHeld(const char *function)
{
    if (thread_state.locks_held != 0)
    {
        BugcheckLocksHeld(function);
    }
}

// Runs at `irql` until the end of the block.
class IrqlScope
{
  public:
    explicit IrqlScope(KIRQL irql) : old_(RaiseIrql(irql)) {}
    ~IrqlScope() { LowerIrql(old_); }

    IrqlScope(const IrqlScope &) = delete;
    IrqlScope &operator=(const IrqlScope &) = delete;

  private:
    KIRQL old_;
};

} // namespace sim::nt

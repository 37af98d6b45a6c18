// Makes kernel functions fail that may fail: pool allocations, and every other function that takes memory.
// The others are MDLs, mappings, work items, net buffer lists, the data of net buffers, and reads of the registry.
// A test runs one scenario many times; in each run another call fails.
//
// Functions that give something back never fail here, because no driver could handle such a failure.
// These are FwpmEngineClose0, FwpmTransactionAbort0, FwpsInjectionHandleDestroy0, IoDeleteSymbolicLink and ZwClose.
// FwpsCalloutUnregisterById0 may fail, once for each callout, with one of several errors.
//
// Concurrency: every function may be called from any thread.
// ShouldFail costs one load while no failure is armed.
#pragma once

#include <atomic>
#include <cstdint>

#include "nt/call_stack.h"

namespace sim::nt
{

// Decides on failures where a test arms none: for all machines that are created while the plan is set.
class FaultPlan
{
  public:
    virtual ~FaultPlan() = default;

    // Returns true if the call fails. `stack` is the call stack of a driver's call that may fail.
    // Called by any thread, at any IRQL.
    virtual bool Fails(const CallStack &stack) = 0;
};

class FaultInjection
{
  public:
    FaultInjection() { Stop(); }

    // Call this before the first machine is created.
    static void SetPlan(FaultPlan *plan) { plan_ = plan; }

    // Call number `n` that takes memory fails, counting from 0 at this moment; all other calls succeed.
    void FailNth(uint64_t n);

    // Every call that takes memory fails.
    void FailAll();

    // The driver's call number `n` that asks for a net buffer's data fails, counting from 0; all other calls succeed.
    void FailNthAccess(uint64_t n);

    // About one in `n` of the driver's calls fails (`n` >= 1). A call's number alone decides whether it fails.
    void FailOneIn(uint32_t n);

    // Returns to the plan, or to no failures where there is no plan.
    void Stop();

    // The number of calls since the last of the functions above.
    uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
    uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

    // The number of failures since the machine was created.
    uint64_t all_failures() const { return all_failures_.load(std::memory_order_relaxed); }

    // Every function that may fail calls this: to take memory, or to read a net buffer's data.
    bool ShouldFail() { return mode_.load(std::memory_order_relaxed) != Mode::kOff && Decide(Cause::kMemory); }
    bool ShouldFailAccess() { return mode_.load(std::memory_order_relaxed) != Mode::kOff && Decide(Cause::kAccess); }

  private:
    enum class Cause : uint8_t
    {
        kMemory,
        kAccess
    };

    enum class Mode : uint8_t
    {
        kOff,
        kNth,
        kAll,
        kNthAccess,
        kOneIn,
        kPlan
    };

    void Arm(Mode mode, uint64_t n);
    static bool IsMeant(Mode mode, Cause cause);
    bool Decide(Cause cause);

    static inline FaultPlan *plan_ = nullptr;
    std::atomic<Mode> mode_{Mode::kOff};
    std::atomic<uint64_t> n_{0};
    std::atomic<uint64_t> calls_{0};
    std::atomic<uint64_t> failures_{0};
    std::atomic<uint64_t> all_failures_{0};
};

} // namespace sim::nt

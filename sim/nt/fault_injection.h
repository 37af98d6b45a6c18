// Makes kernel functions fail that may fail: pool allocations, and everything else that takes memory (MDLs, mappings,
// work items, net buffer lists, the data of net buffers). A test runs one scenario again and again, with another call
// failing each time.
//
// Not made to fail is what gives something back, as no driver could do anything about it: FwpmEngineClose0,
// FwpmTransactionAbort0, FwpsInjectionHandleDestroy0, IoDeleteSymbolicLink. FwpsCalloutUnregisterById0 can be
// busy, once for each callout.
//
// Concurrency: everything may be called from any thread; ShouldFail costs one load while nothing is armed.
#pragma once

#include <atomic>
#include <cstdint>

#include "nt/call_stack.h"

namespace sim::nt
{

// What decides where no test has a wish of its own: of all machines that are made while it is set.
class FaultPlan
{
  public:
    virtual ~FaultPlan() = default;

    // Called by any thread, at any IRQL, with the stack of each call of the driver's that may fail: whether it does.
    virtual bool Fails(const CallStack &stack) = 0;
};

class FaultInjection
{
  public:
    FaultInjection() { Stop(); }

    // For the time before the first machine is made.
    static void SetPlan(FaultPlan *plan) { plan_ = plan; }

    // The call number `n` from now on fails that takes memory, counting from 0, and no other.
    void FailNth(uint64_t n);

    // Every call fails that takes memory.
    void FailAll();

    // Of the driver's own calls that reach for a net buffer's data the number `n` fails, counting from 0, and no other.
    void FailNthAccess(uint64_t n);

    // Of the driver's own calls about one in `n` fails, from 1: which ones is settled by their number alone.
    void FailOneIn(uint32_t n);

    // Back to the plan, or to none.
    void Stop();

    // Since the last of the calls above.
    uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
    uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

    // Failures since the machine was made.
    uint64_t all_failures() const { return all_failures_.load(std::memory_order_relaxed); }

    // Asked by every function that may fail: for memory, or for the data of a net buffer.
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

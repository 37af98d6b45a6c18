// Makes kernel functions fail that may fail: pool allocations, and everything else that takes memory (MDLs, mappings,
// work items, net buffer lists). A test runs one scenario again and again, with another call failing each time.
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

    // The call number `n` from now on fails, counting from 0, and no other.
    void FailNth(uint64_t n);

    // Every call fails.
    void FailAll();

    // Of the driver's own calls about one in `n` fails, from 1: which ones is settled by their number alone.
    void FailOneIn(uint32_t n);

    // Back to the plan, or to none.
    void Stop();

    // Since the last of the calls above.
    uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
    uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

    // Asked by every function that may fail.
    bool ShouldFail() { return mode_.load(std::memory_order_relaxed) != Mode::kOff && Decide(); }

  private:
    enum class Mode : uint8_t
    {
        kOff,
        kNth,
        kAll,
        kOneIn,
        kPlan
    };

    void Arm(Mode mode, uint64_t n);
    bool Decide();

    static inline FaultPlan *plan_ = nullptr;
    std::atomic<Mode> mode_{Mode::kOff};
    std::atomic<uint64_t> n_{0};
    std::atomic<uint64_t> calls_{0};
    std::atomic<uint64_t> failures_{0};
};

} // namespace sim::nt

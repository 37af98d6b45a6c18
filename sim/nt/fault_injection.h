// Makes kernel functions fail that may fail: pool allocations, and everything else that takes memory (MDLs, mappings,
// work items, net buffer lists). A test runs one scenario again and again, with another call failing each time.
//
// Concurrency: everything may be called from any thread; ShouldFail costs one load while nothing is armed.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_set>

namespace sim::nt
{

class FaultInjection
{
  public:
    // The call number `n` from now on fails, counting from 0, and no other.
    void FailNth(uint64_t n);

    // Every call fails.
    void FailAll();

    // Every call fails the first time that it is made from one place (call stack), and succeeds from then on.
    void FailEachCallStackOnce();

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
        kEachCallStackOnce
    };

    void Arm(Mode mode, uint64_t n);
    bool Decide();
    bool IsNewCallStack();

    std::atomic<Mode> mode_{Mode::kOff};
    std::atomic<uint64_t> nth_{0};
    std::atomic<uint64_t> calls_{0};
    std::atomic<uint64_t> failures_{0};
    std::mutex mutex_;
    std::unordered_set<uint64_t> seen_call_stacks_; // under mutex_
};

} // namespace sim::nt

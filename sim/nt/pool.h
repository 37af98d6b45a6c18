// Pool memory of a machine: counted by tag, checked when it is freed, and empty when the last driver is gone.
//
// Without the verifier an allocation is a C library allocation with a small header.
// With the verifier every allocation keeps its call stack and has a guard behind its end.
// The verifier fills freed memory with a pattern and keeps it for a while: it finds double frees and late writes.
//
// Concurrency: every function may be called from any thread.
#pragma once

#include <ntddk.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace sim::nt
{

class FaultInjection;
class PoolState;

class Pool
{
  public:
    static constexpr size_t kLargePage = 2 * 1024 * 1024; // the alignment of allocations of at least this size

    Pool(FaultInjection &faults, bool verifier);
    ~Pool(); // frees all memory that is left, without a report; CheckEmpty reports it

    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    // The content is unspecified (a pattern, with the verifier) unless `zeroed` is set.
    // Returns nullptr when there is no memory or a fault is injected.
    // The memory is aligned to 16 bytes, to a page from PAGE_SIZE on, and to kLargePage from that size on.
    // Memory from kLargePage on is requested as huge pages.
    void *Allocate(size_t bytes, uint32_t tag, bool zeroed = false);

    // Verifier: sets the byte that fills new memory that is not zeroed.
    void SetFreshByte(uint8_t byte);

    // Frees memory that was allocated with this tag; 0 accepts any tag.
    void Free(void *address, uint32_t tag);

    // Verifier: called with every range before it is freed, to find objects that must not be in freed memory.
    using FreeCheck = std::function<void(const void *address, size_t bytes)>;
    void SetFreeCheck(FreeCheck check);

    // Allocated bytes as the callers requested them, without headers.
    int64_t bytes() const;
    int64_t allocations() const;

    // Verifier: checks every guard and every freed block that is kept. Bugchecks on the first one that was overwritten.
    void CheckIntegrity();

    // Bugchecks when something is allocated. `when` is an event such as "driver NetVerdict was unloaded".
    void CheckEmpty(const std::string &when);

    // Lists each tag and call stack with allocations, one per line; empty when there are none.
    std::string Report() const;

  private:
    std::unique_ptr<PoolState> state_;
};

} // namespace sim::nt

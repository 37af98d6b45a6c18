// Pool memory of a machine: accounted by tag, checked when it is freed, and complete when the last driver is gone.
//
// Without the verifier an allocation is the C library's with a small header. With it, every allocation remembers its
// call stack and is guarded behind its end; freed memory is filled with a pattern and kept for a while, so that a
// second free and a late write are found.
//
// Concurrency: everything may be called from any thread.
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
    static constexpr size_t kLargePage = 2 * 1024 * 1024; // alignment of allocations from this size on

    Pool(FaultInjection &faults, bool verifier);
    ~Pool(); // frees what is left without a word; CheckEmpty speaks

    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    // Content is unspecified (a pattern, with the verifier) unless zeroed. nullptr when there is no memory or a fault
    // is injected. 16-byte aligned; page aligned from PAGE_SIZE on; from kLargePage on aligned to that and asked to be
    // in huge pages.
    void *Allocate(size_t bytes, uint32_t tag, bool zeroed = false);

    // Verifier: what memory that is not zeroed is filled with from now on.
    void SetFreshByte(uint8_t byte);

    // tag 0: any.
    void Free(void *address, uint32_t tag);

    // Verifier: called with every range before it is freed, to find what must not be in freed memory.
    using FreeCheck = std::function<void(const void *address, size_t bytes)>;
    void SetFreeCheck(FreeCheck check);

    // As asked for, without headers.
    int64_t bytes() const;
    int64_t allocations() const;

    // Verifier: checks every guard and every freed block that is still kept; bugchecks on the first that was written.
    void CheckIntegrity();

    // Bugchecks when something is allocated. `when`: as in "driver NetVerdict was unloaded".
    void CheckEmpty(const std::string &when);

    // One line for each tag and call stack with allocations; empty when there are none.
    std::string Report() const;

  private:
    std::unique_ptr<PoolState> state_;
};

} // namespace sim::nt

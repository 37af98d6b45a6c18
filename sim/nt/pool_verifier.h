// The expensive checks of the pool. The verifier knows every allocation and its call stack.
// It guards the bytes around each allocation, fills freed memory with a pattern and keeps it for a while.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "nt/call_stack.h"
#include "nt/pool_memory.h"

namespace sim::nt
{

class PoolVerifier
{
  public:
    PoolVerifier() = default;
    ~PoolVerifier(); // frees all memory

    PoolVerifier(const PoolVerifier &) = delete;
    PoolVerifier &operator=(const PoolVerifier &) = delete;

    void *Allocate(size_t bytes, uint32_t tag, bool zeroed);
    void SetFreshByte(uint8_t byte) { fresh_byte_ = byte; }

    // Returns the size of the block at `address`. Bugchecks if it cannot be freed with this tag (0: any).
    size_t SizeForFree(const void *address, uint32_t tag);

    // Frees the block, and returns its tag and size for the counters.
    std::pair<uint32_t, size_t> Free(void *address, uint32_t tag);

    // Bugchecks on the first guard or freed block that was overwritten.
    void CheckIntegrity();

    std::string Report() const;

  private:
    static constexpr size_t kGuardBytes = 16;
    static constexpr size_t kKeptBlocks = 4096;
    static constexpr size_t kKeptBytes = 8 * 1024 * 1024;
    static constexpr size_t kKeptBlockBytes = 256 * 1024; // larger blocks are not kept

    struct Block
    {
        void *base;
        size_t size;        // as the caller requested it
        uint64_t allocated; // hashes of call stacks
        uint64_t freed;
        uint32_t tag;
        PoolPlacement placement;
    };

    using Blocks = std::unordered_map<const void *, Block>;

    static size_t FrontGuard(PoolPlacement placement);
    static size_t TotalBytes(const Block &block);

    uint64_t RememberStackLocked();
    const Block &FindForFreeLocked(const void *address, uint32_t tag);
    void CheckGuardsLocked(const void *address, const Block &block);
    void CheckFreedLocked(const void *address, const Block &block);
    void KeepLocked(void *address, const Block &block);
    void ReleaseOldestLocked();
    void Release(const Block &block);
    [[noreturn]] void BugcheckBlock(const char *rule, const char *what, const void *address, const Block &block) const;
    std::string DescribeStack(uint64_t hash) const;

    unsigned char fresh_byte_ = 0xCB;
    mutable std::mutex mutex_; // guards the members below
    Blocks live_;
    Blocks freed_;
    std::deque<void *> freed_order_;
    size_t freed_bytes_ = 0;
    std::unordered_map<uint64_t, CallStack> stacks_;
};

} // namespace sim::nt

// Pool usage by tag: counters that every allocation and free updates without a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sim::nt
{

// Gives "'NtVd'": the bytes of a tag as pool tools show them.
std::string TagName(uint32_t tag);

class PoolTags
{
  public:
    void Add(uint32_t tag, size_t bytes);
    void Remove(uint32_t tag, size_t bytes);

    int64_t bytes() const;
    int64_t allocations() const;

    // Lists each tag with allocations, one per line.
    std::string Report() const;

  private:
    static constexpr size_t kSlots = 256; // a power of two

    struct alignas(64) Slot
    {
        std::atomic<uint32_t> tag{0}; // 0: free
        std::atomic<int64_t> allocations{0};
        std::atomic<int64_t> bytes{0};
    };

    Slot &SlotOf(uint32_t tag);

    std::array<Slot, kSlots> slots_;
    Slot others_; // counts all tags that found no slot
};

} // namespace sim::nt

// Readers of data that is replaced but never changed. Readers take no lock: they count themselves in and out.
// A writer unpublishes the old data, takes a ticket, and may free the data once the ticket has passed.
//
// Concurrency: each reader counts in one of two generations, in the slot of its thread.
// A generation ends only when the other one has no reader left.
// After two ends every reader that could have seen the old data has left.
// A reader that counts itself in after a writer saw its slot empty sees the new data.
// This holds because both sides are sequentially consistent.
// One thread at a time calls the writer's functions.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sim::wfp
{

class ReadSection
{
  public:
    class Guard
    {
      public:
        explicit Guard(ReadSection &section) : inside_(section.Enter()) {}
        ~Guard() { inside_.fetch_sub(1, std::memory_order_release); }

        Guard(const Guard &) = delete;
        Guard &operator=(const Guard &) = delete;

      private:
        std::atomic<uint64_t> &inside_;
    };

    uint64_t TakeTicket() const { return generation_.load() + 2; }
    bool Passed(uint64_t ticket) const { return generation_.load() >= ticket; }

    // Ends a generation if that is possible now.
    bool TryAdvance();

  private:
    static constexpr size_t kSlots = 64;

    struct alignas(64) Slot
    {
        std::atomic<uint64_t> inside[2]{};
    };

    static size_t SlotOfThread();

    std::atomic<uint64_t> &Enter()
    {
        std::atomic<uint64_t> &inside = slots_[SlotOfThread()].inside[generation_.load() & 1];
        inside.fetch_add(1);
        return inside;
    }

    std::array<Slot, kSlots> slots_;
    std::atomic<uint64_t> generation_{0};
};

inline size_t ReadSection::SlotOfThread()
{
    static std::atomic<size_t> next_slot{0};
    thread_local const size_t slot = next_slot.fetch_add(1, std::memory_order_relaxed) % kSlots;
    return slot;
}

} // namespace sim::wfp

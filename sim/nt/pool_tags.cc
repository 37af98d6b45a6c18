#include "nt/pool_tags.h"

namespace sim::nt
{

std::string TagName(uint32_t tag)
{
    std::string name = "'";

    for (int shift = 0; shift < 32; shift += 8)
    {
        char letter = static_cast<char>(tag >> shift);

        name += letter >= ' ' && letter <= '~' ? letter : '.';
    }
    return name + "'";
}

PoolTags::Slot &PoolTags::SlotOf(uint32_t tag)
{
    size_t start = (tag * 0x9E3779B1u) >> 24;

    for (size_t i = 0; i < kSlots; i++)
    {
        Slot &slot = slots_[(start + i) % kSlots];
        uint32_t found = slot.tag.load(std::memory_order_relaxed);

        if (found == tag || (found == 0 && (slot.tag.compare_exchange_strong(found, tag) || found == tag)))
        {
            return slot;
        }
    }
    return others_;
}

void PoolTags::Add(uint32_t tag, size_t bytes)
{
    Slot &slot = SlotOf(tag);

    slot.allocations.fetch_add(1, std::memory_order_relaxed);
    slot.bytes.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
}

void PoolTags::Remove(uint32_t tag, size_t bytes)
{
    Slot &slot = SlotOf(tag);

    slot.allocations.fetch_sub(1, std::memory_order_relaxed);
    slot.bytes.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
}

int64_t PoolTags::bytes() const
{
    int64_t sum = others_.bytes.load(std::memory_order_relaxed);

    for (const Slot &slot : slots_)
    {
        sum += slot.bytes.load(std::memory_order_relaxed);
    }
    return sum;
}

int64_t PoolTags::allocations() const
{
    int64_t sum = others_.allocations.load(std::memory_order_relaxed);

    for (const Slot &slot : slots_)
    {
        sum += slot.allocations.load(std::memory_order_relaxed);
    }
    return sum;
}

std::string PoolTags::Report() const
{
    std::string report;

    auto add = [&report](const std::string &name, const Slot &slot)
    {
        int64_t allocations = slot.allocations.load(std::memory_order_relaxed);

        if (allocations != 0)
        {
            report += "    tag " + name + ": " + std::to_string(allocations) + " allocation(s), " +
                      std::to_string(slot.bytes.load(std::memory_order_relaxed)) + " bytes\n";
        }
    };
    for (const Slot &slot : slots_)
    {
        add(TagName(slot.tag.load(std::memory_order_relaxed)), slot);
    }
    add("(others)", others_);
    return report;
}

} // namespace sim::nt

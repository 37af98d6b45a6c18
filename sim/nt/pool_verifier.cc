#include "nt/pool_verifier.h"

#include <cstring>

#include "nt/bugcheck.h"
#include "nt/freed_pattern.h"
#include "nt/pool_tags.h"
#include "nt/sanitizer.h"

namespace sim::nt
{

namespace
{

constexpr unsigned char kGuardByte = 0xFD;

constexpr size_t kStackFramesOfPool = 3;

char *After(const void *address, size_t bytes)
{
    return const_cast<char *>(static_cast<const char *>(address)) + bytes;
}

} // namespace

PoolVerifier::~PoolVerifier()
{
    for (const Blocks *blocks : {&live_, &freed_})
    {
        for (const auto &[address, block] : *blocks)
        {
            Release(block);
        }
    }
}

// A page-aligned block starts at its page, so it has no guard before it.
size_t PoolVerifier::FrontGuard(PoolPlacement placement)
{
    return placement == PoolPlacement::kHeap ? kGuardBytes : 0;
}

size_t PoolVerifier::TotalBytes(const Block &block)
{
    return FrontGuard(block.placement) + block.size + kGuardBytes;
}

void *PoolVerifier::Allocate(size_t bytes, uint32_t tag, bool zeroed)
{
    Block block{nullptr, bytes, 0, 0, tag, PlacementFor(bytes)};

    block.base = AllocatePoolMemory(block.placement, TotalBytes(block), zeroed);
    if (block.base == nullptr)
    {
        return nullptr;
    }

    size_t front = FrontGuard(block.placement);
    char *address = After(block.base, front);

    std::memset(block.base, kGuardByte, front);
    std::memset(address + bytes, kGuardByte, kGuardBytes);
    if (!zeroed)
    {
        std::memset(address, fresh_byte_, bytes);
    }
    ForbidAccess(block.base, front);
    ForbidAccess(address + bytes, kGuardBytes);

    std::lock_guard<std::mutex> lock(mutex_);

    block.allocated = RememberStackLocked();
    live_.emplace(address, block);
    return address;
}

size_t PoolVerifier::SizeForFree(const void *address, uint32_t tag)
{
    std::lock_guard<std::mutex> lock(mutex_);

    return FindForFreeLocked(address, tag).size;
}

std::pair<uint32_t, size_t> PoolVerifier::Free(void *address, uint32_t tag)
{
    std::lock_guard<std::mutex> lock(mutex_);
    Block block = FindForFreeLocked(address, tag);

    CheckGuardsLocked(address, block);
    live_.erase(address);
    block.freed = RememberStackLocked();
    if (block.size > kKeptBlockBytes)
    {
        Release(block);
    }
    else
    {
        KeepLocked(address, block);
    }
    return {block.tag, block.size};
}

void PoolVerifier::CheckIntegrity()
{
    std::lock_guard<std::mutex> lock(mutex_);

    for (const auto &[address, block] : live_)
    {
        CheckGuardsLocked(address, block);
    }
    for (const auto &[address, block] : freed_)
    {
        CheckFreedLocked(address, block);
    }
}

std::string PoolVerifier::Report() const
{
    struct Sum
    {
        uint64_t allocations = 0;
        uint64_t bytes = 0;
    };
    std::lock_guard<std::mutex> lock(mutex_);
    std::map<std::pair<uint32_t, uint64_t>, Sum> sums;
    std::string report;

    for (const auto &[address, block] : live_)
    {
        Sum &sum = sums[{block.tag, block.allocated}];

        sum.allocations++;
        sum.bytes += block.size;
    }
    for (const auto &[key, sum] : sums)
    {
        report += "    tag " + TagName(key.first) + ": " + std::to_string(sum.allocations) + " allocation(s), " +
                  std::to_string(sum.bytes) + " bytes, allocated at " + DescribeStack(key.second) + "\n";
    }
    return report;
}

uint64_t PoolVerifier::RememberStackLocked()
{
    CallStack stack = CallStack::Capture(kStackFramesOfPool);
    uint64_t hash = stack.Hash();

    stacks_.emplace(hash, stack);
    return hash;
}

const PoolVerifier::Block &PoolVerifier::FindForFreeLocked(const void *address, uint32_t tag)
{
    auto live = live_.find(address);

    if (live == live_.end())
    {
        auto freed = freed_.find(address);

        if (freed != freed_.end())
        {
            BugcheckBlock("POOL_DOUBLE_FREE", "is freed a second time", address, freed->second);
        }
        Bugcheck("POOL_BAD_ADDRESS", "%p is freed, but is not the start of a pool allocation", address);
    }
    if (tag != 0 && tag != live->second.tag)
    {
        std::string what = "is freed with tag " + TagName(tag);

        BugcheckBlock("POOL_WRONG_TAG", what.c_str(), address, live->second);
    }
    return live->second;
}

void PoolVerifier::CheckGuardsLocked(const void *address, const Block &block)
{
    size_t front = FrontGuard(block.placement);
    char *behind = After(address, block.size);

    AllowAccess(block.base, front);
    AllowAccess(behind, kGuardBytes);
    if (!IsFilledWith(behind, kGuardBytes, kGuardByte))
    {
        BugcheckBlock("POOL_OVERRUN", "was written past its end", address, block);
    }
    if (!IsFilledWith(block.base, front, kGuardByte))
    {
        BugcheckBlock("POOL_UNDERRUN", "was written before its start", address, block);
    }
    ForbidAccess(block.base, front);
    ForbidAccess(behind, kGuardBytes);
}

void PoolVerifier::CheckFreedLocked(const void *address, const Block &block)
{
    AllowAccess(address, block.size);
    if (!IsFreedPattern(address, block.size))
    {
        BugcheckBlock("POOL_USE_AFTER_FREE", "was written after it was freed", address, block);
    }
    ForbidAccess(address, block.size);
}

void PoolVerifier::KeepLocked(void *address, const Block &block)
{
    FillFreed(address, block.size);
    ForbidAccess(address, block.size);
    freed_.emplace(address, block);
    freed_order_.push_back(address);
    freed_bytes_ += block.size;
    while (freed_order_.size() > kKeptBlocks || freed_bytes_ > kKeptBytes)
    {
        ReleaseOldestLocked();
    }
}

void PoolVerifier::ReleaseOldestLocked()
{
    auto oldest = freed_.find(freed_order_.front());

    CheckFreedLocked(oldest->first, oldest->second);
    freed_bytes_ -= oldest->second.size;
    Release(oldest->second);
    freed_.erase(oldest);
    freed_order_.pop_front();
}

void PoolVerifier::Release(const Block &block)
{
    AllowAccess(block.base, TotalBytes(block));
    FreePoolMemory(block.placement, block.base, TotalBytes(block));
}

void PoolVerifier::BugcheckBlock(const char *rule, const char *what, const void *address, const Block &block) const
{
    std::string freed = block.freed == 0 ? "" : "; freed at " + DescribeStack(block.freed);

    Bugcheck(rule, "%p (%zu bytes, tag %s) %s; allocated at %s%s", address, block.size, TagName(block.tag).c_str(),
             what, DescribeStack(block.allocated).c_str(), freed.c_str());
}

std::string PoolVerifier::DescribeStack(uint64_t hash) const
{
    auto found = stacks_.find(hash);

    return found == stacks_.end() ? "an unknown place" : found->second.Describe();
}

} // namespace sim::nt

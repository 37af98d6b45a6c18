#include "nt/pool.h"

#include <cstring>
#include <mutex>
#include <unordered_map>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/fault_injection.h"
#include "nt/irql.h"
#include "nt/pool_memory.h"
#include "nt/pool_tags.h"
#include "nt/pool_verifier.h"

namespace sim::nt
{

namespace
{

constexpr uint32_t kLiveMark = 0x4C4F4F50;
constexpr uint32_t kFreedMark = 0x44454552;

// Precedes every allocation that is smaller than a page, when the verifier is off.
struct alignas(16) Header
{
    uint64_t size;
    uint32_t tag;
    uint32_t mark;
};

struct LargeBlock
{
    size_t size;
    uint32_t tag;
    PoolPlacement placement;
};

[[noreturn]] void BugcheckWrongTag(const void *address, uint32_t allocated, uint32_t freed)
{
    Bugcheck("POOL_WRONG_TAG", "%p (tag %s) is freed with tag %s", address, TagName(allocated).c_str(),
             TagName(freed).c_str());
}

bool IsPageAligned(const void *address)
{
    return reinterpret_cast<uintptr_t>(address) % PAGE_SIZE == 0;
}

} // namespace

class PoolState
{
  public:
    PoolState(FaultInjection &faults, bool verifier) : faults_(faults)
    {
        if (verifier)
        {
            verifier_ = std::make_unique<PoolVerifier>();
        }
    }

    ~PoolState()
    {
        for (const auto &[address, block] : large_blocks_)
        {
            FreePoolMemory(block.placement, address, block.size);
        }
    }

    void *Allocate(size_t bytes, uint32_t tag, bool zeroed)
    {
        void *address;

        if (faults_.ShouldFail())
        {
            return nullptr;
        }
        if (verifier_)
        {
            address = verifier_->Allocate(bytes, tag, zeroed);
        }
        else
        {
            address = bytes < PAGE_SIZE ? AllocateSmall(bytes, tag, zeroed) : AllocateLarge(bytes, tag, zeroed);
        }
        if (address != nullptr)
        {
            tags_.Add(tag, bytes);
        }
        return address;
    }

    void Free(void *address, uint32_t tag)
    {
        if (verifier_)
        {
            FreeVerified(address, tag);
        }
        else if (!IsPageAligned(address) || !FreeLarge(address, tag))
        {
            FreeSmall(address, tag);
        }
    }

    void SetFreshByte(uint8_t byte)
    {
        if (verifier_)
        {
            verifier_->SetFreshByte(byte);
        }
    }

    void SetFreeCheck(Pool::FreeCheck check) { free_check_ = std::move(check); }

    const PoolTags &tags() const { return tags_; }

    void CheckIntegrity()
    {
        if (verifier_)
        {
            verifier_->CheckIntegrity();
        }
    }

    std::string Report() const { return verifier_ ? verifier_->Report() : tags_.Report(); }

  private:
    void *AllocateSmall(size_t bytes, uint32_t tag, bool zeroed)
    {
        Header *header =
            static_cast<Header *>(AllocatePoolMemory(PoolPlacement::kHeap, sizeof(Header) + bytes, zeroed));

        if (header == nullptr)
        {
            return nullptr;
        }
        header->size = bytes;
        header->tag = tag;
        header->mark = kLiveMark;
        return header + 1;
    }

    void *AllocateLarge(size_t bytes, uint32_t tag, bool zeroed)
    {
        PoolPlacement placement = PlacementFor(bytes);
        void *address = AllocatePoolMemory(placement, bytes, zeroed);

        if (address != nullptr)
        {
            std::lock_guard<std::mutex> lock(mutex_);

            large_blocks_.emplace(address, LargeBlock{bytes, tag, placement});
        }
        return address;
    }

    void FreeSmall(void *address, uint32_t tag)
    {
        Header *header = static_cast<Header *>(address) - 1;

        if (header->mark != kLiveMark)
        {
            Bugcheck(header->mark == kFreedMark ? "POOL_DOUBLE_FREE" : "POOL_BAD_ADDRESS",
                     "%p is freed, but is not a live pool allocation", address);
        }
        if (tag != 0 && tag != header->tag)
        {
            BugcheckWrongTag(address, header->tag, tag);
        }
        tags_.Remove(header->tag, header->size);
        header->mark = kFreedMark;
        FreePoolMemory(PoolPlacement::kHeap, header, 0);
    }

    // Returns false if it is not a large block. A small block can also start at the start of a page.
    bool FreeLarge(void *address, uint32_t tag)
    {
        LargeBlock block;

        {
            std::lock_guard<std::mutex> lock(mutex_);
            auto found = large_blocks_.find(address);

            if (found == large_blocks_.end())
            {
                return false;
            }
            block = found->second;
            if (tag != 0 && tag != block.tag)
            {
                BugcheckWrongTag(address, block.tag, tag);
            }
            large_blocks_.erase(found);
        }
        tags_.Remove(block.tag, block.size);
        FreePoolMemory(block.placement, address, block.size);
        return true;
    }

    void FreeVerified(void *address, uint32_t tag)
    {
        size_t size = verifier_->SizeForFree(address, tag);

        if (free_check_)
        {
            free_check_(address, size);
        }

        std::pair<uint32_t, size_t> freed = verifier_->Free(address, tag);

        tags_.Remove(freed.first, freed.second);
    }

    FaultInjection &faults_;
    PoolTags tags_;
    std::unique_ptr<PoolVerifier> verifier_;
    Pool::FreeCheck free_check_;
    std::mutex mutex_;
    std::unordered_map<void *, LargeBlock> large_blocks_; // guarded by mutex_
};

Pool::Pool(FaultInjection &faults, bool verifier) : state_(std::make_unique<PoolState>(faults, verifier)) {}

Pool::~Pool() = default;

void *Pool::Allocate(size_t bytes, uint32_t tag, bool zeroed)
{
    return state_->Allocate(bytes, tag, zeroed);
}

void Pool::SetFreshByte(uint8_t byte)
{
    state_->SetFreshByte(byte);
}

void Pool::Free(void *address, uint32_t tag)
{
    state_->Free(address, tag);
}

void Pool::SetFreeCheck(FreeCheck check)
{
    state_->SetFreeCheck(std::move(check));
}

int64_t Pool::bytes() const
{
    return state_->tags().bytes();
}

int64_t Pool::allocations() const
{
    return state_->tags().allocations();
}

void Pool::CheckIntegrity()
{
    state_->CheckIntegrity();
}

void Pool::CheckEmpty(const std::string &when)
{
    if (allocations() != 0)
    {
        Bugcheck("POOL_LEAK", "%s with pool memory allocated:\n%s", when.c_str(), Report().c_str());
    }
}

std::string Pool::Report() const
{
    return state_->Report();
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

namespace
{

void *AllocateFor(const char *function, bool paged, size_t bytes, uint32_t tag, bool zeroed)
{
    RequireIrqlAtMost(paged ? APC_LEVEL : DISPATCH_LEVEL, function);
    RequireStack(function);
    if (bytes == 0)
    {
        Bugcheck("POOL_ZERO_BYTES", "%s was called for 0 bytes", function);
    }
    if (tag == 0)
    {
        Bugcheck("POOL_NO_TAG", "%s was called without a tag", function);
    }
    return Machine::Current().pool().Allocate(bytes, tag, zeroed);
}

void FreeFor(const char *function, void *address, uint32_t tag)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, function);
    if (address == nullptr)
    {
        Bugcheck("POOL_BAD_ADDRESS", "%s was called for NULL", function);
    }
    Machine::Current().pool().Free(address, tag);
}

} // namespace

extern "C" PVOID ExAllocatePoolWithTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    return AllocateFor("ExAllocatePoolWithTag", PoolType == PagedPool, NumberOfBytes, Tag, false);
}

extern "C" PVOID ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag)
{
    return AllocateFor("ExAllocatePool2", (Flags & POOL_FLAG_PAGED) != 0, NumberOfBytes, Tag,
                       (Flags & POOL_FLAG_UNINITIALIZED) == 0);
}

extern "C" VOID ExFreePoolWithTag(PVOID P, ULONG Tag)
{
    FreeFor("ExFreePoolWithTag", P, Tag);
}

extern "C" VOID ExFreePool(PVOID P)
{
    FreeFor("ExFreePool", P, 0);
}

#include "nt/pool_memory.h"

#include <ntddk.h>

#if defined(_WIN32)
#include <malloc.h>
#else
#include <sys/mman.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "nt/pool.h"

#if !defined(_WIN32) && !defined(MAP_ANONYMOUS)
#define MAP_ANONYMOUS MAP_ANON
#endif

namespace sim::nt
{

namespace
{

#if defined(_WIN32)

void *AllocateAligned(size_t bytes, size_t alignment, bool zeroed)
{
    void *address = _aligned_malloc(bytes, alignment);

    if (address != nullptr && zeroed)
    {
        std::memset(address, 0, bytes);
    }
    return address;
}

void *MapLargePages(size_t bytes)
{
    return AllocateAligned(bytes, Pool::kLargePage, true);
}

void *AllocatePages(size_t bytes, bool zeroed)
{
    return AllocateAligned(bytes, PAGE_SIZE, zeroed);
}

void FreePages(PoolPlacement, void *address, size_t)
{
    _aligned_free(address);
}

#else

size_t RoundToPages(size_t bytes)
{
    return static_cast<size_t>(ROUND_TO_PAGES(bytes));
}

// Maps more memory than requested and unmaps both ends that are not aligned. The memory is zeroed.
void *MapLargePages(size_t bytes)
{
    size_t size = RoundToPages(bytes);
    size_t reserved = size + Pool::kLargePage;
    void *mapped = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mapped == MAP_FAILED)
    {
        return nullptr;
    }

    char *start = static_cast<char *>(mapped);
    size_t before = (Pool::kLargePage - reinterpret_cast<uintptr_t>(start) % Pool::kLargePage) % Pool::kLargePage;
    size_t after = reserved - before - size;

    if (before != 0)
    {
        munmap(start, before);
    }
    if (after != 0)
    {
        munmap(start + before + size, after);
    }
#if defined(MADV_HUGEPAGE)
    madvise(start + before, size, MADV_HUGEPAGE);
#endif
    return start + before;
}

void *AllocatePages(size_t bytes, bool zeroed)
{
    void *address = nullptr;

    if (posix_memalign(&address, PAGE_SIZE, bytes) != 0)
    {
        return nullptr;
    }
    if (zeroed)
    {
        std::memset(address, 0, bytes);
    }
    return address;
}

void FreePages(PoolPlacement placement, void *address, size_t bytes)
{
    if (placement == PoolPlacement::kLargePages)
    {
        munmap(address, RoundToPages(bytes));
    }
    else
    {
        std::free(address);
    }
}

#endif

} // namespace

PoolPlacement PlacementFor(size_t bytes)
{
    if (bytes >= Pool::kLargePage)
    {
        return PoolPlacement::kLargePages;
    }
    return bytes >= PAGE_SIZE ? PoolPlacement::kPages : PoolPlacement::kHeap;
}

void *AllocatePoolMemory(PoolPlacement placement, size_t bytes, bool zeroed)
{
    switch (placement)
    {
    case PoolPlacement::kLargePages:
        return MapLargePages(bytes);
    case PoolPlacement::kPages:
        return AllocatePages(bytes, zeroed);
    case PoolPlacement::kHeap:
        break;
    }
    return zeroed ? std::calloc(1, bytes) : std::malloc(bytes);
}

void FreePoolMemory(PoolPlacement placement, void *address, size_t bytes)
{
    if (placement == PoolPlacement::kHeap)
    {
        std::free(address);
        return;
    }
    FreePages(placement, address, bytes);
}

} // namespace sim::nt

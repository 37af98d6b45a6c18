// The sources of the pool's memory, by size: the C library's heap, whole pages, or large pages.
#pragma once

#include <cstddef>

namespace sim::nt
{

enum class PoolPlacement : unsigned char
{
    kHeap,       // 16-byte aligned
    kPages,      // page aligned
    kLargePages, // aligned to Pool::kLargePage, in huge pages where the system has them
};

PoolPlacement PlacementFor(size_t bytes);

// Returns nullptr when there is no memory.
void *AllocatePoolMemory(PoolPlacement placement, size_t bytes, bool zeroed);

// The arguments are those of the allocation.
void FreePoolMemory(PoolPlacement placement, void *address, size_t bytes);

} // namespace sim::nt

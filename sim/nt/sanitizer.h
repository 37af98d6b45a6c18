// Passes the pool's knowledge of its memory to the address sanitizer, where the build has it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ADDRESS_SANITIZER 1
#endif
#endif

#if defined(SIM_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace sim::nt
{

inline void ForbidAccess([[maybe_unused]] const void *address, [[maybe_unused]] size_t bytes)
{
#if defined(SIM_ADDRESS_SANITIZER)
    __asan_poison_memory_region(address, bytes);
#endif
}

inline void AllowAccess([[maybe_unused]] const void *address, [[maybe_unused]] size_t bytes)
{
#if defined(SIM_ADDRESS_SANITIZER)
    __asan_unpoison_memory_region(address, bytes);
#endif
}

} // namespace sim::nt

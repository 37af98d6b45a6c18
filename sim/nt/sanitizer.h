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

// The address sanitizer may keep the locals of a function elsewhere than on the stack.
inline bool IsOnFakeStack([[maybe_unused]] const void *address)
{
#if defined(SIM_ADDRESS_SANITIZER)
    void *fake_stack = __asan_get_current_fake_stack();
    void *begin;
    void *end;

    return fake_stack != nullptr &&
           __asan_addr_is_in_fake_stack(fake_stack, const_cast<void *>(address), &begin, &end) != nullptr;
#else
    return false;
#endif
}

} // namespace sim::nt

// The pattern that fills freed memory while it is kept, so that a late write is found.
#pragma once

#include <cstddef>
#include <cstring>

namespace sim::nt
{

inline constexpr unsigned char kFreedByte = 0xDD;

inline bool IsFilledWith(const void *address, size_t bytes, unsigned char value)
{
    const unsigned char *first = static_cast<const unsigned char *>(address);

    return bytes == 0 || (*first == value && std::memcmp(first, first + 1, bytes - 1) == 0);
}

inline void FillFreed(void *address, size_t bytes)
{
    std::memset(address, kFreedByte, bytes);
}

inline bool IsFreedPattern(const void *address, size_t bytes)
{
    return IsFilledWith(address, bytes, kFreedByte);
}

} // namespace sim::nt

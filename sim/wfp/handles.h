// Handles are numbers, not addresses: a stale or foreign handle is recognized instead of being dereferenced.
#pragma once

#include <ntddk.h>

#include <cstdint>

namespace sim::wfp
{

enum class HandleKind : uint8_t
{
    kSession = 1,
    kInjection = 2,
    kOperation = 3,
    kServiceState = 4
};

constexpr unsigned kHandleKindBits = 4;

inline HANDLE MakeHandle(HandleKind kind, uint64_t number)
{
    return reinterpret_cast<HANDLE>((number << kHandleKindBits) | static_cast<uint64_t>(kind));
}

// Returns 0 for a handle of another kind.
inline uint64_t HandleNumber(HandleKind kind, HANDLE handle)
{
    const uint64_t value = reinterpret_cast<uint64_t>(handle);
    const uint64_t kind_mask = (uint64_t{1} << kHandleKindBits) - 1;
    return (value & kind_mask) == static_cast<uint64_t>(kind) ? value >> kHandleKindBits : 0;
}

} // namespace sim::wfp

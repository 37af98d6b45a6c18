// Cuts what a client writes into commands.
#pragma once

#include "support/wire_records.h"

#include <cstddef>
#include <cstdint>

namespace kext_test
{

inline size_t CommandLength(uint8_t command)
{
    switch (command)
    {
    case CommandVerdict:
        return sizeof(COMMAND_VERDICT_WIRE);
    case CommandUpdateV4:
        return sizeof(COMMAND_UPDATE_V4_WIRE);
    case CommandUpdateV6:
        return sizeof(COMMAND_UPDATE_V6_WIRE);
    default:
        return 1;
    }
}

// A whole command. Its last byte, where it has more than one, is a known verdict.
inline bool IsCommand(const uint8_t *bytes, size_t length)
{
    const size_t needed = CommandLength(bytes[0]);

    return bytes[0] < CommandCount && needed <= length && (needed == 1 || bytes[needed - 1] < VerdictCount);
}

// Calls `take(command)` for each command that the driver carries out: it stops at the first that it refuses.
template <typename Take> void ForEachCommand(const uint8_t *bytes, size_t length, const Take &take)
{
    for (size_t at = 0; at < length && IsCommand(bytes + at, length - at); at += CommandLength(bytes[at]))
    {
        take(bytes + at);
    }
}

} // namespace kext_test

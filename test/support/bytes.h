// Byte strings: packets, records, commands.
#pragma once

#include <cstdint>
#include <vector>

namespace kext_test
{

using ByteVector = std::vector<uint8_t>;

} // namespace kext_test

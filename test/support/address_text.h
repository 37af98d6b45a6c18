// Addresses as text. These functions are apart because the system's own header does not agree with the driver's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kext_test
{

// IPv4 uses the first four bytes. Throws std::invalid_argument for a text that is no address.
std::array<uint8_t, 16> ParseAddress(const std::string &text);

// `length`: 4 or 16.
std::string AddressText(const uint8_t *address, size_t length);

} // namespace kext_test

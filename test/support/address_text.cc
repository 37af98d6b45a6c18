#include "support/address_text.h"

#include <stdexcept>

#include <arpa/inet.h>

namespace kext_test
{

std::array<uint8_t, 16> ParseAddress(const std::string &text)
{
    std::array<uint8_t, 16> address{};
    const int family = text.find(':') != std::string::npos ? AF_INET6 : AF_INET;

    if (inet_pton(family, text.c_str(), address.data()) != 1)
    {
        throw std::invalid_argument(text);
    }
    return address;
}

std::string AddressText(const uint8_t *address, size_t length)
{
    std::array<char, INET6_ADDRSTRLEN> text{};

    inet_ntop(length == 16 ? AF_INET6 : AF_INET, address, text.data(), text.size());
    return text.data();
}

} // namespace kext_test

// Connection keys.
#pragma once

#include "connection_table.h"

#include <cstdint>
#include <cstring>

inline bool operator==(const CONNECTION_KEY &a, const CONNECTION_KEY &b)
{
    return ConnectionKeysEqual(&a, &b);
}

namespace kext_test
{

// Key number n. Neighbouring keys differ in one or two bytes, as they do in practice.
inline CONNECTION_KEY KeyV4(uint32_t n, uint16_t localPort = 0, uint8_t protocol = PROTOCOL_TCP)
{
    CONNECTION_KEY key;

    memset(&key, 0, sizeof(key));
    memcpy(key.LocalAddress, "\x0A\x00\x00\x01", 4);
    key.RemoteAddress[0] = 93;
    key.RemoteAddress[1] = static_cast<uint8_t>(n >> 16);
    key.RemoteAddress[2] = static_cast<uint8_t>(n >> 8);
    key.RemoteAddress[3] = static_cast<uint8_t>(n);
    key.LocalPort = localPort != 0 ? localPort : static_cast<uint16_t>(1024 + n % 60000);
    key.RemotePort = static_cast<uint16_t>(443 + (n >> 24));
    key.Protocol = protocol;
    key.IpVersion = 4;
    return key;
}

inline CONNECTION_KEY KeyV6(uint32_t n, uint16_t localPort = 0, uint8_t protocol = PROTOCOL_TCP)
{
    CONNECTION_KEY key = KeyV4(n, localPort, protocol);

    key.IpVersion = 6;
    memset(key.LocalAddress, 0x20, 16);
    memset(key.RemoteAddress, 0x30, 12);
    memcpy(key.RemoteAddress + 12, &n, 4);
    return key;
}

struct KeyLess
{
    bool operator()(const CONNECTION_KEY &a, const CONNECTION_KEY &b) const { return memcmp(&a, &b, sizeof(a)) < 0; }
};

} // namespace kext_test

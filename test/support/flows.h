// Connections of an application: protocol, both ends and the process.
#pragma once

#include "protocol.h"

#include "net/stack.h"

namespace kext_test
{

using sim::net::Endpoint;

Endpoint V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);

// 2001:db8::`last`.
Endpoint V6(uint8_t last, uint16_t port);

// By default TCP over IPv4.
struct Flow
{
    uint8_t protocol = PROTOCOL_TCP;
    Endpoint local = V4(192, 0, 2, 1, 50000);
    Endpoint remote = V4(198, 51, 100, 7, 443);
    uint64_t process_id = 1234;

    uint8_t family() const { return local.family; }
};

Flow TcpV6();
Flow UdpV4();
Flow UdpV6();

} // namespace kext_test

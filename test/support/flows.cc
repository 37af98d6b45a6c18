#include "support/flows.h"

namespace kext_test
{

Endpoint V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    Endpoint endpoint;

    endpoint.family = 4;
    endpoint.address = {a, b, c, d};
    endpoint.port = port;
    return endpoint;
}

Endpoint V6(uint8_t last, uint16_t port)
{
    Endpoint endpoint;

    endpoint.family = 6;
    endpoint.address = {0x20, 0x01, 0x0d, 0xb8};
    endpoint.address[15] = last;
    endpoint.port = port;
    return endpoint;
}

Flow TcpV6()
{
    return {PROTOCOL_TCP, V6(1, 50000), V6(7, 443), 1234};
}

Flow UdpV4()
{
    return {PROTOCOL_UDP, V4(192, 0, 2, 1, 50001), V4(198, 51, 100, 7, 53), 1234};
}

Flow UdpV6()
{
    return {PROTOCOL_UDP, V6(1, 50001), V6(7, 53), 1234};
}

} // namespace kext_test

#include "connection_text.h"

#include "protocol.h"

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <string>

namespace
{

std::string Text(const CONNECTION_KEY &key, UINT8 direction = DirectionOutbound)
{
    CONNECTION_TEXT text;
    const std::string result = ConnectionTextWrite(&text, &key, direction);

    EXPECT_LT(result.size(), sizeof(text));
    return result;
}

CONNECTION_KEY V4(UINT8 protocol, UINT16 local_port, UINT16 remote_port)
{
    CONNECTION_KEY key{{10, 0, 0, 1}, {192, 0, 2, 255}, local_port, remote_port, protocol, SCOPE_DEFAULT, 4, {}};

    return key;
}

CONNECTION_KEY V6(std::initializer_list<UINT16> local)
{
    CONNECTION_KEY key{{}, {}, 1, 443, PROTOCOL_TCP, SCOPE_DEFAULT, 6, {}};
    size_t i = 0;

    for (UINT16 group : local)
    {
        key.LocalAddress[i++] = static_cast<UINT8>(group >> 8);
        key.LocalAddress[i++] = static_cast<UINT8>(group);
    }
    return key;
}

std::string AddressV6(std::initializer_list<UINT16> groups)
{
    const std::string text = Text(V6(groups));
    const size_t start = text.find('[') + 1;

    return text.substr(start, text.find(']') - start);
}

TEST(ConnectionTextTest, NamesTheSourceBeforeTheDestination)
{
    const CONNECTION_KEY key = V4(PROTOCOL_TCP, 49152, 443);

    EXPECT_EQ(Text(key, DirectionOutbound), "outbound TCP 10.0.0.1:49152 -> 192.0.2.255:443");
    EXPECT_EQ(Text(key, DirectionInbound), "inbound TCP 192.0.2.255:443 -> 10.0.0.1:49152");
}

TEST(ConnectionTextTest, LeavesOutPortsThatThereAreNot)
{
    EXPECT_EQ(Text(V4(PROTOCOL_ICMP, 0, 0)), "outbound ICMP 10.0.0.1 -> 192.0.2.255");
    EXPECT_EQ(Text(V4(PROTOCOL_UDP, 0, 53)), "outbound UDP 10.0.0.1:0 -> 192.0.2.255:53");

    CONNECTION_KEY key = V6({0x2001, 0xdb8, 0, 0, 0, 0, 0, 1});
    key.LocalPort = 0;
    key.RemotePort = 0;
    key.Protocol = PROTOCOL_ICMPV6;
    EXPECT_EQ(Text(key), "outbound ICMPv6 2001:db8::1 -> ::");
}

TEST(ConnectionTextTest, NamesProtocols)
{
    EXPECT_EQ(Text(V4(PROTOCOL_IGMP, 0, 0)), "outbound IGMP 10.0.0.1 -> 192.0.2.255");
    EXPECT_EQ(Text(V4(PROTOCOL_UDP, 1, 2)), "outbound UDP 10.0.0.1:1 -> 192.0.2.255:2");
    EXPECT_EQ(Text(V4(255, 0, 0)), "outbound protocol 255 10.0.0.1 -> 192.0.2.255");
}

// The examples are those of RFC 5952, section 4.
TEST(ConnectionTextTest, WritesIpv6AddressesAsRfc5952)
{
    EXPECT_EQ(AddressV6({0x2001, 0x0db8, 0, 0, 0, 0, 0, 1}), "2001:db8::1");
    EXPECT_EQ(AddressV6({0x2001, 0x0db8, 0, 0, 0, 0, 2, 1}), "2001:db8::2:1");
    EXPECT_EQ(AddressV6({0x2001, 0x0db8, 0, 1, 1, 1, 1, 1}), "2001:db8:0:1:1:1:1:1");
    EXPECT_EQ(AddressV6({0x2001, 0, 0, 1, 0, 0, 0, 1}), "2001:0:0:1::1");
    EXPECT_EQ(AddressV6({0x2001, 0x0db8, 0, 0, 1, 0, 0, 1}), "2001:db8::1:0:0:1");
    EXPECT_EQ(AddressV6({0, 0, 0, 0, 0, 0, 0, 0}), "::");
    EXPECT_EQ(AddressV6({0, 0, 0, 0, 0, 0, 0, 1}), "::1");
    EXPECT_EQ(AddressV6({0xfe80, 0, 0, 0, 0, 0, 0, 0}), "fe80::");
    EXPECT_EQ(AddressV6({0, 1, 2, 3, 4, 5, 6, 0xABCD}), "0:1:2:3:4:5:6:abcd");
}

TEST(ConnectionTextTest, TheLongestTextFits)
{
    CONNECTION_KEY key;

    std::memset(&key, 0xFF, sizeof(key));
    key.IpVersion = 6;
    key.Protocol = PROTOCOL_UDP;
    EXPECT_EQ(Text(key), "outbound UDP [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 -> "
                         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

TEST(ConnectionTextTest, APacketWithoutAKeyIsNamedByItsDirection)
{
    CONNECTION_TEXT text;

    EXPECT_STREQ(ConnectionTextWrite(&text, nullptr, DirectionInbound), "inbound");
    EXPECT_STREQ(ConnectionTextWrite(&text, nullptr, DirectionOutbound), "outbound");
}

} // namespace

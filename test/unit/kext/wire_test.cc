#include "wire.h"

#include "connection_keys.h"
#include "support/wire_records.h"

#include "gtest/gtest.h"

#include <vector>

namespace
{

using kext_test::KeyV4;
using kext_test::KeyV6;

const CONNECTION_KEY kKeys[] = {KeyV4(0x010203, 0x1234), KeyV6(0x010203, 0x1234, PROTOCOL_UDP)};

size_t AddressLength(const CONNECTION_KEY &key)
{
    return key.IpVersion == 4 ? 4 : 16;
}

void Append(std::vector<uint8_t> *bytes, const void *field, size_t length)
{
    const uint8_t *first = static_cast<const uint8_t *>(field);

    bytes->insert(bytes->end(), first, first + length);
}

TEST(WireTest, PutsAConnectionWithAddressesBeforePorts)
{
    for (const CONNECTION_KEY &key : kKeys)
    {
        std::vector<uint8_t> expected = {8, 7, 6, 5, 4, 3, 2, 1, DirectionInbound, key.Protocol};
        std::vector<uint8_t> wire(64, 0xEE);

        Append(&expected, key.LocalAddress, AddressLength(key));
        Append(&expected, key.RemoteAddress, AddressLength(key));
        Append(&expected, "\x34\x12\xBB\x01", 4);
        wire.resize(WirePutConnection(wire.data(), &key, 0x0102030405060708, DirectionInbound) - wire.data());
        EXPECT_EQ(wire, expected);
        EXPECT_EQ(wire.size(), (key.IpVersion == 4 ? sizeof(CONNECTION_END_V4_WIRE) : sizeof(CONNECTION_END_V6_WIRE)) -
                                   sizeof(INFO_HEADER_WIRE));
    }
}

TEST(WireTest, PutsEndpointsWithEachPortBehindItsAddress)
{
    for (const CONNECTION_KEY &key : kKeys)
    {
        std::vector<uint8_t> expected;
        std::vector<uint8_t> wire(64, 0xEE);

        Append(&expected, key.LocalAddress, AddressLength(key));
        Append(&expected, "\x34\x12", 2);
        Append(&expected, key.RemoteAddress, AddressLength(key));
        Append(&expected, "\xBB\x01", 2);
        wire.resize(WirePutEndpoints(wire.data(), &key) - wire.data());
        EXPECT_EQ(wire, expected);
    }
}

TEST(WireTest, GetsBackTheEndpointsThatItPut)
{
    for (const CONNECTION_KEY &key : kKeys)
    {
        uint8_t wire[36];
        const UINT8 *end = WirePutEndpoints(wire, &key);
        CONNECTION_KEY got = {};

        got.IpVersion = key.IpVersion;
        got.Protocol = key.Protocol;
        EXPECT_EQ(WireGetEndpoints(wire, &got), end);
        EXPECT_TRUE(got == key);
    }
}

} // namespace

#include "checksum.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace
{

using Packet = std::vector<uint8_t>;

// The checksum of RFC 1071: big-endian words, folded one by one.
uint16_t Reference(const Packet &bytes)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < bytes.size(); i += 2)
    {
        sum += static_cast<uint32_t>(bytes[i] << 8 | (i + 1 < bytes.size() ? bytes[i + 1] : 0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return static_cast<uint16_t>(~sum);
}

uint16_t Swap(uint16_t value)
{
    return static_cast<uint16_t>(value << 8 | value >> 8);
}

uint16_t Checksum(const Packet &bytes)
{
    return Swap(ChecksumFinish(ChecksumAdd(0, bytes.data(), bytes.size())));
}

Packet FromHex(const std::string &hex)
{
    Packet bytes;
    std::string digits;

    for (char c : hex)
    {
        if (c != ' ')
        {
            digits += c;
        }
        if (digits.size() == 2)
        {
            bytes.push_back(static_cast<uint8_t>(std::stoul(digits, nullptr, 16)));
            digits.clear();
        }
    }
    return bytes;
}

uint16_t At(const Packet &packet, size_t offset)
{
    return static_cast<uint16_t>(packet[offset] << 8 | packet[offset + 1]);
}

void Put16(Packet &packet, size_t offset, unsigned value)
{
    packet[offset] = static_cast<uint8_t>(value >> 8);
    packet[offset + 1] = static_cast<uint8_t>(value);
}

Packet V4(uint8_t protocol, const Packet &transport, size_t options = 0)
{
    Packet packet(20 + options);

    packet[0] = static_cast<uint8_t>(0x40 | (5 + options / 4));
    Put16(packet, 2, static_cast<unsigned>(packet.size() + transport.size()));
    packet[8] = 64;
    packet[9] = protocol;
    memcpy(&packet[12], "\x0A\x01\x02\x03\xC0\xA8\x00\x01", 8);
    packet.insert(packet.end(), transport.begin(), transport.end());
    return packet;
}

Packet V6(uint8_t protocol, const Packet &transport)
{
    Packet packet(40);

    packet[0] = 0x60;
    Put16(packet, 4, static_cast<unsigned>(transport.size()));
    packet[6] = protocol;
    for (size_t i = 0; i < 32; i++)
    {
        packet[8 + i] = static_cast<uint8_t>(7 * i + 3);
    }
    packet.insert(packet.end(), transport.begin(), transport.end());
    return packet;
}

// Returns a receiver's sum: 0 when the transport checksum is right.
uint16_t Verify(const Packet &packet, size_t headerLength, uint8_t protocol, bool pseudo = true)
{
    Packet covered;
    const size_t length = packet.size() - headerLength;

    if (pseudo && packet[0] >> 4 == 4)
    {
        covered.insert(covered.end(), packet.begin() + 12, packet.begin() + 20);
    }
    else if (pseudo)
    {
        covered.insert(covered.end(), packet.begin() + 8, packet.begin() + 40);
    }
    if (pseudo)
    {
        const Packet tail = {0, 0, static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length), 0, 0, 0, protocol};

        covered.insert(covered.end(), tail.begin(), tail.end());
    }
    covered.insert(covered.end(), packet.begin() + static_cast<long>(headerLength), packet.end());
    return Reference(covered);
}

NTSTATUS Compute(Packet &packet)
{
    return ChecksumPacket(packet.data(), static_cast<UINT32>(packet.size()));
}

Packet Random(std::mt19937 &random, size_t length)
{
    Packet bytes(length);

    for (uint8_t &byte : bytes)
    {
        byte = static_cast<uint8_t>(random());
    }
    return bytes;
}

TEST(ChecksumTest, ComputesTheExampleOfRfc1071)
{
    // RFC 1071, section 3.
    EXPECT_EQ(Checksum(FromHex("00 01 f2 03 f4 f5 f6 f7")), static_cast<uint16_t>(~0xddf2));
}

TEST(ChecksumTest, AgreesWithTheReferenceForEveryLengthAndAlignment)
{
    std::mt19937 random(7);

    for (size_t length = 0; length < 200; length++)
    {
        const Packet bytes = Random(random, length);
        Packet shifted(length + 3);

        EXPECT_EQ(Checksum(bytes), Reference(bytes)) << length;
        if (length != 0)
        {
            memcpy(&shifted[3], bytes.data(), length);
        }
        EXPECT_EQ(Swap(ChecksumFinish(ChecksumAdd(0, &shifted[3], length))), Reference(bytes)) << length;
    }
    const Packet large(1 << 20, 0xFF);
    EXPECT_EQ(Checksum(large), Reference(large));
}

TEST(ChecksumTest, ASumMayBeComputedInParts)
{
    std::mt19937 random(8);
    const Packet bytes = Random(random, 101);

    for (size_t cut = 0; cut <= 100; cut += 2)
    {
        const UINT64 sum = ChecksumAdd(ChecksumAdd(0, bytes.data(), cut), bytes.data() + cut, bytes.size() - cut);

        EXPECT_EQ(Swap(ChecksumFinish(sum)), Reference(bytes));
    }
}

TEST(ChecksumTest, ComputesAKnownIpv4Header)
{
    // The checksum of this header, b861, is widely published.
    Packet packet = FromHex("4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7");

    packet.resize(0x73);
    Put16(packet, 24, 0x73 - 20); // UDP length
    ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
    EXPECT_EQ(At(packet, 10), 0xb861);
}

TEST(ChecksumTest, AnAuthenticationHeaderIsNotPartOfTheIpv4Header)
{
    Packet payload(24);
    payload[0] = PROTOCOL_UDP;
    payload[1] = 4; // 24 bytes (RFC 4302)
    payload.resize(24 + 8);
    Put16(payload, 24 + 4, 8);
    Packet packet = V4(51, payload);

    ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
    EXPECT_EQ(Reference(Packet(packet.begin(), packet.begin() + 20)), 0);
}

TEST(ChecksumTest, ComputesTransportChecksumsThatAReceiverAccepts)
{
    std::mt19937 random(9);

    for (size_t payload = 0; payload < 70; payload++)
    {
        Packet tcp = Random(random, 20 + payload);
        Packet udp = Random(random, 8 + payload);
        Packet icmp = Random(random, 8 + payload);

        Put16(udp, 4, static_cast<unsigned>(udp.size()));
        Put16(udp, 6, 0x1234);
        for (size_t options : {0u, 4u, 40u})
        {
            Packet packet = V4(PROTOCOL_TCP, tcp, options);
            ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
            EXPECT_EQ(Verify(packet, 20 + options, PROTOCOL_TCP), 0);
            EXPECT_EQ(Reference(Packet(packet.begin(), packet.begin() + 20 + static_cast<long>(options))), 0);

            packet = V4(PROTOCOL_UDP, udp, options);
            ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
            EXPECT_EQ(Verify(packet, 20 + options, PROTOCOL_UDP), 0);

            packet = V4(PROTOCOL_ICMP, icmp, options);
            ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
            EXPECT_EQ(Verify(packet, 20 + options, PROTOCOL_ICMP, false), 0);
        }
        Packet packet = V6(PROTOCOL_TCP, tcp);
        ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
        EXPECT_EQ(Verify(packet, 40, PROTOCOL_TCP), 0);

        packet = V6(PROTOCOL_UDP, udp);
        ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
        EXPECT_EQ(Verify(packet, 40, PROTOCOL_UDP), 0);

        packet = V6(PROTOCOL_ICMPV6, icmp);
        ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
        EXPECT_EQ(Verify(packet, 40, PROTOCOL_ICMPV6), 0);
    }
}

TEST(ChecksumTest, AnAbsentUdpChecksumStaysAbsentOnV4AndIsComputedOnV6)
{
    Packet udp = {0, 53, 0, 53, 0, 10, 0, 0, 1, 2};
    Packet v4 = V4(PROTOCOL_UDP, udp);
    Packet v6 = V6(PROTOCOL_UDP, udp);

    ASSERT_EQ(Compute(v4), STATUS_SUCCESS);
    EXPECT_EQ(At(v4, 26), 0);
    ASSERT_EQ(Compute(v6), STATUS_SUCCESS);
    EXPECT_NE(At(v6, 46), 0);
    EXPECT_EQ(Verify(v6, 40, PROTOCOL_UDP), 0);
}

TEST(ChecksumTest, AComputedUdpZeroIsStoredAsAllOnes)
{
    // This payload makes the sum 0xFFFF, whose complement is 0.
    for (int version : {4, 6})
    {
        Packet udp = {0, 53, 0, 53, 0, 10, 0xFF, 0xFF, 0, 0};
        Packet packet = version == 4 ? V4(PROTOCOL_UDP, udp) : V6(PROTOCOL_UDP, udp);
        const size_t header = version == 4 ? 20 : 40;

        Put16(packet, header + 6, 0);
        const uint16_t missing = Verify(packet, header, PROTOCOL_UDP);
        Put16(packet, header + 6, 0xFFFF);
        Put16(packet, header + 8, missing);
        ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
        EXPECT_EQ(At(packet, header + 6), 0xFFFF) << version;
    }
}

TEST(ChecksumTest, CoversOnlyTheLengthInTheUdpHeader)
{
    Packet udp = {0, 1, 0, 2, 0, 9, 0x12, 0x34, 0x55, 0xAA, 0xBB}; // two bytes beyond the datagram
    Packet packet = V4(PROTOCOL_UDP, udp);

    ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
    Packet exact(packet.begin(), packet.end() - 2);
    EXPECT_EQ(Verify(exact, 20, PROTOCOL_UDP), 0);
}

TEST(ChecksumTest, RefusesAUdpLengthThatContradictsThePacketAndChangesNothing)
{
    for (unsigned length : {1u, 7u, 12u, 0xFFFFu})
    {
        Packet udp = {0, 1, 0, 2, 0, 0, 0x12, 0x34, 5, 6, 7};

        Put16(udp, 4, length);
        Packet packet = V4(PROTOCOL_UDP, udp);
        const Packet before = packet;
        EXPECT_EQ(Compute(packet), STATUS_INVALID_PARAMETER) << length;
        EXPECT_EQ(packet, before);
    }
}

TEST(ChecksumTest, RefusesMalformedPackets)
{
    Packet packet = V4(PROTOCOL_TCP, Packet(19));
    EXPECT_EQ(Compute(packet), STATUS_INVALID_PARAMETER);
    packet = V4(PROTOCOL_ICMP, Packet(3));
    EXPECT_EQ(Compute(packet), STATUS_INVALID_PARAMETER);
    packet = V6(PROTOCOL_ICMPV6, Packet(3));
    EXPECT_EQ(Compute(packet), STATUS_INVALID_PARAMETER);
    packet = Packet(10, 0x45);
    EXPECT_EQ(Compute(packet), STATUS_INVALID_PARAMETER);
}

TEST(ChecksumTest, AFragmentGetsOnlyItsIpHeaderChecksum)
{
    Packet packet = V4(PROTOCOL_UDP, {0, 1, 0, 2, 0x10, 0, 0x12, 0x34, 5, 6, 7, 8, 9, 10, 11, 12});

    packet[6] = 0x20; // more fragments
    ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
    EXPECT_EQ(Reference(Packet(packet.begin(), packet.begin() + 20)), 0);
    EXPECT_EQ(At(packet, 26), 0x1234);
}

TEST(ChecksumTest, ASourceRoutedPacketIsNotChanged)
{
    Packet rest = {PROTOCOL_TCP, 2, 0, 1};

    rest.resize(24 + 20, 0x11);
    Packet packet = V6(43, rest);
    const Packet before = packet;
    EXPECT_EQ(Compute(packet), STATUS_SUCCESS);
    EXPECT_EQ(packet, before);
}

TEST(ChecksumTest, OtherProtocolsKeepTheirBytes)
{
    Packet packet = V4(PROTOCOL_IGMP, {0x16, 0, 9, 4, 224, 0, 0, 251});

    ASSERT_EQ(Compute(packet), STATUS_SUCCESS);
    EXPECT_EQ(At(packet, 22), 0x0904);
}

TEST(ChecksumTest, AnUpdateEqualsAFullComputation)
{
    std::mt19937 random(10);

    for (unsigned i = 0; i < 20000; i++)
    {
        Packet bytes = Random(random, 20);
        const size_t offset = 2 * (random() % 9);
        const UINT16 newValue = static_cast<UINT16>(random() % 8 == 0 ? 0xFFFF * (random() % 2) : random());

        // The last two bytes hold the checksum.
        Put16(bytes, 18, 0);
        UINT16 checksum = ChecksumFinish(ChecksumAdd(0, bytes.data(), 18));
        checksum = ChecksumUpdateBytes(checksum, &bytes[offset], reinterpret_cast<const UINT8 *>(&newValue), 2);
        memcpy(&bytes[offset], &newValue, 2);

        // Ones' complement has two zeros, 0 and 0xFFFF: compare as a receiver does.
        memcpy(&bytes[18], &checksum, 2);
        EXPECT_EQ(Reference(bytes), 0);
    }
}

TEST(ChecksumTest, UpdatesTheExampleOfRfc1624)
{
    // RFC 1624, section 4: the equation of RFC 1141 gives 0xFFFF here, which a receiver refuses.
    const UINT8 before[] = {0x55, 0x55};
    const UINT8 after[] = {0x32, 0x85};

    EXPECT_EQ(ChecksumUpdateBytes(Swap(0xDD2F), before, after, 2), 0x0000);
}

TEST(ChecksumTest, UpdatesAWholeAddress)
{
    std::mt19937 random(11);

    for (size_t length : {4u, 16u})
    {
        Packet bytes = Random(random, 20);
        const Packet address = Random(random, length);

        Put16(bytes, 18, 0);
        UINT16 checksum = ChecksumFinish(ChecksumAdd(0, bytes.data(), 18));
        checksum = ChecksumUpdateBytes(checksum, &bytes[2], address.data(), length);
        memcpy(&bytes[2], address.data(), length);
        memcpy(&bytes[18], &checksum, 2);
        EXPECT_EQ(Reference(bytes), 0);
    }
}

TEST(ChecksumTest, KeepsTheZeroRulesOfUdpWhenUpdating)
{
    EXPECT_EQ(ChecksumUpdateUdp(4, 0, 0x1234), 0) << "0 means that the sender computed none";
    EXPECT_EQ(ChecksumUpdateUdp(6, 0, 0x1234), 0x1234) << "IPv6 always has a checksum";
    for (uint8_t version : {4, 6})
    {
        EXPECT_EQ(ChecksumUpdateUdp(version, 0x1111, 0), 0xFFFF) << "0 would mean that none was computed";
        EXPECT_EQ(ChecksumUpdateUdp(version, 0x1111, 0x2222), 0x2222);
    }
}

} // namespace

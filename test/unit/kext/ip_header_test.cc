#include "ip_header.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace
{

using Packet = std::vector<uint8_t>;

void Append(Packet &packet, const Packet &more)
{
    packet.insert(packet.end(), more.begin(), more.end());
}

void Put16(Packet &packet, size_t offset, unsigned value)
{
    packet[offset] = static_cast<uint8_t>(value >> 8);
    packet[offset + 1] = static_cast<uint8_t>(value);
}

Packet Tcp(uint16_t source, uint16_t destination, size_t payload = 0)
{
    Packet segment(20 + payload);

    Put16(segment, 0, source);
    Put16(segment, 2, destination);
    segment[12] = 0x50;
    return segment;
}

Packet Udp(uint16_t source, uint16_t destination, size_t payload = 0)
{
    Packet datagram(8 + payload);

    Put16(datagram, 0, source);
    Put16(datagram, 2, destination);
    Put16(datagram, 4, static_cast<unsigned>(datagram.size()));
    return datagram;
}

Packet V4(uint8_t protocol, const Packet &transport, size_t options = 0, unsigned fragment = 0)
{
    Packet packet(20 + options);

    packet[0] = static_cast<uint8_t>(0x40 | (5 + options / 4));
    Put16(packet, 2, static_cast<unsigned>(packet.size() + transport.size()));
    Put16(packet, 4, 0xBEEF);
    Put16(packet, 6, fragment);
    packet[8] = 64;
    packet[9] = protocol;
    memcpy(&packet[12], "\x0A\x01\x02\x03\xC0\xA8\x00\x01", 8);
    Append(packet, transport);
    return packet;
}

Packet V6(uint8_t nextHeader, const Packet &rest)
{
    Packet packet(40);

    packet[0] = 0x60;
    Put16(packet, 4, static_cast<unsigned>(rest.size()));
    packet[6] = nextHeader;
    packet[7] = 64;
    for (size_t i = 0; i < 16; i++)
    {
        packet[8 + i] = static_cast<uint8_t>(0x20 + i);
        packet[24 + i] = static_cast<uint8_t>(0x60 + i);
    }
    Append(packet, rest);
    return packet;
}

// An extension header of (units + 1) * 8 bytes.
Packet Extension(uint8_t nextHeader, uint8_t units, const Packet &rest)
{
    Packet packet((units + 1u) * 8u);

    packet[0] = nextHeader;
    packet[1] = units;
    Append(packet, rest);
    return packet;
}

Packet FragmentHeader(uint8_t nextHeader, unsigned offsetAndFlags, const Packet &rest)
{
    Packet packet = {nextHeader, 0, 0, 0, 0x01, 0x02, 0x03, 0x04};

    Put16(packet, 2, offsetAndFlags);
    Append(packet, rest);
    return packet;
}

NTSTATUS Parse(const Packet &packet, IP_HEADER *header)
{
    // The copy has the exact size, so that the address sanitizer finds a read beyond it.
    const Packet exact = packet;

    return IpHeaderParse(exact.data(), static_cast<UINT32>(exact.size()), static_cast<UINT32>(exact.size()), header);
}

constexpr uint8_t kTcp = PROTOCOL_TCP, kUdp = PROTOCOL_UDP, kHopByHop = 0, kRouting = 43, kFragment = 44, kEsp = 50,
                  kAuthentication = 51, kNoNext = 59, kDestination = 60;

TEST(IpHeaderTest, ParsesV4)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V4(kTcp, Tcp(1234, 443, 10)), &header), STATUS_SUCCESS);
    EXPECT_EQ(header.IpVersion, 4);
    EXPECT_EQ(header.Protocol, PROTOCOL_TCP);
    EXPECT_EQ(header.SourcePort, 1234);
    EXPECT_EQ(header.DestinationPort, 443);
    EXPECT_EQ(header.HeaderLength, 20u);
    EXPECT_EQ(header.TotalLength, 50u);
    EXPECT_EQ(memcmp(header.SourceAddress, "\x0A\x01\x02\x03\0\0\0\0\0\0\0\0\0\0\0\0", 16), 0);
    EXPECT_EQ(memcmp(header.DestinationAddress, "\xC0\xA8\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0", 16), 0);
    EXPECT_FALSE(header.Fragment);
    EXPECT_FALSE(header.FirstFragment);
    EXPECT_FALSE(header.SourceRouted);
}

TEST(IpHeaderTest, FindsPortsBehindV4Options)
{
    for (size_t options = 0; options <= 40; options += 4)
    {
        IP_HEADER header;

        ASSERT_EQ(Parse(V4(kUdp, Udp(53, 5353), options), &header), STATUS_SUCCESS);
        EXPECT_EQ(header.HeaderLength, 20 + options);
        EXPECT_EQ(header.SourcePort, 53);
        EXPECT_EQ(header.DestinationPort, 5353);
    }
}

// An AH header of 24 bytes (RFC 4302) before a transport header.
Packet Authenticated(uint8_t protocol, const Packet &transport)
{
    Packet packet(24);

    packet[0] = protocol;
    packet[1] = 4; // counted in 4 bytes, less 2
    Append(packet, transport);
    return packet;
}

TEST(IpHeaderTest, FindsPortsBehindTheAuthenticationHeaderOfV4)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V4(kAuthentication, Authenticated(kUdp, Udp(53, 5353)), 8), &header), STATUS_SUCCESS);
    EXPECT_EQ(header.Protocol, PROTOCOL_UDP);
    EXPECT_EQ(header.HeaderLength, 20u + 8 + 24);
    EXPECT_EQ(header.SourcePort, 53);
    EXPECT_EQ(header.DestinationPort, 5353);
}

TEST(IpHeaderTest, AnAuthenticationHeaderOfV4ThatIsCutIsMalformed)
{
    const Packet payload = Authenticated(kUdp, Udp(53, 5353));

    for (size_t length = 0; length < payload.size(); length++)
    {
        IP_HEADER header;

        EXPECT_EQ(
            Parse(V4(kAuthentication, Packet(payload.begin(), payload.begin() + static_cast<long>(length))), &header),
            STATUS_INVALID_PARAMETER);
    }
}

TEST(IpHeaderTest, FragmentsOfV4KeepTheProtocolOfTheirHeader)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V4(kAuthentication, Authenticated(kUdp, Udp(53, 5353)), 0, 0x2000), &header), STATUS_SUCCESS);
    EXPECT_TRUE(header.FirstFragment);
    EXPECT_EQ(header.Protocol, kAuthentication);
    EXPECT_EQ(header.SourcePort, 0);
}

TEST(IpHeaderTest, AQuotedAuthenticationHeaderOfV4MayBeCut)
{
    const Packet whole = V4(kAuthentication, Authenticated(kUdp, Udp(53, 5353)));

    for (size_t length = 28; length <= whole.size(); length++)
    {
        const Packet quoted(whole.begin(), whole.begin() + static_cast<long>(length));
        IP_HEADER header;

        ASSERT_EQ(IpHeaderParseQuoted(quoted.data(), static_cast<UINT32>(length), &header), STATUS_SUCCESS);
        EXPECT_EQ(header.Protocol, length == whole.size() ? kUdp : kAuthentication);
        EXPECT_EQ(header.SourcePort, length == whole.size() ? 53 : 0);
    }
}

TEST(IpHeaderTest, ProtocolsWithoutPortsHaveNone)
{
    for (uint8_t protocol : {1, 2, 47, 50, 58, 132, 255})
    {
        IP_HEADER header;

        ASSERT_EQ(Parse(V4(protocol, Packet(8, 0xFF)), &header), STATUS_SUCCESS);
        EXPECT_EQ(header.Protocol, protocol);
        EXPECT_EQ(header.SourcePort, 0);
        EXPECT_EQ(header.DestinationPort, 0);
        ASSERT_EQ(Parse(V4(protocol, {}), &header), STATUS_SUCCESS);
    }
}

TEST(IpHeaderTest, BytesBehindTheTotalLengthAreIgnored)
{
    IP_HEADER header;
    Packet packet = V4(kUdp, Udp(1, 2));

    packet.resize(64); // as Ethernet pads short frames
    ASSERT_EQ(Parse(packet, &header), STATUS_SUCCESS);
    EXPECT_EQ(header.TotalLength, 28u);

    // A UDP length that reaches into the padding is malformed.
    Put16(packet, 2, 27);
    EXPECT_EQ(Parse(packet, &header), STATUS_INVALID_PARAMETER);
}

TEST(IpHeaderTest, ATotalLengthOf0MeansTheWholePacket)
{
    IP_HEADER header;
    Packet packet = V4(kTcp, Tcp(1, 2, 100));

    Put16(packet, 2, 0);
    ASSERT_EQ(Parse(packet, &header), STATUS_SUCCESS);
    EXPECT_EQ(header.TotalLength, packet.size());

    packet = V6(kTcp, Tcp(1, 2, 100));
    Put16(packet, 4, 0);
    ASSERT_EQ(Parse(packet, &header), STATUS_SUCCESS);
    EXPECT_EQ(header.TotalLength, packet.size());
}

TEST(IpHeaderTest, RefusesMalformedV4)
{
    IP_HEADER header;
    Packet packet;

    EXPECT_EQ(Parse({}, &header), STATUS_INVALID_PARAMETER);
    for (unsigned version : {0u, 1u, 5u, 7u, 15u})
    {
        packet = V4(kTcp, Tcp(1, 2));
        packet[0] = static_cast<uint8_t>(version << 4 | 5);
        EXPECT_EQ(Parse(packet, &header), STATUS_INVALID_PARAMETER) << version;
    }
    for (unsigned words = 0; words < 5; words++)
    {
        packet = V4(kTcp, Tcp(1, 2));
        packet[0] = static_cast<uint8_t>(0x40 | words);
        EXPECT_EQ(Parse(packet, &header), STATUS_INVALID_PARAMETER) << words;
    }
    packet = V4(kTcp, Tcp(1, 2));
    packet[0] = 0x4F; // options that reach beyond the packet
    EXPECT_EQ(Parse(packet, &header), STATUS_INVALID_PARAMETER);

    packet = V4(kTcp, Tcp(1, 2));
    Put16(packet, 2, 19); // shorter than its header
    EXPECT_EQ(Parse(packet, &header), STATUS_INVALID_PARAMETER);
    Put16(packet, 2, 41); // longer than the packet
    EXPECT_EQ(Parse(packet, &header), STATUS_INVALID_PARAMETER);
}

TEST(IpHeaderTest, EveryTruncatedPacketIsRefused)
{
    for (const Packet &packet : {V4(kTcp, Tcp(1, 2)), V4(kUdp, Udp(1, 2), 40), V6(kUdp, Udp(1, 2)),
                                 V6(kHopByHop, Extension(kDestination, 1, Extension(kTcp, 0, Tcp(1, 2))))})
    {
        for (size_t length = 0; length < packet.size(); length++)
        {
            IP_HEADER header;

            EXPECT_EQ(Parse(Packet(packet.begin(), packet.begin() + static_cast<long>(length)), &header),
                      STATUS_INVALID_PARAMETER)
                << length;
        }
    }
}

TEST(IpHeaderTest, AsksForMoreBytesWhenTheHeadersAreLonger)
{
    for (const Packet &packet :
         {V4(kTcp, Tcp(7, 8, 500), 12), V6(kHopByHop, Extension(kRouting, 2, Extension(kUdp, 0, Udp(7, 8, 500))))})
    {
        bool found = false;

        for (UINT32 available = 0; available <= packet.size(); available++)
        {
            const Packet visible(packet.begin(), packet.begin() + static_cast<long>(available));
            IP_HEADER header;
            NTSTATUS status = IpHeaderParse(visible.data(), available, static_cast<UINT32>(packet.size()), &header);

            EXPECT_EQ(status, found || NT_SUCCESS(status) ? STATUS_SUCCESS : STATUS_BUFFER_TOO_SMALL) << available;
            found = found || NT_SUCCESS(status);
            if (NT_SUCCESS(status))
            {
                EXPECT_EQ(header.SourcePort, 7);
                EXPECT_EQ(header.TotalLength, packet.size());
            }
        }
        EXPECT_TRUE(found);
    }
}

TEST(IpHeaderTest, RecognizesV4Fragments)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V4(kUdp, Udp(1000, 53, 104), 0, 0x2000), &header), STATUS_SUCCESS);
    EXPECT_TRUE(header.Fragment);
    EXPECT_TRUE(header.FirstFragment);
    EXPECT_TRUE(header.MoreFragments);
    EXPECT_EQ(header.FragmentOffset, 0u);
    EXPECT_EQ(header.FragmentIdentification, 0xBEEFu);
    EXPECT_EQ(header.SourcePort, 1000);

    ASSERT_EQ(Parse(V4(kUdp, Packet(4, 0xFF), 0, 0x0010), &header), STATUS_SUCCESS);
    EXPECT_TRUE(header.Fragment);
    EXPECT_FALSE(header.FirstFragment);
    EXPECT_FALSE(header.MoreFragments);
    EXPECT_EQ(header.FragmentOffset, 128u);
    EXPECT_EQ(header.SourcePort, 0) << "the middle of a datagram has no ports";

    ASSERT_EQ(Parse(V4(kUdp, Udp(1, 2), 0, 0x4000), &header), STATUS_SUCCESS);
    EXPECT_FALSE(header.Fragment) << "the DF bit does not make a fragment";
}

TEST(IpHeaderTest, RefusesImpossibleFragments)
{
    IP_HEADER header;

    // Refused: truncated ports (RFC 1858), or data beyond the largest datagram.
    EXPECT_EQ(Parse(V4(kTcp, Packet(8), 0, 0x2000), &header), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(Parse(V4(kTcp, Packet(16), 0, 0x1FFF), &header), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(Parse(V4(kTcp, Packet(7), 0, 0x1FFF), &header), STATUS_SUCCESS);
    EXPECT_EQ(Parse(V6(kFragment, FragmentHeader(kTcp, 0xFFF8, Packet(16))), &header), STATUS_INVALID_PARAMETER);

    // Refused: an empty fragment, or an end within a unit of 8 bytes where more fragments follow.
    EXPECT_EQ(Parse(V4(kUdp, Packet(), 0, 0x0010), &header), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(Parse(V4(kUdp, Packet(12), 0, 0x2010), &header), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(Parse(V6(kFragment, FragmentHeader(kUdp, 0x0101, Packet(12))), &header), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(Parse(V6(kFragment, FragmentHeader(kTcp, 1, Packet(8))), &header), STATUS_INVALID_PARAMETER);
}

TEST(IpHeaderTest, ParsesV6)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V6(kTcp, Tcp(1234, 443, 10)), &header), STATUS_SUCCESS);
    EXPECT_EQ(header.IpVersion, 6);
    EXPECT_EQ(header.Protocol, PROTOCOL_TCP);
    EXPECT_EQ(header.SourcePort, 1234);
    EXPECT_EQ(header.DestinationPort, 443);
    EXPECT_EQ(header.HeaderLength, 40u);
    EXPECT_EQ(header.TotalLength, 70u);
    EXPECT_EQ(header.SourceAddress[0], 0x20);
    EXPECT_EQ(header.SourceAddress[15], 0x2F);
    EXPECT_EQ(header.DestinationAddress[0], 0x60);
    EXPECT_EQ(header.DestinationAddress[15], 0x6F);
}

TEST(IpHeaderTest, WalksTheChainOfExtensionHeaders)
{
    IP_HEADER header;
    Packet authentication(24); // AH counts in 4 bytes: (4 + 2) * 4
    authentication[0] = kUdp;
    authentication[1] = 4;
    Append(authentication, Udp(5, 6));

    Packet packet = V6(
        kHopByHop,
        Extension(kDestination, 1,
                  Extension(kRouting, 0, Extension(kDestination, 2, Extension(kAuthentication, 0, authentication)))));
    ASSERT_EQ(Parse(packet, &header), STATUS_SUCCESS);
    EXPECT_EQ(header.Protocol, PROTOCOL_UDP);
    EXPECT_EQ(header.HeaderLength, 40u + 16 + 8 + 24 + 8 + 24);
    EXPECT_EQ(header.SourcePort, 5);
    EXPECT_EQ(header.DestinationPort, 6);
}

TEST(IpHeaderTest, EncryptedAndEmptyPayloadsEndTheChain)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V6(kEsp, Packet(20)), &header), STATUS_SUCCESS);
    EXPECT_EQ(header.Protocol, kEsp);
    ASSERT_EQ(Parse(V6(kDestination, Extension(kNoNext, 0, {})), &header), STATUS_SUCCESS);
    EXPECT_EQ(header.Protocol, kNoNext);
    EXPECT_EQ(header.HeaderLength, 48u);
    ASSERT_EQ(Parse(V6(kNoNext, {}), &header), STATUS_SUCCESS);
}

TEST(IpHeaderTest, HopByHopOptionsAreAllowedOnlyFirst)
{
    IP_HEADER header;

    EXPECT_EQ(Parse(V6(kHopByHop, Extension(kTcp, 0, Tcp(1, 2))), &header), STATUS_SUCCESS);
    EXPECT_EQ(Parse(V6(kDestination, Extension(kHopByHop, 0, Extension(kTcp, 0, Tcp(1, 2)))), &header),
              STATUS_INVALID_PARAMETER);
}

TEST(IpHeaderTest, RecognizesRemainingHopsOfARoutingHeader)
{
    IP_HEADER header;
    Packet packet = V6(kRouting, Extension(kTcp, 2, Tcp(1, 2)));

    ASSERT_EQ(Parse(packet, &header), STATUS_SUCCESS);
    EXPECT_FALSE(header.SourceRouted);
    packet[40 + 3] = 1;
    ASSERT_EQ(Parse(packet, &header), STATUS_SUCCESS);
    EXPECT_TRUE(header.SourceRouted);
}

TEST(IpHeaderTest, RecognizesV6Fragments)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V6(kFragment, FragmentHeader(kUdp, 1, Udp(1000, 53, 104))), &header), STATUS_SUCCESS);
    EXPECT_TRUE(header.Fragment);
    EXPECT_TRUE(header.FirstFragment);
    EXPECT_TRUE(header.MoreFragments);
    EXPECT_EQ(header.FragmentIdentification, 0x01020304u);
    EXPECT_EQ(header.SourcePort, 1000);
    EXPECT_EQ(header.HeaderLength, 48u);

    // In later fragments the bytes after the Fragment header are payload, even if Next Header names an extension.
    ASSERT_EQ(Parse(V6(kFragment, FragmentHeader(kDestination, 0x0100, Packet(3, 0xFF))), &header), STATUS_SUCCESS);
    EXPECT_TRUE(header.Fragment);
    EXPECT_FALSE(header.FirstFragment);
    EXPECT_EQ(header.FragmentOffset, 0x100u);
    EXPECT_EQ(header.FragmentLength, 3u);
    EXPECT_EQ(header.Protocol, kDestination);
    EXPECT_EQ(header.SourcePort, 0);
}

TEST(IpHeaderTest, TheLengthOfAV6FragmentIncludesTheHeadersInIt)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V6(kFragment, FragmentHeader(kDestination, 1, Extension(kUdp, 1, Udp(1000, 53, 8)))), &header),
              STATUS_SUCCESS);
    EXPECT_EQ(header.FragmentLength, 16u + 8 + 8);
    EXPECT_EQ(header.Protocol, kUdp);
}

TEST(IpHeaderTest, AnAtomicFragmentIsAWholePacket)
{
    IP_HEADER header;

    ASSERT_EQ(Parse(V6(kFragment, FragmentHeader(kUdp, 0, Udp(1000, 53))), &header), STATUS_SUCCESS);
    EXPECT_FALSE(header.Fragment);
    EXPECT_FALSE(header.FirstFragment);
    EXPECT_EQ(header.SourcePort, 1000);
}

TEST(IpHeaderTest, RefusesASecondFragmentHeader)
{
    IP_HEADER header;

    EXPECT_EQ(Parse(V6(kFragment, FragmentHeader(kFragment, 0, FragmentHeader(kUdp, 0, Udp(1, 2)))), &header),
              STATUS_INVALID_PARAMETER);
}

TEST(IpHeaderTest, RefusesEndlessChains)
{
    for (unsigned count : {IP_HEADER_MAX_EXTENSIONS, IP_HEADER_MAX_EXTENSIONS + 1})
    {
        Packet rest = Tcp(1, 2);
        uint8_t next = kTcp;
        IP_HEADER header;

        for (unsigned i = 0; i < count; i++)
        {
            rest = Extension(next, 0, rest);
            next = kDestination;
        }
        EXPECT_EQ(Parse(V6(kDestination, rest), &header),
                  count <= IP_HEADER_MAX_EXTENSIONS ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER);
    }
}

TEST(IpHeaderTest, MakesTheKeyWithThisMachineAsTheLocalEnd)
{
    IP_HEADER header;
    CONNECTION_KEY key;

    ASSERT_EQ(Parse(V4(kTcp, Tcp(1234, 443)), &header), STATUS_SUCCESS);
    memset(&key, 0xFF, sizeof(key));
    IpHeaderToKey(&header, DirectionOutbound, &key);
    EXPECT_EQ(key.LocalPort, 1234);
    EXPECT_EQ(key.RemotePort, 443);
    EXPECT_EQ(memcmp(key.LocalAddress, header.SourceAddress, 16), 0);
    EXPECT_EQ(memcmp(key.RemoteAddress, header.DestinationAddress, 16), 0);
    EXPECT_EQ(key.Protocol, PROTOCOL_TCP);
    EXPECT_EQ(key.IpVersion, 4);
    EXPECT_EQ(key.Scope | key.Reserved, 0);

    IpHeaderToKey(&header, DirectionInbound, &key);
    EXPECT_EQ(key.LocalPort, 443);
    EXPECT_EQ(key.RemotePort, 1234);
    EXPECT_EQ(memcmp(key.LocalAddress, header.DestinationAddress, 16), 0);
    EXPECT_EQ(memcmp(key.RemoteAddress, header.SourceAddress, 16), 0);
}

// ---- Packets of the receive path

NTSTATUS Rebuild(Packet *packet, UINT32 *headerLength, uint8_t protocol, BOOLEAN plain = FALSE)
{
    Packet exact = *packet;
    UINT32 length = static_cast<UINT32>(exact.size());
    const NTSTATUS status = IpHeaderRebuild(exact.data(), &length, headerLength, protocol, plain);

    exact.resize(length);
    *packet = exact;
    return status;
}

TEST(IpHeaderTest, ARebuiltV4HeaderKeepsItsOptionsAndLosesItsFragmentBits)
{
    const Packet whole = V4(kUdp, Udp(1, 2, 100), 8);
    Packet packet = V4(kUdp, Udp(1, 2, 100), 8, 0xE005);
    UINT32 header = 28;

    Put16(packet, 2, 60);
    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_SUCCESS);
    EXPECT_EQ(header, 28u);
    Put16(packet, 6, 0); // don't fragment stays as it was
    EXPECT_EQ(packet, whole);
}

TEST(IpHeaderTest, ARebuiltV4HeaderLosesWhatFollowsIt)
{
    Packet packet = V4(kEsp, Packet(8));
    UINT32 header = 28;

    Append(packet, Tcp(1, 2, 3));
    EXPECT_EQ(Rebuild(&packet, &header, kTcp), STATUS_SUCCESS);
    EXPECT_EQ(header, 20u);
    EXPECT_EQ(packet, V4(kTcp, Tcp(1, 2, 3)));
}

TEST(IpHeaderTest, ARebuiltV6HeaderLosesItsExtensionsOnlyIfItMust)
{
    const Packet plain = V6(kUdp, Udp(1, 2));
    const Packet extended = V6(kDestination, Extension(kUdp, 0, Udp(1, 2)));
    Packet packet = extended;
    UINT32 header = 48;

    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_SUCCESS);
    EXPECT_EQ(packet, extended);
    EXPECT_EQ(header, 48u);

    EXPECT_EQ(Rebuild(&packet, &header, kUdp, TRUE), STATUS_SUCCESS);
    EXPECT_EQ(packet, plain) << "plain";
    EXPECT_EQ(header, 40u);

    packet = V6(kDestination, Extension(kFragment, 0, FragmentHeader(kUdp, 1, Udp(1, 2))));
    header = 56;
    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_SUCCESS);
    EXPECT_EQ(packet, plain) << "a Fragment header";
    EXPECT_EQ(header, 40u);
}

TEST(IpHeaderTest, RefusesToRebuildWhatDoesNotFit)
{
    Packet packet = V4(kUdp, Udp(1, 2));
    UINT32 header = 16;

    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_INVALID_PARAMETER) << "shorter than a header";
    header = 32;
    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_INVALID_PARAMETER) << "longer than the packet";
    packet[0] = 0x46;
    header = 20;
    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_INVALID_PARAMETER) << "options that are not there";
    packet = V4(kUdp, Udp(1, 2, 65535 - 28));
    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_SUCCESS) << "as long as IP permits";
    packet.push_back(0);
    EXPECT_EQ(Rebuild(&packet, &header, kUdp), STATUS_INVALID_PARAMETER) << "one byte longer";
}

TEST(IpHeaderTest, SurvivesRandomBytes)
{
    std::mt19937 random(1);

    for (unsigned i = 0; i < 200000; i++)
    {
        Packet packet(random() % 120);
        IP_HEADER header;

        for (uint8_t &byte : packet)
        {
            byte = static_cast<uint8_t>(random() % 4 == 0 ? random() : random() % 64);
        }
        if (!packet.empty())
        {
            packet[0] = static_cast<uint8_t>((random() % 2 ? 0x40 : 0x60) | (packet[0] & 0x0F));
        }
        if (NT_SUCCESS(Parse(packet, &header)))
        {
            EXPECT_LE(header.HeaderLength, header.TotalLength);
            EXPECT_LE(header.TotalLength, packet.size());
        }

        UINT32 length = packet.empty() ? 0 : random() % 120;

        if (!packet.empty() && NT_SUCCESS(Rebuild(&packet, &length, kUdp, random() % 2 != 0)))
        {
            EXPECT_LE(length, packet.size());
        }
    }
}

} // namespace

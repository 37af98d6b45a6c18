// IP packets are found in the frames of every link layer.

#include "capture_writer.h"

#include "sources/link_layer.h"

namespace sim::sources
{
namespace
{

const Bytes kPacket = UdpPacket(V4(10, 0, 0, 1, 1), V4(10, 0, 0, 2, 2), {7});

LinkFrame Decode(uint16_t link_type, const Bytes &frame)
{
    return DecodeLink(link_type, frame.data(), frame.size(), frame.size());
}

void ExpectPacketAt(size_t offset, uint16_t link_type, const Bytes &frame)
{
    const LinkFrame link = Decode(link_type, frame);

    ASSERT_EQ(link.kind, FrameKind::kIp);
    EXPECT_EQ(link.packet, frame.data() + offset);
    EXPECT_EQ(link.captured_length, frame.size() - offset);
    EXPECT_EQ(link.original_length, frame.size() - offset);
}

Bytes Join(Bytes header, const Bytes &packet = kPacket)
{
    header.insert(header.end(), packet.begin(), packet.end());
    return header;
}

TEST(PcapLink, Ethernet)
{
    const Bytes frame = EthernetFrame(StationOf(1), StationOf(2), kPacket);
    const LinkFrame link = Decode(1, frame);

    ExpectPacketAt(14, 1, frame);
    EXPECT_TRUE(link.has_hardware);
    EXPECT_EQ(link.source[5], 2);
    EXPECT_EQ(link.destination[5], 1);
}

TEST(PcapLink, EthernetWithVlanTags)
{
    const Bytes one = EthernetFrame(StationOf(1), StationOf(2), Join({0, 5, 8, 0}), 0x8100);
    const Bytes two = EthernetFrame(StationOf(1), StationOf(2), Join({0, 5, 0x81, 0, 0, 6, 8, 0}), 0x88A8);

    ExpectPacketAt(18, 1, one);
    ExpectPacketAt(22, 1, two);
}

TEST(PcapLink, EthernetWithALengthInsteadOfAType)
{
    ExpectPacketAt(22, 1, EthernetFrame(StationOf(1), StationOf(2), Join({0xAA, 0xAA, 3, 0, 0, 0, 8, 0}), 40));
}

TEST(PcapLink, RawPackets)
{
    for (const uint16_t link_type : {12, 14, 101, 228, 229})
    {
        ExpectPacketAt(0, link_type, kPacket);
    }
}

TEST(PcapLink, NullAndLoopHeadersOfEitherByteOrder)
{
    ExpectPacketAt(4, 0, Join({2, 0, 0, 0}));
    ExpectPacketAt(4, 0, Join({0, 0, 0, 2}));
    ExpectPacketAt(4, 108, Join({0, 0, 0, 2}));
    for (const uint8_t inet6 : {24, 28, 30})
    {
        ExpectPacketAt(4, 0, Join({inet6, 0, 0, 0}));
    }
    EXPECT_EQ(Decode(0, Join({99, 0, 0, 0})).kind, FrameKind::kOther);
}

TEST(PcapLink, LinuxCookedHeadersHaveTheDirection)
{
    Bytes header(16);

    header[1] = 4;
    header[14] = 8;
    ExpectPacketAt(16, 113, Join(header));
    EXPECT_TRUE(Decode(113, Join(header)).outgoing);
    header[1] = 0;
    EXPECT_TRUE(Decode(113, Join(header)).incoming);

    Bytes second(20);

    second[0] = 8;
    second[10] = 4;
    ExpectPacketAt(20, 276, Join(second));
    EXPECT_TRUE(Decode(276, Join(second)).outgoing);
}

TEST(PcapLink, OtherProtocolsDifferFromDamage)
{
    EXPECT_EQ(Decode(1, EthernetFrame(StationOf(1), StationOf(2), Bytes(28), 0x0806)).kind, FrameKind::kOther);
    EXPECT_EQ(Decode(147, kPacket).kind, FrameKind::kUnknownLink);
    EXPECT_EQ(Decode(1, Bytes(13)).kind, FrameKind::kMalformed);
    EXPECT_EQ(Decode(1, EthernetFrame(StationOf(1), StationOf(2), {0}, 0x8100)).kind, FrameKind::kMalformed);
    EXPECT_EQ(Decode(1, EthernetFrame(StationOf(1), StationOf(2), {}, 0x0800)).kind, FrameKind::kMalformed);
    EXPECT_EQ(Decode(0, Bytes(4)).kind, FrameKind::kMalformed);
    EXPECT_EQ(Decode(113, Bytes(15)).kind, FrameKind::kMalformed);
    EXPECT_EQ(Decode(276, Bytes(19)).kind, FrameKind::kMalformed);
    EXPECT_EQ(DecodeLink(101, kPacket.data(), 0, 60).kind, FrameKind::kMalformed);
}

} // namespace
} // namespace sim::sources

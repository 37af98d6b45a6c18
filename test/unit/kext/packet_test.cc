#include "support/driver_test.h"

#include "nt/fault_injection.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <utility>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;
using Chain = std::vector<std::vector<ByteVector>>;

enum class Expected
{
    kPermit,
    kBlock,
    kAbsorb,
    kHold
};

struct TableRow
{
    uint8_t verdict;
    Expected expected;
};

const TableRow kTable[] = {
    {VerdictUndeterminable, Expected::kAbsorb},     {VerdictAccept, Expected::kHold},
    {VerdictPermanentAccept, Expected::kPermit},    {VerdictBlock, Expected::kHold},
    {VerdictPermanentBlock, Expected::kBlock},      {VerdictDrop, Expected::kHold},
    {VerdictPermanentDrop, Expected::kAbsorb},      {VerdictRedirectNameServer, Expected::kAbsorb},
    {VerdictRedirectTunnel, Expected::kAbsorb},     {VerdictFailed, Expected::kAbsorb},
    {VerdictRedirectSplitTunnel, Expected::kAbsorb}};

class PacketTest : public DriverTest
{
  protected:
    bool Matches(const Network::Answer &answer, Expected expected)
    {
        const size_t questions = client_.ReadQuestions().size();

        switch (expected)
        {
        case Expected::kPermit:
            return answer.permitted() && questions == 0;
        case Expected::kBlock:
            return answer.blocked() && questions == 0;
        case Expected::kAbsorb:
            return answer.absorbed() && questions == 0;
        default:
            return answer.absorbed() && questions == 1;
        }
    }

    static void Overwrite(ByteVector *packet, size_t offset, std::initializer_list<uint8_t> bytes)
    {
        std::copy(bytes.begin(), bytes.end(), packet->begin() + static_cast<ptrdiff_t>(offset));
    }

    // An IPv6 UDP packet with a chain of extension headers of 8 * (1 + units) bytes each.
    static ByteVector WithExtensions(const Flow &flow, bool inbound,
                                     const std::vector<std::pair<uint8_t, uint8_t>> &chain)
    {
        ByteVector packet = MakePacket(flow, inbound);
        ByteVector extensions;

        for (size_t i = 0; i < chain.size(); i++)
        {
            const uint8_t next = i + 1 < chain.size() ? chain[i + 1].first : flow.protocol;
            ByteVector header(8u * (1u + chain[i].second));

            header[0] = next;
            header[1] = chain[i].second;
            extensions.insert(extensions.end(), header.begin(), header.end());
        }
        packet[6] = chain[0].first;
        packet.insert(packet.begin() + 40, extensions.begin(), extensions.end());
        const size_t length = packet.size() - 40;
        Overwrite(&packet, 4, {static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
        return packet;
    }
};

// ---- The decision table

class PacketTableTest : public PacketTest, public testing::WithParamInterface<std::tuple<TableRow, Flow>>
{
};

TEST_P(PacketTableTest, APacketOfAKnownConnectionFollowsItsVerdict)
{
    const auto &[row, flow] = GetParam();

    Decide(flow, row.verdict);
    EXPECT_TRUE(Matches(network_.Outbound(MakePacket(flow)), row.expected));
    EXPECT_TRUE(Matches(network_.Inbound(MakePacket(flow, true)), row.expected));
}

TEST_P(PacketTableTest, ABlockIsFinalAndAPermitIsNot)
{
    const auto &[row, flow] = GetParam();
    const uint16_t layer = flow.family() == 6 ? FWPS_LAYER_OUTBOUND_IPPACKET_V6 : FWPS_LAYER_OUTBOUND_IPPACKET_V4;

    Decide(flow, row.verdict);
    const uint64_t permit = machine_.wfp().AddForeignFilter(layer, 1, sim::wfp::ForeignAction::kSoftPermit);
    EXPECT_EQ(network_.Outbound(MakePacket(flow)).permitted(), row.expected == Expected::kPermit);
    machine_.wfp().RemoveForeignFilter(permit);

    const uint64_t block = machine_.wfp().AddForeignFilter(layer, 1, sim::wfp::ForeignAction::kSoftBlock);
    EXPECT_FALSE(network_.Outbound(MakePacket(flow)).permitted());
    machine_.wfp().RemoveForeignFilter(block);
}

TEST_P(PacketTableTest, APacketSentAfterTheEndGoesByTheLastVerdict)
{
    const auto &[row, flow] = GetParam();
    const bool permitted = row.verdict == VerdictAccept || row.verdict == VerdictPermanentAccept;
    const bool redirected = row.verdict == VerdictRedirectNameServer || row.verdict == VerdictRedirectTunnel ||
                            row.verdict == VerdictRedirectSplitTunnel;

    Decide(flow, row.verdict);
    network_.Close(flow);
    client_.Read();
    EXPECT_TRUE(Matches(network_.Outbound(MakePacket(flow)), permitted ? Expected::kPermit : Expected::kAbsorb));
    EXPECT_EQ(network_.TakeInjected().size(), redirected ? 1u : 0u);
}

INSTANTIATE_TEST_SUITE_P(AllVerdicts, PacketTableTest,
                         testing::Combine(testing::ValuesIn(kTable),
                                          testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6())));

// ---- Unknown connections

class PacketFlowTest : public PacketTest, public testing::WithParamInterface<Flow>
{
  protected:
    Flow flow() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(EachKind, PacketFlowTest, testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6()));

TEST_P(PacketFlowTest, AnUnknownInboundPacketIsLeftToTheAleLayer)
{
    EXPECT_TRUE(network_.Inbound(MakePacket(flow(), true)).permitted());
    EXPECT_TRUE(client_.Read().empty());
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_P(PacketFlowTest, AnUnknownOutboundPacketIsHeldAsANewConnectionWithoutAProcess)
{
    const ByteVector packet = MakePacket(flow());

    EXPECT_TRUE(network_.Outbound(packet).absorbed());
    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.process_id, 0u);
    EXPECT_EQ(question.direction, DirectionOutbound);
    EXPECT_EQ(question.protocol, flow().protocol);
    EXPECT_EQ(question.payload_layer, PROTOCOL_PAYLOAD_NETWORK_LAYER);
    EXPECT_EQ(question.local_port, flow().local.port);
    EXPECT_EQ(question.remote_port, flow().remote.port);
    EXPECT_EQ(question.payload, packet);
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
}

TEST_P(PacketFlowTest, AnAcceptedOutboundPacketIsSentAsItWas)
{
    const ByteVector packet = MakePacket(flow());

    for (uint8_t verdict : {VerdictAccept, VerdictPermanentAccept})
    {
        EXPECT_TRUE(network_.Outbound(packet).absorbed());
        client_.Verdict(client_.ReadQuestion().id, verdict);

        const std::vector<Injected> injected = network_.TakeInjected();
        ASSERT_EQ(injected.size(), 1u);
        EXPECT_EQ(injected[0].kind, Injection::kNetworkSend);
        EXPECT_EQ(injected[0].bytes, packet);
        EXPECT_EQ(injected[0].compartment, Network::kCompartment);
        EXPECT_TRUE(injected[0].decided_permit) << "the driver permits what it injected";
        EXPECT_TRUE(client_.ReadQuestions().empty());
    }
}

TEST_P(PacketFlowTest, AnAcceptedInboundPacketIsReceivedWhereItCameFrom)
{
    const ByteVector packet = MakePacket(flow(), true);

    Decide(flow(), VerdictAccept);
    EXPECT_TRUE(network_.Inbound(packet).absorbed());
    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.direction, DirectionInbound) << "the direction is the packet's";
    EXPECT_EQ(question.payload, packet);
    EXPECT_EQ(question.process_id, 1234u);
    EXPECT_EQ(question.local_port, flow().local.port);
    client_.Verdict(question.id, VerdictAccept);

    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].kind, Injection::kNetworkReceive);
    EXPECT_EQ(injected[0].bytes, packet);
    EXPECT_EQ(injected[0].interface_index, Network::kInterface);
    EXPECT_EQ(injected[0].sub_interface_index, Network::kSubInterface);
    EXPECT_TRUE(injected[0].decided_permit);
}

TEST_P(PacketFlowTest, EveryOtherVerdictDropsTheHeldPacket)
{
    for (uint8_t verdict = 0; verdict < VerdictCount; verdict++)
    {
        if (verdict == VerdictAccept || verdict == VerdictPermanentAccept || VerdictRedirects(verdict))
        {
            continue;
        }
        EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
        client_.Verdict(client_.ReadQuestion().id, verdict);
        EXPECT_TRUE(network_.TakeInjected().empty()) << "verdict " << int{verdict};
        client_.Command(CommandClearCache);
    }
}

// An adapter pads short frames (IEEE 802.3), and some adapters do not remove the padding.
TEST_P(PacketFlowTest, PaddingBehindAPacketIsNeitherReportedNorInjected)
{
    const auto padded = [](ByteVector packet)
    {
        packet.insert(packet.end(), 6, 0xEE);
        return packet;
    };
    Decide(flow(), VerdictAccept);
    for (bool inbound : {false, true})
    {
        const ByteVector packet = MakePacket(flow(), inbound);

        EXPECT_TRUE((inbound ? network_.Inbound(padded(packet)) : network_.Outbound(padded(packet))).absorbed());
        const Question question = client_.ReadQuestion();
        EXPECT_EQ(question.payload, packet);
        client_.Verdict(question.id, VerdictAccept);
        const std::vector<Injected> injected = network_.TakeInjected();
        ASSERT_EQ(injected.size(), 1u);
        EXPECT_EQ(injected[0].bytes, packet);
    }
}

TEST_P(PacketFlowTest, EachPacketOfAnUndecidedConnectionIsReported)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(flow(), false, Payload(1))).absorbed());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow(), false, Payload(2))).absorbed());
    EXPECT_TRUE(network_.Inbound(MakePacket(flow(), true, Payload(3))).absorbed());
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 3u);
    EXPECT_LT(questions[0].id, questions[1].id);
    EXPECT_LT(questions[1].id, questions[2].id);
}

TEST_P(PacketFlowTest, APacketThatIsHeldWhileItsConnectIsPendedWaitsForItsOwnVerdict)
{
    const ByteVector packet = MakePacket(flow());
    const bool tcp = flow().protocol == PROTOCOL_TCP;
    const Network::Answer connect = network_.Connect(flow(), tcp ? nullptr : &packet, {});
    EXPECT_TRUE(network_.Outbound(packet).absorbed());

    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 2u);
    EXPECT_EQ(questions[1].process_id, 1234u) << "the connect gave the process";
    client_.Verdict(questions[0].id, VerdictPermanentAccept);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(network_.TakeInjected().size(), tcp ? 0u : 1u);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
    client_.Verdict(questions[1].id, VerdictDrop);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

// ---- After the end

TEST_P(PacketFlowTest, TheLastPacketsOfAnEndedConnectionFollowItsLastVerdict)
{
    Decide(flow(), VerdictPermanentAccept);
    network_.Close(flow());
    client_.Read();
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).permitted());
    EXPECT_TRUE(client_.Read().empty());
}

TEST_P(PacketFlowTest, TheEndOfARefusedConnectionLetsNoPacketOut)
{
    Decide(flow(), VerdictPermanentBlock);
    network_.Close(flow());
    client_.Read();
    EXPECT_FALSE(network_.Outbound(MakePacket(flow())).permitted());
    EXPECT_TRUE(client_.Read().empty());
}

TEST_P(PacketFlowTest, APacketSentAfterTheEndOfAnUndecidedConnectionIsDropped)
{
    network_.Outbound(MakePacket(flow()));
    network_.Close(flow());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_P(PacketFlowTest, ANewInboundConnectionOnThePortsOfAnEndedOneReachesTheAleLayer)
{
    const ByteVector packet = MakePacket(flow(), true);

    Decide(flow(), VerdictPermanentBlock);
    network_.Close(flow());
    client_.Read();
    EXPECT_TRUE(network_.Inbound(packet).permitted());
    EXPECT_TRUE(network_.Accept(flow(), &packet).pended());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

// ---- Protocols without ports

TEST_F(PacketTest, OtherProtocolsAreReportedPacketByPacketAndNotRemembered)
{
    for (const uint8_t protocol : {PROTOCOL_ICMP, PROTOCOL_ICMPV6})
    {
        Flow flow = protocol == PROTOCOL_ICMP ? Flow{} : TcpV6();
        flow.protocol = protocol;

        for (int i = 0; i < 2; i++)
        {
            EXPECT_TRUE(network_.Outbound(MakePacket(flow)).absorbed());
            const Question question = client_.ReadQuestion();
            EXPECT_EQ(question.protocol, protocol);
            EXPECT_EQ(question.local_port, 0);
            EXPECT_EQ(question.remote_port, 0);
            EXPECT_EQ(question.process_id, 0u);
            client_.Verdict(question.id, VerdictPermanentAccept);
            EXPECT_EQ(network_.TakeInjected().size(), 1u);
        }
        EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).absorbed());
        client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
        EXPECT_EQ(network_.TakeInjected().size(), 1u);
    }
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

// ---- The client's own traffic

TEST_F(PacketTest, TrafficOfTheClientsResolverAndTunnelOnThisMachineIsPermitted)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    Flow flow = UdpV4();

    options.DnsPort = 5300;
    options.TunnelPort = 5301;
    options.SplitTunnelPort = 5302;
    client_.SetOptions(options);
    flow.remote = V4(192, 0, 2, 1, 40000);
    for (uint16_t port : {5300, 5301, 5302})
    {
        flow.local.port = port;
        EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
        EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).permitted());
    }
    flow.local.port = 5303;
    EXPECT_FALSE(network_.Outbound(MakePacket(flow)).permitted()) << "another port";
    flow.local.port = 5300;
    flow.remote = V4(192, 0, 2, 2, 40000);
    EXPECT_FALSE(network_.Outbound(MakePacket(flow)).permitted()) << "another machine";
}

// ---- Loopback

TEST_F(PacketTest, AHeldInboundLoopbackPacketIsSentAgain)
{
    Flow flow = UdpV4();
    flow.local = V4(127, 0, 0, 1, 5000);
    flow.remote = V4(127, 0, 0, 1, 6000);
    Decide(flow, VerdictAccept);

    EXPECT_TRUE(network_.Inbound(MakePacket(flow, true), true).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).kind, Injection::kNetworkSend);
}

// ---- Checksums

TEST_P(PacketFlowTest, ACopyOfAnOutboundPacketGetsTheChecksumsThatTheAdapterWouldHaveComputed)
{
    const ByteVector right = MakePacket(flow());
    const size_t transport = flow().family() == 6 ? 40 : 20;
    ByteVector offloaded = right;

    if (flow().family() == 4)
    {
        Overwrite(&offloaded, 10, {0, 0});
    }
    Overwrite(&offloaded, transport + (flow().protocol == PROTOCOL_TCP ? 16 : 6), {0x12, 0x34});
    EXPECT_TRUE(network_.Outbound(offloaded).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, right);
}

TEST_F(PacketTest, ADamagedInboundPacketStaysDamaged)
{
    ByteVector damaged = MakePacket(UdpV4(), true);

    Decide(UdpV4(), VerdictAccept);
    damaged.back() ^= 0xFF;
    EXPECT_TRUE(network_.Inbound(damaged).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, damaged);
}

TEST_F(PacketTest, AnInboundPacketThatTheAdapterVerifiedGetsWholeChecksums)
{
    const ByteVector right = MakePacket(UdpV4(), true);
    ByteVector coalesced = right;
    NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO info{};

    Decide(UdpV4(), VerdictAccept);
    Overwrite(&coalesced, 26, {0x12, 0x34});
    PacketChain chain(machine_, {{coalesced}}, 20);
    info.Receive.UdpChecksumSucceeded = 1;
    NET_BUFFER_LIST_INFO(chain.head(), TcpIpChecksumNetBufferListInfo) = info.Value;
    EXPECT_TRUE(network_.InboundChain(false, chain.head(), 20, 0).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, right);
}

TEST_F(PacketTest, AUdpPacketWithoutAChecksumStaysWithoutOneOnIpv4)
{
    ByteVector packet = MakePacket(UdpV4());

    Overwrite(&packet, 26, {0, 0});
    EXPECT_TRUE(network_.Outbound(packet).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, packet);
}

// ---- Headers

TEST_F(PacketTest, EveryKindOfClassifyRestoresTheDataStart)
{
    const ByteVector packet = MakePacket(UdpV4(), true);
    ByteVector malformed = packet;
    Overwrite(&malformed, 2, {0xFF, 0xFF});
    ByteVector fragment = packet;
    Overwrite(&fragment, 6, {0x20, 0});

    for (uint8_t verdict : {VerdictPermanentAccept, VerdictPermanentBlock, VerdictAccept})
    {
        Decide(UdpV4(), verdict);
        for (const ByteVector &bytes : {packet, malformed, fragment})
        {
            PacketChain chain(machine_, {{bytes, packet}, {packet}}, 20);

            network_.InboundChain(false, chain.head(), 20, 0);
            EXPECT_EQ(sim::ndis::RetreatBalance(chain.head()), 0);
            for (NET_BUFFER *buffer = chain.head()->FirstNetBuffer; buffer != nullptr; buffer = buffer->Next)
            {
                EXPECT_EQ(buffer->DataLength, packet.size() - 20);
            }
        }
        client_.Read();
        client_.Command(CommandClearCache);
    }
}

TEST_F(PacketTest, Ipv4OptionsAreSkipped)
{
    ByteVector packet = MakePacket(UdpV4());
    ByteVector inbound = MakePacket(UdpV4(), true);

    for (ByteVector *bytes : {&packet, &inbound})
    {
        const size_t length = bytes->size() + 8;

        bytes->insert(bytes->begin() + 20, {1, 1, 1, 1, 1, 1, 1, 0});
        Overwrite(bytes, 0, {0x47});
        Overwrite(bytes, 2, {static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
    }
    Decide(UdpV4(), VerdictPermanentBlock);
    EXPECT_TRUE(network_.Outbound(packet).blocked());
    EXPECT_TRUE(network_.Inbound(inbound).blocked());
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, 0u);
}

TEST_F(PacketTest, Ipv6ExtensionHeadersAreSkipped)
{
    Decide(UdpV6(), VerdictPermanentBlock);
    for (const auto &chain : std::vector<std::vector<std::pair<uint8_t, uint8_t>>>{
             {{0, 0}}, {{43, 1}}, {{60, 3}}, {{0, 0}, {43, 2}, {60, 0}}, {{0, 20}, {60, 20}}})
    {
        EXPECT_TRUE(network_.Outbound(WithExtensions(UdpV6(), false, chain)).blocked());
        EXPECT_TRUE(network_.Inbound(WithExtensions(UdpV6(), true, chain)).blocked());
    }
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, 0u);
}

TEST_F(PacketTest, HeadersMayBeScatteredOverAnyNumberOfPieces)
{
    Decide(UdpV6(), VerdictPermanentBlock);
    Decide(Flow{}, VerdictPermanentBlock);
    for (size_t piece : {1u, 3u, 7u, 64u})
    {
        const ByteVector extended = WithExtensions(UdpV6(), false, {{0, 15}, {60, 15}});

        EXPECT_TRUE(network_.Outbound(Chain{{MakePacket(Flow{})}}, piece).blocked()) << "piece " << piece;
        EXPECT_TRUE(network_.Inbound(Chain{{MakePacket(Flow{}, true)}}, false, piece).blocked());
        EXPECT_TRUE(network_.Outbound(Chain{{extended}}, piece).blocked()) << "the headers are longer than usual";
    }
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, 0u);
}

TEST_F(PacketTest, AScatteredPacketIsHeldWhole)
{
    const ByteVector packet = MakePacket(UdpV4(), false, Payload(500));

    EXPECT_TRUE(network_.Outbound(Chain{{packet}}, 13).absorbed());
    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.payload, packet);
    client_.Verdict(question.id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, packet);
}

TEST_F(PacketTest, MalformedPacketsAreBlockedAndCountedAndLoggedOnceASecond)
{
    const ByteVector whole = MakePacket(UdpV4());
    uint64_t expected = 0;

    for (size_t length = 1; length < 28; length++)
    {
        const ByteVector cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));

        EXPECT_TRUE(network_.Outbound(cut).blocked()) << "length " << length;
        expected++;
    }
    for (const std::pair<size_t, uint8_t> &damage :
         {std::pair<size_t, uint8_t>{0, 0x44}, {0, 0x55}, {0, 0x65}, {3, 0x05}, {2, 0x80}})
    {
        ByteVector packet = whole;
        packet[damage.first] = damage.second;
        PacketChain chain(machine_, {{packet}});
        EXPECT_TRUE(network_.OutboundChain(false, chain.head()).blocked());
        expected++;
    }
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, expected);
    EXPECT_EQ(client_.GetLogs().size(), 1u);

    Advance(std::chrono::milliseconds(1100));
    network_.Outbound(ByteVector{0x45});
    EXPECT_EQ(client_.GetLogs().size(), 1u);
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

// ---- Chains

class ChainTest : public PacketTest
{
  protected:
    ChainTest()
    {
        Decide(good_, VerdictPermanentAccept);
        Decide(bad_, VerdictPermanentBlock);
        Decide(silent_, VerdictPermanentDrop);
    }

    static Flow WithPort(uint16_t port)
    {
        Flow flow = UdpV4();
        flow.local.port = port;
        return flow;
    }

    static ByteVector Out(const Flow &flow, size_t length = 16) { return MakePacket(flow, false, Payload(length)); }
    static ByteVector In(const Flow &flow, size_t length = 16) { return MakePacket(flow, true, Payload(length)); }

    const Flow good_ = WithPort(1001);
    const Flow bad_ = WithPort(1002);
    const Flow silent_ = WithPort(1003);
    const Flow unknown_ = WithPort(1004);
};

TEST_F(ChainTest, IsPermittedWhenAllItsPacketsAre)
{
    EXPECT_TRUE(network_.Outbound(Chain{{Out(good_), Out(good_)}, {Out(good_)}}).permitted());
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(ChainTest, IsBlockedWhenAllItsPacketsAre)
{
    EXPECT_TRUE(network_.Outbound(Chain{{Out(bad_), Out(bad_)}, {Out(bad_)}}).blocked());
}

TEST_F(ChainTest, PermittedPacketsAreInjectedAsCopiesWhereDecisionsDiffer)
{
    const Chain chains[] = {
        {{Out(good_, 1), Out(bad_)}, {Out(good_, 2)}},
        {{Out(bad_), Out(good_, 1), Out(good_, 2)}},
        {{Out(good_, 1)}, {Out(good_, 2)}, {Out(silent_)}},
        {{Out(silent_)}, {Out(bad_)}, {Out(good_, 1), Out(good_, 2)}},
    };

    for (const Chain &chain : chains)
    {
        EXPECT_TRUE(network_.Outbound(chain).absorbed());

        const std::vector<Injected> injected = network_.TakeInjected();
        ASSERT_EQ(injected.size(), 2u);
        EXPECT_EQ(injected[0].bytes, Out(good_, 1));
        EXPECT_EQ(injected[1].bytes, Out(good_, 2));
        EXPECT_TRUE(client_.ReadQuestions().empty());
    }
}

TEST_F(ChainTest, HoldsEachUndecidedPacketAndReleasesTheOthers)
{
    EXPECT_TRUE(network_.Outbound(Chain{{Out(good_, 1), Out(unknown_, 2), Out(bad_)}, {Out(unknown_, 3)}}).absorbed());
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, Out(good_, 1));

    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 2u);
    EXPECT_EQ(questions[0].payload, Out(unknown_, 2));
    EXPECT_EQ(questions[1].payload, Out(unknown_, 3));
    client_.Verdict(questions[1].id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, Out(unknown_, 3));
}

TEST_F(ChainTest, WorksInboundToo)
{
    PacketChain chain(machine_, {{In(good_, 1), In(bad_)}, {In(good_, 2)}}, 20);

    EXPECT_TRUE(network_.InboundChain(false, chain.head(), 20, 0).absorbed());
    EXPECT_EQ(sim::ndis::RetreatBalance(chain.head()), 0);
    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), 2u);
    EXPECT_EQ(injected[0].kind, Injection::kNetworkReceive);
    EXPECT_EQ(injected[0].bytes, In(good_, 1));
    EXPECT_EQ(injected[1].bytes, In(good_, 2));
}

TEST_F(ChainTest, CountsEveryPacketOnce)
{
    const Statistics before = client_.GetStatistics();

    network_.Outbound(Chain{{Out(good_), Out(bad_)}, {Out(good_), Out(silent_), Out(unknown_)}});
    network_.TakeInjected();
    const Statistics held = client_.GetStatistics();
    EXPECT_EQ(held.PacketsPermitted - before.PacketsPermitted, 2u);
    EXPECT_EQ(held.PacketsBlocked - before.PacketsBlocked, 2u);
    EXPECT_EQ(held.PacketsHeld, 1u);
    EXPECT_EQ(held.PacketsInjected - before.PacketsInjected, 2u);

    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    network_.TakeInjected();
    EXPECT_EQ(client_.GetStatistics().PacketsPermitted - before.PacketsPermitted, 3u);
}

TEST_F(ChainTest, APacketThatCannotBeCopiedIsLostAndCounted)
{
    network_.FailNth(0, true);
    EXPECT_TRUE(network_.Outbound(Chain{{Out(good_), Out(bad_)}}).absorbed());
    network_.StopFailing();
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 1u);
}

TEST_F(ChainTest, APermittedPacketWhoseHeadersAreOutOfReachIsLostAndCounted)
{
    for (const bool refused_first : {true, false})
    {
        PacketChain refused(machine_, {{In(bad_)}}, 20);
        PacketChain out_of_reach(machine_, {{In(good_)}}, 0);
        PacketChain &first = refused_first ? refused : out_of_reach;
        PacketChain &second = refused_first ? out_of_reach : refused;
        const Statistics before = client_.GetStatistics();

        first.head()->Next = second.head();
        network_.FailNth(0, true);
        EXPECT_TRUE(network_.InboundChain(false, first.head(), 20, false).absorbed());
        network_.StopFailing();

        const Statistics after = client_.GetStatistics();
        EXPECT_EQ(after.PacketsBlocked - before.PacketsBlocked, 1u);
        EXPECT_EQ(after.PacketsPermitted - before.PacketsPermitted, 1u) << "the fail policy is open";
        EXPECT_EQ(after.InjectFailures - before.InjectFailures, 1u) << "a copy of it cannot be injected";
        EXPECT_TRUE(network_.TakeInjected().empty());
    }
}

// ---- Injection that fails

class RefusalTest : public DriverTest
{
  protected:
    void SetStack(sim::wfp::InjectionBehavior::Mode mode, NTSTATUS status)
    {
        machine_.wfp().SetInjectionBehavior({mode, status});
    }
    void Refuse() { SetStack(sim::wfp::InjectionBehavior::kFail, STATUS_FWP_TCPIP_NOT_READY); }
    void FailLater() { SetStack(sim::wfp::InjectionBehavior::kDeferred, STATUS_FWP_TCPIP_NOT_READY); }
    void TakeAgain() { SetStack(sim::wfp::InjectionBehavior::kDeferred, STATUS_SUCCESS); }

    void FailClosed()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_FAIL_CLOSED;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    // The client permits a packet.
    void Permit()
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
        client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    }
};

TEST_F(RefusalTest, FailingOpenAPacketThatTheStackRefusesIsRetriedOnce)
{
    Refuse();
    Permit();
    TakeAgain();
    EXPECT_TRUE(network_.TakeInjected().empty());
    Advance(1s);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 0u);
    Advance(1s);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(RefusalTest, FailingClosedAPacketThatTheStackRefusesIsDroppedAndCounted)
{
    FailClosed();
    Refuse();
    Permit();
    TakeAgain();
    Advance(1s);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 1u);
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("could not be injected")));
}

TEST_F(RefusalTest, APacketThatIsRefusedAgainIsDroppedAndCountedOnce)
{
    Refuse();
    Permit();
    Permit();
    Advance(3s);
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 2u);
    TakeAgain();
    Advance(1s);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(RefusalTest, RefusedPacketsAreBounded)
{
    const ByteVector packet = MakePacket(UdpV4());
    OPTIONS_WIRE options = Client::DefaultOptions();
    options.LogLevel = LogSeverityError;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);

    Refuse();
    for (uint32_t i = 0; i < INJECT_MAX_REFUSED + 10; i++)
    {
        EXPECT_TRUE(network_.Outbound(packet).absorbed());
    }
    for (const Question &question : client_.ReadQuestions())
    {
        client_.Verdict(question.id, VerdictAccept);
    }
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 10u);
    TakeAgain();
    Advance(1s);
    EXPECT_EQ(network_.TakeInjected().size(), size_t{INJECT_MAX_REFUSED});
}

TEST_F(RefusalTest, DetachingRetriesRefusedPacketsAtOnce)
{
    Refuse();
    Permit();
    TakeAgain();
    client_.Close();
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

TEST_F(RefusalTest, FailingOpenAnInjectionThatFailsLaterIsRetriedOnce)
{
    FailLater();
    Permit();
    machine_.Run();
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 0u) << "not lost yet";
    TakeAgain();
    network_.TakeInjected();
    Advance(1s);
    ASSERT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_EQ(client_.GetStatistics().PacketsInjected, 1u);
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 0u);
}

TEST_F(RefusalTest, FailingClosedAnInjectionThatFailsLaterIsDroppedAndCounted)
{
    FailClosed();
    FailLater();
    Permit();
    machine_.Run();
    TakeAgain();
    network_.TakeInjected();
    Advance(1s);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 1u);
}

TEST_F(RefusalTest, AnInjectionThatFailsLaterIsCounted)
{
    FailLater();
    Permit();
    Advance(5s);
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 1u);
    TakeAgain();
    network_.TakeInjected();
    Advance(1s);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(RefusalTest, ARefusedPacketThatFailsLaterIsNotTriedAThirdTime)
{
    Refuse();
    Permit();
    FailLater();
    Advance(1s);
    machine_.Run();
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 1u);
    TakeAgain();
    network_.TakeInjected();
    Advance(2s);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(RefusalTest, AnInjectionThatFailsDuringUnloadIsFreed)
{
    INJECT_SOURCE source{};
    INJECT_PACKET *packet = nullptr;

    source.Method = InjectNetworkSend;
    source.IpVersion = 4;
    client_.Close();
    FailLater();
    {
        PacketChain chain(machine_, {{MakePacket(UdpV4())}});

        ASSERT_EQ(InjectCopy(&context()->Injector, &source, chain.head()->FirstNetBuffer, &packet), STATUS_SUCCESS);
    }
    InjectChain(packet);
    EXPECT_EQ(machine_.wfp().counters().injections_now, 1u);
    Unload(); // the machine checks that nothing is left
}

TEST_F(RefusalTest, ManyDroppedPacketsAreLoggedOnceASecond)
{
    FailClosed();
    Refuse();
    for (int i = 0; i < 100; i++)
    {
        Permit();
    }
    Advance(1s);
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 100u);
    EXPECT_EQ(client_.GetLogs().size(), 1u);
}

TEST_F(PacketTest, AnInjectionMayCompleteBeforeItsCallReturns)
{
    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kInline, STATUS_SUCCESS});
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(client_.GetStatistics().PacketsInjected, 1u);

    network_.TakeInjected();

    Flow good = UdpV4();
    Flow bad = UdpV4();
    good.local.port = 1;
    bad.local.port = 2;
    Decide(good, VerdictPermanentAccept);
    Decide(bad, VerdictPermanentBlock);
    EXPECT_TRUE(network_.Outbound(Chain{{MakePacket(good), MakePacket(bad)}}).absorbed());
    EXPECT_EQ(network_.TakeInjected().size(), 1u) << "injected within its classify";
}

TEST_F(PacketTest, AllocatesNothingForAPacketOfAKnownConnection)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    PacketChain chain(machine_, {{MakePacket(UdpV4())}});

    machine_.faults().FailNth(1000000);
    EXPECT_TRUE(network_.OutboundChain(false, chain.head()).permitted());
    EXPECT_EQ(machine_.faults().calls(), 0u);
    machine_.faults().Stop();
}

} // namespace
} // namespace kext_test

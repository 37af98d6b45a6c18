// Packets that the driver can neither hold nor send again: to a link, to many, or from no address.
#include "support/driver_test.h"

#include "support/raw_packets.h"

#include "net/ip_packet.h"

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr uint8_t kNlatBroadcast = 4;

Flow Udp(const Endpoint &local, const Endpoint &remote)
{
    Flow flow;

    flow.protocol = PROTOCOL_UDP;
    flow.local = local;
    flow.remote = remote;
    return flow;
}

Endpoint LinkLocal(uint8_t last, uint16_t port)
{
    Endpoint end;

    end.family = 6;
    end.address = {0xFE, 0x80};
    end.address[15] = last;
    end.port = port;
    return end;
}

Endpoint MulticastV6(uint8_t last, uint16_t port)
{
    Endpoint end = LinkLocal(last, port);

    end.address[0] = 0xFF;
    end.address[1] = 0x02;
    return end;
}

Flow Mdns()
{
    return Udp(V4(192, 0, 2, 1, 5353), V4(224, 0, 0, 251, 5353));
}

class DecidedInPlaceTest : public DriverTest
{
  protected:
    void FailClosed()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags |= OPTION_FLAG_FAIL_CLOSED;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    void BecomeExtended() { ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS); }
};

class DecidedInPlaceKindTest : public DecidedInPlaceTest, public testing::WithParamInterface<Flow>
{
};

INSTANTIATE_TEST_SUITE_P(EachKind, DecidedInPlaceKindTest,
                         testing::Values(Mdns(), Udp(V4(192, 0, 2, 1, 137), V4(255, 255, 255, 255, 137)),
                                         Udp(V4(192, 0, 2, 1, 500), V4(169, 254, 7, 7, 500)),
                                         Udp(V4(0, 0, 0, 0, 500), V4(198, 51, 100, 7, 500)),
                                         Udp(LinkLocal(1, 5355), MulticastV6(3, 5355)),
                                         Udp(LinkLocal(1, 500), LinkLocal(2, 500)),
                                         Flow{PROTOCOL_TCP, LinkLocal(1, 50000), LinkLocal(2, 445)}));

TEST_P(DecidedInPlaceKindTest, AFirstPacketIsAskedAboutAndNotHeld)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(GetParam())).permitted());

    const Question question = client_.ReadQuestion();

    EXPECT_EQ(question.payload, MakePacket(GetParam()));
    client_.Verdict(question.id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_TRUE(network_.Outbound(MakePacket(GetParam())).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_P(DecidedInPlaceKindTest, UnderFailClosedAFirstPacketIsRefusedAndTheNextGoesByTheVerdict)
{
    FailClosed();
    EXPECT_FALSE(network_.Outbound(MakePacket(GetParam())).permitted());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_TRUE(network_.Outbound(MakePacket(GetParam())).permitted());
}

TEST_P(DecidedInPlaceKindTest, APacketThatWaitsForTheVerdictIsNotAskedAboutAgain)
{
    network_.Outbound(MakePacket(GetParam()));
    network_.Outbound(MakePacket(GetParam()));

    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
    EXPECT_EQ(client_.GetStatistics().DecidedInPlace, 2u);
    EXPECT_EQ(client_.GetStatistics().PacketsPermitted, 2u);
}

TEST_P(DecidedInPlaceKindTest, ATemporaryVerdictHoldsForTheConnection)
{
    network_.Outbound(MakePacket(GetParam()));
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_TRUE(network_.Outbound(MakePacket(GetParam())).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_P(DecidedInPlaceKindTest, ABlockStopsTheNextPacket)
{
    network_.Outbound(MakePacket(GetParam()));
    client_.Verdict(client_.ReadQuestion().id, VerdictBlock);
    EXPECT_FALSE(network_.Outbound(MakePacket(GetParam())).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(DecidedInPlaceTest, TheDetachResolvesAQuestionThatHoldsNothing)
{
    network_.Outbound(MakePacket(Mdns()));
    client_.Close();
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(DecidedInPlaceTest, AQueryToALinkLocalNameServerIsRedirected)
{
    const Flow flow = Udp(LinkLocal(2, 50000), LinkLocal(1, 53));

    network_.Outbound(MakePacket(flow));
    client_.Verdict(client_.ReadQuestion().id, VerdictRedirectNameServer);
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).absorbed());
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

TEST_F(DecidedInPlaceTest, ASubnetsBroadcastIsKnownFromItsAuthorization)
{
    const Flow flow = Udp(V4(192, 0, 2, 1, 138), V4(192, 0, 2, 255, 138));
    const ByteVector packet = MakePacket(flow);
    AleOptions options;

    options.address_type = kNlatBroadcast;
    network_.Connect(flow, &packet, options);
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    network_.TakeInjected();
    EXPECT_TRUE(network_.Outbound(packet).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(DecidedInPlaceTest, TheCopyOfAMulticastThatItsSenderReceivesIsPermitted)
{
    EXPECT_TRUE(network_.OutboundLoopback(MakePacket(Mdns())).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(DecidedInPlaceTest, ALoopedBackMulticastIsNotHeld)
{
    const Flow flow = Udp(V4(224, 0, 0, 251, 5353), V4(192, 0, 2, 1, 5353));

    EXPECT_TRUE(network_.Inbound(MakePacket(flow, true), true).permitted());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

// ---- Received packets to many, and answers to packets to many

class InboundMulticastTest : public DecidedInPlaceTest
{
};

TEST_F(InboundMulticastTest, AnInboundMulticastIsHeldAndInjectedWithItsInterface)
{
    const Flow flow = Udp(V4(224, 0, 0, 251, 5353), V4(192, 0, 2, 9, 5353));

    EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).absorbed());

    const Question question = client_.ReadQuestion();

    EXPECT_EQ(question.direction, DirectionInbound);
    EXPECT_EQ(question.payload_layer, PROTOCOL_PAYLOAD_NETWORK_LAYER);
    client_.Verdict(question.id, VerdictPermanentAccept);

    const std::vector<Injected> injected = network_.TakeInjected();

    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].kind, Injection::kNetworkReceive);
    EXPECT_EQ(injected[0].interface_index, Network::kInterface);
    EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).permitted());
}

TEST_F(InboundMulticastTest, AnInboundBroadcastOfTheSubnetIsHeld)
{
    const Flow flow = Udp(V4(192, 0, 2, 255, 137), V4(192, 0, 2, 9, 137));

    EXPECT_TRUE(network_.InboundBroadcast(MakePacket(flow, true)).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(InboundMulticastTest, EachSenderIsAskedAbout)
{
    network_.Inbound(MakePacket(Udp(V4(224, 0, 0, 251, 5353), V4(192, 0, 2, 9, 5353)), true));
    network_.Inbound(MakePacket(Udp(V4(224, 0, 0, 251, 5353), V4(192, 0, 2, 10, 5353)), true));
    EXPECT_EQ(client_.ReadQuestions().size(), 2u);
}

TEST_F(InboundMulticastTest, AnAnswerToAMulticastIsAskedAboutForFourSeconds)
{
    const Flow search = Udp(V4(192, 0, 2, 1, 50000), V4(239, 255, 255, 250, 1900));
    const Flow answer = Udp(V4(192, 0, 2, 1, 50000), V4(192, 0, 2, 9, 1900));
    const Flow later = Udp(V4(192, 0, 2, 1, 50000), V4(192, 0, 2, 10, 1900));

    EXPECT_TRUE(network_.Inbound(MakePacket(answer, true)).permitted());
    network_.Outbound(MakePacket(search));
    client_.Read();
    EXPECT_TRUE(network_.Inbound(MakePacket(answer, true)).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);

    Advance(5s);
    EXPECT_TRUE(network_.Inbound(MakePacket(later, true)).permitted());
}

TEST_F(InboundMulticastTest, AnAnswerToAnotherPortIsLeftToTheAleLayer)
{
    network_.Outbound(MakePacket(Udp(V4(192, 0, 2, 1, 50000), V4(239, 255, 255, 250, 1900))));
    client_.Read();
    EXPECT_TRUE(network_.Inbound(MakePacket(Udp(V4(192, 0, 2, 1, 50001), V4(192, 0, 2, 9, 1900)), true)).permitted());
}

// ---- Control traffic

class ControlTrafficTest : public DecidedInPlaceTest
{
  protected:
    void SetUp() override { BecomeExtended(); }

    bool PassesUnasked(const ByteVector &packet, bool inbound = false)
    {
        const Network::Answer answer = inbound ? network_.Inbound(packet) : network_.Outbound(packet);

        return answer.permitted() && client_.ReadQuestions().empty();
    }

    static ByteVector NeighborSolicitation(uint8_t hops)
    {
        return RawIcmp(LinkLocal(1, 0), MulticastV6(1, 0), 135, 0, ByteVector(20), hops);
    }

    static ByteVector ListenerReport(const Endpoint &source, uint8_t hops)
    {
        return RawIcmp(source, MulticastV6(22, 0), 143, 0, ByteVector(20), hops);
    }

    static ByteVector Dhcp(const Endpoint &remote, bool inbound = false)
    {
        return MakePacket(Udp(V4(inbound ? 192 : 0, 0, inbound ? 2 : 0, inbound ? 1 : 0, 68), remote), inbound);
    }
};

TEST_F(ControlTrafficTest, NeighborDiscoveryNeedsTheHopLimitOfTheLink)
{
    EXPECT_TRUE(PassesUnasked(NeighborSolicitation(255)));
    EXPECT_FALSE(PassesUnasked(NeighborSolicitation(254)));
}

TEST_F(ControlTrafficTest, InboundNeighborDiscoveryPasses)
{
    const ByteVector advertisement = RawIcmp(LinkLocal(2, 0), LinkLocal(1, 0), 136, 0, ByteVector(20), 255);

    EXPECT_TRUE(PassesUnasked(advertisement, true));
}

TEST_F(ControlTrafficTest, ListenerDiscoveryNeedsItsHopLimitAndALinkLocalSource)
{
    EXPECT_TRUE(PassesUnasked(ListenerReport(LinkLocal(1, 0), 1)));
    EXPECT_FALSE(PassesUnasked(ListenerReport(LinkLocal(1, 0), 2)));
    EXPECT_FALSE(PassesUnasked(ListenerReport(V6(1, 0), 1)));
}

TEST_F(ControlTrafficTest, GroupMembershipNeedsItsTimeToLive)
{
    const Endpoint self = V4(192, 0, 2, 1, 0);
    const Endpoint group = V4(224, 0, 0, 22, 0);

    EXPECT_TRUE(PassesUnasked(RawIp(self, group, PROTOCOL_IGMP, ByteVector(8), 1)));
    EXPECT_FALSE(PassesUnasked(RawIp(self, group, PROTOCOL_IGMP, ByteVector(8), 64)));
}

TEST_F(ControlTrafficTest, DhcpAsksAllServersAndTakesTheirAnswersForAMinute)
{
    EXPECT_TRUE(PassesUnasked(Dhcp(V4(255, 255, 255, 255, 67))));
    EXPECT_TRUE(PassesUnasked(Dhcp(V4(192, 0, 2, 254, 67), true), true));

    const ByteVector offer = MakePacket(Udp(V4(255, 255, 255, 255, 68), V4(192, 0, 2, 253, 67)), true);

    EXPECT_TRUE(PassesUnasked(offer, true));
    Advance(62s);
    EXPECT_FALSE(PassesUnasked(offer, true));
}

TEST_F(ControlTrafficTest, DhcpRenewsAtAServerThatHasAnswered)
{
    const Flow renewal = Udp(V4(192, 0, 2, 1, 68), V4(192, 0, 2, 254, 67));
    const Flow stranger = Udp(V4(192, 0, 2, 1, 68), V4(192, 0, 2, 99, 67));

    PassesUnasked(Dhcp(V4(255, 255, 255, 255, 67)));
    PassesUnasked(Dhcp(V4(192, 0, 2, 254, 67), true), true);
    Advance(3600s);
    EXPECT_TRUE(PassesUnasked(MakePacket(renewal)));
    EXPECT_TRUE(PassesUnasked(MakePacket(renewal, true), true));
    EXPECT_FALSE(PassesUnasked(MakePacket(stranger)));
}

TEST_F(ControlTrafficTest, Dhcpv6AsksAllServersAndTakesTheirAnswers)
{
    Endpoint servers = MulticastV6(2, 547);

    servers.address[13] = 1;
    EXPECT_TRUE(PassesUnasked(MakePacket(Udp(LinkLocal(1, 546), servers))));
    EXPECT_TRUE(PassesUnasked(MakePacket(Udp(LinkLocal(1, 546), LinkLocal(9, 547)), true), true));
}

TEST_F(ControlTrafficTest, IsAskedAboutIfTheClientSaysSo)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags |= OPTION_FLAG_ASK_CONTROL_TRAFFIC;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_FALSE(PassesUnasked(NeighborSolicitation(255)));
}

TEST_F(ControlTrafficTest, TheAuthorizingLayersPermitItWithoutAnEntry)
{
    const Flow flow = Udp(V4(0, 0, 0, 0, 68), V4(255, 255, 255, 255, 67));
    const ByteVector packet = MakePacket(flow);

    EXPECT_TRUE(network_.Connect(flow, &packet).permitted());
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_F(DecidedInPlaceTest, ABaseClientIsAskedAboutControlTraffic)
{
    network_.Outbound(RawIcmp(LinkLocal(1, 0), MulticastV6(1, 0), 135, 0, ByteVector(20), 255));
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

// ---- Resets

TEST_F(DecidedInPlaceTest, AResetToAStrangerPassesWithoutAQuestion)
{
    const ByteVector reset = RawTcp(V4(192, 0, 2, 1, 80), V4(198, 51, 100, 7, 4000), sim::net::kTcpRst);

    BecomeExtended();
    EXPECT_TRUE(network_.Outbound(reset).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

TEST_F(DecidedInPlaceTest, AResetToAStrangerIsDroppedIfTheClientSaysSo)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags |= OPTION_FLAG_DROP_STRAY_RESETS;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_TRUE(
        network_.Outbound(RawTcp(V4(192, 0, 2, 1, 80), V4(198, 51, 100, 7, 4000), sim::net::kTcpRst)).absorbed());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(DecidedInPlaceTest, ABaseClientIsAskedAboutAResetToAStranger)
{
    network_.Outbound(RawTcp(V4(192, 0, 2, 1, 80), V4(198, 51, 100, 7, 4000), sim::net::kTcpRst));
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

} // namespace
} // namespace kext_test

// Protocols without ports, of a client that has sent SetOptions: one question for each conversation, with its process.
#include "support/driver_test.h"

#include "support/commands.h"
#include "support/raw_packets.h"

namespace kext_test
{
namespace
{

constexpr uint8_t kEcho = 8;
constexpr uint8_t kEchoReply = 0;
constexpr uint8_t kUnreachable = 3;
constexpr uint8_t kProtocolGre = 47;

class PortlessTest : public DriverTest
{
  protected:
    void SetUp() override { ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS); }

    static ByteVector Echo(uint16_t id, uint8_t type = kEcho, bool inbound = false)
    {
        const Endpoint local = V4(192, 0, 2, 1, 0);
        const Endpoint remote = V4(198, 51, 100, 7, 0);
        const ByteVector body = {static_cast<uint8_t>(id >> 8), static_cast<uint8_t>(id), 0, 1, 'p', 'i', 'n', 'g'};

        return inbound ? RawIcmp(remote, local, type, 0, body) : RawIcmp(local, remote, type, 0, body);
    }

    // The layer has the type in place of the local port and the code in place of the remote one.
    static Flow Ping(uint8_t type = kEcho)
    {
        Flow flow;

        flow.protocol = PROTOCOL_ICMP;
        flow.local.port = type;
        flow.remote.port = 0;
        return flow;
    }

    // An error about `quoted` from a router. It quotes the IP header and 8 bytes more.
    static ByteVector Error(const ByteVector &quoted, bool inbound = true, size_t more = 8)
    {
        const Endpoint router = V4(203, 0, 113, 9, 0);
        const Endpoint local = V4(192, 0, 2, 1, 0);
        ByteVector body(4);

        body.insert(body.end(), quoted.begin(), quoted.begin() + static_cast<ptrdiff_t>(20 + more));
        return inbound ? RawIcmp(router, local, kUnreachable, 4, body) : RawIcmp(local, router, kUnreachable, 3, body);
    }

    // What Windows does after the completion, and after a change of the filters.
    Network::Answer Reauthorize(const Flow &flow = Ping())
    {
        AleOptions again;

        again.reauthorize = true;
        return network_.Connect(flow, nullptr, again);
    }

    Question AskAboutPing(uint16_t id = 7)
    {
        const ByteVector packet = Echo(id);

        EXPECT_TRUE(network_.Connect(Ping(), &packet).pended());
        return client_.ReadQuestion();
    }
};

TEST_F(PortlessTest, APingIsAskedAboutWithItsProcessAndWithoutPorts)
{
    const Question question = AskAboutPing();

    EXPECT_EQ(question.process_id, Flow{}.process_id);
    EXPECT_EQ(question.protocol, PROTOCOL_ICMP);
    EXPECT_EQ(question.local_port, 0);
    EXPECT_EQ(question.remote_port, 0);
    EXPECT_EQ(question.payload_layer, PROTOCOL_PAYLOAD_TRANSPORT_LAYER);
    EXPECT_EQ(question.payload[0], kEcho);
}

TEST_F(PortlessTest, AnAuthorizationThatDoesNotShowTheIdentifierIsLeftToThePacketLayer)
{
    client_.Verdict(AskAboutPing(7).id, VerdictPermanentAccept);
    network_.TakeInjected();
    EXPECT_TRUE(Reauthorize().permitted());
    EXPECT_TRUE(network_.Outbound(Echo(7)).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
}

TEST_F(PortlessTest, ARefusedPingIsRefusedWhereItsAuthorizationIsCompleted)
{
    for (const uint8_t verdict : {VerdictBlock, VerdictDrop, VerdictPermanentBlock, VerdictPermanentDrop})
    {
        client_.Verdict(AskAboutPing(verdict).id, verdict);

        const Network::Answer answer = Reauthorize();

        EXPECT_EQ(answer.blocked(), verdict == VerdictBlock || verdict == VerdictPermanentBlock) << int{verdict};
        EXPECT_FALSE(answer.permitted()) << int{verdict};
    }
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(PortlessTest, ATemporaryRefusalOfAPingIsForOneAttempt)
{
    client_.Verdict(AskAboutPing(7).id, VerdictBlock);
    EXPECT_TRUE(Reauthorize().blocked());
    EXPECT_TRUE(Reauthorize().permitted()) << "left to the packet layer";
    AskAboutPing(7);
}

TEST_F(PortlessTest, ARefusedPingOfOneSocketRefusesNoPingOfAnother)
{
    Flow other = Ping();

    client_.Verdict(AskAboutPing(7).id, VerdictPermanentBlock);
    other.remote = V4(198, 51, 100, 8, 0);
    EXPECT_TRUE(Reauthorize(other).permitted());
}

TEST_F(PortlessTest, AHeldPingIsSentUnchanged)
{
    const ByteVector packet = Echo(7);

    client_.Verdict(AskAboutPing(7).id, VerdictPermanentAccept);

    const std::vector<Injected> injected = network_.TakeInjected();

    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].kind, Injection::kTransportSend);
    EXPECT_EQ(injected[0].bytes, ByteVector(packet.begin() + 20, packet.end()));
}

TEST_F(PortlessTest, ThePacketLayerFollowsTheAuthorization)
{
    client_.Verdict(AskAboutPing().id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Echo(7)).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(PortlessTest, AnEchosReplyFollowsItsRequest)
{
    for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept})
    {
        client_.Verdict(AskAboutPing(verdict).id, verdict);
        network_.TakeInjected();
        EXPECT_TRUE(network_.Inbound(Echo(verdict, kEchoReply, true)).permitted());
        EXPECT_TRUE(client_.ReadQuestions().empty());
    }
}

TEST_F(PortlessTest, TheReplyToARefusedRequestIsRefused)
{
    client_.Verdict(AskAboutPing().id, VerdictPermanentBlock);
    EXPECT_FALSE(network_.Inbound(Echo(7, kEchoReply, true)).permitted());
}

TEST_F(PortlessTest, AnotherIdentifierIsAnotherConversation)
{
    client_.Verdict(AskAboutPing(7).id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Echo(8)).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(PortlessTest, ARequestFromThereIsNotTheConversationOfARequestFromHere)
{
    const ByteVector packet = Echo(7, kEcho, true);

    client_.Verdict(AskAboutPing(7).id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Inbound(packet).permitted()); // left to the ALE layer
    EXPECT_TRUE(network_.Accept(Ping(), &packet).pended());

    const Question question = client_.ReadQuestion();

    EXPECT_EQ(question.direction, DirectionInbound);
    client_.Verdict(question.id, VerdictPermanentAccept);
    network_.TakeInjected();
    EXPECT_TRUE(network_.Outbound(Echo(7, kEchoReply)).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(PortlessTest, AReplyWithoutARequestIsLeftToTheAleLayer)
{
    const ByteVector packet = Echo(7, kEchoReply, true);

    EXPECT_TRUE(network_.Inbound(packet).permitted());
    EXPECT_TRUE(network_.Accept(Ping(kEchoReply), &packet).pended());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(PortlessTest, AnErrorFollowsTheConnectionThatItQuotes)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Inbound(Error(MakePacket(UdpV4()))).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
}

TEST_F(PortlessTest, AnErrorAboutARefusedConnectionIsRefused)
{
    Decide(UdpV4(), VerdictPermanentDrop);
    EXPECT_FALSE(network_.Inbound(Error(MakePacket(UdpV4()))).permitted());
}

TEST_F(PortlessTest, AnErrorAboutAPingFollowsThePing)
{
    client_.Verdict(AskAboutPing(7).id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Inbound(Error(Echo(7))).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(PortlessTest, AnErrorThatThisMachineSendsFollowsTheConnectionThatItQuotes)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Error(MakePacket(UdpV4(), true), false)).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(PortlessTest, AnErrorAboutAStrangerIsAskedAboutAtThePacketLayer)
{
    EXPECT_TRUE(network_.Inbound(Error(MakePacket(UdpV4()))).absorbed());
    EXPECT_TRUE(network_.Outbound(Error(MakePacket(UdpV4(), true), false)).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 2u);
}

TEST_F(PortlessTest, AnErrorThatQuotesTooLittleIsLikeAnyMessage)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Error(MakePacket(UdpV4(), true), false, 4)).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(PortlessTest, AnotherProtocolIsOneConversationForTwoAddresses)
{
    Flow flow;

    flow.protocol = kProtocolGre;
    flow.local.port = 0;
    flow.remote.port = 0;

    const ByteVector packet = RawIp(flow.local, flow.remote, kProtocolGre, ByteVector(12));
    const ByteVector answer = RawIp(flow.remote, flow.local, kProtocolGre, ByteVector(12));

    EXPECT_TRUE(network_.Connect(flow, &packet).pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(packet).permitted());
    EXPECT_TRUE(network_.Inbound(answer).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(PortlessTest, AnUpdateChangesAllConversationsOfItsAddresses)
{
    Flow other = Ping();

    other.remote.address[3]++;
    client_.Verdict(AskAboutPing(7).id, VerdictPermanentAccept);
    client_.Verdict(AskAboutPing(8).id, VerdictPermanentAccept);
    network_.TakeInjected();
    client_.Write(UpdateBytes(Ping(), VerdictPermanentBlock));
    EXPECT_FALSE(network_.Outbound(Echo(7)).permitted());
    EXPECT_FALSE(network_.Outbound(Echo(8)).permitted());
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 0u);
    client_.Write(UpdateBytes(other, VerdictPermanentBlock));
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
}

TEST_F(PortlessTest, AMessageWithoutAnAuthorizationIsAskedAboutAtThePacketLayer)
{
    EXPECT_TRUE(network_.Outbound(Echo(7)).absorbed());

    const Question question = client_.ReadQuestion();

    EXPECT_EQ(question.process_id, 0u);
    client_.Verdict(question.id, VerdictPermanentAccept);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_TRUE(network_.Outbound(Echo(7)).permitted());
}

} // namespace
} // namespace kext_test

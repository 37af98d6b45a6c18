// Connections of the machine with itself, and the option that permits them without a question.
#include "support/driver_test.h"

#include <utility>

namespace kext_test
{
namespace
{

class LoopbackTest : public DriverTest
{
  protected:
    void PermitLoopback()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_PERMIT_LOOPBACK;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static Flow Itself(uint8_t protocol)
    {
        Flow flow;

        flow.protocol = protocol;
        flow.local = V4(127, 0, 0, 1, 50000);
        flow.remote = V4(127, 0, 0, 1, 8080);
        return flow;
    }

    static AleOptions Loopback()
    {
        AleOptions options;

        options.loopback = true;
        return options;
    }

    void ExpectNothingAskedOrRemembered()
    {
        EXPECT_TRUE(client_.Read().empty());
        EXPECT_EQ(client_.GetStatistics().Connections, 0u);
    }
};

TEST_F(LoopbackTest, IsAskedAboutByDefault)
{
    const Flow udp = Itself(PROTOCOL_UDP);
    const ByteVector packet = MakePacket(udp);

    EXPECT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Connect(Itself(PROTOCOL_TCP), nullptr, Loopback()).pended());
    EXPECT_TRUE(network_.OutboundLoopback(packet).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 2u);
}

TEST_F(LoopbackTest, IsPermittedWithoutAQuestionOrAnEntryIfTheClientSaysSo)
{
    PermitLoopback();
    for (uint8_t protocol : {PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMP})
    {
        const Flow flow = Itself(protocol);
        const ByteVector out = MakePacket(flow);
        const ByteVector in = MakePacket(flow, true);

        EXPECT_TRUE(network_.Connect(flow, protocol == PROTOCOL_TCP ? nullptr : &out, Loopback()).permitted());
        EXPECT_TRUE(network_.OutboundLoopback(out).permitted());
        EXPECT_TRUE(network_.Inbound(in, true).permitted());
        EXPECT_TRUE(network_.Accept(flow, &in, Loopback()).permitted());
    }
    ExpectNothingAskedOrRemembered();
}

TEST_F(LoopbackTest, AnAddressAloneDoesNotMakeLoopback)
{
    PermitLoopback();
    EXPECT_TRUE(network_.Outbound(MakePacket(Itself(PROTOCOL_UDP))).absorbed());
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    EXPECT_EQ(client_.ReadQuestions().size(), 2u);
}

TEST_F(LoopbackTest, AVerdictOfBeforeTheOptionHoldsNoLonger)
{
    const ByteVector packet = MakePacket(Itself(PROTOCOL_UDP));

    EXPECT_TRUE(network_.OutboundLoopback(packet).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentBlock);
    EXPECT_TRUE(network_.OutboundLoopback(packet).blocked());
    PermitLoopback();
    EXPECT_TRUE(network_.OutboundLoopback(packet).permitted());
}

TEST_F(LoopbackTest, TheNextClientIsAskedAgain)
{
    PermitLoopback();
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    EXPECT_TRUE(network_.OutboundLoopback(MakePacket(Itself(PROTOCOL_UDP))).absorbed());
}

// The answer of the resolver is loopback, but it belongs to the connection that was redirected there.
TEST_F(LoopbackTest, ARedirectsAnswerStillComesAsFromTheRemoteEnd)
{
    Flow there;

    PermitLoopback();
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictRedirectNameServer);
    ASSERT_EQ(network_.TakeInjected().size(), 1u);

    there = UdpV4();
    there.local.address = V4(127, 0, 0, 1, 0).address;
    there.remote = V4(127, 0, 0, 1, Client::DefaultOptions().DnsPort);
    EXPECT_TRUE(network_.Inbound(MakePacket(there, true), true).absorbed());
    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].bytes, MakePacket(UdpV4(), true));
}

} // namespace
} // namespace kext_test

// Conversations with the same addresses and ports on two links, or in two compartments: each has its own verdict.
#include "support/driver_test.h"

#include "support/commands.h"
#include "support/raw_packets.h"

#include <array>

namespace kext_test
{
namespace
{

// Where the same conversation takes place twice.
struct Places
{
    const char *name;
    Flow flow;
    std::array<IF_INDEX, 2> interfaces;
    std::array<uint32_t, 2> compartments;
};

Endpoint LinkLocalV6(uint8_t last, uint16_t port)
{
    Endpoint end = V6(last, port);

    end.address = {0xFE, 0x80};
    end.address[15] = last;
    return end;
}

Flow LinkLocalFlow(uint8_t protocol, bool v6)
{
    return v6 ? Flow{protocol, LinkLocalV6(1, 50000), LinkLocalV6(2, 443)}
              : Flow{protocol, V4(169, 254, 0, 1, 50000), V4(169, 254, 0, 2, 443)};
}

std::vector<Places> AllPlaces()
{
    std::vector<Places> places;

    for (const uint8_t protocol : {PROTOCOL_TCP, PROTOCOL_UDP})
    {
        const std::string name = protocol == PROTOCOL_TCP ? "Tcp" : "Udp";

        places.push_back({"LinksV4", LinkLocalFlow(protocol, false), {12, 13}, {1, 1}});
        places.push_back({"LinksV6", LinkLocalFlow(protocol, true), {12, 13}, {1, 1}});
        places.push_back({"CompartmentsV4", protocol == PROTOCOL_TCP ? Flow{} : UdpV4(), {12, 12}, {1, 2}});
        places.push_back({"CompartmentsV6", protocol == PROTOCOL_TCP ? TcpV6() : UdpV6(), {12, 12}, {1, 2}});
    }
    return places;
}

class ScopeTest : public DriverTest, public testing::WithParamInterface<Places>
{
  protected:
    void SetUp() override { ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS); }

    static const Flow &flow() { return GetParam().flow; }

    void Go(size_t place) { network_.SetLink(GetParam().interfaces[place], GetParam().compartments[place]); }

    // Authorizes the conversation at a place, and gives it a verdict.
    void DecideAt(size_t place, uint8_t verdict)
    {
        Go(place);
        Decide(flow(), verdict);
        network_.TakeInjected();
    }

    bool PassesAt(size_t place)
    {
        Go(place);
        return network_.Outbound(MakePacket(flow())).permitted();
    }
};

INSTANTIATE_TEST_SUITE_P(
    Each, ScopeTest, testing::ValuesIn(AllPlaces()), [](const auto &test)
    { return test.param.name + std::string(test.param.flow.protocol == PROTOCOL_TCP ? "Tcp" : "Udp"); });

TEST_P(ScopeTest, EachConversationHasItsOwnVerdictAtEveryLayer)
{
    DecideAt(0, VerdictPermanentAccept);
    DecideAt(1, VerdictPermanentBlock);
    EXPECT_TRUE(PassesAt(0));
    EXPECT_FALSE(PassesAt(1));
    Go(0);
    EXPECT_TRUE(network_.Inbound(MakePacket(flow(), true)).permitted());
    Go(1);
    EXPECT_FALSE(network_.Inbound(MakePacket(flow(), true)).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().Connections, 2u);
}

TEST_P(ScopeTest, AnUpdateChangesBoth)
{
    DecideAt(0, VerdictPermanentAccept);
    DecideAt(1, VerdictPermanentAccept);
    client_.Write(UpdateBytes(flow(), VerdictPermanentDrop));
    EXPECT_FALSE(PassesAt(0));
    EXPECT_FALSE(PassesAt(1));
}

class ScopePlaceTest : public DriverTest
{
  protected:
    void SetUp() override { ASSERT_EQ(client_.SetOptions(Client::DefaultOptions()), STATUS_SUCCESS); }

    void Go(IF_INDEX interface_index) { network_.SetLink(interface_index, DEFAULT_COMPARTMENT_ID); }
};

TEST_F(ScopePlaceTest, TheReleaseOfAPortEndsTheConversationOfItsCompartmentAlone)
{
    for (const Flow &flow : {UdpV4(), Flow{}})
    {
        for (const uint32_t compartment : {1, 2})
        {
            network_.SetLink(12, compartment);
            Decide(flow, VerdictPermanentAccept);
        }
        network_.Release(flow.protocol, flow.local, flow.process_id);
        EXPECT_EQ(client_.Read().size(), 1u);
        EXPECT_FALSE(network_.Outbound(MakePacket(flow)).absorbed()) << "it has ended, and was permitted";
        network_.SetLink(12, 1);
        EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
    }
}

TEST_F(ScopePlaceTest, AnErrorFollowsTheConversationOfItsLink)
{
    const Flow flow = LinkLocalFlow(PROTOCOL_UDP, false);
    const ByteVector sent = MakePacket(flow);
    ByteVector body(4);

    body.insert(body.end(), sent.begin(), sent.begin() + 28);

    const ByteVector error = RawIcmp(flow.remote, flow.local, 3, 3, body);

    Go(12);
    Decide(flow, VerdictPermanentAccept);
    Go(13);
    Decide(flow, VerdictPermanentBlock);
    Go(12);
    EXPECT_TRUE(network_.Inbound(error).permitted());
    Go(13);
    EXPECT_FALSE(network_.Inbound(error).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(ScopePlaceTest, AFragmentFollowsTheFirstOneOfItsLink)
{
    const Flow flow = LinkLocalFlow(PROTOCOL_UDP, false);
    const ByteVector whole = MakePacket(flow, true, ByteVector(40));
    const ByteVector first = Fragment(whole, 0, 24, 1);
    const ByteVector second = Fragment(whole, 24, 24, 1);

    Go(12);
    Decide(flow, VerdictPermanentAccept);
    Go(13);
    Decide(flow, VerdictPermanentBlock);
    EXPECT_FALSE(network_.Inbound(first).permitted());
    Go(12);
    EXPECT_TRUE(network_.Inbound(first).permitted());
    EXPECT_TRUE(network_.Inbound(second).permitted());
    Go(13);
    EXPECT_FALSE(network_.Inbound(second).permitted());
}

TEST_F(ScopePlaceTest, TheAnswersOfARedirectedConversationStayInItsCompartment)
{
    const Endpoint local = V4(192, 0, 2, 1, 50000);
    const Endpoint servers[] = {V4(198, 51, 100, 1, 53), V4(198, 51, 100, 2, 53)};
    const ByteVector answer = RawUdp(V4(127, 0, 0, 1, 53), V4(127, 0, 0, 1, 50000), {1, 2, 3});

    for (uint32_t compartment : {1, 2})
    {
        network_.SetLink(12, compartment);
        Decide({PROTOCOL_UDP, local, servers[compartment - 1]}, VerdictRedirectNameServer);
        EXPECT_TRUE(network_.Outbound(RawUdp(local, servers[compartment - 1], {1})).absorbed());
    }
    network_.TakeInjected();
    for (uint32_t compartment : {1, 2})
    {
        network_.SetLink(12, compartment);
        EXPECT_TRUE(network_.Inbound(answer, true).absorbed());

        const std::vector<Injected> injected = network_.TakeInjected();

        ASSERT_EQ(injected.size(), 1u);
        EXPECT_EQ(injected[0].bytes, RawUdp(servers[compartment - 1], local, {1, 2, 3}));
    }
    network_.SetLink(12, 3);
    EXPECT_TRUE(network_.Inbound(answer, true).permitted()) << "left to the ALE layer";
}

TEST_F(ScopePlaceTest, EachPacketIsAskedAboutWhereNoScopeIsLeft)
{
    const Flow flow = UdpV4();
    const ByteVector packet = MakePacket(flow);

    for (uint32_t compartment = 2; compartment < 2 + SCOPE_NONE; compartment++)
    {
        network_.SetLink(12, compartment);
        EXPECT_TRUE(network_.Connect(flow, &packet).pended() || compartment == 1 + SCOPE_NONE);
    }
    client_.ReadQuestions();
    EXPECT_TRUE(network_.Connect(flow, &packet).permitted());
    for (int i = 0; i < 2; i++)
    {
        EXPECT_TRUE(network_.Outbound(packet).absorbed());
        EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).absorbed());

        const std::vector<Question> questions = client_.ReadQuestions();

        ASSERT_EQ(questions.size(), 2u);
        client_.Verdict(questions[0].id, VerdictPermanentAccept);
        client_.Verdict(questions[1].id, VerdictPermanentBlock);
        EXPECT_EQ(network_.TakeInjected().size(), 1u);
    }
}

} // namespace
} // namespace kext_test

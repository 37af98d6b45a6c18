// The fate of operations and packets that the driver blocks, drops or holds.

#include "net_fixture.h"

namespace sim::net
{
namespace
{

using testing::ElementsAre;

constexpr size_t kTcpFlagsAt = 20 + 13; // offset from the IPv4 header

class NetDecision : public NetTest
{
  protected:
    std::vector<OutcomeKind> Kinds() const
    {
        std::vector<OutcomeKind> kinds;

        for (const Outcome &outcome : outcomes)
        {
            kinds.push_back(outcome.kind);
        }
        return kinds;
    }

    FlowId Connect(const FlowSpec &spec) { return stack().Connect(spec, Into(&outcomes)); }
    FlowId Accept(const FlowSpec &spec) { return stack().Accept(spec, Into(&outcomes)); }

    static FlowSpec Server()
    {
        FlowSpec spec = Tcp();

        spec.local.port = 8080;
        return spec;
    }

    static FlowSpec Receiver(std::vector<uint8_t> payload)
    {
        FlowSpec spec = Udp(std::move(payload));

        spec.local.port = 5353;
        return spec;
    }

    struct Ends
    {
        FlowSpec server;
        FlowSpec client;
    };

    // A TCP connection from this machine to itself.
    static Ends Loopback()
    {
        Ends ends{Tcp(), Tcp()};

        ends.server.local = At({127, 0, 0, 1}, 8080);
        ends.client.local = At({127, 0, 0, 1}, 50001);
        ends.client.remote = ends.server.local;
        return ends;
    }

    std::vector<Outcome> outcomes;
};

TEST_F(NetDecision, ABlockedConnectSendsNothing)
{
    Decide({LayerKind::kConnect}, Decision::kBlock);

    const FlowId flow = Connect(Tcp());
    const uint8_t byte = 1;

    EXPECT_THAT(Log(), ElementsAre("assign", "connect"));
    stack().Send(flow, &byte, 1, Into(&outcomes));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("release"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked, OutcomeKind::kBlocked));
}

TEST_F(NetDecision, ADroppedConnectDiffersFromABlockedOne)
{
    Decide({LayerKind::kConnect}, Decision::kDrop);
    Connect(Tcp());
    Connect(Udp({1}));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped, OutcomeKind::kDropped));
}

TEST_F(NetDecision, ABlockedBindEndsTheConnect)
{
    Decide({LayerKind::kAssign}, Decision::kBlock);
    stack().Close(Connect(Tcp()));
    Connect(Udp({1}));
    EXPECT_THAT(Log(), ElementsAre("assign", "assign"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked, OutcomeKind::kBlocked));
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(NetDecision, ABlockedSynEndsTheConnection)
{
    Decide({LayerKind::kOutPacket}, Decision::kBlock);

    const FlowId flow = Connect(Tcp());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("closure", "release"));
}

TEST_F(NetDecision, ABlockedAcceptAnswersNothing)
{
    Decide({LayerKind::kAccept}, Decision::kBlock);
    Accept(Server());
    EXPECT_THAT(Log(), ElementsAre("assign", "in S", "accept"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked));
}

TEST_F(NetDecision, AConnectWithoutAnAnswerTimesOut)
{
    const auto [server, client] = Loopback();
    const uint8_t byte = 1;

    stack().Listen(server);
    Decide({LayerKind::kAccept}, Decision::kBlock);

    const FlowId flow = Connect(client);

    stack().Send(flow, &byte, 1, Into(&outcomes));
    machine.clock().Advance(std::chrono::milliseconds(20999));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
    machine.clock().Advance(std::chrono::milliseconds(2));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted, OutcomeKind::kBlocked));
    stack().Close(flow);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(NetDecision, AnAnswerThatIsNotAcknowledgedTimesOut)
{
    const auto [server, client] = Loopback();

    stack().Listen(server);
    policy = [](const Indication &seen)
    {
        const bool answer = seen.layer == LayerKind::kInPacket && (seen.packet.at(kTcpFlagsAt) & kTcpAck) != 0;
        return answer ? Decision::kBlock : Decision::kPermit;
    };

    const FlowId flow = Connect(client);

    EXPECT_EQ(stack().counters().flows_now, 2u);
    machine.clock().Advance(std::chrono::seconds(22));
    EXPECT_EQ(stack().counters().flows_now, 1u);
    stack().Close(flow);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(NetDecision, EachDatagramAsksAgainAfterARefusal)
{
    Decide({LayerKind::kConnect}, Decision::kDrop);

    const FlowId flow = Connect(Udp({1}));
    const uint8_t byte = 1;

    stack().Send(flow, &byte, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "connect"));
    Decide({}, Decision::kPermit);
    stack().Send(flow, &byte, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("connect", "datagram send 9", "out udp 1"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped, OutcomeKind::kDropped, OutcomeKind::kPermitted));
}

TEST_F(NetDecision, ADatagramFromTheRemoteEndOfARefusedConnectBeginsAFlow)
{
    Decide({LayerKind::kConnect}, Decision::kBlock);

    const FlowId flow = Connect(Udp({1}));
    const uint8_t byte = 1;

    Log();
    stack().Receive(flow, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept", "datagram receive 1"));
}

TEST_F(NetDecision, ACompletedConnectIsAuthorizedAgain)
{
    Decide({LayerKind::kConnect}, Decision::kPend);
    Connect(Tcp());
    EXPECT_THAT(Log(), ElementsAre("assign", "connect"));
    EXPECT_TRUE(outcomes.empty());
    EXPECT_EQ(stack().counters().outbound.held_now, 1u);
    Complete(FirstHeld());
    Forget();

    const Indication again = LastSeen(LayerKind::kConnect);

    EXPECT_EQ(again.reason, static_cast<uint32_t>(FWP_CONDITION_REAUTHORIZE_REASON_CLASSIFY_COMPLETION));
    EXPECT_FALSE(again.has_data);
    EXPECT_THAT(Log(), ElementsAre("connect again", "out S", "in SA", "out A"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
    EXPECT_EQ(stack().counters().outbound.held_now, 0u);
    EXPECT_EQ(stack().counters().outbound.held_total, 1u);
}

TEST_F(NetDecision, ACompletedConnectMayBeRefused)
{
    bool refuse = false;

    policy = [&refuse](const Indication &seen)
    {
        if (seen.layer != LayerKind::kConnect)
        {
            return Decision::kPermit;
        }
        return seen.reauthorizes() ? (refuse ? Decision::kDrop : Decision::kBlock) : Decision::kPend;
    };
    Connect(Tcp());
    Refuse(FirstHeld());
    refuse = true;
    Connect(Udp({1}));
    Refuse(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "connect again", "assign", "connect", "connect again"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked, OutcomeKind::kDropped));
}

TEST_F(NetDecision, ADiscardedDatagramOfAPendedConnectWaitsForTheCompletion)
{
    policy = [](const Indication &seen)
    {
        return seen.layer != LayerKind::kConnect ? Decision::kPermit
               : seen.reauthorizes()             ? Decision::kBlock
                                                 : Decision::kPend;
    };
    Connect(Udp({1}));
    Discard(FirstHeld());
    EXPECT_TRUE(outcomes.empty());
    Complete(FirstHeld());
    Forget();
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked));
}

TEST_F(NetDecision, ADatagramOfAPendedConnectGoesOnWhenItIsInjected)
{
    Decide({LayerKind::kConnect}, Decision::kPend);

    const FlowId flow = Connect(Udp({1, 2, 3}));
    const uint8_t byte = 1;

    Complete(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "connect again"));
    EXPECT_TRUE(outcomes.empty());
    Inject(FirstHeld());
    Forget();
    EXPECT_THAT(Log(), ElementsAre("datagram send 11 injected", "out udp 3 injected"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
    stack().Send(flow, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 9", "out udp 1"));
}

TEST_F(NetDecision, ADatagramOfAPendedConnectIsLostWithoutACopy)
{
    Decide({LayerKind::kConnect}, Decision::kPendWithoutCopy);

    const FlowId flow = Connect(Udp({1, 2, 3}));
    const uint8_t byte = 1;

    Allow(FirstHeld());
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped));
    Log();
    stack().Send(flow, &byte, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("datagram send 9", "out udp 1"));
}

TEST_F(NetDecision, ACompletedAcceptIsNotAuthorizedAgainButItsInjectedPacketIs)
{
    Decide({LayerKind::kAccept}, Decision::kPend);
    Accept(Server());
    EXPECT_THAT(Log(), ElementsAre("assign", "in S", "accept"));
    Complete(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre());
    EXPECT_TRUE(outcomes.empty());
    Inject(FirstHeld());
    Forget();
    EXPECT_THAT(Log(), ElementsAre("in S injected", "accept injected", "out SA", "in A"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
}

TEST_F(NetDecision, APendedAcceptEndsWhenItsPacketIsDiscarded)
{
    Decide({LayerKind::kAccept}, Decision::kPend);
    Accept(Server());
    Accept(Receiver({1, 2}));
    Refuse(FirstHeld());
    Refuse(FirstHeld());
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped, OutcomeKind::kDropped));
    EXPECT_THAT(Log(), ElementsAre("assign", "in S", "accept", "assign", "in udp 2", "accept"));
}

TEST_F(NetDecision, AnInjectedDatagramIsReceivedOnce)
{
    Decide({LayerKind::kAccept}, Decision::kPend);
    Accept(Receiver({1, 2}));
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("assign", "in udp 2", "accept", "in udp 2 injected", "accept injected",
                                   "datagram receive 2 injected"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
}

TEST_F(NetDecision, ADatagramThatIsInjectedForSendingStartsAtTheTop)
{
    Decide({LayerKind::kOutPacket}, Decision::kHold);
    Connect(Udp({1, 2}));
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 10", "out udp 2", "datagram send 10 injected",
                                   "out udp 2 injected"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
    EXPECT_EQ(stack().counters().datagram_bytes_sent, 2u) << "counted once";
}

TEST_F(NetDecision, AnInjectedSendIsAuthorizedAgainAfterAChangeOfPolicy)
{
    Decide({LayerKind::kOutPacket}, Decision::kHold);
    Connect(Udp({1, 2}));
    SwapFilters();
    Log();
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("connect again injected", "datagram send 10 injected", "out udp 2 injected"));
}

TEST_F(NetDecision, AnEndpointHandleDiesWithItsSocket)
{
    Decide({LayerKind::kConnect}, Decision::kPend);

    const FlowId flow = Connect(Udp({1, 2, 3}));
    Held &held = FirstHeld();

    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "closure of socket", "release"));
    Complete(held);
    Inject(held);
    Forget();
    EXPECT_THAT(injection_statuses, ElementsAre(STATUS_INVALID_HANDLE));
    EXPECT_THAT(Log(), ElementsAre());
}

TEST_F(NetDecision, PacketsWaitBehindTheHeldOneOfTheirFlow)
{
    const FlowId flow = Connect(Tcp());
    const FlowId other = stack().Connect(Udp({1}), nullptr);
    const uint8_t bytes[] = {1, 2, 3};

    Decide({LayerKind::kOutPacket}, Decision::kHold);
    Log();
    stack().Send(flow, bytes, 3, Into(&outcomes));
    stack().Send(flow, bytes, 2, Into(&outcomes));
    stack().Receive(flow, bytes, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("stream send 3", "out A 3"));
    Decide({}, Decision::kPermit);
    stack().Send(other, bytes, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 9", "out udp 1"));
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("out A 3 injected", "stream send 2", "out A 2", "in A 1", "stream receive 1"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted, OutcomeKind::kPermitted, OutcomeKind::kPermitted,
                                     OutcomeKind::kPermitted));
}

TEST_F(NetDecision, EveryPacketOfAConnectionCanBeHeld)
{
    Decide({LayerKind::kOutPacket, LayerKind::kInPacket}, Decision::kHold);

    const FlowId flow = Connect(Tcp());

    AllowAll();
    stack().Close(flow);
    AllowAll();
    EXPECT_THAT(Log(),
                ElementsAre("assign", "connect", "out S", "out S injected", "in SA", "in SA injected", "out A",
                            "out A injected", "stream send end", "out FA", "out FA injected", "in FA", "in FA injected",
                            "stream receive end", "out A", "out A injected", "closure", "release"));
    EXPECT_EQ(stack().counters().outbound.injected, 4u);
    EXPECT_EQ(stack().counters().inbound.injected, 2u);
    EXPECT_EQ(stack().counters().wrong_checksums, 0u);
}

TEST_F(NetDecision, AHeldPacketThatIsDiscardedIsDropped)
{
    Decide({LayerKind::kOutPacket}, Decision::kHold);
    Connect(Tcp());
    Connect(Udp({1}));
    Refuse(FirstHeld());
    Refuse(FirstHeld());
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped, OutcomeKind::kDropped));
    EXPECT_EQ(stack().counters().outbound.dropped, 2u);
    EXPECT_EQ(stack().counters().outbound.held_now, 0u);
}

TEST_F(NetDecision, AnInjectionThatFailsDropsThePacket)
{
    Decide({LayerKind::kOutPacket}, Decision::kHold);
    Connect(Tcp());
    machine.wfp().SetInjectionBehavior({wfp::InjectionBehavior::kFail, STATUS_INSUFFICIENT_RESOURCES});
    injection_fails = true;
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped));
}

TEST_F(NetDecision, APacketMayBeInjectedInsideItsClassify)
{
    machine.wfp().SetInjectionBehavior({wfp::InjectionBehavior::kInline, STATUS_SUCCESS});
    Decide({LayerKind::kOutPacket}, Decision::kHold);
    inject_at_once = true;
    Connect(Udp({1, 2}));
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 10", "out udp 2", "datagram send 10 injected",
                                   "out udp 2 injected"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
}

TEST_F(NetDecision, ARewrittenDestinationIsARedirection)
{
    const Endpoint target = At({198, 51, 100, 99}, 5300);

    rewrite = [&target](std::vector<uint8_t> *packet)
    {
        IpPacketInfo info;
        const std::vector<uint8_t> before = *packet;

        ASSERT_TRUE(ParseIpPacket(before.data(), before.size(), &info));
        WriteUdpPacket(packet->data(), info.source_endpoint(), target, before.data() + info.payload_offset(),
                       info.payload_length);
    };
    Decide({LayerKind::kOutPacket}, Decision::kHold);
    Connect(Udp({1, 2}));
    Allow(FirstHeld());
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].kind, OutcomeKind::kRedirected);
    EXPECT_TRUE(SameEndpoint(outcomes[0].redirected_to, target));
}

TEST_F(NetDecision, ARedirectionToThisMachineReachesItsListener)
{
    const Endpoint resolver = At({127, 0, 0, 1}, 5300);
    FlowSpec listener = Udp({});

    listener.local = resolver;
    stack().Listen(listener);
    rewrite = [&resolver](std::vector<uint8_t> *packet)
    {
        IpPacketInfo info;
        const std::vector<uint8_t> before = *packet;

        ASSERT_TRUE(ParseIpPacket(before.data(), before.size(), &info));

        Endpoint source = resolver;

        source.port = info.source_port;
        WriteUdpPacket(packet->data(), source, resolver, before.data() + info.payload_offset(), info.payload_length);
    };
    policy = [](const Indication &seen)
    {
        const bool loopback = (seen.flags & FWP_CONDITION_FLAG_IS_LOOPBACK) != 0;
        return seen.layer == LayerKind::kOutPacket && !loopback ? Decision::kHold : Decision::kPermit;
    };
    Log();
    Connect(Udp({1, 2}));
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 10", "out udp 2", "out udp 2 injected",
                                   "in udp 2 injected", "accept injected", "datagram receive 2 injected"));
}

TEST_F(NetDecision, AHeldLoopbackPacketArrivesAgainThroughTheSendPath)
{
    FlowSpec server = Udp({});
    FlowSpec client = Udp({1, 2});

    server.local = At({127, 0, 0, 1}, 5353);
    client.local = At({127, 0, 0, 1}, 50001);
    client.remote = server.local;
    stack().Listen(server);
    Log();
    Decide({LayerKind::kInPacket}, Decision::kHold);
    Connect(client);
    Allow(FirstHeld());
    EXPECT_THAT(Log(),
                ElementsAre("assign", "connect", "datagram send 10", "out udp 2", "in udp 2", "out udp 2 injected",
                            "in udp 2 injected", "accept injected", "datagram receive 2 injected"));
}

TEST_F(NetDecision, UndecidedConnectsTimeOut)
{
    Decide({LayerKind::kConnect, LayerKind::kAccept}, Decision::kPend);
    Connect(Tcp());
    Connect(Udp({1}));
    Accept(Server());
    machine.clock().Advance(std::chrono::milliseconds(20999));
    EXPECT_TRUE(outcomes.empty());
    machine.clock().Advance(std::chrono::milliseconds(2));
    EXPECT_THAT(Kinds(),
                ElementsAre(OutcomeKind::kPendingTimeout, OutcomeKind::kPendingTimeout, OutcomeKind::kPendingTimeout));
    EXPECT_EQ(stack().counters().pending_timeouts, 3u);
    EXPECT_EQ(stack().counters().outbound.held_now, 0u);
    Log();
    AllowAll(); // too late
    EXPECT_EQ(outcomes.size(), 3u);
}

TEST_F(NetDecision, AHeldPacketTimesOutByItself)
{
    const FlowId flow = stack().Connect(Udp({1}), nullptr);
    const uint8_t byte = 1;

    Decide({LayerKind::kOutPacket}, Decision::kHold);
    stack().Send(flow, &byte, 1, Into(&outcomes));
    Decide({}, Decision::kPermit);
    stack().Send(flow, &byte, 1, Into(&outcomes));
    machine.clock().Advance(std::chrono::seconds(22));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPendingTimeout, OutcomeKind::kPermitted));
}

TEST_F(NetDecision, CloseGivesUpPendingDecisions)
{
    Decide({LayerKind::kConnect}, Decision::kPend);

    const FlowId flow = Connect(Tcp());

    stack().Close(flow);
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped));
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "release"));
    AllowAll();
    EXPECT_THAT(Log(), ElementsAre());
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(NetDecision, HeldPayloadIsStillSentAfterTheConnectionIsClosed)
{
    const FlowId flow = Connect(Tcp());
    const uint8_t byte = 1;

    Decide({LayerKind::kOutPacket}, Decision::kHold);
    stack().Send(flow, &byte, 1, Into(&outcomes));
    stack().Close(flow);
    Decide({}, Decision::kPermit);
    Log();
    AllowAll();
    EXPECT_THAT(Log(), ElementsAre("out A 1 injected", "stream send end", "out FA", "in FA", "stream receive end",
                                   "out A", "closure", "release"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted, OutcomeKind::kPermitted));
}

TEST_F(NetDecision, AChangeOfFiltersAuthorizesEveryFlowAgainWithItsNextPacket)
{
    const FlowId tcp = Connect(Tcp());
    const FlowId udp = Connect(Udp({1}));
    const FlowId accepted = Accept(Server());
    const uint8_t byte = 1;

    SwapFilters();
    Log();
    stack().Receive(tcp, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A 1", "connect again", "stream receive 1"));
    stack().Receive(tcp, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A 1", "stream receive 1"));
    stack().Send(udp, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("connect again", "datagram send 9", "out udp 1"));
    stack().Send(accepted, &byte, 1, nullptr);

    const Indication again = LastSeen(LayerKind::kAccept);

    EXPECT_EQ(again.metadata.packetDirection, FWP_DIRECTION_OUTBOUND);
    EXPECT_EQ(again.reason, static_cast<uint32_t>(FWP_CONDITION_REAUTHORIZE_REASON_POLICY_CHANGE));
    EXPECT_EQ(again.data.size(), 21u); // from the transport header
    EXPECT_THAT(Log(), ElementsAre("stream send 1", "accept again", "out A 1"));
}

TEST_F(NetDecision, ReauthorizeIsAChangeOfPolicy)
{
    const FlowId flow = Connect(Tcp());
    const uint8_t byte = 1;

    stack().Reauthorize();
    Log();
    stack().Send(flow, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("stream send 1", "connect again", "out A 1"));
}

TEST_F(NetDecision, AReauthorizationCannotBePendedButItsPacketCanBeHeld)
{
    const FlowId flow = Connect(Tcp());
    const uint8_t byte = 1;

    policy = [](const Indication &seen)
    { return seen.layer == LayerKind::kConnect ? Decision::kHold : Decision::kPermit; };
    SwapFilters();
    Log();
    stack().Send(flow, &byte, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("stream send 1", "connect again"));
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("connect again injected", "out A 1 injected"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted, OutcomeKind::kPermitted));
}

TEST_F(NetDecision, AWithdrawnAuthorizationLastsUntilThePolicyChanges)
{
    const FlowId flow = Connect(Tcp());
    const uint8_t byte = 1;

    policy = [](const Indication &seen)
    { return seen.layer == LayerKind::kConnect ? Decision::kBlock : Decision::kPermit; };
    SwapFilters();
    Log();
    stack().Send(flow, &byte, 1, Into(&outcomes));
    stack().Send(flow, &byte, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("stream send 1", "connect again", "stream send 1"));
    Decide({}, Decision::kPermit);
    SwapFilters();
    Log();
    stack().Send(flow, &byte, 1, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("stream send 1", "connect again", "out A 1"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted, OutcomeKind::kBlocked, OutcomeKind::kBlocked,
                                     OutcomeKind::kPermitted));
}

TEST_F(NetDecision, AHeldAuthorizationAsksAgainAfterTheFiltersWereSwapped)
{
    policy = [](const Indication &seen)
    { return seen.layer == LayerKind::kConnect ? Decision::kHold : Decision::kPermit; };
    Connect(Udp({1, 2}));
    EXPECT_THAT(Log(), ElementsAre("assign", "connect"));
    policy = [](const Indication &seen)
    { return seen.layer == LayerKind::kConnect ? Decision::kBlock : Decision::kPermit; };
    SwapFilters();
    EXPECT_TRUE(outcomes.empty());
    Discard(FirstHeld());
    Forget();
    EXPECT_THAT(Log(), ElementsAre("connect again"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked));
}

TEST_F(NetDecision, ACallbackMayUseTheStack)
{
    const FlowSpec next = Udp({1, 2});
    FlowId flow = 0;

    flow = stack().Connect(Tcp(),
                           [this, &next](const Outcome &outcome)
                           {
                               outcomes.push_back(outcome);
                               stack().Connect(next, Into(&outcomes));
                           });
    stack().Close(flow);
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted, OutcomeKind::kPermitted));
}

// The injection names no interface, so that only a route could.
TEST_F(NetDecision, AnInjectedSendThatNeedsAnInterfaceIsRefused)
{
    const Endpoint destinations[] = {At({224, 0, 0, 251}, 5353), At({255, 255, 255, 255}, 67), At({10, 0, 0, 255}, 137),
                                     At({169, 254, 7, 7}, 53),
                                     At({0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 53)};

    Decide({LayerKind::kOutPacket}, Decision::kHold);
    for (const Endpoint &destination : destinations)
    {
        FlowSpec spec = Udp({1}, destination.family);

        spec.remote = destination;
        outcomes.clear();
        Connect(spec);
        Inject(FirstHeld());
        Forget();
        EXPECT_EQ(last_status(), STATUS_NETWORK_UNREACHABLE);
        EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kDropped));
    }

    uint8_t packet[64];
    const size_t length = WriteUdpPacket(packet, At({0, 0, 0, 0}, 68), At({203, 0, 113, 9}, 67), nullptr, 0);

    injection_statuses.clear();
    stack().Packet(Direction::kOutbound, packet, length, nullptr);
    Inject(FirstHeld());
    Forget();
    EXPECT_EQ(last_status(), STATUS_NETWORK_UNREACHABLE);
}

TEST_F(NetDecision, AMulticastCanBeInjectedAtTheTransportLayer)
{
    FlowSpec spec = Udp({1});

    spec.remote = At({224, 0, 0, 251}, 5353);
    Decide({LayerKind::kConnect}, Decision::kPend);
    Connect(spec);
    Allow(FirstHeld());
    EXPECT_EQ(last_status(), STATUS_SUCCESS);
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
}

TEST_F(NetDecision, AForwardedPacketIsHeldAndDroppedLikeAnyOther)
{
    uint8_t packet[64];
    const size_t length = WriteUdpPacket(packet, At({172, 16, 0, 5}, 40000), Tcp().remote, nullptr, 0);

    Decide({LayerKind::kInPacket, LayerKind::kOutPacket}, Decision::kHold);
    stack().Forward(packet, length, Into(&outcomes));
    Allow(FirstHeld());
    EXPECT_THAT(Log(), ElementsAre("in udp 0", "in udp 0 injected", "out udp 0 injected"));
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kPermitted));
    Decide({LayerKind::kInPacket}, Decision::kDrop);
    stack().Forward(packet, length, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("in udp 0"));
    EXPECT_EQ(outcomes.back().kind, OutcomeKind::kDropped);
}

TEST_F(NetDecision, AnotherProductsBlockCounts)
{
    const uint64_t filter =
        machine.wfp().AddForeignFilter(FWPS_LAYER_OUTBOUND_IPPACKET_V4, 0x9000, wfp::ForeignAction::kHardBlock);

    Connect(Tcp());
    EXPECT_THAT(Kinds(), ElementsAre(OutcomeKind::kBlocked));
    machine.wfp().RemoveForeignFilter(filter);
}

} // namespace
} // namespace sim::net

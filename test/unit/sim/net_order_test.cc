// The order of the layers' indications over the life of a conversation.

#include "net_fixture.h"

namespace sim::net
{
namespace
{

using testing::ElementsAre;
using testing::ElementsAreArray;

std::vector<uint8_t> Whole(const Endpoint &source, const Endpoint &destination, size_t payload)
{
    const std::vector<uint8_t> bytes(payload, 'x');
    std::vector<uint8_t> packet(UdpPacketSize(source.family, payload));

    WriteUdpPacket(packet.data(), source, destination, bytes.data(), payload);
    return packet;
}

// Puts the first fragment's headers before all of the datagram.
std::vector<uint8_t> Reassembled(const std::vector<uint8_t> &first, const std::vector<uint8_t> &whole)
{
    const bool v6 = whole[0] >> 4 == kIpv6;
    std::vector<uint8_t> packet(first.begin(), first.begin() + (v6 ? 48 : 20));

    packet.insert(packet.end(), whole.begin() + (v6 ? 40 : 20), whole.end());
    return packet;
}

// Cuts the packet's payload into fragments.
std::vector<std::vector<uint8_t>> Fragments(const Endpoint &source, const Endpoint &destination, size_t payload,
                                            size_t piece = 16)
{
    const std::vector<uint8_t> whole = Whole(source, destination, payload);
    const bool v6 = source.family == kIpv6;
    const auto data = whole.begin() + (v6 ? 40 : 20);
    std::vector<std::vector<uint8_t>> fragments;

    for (size_t at = 0; at < payload + 8; at += piece)
    {
        const size_t length = std::min(piece, payload + 8 - at);
        const bool more = at + length < payload + 8;
        std::vector<uint8_t> fragment(whole.begin(), data);

        if (v6)
        {
            fragment[6] = 44;
            fragment[5] = static_cast<uint8_t>(8 + length);
            fragment.insert(fragment.end(),
                            {kProtocolUdp, 0, 0, static_cast<uint8_t>(at | (more ? 1 : 0)), 0, 0, 0, 1});
        }
        else
        {
            fragment[3] = static_cast<uint8_t>(20 + length);
            fragment[6] |= more ? 0x20 : 0;
            fragment[7] = static_cast<uint8_t>(at / 8);
        }
        fragment.insert(fragment.end(), data + static_cast<ptrdiff_t>(at), data + static_cast<ptrdiff_t>(at + length));
        fragments.push_back(fragment);
    }
    return fragments;
}

class NetOrder : public NetTest
{
  protected:
    uint64_t ListenTo(const Endpoint &local, std::vector<Endpoint> groups)
    {
        FlowSpec spec = Udp({});

        spec.local = local;
        spec.groups = std::move(groups);
        return stack().Listen(spec);
    }

    // A datagram comes from the wire.
    void ArriveUdp(const Endpoint &source, const Endpoint &destination)
    {
        const std::vector<uint8_t> packet = Whole(source, destination, 1);

        stack().Arrive(packet.data(), packet.size(), nullptr);
    }
};

class NetOrderOfFamily : public NetTest, public testing::WithParamInterface<uint8_t>
{
  protected:
    static uint8_t Icmp() { return GetParam() == kIpv6 ? kProtocolIcmpV6 : kProtocolIcmp; }

    // A message without payload comes from the wire.
    void ArriveIcmp(const FlowSpec &spec, const IcmpKind &kind, uint32_t rest)
    {
        std::vector<uint8_t> packet(IcmpPacketSize(GetParam(), 0));

        WriteIcmpPacket(packet.data(), spec.remote, spec.local, kind, rest, nullptr, 0);
        stack().Arrive(packet.data(), packet.size(), nullptr);
    }

    void ArriveEcho(const FlowSpec &spec, bool request, uint16_t identifier, uint16_t sequence)
    {
        const uint8_t type = GetParam() == kIpv6 ? (request ? 128 : 129) : (request ? 8 : 0);

        ArriveIcmp(spec, {type, 0}, static_cast<uint32_t>(identifier) << 16 | sequence);
    }
};

INSTANTIATE_TEST_SUITE_P(Families, NetOrderOfFamily, testing::Values(kIpv4, kIpv6),
                         [](const auto &info) { return info.param == kIpv4 ? "Ipv4" : "Ipv6"; });

TEST_P(NetOrderOfFamily, OutboundTcp)
{
    std::vector<Outcome> outcomes;
    const FlowId flow = stack().Connect(Tcp(GetParam()), Into(&outcomes));
    const uint8_t request[] = {1, 2, 3, 4, 5};
    const uint8_t reply[] = {6, 7, 8};

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "in SA", "out A"));
    stack().Send(flow, request, sizeof(request), Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("stream send 5", "out A 5"));
    stack().Receive(flow, reply, sizeof(reply), Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("in A 3", "stream receive 3"));
    stack().Close(flow);
    EXPECT_THAT(Log(),
                ElementsAre("stream send end", "out FA", "in FA", "stream receive end", "out A", "closure", "release"));
    ASSERT_EQ(outcomes.size(), 3u);
    for (const Outcome &outcome : outcomes)
    {
        EXPECT_EQ(outcome.kind, OutcomeKind::kPermitted);
    }
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_P(NetOrderOfFamily, InboundTcp)
{
    FlowSpec spec = Tcp(GetParam());
    std::vector<Outcome> outcomes;

    spec.local.port = 8080;
    spec.payload = {1, 2, 3, 4};

    const FlowId flow = stack().Accept(spec, Into(&outcomes));

    EXPECT_THAT(Log(), ElementsAre("assign", "in S", "accept", "out SA", "in A", "in A 4", "stream receive 4"));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("stream send end", "out FA", "in FA", "stream receive end", "out A", "closure",
                                   "closure of socket", "release"));
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].kind, OutcomeKind::kPermitted);
}

TEST_P(NetOrderOfFamily, TcpIsEstablishedOnceItsHandshakeIsComplete)
{
    FlowSpec server = Tcp(GetParam());
    const uint8_t bytes[] = {1, 2};

    WatchEstablished();

    const FlowId flow = stack().Connect(Tcp(GetParam()), nullptr);

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "in SA", "out A", "established"));
    stack().Send(flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("stream send 2", "out A 2"));

    server.local.port = 8080;
    stack().Accept(server, nullptr);
    EXPECT_THAT(Log(), ElementsAre("assign", "in S", "accept", "out SA", "in A", "established"));
}

TEST_P(NetOrderOfFamily, ATcpConnectionThatIsRefusedIsNeverEstablished)
{
    WatchEstablished();
    Decide({LayerKind::kOutPacket}, Decision::kBlock);
    stack().Close(stack().Connect(Tcp(GetParam()), nullptr));
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "closure", "release"));
}

TEST_P(NetOrderOfFamily, UdpIsEstablishedWithItsFirstAuthorizedDatagram)
{
    const uint8_t bytes[] = {9, 9};

    WatchEstablished();

    const FlowId flow = stack().Connect(Udp({1, 2, 3}, GetParam()), nullptr);

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "established", "datagram send 11", "out udp 3"));
    stack().Send(flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 10", "out udp 2"));
}

TEST_P(NetOrderOfFamily, AnAbortedFlowSendsARstAndIsClosed)
{
    std::vector<Outcome> outcomes;
    const uint8_t bytes[] = {1, 2};

    WatchEstablished();

    const FlowId flow = stack().Connect(Tcp(GetParam()), nullptr);
    const uint64_t handle = LastSeen(LayerKind::kEstablished).metadata.flowHandle;

    Log();
    EXPECT_EQ(FwpsFlowAbort0(handle), STATUS_SUCCESS);
    Run();
    EXPECT_THAT(Log(), ElementsAre("out RA", "closure", "release"));
    stack().Send(flow, bytes, sizeof(bytes), Into(&outcomes));
    ASSERT_EQ(outcomes.size(), 1u);
    EXPECT_EQ(outcomes[0].kind, OutcomeKind::kBlocked);
    EXPECT_EQ(FwpsFlowAbort0(handle), STATUS_NOT_FOUND) << "its flow is gone";
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_P(NetOrderOfFamily, OnlyAKnownFlowOfTcpCanBeAborted)
{
    WatchEstablished();

    const FlowId flow = stack().Connect(Udp({1}, GetParam()), nullptr);

    EXPECT_EQ(FwpsFlowAbort0(LastSeen(LayerKind::kEstablished).metadata.flowHandle), STATUS_NOT_FOUND);
    EXPECT_EQ(FwpsFlowAbort0(0), STATUS_NOT_FOUND);
    EXPECT_EQ(FwpsFlowAbort0(UINT64_MAX), STATUS_NOT_FOUND);
    stack().Close(flow);
}

TEST_P(NetOrderOfFamily, OutboundUdp)
{
    std::vector<Outcome> outcomes;
    const FlowId flow = stack().Connect(Udp({1, 2, 3}, GetParam()), Into(&outcomes));
    const uint8_t bytes[] = {9, 9};

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 11", "out udp 3"));
    stack().Send(flow, bytes, sizeof(bytes), Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("datagram send 10", "out udp 2"));
    stack().Receive(flow, bytes, sizeof(bytes), Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("in udp 2", "datagram receive 2"));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
    EXPECT_EQ(outcomes.size(), 3u);
}

TEST_P(NetOrderOfFamily, InboundUdp)
{
    FlowSpec spec = Udp({1, 2, 3}, GetParam());

    spec.local.port = 5353;

    const FlowId flow = stack().Accept(spec, nullptr);
    const uint8_t bytes[] = {9, 9};

    EXPECT_THAT(Log(), ElementsAre("assign", "in udp 3", "accept", "datagram receive 3"));
    stack().Send(flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 10", "out udp 2"));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
}

TEST_P(NetOrderOfFamily, Echo)
{
    FlowSpec spec = Udp({1, 2, 3, 4}, GetParam());
    const uint8_t reply[] = {1, 2, 3, 4};

    spec.protocol = GetParam() == kIpv6 ? kProtocolIcmpV6 : kProtocolIcmp;

    const FlowId flow = stack().Connect(spec, nullptr);

    EXPECT_THAT(Log(), ElementsAre("connect", "datagram send 12", "out echo"));
    stack().Receive(flow, reply, sizeof(reply), nullptr);
    EXPECT_THAT(Log(), ElementsAre("in echo reply", "datagram receive 12"));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre());
}

TEST_P(NetOrderOfFamily, InboundEcho)
{
    FlowSpec spec = Udp({1, 2, 3, 4}, GetParam());

    spec.protocol = GetParam() == kIpv6 ? kProtocolIcmpV6 : kProtocolIcmp;

    const FlowId flow = stack().Accept(spec, nullptr);

    EXPECT_THAT(Log(), ElementsAre("in echo", "accept", "datagram receive 12"));
    stack().Send(flow, spec.payload.data(), spec.payload.size(), nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 12", "out echo reply"));
}

TEST_P(NetOrderOfFamily, EchoRepliesFromTheWireFollowTheirRequest)
{
    FlowSpec spec = Udp({1, 2, 3, 4}, GetParam());

    spec.protocol = Icmp();
    spec.local.port = 7;
    spec.remote.port = 1;
    stack().Connect(spec, nullptr);
    Log();
    ArriveEcho(spec, false, 7, 1);
    ArriveEcho(spec, false, 7, 2);
    EXPECT_THAT(Log(), ElementsAre("in echo reply", "datagram receive 8", "in echo reply", "datagram receive 8"));
    ArriveEcho(spec, false, 8, 1);
    EXPECT_THAT(Log(), ElementsAre("in echo reply", "accept", "datagram receive 8"));
    ArriveEcho(spec, true, 7, 1);
    EXPECT_THAT(Log(), ElementsAre("in echo", "accept", "datagram receive 8"));
}

TEST_P(NetOrderOfFamily, IcmpMessagesOfAnotherTypeOrCodeAreAnotherFlow)
{
    const uint8_t type = GetParam() == kIpv6 ? 144 : 13;
    const FlowSpec spec = Udp({}, GetParam());

    for (const IcmpKind &kind : {IcmpKind{type, 0}, IcmpKind{type, 1}, IcmpKind{static_cast<uint8_t>(type + 1), 0}})
    {
        const std::string name = "in icmp " + std::to_string(kind.type) + "/" + std::to_string(kind.code);

        ArriveIcmp(spec, kind, 1);
        EXPECT_THAT(Log(), ElementsAre(name, "accept", "datagram receive 8"));
        ArriveIcmp(spec, kind, 2);
        EXPECT_THAT(Log(), ElementsAre(name, "datagram receive 8"));
    }
}

TEST_P(NetOrderOfFamily, IcmpErrorsAreSeenOnlyAtTheIpPacketLayers)
{
    const uint8_t unreachable = GetParam() == kIpv6 ? 1 : 3;
    FlowSpec spec = Udp({1, 2, 3, 4}, GetParam());

    ArriveIcmp(spec, {unreachable, 3}, 0);
    spec.protocol = Icmp();
    spec.icmp = IcmpKind{unreachable, 3};
    stack().Connect(spec, nullptr);

    const std::string name = " icmp " + std::to_string(unreachable) + "/3";

    EXPECT_THAT(Log(), ElementsAre("in" + name, "out" + name));
}

TEST_P(NetOrderOfFamily, OtherProtocolsAreAuthorizedLikeUdpForTheirRawSocket)
{
    FlowSpec spec = Udp({1, 2, 3, 4}, GetParam());
    std::vector<uint8_t> packet(RawPacketSize(GetParam(), 4));

    spec.protocol = 47;
    WriteRawPacket(packet.data(), spec.remote, spec.local, 47, spec.payload.data(), 4);
    stack().Arrive(packet.data(), packet.size(), nullptr);
    EXPECT_THAT(Log(), ElementsAre("in protocol 47"));
    spec.local.port = 0;

    const uint64_t listener = stack().Listen(spec);

    stack().Arrive(packet.data(), packet.size(), nullptr);
    EXPECT_THAT(Log(), ElementsAre("in protocol 47", "accept", "datagram receive 4"));
    stack().Arrive(packet.data(), packet.size(), nullptr);
    EXPECT_THAT(Log(), ElementsAre("in protocol 47", "datagram receive 4"));
    stack().CloseListener(listener);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_P(NetOrderOfFamily, OtherProtocolsFollowTheOrderOfUdp)
{
    FlowSpec spec = Udp({1, 2, 3, 4}, GetParam());

    spec.protocol = 47;

    const FlowId flow = stack().Connect(spec, nullptr);

    stack().Receive(flow, spec.payload.data(), spec.payload.size(), nullptr);
    stack().Close(flow);
    EXPECT_THAT(Log(),
                ElementsAre("connect", "datagram send 4", "out protocol 47", "in protocol 47", "datagram receive 4"));
}

TEST_F(NetOrder, AStreamFilterThatComesLaterDoesNotSeeAnOldConnection)
{
    const uint8_t bytes[] = {1, 2, 3};
    const FlowId old_flow = stack().Connect(Tcp(), nullptr);
    FlowSpec other = Tcp();

    SwapFilters({LayerKind::kStream});
    Log();
    stack().Send(old_flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("out A 3"));

    other.local.port = 0;

    const FlowId new_flow = stack().Connect(other, nullptr);

    Log();
    stack().Send(new_flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("stream send 3", "out A 3"));
    stack().Close(old_flow);
    stack().Close(new_flow);
}

TEST_F(NetOrder, EveryNewPeerOfAUdpSocketIsAuthorizedAndTheSocketClosesOnce)
{
    const FlowId first = stack().Connect(Udp({1}), nullptr);
    FlowSpec other = Udp({1, 2});

    Log();
    other.remote.address[3] = 10;

    const FlowId second = stack().Connect(other, nullptr);

    EXPECT_THAT(Log(), ElementsAre("connect", "datagram send 10", "out udp 2"));
    stack().Close(first);
    EXPECT_THAT(Log(), ElementsAre());
    stack().Close(second);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
}

TEST_F(NetOrder, AUdpFlowIsAuthorizedAnewAfterSixtyIdleSeconds)
{
    const uint8_t byte = 1;
    const FlowId flow = stack().Connect(Udp({1}), nullptr);

    Log();
    for (int i = 0; i < 3; ++i)
    {
        machine.clock().Advance(std::chrono::seconds(59));
        stack().Receive(flow, &byte, 1, nullptr);
        EXPECT_THAT(Log(), ElementsAre("in udp 1", "datagram receive 1"));
    }
    machine.clock().Advance(std::chrono::seconds(61));
    stack().Send(flow, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("connect", "datagram send 9", "out udp 1"));
}

TEST_F(NetOrder, AfterAnIdleTimeTheSideThatSpeaksFirstBeginsTheFlow)
{
    const uint8_t byte = 1;
    const FlowId connected = stack().Connect(Udp({1}), nullptr);
    FlowSpec receiver = Udp({1});

    receiver.local.port = 5353;

    const FlowId accepted = stack().Accept(receiver, nullptr);

    machine.clock().Advance(std::chrono::seconds(61));
    Log();
    stack().Receive(connected, &byte, 1, nullptr);
    EXPECT_EQ(LastSeen(LayerKind::kAccept).metadata.processId, receiver.process_id);
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept", "datagram receive 1"));
    stack().Send(connected, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 9", "out udp 1"));
    stack().Send(accepted, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("connect", "datagram send 9", "out udp 1"));
    SwapFilters();
    stack().Send(connected, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("accept again", "datagram send 9", "out udp 1"));
}

TEST_F(NetOrder, ATcpConnectionNeverIdlesOut)
{
    const uint8_t byte = 1;
    const FlowId flow = stack().Connect(Tcp(), nullptr);

    machine.clock().Advance(std::chrono::hours(3));
    Log();
    stack().Receive(flow, &byte, 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A 1", "stream receive 1"));
}

TEST_P(NetOrderOfFamily, AnEchoReplyAfterAnIdleTimeIsAuthorizedAsAReply)
{
    FlowSpec spec = Udp({1}, GetParam());

    spec.protocol = Icmp();
    spec.local.port = 7;

    const FlowId flow = stack().Connect(spec, nullptr);

    machine.clock().Advance(std::chrono::seconds(61));
    Log();
    stack().Receive(flow, spec.payload.data(), 1, nullptr);
    EXPECT_EQ(LastSeen(LayerKind::kAccept).local.port, GetParam() == kIpv6 ? 129u : 0u);
    EXPECT_THAT(Log(), ElementsAre("in echo reply", "accept", "datagram receive 9"));
    stack().Send(flow, spec.payload.data(), 1, nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 9", "out echo"));
}

TEST_F(NetOrder, AListenerClosesOnceAndAfterItsConnections)
{
    FlowSpec spec = Tcp();

    spec.local.port = 8080;

    const uint64_t listener = stack().Listen(spec);

    EXPECT_THAT(Log(), ElementsAre("assign"));

    const FlowId flow = stack().Accept(spec, nullptr);

    EXPECT_THAT(Log(), ElementsAre("in S", "accept", "out SA", "in A"));
    stack().Close(flow);
    Log();
    stack().CloseListener(listener);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
}

TEST_F(NetOrder, AListenerClosesOnceWhileItsConnectionsLiveOn)
{
    FlowSpec spec = Tcp();

    spec.local.port = 8080;

    const uint64_t listener = stack().Listen(spec);
    const FlowId flow = stack().Accept(spec, nullptr);
    const uint8_t bytes[] = {1, 2};

    Log();
    stack().CloseListener(listener);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
    stack().Receive(flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A 2", "stream receive 2"));

    const uint64_t next = stack().Listen(spec);

    EXPECT_THAT(Log(), ElementsAre("assign"));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("stream send end", "out FA", "in FA", "stream receive end", "out A", "closure"));
    stack().CloseListener(next);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
}

TEST_F(NetOrder, ProcessesShareAUdpPortAndEachHasItsSocket)
{
    std::vector<uint64_t> released;
    FlowSpec one = Udp({1});
    FlowSpec two = Udp({2});

    one.local = two.local = At({0, 0, 0, 0}, 5353);
    one.process_id = 7;
    two.process_id = 8;

    const uint64_t listeners[] = {stack().Listen(one), stack().Listen(two)};

    EXPECT_THAT(Log(), ElementsAre("assign", "assign"));
    for (const uint64_t listener : listeners)
    {
        stack().CloseListener(listener);
        released.push_back(LastSeen(LayerKind::kRelease).metadata.processId);
    }
    EXPECT_THAT(released, ElementsAre(7u, 8u));
}

TEST_P(NetOrderOfFamily, FragmentsAreSeenTwiceAndTheirDatagramOnce)
{
    std::vector<Outcome> outcomes;
    std::vector<std::vector<uint8_t>> wire;
    FlowSpec server = Udp({}, GetParam());

    server.local.port = 5353;
    stack().Listen(server);
    Log();
    stack().SetWire([&wire](Direction, const uint8_t *bytes, size_t length)
                    { wire.emplace_back(bytes, bytes + length); });

    const std::vector<std::vector<uint8_t>> fragments = Fragments(server.remote, server.local, 40);

    for (const size_t i : {2u, 0u, 1u})
    {
        stack().Arrive(fragments[i].data(), fragments[i].size(), Into(&outcomes));
    }
    EXPECT_EQ(LastSeen(LayerKind::kInPacket).packet, Reassembled(fragments[0], Whole(server.remote, server.local, 40)))
        << "the headers are the first fragment's";
    EXPECT_THAT(Log(),
                ElementsAre("in fragment", "in fragment again", "in fragment", "in fragment again", "in fragment",
                            "in fragment again", "in udp 40 reassembled", "accept", "datagram receive 40"));
    EXPECT_EQ(outcomes.size(), 3u);
    EXPECT_EQ(wire, (std::vector<std::vector<uint8_t>>{fragments[2], fragments[0], fragments[1]}));
    EXPECT_EQ(stack().counters().inbound.permitted, 3u);
    EXPECT_EQ(stack().counters().datagram_bytes_received, 40u);
}

TEST_P(NetOrderOfFamily, TheFragmentsOfARefusedDatagramDoNotPassTheWire)
{
    uint64_t passed = 0;
    FlowSpec server = Udp({}, GetParam());

    server.local.port = 5353;
    stack().Listen(server);
    stack().SetWire([&passed](Direction, const uint8_t *, size_t) { ++passed; });
    Decide({LayerKind::kAccept}, Decision::kBlock);
    for (const std::vector<uint8_t> &fragment : Fragments(server.remote, server.local, 40))
    {
        stack().Arrive(fragment.data(), fragment.size(), nullptr);
    }
    EXPECT_EQ(passed, 0u);
}

TEST_P(NetOrderOfFamily, AReassembledDatagramIsInjectedOnlyWithItsOwnHeader)
{
    const FlowSpec server = [this]
    {
        FlowSpec spec = Udp({}, GetParam());
        spec.local.port = 5353;
        return spec;
    }();
    const std::vector<uint8_t> whole = Whole(server.remote, server.local, 40);

    stack().Listen(server);
    Decide({LayerKind::kAccept}, Decision::kPend);
    for (const bool right : {false, true})
    {
        rewrite = [&](std::vector<uint8_t> *packet)
        {
            if (right)
            {
                *packet = whole;
            }
        };
        for (const std::vector<uint8_t> &fragment : Fragments(server.remote, server.local, 40))
        {
            stack().Arrive(fragment.data(), fragment.size(), nullptr);
        }
        Log();
        Allow(FirstHeld());
        EXPECT_EQ(testing::Matches(testing::Contains("datagram receive 40 injected"))(Log()), right);
    }
    EXPECT_THAT(injection_statuses, ElementsAre(STATUS_INVALID_PARAMETER, STATUS_SUCCESS));
}

// An ESP packet without encryption, or an AH packet, around a datagram.
std::vector<uint8_t> Secured(const Endpoint &source, const Endpoint &destination, bool encapsulated)
{
    const std::vector<uint8_t> plain = Whole(source, destination, 12);
    const size_t ip_header = source.family == kIpv6 ? 40 : 20;
    std::vector<uint8_t> bytes(8, 1);

    if (!encapsulated)
    {
        bytes = {kProtocolUdp, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1};
    }
    bytes.insert(bytes.end(), plain.begin() + static_cast<ptrdiff_t>(ip_header), plain.end());
    if (encapsulated)
    {
        bytes.insert(bytes.end(), {1, 2, 2, kProtocolUdp}); // two bytes of padding
    }

    std::vector<uint8_t> packet(RawPacketSize(source.family, bytes.size()));

    WriteRawPacket(packet.data(), source, destination, encapsulated ? 50 : 51, bytes.data(), bytes.size());
    return packet;
}

TEST_P(NetOrderOfFamily, TheIpPacketLayerSeesIpsecAndAleWhatItProtects)
{
    FlowSpec server = Udp({}, GetParam());

    server.local.port = 5353;
    stack().Listen(server);
    stack().AcceptSecured();
    for (const bool encapsulated : {true, false})
    {
        const std::vector<uint8_t> packet = Secured(server.remote, server.local, encapsulated);
        const bool walked = GetParam() == kIpv6 && !encapsulated; // AH is an extension header

        Log();
        stack().Arrive(packet.data(), packet.size(), nullptr);

        const std::vector<Indication> seen = Seen();

        ASSERT_EQ(seen.size(), 3u);
        EXPECT_EQ(seen[0].Name(), walked ? "in udp 12" : encapsulated ? "in protocol 50" : "in protocol 51");
        EXPECT_FALSE(seen[0].security.isSecure);
        EXPECT_EQ(seen[1].layer, LayerKind::kAccept);
        EXPECT_TRUE(seen[1].security.isSecure);
        EXPECT_TRUE(seen[1].security.isTransportMode);
        EXPECT_TRUE(SameEndpoint(seen[1].local, server.local));
        EXPECT_EQ(seen[1].metadata.ipHeaderSize, (GetParam() == kIpv6 ? 40u : 20u) + (encapsulated ? 8u : 12u));
        EXPECT_TRUE(std::equal(seen[1].packet.begin(), seen[1].packet.end(), packet.begin()))
            << "the AH or ESP header is still there";
        EXPECT_EQ(seen[2].Name(), "datagram receive 12");
        server.remote.port++; // another conversation
    }
}

TEST_P(NetOrderOfFamily, OverlappingFragmentsMakeNoDatagram)
{
    FlowSpec server = Udp({}, GetParam());

    server.local.port = 5353;
    stack().Listen(server);
    Log();

    const std::vector<std::vector<uint8_t>> fragments = Fragments(server.remote, server.local, 40);
    const std::vector<std::vector<uint8_t>> others = Fragments(server.remote, server.local, 40, 24);

    for (const std::vector<uint8_t> &fragment : {fragments[0], others[1], fragments[1], fragments[2]})
    {
        stack().Arrive(fragment.data(), fragment.size(), nullptr);
    }
    for (const std::string &name : Log())
    {
        EXPECT_THAT(name, testing::StartsWith("in fragment"));
    }
}

TEST_F(NetOrder, ReleasesPairWithAssignmentsByEndpointHandle)
{
    std::vector<uint64_t> assigned;
    std::vector<uint64_t> released;

    for (int i = 0; i < 3; ++i)
    {
        FlowSpec tcp = Tcp();
        FlowSpec udp = Udp({1});

        tcp.local.port = static_cast<uint16_t>(50000 + i);
        udp.local.port = static_cast<uint16_t>(51000 + i);

        const FlowId flows[] = {stack().Connect(tcp, nullptr), stack().Connect(udp, nullptr)};

        for (const FlowId flow : flows)
        {
            stack().Close(flow);
        }
    }
    for (const Indication &seen : Seen())
    {
        if (seen.layer == LayerKind::kAssign)
        {
            assigned.push_back(seen.metadata.transportEndpointHandle);
        }
        if (seen.layer == LayerKind::kRelease)
        {
            released.push_back(seen.metadata.transportEndpointHandle);
        }
    }
    EXPECT_EQ(assigned.size(), 6u);
    EXPECT_THAT(released, testing::UnorderedElementsAreArray(assigned));
}

TEST_F(NetOrder, LoopbackTcpIsSeenFromBothSides)
{
    FlowSpec server = Tcp();
    FlowSpec client = Tcp();

    server.local = At({127, 0, 0, 1}, 8080);
    server.process_id = 77;
    client.local = At({127, 0, 0, 1}, 50001);
    client.remote = server.local;

    const uint64_t listener = stack().Listen(server);

    Log();

    const FlowId flow = stack().Connect(client, nullptr);

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "in S", "accept", "out SA", "in SA", "out A", "in A"));

    const uint8_t bytes[] = {1, 2, 3};

    stack().Send(flow, bytes, sizeof(bytes), nullptr);
    EXPECT_THAT(Log(), ElementsAre("stream send 3", "out A 3", "in A 3", "stream receive 3"));
    stack().Close(flow);
    EXPECT_THAT(Log(),
                ElementsAre("stream send end", "out FA", "in FA", "stream receive end", "stream send end", "out FA",
                            "in FA", "stream receive end", "out A", "in A", "closure", "closure", "release"));
    stack().CloseListener(listener);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(NetOrder, AConnectToALoopbackPortWithoutAListenerIsReset)
{
    FlowSpec client = Tcp();

    client.local = At({127, 0, 0, 1}, 50001);
    client.remote = At({127, 0, 0, 1}, 8080);
    stack().Connect(client, nullptr);
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "in S", "out RA", "in RA"));
}

TEST_F(NetOrder, LoopbackUdpIsSeenFromBothSides)
{
    FlowSpec server = Udp({});
    FlowSpec client = Udp({1, 2});

    server.local = At({127, 0, 0, 1}, 5353);
    client.local = At({127, 0, 0, 1}, 50001);
    client.remote = server.local;

    const uint64_t listener = stack().Listen(server);

    Log();

    const FlowId flow = stack().Connect(client, nullptr);

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 10", "out udp 2", "in udp 2", "accept",
                                   "datagram receive 2"));
    stack().CloseListener(listener);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
    stack().Close(flow);
    EXPECT_THAT(Log(), ElementsAre("closure of socket", "release"));
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(NetOrder, MulticastAndBroadcastGoOutAndComeIn)
{
    FlowSpec multicast = Udp({1, 2});
    FlowSpec broadcast = Udp({1, 2, 3});

    multicast.remote = At({239, 255, 255, 250}, 1900);
    broadcast.remote = At({255, 255, 255, 255}, 67);
    broadcast.local.port = 68;
    stack().Connect(multicast, nullptr);
    stack().Connect(broadcast, nullptr);
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 10", "out udp 2", "assign", "connect",
                                   "datagram send 11", "out udp 3"));

    FlowSpec group = Udp({1, 2, 3, 4});

    group.local = At({224, 0, 0, 251}, 5353);
    group.remote.port = 5353;
    stack().Accept(group, nullptr);
    EXPECT_THAT(Log(), ElementsAre("assign", "in udp 4", "accept", "datagram receive 4"));
}

TEST_F(NetOrder, AllInboundMulticastAndBroadcastIsOneFlow)
{
    ListenTo(At({0, 0, 0, 0}, 5353), {At({224, 0, 0, 251}, 0)});
    ListenTo(At({0, 0, 0, 0}, 1900), {At({239, 255, 255, 250}, 0)});
    Log();
    ArriveUdp(At({10, 0, 0, 9}, 5353), At({224, 0, 0, 251}, 5353));
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept", "datagram receive 1"));
    ArriveUdp(At({10, 0, 0, 9}, 5353), At({224, 0, 0, 251}, 5353));
    ArriveUdp(At({10, 0, 0, 8}, 40000), At({239, 255, 255, 250}, 1900));
    ArriveUdp(At({10, 0, 0, 8}, 40000), At({10, 0, 0, 255}, 1900));
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "datagram receive 1", "in udp 1", "datagram receive 1", "in udp 1",
                                   "datagram receive 1"));
    SwapFilters();
    ArriveUdp(At({10, 0, 0, 7}, 40000), At({255, 255, 255, 255}, 1900));
    ArriveUdp(At({10, 0, 0, 9}, 5353), At({224, 0, 0, 251}, 5353));
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept again", "datagram receive 1", "in udp 1", "datagram receive 1"));
}

TEST_F(NetOrder, EachIpVersionHasAFlowOfInboundMulticast)
{
    const Endpoint any = At({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 5353);
    const Endpoint group = At({0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFB}, 5353);

    ListenTo(At({0, 0, 0, 0}, 5353), {At({224, 0, 0, 251}, 0)});
    ListenTo(any, {group});
    Log();
    ArriveUdp(At({10, 0, 0, 9}, 5353), At({224, 0, 0, 251}, 5353));
    ArriveUdp(Tcp(kIpv6).remote, group);
    EXPECT_THAT(Log(),
                ElementsAre("in udp 1", "accept", "datagram receive 1", "in udp 1", "accept", "datagram receive 1"));
}

TEST_F(NetOrder, ARefusedInboundMulticastLeavesTheNextOneToBeAsked)
{
    ListenTo(At({0, 0, 0, 0}, 5353), {At({224, 0, 0, 251}, 0)});
    Log();
    Decide({LayerKind::kAccept}, Decision::kBlock);
    ArriveUdp(At({10, 0, 0, 9}, 5353), At({224, 0, 0, 251}, 5353));
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept"));
    Decide({LayerKind::kAccept}, Decision::kPermit);
    ArriveUdp(At({10, 0, 0, 8}, 5353), At({224, 0, 0, 251}, 5353));
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept", "datagram receive 1"));
}

TEST_F(NetOrder, AMulticastGroupIsReceivedOnlyByItsMembers)
{
    const uint64_t listener = ListenTo(At({0, 0, 0, 0}, 5353), {At({224, 0, 0, 251}, 0)});

    ListenTo(At({0, 0, 0, 0}, 1900), {});
    Log();
    ArriveUdp(At({10, 0, 0, 8}, 40000), At({239, 255, 255, 250}, 1900));
    EXPECT_THAT(Log(), ElementsAre("in udp 1"));
    stack().CloseListener(listener);
    Log();
    ArriveUdp(At({10, 0, 0, 9}, 5353), At({224, 0, 0, 251}, 5353));
    EXPECT_THAT(Log(), ElementsAre("in udp 1"));
}

TEST_F(NetOrder, AnswersToAMulticastComeInForFourSeconds)
{
    FlowSpec search = Udp({1, 2});

    search.remote = At({239, 255, 255, 250}, 1900);

    const FlowId flow = stack().Connect(search, nullptr);

    Log();
    machine.clock().Advance(std::chrono::seconds(3));
    ArriveUdp(At({10, 0, 0, 20}, 1900), search.local);
    ArriveUdp(At({198, 51, 100, 20}, 7), search.local);
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "datagram receive 1", "in udp 1", "datagram receive 1"));
    stack().Send(flow, search.payload.data(), 2, nullptr);
    EXPECT_THAT(Log(), ElementsAre("datagram send 10", "out udp 2"));
    machine.clock().Advance(std::chrono::seconds(3));
    ArriveUdp(At({10, 0, 0, 20}, 1900), search.local);
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "datagram receive 1"));
    machine.clock().Advance(std::chrono::seconds(2));
    ArriveUdp(At({10, 0, 0, 20}, 1900), search.local);
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept", "datagram receive 1"));
    stack().Send(flow, search.payload.data(), 2, nullptr);
    EXPECT_THAT(Log(), ElementsAre("connect", "datagram send 10", "out udp 2"));
}

TEST_F(NetOrder, ARefusedMulticastLetsNoAnswerIn)
{
    FlowSpec search = Udp({1, 2});

    search.remote = At({10, 0, 0, 255}, 137);
    Decide({LayerKind::kConnect}, Decision::kBlock);
    stack().Connect(search, nullptr);
    Log();
    ArriveUdp(At({10, 0, 0, 20}, 137), search.local);
    EXPECT_THAT(Log(), ElementsAre("in udp 1", "accept", "datagram receive 1"));
}

TEST_F(NetOrder, AMulticastOfAMemberIsSentASecondTimeAsLoopback)
{
    FlowSpec announce = Udp({1, 2});

    announce.remote = At({224, 0, 0, 251}, 5353);
    ListenTo(At({0, 0, 0, 0}, 5353), {At({224, 0, 0, 251}, 0)});
    Log();
    stack().Connect(announce, nullptr);

    const std::vector<Indication> seen = Seen();
    const char *const names[] = {"assign",    "connect",  "datagram send 10", "out udp 2",
                                 "out udp 2", "in udp 2", "accept",           "datagram receive 2"};

    ASSERT_EQ(seen.size(), std::size(names));
    for (size_t i = 0; i < seen.size(); ++i)
    {
        EXPECT_EQ(seen[i].Name(), names[i]);
        EXPECT_EQ(seen[i].flags & FWP_CONDITION_FLAG_IS_LOOPBACK, i < 4 ? 0u : 1u) << names[i];
    }
}

TEST_F(NetOrder, PacketsFromTheWireReachListenersAndConversations)
{
    FlowSpec server = Tcp();
    Endpoint any;
    uint8_t packet[128];

    any.port = 8080;
    server.local = any;
    stack().Listen(server);

    const Endpoint here = At({10, 0, 0, 7}, 8080);
    const Endpoint there = At({198, 51, 100, 3}, 41000);
    const uint8_t payload[] = {1, 2};
    const size_t syn = WriteTcpPacket(packet, there, here, {1000, 0, kTcpSyn}, nullptr, 0);

    Log();
    stack().Arrive(packet, syn, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in S", "accept", "out SA"));

    const size_t ack = WriteTcpPacket(packet, there, here, {1001, 1, kTcpAck}, nullptr, 0);

    stack().Arrive(packet, ack, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A"));

    const size_t data = WriteTcpPacket(packet, there, here, {1001, 1, kTcpAck}, payload, sizeof(payload));

    stack().Arrive(packet, data, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A 2", "stream receive 2"));

    const size_t fin = WriteTcpPacket(packet, there, here, {1003, 1, kTcpFin | kTcpAck}, nullptr, 0);

    std::vector<uint8_t> sent;

    stack().SetWire(
        [&sent](Direction direction, const uint8_t *bytes, size_t length)
        {
            if (direction == Direction::kOutbound)
            {
                sent.assign(bytes, bytes + length);
            }
        });
    stack().Arrive(packet, fin, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in FA", "stream receive end", "stream send end", "out FA"));

    IpPacketInfo last;

    ASSERT_TRUE(ParseIpPacket(sent.data(), sent.size(), &last));

    const size_t end = WriteTcpPacket(packet, there, here, {1004, last.sequence + 1, kTcpAck}, nullptr, 0);

    stack().Arrive(packet, end, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in A", "closure"));
}

TEST_F(NetOrder, ASegmentWithoutAReceiverIsAnsweredByReset)
{
    uint8_t packet[128];
    const size_t length =
        WriteTcpPacket(packet, At({198, 51, 100, 3}, 41000), At({10, 0, 0, 7}, 8080), {1000, 0, kTcpSyn}, nullptr, 0);

    stack().Arrive(packet, length, nullptr);
    EXPECT_THAT(Log(), ElementsAre("in S", "out RA"));
}

TEST_P(NetOrderOfFamily, ForwardedPacketsPassTheIpPacketLayersWithoutAle)
{
    const FlowSpec spec = Udp({}, GetParam());
    const Endpoint behind = GetParam() == kIpv6 ? At({0xFD, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5}, 40000)
                                                : At({172, 16, 0, 5}, 40000);
    std::vector<Outcome> outcomes;

    stack().Listen(spec);
    Log();
    for (const std::vector<uint8_t> &fragment : Fragments(behind, spec.remote, 16))
    {
        stack().Forward(fragment.data(), fragment.size(), Into(&outcomes));
    }
    EXPECT_THAT(Log(), ElementsAre("in fragment", "out fragment", "in fragment", "out fragment"));
    EXPECT_EQ(outcomes.size(), 2u);

    const std::vector<uint8_t> packet = Whole(behind, spec.remote, 3);

    stack().Forward(packet.data(), packet.size(), Into(&outcomes));
    EXPECT_EQ(LastSeen(LayerKind::kOutPacket).local.address, behind.address);
    EXPECT_FALSE(LastSeen(LayerKind::kOutPacket).Has(FWPS_METADATA_FIELD_PROCESS_ID));
    EXPECT_THAT(Log(), ElementsAre("in udp 3", "out udp 3"));
    EXPECT_EQ(outcomes.back().kind, OutcomeKind::kPermitted);
}

TEST_F(NetOrder, RawPacketsAreSeenAtTheIpPacketLayerOfTheirDirection)
{
    uint8_t packet[128];
    std::vector<Outcome> outcomes;
    const size_t length =
        WriteTcpPacket(packet, At({198, 51, 100, 3}, 41000), At({10, 0, 0, 7}, 8080), {1000, 0, kTcpSyn}, nullptr, 0);

    stack().Packet(Direction::kInbound, packet, length, Into(&outcomes));
    stack().Packet(Direction::kOutbound, packet, length, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre("in S", "out S"));
    stack().Packet(Direction::kInbound, packet, 10, Into(&outcomes));
    EXPECT_THAT(Log(), ElementsAre());
    ASSERT_EQ(outcomes.size(), 3u);
    EXPECT_EQ(outcomes[1].kind, OutcomeKind::kPermitted);
    EXPECT_EQ(outcomes[2].kind, OutcomeKind::kBlocked);
}

TEST_F(NetOrder, LongPayloadIsIndicatedOnceAsAChainAndSentInSegments)
{
    const FlowId flow = stack().Connect(Tcp(), nullptr);
    const std::vector<uint8_t> bytes(40000, 7);

    Log();
    stack().Send(flow, bytes.data(), bytes.size(), nullptr);

    const std::vector<Indication> seen = Seen();
    size_t sent = 0;

    ASSERT_EQ(seen[0].Name(), "stream send 40000");
    EXPECT_EQ(seen[0].lists, 3u);
    EXPECT_EQ(seen[0].data, bytes);
    for (size_t i = 1; i < seen.size(); ++i)
    {
        EXPECT_LE(seen[i].packet.size(), 1500u);
        sent += seen[i].packet.size() - 40;
    }
    EXPECT_EQ(sent, bytes.size());
}

} // namespace
} // namespace sim::net

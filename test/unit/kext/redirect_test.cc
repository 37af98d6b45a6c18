#include "kext_test.h"

#include "checksum.h"
#include "hold.h"
#include "redirect.h"

#include "support/commands.h"
#include "support/driver_test.h"

#include "net/ip_packet.h"
#include "nt/fault_injection.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <utility>

namespace kext_test
{
namespace
{

using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;

constexpr uint8_t kVerdicts[] = {VerdictRedirectNameServer, VerdictRedirectTunnel, VerdictRedirectSplitTunnel};

// The flow as it is at the resolver or tunnel.
Flow TargetOf(Flow flow, uint8_t verdict)
{
    const OPTIONS_WIRE options = Client::DefaultOptions();

    if (verdict == VerdictRedirectNameServer)
    {
        flow.local.address = {};
        flow.local.address[flow.family() == 4 ? 0 : 15] = flow.family() == 4 ? 127 : 1;
        flow.local.address[3] = flow.family() == 4 ? 1 : 0;
    }
    flow.remote.address = flow.local.address;
    flow.remote.port = verdict == VerdictRedirectNameServer ? options.DnsPort
                       : verdict == VerdictRedirectTunnel   ? options.TunnelPort
                                                            : options.SplitTunnelPort;
    return flow;
}

void Put(ByteVector *packet, size_t offset, std::initializer_list<uint8_t> bytes)
{
    std::copy(bytes.begin(), bytes.end(), packet->begin() + static_cast<ptrdiff_t>(offset));
}

// The same packet with 8 bytes of IPv4 options (timestamps that were not asked for), or of IPv6 destination options.
ByteVector WithOptions(ByteVector packet)
{
    const bool v6 = packet[0] >> 4 == 6;
    const size_t length = packet.size() + 8;

    if (v6)
    {
        const ByteVector options = {packet[6], 0, 1, 4, 0, 0, 0, 0};

        packet[6] = 60;
        packet.insert(packet.begin() + 40, options.begin(), options.end());
        Put(&packet, 4, {static_cast<uint8_t>((length - 40) >> 8), static_cast<uint8_t>(length - 40)});
        return packet;
    }
    const ByteVector options = {1, 1, 1, 1, 1, 1, 1, 0};

    packet[0] = 0x47;
    packet.insert(packet.begin() + 20, options.begin(), options.end());
    Put(&packet, 2, {static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
    EXPECT_EQ(ChecksumPacket(packet.data(), static_cast<UINT32>(packet.size())), STATUS_SUCCESS);
    return packet;
}

class RedirectTest : public DriverTest
{
  protected:
    // Their bytes; all were sent, as our own.
    std::vector<ByteVector> TakeSent()
    {
        std::vector<ByteVector> sent;

        for (Injected &injected : network_.TakeInjected())
        {
            EXPECT_EQ(injected.kind, Injection::kNetworkSend);
            EXPECT_EQ(injected.compartment, Network::kCompartment);
            EXPECT_TRUE(injected.decided_permit);
            EXPECT_TRUE(ChecksumsAreRight(injected.bytes));
            sent.push_back(std::move(injected.bytes));
        }
        return sent;
    }

    void SetOptions(const std::function<void(OPTIONS_WIRE *)> &change)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        change(&options);
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    UINT64 Remembered() { return RedirectTableCount(&context()->Redirects); }
};

// ---- Each verdict, protocol and family

class EachRedirectTest : public RedirectTest, public testing::WithParamInterface<std::tuple<uint8_t, Flow>>
{
  protected:
    uint8_t verdict() const { return std::get<0>(GetParam()); }
    Flow flow() const { return std::get<1>(GetParam()); }
    Flow target() const { return TargetOf(flow(), verdict()); }
};

INSTANTIATE_TEST_SUITE_P(AllKinds, EachRedirectTest,
                         testing::Combine(testing::ValuesIn(kVerdicts),
                                          testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6())));

TEST_P(EachRedirectTest, AnOutboundPacketGoesToTheTarget)
{
    Decide(flow(), verdict());
    const Statistics before = client_.GetStatistics();

    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target())));
    EXPECT_TRUE(client_.Read().empty());

    const Statistics after = client_.GetStatistics();
    EXPECT_EQ(after.PacketsRedirected, before.PacketsRedirected + 1);
    EXPECT_EQ(after.PacketsPermitted, before.PacketsPermitted + 1);
    EXPECT_EQ(after.PacketsBlocked, before.PacketsBlocked);
}

TEST_P(EachRedirectTest, TheAnswerComesAsFromTheRemoteEnd)
{
    Decide(flow(), verdict());
    network_.Outbound(MakePacket(flow()));
    TakeSent();

    EXPECT_TRUE(network_.Inbound(MakePacket(target(), true, Payload(33)), true).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(flow(), true, Payload(33))));
    EXPECT_TRUE(network_.Inbound(MakePacket(flow(), true), true).permitted()) << "arriving again";
    EXPECT_TRUE(client_.Read().empty());
}

TEST_P(EachRedirectTest, TheTargetsOwnPacketsAreNotAskedAbout)
{
    Decide(flow(), verdict());
    network_.Outbound(MakePacket(flow()));
    TakeSent();

    Flow seen_there = target();
    std::swap(seen_there.local, seen_there.remote);
    EXPECT_TRUE(network_.Inbound(MakePacket(seen_there, true), true).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(seen_there)).permitted());
    EXPECT_TRUE(client_.Read().empty());
}

TEST_P(EachRedirectTest, AHeldPacketIsRedirectedByItsVerdict)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    client_.Verdict(client_.ReadQuestion().id, verdict());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target())));

    EXPECT_TRUE(network_.Inbound(MakePacket(target(), true), true).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(flow(), true)));
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target()))) << "without a question";
    EXPECT_TRUE(client_.Read().empty());
}

TEST_P(EachRedirectTest, TheFirstPacketOfAPendedConnectIsRedirectedToo)
{
    const bool tcp = flow().protocol == PROTOCOL_TCP;
    const ByteVector packet = MakePacket(flow());
    const Network::Answer connect = network_.Connect(flow(), tcp ? nullptr : &packet, {});

    ASSERT_TRUE(connect.pended());
    client_.Verdict(client_.ReadQuestion().id, verdict());
    EXPECT_EQ(connect.completed(), 1);

    std::vector<ByteVector> sent = TakeSent();
    ASSERT_EQ(sent.size(), tcp ? 0u : 1u) << "a TCP connect has no packet";
    if (!tcp)
    {
        // Its IP header is the driver's.
        sim::net::IpPacketInfo info;
        const ByteVector expected = MakePacket(target());

        ASSERT_TRUE(sim::net::ParseIpPacket(sent[0].data(), sent[0].size(), &info));
        EXPECT_EQ(info.source, target().local.address);
        EXPECT_EQ(info.destination, target().remote.address);
        EXPECT_EQ(ByteVector(sent[0].begin() + info.ip_header_size, sent[0].end()),
                  ByteVector(expected.begin() + HeaderLength(expected), expected.end()));
    }
}

TEST_P(EachRedirectTest, APacketThatIsHeldDuringAReauthorizationIsRedirected)
{
    const ByteVector packet = MakePacket(flow());
    AleOptions ale;

    ale.reauthorize = true;
    EXPECT_TRUE(network_.Connect(flow(), &packet, ale).absorbed());
    client_.Verdict(client_.ReadQuestion().id, verdict());
    const std::vector<ByteVector> sent = TakeSent();
    sim::net::IpPacketInfo info;

    ASSERT_EQ(sent.size(), 1u);
    ASSERT_TRUE(sim::net::ParseIpPacket(sent[0].data(), sent[0].size(), &info));
    EXPECT_EQ(info.source, target().local.address);
    EXPECT_EQ(info.destination, target().remote.address);
    EXPECT_EQ(info.destination_port, target().remote.port);
    EXPECT_TRUE(network_.Connect(flow(), nullptr, ale).permitted());
}

TEST_P(EachRedirectTest, AReceivedPacketThatIsHeldDuringAReauthorizationIsDroppedAndNotSentToTheTarget)
{
    const ByteVector packet = MakePacket(flow(), true);
    AleOptions ale;

    ale.reauthorize = true;
    ale.packet_direction = FWP_DIRECTION_INBOUND;
    EXPECT_TRUE(network_.Connect(flow(), &packet, ale).absorbed());
    client_.Verdict(client_.ReadQuestion().id, verdict());
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_EQ(client_.GetStatistics().PacketsRedirected, 0u);

    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target()))) << "what is sent goes there";
}

TEST_P(EachRedirectTest, APacketWhoseBytesAreStillReadIsCopied)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    const uint64_t id = client_.ReadQuestion().id;
    HELD *const held = PacketCacheTake(&context()->Packets, id);
    const std::unique_ptr<INJECT_PACKET, decltype(&InjectDereference)> packet(held->Packet, &InjectDereference);

    InjectReference(packet.get());
    ASSERT_EQ(PacketCacheInsert(&context()->Packets, held), STATUS_SUCCESS);
    client_.Verdict(id, verdict());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target())));
    EXPECT_EQ(ByteVector(packet->Data, packet->Data + packet->Length), MakePacket(flow()));
}

TEST_P(EachRedirectTest, HeadersWithOptionsAreKept)
{
    Decide(flow(), verdict());
    EXPECT_TRUE(network_.Outbound(WithOptions(MakePacket(flow()))).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(WithOptions(MakePacket(target()))));
}

TEST_P(EachRedirectTest, HeadersInPiecesAreRedirected)
{
    Decide(flow(), verdict());
    for (size_t piece : {1u, 7u, 21u, 100u})
    {
        EXPECT_TRUE(network_.Outbound({{MakePacket(flow(), false, Payload(200))}}, piece).absorbed());
        EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target(), false, Payload(200)))) << piece;
        EXPECT_TRUE(network_.Inbound({{MakePacket(target(), true, Payload(200))}}, true, piece).absorbed());
        EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(flow(), true, Payload(200)))) << piece;
    }
}

TEST_P(EachRedirectTest, TheLargestPacketIsRedirected)
{
    const size_t headers = (flow().family() == 6 ? 0 : 20) + (flow().protocol == PROTOCOL_TCP ? 20 : 8);
    const ByteVector payload = Payload(65535 - headers);

    Decide(flow(), verdict());
    EXPECT_TRUE(network_.Outbound({{MakePacket(flow(), false, payload)}}, 4096).absorbed());
    EXPECT_EQ(TakeSent(), std::vector<ByteVector>{MakePacket(target(), false, payload)});
}

TEST_P(EachRedirectTest, WhatTheRemoteEndItselfSendsIsNotLetIn)
{
    Decide(flow(), verdict());
    EXPECT_TRUE(network_.Inbound(MakePacket(flow(), true)).absorbed());
    EXPECT_TRUE(TakeSent().empty());
    EXPECT_TRUE(client_.Read().empty());
}

TEST_P(EachRedirectTest, AnAnswerFromOutsideIsNotTheTargets)
{
    Decide(flow(), verdict());
    network_.Outbound(MakePacket(flow()));
    TakeSent();
    EXPECT_TRUE(network_.Inbound(MakePacket(target(), true)).permitted()) << "left to the ALE layer";
    EXPECT_TRUE(TakeSent().empty());
}

TEST_P(EachRedirectTest, AnInboundConnectionHasNothingToRedirect)
{
    const ByteVector packet = MakePacket(flow(), true);
    const Network::Answer accept = network_.Accept(flow(), &packet);

    ASSERT_TRUE(accept.pended());
    client_.Verdict(client_.ReadQuestion().id, verdict());
    EXPECT_EQ(accept.completed(), 1);
    ASSERT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_TRUE(network_.Inbound(packet).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).permitted());
}

TEST_P(EachRedirectTest, AfterItsEndWhatIsOnItsWayIsStillRedirected)
{
    Decide(flow(), verdict());
    network_.Outbound(MakePacket(flow()));
    network_.Close(flow());
    client_.Read();
    TakeSent();

    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target())));
    EXPECT_TRUE(network_.Inbound(MakePacket(target(), true), true).absorbed());
    EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(flow(), true)));
}

TEST_P(EachRedirectTest, AnotherVerdictEndsIt)
{
    Decide(flow(), verdict());
    network_.Outbound(MakePacket(flow()));
    TakeSent();

    client_.Write(UpdateBytes(flow(), VerdictPermanentAccept));
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).permitted());
    EXPECT_TRUE(network_.Inbound(MakePacket(flow(), true)).permitted());
    EXPECT_TRUE(network_.Inbound(MakePacket(target(), true), true).permitted()) << "left to the ALE layer";
    EXPECT_TRUE(TakeSent().empty());
}

TEST_P(EachRedirectTest, NothingIsLetThroughWhicheverAllocationFails)
{
    Decide(flow(), verdict());
    for (unsigned n = 0;; n++)
    {
        const Statistics before = client_.GetStatistics();

        network_.FailNth(n);
        EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
        const bool failed = network_.StopFailing() != 0;

        const size_t sent = TakeSent().size();
        EXPECT_EQ(sent, failed ? 0u : 1u);
        // One that the stack refused is tried once more.
        Advance(std::chrono::seconds(1));
        EXPECT_EQ(sent + TakeSent().size() + client_.GetStatistics().InjectFailures - before.InjectFailures, 1u);
        if (!failed)
        {
            ASSERT_GT(n, 2u);
            break;
        }
    }
}

TEST_P(EachRedirectTest, AVerdictThatFindsNoMemoryDropsThePacket)
{
    client_.StopObserving();
    EXPECT_TRUE(network_.Outbound(MakePacket(flow())).absorbed());
    const uint64_t id = client_.ReadQuestion().id;
    const Statistics before = client_.GetStatistics();

    machine_.faults().FailAll();
    EXPECT_TRUE(HoldApplyVerdict(context(), id, verdict()));
    machine_.faults().Stop();
    EXPECT_TRUE(TakeSent().empty());
    EXPECT_EQ(client_.GetStatistics().PacketsBlocked, before.PacketsBlocked + 1);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

// ---- Where to

TEST_F(RedirectTest, ThePortsAreOptions)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->DnsPort = 5300;
            options->TunnelPort = 5301;
            options->SplitTunnelPort = 5302;
        });
    uint16_t port = 5300;
    for (uint8_t verdict : kVerdicts)
    {
        Flow target = TargetOf(UdpV4(), verdict);

        target.remote.port = port++;
        Decide(UdpV4(), verdict);
        network_.Outbound(MakePacket(UdpV4()));
        EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(target)));
        EXPECT_TRUE(network_.Inbound(MakePacket(target, true), true).absorbed());
        EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(UdpV4(), true)));
        client_.Command(CommandClearCache);
    }
}

TEST_F(RedirectTest, APacketOfAProtocolWithoutPortsIsDroppedAndSaidSo)
{
    Flow flow;
    flow.protocol = PROTOCOL_ICMP;

    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictRedirectTunnel);
    EXPECT_TRUE(TakeSent().empty());
    EXPECT_THAT(client_.GetLogs(), ElementsAre(testing::HasSubstr("cannot be redirected")));
}

TEST_F(RedirectTest, APacketWithFurtherStopsOnItsWayIsDropped)
{
    ByteVector packet = WithOptions(MakePacket(UdpV6()));

    packet[6] = 43;
    packet[43] = 1;
    packet[42] = 0;
    Decide(UdpV6(), VerdictRedirectNameServer);
    EXPECT_TRUE(network_.Outbound(packet).absorbed());
    EXPECT_TRUE(TakeSent().empty());
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 1u);
}

TEST_F(RedirectTest, InAChainEachPacketGoesItsWay)
{
    Flow redirected = UdpV4();
    Flow permitted = UdpV4();
    Flow blocked = UdpV4();

    permitted.local.port++;
    blocked.local.port += 2;
    Decide(redirected, VerdictRedirectNameServer);
    Decide(permitted, VerdictPermanentAccept);
    Decide(blocked, VerdictPermanentBlock);
    EXPECT_TRUE(network_
                    .Outbound({{MakePacket(permitted), MakePacket(redirected)},
                               {MakePacket(blocked)},
                               {MakePacket(redirected), MakePacket(permitted)}})
                    .absorbed());
    const ByteVector sent = MakePacket(TargetOf(redirected, VerdictRedirectNameServer));
    EXPECT_THAT(TakeSent(), testing::UnorderedElementsAre(MakePacket(permitted), sent, sent, MakePacket(permitted)));
}

// ---- Whose answers they are

TEST_F(RedirectTest, TheAnswersGoToTheConnectionOfThePortThatSentLast)
{
    Flow first = UdpV4();
    Flow second = UdpV4();
    const Flow target = TargetOf(first, VerdictRedirectNameServer);

    second.remote = V4(203, 0, 113, 9, 53);
    for (const Flow &flow : {first, second})
    {
        Decide(flow, VerdictRedirectNameServer);
    }
    for (const Flow &flow : {first, second, first})
    {
        network_.Outbound(MakePacket(flow));
        TakeSent();
        network_.Inbound(MakePacket(target, true), true);
        EXPECT_THAT(TakeSent(), ElementsAre(MakePacket(flow, true)));
    }
    EXPECT_EQ(Remembered(), 1u);
}

TEST_F(RedirectTest, APortsOwnConnectionToTheResolverIsNotMistakenForARedirectedOne)
{
    const Flow direct = TargetOf(UdpV4(), VerdictRedirectNameServer);

    Decide(UdpV4(), VerdictRedirectNameServer);
    network_.Outbound(MakePacket(UdpV4()));
    TakeSent();
    Decide(direct, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Inbound(MakePacket(direct, true), true).permitted());
    EXPECT_TRUE(TakeSent().empty());
}

TEST_F(RedirectTest, AnAnswerThatNobodyAskedForIsLeftToTheAleLayer)
{
    for (uint8_t verdict : kVerdicts)
    {
        EXPECT_TRUE(network_.Inbound(MakePacket(TargetOf(UdpV4(), verdict), true), true).permitted());
    }
    EXPECT_TRUE(TakeSent().empty());
}

TEST_F(RedirectTest, ItIsForgottenWithItsConnections)
{
    const auto redirect = [this]
    {
        Decide(UdpV4(), VerdictRedirectTunnel);
        network_.Outbound(MakePacket(UdpV4()));
        TakeSent();
        EXPECT_EQ(Remembered(), 1u);
    };

    redirect();
    client_.Command(CommandClearCache);
    EXPECT_EQ(Remembered(), 0u);
    redirect();
    client_.Command(CommandShutdown);
    EXPECT_EQ(Remembered(), 0u);
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    redirect();
    client_.Close();
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(RedirectTest, ItIsForgottenAfterTenIdleMinutesAndNotWhileItIsUsed)
{
    const Flow target = TargetOf(UdpV4(), VerdictRedirectTunnel);

    Decide(UdpV4(), VerdictRedirectTunnel);
    network_.Outbound(MakePacket(UdpV4()));
    for (int i = 0; i < 3; i++)
    {
        Advance(minutes(9));
        client_.Command(CommandCleanEndedConnections);
        network_.Inbound(MakePacket(target, true), true);
        EXPECT_EQ(TakeSent().size(), i == 0 ? 2u : 1u);
    }
    Advance(minutes(10) + seconds(2));
    client_.Command(CommandCleanEndedConnections);
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(RedirectTest, MemoryStatsTellItsEntries)
{
    SetOptions([](OPTIONS_WIRE *options) { options->LogLevel = LogSeverityInfo; });
    Decide(UdpV4(), VerdictRedirectTunnel);
    network_.Outbound(MakePacket(UdpV4()));
    TakeSent();
    client_.Command(CommandPrintMemoryStats);
    EXPECT_THAT(client_.GetLogs(), testing::Contains(testing::HasSubstr("redirects: 1 entries")));
}

// ---- Fragments

class RedirectFragmentTest : public RedirectTest, public testing::WithParamInterface<Flow>
{
  protected:
    static constexpr size_t kPiece = 1000;

    // The three fragments of a packet.
    static std::vector<ByteVector> Split(const ByteVector &packet)
    {
        std::vector<ByteVector> fragments;

        for (size_t start = 0; start < 3 * kPiece; start += kPiece)
        {
            fragments.push_back(Fragment(packet, start, kPiece));
        }
        return fragments;
    }

    Flow flow() const { return GetParam(); }
    Flow target() const { return TargetOf(flow(), VerdictRedirectNameServer); }
    ByteVector Whole(const Flow &of, bool inbound = false) const { return MakePacket(of, inbound, Payload(2500)); }
};

INSTANTIATE_TEST_SUITE_P(EachKind, RedirectFragmentTest, testing::Values(UdpV4(), UdpV6(), Flow{}, TcpV6()));

TEST_P(RedirectFragmentTest, EachFragmentGoesToTheTarget)
{
    Decide(flow(), VerdictRedirectNameServer);
    for (const ByteVector &fragment : Split(Whole(flow())))
    {
        EXPECT_TRUE(network_.Outbound(fragment).absorbed());
    }
    EXPECT_EQ(TakeSent(), Split(Whole(target())));
}

TEST_P(RedirectFragmentTest, ThoseThatCameBeforeTheFirstOneGoToTheTargetToo)
{
    const std::vector<ByteVector> fragments = Split(Whole(flow()));
    const std::vector<ByteVector> expected = Split(Whole(target()));

    Decide(flow(), VerdictRedirectNameServer);
    for (size_t i : {2, 1, 0})
    {
        EXPECT_TRUE(network_.Outbound(fragments[i]).absorbed());
    }
    EXPECT_THAT(TakeSent(), ElementsAre(expected[0], expected[2], expected[1]));
}

TEST_P(RedirectFragmentTest, ThoseThatWaitedForTheVerdictGoToTheTarget)
{
    for (const ByteVector &fragment : Split(Whole(flow())))
    {
        EXPECT_TRUE(network_.Outbound(fragment).absorbed());
    }
    client_.Verdict(client_.ReadQuestion().id, VerdictRedirectNameServer);
    EXPECT_EQ(TakeSent(), Split(Whole(target())));
}

TEST_P(RedirectFragmentTest, AnAnswersFragmentsComeAsFromTheRemoteEnd)
{
    Decide(flow(), VerdictRedirectNameServer);
    network_.Outbound(MakePacket(flow()));
    TakeSent();
    for (const ByteVector &fragment : Split(Whole(target(), true)))
    {
        EXPECT_TRUE(network_.Inbound(fragment, true).absorbed());
    }
    EXPECT_EQ(TakeSent(), Split(Whole(flow(), true)));
}

// ---- Rewriting

CONNECTION_KEY KeyOf(const Flow &flow)
{
    CONNECTION_KEY key{};

    std::copy(flow.local.address.begin(), flow.local.address.end(), key.LocalAddress);
    std::copy(flow.remote.address.begin(), flow.remote.address.end(), key.RemoteAddress);
    key.LocalPort = flow.local.port;
    key.RemotePort = flow.remote.port;
    key.Protocol = flow.protocol;
    key.IpVersion = flow.family();
    return key;
}

TEST(RedirectRewriteTest, ChecksumsStayRightWhateverTheAddressesPortsAndPayload)
{
    std::mt19937 random(1);
    const auto endpoint = [&random](uint8_t family)
    {
        Endpoint made = family == 4 ? V4(0, 0, 0, 0, 0) : V6(0, 0);

        std::generate_n(made.address.begin(), family == 4 ? 4 : 16,
                        [&random] { return static_cast<uint8_t>(random()); });
        made.port = static_cast<uint16_t>(random());
        return made;
    };

    for (int i = 0; i < 4000; i++)
    {
        const uint8_t family = i % 2 == 0 ? 4 : 6;
        const uint8_t protocol = i % 4 < 2 ? PROTOCOL_TCP : PROTOCOL_UDP;
        const Flow from{protocol, endpoint(family), endpoint(family), 0};
        const Flow to{protocol, endpoint(family), endpoint(family), 0};
        const uint8_t direction = random() % 2 == 0 ? DirectionOutbound : DirectionInbound;
        const ByteVector payload = Payload(random() % 64);
        const CONNECTION_KEY key = KeyOf(to);
        ByteVector packet = MakePacket(from, direction == DirectionInbound, payload);

        ASSERT_EQ(RedirectRewrite(packet.data(), static_cast<UINT32>(packet.size()), &key, direction), STATUS_SUCCESS);
        ASSERT_TRUE(ChecksumsAreRight(packet)) << i;
        ASSERT_EQ(packet, MakePacket(to, direction == DirectionInbound, payload)) << i;
    }
}

TEST(RedirectRewriteTest, AUdpChecksumThatWasNotComputedIsStillNone)
{
    const CONNECTION_KEY key = KeyOf(TargetOf(UdpV4(), VerdictRedirectNameServer));
    ByteVector packet = MakePacket(UdpV4());

    Put(&packet, 26, {0, 0});
    ASSERT_EQ(RedirectRewrite(packet.data(), static_cast<UINT32>(packet.size()), &key, DirectionOutbound),
              STATUS_SUCCESS);
    EXPECT_EQ(packet[26], 0);
    EXPECT_EQ(packet[27], 0);
    EXPECT_TRUE(ChecksumsAreRight(packet)) << "of the IP header";
}

// There it would make the receiver drop the datagram (RFC 8200 section 8.1). Both zeros are the same in the sum.
TEST(RedirectRewriteTest, AFirstFragmentsUdpChecksumIsNeverNoneOverIpv6)
{
    const CONNECTION_KEY key = KeyOf(TargetOf(UdpV6(), VerdictRedirectNameServer));
    ByteVector fragment = Fragment(MakePacket(UdpV6(), false, Payload(40)), 0, 24);
    ByteVector all_ones = fragment;
    const size_t checksum = HeaderLength(fragment) + 6;

    Put(&fragment, checksum, {0, 0});
    Put(&all_ones, checksum, {0xFF, 0xFF});
    for (ByteVector *packet : {&fragment, &all_ones})
    {
        ASSERT_EQ(RedirectRewrite(packet->data(), static_cast<UINT32>(packet->size()), &key, DirectionOutbound),
                  STATUS_SUCCESS);
    }
    EXPECT_FALSE(fragment[checksum] == 0 && fragment[checksum + 1] == 0);
    EXPECT_EQ(fragment, all_ones);
}

// Of the 65536 values of a payload's word one makes the sum zero.
TEST(RedirectRewriteTest, AUdpChecksumThatBecomesZeroIsSentAsAllOnes)
{
    for (const Flow &flow : {UdpV4(), UdpV6()})
    {
        const CONNECTION_KEY key = KeyOf(TargetOf(flow, VerdictRedirectNameServer));
        const size_t checksum = HeaderLength(MakePacket(flow)) + 6;
        int all_ones = 0;

        for (int word = 0; word < 0x10000; word++)
        {
            ByteVector packet = MakePacket(flow, false, {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)});

            ASSERT_EQ(RedirectRewrite(packet.data(), static_cast<UINT32>(packet.size()), &key, DirectionOutbound),
                      STATUS_SUCCESS);
            ASSERT_FALSE(packet[checksum] == 0 && packet[checksum + 1] == 0);
            all_ones += packet[checksum] == 0xFF && packet[checksum + 1] == 0xFF;
        }
        EXPECT_EQ(all_ones, 1);
    }
}

TEST(RedirectRewriteTest, WhatItRefusesIsUnchanged)
{
    const CONNECTION_KEY key = KeyOf(TargetOf(UdpV4(), VerdictRedirectNameServer));
    const ByteVector whole = MakePacket(UdpV4());
    std::vector<ByteVector> refused = {MakePacket(UdpV6())};

    for (size_t length = 0; length < whole.size(); length++)
    {
        refused.emplace_back(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
    }
    for (const ByteVector &packet : refused)
    {
        ByteVector written = packet;

        EXPECT_EQ(RedirectRewrite(written.data(), static_cast<UINT32>(written.size()), &key, DirectionOutbound),
                  STATUS_INVALID_PARAMETER);
        EXPECT_EQ(written, packet);
    }
}

// ---- The table

class RedirectTableTest : public KextTest
{
  protected:
    static constexpr uint64_t kMaxEntries = 5000;

    RedirectTableTest() { EXPECT_EQ(RedirectTableInitialize(&table_, &memory_, &clock_, kMaxEntries), STATUS_SUCCESS); }
    ~RedirectTableTest() override { RedirectTableUninitialize(&table_); }

    static CONNECTION_KEY Key(uint32_t n)
    {
        Flow flow = UdpV4();

        flow.local = V4(10, 0, static_cast<uint8_t>(n >> 24), static_cast<uint8_t>(n >> 16), static_cast<uint16_t>(n));
        return KeyOf(flow);
    }

    REDIRECT_TABLE table_;
};

TEST_F(RedirectTableTest, EachTargetHasItsOwnOriginal)
{
    CONNECTION_KEY target;
    CONNECTION_KEY original;
    CONNECTION_KEY found;

    for (uint32_t n = 0; n < kMaxEntries; n++)
    {
        target = Key(n);
        original = Key(n + 100'000);
        ASSERT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS);
    }
    for (uint32_t n = 0; n < kMaxEntries; n++)
    {
        target = Key(n);
        original = Key(n + 100'000);
        ASSERT_TRUE(RedirectTableFind(&table_, &target, &found));
        ASSERT_TRUE(ConnectionKeysEqual(&found, &original));
    }
    target = Key(kMaxEntries);
    EXPECT_FALSE(RedirectTableFind(&table_, &target, &found));
    EXPECT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_QUOTA_EXCEEDED);
    target = Key(0);
    EXPECT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS) << "which is known";
    EXPECT_EQ(RedirectTableCount(&table_), kMaxEntries);
}

TEST_F(RedirectTableTest, AKnownTargetTakesNoMemory)
{
    const CONNECTION_KEY target = Key(1);
    CONNECTION_KEY original = Key(2);

    ASSERT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS);
    machine_.faults().FailAll();
    EXPECT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS);
    original = Key(3);
    EXPECT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS);
    const CONNECTION_KEY other = Key(4);
    EXPECT_EQ(RedirectTableNote(&table_, &other, &original), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    EXPECT_EQ(RedirectTableCount(&table_), 1u);
}

TEST_F(RedirectTableTest, TimeMayWrapAround)
{
    const CONNECTION_KEY target = Key(1);
    const CONNECTION_KEY original = Key(2);

    // Seconds are kept in 32 bits: signed ones end half way.
    for (const uint64_t end : {uint64_t{1} << 31, uint64_t{1} << 32})
    {
        machine_.clock().Advance(seconds(end - 5) - std::chrono::nanoseconds(100 * KeQueryInterruptTime()));
        ASSERT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS);
        machine_.clock().Advance(seconds(600));
        EXPECT_EQ(RedirectTableClean(&table_, nullptr), 0u);
        machine_.clock().Advance(seconds(2));
        EXPECT_EQ(RedirectTableClean(&table_, nullptr), 1u);
    }
}

TEST_F(RedirectTableTest, ManyProcessorsMayUseItAtOnce)
{
    constexpr int kThreads = 4;
    std::vector<std::thread> threads;

    for (int t = 0; t < kThreads; t++)
    {
        threads.emplace_back(
            [this, t]
            {
                const sim::Machine::Scope scope(machine_);

                for (uint32_t n = 0; n < 20'000; n++)
                {
                    const CONNECTION_KEY target = Key(n % 97);
                    const CONNECTION_KEY original = Key(1000 + n % 97);
                    CONNECTION_KEY found;

                    EXPECT_EQ(RedirectTableNote(&table_, &target, &original), STATUS_SUCCESS);
                    if (RedirectTableFind(&table_, &target, &found))
                    {
                        EXPECT_TRUE(ConnectionKeysEqual(&found, &original));
                    }
                    if (n % 1000 == 0 && t == 0)
                    {
                        RedirectTableClear(&table_);
                    }
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    RedirectTableClear(&table_);
    EXPECT_EQ(RedirectTableCount(&table_), 0u);
}

} // namespace
} // namespace kext_test

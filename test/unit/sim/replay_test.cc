// Captures are replayed through the network stack.

#include "capture_writer.h"
#include "net_fixture.h"

#include "sources/pcap_file.h"
#include "sources/replay.h"

#include <atomic>
#include <thread>

namespace sim::sources
{
namespace
{

using net::Decision;
using net::Direction;
using net::Indication;
using net::kTcpAck;
using net::kTcpFin;
using net::kTcpRst;
using net::kTcpSyn;
using net::LayerKind;
using testing::ElementsAre;
using testing::HasSubstr;

const Station kHost = StationOf(1);
const Station kPeer = StationOf(2);
const net::Endpoint kLocal = V4(10, 0, 0, 1, 50000);
const net::Endpoint kRemote = V4(192, 0, 2, 9, 80);

constexpr char kInboundFragments[] = SOURCE_ROOT "/test/captures/inbound-fragments.pcap";
const Prefix kReceiver = {4, {192, 0, 2, 10}, 32};

class ReplayTest : public net::NetTest
{
  protected:
    using NetTest::NetTest;

    ReplaySummary Play(const Bytes &capture, std::vector<Prefix> local = {})
    {
        const TemporaryFile file(capture);

        return PlayFile(file.path(), std::move(local));
    }

    ReplaySummary PlayFile(const std::string &path, std::vector<Prefix> local = {})
    {
        Replay replay(machine, {path, std::move(local), 0, {}});

        replay.Run(nullptr);
        return replay.summary();
    }

    // A frame of a packet, from the host or to it.
    static Bytes Sent(const Bytes &packet) { return EthernetFrame(kPeer, kHost, packet); }
    static Bytes Received(const Bytes &packet) { return EthernetFrame(kHost, kPeer, packet); }

    // A connection that the host begins, with a request and a reply.
    static void AddConnection(Capture *capture, const net::Endpoint &local = kLocal, uint32_t sequence = 1000)
    {
        const uint32_t reply = 7000;

        capture->Add(Sent(TcpPacket(local, kRemote, sequence, 0, kTcpSyn)));
        capture->Add(Received(TcpPacket(kRemote, local, reply, sequence + 1, kTcpSyn | kTcpAck)));
        capture->Add(Sent(TcpPacket(local, kRemote, sequence + 1, reply + 1, kTcpAck)));
        capture->Add(Sent(TcpPacket(local, kRemote, sequence + 1, reply + 1, kTcpAck, {'G', 'E', 'T'})));
        capture->Add(Received(TcpPacket(kRemote, local, reply + 1, sequence + 4, kTcpAck, {'O', 'K'})));
        capture->Add(Sent(TcpPacket(local, kRemote, sequence + 4, reply + 3, kTcpFin | kTcpAck)));
        capture->Add(Received(TcpPacket(kRemote, local, reply + 3, sequence + 5, kTcpFin | kTcpAck)));
        capture->Add(Sent(TcpPacket(local, kRemote, sequence + 5, reply + 4, kTcpAck)));
    }

    static uint64_t Decided(const ReplaySummary &summary)
    {
        return summary.packets_permitted + summary.packets_blocked + summary.packets_dropped + summary.packets_pending +
               summary.packets_redirected + summary.packets_withheld;
    }
};

TEST_F(ReplayTest, AConnectionGoesThroughTheLayersInOrder)
{
    Capture capture;

    AddConnection(&capture);

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "in SA", "out A", "stream send 3", "out A 3", "in A 2",
                                   "stream receive 2", "stream send end", "out FA", "in FA", "stream receive end",
                                   "out A", "closure", "release"));
    EXPECT_EQ(summary.frames, 8u);
    EXPECT_EQ(summary.ip_packets, 8u);
    EXPECT_EQ(summary.tcp_conversations, 1u);
    EXPECT_EQ(summary.conversations_permitted, 1u);
    EXPECT_EQ(summary.packets_permitted, 8u);
    EXPECT_EQ(summary.tcp_sent[0], 3u);
    EXPECT_EQ(summary.tcp_received[0], 2u);
    EXPECT_TRUE(summary.local_inferred);
    ASSERT_EQ(summary.local_addresses.size(), 1u);
    EXPECT_EQ(summary.local_addresses[0].address, kLocal.address);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, HostTrafficHasTheCapturedAmounts)
{
    const ReplaySummary summary = PlayFile(SOURCE_ROOT "/captures/host-traffic.pcap");

    EXPECT_EQ(summary.frames, 2076u);
    EXPECT_EQ(summary.non_ip_frames, 2u);
    EXPECT_EQ(summary.foreign_frames, 0u);
    EXPECT_EQ(summary.malformed_frames, 0u);
    EXPECT_EQ(summary.ip_packets, 2074u);
    EXPECT_EQ(summary.fragments, 24u);
    EXPECT_EQ(summary.tcp_conversations, 51u);
    EXPECT_EQ(summary.udp_conversations, 7u);
    EXPECT_EQ(summary.tcp_sent[0], 5245u);
    EXPECT_EQ(summary.tcp_sent[1], 300285u);
    EXPECT_EQ(summary.tcp_received[0], 613498u);
    EXPECT_EQ(summary.tcp_received[1], 300290u);
    EXPECT_EQ(summary.udp_sent[0], 250154u);
    EXPECT_EQ(summary.udp_sent[1], 150u);
    EXPECT_EQ(summary.udp_received[0], 166u);
    EXPECT_EQ(summary.udp_received[1], 198u);
    EXPECT_EQ(summary.stream_gaps, 0u);
    EXPECT_EQ(summary.conversations_permitted, 58u);
    EXPECT_EQ(summary.packets_permitted, 2074u);
    EXPECT_THAT(summary.warning, "");
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, HostTrafficBelongsToTheHostThatBeginsItsConnections)
{
    const ReplaySummary summary = PlayFile(SOURCE_ROOT "/captures/host-traffic.pcap");
    const net::Address v4 = {10, 77, 0, 2};
    const net::Address v6 = {0xFD, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};

    EXPECT_THAT(summary.local_addresses, testing::Contains(testing::Field(&net::Endpoint::address, v4)));
    EXPECT_THAT(summary.local_addresses, testing::Contains(testing::Field(&net::Endpoint::address, v6)));
    for (const net::Endpoint &address : summary.local_addresses)
    {
        EXPECT_NE(address.address, (net::Address{10, 77, 0, 1}));
    }
}

TEST_F(ReplayTest, EveryPacketIsOfferedOnceAndNonePassesWhenItsConnectionIsBlocked)
{
    for (const Decision decision : {Decision::kBlock, Decision::kDrop})
    {
        uint64_t let_through = 0;

        Decide({LayerKind::kConnect, LayerKind::kAccept}, decision);
        stack().SetWire(
            [&let_through](Direction, const uint8_t *packet, size_t length)
            {
                net::IpPacketInfo info;
                net::ParseIpPacket(packet, length, &info);
                let_through += info.protocol == net::kProtocolTcp || info.protocol == net::kProtocolUdp ? 1 : 0;
            });

        const ReplaySummary summary = PlayFile(SOURCE_ROOT "/captures/host-traffic.pcap");
        uint64_t offered = 0;
        uint64_t offered_again = 0;

        for (const Indication &seen : Seen())
        {
            const bool packet = seen.layer == LayerKind::kInPacket || seen.layer == LayerKind::kOutPacket;
            const bool again =
                packet && (seen.flags & (FWP_CONDITION_FLAG_IS_FRAGMENT | FWP_CONDITION_FLAG_IS_REASSEMBLED)) != 0;

            offered += packet && !again ? 1 : 0;
            offered_again += again ? 1 : 0;
            EXPECT_NE(seen.layer, LayerKind::kStream);
            EXPECT_NE(seen.layer, LayerKind::kDatagram);
        }
        EXPECT_EQ(offered, 2074u);
        EXPECT_EQ(offered_again, 12u + 4u) << "inbound fragments, and what they make";
        EXPECT_EQ(let_through, 0u);
        EXPECT_EQ(Decided(summary), 2074u);
        EXPECT_EQ(summary.conversations_blocked + summary.conversations_dropped, 58u);
        EXPECT_EQ(decision == Decision::kBlock ? summary.conversations_blocked : summary.conversations_dropped, 58u);
    }
}

TEST_F(ReplayTest, PacketsWaitBehindTheHeldOnesOfTheirConversation)
{
    Capture capture;

    AddConnection(&capture);
    capture.Add(Sent(UdpPacket(kLocal, V4(192, 0, 2, 53, 53), {1})));
    Decide({LayerKind::kConnect}, Decision::kPend);

    const TemporaryFile file(capture.bytes());
    Replay replay(machine, {file.path(), {}, 0, {}});
    std::thread player([&replay] { replay.Run(nullptr); });

    while (held_count() != 2)
    {
        std::this_thread::yield();
    }
    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "assign", "connect"));
    Decide({}, Decision::kPermit);
    AllowAll();
    player.join();
    EXPECT_EQ(replay.summary().packets_permitted, 9u);
    EXPECT_EQ(replay.summary().tcp_sent[0], 3u);
}

TEST_F(ReplayTest, StopEndsTheLiveConversations)
{
    Capture capture;

    AddConnection(&capture);
    Decide({LayerKind::kConnect}, Decision::kPend);

    const TemporaryFile file(capture.bytes());
    Replay replay(machine, {file.path(), {}, 0, {}});
    std::thread player([&replay] { replay.Run(nullptr); });

    while (held_count() != 1)
    {
        std::this_thread::yield();
    }
    replay.Stop();
    player.join();
    EXPECT_TRUE(replay.summary().stopped);
    EXPECT_EQ(stack().counters().flows_now, 1u); // the pended operation keeps the flow
    AllowAll();
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, ADatagramThatComesOnlyInFragmentsIsAuthorizedWithItsPorts)
{
    const ReplaySummary summary = PlayFile(kInboundFragments, {kReceiver});
    const std::vector<Indication> seen = Seen();
    const auto accept =
        std::find_if(seen.begin(), seen.end(), [](const Indication &each) { return each.layer == LayerKind::kAccept; });

    ASSERT_NE(accept, seen.end());
    EXPECT_TRUE(net::SameEndpoint(accept->local, V4(192, 0, 2, 10, 5001)));
    EXPECT_TRUE(net::SameEndpoint(accept->remote, V4(198, 51, 100, 7, 5000)));
    EXPECT_NE(accept->metadata.processId, 0u);
    EXPECT_EQ(std::count_if(seen.begin(), seen.end(),
                            [](const Indication &each) { return each.layer == LayerKind::kDatagram; }),
              10);
    EXPECT_EQ(summary.udp_conversations, 1u);
    EXPECT_EQ(summary.conversations_permitted, 1u);
    EXPECT_EQ(summary.udp_received[0], 28000u);
    EXPECT_EQ(Decided(summary), 20u);
}

TEST_F(ReplayTest, NothingOfARefusedDatagramInFragmentsIsDelivered)
{
    uint64_t delivered = 0;

    Decide({LayerKind::kAccept}, Decision::kBlock);
    stack().SetWire([&delivered](Direction, const uint8_t *, size_t) { ++delivered; });

    const ReplaySummary summary = PlayFile(kInboundFragments, {kReceiver});

    EXPECT_EQ(delivered, 0u);
    EXPECT_EQ(summary.conversations_blocked, 1u);
    EXPECT_EQ(summary.udp_received[0], 0u);
    EXPECT_EQ(Decided(summary), 20u);
}

TEST_F(ReplayTest, ADatagramThatIsSentInFragmentsIsAuthorizedAndCountedWhole)
{
    Capture capture;
    const Bytes whole = UdpPacket(kLocal, V4(192, 0, 2, 53, 5000), Bytes(2800, 'x'));
    const auto piece = [&whole](size_t at, size_t length, bool more)
    {
        Bytes fragment(whole.begin(), whole.begin() + 20);

        fragment.insert(fragment.end(), whole.begin() + static_cast<ptrdiff_t>(20 + at),
                        whole.begin() + static_cast<ptrdiff_t>(20 + at + length));
        StoreBig16(fragment.data() + 2, static_cast<uint16_t>(fragment.size()));
        StoreBig16(fragment.data() + 6, static_cast<uint16_t>(at / 8 | (more ? 0x2000 : 0)));
        return fragment;
    };

    capture.Add(Sent(piece(0, 1480, true)));
    capture.Add(Sent(piece(1480, 1328, false)));

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out fragment", "out fragment", "datagram send 2808",
                                   "closure of socket", "release"));
    EXPECT_EQ(summary.udp_conversations, 1u);
    EXPECT_EQ(summary.udp_sent[0], 2800u);
    EXPECT_EQ(Decided(summary), 2u);
}

TEST_F(ReplayTest, TheFragmentsOfABlockedSendAreStillOffered)
{
    Capture capture;
    Bytes fragment = UdpPacket(kLocal, V4(192, 0, 2, 53, 5000), Bytes(100, 'x'));

    fragment[6] = 0x20;
    capture.Add(Sent(fragment));
    Decide({LayerKind::kConnect}, Decision::kBlock);

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out fragment", "closure of socket", "release"));
    EXPECT_EQ(summary.packets_withheld, 1u);
    EXPECT_EQ(summary.udp_sent[0], 0u);
}

TEST_F(ReplayTest, FramesOfOtherHostsAreNotReplayed)
{
    Capture capture;

    AddConnection(&capture);
    capture.Add(EthernetFrame(StationOf(3), StationOf(4), UdpPacket(V4(10, 0, 0, 3, 1), V4(10, 0, 0, 4, 2), {1})));
    capture.Add(EthernetFrame(kHost, kPeer, Bytes(28), 0x0806));
    capture.Add(EthernetFrame(kHost, kPeer, {0x45, 0}));

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_EQ(summary.frames, 11u);
    EXPECT_EQ(summary.ip_packets, 8u);
    EXPECT_EQ(summary.foreign_frames, 1u);
    EXPECT_EQ(summary.non_ip_frames, 1u);
    EXPECT_EQ(summary.malformed_frames, 1u);
}

TEST_F(ReplayTest, GivenPrefixesDecideWhichHostIsLocal)
{
    Capture capture;
    Prefix prefix;

    AddConnection(&capture);
    prefix.address = kRemote.address;
    prefix.length = 24;

    const ReplaySummary summary = Play(capture.bytes(), {prefix});

    EXPECT_FALSE(summary.local_inferred);
    EXPECT_THAT(Log(), ElementsAre("assign", "in S", "accept", "out SA", "in A", "in A 3", "stream receive 3",
                                   "stream send 2", "out A 2", "in FA", "stream receive end", "stream send end",
                                   "out FA", "in A", "closure", "closure of socket", "release"));
}

TEST_F(ReplayTest, ARouterIsNotTheHost)
{
    Capture capture;

    // The host is a server: all clients connect through the router.
    for (uint8_t i = 0; i < 40; ++i)
    {
        const net::Endpoint client = V4(198, 51, 100, i, 40000);

        capture.Add(Received(TcpPacket(client, V4(10, 0, 0, 1, 80), 1, 0, kTcpSyn)));
        capture.Add(Sent(TcpPacket(V4(10, 0, 0, 1, 80), client, 1, 2, kTcpSyn | kTcpAck)));
    }

    const ReplaySummary summary = Play(capture.bytes());

    ASSERT_EQ(summary.local_addresses.size(), 1u);
    EXPECT_EQ(summary.local_addresses[0].address, kLocal.address);
}

TEST_F(ReplayTest, RawCapturesBelongToTheAddressInMostPackets)
{
    Capture capture(101);

    for (uint8_t i = 0; i < 4; ++i)
    {
        capture.Add(UdpPacket(V6(1, 40000), V6(static_cast<uint8_t>(10 + i), 53), {1}));
        capture.Add(UdpPacket(V6(static_cast<uint8_t>(10 + i), 53), V6(1, 40000), {2, 2}));
    }

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_EQ(summary.udp_sent[1], 4u);
    EXPECT_EQ(summary.udp_received[1], 8u);
    EXPECT_EQ(summary.udp_conversations, 4u);
}

TEST_F(ReplayTest, ConversationsOfAUdpPortShareASocket)
{
    Capture capture;

    capture.Add(Sent(UdpPacket(kLocal, V4(192, 0, 2, 1, 53), {1})));
    capture.Add(Sent(UdpPacket(kLocal, V4(192, 0, 2, 2, 53), {1, 2})));
    capture.Add(Received(UdpPacket(V4(192, 0, 2, 1, 53), kLocal, {1, 2, 3})));

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 9", "out udp 1", "connect", "datagram send 10",
                                   "out udp 2", "in udp 3", "datagram receive 3", "closure of socket", "release"));
    EXPECT_EQ(summary.udp_conversations, 2u);
}

TEST_F(ReplayTest, AReusedPortIsANewConnection)
{
    Capture capture;

    AddConnection(&capture, kLocal, 1000);
    AddConnection(&capture, kLocal, 90000);
    // The end of the next connection is not in the capture.
    capture.Add(Sent(TcpPacket(kLocal, kRemote, 500000, 0, kTcpSyn)));
    capture.Add(Sent(TcpPacket(kLocal, kRemote, 500000, 0, kTcpSyn))); // sent again
    capture.Add(Sent(TcpPacket(kLocal, kRemote, 900000, 0, kTcpSyn)));

    const ReplaySummary summary = Play(capture.bytes());
    const std::vector<std::string> log = Log();

    EXPECT_EQ(summary.tcp_conversations, 4u);
    EXPECT_EQ(std::count(log.begin(), log.end(), "connect"), 4);
    EXPECT_EQ(std::count(log.begin(), log.end(), "closure"), 4);
    EXPECT_EQ(std::count(log.begin(), log.end(), "release"), 4);
    EXPECT_EQ(summary.tcp_sent[0], 6u);
}

TEST_F(ReplayTest, AResetEndsAConnectionAndLaterPacketsBelongToNone)
{
    Capture capture;

    capture.Add(Sent(TcpPacket(kLocal, kRemote, 1000, 0, kTcpSyn)));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 0, 1001, kTcpRst | kTcpAck)));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 0, 1001, kTcpRst | kTcpAck)));

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out S", "in RA", "closure", "release", "in RA"));
    EXPECT_EQ(summary.tcp_conversations, 1u);
    EXPECT_EQ(summary.packets_permitted, 3u);
}

TEST_F(ReplayTest, AConversationThatBeganBeforeTheCaptureIsOneConversation)
{
    Capture capture;
    const net::Endpoint server = V4(10, 0, 0, 1, 22);
    const net::Endpoint client = V4(192, 0, 2, 9, 40000);
    const net::Endpoint high = V4(192, 0, 2, 9, 9000);

    // The SYN-ACK, a well-known port, or the direction of the first packet decides who began.
    capture.Add(Received(TcpPacket(kRemote, kLocal, 7000, 1001, kTcpSyn | kTcpAck)));
    capture.Add(Sent(TcpPacket(server, client, 5000, 6000, kTcpAck, {1, 2})));
    capture.Add(Received(TcpPacket(client, server, 6000, 5002, kTcpAck, {3})));
    capture.Add(Received(TcpPacket(high, V4(10, 0, 0, 1, 50009), 1, 1, kTcpAck, {4})));
    capture.Add(Received(UdpPacket(V4(192, 0, 2, 53, 53), V4(10, 0, 0, 1, 50010), {5})));
    for (int i = 0; i < 3; ++i)
    {
        capture.Add(Sent(UdpPacket(V4(10, 0, 0, 1, 50010), V4(192, 0, 2, 53, 53), {5}))); // makes the host known
    }

    const ReplaySummary summary = Play(capture.bytes());
    const std::vector<std::string> log = Log();

    EXPECT_EQ(summary.tcp_conversations, 3u);
    EXPECT_EQ(summary.udp_conversations, 1u);
    EXPECT_THAT(std::vector<std::string>(log.begin(), log.begin() + 3), ElementsAre("assign", "connect", "in SA"));
    EXPECT_THAT(std::vector<std::string>(log.begin() + 3, log.begin() + 7),
                ElementsAre("assign", "accept", "stream send 2", "out A 2"))
        << "a server's connection whose first packet goes out";
    EXPECT_EQ(std::count(log.begin(), log.end(), "connect"), 2);
    EXPECT_EQ(std::count(log.begin(), log.end(), "accept"), 2);
}

TEST_F(ReplayTest, LostAndRepeatedSegmentsAreIndicatedOnce)
{
    Capture capture;

    capture.Add(Sent(TcpPacket(kLocal, kRemote, 1000, 0, kTcpSyn)));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 7000, 1001, kTcpSyn | kTcpAck)));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 7004, 1001, kTcpAck, {'d', 'e'})));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 7001, 1001, kTcpAck, {'a', 'b', 'c'})));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 7001, 1001, kTcpAck, {'a', 'b', 'c'})));
    capture.Add(Received(TcpPacket(kRemote, kLocal, 7010, 1001, kTcpAck, {'j'})));
    capture.Add(Sent(TcpPacket(kLocal, kRemote, 1001, 7011, kTcpAck)));

    const ReplaySummary summary = Play(capture.bytes());
    std::string received;

    for (const Indication &seen : Seen())
    {
        if (seen.layer == LayerKind::kStream && seen.direction == Direction::kInbound)
        {
            received.append(seen.data.begin(), seen.data.end());
        }
    }
    EXPECT_EQ(received, "abcdej");
    EXPECT_EQ(summary.tcp_received[0], 6u);
    EXPECT_EQ(summary.stream_gaps, 1u);
    EXPECT_EQ(summary.stream_gap_bytes, 4u);
}

TEST_F(ReplayTest, FragmentsAreOfferedAndCounted)
{
    Capture capture;
    Bytes first = UdpPacket(kLocal, kRemote, Bytes(16, 1));
    Bytes second = first;

    first[6] = 0x20;
    second[7] = 3;
    capture.Add(Sent(first)).Add(Sent(second));
    policy = [](const Indication &seen)
    { return seen.Name() == "out fragment" ? Decision::kBlock : Decision::kPermit; };

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(), ElementsAre("assign", "connect", "out fragment", "out fragment", "datagram send 24",
                                   "closure of socket", "release"));
    EXPECT_EQ(summary.fragments, 2u);
    EXPECT_EQ(summary.packets_blocked, 2u);
    EXPECT_EQ(summary.udp_conversations, 1u);
}

TEST_F(ReplayTest, FragmentsOfAConnectionFromOutsideTheCaptureAreDecidedToo)
{
    const net::Endpoint server = V4(192, 0, 2, 9, 53);
    net::FlowSpec client = Udp({1});
    Capture capture;
    Bytes first = UdpPacket(server, kLocal, Bytes(16, 1));
    Bytes second = first;

    client.local = kLocal;
    client.remote = server;
    stack().Connect(client, nullptr);
    first[6] = 0x20;
    first.resize(20 + 16);
    second[7] = 2;
    second.erase(second.begin() + 20, second.begin() + 20 + 16);
    for (Bytes *fragment : {&first, &second})
    {
        (*fragment)[3] = static_cast<uint8_t>(fragment->size());
    }
    capture.Add(Received(first)).Add(Received(second));
    Log();

    Prefix prefix;

    prefix.address = kLocal.address;
    prefix.length = 32;

    const ReplaySummary summary = Play(capture.bytes(), {prefix});

    EXPECT_THAT(Log(), ElementsAre("connect", "in fragment", "in fragment again", "in fragment", "in fragment again",
                                   "in udp 16 reassembled", "datagram receive 16"));
    EXPECT_EQ(summary.packets_permitted, 2u);
}

TEST_F(ReplayTest, CutFramesCountByTheirHeaders)
{
    Capture capture;
    const Bytes datagram = Sent(UdpPacket(kLocal, V4(192, 0, 2, 1, 53), Bytes(100, 7)));
    const Bytes segment = Sent(TcpPacket(kLocal, kRemote, 1000, 1, kTcpAck, Bytes(200, 7)));

    capture.AddCut(datagram, 60).AddCut(segment, 14 + 40);

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_EQ(summary.udp_sent[0], 100u);
    EXPECT_EQ(summary.tcp_sent[0], 200u);
    for (const Indication &seen : Seen())
    {
        if (seen.layer == LayerKind::kOutPacket)
        {
            EXPECT_TRUE(seen.packet.size() == 128 || seen.packet.size() == 240);
        }
    }
}

TEST_F(ReplayTest, PaddingOfFramesIsNotPayload)
{
    Capture capture;
    Bytes frame = Sent(UdpPacket(kLocal, V4(192, 0, 2, 1, 53), {1, 2}));

    frame.resize(60);
    capture.Add(frame);

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_EQ(summary.udp_sent[0], 2u);
    EXPECT_EQ(LastSeen(LayerKind::kOutPacket).packet.size(), 30u);
}

TEST_F(ReplayTest, ATruncatedFileIsReplayedUpToItsEnd)
{
    Capture capture;

    AddConnection(&capture);

    Bytes bytes = capture.bytes();

    bytes.resize(bytes.size() - 5);

    const ReplaySummary summary = Play(bytes);

    EXPECT_EQ(summary.frames, 7u);
    EXPECT_THAT(summary.warning, HasSubstr("the file ends inside this record"));
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, ADamagedFileIsAnErrorAndLeavesNoFlow)
{
    Capture capture;

    AddConnection(&capture);

    Bytes bytes = capture.bytes();

    bytes.insert(bytes.end(), {0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0});

    const TemporaryFile file(bytes);
    Replay replay(machine, {file.path(), {}, 0, {}});

    EXPECT_THROW(replay.Run(nullptr), PcapError);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, ALinkThatCannotBeReadIsAnError)
{
    const TemporaryFile file(Capture(127).Add(Bytes(60)).bytes());
    Replay replay(machine, {file.path(), {}, 0, {}});

    try
    {
        replay.Run(nullptr);
        FAIL();
    }
    catch (const PcapError &error)
    {
        EXPECT_THAT(error.what(), HasSubstr("link type 127"));
    }
}

TEST_F(ReplayTest, LoopbackPacketsAreSeenFromBothSides)
{
    Capture capture;
    const Station none(6);
    const net::Endpoint client = V4(127, 0, 0, 1, 40000);
    const net::Endpoint server = V4(127, 0, 0, 1, 80);
    const auto add = [&](const Bytes &packet) { capture.Add(EthernetFrame(none, none, packet)); };

    add(TcpPacket(client, server, 1, 0, kTcpSyn));
    add(TcpPacket(server, client, 100, 2, kTcpSyn | kTcpAck));
    add(TcpPacket(client, server, 2, 101, kTcpAck, {1, 2, 3}));
    add(UdpPacket(client, server, {9}));

    const ReplaySummary summary = Play(capture.bytes());

    EXPECT_THAT(Log(),
                testing::IsSupersetOf({"out S", "in S", "accept", "out SA", "in SA", "stream send 3", "out A 3",
                                       "in A 3", "stream receive 3", "out udp 1", "in udp 1", "datagram receive 1"}));
    EXPECT_EQ(summary.ip_packets, 4u);
    EXPECT_EQ(summary.packets_permitted, 4u);
    EXPECT_EQ(summary.tcp_conversations, 1u);
    EXPECT_EQ(summary.udp_conversations, 1u);
    EXPECT_EQ(summary.tcp_sent[0], 3u);
    EXPECT_EQ(summary.tcp_received[0], 3u);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, MulticastAndPacketsWithoutASourceAddressHaveADirection)
{
    Capture capture;
    const Station everybody = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

    AddConnection(&capture);
    capture.Add(EthernetFrame(everybody, kHost, UdpPacket(V4(0, 0, 0, 0, 68), V4(255, 255, 255, 255, 67), {1})));
    capture.Add(EthernetFrame(everybody, kPeer, UdpPacket(V4(192, 0, 2, 9, 5353), V4(224, 0, 0, 251, 5353), {1, 2})));
    Play(capture.bytes());

    const std::vector<std::string> log = Log();

    EXPECT_THAT(log, testing::Contains("out udp 1"));
    EXPECT_THAT(log, testing::Contains("in udp 2"));
}

TEST_F(ReplayTest, AnUndecidedConversationDelaysTheReplayOnceNotOncePerPacket)
{
    Capture capture;

    AddConnection(&capture);
    Decide({LayerKind::kOutPacket, LayerKind::kInPacket}, Decision::kHold);

    const TemporaryFile file(capture.bytes());
    Replay replay(machine, {file.path(), {}, 0, {}});
    std::atomic<bool> ended{false};
    std::thread player(
        [&]
        {
            replay.Run(nullptr);
            ended = true;
        });

    // A packet counts as held a moment before its deadline begins to run.
    while (!ended)
    {
        machine.clock().Advance(std::chrono::seconds(held_count() == 0 ? 0 : 22));
        std::this_thread::yield();
    }
    player.join();
    EXPECT_EQ(replay.summary().packets_pending, 8u);
    EXPECT_EQ(held_count(), 8u);
}

TEST_F(ReplayTest, PacketsFromOutsideTheCaptureDoNotCountAsItsPackets)
{
    const net::Endpoint resolver = V4(192, 0, 2, 53, 53);
    const Bytes stranger = UdpPacket(resolver, kLocal, {1, 2, 3});
    std::vector<net::Outcome> outcomes;
    Capture capture;

    capture.Add(Sent(UdpPacket(kLocal, resolver, {1})));
    capture.Add(Received(UdpPacket(resolver, kLocal, {1, 2})));
    AddConnection(&capture);
    policy = [](const Indication &seen)
    {
        const bool tcp = seen.layer == LayerKind::kConnect && seen.remote.port == kRemote.port;
        return tcp ? Decision::kPend : Decision::kPermit;
    };

    const TemporaryFile file(capture.bytes());
    Replay replay(machine, {file.path(), {}, 0, {}});
    std::thread player([&replay] { replay.Run(nullptr); });

    while (held_count() != 1)
    {
        std::this_thread::yield();
    }
    for (int n = 0; n < 10; ++n)
    {
        stack().Arrive(stranger.data(), stranger.size(), Into(&outcomes));
    }
    Decide({}, Decision::kPermit);
    AllowAll();
    player.join();
    EXPECT_EQ(outcomes.size(), 10u);
    EXPECT_EQ(replay.summary().packets_permitted, 10u);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(ReplayTest, ProgressIsReportedAtTheEnd)
{
    Capture capture;
    ReplayProgress last;

    AddConnection(&capture);

    const TemporaryFile file(capture.bytes());
    Replay replay(machine, {file.path(), {}, 0, {}});

    replay.Run([&last](const ReplayProgress &progress) { last = progress; });
    EXPECT_EQ(last.frames, 8u);
    EXPECT_EQ(last.bytes, last.total_bytes);
    EXPECT_EQ(last.total_bytes, capture.bytes().size());
}

class ReplayInRealTime : public ReplayTest
{
  protected:
    ReplayInRealTime() : ReplayTest({false, true, 2, true}) {}
};

TEST_F(ReplayInRealTime, FollowsTheTimesOfTheCapture)
{
    Capture capture;

    capture.Add(Sent(UdpPacket(kLocal, kRemote, {1})), 0);
    capture.Add(Sent(UdpPacket(kLocal, kRemote, {1})), 400000);

    const TemporaryFile file(capture.bytes());
    Replay replay(machine, {file.path(), {}, 10, {}});
    const auto start = std::chrono::steady_clock::now();

    replay.Run(nullptr);
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(39));
}

TEST_F(ReplayInRealTime, EveryPacketPassesWhenAnotherThreadDecides)
{
    std::atomic<bool> done{false};

    Decide({LayerKind::kConnect, LayerKind::kAccept}, Decision::kPend);

    std::thread decider(
        [this, &done]
        {
            const Machine::Scope thread_scope(machine);

            while (!done || held_count() != 0)
            {
                if (held_count() != 0)
                {
                    Allow(FirstHeld());
                }
            }
        });
    const ReplaySummary summary = PlayFile(SOURCE_ROOT "/captures/host-traffic.pcap");

    done = true;
    decider.join();
    EXPECT_EQ(summary.packets_permitted, 2074u);
    EXPECT_EQ(summary.tcp_received[0], 613498u);
    EXPECT_EQ(summary.udp_sent[0], 250154u);
    EXPECT_EQ(stack().counters().outbound.held_now, 0u);
}

} // namespace
} // namespace sim::sources

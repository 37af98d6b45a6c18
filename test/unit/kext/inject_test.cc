#include "support/driver_test.h"
#include "support/raw_packets.h"

#include "net/ip_packet.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

using sim::wfp::InjectionBehavior;

ByteVector TransportOf(const ByteVector &packet)
{
    return ByteVector(packet.begin() + HeaderLength(packet), packet.end());
}

// Replaces a packet's IP headers.
ByteVector WithHeader(const ByteVector &header, const ByteVector &packet)
{
    const ByteVector transport = TransportOf(packet);
    ByteVector made = header;

    made.insert(made.end(), transport.begin(), transport.end());
    return made;
}

bool IsWholePacket(const ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) && !info.fragment &&
           info.length == packet.size() && ChecksumsAreRight(packet);
}

class InjectTest : public DriverTest, public testing::WithParamInterface<Flow>
{
  protected:
    static const Flow &flow() { return GetParam(); }
    static bool v6() { return flow().family() == 6; }

    // The driver's copy of a received packet, which the client permits.
    ByteVector InjectReceived(const ByteVector &packet, const AleOptions &options = {})
    {
        EXPECT_TRUE(network_.Accept(flow(), &packet, options).pended());

        const Question question = client_.ReadQuestion();
        client_.Verdict(question.id, VerdictAccept);

        const std::vector<Injected> injected = network_.TakeInjected();
        EXPECT_EQ(injected.size(), 1u);
        if (injected.size() != 1)
        {
            return {};
        }
        EXPECT_EQ(injected[0].kind, Injection::kTransportReceive);
        EXPECT_TRUE(injected[0].decided_permit);
        EXPECT_EQ(question.payload, TransportOf(injected[0].bytes));
        return injected[0].bytes;
    }

    // The plain packet's IP header as IPsec leaves it: an AH or ESP header follows.
    static ByteVector SecuredHeader(const ByteVector &plain, uint8_t protocol, const ByteVector &security)
    {
        ByteVector header(plain.begin(), plain.begin() + HeaderLength(plain));

        header[v6() ? 6 : 9] = protocol;
        header[v6() ? 5 : 3] = static_cast<uint8_t>(header[v6() ? 5 : 3] + security.size());
        header.insert(header.end(), security.begin(), security.end());
        return header;
    }
};

INSTANTIATE_TEST_SUITE_P(EachKind, InjectTest, testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6()));

// ---- What goes into the receive path

TEST_P(InjectTest, AReassembledDatagramGetsAHeaderOfItsOwn)
{
    const ByteVector whole = MakePacket(flow(), true, Payload(100));
    const ByteVector first = Fragment(whole, 0, 64);
    const ByteVector header(first.begin(), first.begin() + HeaderLength(first));
    AleOptions options;

    options.ip_header_size = static_cast<uint32_t>(header.size());
    const ByteVector injected = InjectReceived(WithHeader(header, whole), options);
    EXPECT_TRUE(IsWholePacket(injected));
    EXPECT_EQ(TransportOf(injected), TransportOf(whole));
}

TEST_P(InjectTest, ADatagramThatIsShorterThanItsPacketGetsAHeaderOfItsOwn)
{
    const ByteVector datagram = MakePacket(flow(), true);
    ByteVector packet = datagram;

    packet[v6() ? 5 : 3] = static_cast<uint8_t>(packet[v6() ? 5 : 3] + 14);
    EXPECT_EQ(InjectReceived(packet), datagram);
}

TEST_P(InjectTest, WhatIpsecProtectedIsInjectedWithoutItsSecurityHeader)
{
    const ByteVector plain = MakePacket(flow(), true);
    const ByteVector esp(8, 0xE5);
    const ByteVector ah = {flow().protocol, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    AleOptions options;

    options.secured = true;
    for (const auto &[protocol, security] : {std::pair(50, esp), std::pair(51, ah)})
    {
        const ByteVector header = SecuredHeader(plain, static_cast<uint8_t>(protocol), security);

        options.ip_header_size = static_cast<uint32_t>(header.size());
        EXPECT_EQ(InjectReceived(WithHeader(header, plain), options), plain) << "protocol " << protocol;
        client_.Command(CommandClearCache);
    }
    EXPECT_EQ(client_.GetStatistics().CopiesSecured, 2u);
    InjectReceived(plain);
    EXPECT_EQ(client_.GetStatistics().CopiesSecured, 2u) << "an ordinary packet";
}

TEST_P(InjectTest, AnIpHeaderIsFoundWhereTheTransportHeaderIsNotHidden)
{
    const ByteVector packet = MakePacket(flow(), true);
    AleOptions options;

    options.shows_transport_header = true;
    EXPECT_EQ(InjectReceived(packet, options), packet);
}

TEST_P(InjectTest, APacketWithoutItsIpHeaderIsMalformed)
{
    const ByteVector packet = MakePacket(flow(), true);
    ByteVector other = packet;
    AleOptions options;

    other[0] = v6() ? 0x45 : 0x60;
    options.ip_header_size = HeaderLength(packet);
    EXPECT_TRUE(network_.Accept(flow(), &other, options).blocked()) << "another version";
    options.ip_header_size = HeaderLength(packet) - 4;
    EXPECT_TRUE(network_.Accept(flow(), &packet, options).blocked()) << "another length";
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, 2u);
}

TEST_P(InjectTest, AFailureWhileTheHeaderIsSoughtLeavesTheDataWhereItWas)
{
    const ByteVector packet = MakePacket(flow(), true);
    uint64_t failures = 1;

    for (uint64_t n = 0; failures != 0; n++)
    {
        network_.FailNth(n);
        const Network::Answer answer = network_.Accept(flow(), &packet);
        failures = network_.StopFailing();
        EXPECT_FALSE(answer.blocked()) << "a failure is not a malformed packet";
        for (const Question &question : client_.ReadQuestions())
        {
            client_.Verdict(question.id, VerdictAccept);
        }
        network_.TakeInjected();
        client_.Command(CommandClearCache);
    }
}

// ---- Programs that send once and close

struct Refusal
{
    InjectionBehavior::Mode mode;
    bool fail_closed;
};

class OneShotTest : public DriverTest, public testing::WithParamInterface<std::tuple<Refusal, Flow>>
{
  protected:
    // The endpoint handle died with its socket, so the stack refuses the packets of an endpoint.
    void CloseSocket(uint32_t kinds = 1u << Injection::kTransportSend)
    {
        const Refusal &refusal = std::get<0>(GetParam());
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = refusal.fail_closed ? OPTION_FLAG_FAIL_CLOSED : 0;
        client_.SetOptions(options);
        machine_.wfp().SetInjectionBehavior({refusal.mode, STATUS_INVALID_HANDLE, kinds});
    }

    static const Flow &flow() { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(EachRefusal, OneShotTest,
                         testing::Combine(testing::Values(Refusal{InjectionBehavior::kFail, false},
                                                          Refusal{InjectionBehavior::kFail, true},
                                                          Refusal{InjectionBehavior::kDeferred, false},
                                                          Refusal{InjectionBehavior::kDeferred, true},
                                                          Refusal{InjectionBehavior::kInline, false}),
                                          testing::Values(UdpV4(), UdpV6())));

TEST_P(OneShotTest, ADatagramWhoseSocketIsClosedIsSentAtTheNetworkLayer)
{
    const ByteVector packet = MakePacket(flow(), false, Payload(100));

    CloseSocket();
    EXPECT_TRUE(network_.Connect(flow(), &packet).pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);

    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_FALSE(injected.empty());
    EXPECT_EQ(injected.back().kind, Injection::kNetworkSend);
    EXPECT_TRUE(injected.back().decided_permit);
    EXPECT_TRUE(IsWholePacket(injected.back().bytes));
    EXPECT_EQ(TransportOf(injected.back().bytes), TransportOf(packet));
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 0u);

    client_.Command(CommandGetBandwidthStats);
    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].At<uint64_t>(flow().family() == 6 ? 41 : 17), 100u) << "counted once, although bypassed";
}

TEST_P(OneShotTest, TheFailPolicyDecidesIfTheNetworkLayerRefusesItToo)
{
    const ByteVector packet = MakePacket(flow());
    const bool fail_closed = std::get<0>(GetParam()).fail_closed;

    CloseSocket(~0u);
    EXPECT_TRUE(network_.Connect(flow(), &packet).pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    network_.TakeInjected();
    machine_.wfp().SetInjectionBehavior({});
    machine_.clock().Advance(std::chrono::milliseconds(300));

    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), fail_closed ? 0u : 1u);
    EXPECT_EQ(client_.GetStatistics().InjectFailures, fail_closed ? 1u : 0u);
    if (!fail_closed)
    {
        EXPECT_EQ(injected[0].kind, Injection::kNetworkSend);
    }
}

// One message of a protocol without ports.
struct Message
{
    const char *name;
    Flow flow;
    ByteVector packet;
};

std::vector<Message> Messages()
{
    constexpr uint8_t kGre = 47;
    const Flow v4{PROTOCOL_ICMP, V4(192, 0, 2, 1, 8), V4(198, 51, 100, 7, 0)};
    const Flow v6{PROTOCOL_ICMPV6, V6(1, 128), V6(7, 0)};
    const Flow gre{kGre, V4(192, 0, 2, 1, 0), V4(198, 51, 100, 7, 0)};
    const ByteVector echo = {0, 7, 0, 1, 'p', 'i', 'n', 'g'};

    return {{"Icmp", v4, RawIcmp(v4.local, v4.remote, 8, 0, echo)},
            {"IcmpV6", v6, RawIcmp(v6.local, v6.remote, 128, 0, echo)},
            {"Short", gre, RawIp(gre.local, gre.remote, kGre, {1})}};
}

class PortlessOneShotTest : public DriverTest, public testing::WithParamInterface<Message>
{
};

INSTANTIATE_TEST_SUITE_P(EachProtocol, PortlessOneShotTest, testing::ValuesIn(Messages()),
                         [](const auto &test) { return test.param.name; });

TEST_P(PortlessOneShotTest, AMessageWhoseSocketIsClosedIsSentAtTheNetworkLayer)
{
    const Message &message = GetParam();

    client_.SetOptions(Client::DefaultOptions());
    machine_.wfp().SetInjectionBehavior(
        {InjectionBehavior::kFail, STATUS_INVALID_HANDLE, 1u << Injection::kTransportSend});
    EXPECT_TRUE(network_.Connect(message.flow, &message.packet).pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);

    const std::vector<Injected> injected = network_.TakeInjected();

    ASSERT_FALSE(injected.empty());
    EXPECT_EQ(injected.back().kind, Injection::kNetworkSend);
    EXPECT_TRUE(injected.back().decided_permit);
    EXPECT_TRUE(IsWholePacket(injected.back().bytes));
    EXPECT_EQ(TransportOf(injected.back().bytes), TransportOf(message.packet));
    EXPECT_EQ(client_.GetStatistics().InjectFailures, 0u);
}

} // namespace
} // namespace kext_test

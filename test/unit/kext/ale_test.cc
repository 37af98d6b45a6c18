#include "support/commands.h"
#include "support/driver_test.h"

#include "nt/fault_injection.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace kext_test
{
namespace
{

using AleTest = DriverTest;

AleOptions Reauthorize()
{
    AleOptions options;

    options.reauthorize = true;
    return options;
}

ByteVector TransportOf(const ByteVector &packet)
{
    return ByteVector(packet.begin() + HeaderLength(packet), packet.end());
}

enum class Expected
{
    kPermit,
    kBlock,
    kAbsorb
};

bool Matches(const Network::Answer &answer, Expected expected)
{
    switch (expected)
    {
    case Expected::kPermit:
        return answer.permitted();
    case Expected::kBlock:
        return answer.blocked();
    default:
        return answer.absorbed();
    }
}

// ---- The decision table

struct TableRow
{
    uint8_t verdict;
    Expected outbound;
    Expected inbound;
};

const TableRow kTable[] = {
    {VerdictUndeterminable, Expected::kBlock, Expected::kBlock},
    {VerdictAccept, Expected::kPermit, Expected::kPermit},
    {VerdictPermanentAccept, Expected::kPermit, Expected::kPermit},
    {VerdictBlock, Expected::kPermit, Expected::kBlock},
    {VerdictPermanentBlock, Expected::kBlock, Expected::kBlock},
    {VerdictDrop, Expected::kPermit, Expected::kAbsorb},
    {VerdictPermanentDrop, Expected::kAbsorb, Expected::kAbsorb},
    {VerdictRedirectNameServer, Expected::kPermit, Expected::kPermit},
    {VerdictRedirectTunnel, Expected::kPermit, Expected::kPermit},
    {VerdictFailed, Expected::kBlock, Expected::kBlock},
    {VerdictRedirectSplitTunnel, Expected::kPermit, Expected::kPermit},
};

class AleTableTest : public DriverTest, public testing::WithParamInterface<std::tuple<TableRow, Flow>>
{
};

TEST_P(AleTableTest, AnOutboundConnectionFollowsItsVerdict)
{
    const auto &[row, flow] = GetParam();

    Decide(flow, row.verdict);
    EXPECT_TRUE(Matches(network_.Connect(flow, nullptr, Reauthorize()), row.outbound));
    EXPECT_TRUE(Matches(network_.Connect(flow), row.outbound)) << "first authorization";
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_P(AleTableTest, AnInboundConnectionFollowsItsVerdict)
{
    const auto &[row, flow] = GetParam();
    const ByteVector packet = MakePacket(flow, true);

    EXPECT_TRUE(network_.Accept(flow, &packet).pended());
    client_.Verdict(client_.ReadQuestion().id, row.verdict);
    EXPECT_TRUE(Matches(network_.Accept(flow, &packet), row.inbound));
    EXPECT_TRUE(Matches(network_.Accept(flow, &packet, Reauthorize()), row.inbound));
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_P(AleTableTest, ARefusedConnectionIsCountedAsBlocked)
{
    const auto &[row, flow] = GetParam();

    Decide(flow, row.verdict);
    const uint64_t before = client_.GetStatistics().PacketsBlocked;
    network_.Connect(flow);
    EXPECT_EQ(client_.GetStatistics().PacketsBlocked - before, row.outbound == Expected::kPermit ? 0u : 1u);
}

TEST_P(AleTableTest, ABlockIsFinalAndAPermitIsNot)
{
    const auto &[row, flow] = GetParam();
    const uint16_t layer = flow.family() == 6 ? FWPS_LAYER_ALE_AUTH_CONNECT_V6 : FWPS_LAYER_ALE_AUTH_CONNECT_V4;

    Decide(flow, row.verdict);
    const uint64_t block = machine_.wfp().AddForeignFilter(layer, 1, sim::wfp::ForeignAction::kSoftBlock);
    EXPECT_FALSE(network_.Connect(flow).permitted());
    machine_.wfp().RemoveForeignFilter(block);

    const uint64_t permit = machine_.wfp().AddForeignFilter(layer, 1, sim::wfp::ForeignAction::kSoftPermit);
    EXPECT_TRUE(Matches(network_.Connect(flow), row.outbound));
    machine_.wfp().RemoveForeignFilter(permit);
}

INSTANTIATE_TEST_SUITE_P(AllVerdicts, AleTableTest,
                         testing::Combine(testing::ValuesIn(kTable),
                                          testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6())));

TEST_F(AleTest, OtherProtocolsAreLeftToThePacketLayer)
{
    Flow flow;
    flow.protocol = PROTOCOL_ICMP;
    const ByteVector packet = MakePacket(flow);

    EXPECT_TRUE(network_.Connect(flow).permitted());
    EXPECT_TRUE(network_.Accept(flow, &packet).permitted());
    EXPECT_TRUE(client_.Read().empty());
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
}

// ---- Holding a first authorization

class AleFlowTest : public DriverTest, public testing::WithParamInterface<Flow>
{
  protected:
    Flow flow() const { return GetParam(); }
    bool tcp() const { return flow().protocol == PROTOCOL_TCP; }
};

INSTANTIATE_TEST_SUITE_P(EachKind, AleFlowTest, testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6()));

TEST_P(AleFlowTest, AnUnknownOutboundConnectionIsPendedAndReported)
{
    const ByteVector packet = MakePacket(flow());
    const Network::Answer connect = network_.Connect(flow(), tcp() ? nullptr : &packet, {});

    EXPECT_TRUE(connect.pended());
    EXPECT_TRUE(connect.absorbed());
    EXPECT_EQ(connect.completed(), 0);

    const Question question = client_.ReadQuestion();
    EXPECT_NE(question.id, 0u);
    EXPECT_EQ(question.process_id, 1234u);
    EXPECT_EQ(question.direction, DirectionOutbound);
    EXPECT_EQ(question.protocol, flow().protocol);
    EXPECT_EQ(question.payload_layer, PROTOCOL_PAYLOAD_TRANSPORT_LAYER);
    EXPECT_EQ(question.local_port, flow().local.port);
    EXPECT_EQ(question.remote_port, flow().remote.port);
    EXPECT_TRUE(std::equal(question.local_address.begin(), question.local_address.end(), flow().local.address.begin()));
    EXPECT_TRUE(
        std::equal(question.remote_address.begin(), question.remote_address.end(), flow().remote.address.begin()));
    EXPECT_EQ(question.payload, tcp() ? ByteVector() : TransportOf(packet));
}

TEST_P(AleFlowTest, AnUnknownInboundConnectionIsPendedAndReported)
{
    const ByteVector packet = MakePacket(flow(), true);
    const Network::Answer accept = network_.Accept(flow(), &packet);

    EXPECT_TRUE(accept.pended());
    EXPECT_TRUE(accept.absorbed());

    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.direction, DirectionInbound);
    EXPECT_EQ(question.process_id, 1234u);
    EXPECT_EQ(question.local_port, flow().local.port);
    EXPECT_EQ(question.remote_port, flow().remote.port);
    EXPECT_EQ(question.payload_layer, PROTOCOL_PAYLOAD_TRANSPORT_LAYER);
    EXPECT_EQ(question.payload, TransportOf(packet));
}

// The IP header of a reassembled datagram may still be its first fragment's.
TEST_F(AleTest, AReassembledDatagramIsReceivedWholeDespiteItsFragmentHeader)
{
    const ByteVector whole = MakePacket(UdpV4(), true, Payload(3000));
    ByteVector datagram = whole;

    datagram[2] = 1480 >> 8;
    datagram[3] = 1480 & 0xFF;
    EXPECT_TRUE(network_.Accept(UdpV4(), &datagram).pended());
    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.payload.size(), datagram.size() - 20);
    client_.Verdict(question.id, VerdictAccept);
    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].bytes, whole);
}

TEST_P(AleFlowTest, AnAcceptedOutboundOperationIsCompletedAndItsPacketSent)
{
    const ByteVector packet = MakePacket(flow());
    AleOptions options;
    options.control_data = {24, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9};
    options.header_include = {0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7};
    const Network::Answer connect = network_.Connect(flow(), tcp() ? nullptr : &packet, options);

    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_TRUE(connect.completed_with->empty());
    EXPECT_TRUE(network_.Connect(flow(), nullptr, Reauthorize()).permitted());

    const std::vector<Injected> injected = network_.TakeInjected();
    if (tcp())
    {
        EXPECT_TRUE(injected.empty()) << "a TCP connect has no packet";
        return;
    }
    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].kind, Injection::kTransportSend);
    EXPECT_EQ(injected[0].bytes, TransportOf(packet));
    EXPECT_EQ(injected[0].endpoint_handle, kTransportEndpoint);
    EXPECT_EQ(injected[0].remote_scope, kRemoteScope);
    EXPECT_EQ(injected[0].compartment, Network::kCompartment);
    EXPECT_EQ(injected[0].control_data, options.control_data) << "a copy: the stack has freed its own";
    EXPECT_EQ(injected[0].header_include, options.header_include);
    EXPECT_EQ(injected[0].remote_address, flow().remote.address);
}

TEST_P(AleFlowTest, AnAcceptedInboundOperationIsCompletedAndItsPacketReceived)
{
    const ByteVector packet = MakePacket(flow(), true);
    const Network::Answer accept = network_.Accept(flow(), &packet);

    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_EQ(accept.completed(), 1);

    const std::vector<Injected> injected = network_.TakeInjected();
    EXPECT_EQ(*accept.completed_with, packet) << "the engine gets the packet that will be injected";
    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].kind, Injection::kTransportReceive);
    EXPECT_EQ(injected[0].bytes, packet) << "from the IP header on";
    EXPECT_EQ(injected[0].interface_index, Network::kInterface);
    EXPECT_EQ(injected[0].sub_interface_index, Network::kSubInterface);
    EXPECT_EQ(injected[0].compartment, Network::kCompartment);
}

TEST_P(AleFlowTest, ARefusedOperationIsCompletedAndItsPacketDropped)
{
    for (uint8_t verdict :
         {VerdictBlock, VerdictPermanentBlock, VerdictDrop, VerdictPermanentDrop, VerdictFailed, VerdictUndeterminable})
    {
        const ByteVector out = MakePacket(flow());
        const ByteVector in = MakePacket(flow(), true);
        const Network::Answer connect = network_.Connect(flow(), tcp() ? nullptr : &out, {});

        client_.Verdict(client_.ReadQuestion().id, verdict);
        EXPECT_EQ(connect.completed(), 1);
        client_.Command(CommandClearCache);

        const Network::Answer accept = network_.Accept(flow(), &in);
        client_.Verdict(client_.ReadQuestion().id, verdict);
        EXPECT_EQ(accept.completed(), 1);
        EXPECT_TRUE(accept.completed_with->empty()) << "no packet follows";
        client_.Command(CommandClearCache);
        EXPECT_TRUE(network_.TakeInjected().empty()) << "verdict " << int{verdict};
    }
}

TEST_P(AleFlowTest, AnInjectionMayCompleteBeforeItsCallReturns)
{
    const ByteVector out = MakePacket(flow());
    const ByteVector in = MakePacket(flow(), true);

    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kInline, STATUS_SUCCESS});
    network_.Connect(flow(), &out, {});
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(client_.GetStatistics().PacketsInjected, 1u);
    client_.Command(CommandClearCache);
    network_.Accept(flow(), &in);
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(client_.GetStatistics().PacketsInjected, 2u);
}

TEST_P(AleFlowTest, EveryPacketOfAnOperationIsCopied)
{
    const ByteVector first = MakePacket(flow(), false, Payload(10));
    AleOptions options;
    options.more_packets = {MakePacket(flow(), false, Payload(20)), MakePacket(flow(), false, Payload(30))};

    EXPECT_TRUE(network_.Connect(flow(), &first, options).pended());
    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.payload, TransportOf(first));
    client_.Verdict(question.id, VerdictAccept);
    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), 3u);
    EXPECT_EQ(injected[0].bytes, TransportOf(first));
    EXPECT_EQ(injected[1].bytes, TransportOf(options.more_packets[0]));
    EXPECT_EQ(injected[2].bytes, TransportOf(options.more_packets[1]));
}

TEST_P(AleFlowTest, EveryListOfAnOperationsChainIsCopied)
{
    for (const bool inbound : {false, true})
    {
        const ByteVector first = MakePacket(flow(), inbound, Payload(10));
        std::vector<ByteVector> expected = {first};
        AleOptions options;

        options.more_lists = {{MakePacket(flow(), inbound, Payload(20)), MakePacket(flow(), inbound, Payload(30))},
                              {MakePacket(flow(), inbound, Payload(40))}};
        for (const std::vector<ByteVector> &list : options.more_lists)
        {
            expected.insert(expected.end(), list.begin(), list.end());
        }
        EXPECT_TRUE(
            (inbound ? network_.Accept(flow(), &first, options) : network_.Connect(flow(), &first, options)).pended());
        client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
        client_.Command(CommandClearCache);

        const std::vector<Injected> injected = network_.TakeInjected();
        ASSERT_EQ(injected.size(), expected.size());
        for (size_t i = 0; i < expected.size(); i++)
        {
            EXPECT_EQ(injected[i].bytes, inbound ? expected[i] : TransportOf(expected[i]));
        }
    }
}

TEST_P(AleFlowTest, AnInjectedPacketIsNotReportedAgain)
{
    const ByteVector packet = MakePacket(flow(), true);

    network_.Accept(flow(), &packet);
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    network_.TakeInjected();
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_P(AleFlowTest, AnotherPacketOfAnUndecidedConnectionIsHeldWithoutASecondPend)
{
    const ByteVector first = MakePacket(flow(), true, Payload(10));
    const ByteVector second = MakePacket(flow(), true, Payload(20));

    EXPECT_TRUE(network_.Accept(flow(), &first).pended());
    const Network::Answer again = network_.Accept(flow(), &second);
    EXPECT_FALSE(again.pended());
    EXPECT_TRUE(again.absorbed());

    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 2u);
    client_.Verdict(questions[1].id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, second);
    client_.Verdict(questions[0].id, VerdictPermanentBlock);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_P(AleFlowTest, AFirstAuthorizationAfterTheEndIsANewConnection)
{
    const ByteVector packet = MakePacket(flow());

    Decide(flow(), VerdictPermanentAccept);
    network_.Close(flow());
    client_.Read();

    Flow reused = flow();
    reused.process_id = 999;
    EXPECT_TRUE(network_.Connect(reused, tcp() ? nullptr : &packet, {}).pended());
    EXPECT_EQ(client_.ReadQuestion().process_id, 999u);
}

// ---- Holding a reauthorization

TEST_P(AleFlowTest, AReauthorizationOfAnUnknownConnectionIsHeldAsACopy)
{
    const ByteVector packet = MakePacket(flow());
    const Network::Answer answer = network_.Connect(flow(), &packet, Reauthorize());

    EXPECT_TRUE(answer.absorbed());
    EXPECT_FALSE(answer.pended());
    network_.TakeReauthorized();

    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.payload, TransportOf(packet));
    client_.Verdict(question.id, VerdictPermanentAccept);
    EXPECT_EQ(network_.TakeInjected().at(0).bytes, TransportOf(packet));
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u) << "the flow must be authorized again";
}

TEST_P(AleFlowTest, AReauthorizationMayCarryAPacketOfTheOtherDirection)
{
    const ByteVector packet = MakePacket(flow(), true);
    AleOptions options = Reauthorize();

    options.packet_direction = FWP_DIRECTION_INBOUND;
    EXPECT_TRUE(network_.Connect(flow(), &packet, options).absorbed());

    const Question question = client_.ReadQuestion();
    EXPECT_EQ(question.direction, DirectionOutbound) << "the direction is the connection's";
    EXPECT_EQ(question.payload, TransportOf(packet));
    client_.Verdict(question.id, VerdictAccept);

    const std::vector<Injected> injected = network_.TakeInjected();
    ASSERT_EQ(injected.size(), 1u);
    EXPECT_EQ(injected[0].kind, Injection::kTransportReceive);
    EXPECT_EQ(injected[0].bytes, packet);
}

TEST_P(AleFlowTest, ABaseClientIsAskedWithNothingToHold)
{
    EXPECT_TRUE(network_.Connect(flow(), nullptr, Reauthorize()).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);
    EXPECT_TRUE(network_.Connect(flow(), nullptr, Reauthorize()).permitted());
}

TEST_P(AleFlowTest, AQuestionWithNothingToHoldIsDecidedByTheFailPolicyAtOnce)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    client_.SetOptions(options);
    EXPECT_TRUE(network_.Connect(flow(), nullptr, Reauthorize()).permitted());
    options.Flags = OPTION_FLAG_FAIL_CLOSED;
    client_.SetOptions(options);
    EXPECT_TRUE(network_.Connect(flow(), nullptr, Reauthorize()).blocked());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

TEST_F(AleTest, AVerdictOnAPendedConnectDoesNotReauthorizeEveryFlow)
{
    network_.Connect(Flow{});
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.TakeReauthorized().empty()) << "completing it is enough";
}

TEST_F(AleTest, AnOperationThatCannotBePendedIsHeldAsACopy)
{
    const ByteVector packet = MakePacket(UdpV4());

    machine_.wfp().SetPendFailure(STATUS_FWP_TCPIP_NOT_READY);
    const Network::Answer answer = network_.Connect(UdpV4(), &packet, {});
    EXPECT_TRUE(answer.absorbed());
    EXPECT_FALSE(answer.pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

TEST_F(AleTest, AnOperationIsNotCountedAsBlockedWhileItIsHeld)
{
    network_.Connect(Flow{});
    EXPECT_EQ(client_.GetStatistics().PacketsBlocked, 0u);
}

TEST_F(AleTest, APacketThatIsCutOffBeforeItsChecksumIsBlockedAsMalformed)
{
    ByteVector packet = MakePacket(UdpV4());

    packet.resize(HeaderLength(packet) + 4);
    EXPECT_TRUE(network_.Connect(UdpV4(), &packet, {}).blocked());
    EXPECT_TRUE(network_.Connect(UdpV4(), &packet, {}).blocked());
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, 2u);
    EXPECT_EQ(client_.GetStatistics().PacketsBlocked, 2u);
    EXPECT_EQ(client_.GetStatistics().EventsLost, 0u) << "memory was not the reason";
    EXPECT_THAT(client_.GetLogs(), testing::ElementsAre(testing::HasSubstr("malformed"))) << "logged once a second";
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(AleTest, AConnectThatCannotBePendedFollowsTheFailPolicy)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    Flow flow;

    machine_.wfp().SetPendFailure(STATUS_FWP_TCPIP_NOT_READY);
    EXPECT_TRUE(network_.Connect(flow).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).absorbed()) << "its packets are still reported";

    options.Flags = OPTION_FLAG_FAIL_CLOSED;
    client_.SetOptions(options);
    flow.local.port++;
    EXPECT_TRUE(network_.Connect(flow).blocked());
}

// ---- Processes

TEST_F(AleTest, AConnectionFirstSeenAtThePacketLayerGetsItsProcessLater)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());
    const Question first = client_.ReadQuestion();
    EXPECT_EQ(first.process_id, 0u);
    client_.Verdict(first.id, VerdictAccept);

    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, Reauthorize()).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());
    EXPECT_EQ(client_.ReadQuestion().process_id, 1234u);
}

class AleProcessTest : public DriverTest
{
  protected:
    void SetExtended(bool extended)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = extended ? OPTION_FLAG_EXTENDED_RECORDS : 0;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static AleOptions WithPath(bool reauthorize)
    {
        AleOptions options;

        options.reauthorize = reauthorize;
        options.process_path = u"app.exe";
        return options;
    }

    // Returns the types of the unread records.
    std::vector<uint8_t> ReadTypes()
    {
        std::vector<uint8_t> types;

        for (const Record &record : client_.Read())
        {
            types.push_back(record.type);
        }
        return types;
    }
};

TEST_F(AleProcessTest, AProcessIsReportedOnceBeforeItsFirstConnectionRecord)
{
    SetExtended(true);
    network_.Connect(Flow{}, nullptr, WithPath(false));
    network_.Connect(UdpV4(), nullptr, WithPath(false));
    EXPECT_THAT(ReadTypes(), testing::ElementsAre(InfoProcessInfo, InfoConnectionV4, InfoConnectionV4));
}

TEST_F(AleProcessTest, AProcessOfAPermittedConnectionIsReportedBeforeThePacketLayerNamesIt)
{
    SetExtended(true);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);

    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, WithPath(true)).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());
    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoProcessInfo);
    EXPECT_EQ(records[0].At<uint64_t>(0), 1234u);
    EXPECT_EQ(ParseQuestion(records[1]).process_id, 1234u);
}

TEST_F(AleProcessTest, AProcessThatConnectedEarlierIsReportedWhenTheClientAsksForProcesses)
{
    network_.Connect(Flow{}, nullptr, WithPath(false));
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    network_.TakeReauthorized();

    SetExtended(true);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u) << "every flow gives its process again";
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, WithPath(true)).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed());
    EXPECT_THAT(ReadTypes(), testing::ElementsAre(InfoProcessInfo, InfoConnectionV4));

    SetExtended(true);
    EXPECT_TRUE(network_.TakeReauthorized().empty()) << "the client was already extended";
}

TEST_F(AleProcessTest, AReportedProcessTakesNoMemoryAndNoRecord)
{
    SetExtended(true);
    network_.Connect(Flow{}, nullptr, WithPath(false));
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);

    machine_.faults().FailNth(1000000);
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, WithPath(true)).permitted());
    EXPECT_EQ(machine_.faults().calls(), 0u);
    machine_.faults().Stop();
    EXPECT_TRUE(client_.Read().empty());
}

TEST_F(AleTest, TheClientsOwnPermittedConnectionsCannotBeBlockedByOthers)
{
    Flow flow;
    flow.process_id = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(PsGetCurrentProcessId()));
    Decide(flow, VerdictPermanentAccept);

    const uint64_t filter =
        machine_.wfp().AddForeignFilter(FWPS_LAYER_ALE_AUTH_CONNECT_V4, 1, sim::wfp::ForeignAction::kSoftBlock);
    EXPECT_TRUE(network_.Connect(flow).permitted());
    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Connect(UdpV4()).blocked()) << "the connection of another process";
    machine_.wfp().RemoveForeignFilter(filter);
}

TEST_F(AleTest, TheClientsOwnConnectionsAreReportedLikeAnyOther)
{
    Flow flow;
    flow.process_id = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(PsGetCurrentProcessId()));

    EXPECT_TRUE(network_.Connect(flow).pended());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

// ---- Other products

TEST_F(AleTest, AConnectionThatAnotherProductBlocksForGoodIsNotReported)
{
    const uint64_t filter =
        machine_.wfp().AddForeignFilter(FWPS_LAYER_ALE_AUTH_CONNECT_V4, 0xFFFF, sim::wfp::ForeignAction::kHardBlock);
    const uint64_t lower =
        machine_.wfp().AddForeignFilter(FWPS_LAYER_ALE_AUTH_CONNECT_V4, 1, sim::wfp::ForeignAction::kSoftPermit);

    EXPECT_FALSE(network_.Connect(Flow{}).permitted());
    machine_.wfp().RemoveForeignFilter(filter);
    machine_.wfp().RemoveForeignFilter(lower);
}

// ---- Temporary refusals of extended clients

class AleExtendedTest : public DriverTest, public testing::WithParamInterface<Flow>
{
  protected:
    AleExtendedTest()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags |= OPTION_FLAG_EXTENDED_RECORDS;
        client_.SetOptions(options);
    }

    static ByteVector Packet() { return MakePacket(GetParam()); }

    // A first authorization, with the packet that its layer shows.
    Network::Answer Begin()
    {
        const ByteVector packet = Packet();

        return network_.Connect(GetParam(), GetParam().protocol == PROTOCOL_UDP ? &packet : nullptr);
    }
};

INSTANTIATE_TEST_SUITE_P(Flows, AleExtendedTest, testing::Values(Flow{}, TcpV6(), UdpV4(), UdpV6()));

TEST_P(AleExtendedTest, ABlockRefusesOneAttemptAndTheNextOneIsAskedAbout)
{
    const Network::Answer first = Begin();

    EXPECT_TRUE(first.pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictBlock);
    EXPECT_EQ(first.completed(), 1);
    EXPECT_TRUE(network_.Connect(GetParam(), nullptr, Reauthorize()).blocked()) << "the completed attempt";

    EXPECT_TRUE(Begin().pended()) << "the second attempt";
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Connect(GetParam(), nullptr, Reauthorize()).permitted());
}

TEST_P(AleExtendedTest, ADropRefusesOneAttemptWithoutAnAnswer)
{
    Begin();
    client_.Verdict(client_.ReadQuestion().id, VerdictDrop);
    EXPECT_TRUE(network_.Connect(GetParam(), nullptr, Reauthorize()).absorbed());
    Begin();
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_P(AleExtendedTest, ABlockOfAHeldPacketIsSpentOnThatPacket)
{
    const ByteVector packet = Packet();

    EXPECT_TRUE(network_.Connect(GetParam(), &packet, Reauthorize()).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictBlock);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_TRUE(network_.Connect(GetParam(), &packet, Reauthorize()).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u) << "the next packet is asked about";
}

TEST_P(AleExtendedTest, ALiveConnectionThatIsUpdatedToBlockLosesOnePacketAndIsAskedAbout)
{
    const ByteVector packet = Packet();

    Begin();
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Connect(GetParam(), nullptr, Reauthorize()).permitted());
    client_.Write(UpdateBytes(GetParam(), VerdictBlock));
    network_.TakeReauthorized();
    EXPECT_TRUE(network_.Connect(GetParam(), &packet, Reauthorize()).blocked());
    EXPECT_FALSE(network_.TakeReauthorized().empty()) << "the filter engine forgets that it refused the flow";
    EXPECT_TRUE(network_.Connect(GetParam(), &packet, Reauthorize()).absorbed());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_P(AleExtendedTest, ABlockOfAnInboundConnectionIsForOneAttempt)
{
    const ByteVector packet = MakePacket(GetParam(), true);

    for (const uint8_t verdict : {VerdictBlock, VerdictDrop, VerdictBlock})
    {
        EXPECT_TRUE(network_.Accept(GetParam(), &packet).pended());
        client_.Verdict(client_.ReadQuestion().id, verdict);
    }
}

// ---- Permanent blocks of live connections

TEST_F(AleTest, APermanentBlockAbortsTheFlowOfALiveTcpConnection)
{
    const Flow flow;

    Decide(flow, VerdictPermanentAccept);
    network_.Establish(flow, 77);
    EXPECT_TRUE(network_.TakeAborted().empty());
    client_.Write(UpdateBytes(flow, VerdictPermanentBlock));
    EXPECT_EQ(network_.TakeAborted(), std::vector<uint64_t>{77});
    client_.Write(UpdateBytes(flow, VerdictPermanentBlock));
    EXPECT_TRUE(network_.TakeAborted().empty()) << "a flow is aborted once";
}

TEST_F(AleTest, AVerdictOnAPacketOfALiveTcpConnectionAbortsItsFlow)
{
    const Flow flow;
    const ByteVector packet = MakePacket(flow);

    Decide(flow, VerdictAccept);
    network_.Establish(flow, 79);
    EXPECT_TRUE(network_.Outbound(packet).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentBlock);
    EXPECT_EQ(network_.TakeAborted(), std::vector<uint64_t>{79});
}

TEST_F(AleTest, AConnectionThatComesUpAfterItsPermanentBlockIsAborted)
{
    const Flow flow;

    Decide(flow, VerdictPermanentBlock);
    network_.Establish(flow, 81);
    EXPECT_EQ(network_.TakeAborted(), std::vector<uint64_t>{81});
}

TEST_F(AleTest, OnlyAPermanentBlockOfALiveTcpConnectionAbortsAFlow)
{
    const Flow tcp;
    const Flow udp = UdpV4();

    Decide(tcp, VerdictPermanentAccept);
    Decide(udp, VerdictPermanentAccept);
    network_.Establish(tcp, 83);
    network_.Establish(udp, 85);
    client_.Write(UpdateBytes(udp, VerdictPermanentBlock));
    client_.Write(UpdateBytes(tcp, VerdictPermanentDrop));
    client_.Write(UpdateBytes(tcp, VerdictBlock));
    network_.Close(tcp);
    client_.Write(UpdateBytes(tcp, VerdictPermanentBlock));
    EXPECT_TRUE(network_.TakeAborted().empty());
}

TEST_F(AleTest, TheRstOfAnAbortedFlowPassesAndNothingElseDoes)
{
    constexpr size_t kFlagsOfTcp = 20 + 13;
    const Flow flow;
    ByteVector reset = MakePacket(flow);
    ByteVector received = MakePacket(flow, true);

    reset[kFlagsOfTcp] = received[kFlagsOfTcp] = 0x14;
    Decide(flow, VerdictPermanentAccept);
    network_.Establish(flow);
    client_.Write(UpdateBytes(flow, VerdictPermanentBlock));
    EXPECT_EQ(network_.TakeAborted().size(), 1u);
    EXPECT_TRUE(network_.Outbound(reset).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).blocked());
    EXPECT_TRUE(network_.Inbound(received).blocked());
    network_.Close(flow);
    EXPECT_TRUE(network_.Outbound(reset).permitted()) << "it may leave after the closure";
    EXPECT_FALSE(network_.Outbound(MakePacket(flow)).permitted());
}

TEST_F(AleTest, ARstOfABlockedConnectionThatWasNotAbortedIsBlocked)
{
    const Flow flow;
    ByteVector reset = MakePacket(flow);

    reset[20 + 13] = 0x14;
    Decide(flow, VerdictPermanentBlock);
    EXPECT_TRUE(network_.Outbound(reset).blocked());
}

TEST_F(AleTest, AFlowThatIsUnknownToTheFilterEngineIsStillBlockedPacketByPacket)
{
    const Flow flow;

    Decide(flow, VerdictPermanentAccept);
    network_.Establish(flow, 78);
    client_.Write(UpdateBytes(flow, VerdictPermanentBlock));
    EXPECT_TRUE(network_.TakeAborted().empty());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).blocked());
}

// ---- The end of connections

TEST_P(AleFlowTest, AClosureIsReportedOnce)
{
    Decide(flow(), VerdictPermanentAccept);
    network_.Close(flow());
    network_.Close(flow());
    network_.Release(flow().protocol, flow().local);

    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].type, flow().family() == 6 ? InfoConnectionEndV6 : InfoConnectionEndV4);
    EXPECT_EQ(records[0].At<uint64_t>(0), 1234u);
    EXPECT_EQ(records[0].At<uint8_t>(8), DirectionOutbound);
    EXPECT_EQ(records[0].At<uint8_t>(9), flow().protocol);
}

TEST_F(AleTest, TheClosureOfAnUnknownConnectionIsNotReported)
{
    network_.Close(Flow{});
    network_.Release(PROTOCOL_TCP, V4(0, 0, 0, 0, 50000));
    EXPECT_TRUE(client_.Read().empty());
}

TEST_F(AleTest, TheReleaseOfAPortEndsAllItsConnections)
{
    Flow flow = UdpV4();

    for (uint8_t host = 1; host <= 5; host++)
    {
        flow.remote.address[3] = host;
        Decide(flow, VerdictPermanentAccept);
    }
    Flow other = UdpV4();
    other.local.port++;
    Decide(other, VerdictPermanentAccept);

    network_.Release(PROTOCOL_UDP, V4(0, 0, 0, 0, UdpV4().local.port));
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 5u);
    network_.Release(PROTOCOL_UDP, other.local);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, TheReleaseOfAListenersPortKeepsAcceptedConnections)
{
    const Flow flow;
    const ByteVector syn = MakePacket(flow, true);

    EXPECT_TRUE(network_.Accept(flow, &syn).pended());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    network_.Release(PROTOCOL_TCP, V4(0, 0, 0, 0, flow.local.port), flow.process_id);
    EXPECT_TRUE(client_.ReadType(InfoConnectionEndV4).empty());
    EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).permitted());
    network_.Close(flow);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, TheReleaseOfATcpPortEndsOnlyConnectsThatNeverCameUp)
{
    Flow connecting;
    Flow established;

    established.remote.port++;
    Decide(connecting, VerdictPermanentAccept);
    Decide(established, VerdictPermanentAccept);
    network_.Establish(established);

    network_.Release(PROTOCOL_TCP, connecting.local, connecting.process_id);
    const std::vector<Record> ends = client_.ReadType(InfoConnectionEndV4);
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_EQ(ends[0].At<uint16_t>(20), connecting.remote.port);
    EXPECT_TRUE(network_.Outbound(MakePacket(established)).permitted());

    network_.Close(established);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, TheReleaseOfATcpPortEndsOnlyConnectsOfItsSocket)
{
    const Flow flow;

    network_.Connect(flow);
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
    network_.Release(PROTOCOL_TCP, flow.local, flow.process_id, kTransportEndpoint + 1);
    EXPECT_TRUE(client_.ReadType(InfoConnectionEndV4).empty());
    network_.Release(PROTOCOL_TCP, flow.local, flow.process_id, kTransportEndpoint);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, TheReleaseOfATcpPortKeepsAConnectionThatIsOlderThanTheFilters)
{
    const Flow flow;
    const ByteVector packet = MakePacket(flow);

    EXPECT_TRUE(network_.Connect(flow, &packet, Reauthorize()).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    network_.Release(PROTOCOL_TCP, flow.local, flow.process_id);
    EXPECT_TRUE(client_.ReadType(InfoConnectionEndV4).empty());
    network_.Close(flow);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, AnAuthorizedTcpConnectionOutlivesTenIdleMinutes)
{
    Flow other = UdpV4();
    const Flow flow;

    Decide(flow, VerdictPermanentAccept);
    Decide(other, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Connect(flow, nullptr, Reauthorize()).permitted());
    EXPECT_TRUE(network_.Connect(other, nullptr, Reauthorize()).permitted());
    machine_.clock().Advance(std::chrono::minutes(11));
    machine_.Run();
    client_.Command(CommandCleanEndedConnections);
    EXPECT_EQ(client_.GetStatistics().Connections, 1u);
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
    network_.Close(flow);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, TheReleaseOfASharedPortEndsTheConnectionsOfItsProcessOnly)
{
    Flow one = UdpV4();
    Flow two = UdpV4();
    one.process_id = 7;
    two.process_id = 8;
    two.remote.port++;
    Decide(one, VerdictPermanentAccept);
    Decide(two, VerdictPermanentAccept);

    network_.Release(PROTOCOL_UDP, V4(0, 0, 0, 0, one.local.port), 7);
    const std::vector<Record> ends = client_.ReadType(InfoConnectionEndV4);
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_EQ(ends[0].At<uint64_t>(0), 7u);
    EXPECT_TRUE(network_.Outbound(MakePacket(two)).permitted());
    network_.Release(PROTOCOL_UDP, V4(0, 0, 0, 0, one.local.port), 8);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, TheReleaseOfOneAddressKeepsTheConnectionsOfOthers)
{
    Flow one = UdpV4();
    Flow two = UdpV4();
    two.local.address[3] = 99;
    Decide(one, VerdictPermanentAccept);
    Decide(two, VerdictPermanentAccept);

    network_.Release(PROTOCOL_UDP, one.local);
    const std::vector<Record> ends = client_.ReadType(InfoConnectionEndV4);
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_EQ(ends[0].body[13], one.local.address[3]);
}

TEST_F(AleTest, AConnectionThatWasNeverReportedEndsSilently)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.MaxHeldPackets = 1;
    client_.SetOptions(options);
    Flow told;
    Flow untold;
    untold.local.port++;
    network_.Connect(told);
    network_.Connect(untold);
    machine_.Run();
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);

    network_.Close(untold);
    EXPECT_TRUE(client_.Read().empty());
    network_.Close(told);
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(AleTest, AVerdictOnAnEndedConnectionDoesNotDecideItsSuccessor)
{
    const Network::Answer old = network_.Connect(Flow{});
    const uint64_t old_id = client_.ReadQuestion().id;

    network_.Close(Flow{});
    const Network::Answer successor = network_.Connect(Flow{});
    EXPECT_TRUE(successor.pended());
    client_.Verdict(old_id, VerdictPermanentAccept);
    EXPECT_EQ(old.completed(), 1);
    EXPECT_EQ(successor.completed(), 0);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).absorbed()) << "still undecided";
}

TEST_F(AleTest, AVerdictOnAnEndedConnectionCausesNoSecondEnd)
{
    const Network::Answer operation = network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    network_.Close(Flow{});
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
    client_.Verdict(id, VerdictPermanentAccept);
    EXPECT_EQ(operation.completed(), 1);
    network_.Close(Flow{});
    EXPECT_TRUE(client_.ReadType(InfoConnectionEndV4).empty());
    EXPECT_TRUE(network_.Connect(Flow{}).pended()) << "a reused port is reported";
}

// A user may answer after the driver has forgotten the connection.
TEST_F(AleTest, AVerdictOnAConnectionThatEndedLongAgoDoesNotDecideItsSuccessor)
{
    const Network::Answer operation = network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    network_.Close(Flow{});
    Advance(std::chrono::hours(1));
    client_.Verdict(id, VerdictPermanentAccept);
    EXPECT_EQ(operation.completed(), 1);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
}

TEST_F(AleTest, AVerdictOnAnEndedConnectionDoesNotDecideItsSuccessorAfterClearCache)
{
    const Network::Answer operation = network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    network_.Close(Flow{});
    client_.Command(CommandClearCache);
    client_.Verdict(id, VerdictPermanentAccept);
    EXPECT_EQ(operation.completed(), 1);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
}

TEST_F(AleTest, ABoundPortIsLoggedForDebugging)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    network_.Bind(PROTOCOL_TCP, V4(0, 0, 0, 0, 8080), 77);
    EXPECT_TRUE(client_.GetLogs().empty());
    options.LogLevel = LogSeverityDebug;
    client_.SetOptions(options);
    network_.Bind(PROTOCOL_TCP, V4(0, 0, 0, 0, 8080), 77);
    EXPECT_THAT(client_.GetLogs(),
                testing::Contains(testing::AllOf(testing::HasSubstr("8080"), testing::HasSubstr("77"))));
}

} // namespace
} // namespace kext_test

// Stalled clients: questions wait, and the client gives no sign of life.
#include "hold.h"

#include "connection_keys.h"
#include "support/commands.h"
#include "support/driver_test.h"

#include "nt/scheduler.h"

#include <gmock/gmock.h>

#include <atomic>
#include <functional>
#include <thread>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

using testing::Contains;
using testing::HasSubstr;

constexpr uint32_t kTimeoutMs = 1000;

std::vector<Record> OfType(const std::vector<Record> &records, uint8_t type)
{
    std::vector<Record> wanted;

    std::copy_if(records.begin(), records.end(), std::back_inserter(wanted),
                 [type](const Record &record) { return record.type == type; });
    return wanted;
}

uint8_t VerdictOf(const Record &timeout)
{
    return timeout.At<uint8_t>(8);
}

uint64_t ProcessOf(const Record &timeout)
{
    return timeout.At<uint64_t>(11);
}

class StallTest : public DriverTest
{
  protected:
    explicit StallTest(const sim::MachineOptions &options = StandingClock()) : DriverTest(options) {}

    void SetUp() override { SetOptions(); }

    void SetOptions(const std::function<void(OPTIONS_WIRE *)> &change = [](OPTIONS_WIRE *) {})
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
        options.StallTimeoutMs = kTimeoutMs;
        change(&options);
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
        client_.observer().OthersMayDecide();
    }

    // A packet that waits makes the client stall.
    void Stall()
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
        Advance(1100ms);
        EXPECT_TRUE(IsStalled());
        network_.TakeInjected();
        client_.Read();
    }

    bool IsStalled()
    {
        machine_.Run();
        return ClientIsStalled(&context()->Client);
    }

    // What fails with a cause of its own is not counted here.
    std::vector<Record> ReadDecisions()
    {
        std::vector<Record> decisions = client_.ReadType(InfoConnectionTimeout);

        for (const Record &record : decisions)
        {
            EXPECT_EQ(record.At<uint8_t>(9), TimeoutCauseStall);
        }
        return decisions;
    }

    // Fails the test unless one stall ended. Returns how many decisions it had.
    uint64_t ReadStallEnd()
    {
        const std::vector<Record> ends = client_.ReadType(InfoClientStalled);

        EXPECT_EQ(ends.size(), 1u);
        return ends.empty() ? 0 : ends[0].At<uint64_t>(0);
    }

    static Flow WithPort(uint16_t port, uint8_t protocol = PROTOCOL_TCP)
    {
        Flow flow;

        flow.protocol = protocol;
        flow.local.port = port;
        return flow;
    }

    static AleOptions Reauthorization()
    {
        AleOptions options;

        options.reauthorize = true;
        return options;
    }

    const Flow kWaiting = WithPort(9999, PROTOCOL_UDP);
};

// ---- What waits and what comes, for both IP versions and both fail policies

class StallDecisionTest : public StallTest, public testing::WithParamInterface<std::tuple<bool, bool>>
{
  protected:
    void SetUp() override
    {
        SetOptions([this](OPTIONS_WIRE *options) { options->Flags |= closed_ ? OPTION_FLAG_FAIL_CLOSED : 0; });
    }

    const bool v6_ = std::get<0>(GetParam());
    const bool closed_ = std::get<1>(GetParam());
    const Flow tcp_ = v6_ ? TcpV6() : Flow{};
    const Flow udp_ = v6_ ? UdpV6() : UdpV4();
    const uint8_t verdict_ = closed_ ? VerdictBlock : VerdictAccept;

    bool Passes(const Network::Answer &answer)
    {
        EXPECT_FALSE(answer.pended());
        EXPECT_NE(answer.permitted(), answer.blocked());
        return answer.permitted();
    }
};

INSTANTIATE_TEST_SUITE_P(Machines, StallDecisionTest, testing::Combine(testing::Bool(), testing::Bool()),
                         [](const testing::TestParamInfo<std::tuple<bool, bool>> &info)
                         {
                             return std::string(std::get<0>(info.param) ? "V6" : "V4") +
                                    (std::get<1>(info.param) ? "FailClosed" : "FailOpen");
                         });

TEST_P(StallDecisionTest, WhatWaitsIsDecidedOnceTheLimitHasPassed)
{
    const ByteVector datagram = MakePacket(udp_, true);
    const Network::Answer connect = network_.Connect(tcp_);
    const Network::Answer accept = network_.Accept(udp_, &datagram);

    ASSERT_TRUE(connect.pended() && accept.pended());
    EXPECT_TRUE(network_.Outbound(MakePacket(udp_)).absorbed());
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 3u);
    Advance(999ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 3u);
    EXPECT_EQ(client_.GetStatistics().ClientStalls, 0u);
    Advance(200ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    EXPECT_EQ(client_.GetStatistics().ClientStalls, 1u);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(accept.completed(), 1);
    EXPECT_EQ(network_.TakeInjected().size(), closed_ ? 0u : 2u);

    const std::vector<Record> decisions = ReadDecisions();
    ASSERT_EQ(decisions.size(), 3u);
    for (size_t i = 0; i < decisions.size(); i++)
    {
        const auto has_id = [&](const Record &record) { return record.At<uint64_t>(0) == questions[i].id; };

        EXPECT_EQ(std::count_if(decisions.begin(), decisions.end(), has_id), 1);
        EXPECT_EQ(VerdictOf(decisions[i]), verdict_);
    }
}

TEST_P(StallDecisionTest, APendedConnectFindsTheDecisionWhenItIsAuthorizedAgain)
{
    ASSERT_TRUE(network_.Connect(tcp_).pended());
    Advance(1100ms);
    EXPECT_EQ(Passes(network_.Connect(tcp_, nullptr, Reauthorization())), !closed_);
    EXPECT_EQ(Passes(network_.Outbound(MakePacket(tcp_))), !closed_);
    EXPECT_EQ(ReadDecisions().size(), 1u);
}

// The stall may end before the filter engine authorizes again.
TEST_P(StallDecisionTest, APendedConnectFindsTheDecisionAlsoAfterTheStall)
{
    ASSERT_TRUE(network_.Connect(tcp_).pended());
    Advance(1100ms);
    client_.Keepalive();
    client_.Read();
    EXPECT_EQ(Passes(network_.Connect(tcp_, nullptr, Reauthorization())), !closed_);
    EXPECT_TRUE(ReadDecisions().empty());
    EXPECT_TRUE(network_.Outbound(MakePacket(tcp_)).absorbed());
    EXPECT_EQ(client_.ReadQuestion().process_id, tcp_.process_id);
}

TEST_P(StallDecisionTest, WhatComesIsDecidedAtOnceAtBothLayers)
{
    const ByteVector inbound = MakePacket(udp_, true);

    Stall();
    EXPECT_EQ(Passes(network_.Connect(tcp_)), !closed_);
    EXPECT_EQ(Passes(network_.Outbound(MakePacket(tcp_))), !closed_);
    EXPECT_EQ(Passes(network_.Accept(udp_, &inbound)), !closed_);
    EXPECT_EQ(Passes(network_.Inbound(inbound)), !closed_);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);

    const std::vector<Record> records = client_.Read();
    EXPECT_TRUE(std::none_of(records.begin(), records.end(), IsQuestion));
    const std::vector<Record> decisions = OfType(records, InfoConnectionTimeout);
    ASSERT_EQ(decisions.size(), 2u) << "each connection is reported once";
    for (const Record &decision : decisions)
    {
        EXPECT_EQ(decision.At<uint64_t>(0), 0u) << "it has no question";
        EXPECT_EQ(VerdictOf(decision), verdict_);
        EXPECT_EQ(decision.At<uint8_t>(9), TimeoutCauseStall);
        EXPECT_EQ(ProcessOf(decision), tcp_.process_id);
    }
}

TEST_P(StallDecisionTest, AConnectionThatOnlyThePacketLayerSeesIsDecidedAtOnce)
{
    Stall();
    EXPECT_EQ(Passes(network_.Outbound(MakePacket(udp_))), !closed_);
    EXPECT_EQ(Passes(network_.Outbound(MakePacket(udp_))), !closed_);
    EXPECT_EQ(ReadDecisions().size(), 1u);
}

TEST_P(StallDecisionTest, ARecoveredClientIsAskedAboutEachConnectionWithItsProcess)
{
    const ByteVector inbound = MakePacket(udp_, true);

    Stall();
    network_.Connect(tcp_);
    network_.Accept(udp_, &inbound);
    network_.TakeReauthorized();
    client_.Read();

    EXPECT_EQ(client_.Keepalive(), STATUS_SUCCESS);
    EXPECT_EQ(ReadStallEnd(), 3u);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u) << "what was let in is authorized again";
    const ByteVector outbound = MakePacket(tcp_);
    EXPECT_TRUE(network_.Connect(tcp_, &outbound, Reauthorization()).absorbed());
    EXPECT_TRUE(network_.Outbound(outbound).absorbed());
    EXPECT_TRUE(network_.Inbound(inbound).absorbed());
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 3u);
    for (const Question &question : questions)
    {
        EXPECT_EQ(question.process_id, tcp_.process_id);
        client_.Verdict(question.id, VerdictPermanentAccept);
    }
    EXPECT_EQ(network_.TakeInjected().size(), 3u);
    EXPECT_TRUE(network_.Outbound(outbound).permitted());
}

TEST_P(StallDecisionTest, ANewConnectionIsAskedAboutAfterTheStall)
{
    Stall();
    network_.Connect(tcp_);
    client_.Keepalive();
    client_.Read();
    EXPECT_TRUE(network_.Connect(udp_).pended());
    EXPECT_EQ(client_.ReadQuestion().process_id, udp_.process_id);
}

TEST_P(StallDecisionTest, AnAcceptThatWaitedIsAskedAboutAgain)
{
    const ByteVector packet = MakePacket(udp_, true);

    ASSERT_TRUE(network_.Accept(udp_, &packet).pended());
    Advance(1100ms);
    client_.Keepalive();
    client_.Read();
    EXPECT_TRUE(network_.Accept(udp_, &packet, Reauthorization()).absorbed());
    EXPECT_EQ(client_.ReadQuestion().process_id, udp_.process_id);
}

TEST_P(StallDecisionTest, ATemporaryVerdictAfterTheStallStays)
{
    const ByteVector packet = MakePacket(tcp_);
    const ByteVector other = MakePacket(udp_);

    Stall();
    network_.Connect(tcp_);
    network_.Connect(udp_, &other);
    client_.Write(UpdateBytes(udp_, VerdictAccept));
    client_.Read();
    EXPECT_TRUE(network_.Outbound(packet).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    for (int i = 0; i < 2; i++)
    {
        EXPECT_TRUE(network_.Connect(tcp_, &packet, Reauthorization()).permitted());
        EXPECT_TRUE(network_.Connect(udp_, &other, Reauthorization()).permitted());
    }
}

TEST_P(StallDecisionTest, APermanentVerdictHoldsThroughAStall)
{
    Decide(tcp_, VerdictPermanentAccept);
    Decide(udp_, VerdictPermanentBlock);
    client_.Read();
    Stall();
    EXPECT_TRUE(network_.Outbound(MakePacket(tcp_)).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(udp_)).blocked());
    EXPECT_TRUE(network_.Connect(udp_, nullptr, Reauthorization()).blocked());
    EXPECT_TRUE(ReadDecisions().empty());
}

TEST_P(StallDecisionTest, ThePacketsOfATemporaryVerdictAreDecidedToo)
{
    Decide(tcp_, VerdictAccept);
    client_.Read();
    Stall();
    EXPECT_EQ(Passes(network_.Outbound(MakePacket(tcp_))), !closed_);
    EXPECT_EQ(ReadDecisions().size(), 1u);
    client_.Keepalive();
    client_.Read();
    EXPECT_TRUE(network_.Outbound(MakePacket(tcp_)).absorbed());
    EXPECT_EQ(client_.ReadQuestion().process_id, tcp_.process_id);
}

TEST_P(StallDecisionTest, LaterFragmentsFollowAFirstOneThatIsDecided)
{
    const ByteVector datagram = MakePacket(udp_, false, Payload(40));

    Stall();
    EXPECT_EQ(network_.Outbound(Fragment(datagram, 0, 24)).permitted(), !closed_);
    EXPECT_EQ(network_.Outbound(Fragment(datagram, 24, 24)).permitted(), !closed_);
    EXPECT_EQ(ReadDecisions().size(), 1u);
}

// ---- The clock

TEST_F(StallTest, EachSignOfLifePutsTheLimitOff)
{
    Decide(Flow{}, VerdictPermanentAccept);
    const std::function<void()> signs[] = {
        [&] { client_.Keepalive(); },
        [&] { client_.Verdict(1'000'000, VerdictAccept); },
        [&] { client_.Write(UpdateBytes(Flow{}, VerdictPermanentAccept)); },
        [&] { client_.Write(UpdateBytes(TcpV6(), VerdictPermanentAccept)); },
        [&]
        {
            ByteVector out(1);

            client_.Control(IOCTL_NETVERDICT_UPDATE_CONNECTION, UpdateBytes(Flow{}, VerdictPermanentAccept), &out);
        },
    };

    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    for (const std::function<void()> &sign : signs)
    {
        Advance(900ms);
        sign();
    }
    Advance(999ms);
    EXPECT_FALSE(IsStalled());
    Advance(200ms);
    EXPECT_TRUE(IsStalled());
}

TEST_F(StallTest, NothingElseIsASignOfLife)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    Advance(900ms);
    client_.Read();
    client_.GetLogs();
    client_.GetStatistics();
    for (const uint8_t command :
         {CommandGetBandwidthStats, CommandPrintMemoryStats, CommandCleanEndedConnections, CommandClearCache})
    {
        client_.Command(command);
    }
    client_.Write({CommandVerdict});
    SetOptions();
    Advance(200ms);
    EXPECT_TRUE(IsStalled());
}

TEST_F(StallTest, TheClockRunsFromTheOldestQuestionThatWaits)
{
    Advance(1h);
    const Network::Answer first = network_.Connect(WithPort(1));
    const uint64_t id = client_.ReadQuestion().id;
    Advance(500ms);
    const Network::Answer second = network_.Connect(WithPort(2));
    Advance(400ms);
    EXPECT_FALSE(IsStalled());
    client_.Verdict(id, VerdictPermanentAccept);
    EXPECT_EQ(first.completed(), 1);
    Advance(999ms);
    EXPECT_EQ(second.completed(), 0);
    Advance(200ms);
    EXPECT_EQ(second.completed(), 1);
}

TEST_F(StallTest, WhileNoQuestionWaitsNoTimerRuns)
{
    const auto work_left = [this]
    {
        machine_.Run();
        return machine_.scheduler().DriverWorkLeft();
    };
    const auto timer_wait = [this]
    {
        const auto timers = machine_.scheduler().DriverTimers();

        return timers.size() == 1 ? timers[0].first - KeQueryUnbiasedInterruptTime() : 0;
    };

    EXPECT_EQ(work_left(), "");
    client_.Keepalive();
    EXPECT_EQ(work_left(), "");
    Decide(Flow{}, VerdictPermanentAccept);
    Advance(10s);
    EXPECT_GT(timer_wait(), 60 * PLATFORM_TICKS_PER_SECOND) << "the timer of the connection table alone";
    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    EXPECT_EQ(timer_wait(), kTimeoutMs * PLATFORM_TICKS_PER_MILLISECOND);
    Advance(10s);
    EXPECT_TRUE(IsStalled());
    EXPECT_GT(timer_wait(), 60 * PLATFORM_TICKS_PER_SECOND) << "nor does one run in a stall";
    client_.Keepalive();
    EXPECT_FALSE(IsStalled());
    EXPECT_GT(timer_wait(), 60 * PLATFORM_TICKS_PER_SECOND) << "nor after it";
    Advance(1h);
    EXPECT_FALSE(IsStalled());
    EXPECT_EQ(client_.GetStatistics().ClientStalls, 1u);
}

TEST_F(StallTest, SleepDoesNotCount)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    Advance(500ms);
    machine_.Sleep(8h, sim::SleepKind::kModernStandby, true);
    EXPECT_FALSE(IsStalled());
    Advance(499ms);
    EXPECT_FALSE(IsStalled());
    Advance(200ms);
    EXPECT_TRUE(IsStalled());
}

TEST_F(StallTest, AConnectionThatASleepLetInIsAskedAboutAgain)
{
    const Network::Answer connect = network_.Connect(Flow{});

    client_.Read();
    machine_.Sleep(8h, sim::SleepKind::kStandby);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(ReadDecisions().size(), 1u);
    EXPECT_FALSE(IsStalled());
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, Reauthorization()).permitted());
    const ByteVector packet = MakePacket(Flow{});
    EXPECT_TRUE(network_.Connect(Flow{}, &packet, Reauthorization()).absorbed());
    EXPECT_EQ(client_.ReadQuestion().process_id, Flow{}.process_id);
}

// ---- Who is stalled

TEST_F(StallTest, AClientWithoutATimeoutIsNeverStalled)
{
    SetOptions([](OPTIONS_WIRE *options) { options->StallTimeoutMs = 0; });
    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    Advance(24h);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
    EXPECT_EQ(client_.GetStatistics().ClientStalls, 0u);
    EXPECT_EQ(client_.Keepalive(), STATUS_SUCCESS);
}

TEST_F(StallTest, ABaseClientIsNeverStalled)
{
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    const Network::Answer connect = network_.Connect(Flow{});
    Advance(24h);
    EXPECT_EQ(connect.completed(), 0);
    EXPECT_EQ(client_.GetStatistics().ClientStalls, 0u);
}

TEST_F(StallTest, AHandleForQueriesGivesNoSignOfLife)
{
    Client query(machine_);

    ASSERT_EQ(query.OpenForQuery(), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    Advance(900ms);
    EXPECT_FALSE(NT_SUCCESS(query.Keepalive()));
    Advance(200ms);
    EXPECT_TRUE(IsStalled());
    EXPECT_FALSE(NT_SUCCESS(query.Keepalive()));
    EXPECT_TRUE(IsStalled());
}

TEST_F(StallTest, TheClockOfATimeoutThatIsSetLateStartsThen)
{
    SetOptions([](OPTIONS_WIRE *options) { options->StallTimeoutMs = 0; });
    EXPECT_TRUE(network_.Outbound(MakePacket(kWaiting)).absorbed());
    Advance(1h);
    SetOptions();
    Advance(999ms);
    EXPECT_FALSE(IsStalled());
    Advance(200ms);
    EXPECT_TRUE(IsStalled());
}

TEST_F(StallTest, ATimeoutThatIsTakenBackEndsTheStall)
{
    Stall();
    SetOptions([](OPTIONS_WIRE *options) { options->StallTimeoutMs = 0; });
    EXPECT_FALSE(IsStalled());
    EXPECT_EQ(ReadStallEnd(), 1u);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
}

// ---- The end

TEST_F(StallTest, TheEndSaysHowManyWereDecidedAndForHowLong)
{
    Stall();
    Advance(2s);
    for (uint16_t port = 1; port <= 5; port++)
    {
        EXPECT_TRUE(network_.Connect(WithPort(port)).permitted());
    }
    client_.Keepalive();
    const std::vector<Record> ends = client_.ReadType(InfoClientStalled);
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_EQ(ends[0].At<uint64_t>(0), 6u);
    EXPECT_GE(ends[0].At<uint64_t>(8), 2000u);
    EXPECT_LE(ends[0].At<uint64_t>(8), 2100u);
}

TEST_F(StallTest, SeveralSignsOfLifeInOneWriteAreOneEnd)
{
    ByteVector commands = UpdateBytes(Flow{}, VerdictPermanentAccept);
    const ByteVector verdict = VerdictBytes(1'000'000, VerdictAccept);

    Stall();
    commands.insert(commands.end(), verdict.begin(), verdict.end());
    commands.insert(commands.end(), verdict.begin(), verdict.end());
    client_.Write(commands);
    EXPECT_EQ(ReadStallEnd(), 1u);
    client_.Keepalive();
    EXPECT_TRUE(client_.ReadType(InfoClientStalled).empty());
}

TEST_F(StallTest, ALateVerdictForTheConnectionCountsFromThen)
{
    Stall();
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    EXPECT_TRUE(network_.Connect(WithPort(1)).permitted());
    client_.Write(UpdateBytes(Flow{}, VerdictPermanentAccept));
    client_.Write(UpdateBytes(WithPort(1), VerdictPermanentBlock));
    client_.Read();
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).blocked());
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(StallTest, EachStallReportsAConnectionOnce)
{
    for (int i = 0; i < 3; i++)
    {
        Stall();
        EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
        EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
        EXPECT_EQ(ReadDecisions().size(), 1u);
        client_.Keepalive();
        EXPECT_EQ(ReadStallEnd(), 2u);
    }
    EXPECT_EQ(client_.GetStatistics().ClientStalls, 3u);
}

TEST_F(StallTest, WithoutRoomForItTheEndComesWithTheNextSignOfLife)
{
    SetOptions([](OPTIONS_WIRE *options) { options->MaxQueuedBytes = 1; });
    uint64_t decided = 0;
    while (
        network_.Outbound(MakePacket(WithPort(static_cast<uint16_t>(1000 + decided)), false, Payload(1000))).absorbed())
    {
        decided++;
    }
    // The rest of the queue goes to records that have no question.
    while (NT_SUCCESS(EventLogLine(&context()->Events, LogSeverityInfo, "full", 4)))
    {
    }
    Advance(1100ms);
    ASSERT_TRUE(IsStalled());
    client_.Keepalive();
    EXPECT_FALSE(IsStalled());
    EXPECT_TRUE(client_.ReadType(InfoClientStalled).empty());
    client_.Keepalive();
    EXPECT_EQ(ReadStallEnd(), decided);
}

TEST_F(StallTest, AnOlderClientIsNotToldOfTheEnd)
{
    SetOptions([](OPTIONS_WIRE *options) { options->Flags = 0; });
    Stall();
    client_.Keepalive();
    EXPECT_FALSE(IsStalled());
    EXPECT_TRUE(client_.Read().empty());
}

TEST_F(StallTest, TheLogNamesTheStallAndItsEnd)
{
    SetOptions([](OPTIONS_WIRE *options) { options->LogLevel = LogSeverityInfo; });
    Stall();
    client_.Keepalive();
    const std::vector<std::string> lines = client_.GetLogs();
    EXPECT_THAT(lines, Contains(HasSubstr("The client is stalled")));
    EXPECT_THAT(lines, Contains(HasSubstr("stall ended after")));
}

TEST_F(StallTest, ItsProcessIsReportedBeforeADecision)
{
    AleOptions ale;

    ale.process_path = u"\\device\\harddiskvolume1\\program.exe";
    Stall();
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, ale).permitted());
    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].type, InfoProcessInfo);
    EXPECT_EQ(records[1].type, InfoConnectionTimeout);
}

TEST_F(StallTest, WhatIsDecidedInPlaceIsReportedOnce)
{
    Flow multicast = kWaiting;

    multicast.local.port = 5353;
    multicast.remote = V4(224, 0, 0, 251, 5353);
    Stall();
    EXPECT_TRUE(network_.Outbound(MakePacket(multicast)).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(multicast)).permitted());
    EXPECT_EQ(ReadDecisions().size(), 1u);
}

// As by a holder that looked for a stall before it began.
TEST_F(StallTest, AQuestionThatIsAskedDuringAStallDoesNotWait)
{
    const CONNECTION_KEY key = KeyV4(1);
    HOLD_QUESTION question{};

    question.Kind = HeldNothing;
    question.Key = &key;
    question.PayloadLayer = PROTOCOL_PAYLOAD_NETWORK_LAYER;
    Stall();
    EXPECT_EQ(HoldAsk(context(), &question), DecisionHeld);
    machine_.Run();
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 2u);
    EXPECT_TRUE(IsQuestion(records[0]));
    EXPECT_EQ(records[1].type, InfoConnectionTimeout);
}

// ---- The end of the client

TEST_F(StallTest, TheNextClientIsNotStalled)
{
    Stall();
    EXPECT_TRUE(network_.Connect(WithPort(1)).permitted());
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    SetOptions();
    EXPECT_FALSE(IsStalled());
    EXPECT_TRUE(network_.Connect(WithPort(1)).pended());
    client_.Keepalive();
    EXPECT_TRUE(client_.ReadType(InfoClientStalled).empty());
}

TEST_F(StallTest, AShutdownReportsTheStall)
{
    Stall();
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    client_.Command(CommandShutdown);
    EXPECT_EQ(ReadStallEnd(), 2u);
    EXPECT_FALSE(IsStalled());
    EXPECT_EQ(machine_.scheduler().DriverWorkLeft(), "");
}

TEST_F(StallTest, TheDriverUnloadsDuringAStall)
{
    Stall();
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    client_.Close();
    Unload();
}

// ---- Many questions and several processors

TEST_F(StallTest, AFloodOfQuestionsIsDecidedOnceEach)
{
    std::vector<Network::Answer> answers;

    for (uint16_t port = 1; port <= 2000; port++)
    {
        answers.push_back(network_.Connect(WithPort(port)));
    }
    client_.Read();
    Advance(1100ms);
    EXPECT_TRUE(
        std::all_of(answers.begin(), answers.end(), [](const auto &answer) { return answer.completed() == 1; }));
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    EXPECT_EQ(ReadDecisions().size(), 2000u);
    client_.Keepalive();
    EXPECT_EQ(ReadStallEnd(), 2000u);
}

class StallRaceTest : public StallTest
{
  protected:
    StallRaceTest() : StallTest(RunningClock()) {}

    static sim::MachineOptions RunningClock()
    {
        sim::MachineOptions options;

        options.processors = 4;
        return options;
    }

    void SetUp() override
    {
        SetOptions([](OPTIONS_WIRE *options) { options->StallTimeoutMs = 1; });
    }

    std::thread Start(std::function<void()> body)
    {
        return std::thread(
            [this, body = std::move(body)]
            {
                sim::Machine::Scope scope(machine_);

                body();
            });
    }

    // Looks for a stall as the timer would, all the time.
    void Check()
    {
        DeferredRequest(&context()->Deferred, DEFERRED_DUE);
        DeferredQueue(&context()->Deferred);
    }
};

TEST_F(StallRaceTest, EachQuestionIsDecidedOnceByItsVerdictOrByTheStall)
{
    std::atomic<bool> running{true};
    std::vector<Network::Answer> answers;

    std::thread stalls = Start(
        [&]
        {
            while (running)
            {
                Check();
                std::this_thread::yield();
            }
        });
    std::thread client = Start(
        [&]
        {
            while (running)
            {
                for (const Question &question : client_.ReadQuestions())
                {
                    client_.Verdict(question.id, VerdictPermanentAccept);
                }
            }
        });
    for (uint16_t i = 1; i <= 2000; i++)
    {
        answers.push_back(network_.Connect(WithPort(i)));
    }
    running = false;
    stalls.join();
    client.join();
    for (const Question &question : client_.ReadQuestions())
    {
        client_.Verdict(question.id, VerdictPermanentAccept);
    }
    machine_.Run();
    for (const Network::Answer &answer : answers)
    {
        EXPECT_EQ(answer.completed(), answer.pended() ? 1 : 0);
    }
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

TEST_F(StallRaceTest, TheEndsOfAllStallsCountEachDecisionOnce)
{
    std::atomic<bool> running{true};
    std::vector<std::thread> signs;
    uint64_t counted = 0;
    uint64_t decided = 0;

    for (int i = 0; i < 2; i++)
    {
        signs.push_back(Start(
            [&]
            {
                while (running)
                {
                    client_.Keepalive();
                    std::this_thread::yield();
                }
            }));
    }
    for (uint16_t i = 1; i <= 2000; i++)
    {
        network_.Connect(WithPort(i));
        Check();
    }
    running = false;
    for (std::thread &sign : signs)
    {
        sign.join();
    }
    SetOptions([](OPTIONS_WIRE *options) { options->StallTimeoutMs = 0; });
    machine_.Run();
    for (const Record &record : client_.Read())
    {
        counted += record.type == InfoClientStalled ? record.At<uint64_t>(0) : 0;
        decided += record.type == InfoConnectionTimeout ? 1 : 0;
    }
    EXPECT_EQ(counted + static_cast<uint64_t>(ReadNoFence64(&context()->Client.StallDecisions)), decided);
}

} // namespace
} // namespace kext_test

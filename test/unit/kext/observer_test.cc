// A made-up driver breaks each invariant.
#include "support/commands.h"
#include "support/observer.h"
#include "support/packets.h"
#include "support/record_bytes.h"

#include <gmock/gmock.h>

#include <cstring>

namespace
{

using namespace kext_test;
using netverdict_test::Observer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ObserverTest : public testing::Test
{
  protected:
    ObserverTest() { observer_.Opened(now_); }

    template <typename Wire> void Read(const Wire &wire)
    {
        now_.events_queued++;
        now_.events_delivered++;
        observer_.Read(reinterpret_cast<const uint8_t *>(&wire), sizeof(wire));
    }

    template <typename Wire> void Question(uint8_t type, uint64_t id, const Flow &flow)
    {
        auto wire = MakeRecord<Wire>(type, flow);

        wire.Id = id;
        Read(wire);
    }

    void Question(uint64_t id, const Flow &flow)
    {
        now_.packets_held++;
        if (flow.family() == 6)
        {
            Question<CONNECTION_V6_WIRE>(InfoConnectionV6, id, flow);
        }
        else
        {
            Question<CONNECTION_V4_WIRE>(InfoConnectionV4, id, flow);
        }
    }

    void End(const Flow &flow) { Read(MakeRecord<CONNECTION_END_V4_WIRE>(InfoConnectionEndV4, flow)); }

    void Lose(uint64_t count)
    {
        EVENTS_LOST_WIRE wire{};

        wire.Header = {InfoEventsLost, sizeof(wire) - sizeof(wire.Header)};
        wire.Count = count;
        wire.Reason = LossQueueFull;
        Read(wire);
    }

    void Write(const ByteVector &bytes) { observer_.Writes(bytes.data(), bytes.size()); }

    // The client gives the verdict and the driver carries it out.
    void Verdict(uint64_t id, uint8_t verdict)
    {
        Write(VerdictBytes(id, verdict));
        now_.verdicts_applied++;
        now_.packets_held--;
    }

    void LetOut(const Flow &flow)
    {
        const ByteVector packet = MakePacket(flow);

        observer_.LetsOut(packet.data(), packet.size());
    }

    std::vector<std::string> Problems() { return observer_.Problems(now_); }

    static Flow Other()
    {
        Flow flow;

        flow.remote.port++;
        return flow;
    }

    // The same packets, as the other end of a conversation within this computer has them.
    static Flow Reversed(Flow flow)
    {
        std::swap(flow.local, flow.remote);
        return flow;
    }

    // A packet that was redirected to this port of its own computer.
    static Flow RedirectedTo(uint16_t port, Flow flow)
    {
        flow.remote = flow.local;
        flow.remote.port = port;
        return flow;
    }

    Observer observer_;
    Observer::Counters now_;
};

TEST_F(ObserverTest, FindsNoProblemInACorrectDriver)
{
    for (const Flow &flow : {Flow{}, UdpV4(), TcpV6()})
    {
        Question(flow.remote.port + flow.family(), flow);
        Verdict(flow.remote.port + flow.family(), VerdictAccept);
        LetOut(flow);
    }
    End(Flow{});
    Question(1, Flow{});
    End(Flow{});
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(ObserverTest, ARepeatedIdIsFound)
{
    Question(7, Flow{});
    Question(7, Other());
    now_.packets_held = 1;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("id 7 came twice")));
}

TEST_F(ObserverTest, AnIdOfTheClientBeforeIsFound)
{
    Question(7, Flow{});
    now_.packets_held = 0;
    observer_.Opened(now_);
    Question(7, Flow{});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("id 7 came twice")));
}

TEST_F(ObserverTest, AnIdThatTakesTwoVerdictsIsFound)
{
    Question(1, Flow{});
    Question(2, Other());
    Verdict(1, VerdictBlock);
    Verdict(1, VerdictBlock);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("1 questions were decided and 2 verdicts applied"),
                                        HasSubstr("1 questions are open and 0 held")));
}

TEST_F(ObserverTest, AVerdictThatIsNotCountedIsFound)
{
    Write(VerdictBytes(99, VerdictAccept));
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("1 verdicts were given, 0 applied and 0 of unknown ids")));
    now_.verdicts_unknown_id = 1;
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(ObserverTest, AResolutionWithoutAVerdictIsFound)
{
    Question(1, Flow{});
    now_.packets_held = 0;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("1 questions are open and 0 held")));
    observer_.OthersMayDecide();
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(ObserverTest, TheFailPolicyMayDecideInAStall)
{
    Question(1, Flow{});
    now_.packets_held = 0;
    now_.client_stalls = 1;
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(ObserverTest, AnEventThatIsLostSilentlyIsFound)
{
    now_.events_queued++;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("1 events were queued, 0 delivered and 0 read")));
    now_.events_delivered++;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("1 events were queued, 1 delivered and 0 read")));
}

TEST_F(ObserverTest, ALossThatIsReportedTwiceIsFound)
{
    now_.events_lost = 2;
    Lose(2);
    EXPECT_THAT(Problems(), IsEmpty());
    Lose(2);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("4 losses were reported and 2 counted")));
}

TEST_F(ObserverTest, ALossThatIsNotReportedIsFound)
{
    OPTIONS_WIRE options{};

    now_.events_lost = 3;
    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    observer_.TookOptions(&options, sizeof(options), now_);
    EXPECT_THAT(Problems(), IsEmpty()) << "the client did not know loss records before";
    now_.events_lost = 5;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("0 losses were reported and 5 counted")));
    now_.failed_calls = 1;
    EXPECT_THAT(Problems(), IsEmpty()) << "the loss record itself may have failed for lack of memory";
}

TEST_F(ObserverTest, EventsBeforeInexactCountersAreNoProblem)
{
    now_.events_queued++;
    now_.events_lost++;
    observer_.Opened(now_, false);
    now_.events_queued--;
    Question(7, Flow{});
    Lose(1);
    EXPECT_THAT(Problems(), IsEmpty());
    now_.events_delivered++;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("3 delivered and 2 read")));
}

TEST_F(ObserverTest, ALastingProblemIsReportedAgain)
{
    Question(7, Flow{});
    Question(7, Other());
    now_.packets_held = 1;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("id 7 came twice")));
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("id 7 came twice")));
}

TEST_F(ObserverTest, APacketThatStaysHeldAfterItsVerdictIsFound)
{
    now_.events_lost = 1; // the fail policy may decide
    Question(1, Flow{});
    Verdict(1, VerdictAccept);
    EXPECT_THAT(Problems(), IsEmpty());
    now_.packets_held++;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("0 questions are open and 1 held")));
}

TEST_F(ObserverTest, AVerdictThatTheDriverDidNotConsumeIsNotCounted)
{
    const ByteVector verdict = VerdictBytes(1, VerdictAccept);

    Question(1, Flow{});
    Write(verdict);
    observer_.Wrote(verdict.data(), verdict.size(), 0);
    EXPECT_THAT(Problems(), IsEmpty());
    LetOut(Flow{});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict")));
}

TEST_F(ObserverTest, ATruncatedRecordIsFound)
{
    const uint8_t start[] = {InfoLogLine, 9, 0, 0, 0, 1};

    observer_.Read(start, sizeof(start));
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("ends within a record")));
}

TEST_F(ObserverTest, APacketBeforeItsVerdictIsFound)
{
    Question(1, Flow{});
    LetOut(Flow{});
    Verdict(1, VerdictAccept);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict")));
}

TEST_F(ObserverTest, APacketThatAnotherConnectionsVerdictLetsOutIsFound)
{
    Question(1, Flow{});
    Question(2, Other());
    Verdict(1, VerdictAccept);
    Verdict(2, VerdictBlock);
    LetOut(Other());
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict, or by another's")));
}

TEST_F(ObserverTest, APacketWithExtensionHeadersIsChecked)
{
    ByteVector packet = MakePacket(TcpV6());

    packet.insert(packet.begin() + 40, {packet[6], 0, 0, 0, 0, 0, 0, 0});
    packet[6] = 60; // destination options
    Question(1, TcpV6());
    observer_.LetsOut(packet.data(), packet.size());
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict")));
    Verdict(1, VerdictAccept);
    observer_.LetsOut(packet.data(), packet.size());
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict"))) << "the first packet's problem stays";
}

TEST_F(ObserverTest, AnEndWithoutItsConnectionIsFound)
{
    Question(1, Flow{});
    End(Other());
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("ConnectionEnd came without its Connection")));
}

TEST_F(ObserverTest, ASecondEndIsFound)
{
    Question(1, Flow{});
    End(Flow{});
    End(Flow{});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("ConnectionEnd came without its Connection, or a second time")));
}

TEST_F(ObserverTest, BothEndsOfAConversationWithinTheComputerEndOnce)
{
    Question(1, Flow{});
    Question(2, Reversed(Flow{}));
    Verdict(1, VerdictAccept);
    Verdict(2, VerdictAccept);
    End(Flow{});
    End(Reversed(Flow{}));
    EXPECT_THAT(Problems(), IsEmpty());
    End(Flow{});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("a second time")));
}

TEST_F(ObserverTest, AnIdThatIsGuessedMayBeUnknownOrNot)
{
    Write(VerdictBytes(7, VerdictAccept));
    now_.verdicts_unknown_id = 1;
    Question(7, Flow{});
    EXPECT_THAT(Problems(), IsEmpty()) << "the question came later";
    now_.verdicts_unknown_id = 0;
    now_.verdicts_applied = 1;
    now_.packets_held = 0;
    EXPECT_THAT(Problems(), IsEmpty()) << "the question waited in the queue";
    now_.packets_held = 2;
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("1 questions are open and 2 held")));
}

TEST_F(ObserverTest, APacketOfAnotherConnectionIsFoundBesideRedirectedOnes)
{
    Flow question = UdpV4();

    question.local.port++;
    Question(1, Flow{});
    Question(2, question);
    Verdict(1, VerdictRedirectTunnel);
    Verdict(2, VerdictRedirectNameServer);
    LetOut(RedirectedTo(717, Flow{}));
    LetOut(Reversed(Flow{}));
    question.local = V4(127, 0, 0, 1, question.local.port);
    LetOut(RedirectedTo(53, question));
    LetOut(Reversed(RedirectedTo(53, question)));
    EXPECT_THAT(Problems(), IsEmpty());
    LetOut(Other());
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict")));
}

TEST_F(ObserverTest, ALossExcusesOnePacket)
{
    now_.events_lost = 1;
    LetOut(Other());
    EXPECT_THAT(Problems(), IsEmpty());
    LetOut(Other());
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("let out before its verdict")));
}

TEST_F(ObserverTest, WhatWasLostDuringInexactCountersExcusesAnyPacket)
{
    observer_.Opened(now_, false);
    LetOut(Other());
    EXPECT_THAT(Problems(), IsEmpty());
}

} // namespace

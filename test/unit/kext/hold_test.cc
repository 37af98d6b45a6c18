#include "support/async_read.h"
#include "support/driver_test.h"

#include <array>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

class HoldTest : public DriverTest
{
  protected:
    void SetOptions(const std::function<void(OPTIONS_WIRE *)> &change)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        change(&options);
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static Flow WithPort(uint16_t port, uint8_t protocol = PROTOCOL_UDP)
    {
        Flow flow = UdpV4();

        flow.protocol = protocol;
        flow.local.port = port;
        return flow;
    }

    // A TCP connection of a process.
    static Flow Of(uint64_t process, uint16_t port)
    {
        Flow flow = WithPort(port, PROTOCOL_TCP);

        flow.process_id = process;
        return flow;
    }

    // Fills the event queue with records. Returns how many packets are held.
    size_t FillEventQueue()
    {
        size_t held = 0;
        uint16_t port = 10000;

        while (network_.Outbound(MakePacket(WithPort(port++), false, Payload(1400))).absorbed())
        {
            held++;
        }
        return held;
    }
};

// ---- Detach, shutdown

TEST_F(HoldTest, DetachingResolvesEverythingThatIsHeldBeforeItReturns)
{
    const ByteVector out = MakePacket(WithPort(1));
    const ByteVector in = MakePacket(WithPort(2), true);
    const Network::Answer tcp = network_.Connect(Flow{});
    const Network::Answer udp = network_.Connect(WithPort(1), &out, {});
    const Network::Answer accept = network_.Accept(WithPort(2), &in);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(3))).absorbed());

    client_.Close();
    for (const Network::Answer *answer : {&tcp, &udp, &accept})
    {
        EXPECT_EQ(answer->completed(), 1);
    }
    EXPECT_EQ(PacketCacheCount(&context()->Packets), 0u);
    EXPECT_EQ(network_.TakeInjected().size(), 3u) << "the fail policy is open";
    EXPECT_EQ(ConnectionTableCount(&context()->Connections), 0u);
}

TEST_F(HoldTest, DetachingWaitsForAThreadThatStillResolves)
{
    RUNDOWN *resolvers = &context()->Packets.Resolvers;
    RUNDOWN_SLOT *slot = RundownEnter(resolvers);
    std::atomic<bool> detached{false};
    bool waited = false;
    std::thread resolver(
        [this, resolvers, slot, &detached, &waited]
        {
            const sim::Machine::Scope scope(machine_);

            while (ReadAcquire(&resolvers->Waiting) == 0 && !detached)
            {
                std::this_thread::yield();
            }
            waited = !detached;
            RundownLeave(resolvers, slot);
        });

    client_.Close();
    detached = true;
    resolver.join();
    EXPECT_TRUE(waited);
}

TEST_F(HoldTest, DetachingAFailClosedClientDropsEverythingHeld)
{
    SetOptions([](OPTIONS_WIRE *options) { options->Flags = OPTION_FLAG_FAIL_CLOSED; });
    const ByteVector in = MakePacket(WithPort(2), true);
    const Network::Answer tcp = network_.Connect(Flow{});
    const Network::Answer accept = network_.Accept(WithPort(2), &in);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(3))).absorbed());

    client_.Close();
    EXPECT_EQ(tcp.completed(), 1);
    EXPECT_EQ(accept.completed(), 1);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_TRUE(network_.Connect(Flow{}).blocked());
}

TEST_F(HoldTest, ShutdownResolvesEverythingThatIsHeldBeforeItReturns)
{
    const Network::Answer tcp = network_.Connect(Flow{});
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(3))).absorbed());

    client_.Command(CommandShutdown);
    EXPECT_EQ(tcp.completed(), 1);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

// One way in which a client ends while everything is held.
struct Ending
{
    bool fail_closed;
    bool shutdown; // before the handle is closed
};

class EndingTest : public HoldTest, public testing::WithParamInterface<Ending>
{
  protected:
    void StartReads()
    {
        client_.Read();
        for (AsyncRead &read : reads_)
        {
            read.Start(machine_.io(), client_.file(), 1024);
        }
    }

    std::array<AsyncRead, 3> reads_;
};

TEST_P(EndingTest, LeavesNothingHeldNoReadWaitingAndNothingForTheNextClient)
{
    const ByteVector in = MakePacket(WithPort(2), true);
    SetOptions([](OPTIONS_WIRE *options) { options->Flags = GetParam().fail_closed ? OPTION_FLAG_FAIL_CLOSED : 0; });

    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(9))).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    ASSERT_EQ(machine_.wfp().counters().injections_now, 1u) << "one injection is in flight all the time";

    const Network::Answer connect = network_.Connect(Flow{});
    const Network::Answer accept = network_.Accept(WithPort(2), &in);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(3))).absorbed());
    StartReads();

    if (GetParam().shutdown)
    {
        client_.Command(CommandShutdown);
    }
    else
    {
        client_.Close();
    }
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(accept.completed(), 1);
    EXPECT_EQ(PacketCacheCount(&context()->Packets), 0u);
    machine_.Run();
    for (const AsyncRead &read : reads_)
    {
        EXPECT_EQ(read.status, GetParam().shutdown ? STATUS_END_OF_FILE : STATUS_CANCELLED);
    }
    EXPECT_EQ(network_.Connect(WithPort(4, PROTOCOL_TCP)).permitted(), !GetParam().fail_closed);
    EXPECT_EQ(network_.TakeInjected().size(), GetParam().fail_closed ? 1u : 3u);

    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    EXPECT_TRUE(client_.Read().empty());
    EXPECT_TRUE(network_.Connect(Flow{}).pended()) << "reported again";
}

INSTANTIATE_TEST_SUITE_P(EachWay, EndingTest,
                         testing::Values(Ending{false, false}, Ending{false, true}, Ending{true, false},
                                         Ending{true, true}));

TEST_F(HoldTest, AVerdictAfterShutdownFindsNothing)
{
    network_.Connect(Flow{});
    const uint64_t id = client_.ReadQuestion().id;

    client_.Command(CommandShutdown);
    EXPECT_EQ(client_.Verdict(id, VerdictPermanentBlock).status, STATUS_SUCCESS);
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
}

TEST_F(HoldTest, TheNextClientGetsNoRecordOfEarlierConnections)
{
    Client second(machine_);

    Decide(Flow{}, VerdictPermanentBlock);
    client_.Close();
    ASSERT_EQ(second.Open(), STATUS_SUCCESS);
    EXPECT_EQ(second.GetStatistics().Connections, 0u);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    network_.Close(Flow{});
    EXPECT_EQ(second.Read().size(), 2u) << "the connection and its end";
}

TEST_F(HoldTest, IdsAreNeverReusedAcrossClients)
{
    Client second(machine_);

    network_.Connect(Flow{});
    const uint64_t first = client_.ReadQuestion().id;
    client_.Close();
    ASSERT_EQ(second.Open(), STATUS_SUCCESS);
    network_.Connect(Flow{});
    EXPECT_GT(second.ReadQuestion().id, first);
}

// ---- Limits

TEST_F(HoldTest, AnOwnerThatHoldsEverythingIsRefusedItsNextPacketUnderAnOpenFailPolicy)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->MaxHeldPackets = 2;
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS;
        });
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(2))).absorbed());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(3))).blocked());

    size_t questions = 0;
    uint64_t lost = 0;
    for (const Record &record : client_.Read())
    {
        questions += record.type == InfoConnectionV4;
        if (record.type == InfoEventsLost)
        {
            lost += record.At<uint64_t>(0);
            EXPECT_EQ(record.At<uint8_t>(8), LossOwnerShare);
            EXPECT_EQ(record.At<uint64_t>(9), 0u);
        }
    }
    EXPECT_EQ(questions, 2u);
    EXPECT_EQ(lost, 1u);
}

TEST_F(HoldTest, AnOwnerThatHoldsEverythingIsRefusedItsNextPacketUnderAClosedFailPolicy)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->MaxHeldPackets = 1;
            options->Flags = OPTION_FLAG_FAIL_CLOSED;
        });
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(2))).blocked());
}

TEST_F(HoldTest, TheOwnerThatHoldsMostGivesUpItsNewestQuestionForAnother)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->MaxHeldPackets = 3;
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS;
        });
    std::vector<Network::Answer> flood;
    for (uint16_t port = 1; port <= 3; port++)
    {
        flood.push_back(network_.Connect(Of(100, port)));
    }
    const std::vector<Question> asked = client_.ReadQuestions();
    ASSERT_EQ(asked.size(), 3u);

    const Network::Answer connect = network_.Connect(Of(200, 9));
    EXPECT_TRUE(connect.pended());
    EXPECT_EQ(flood[2].completed(), 0) << "not inside another classify";
    machine_.Run();
    EXPECT_EQ(flood[1].completed(), 0);
    EXPECT_EQ(flood[2].completed(), 1);

    std::vector<Record> records = client_.Read();
    std::vector<Record> ends;
    std::copy_if(records.begin(), records.end(), std::back_inserter(ends),
                 [](const Record &record) { return record.type == InfoConnectionTimeout; });
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_EQ(ends[0].At<uint64_t>(0), asked[2].id);
    EXPECT_EQ(ends[0].At<uint8_t>(8), VerdictBlock);
    EXPECT_EQ(ends[0].At<uint8_t>(9), TimeoutCauseShare);
    AleOptions again;
    again.reauthorize = true;
    EXPECT_TRUE(network_.Connect(Of(100, 3), nullptr, again).blocked());
    EXPECT_EQ(client_.GetStatistics().EventsLost, 1u) << "one refusal";
    const uint64_t unknown = client_.GetStatistics().VerdictsUnknownId;
    client_.Verdict(asked[2].id, VerdictPermanentAccept);
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, unknown + 1);
}

TEST_F(HoldTest, AQuestionThatIsGivenUpBeforeItIsReadIsNeverRead)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->MaxHeldPackets = 2;
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS;
        });
    network_.Connect(Of(100, 1));
    network_.Connect(Of(100, 2));
    network_.Connect(Of(200, 9));
    machine_.Run();

    std::vector<uint16_t> ports;
    for (const Question &question : client_.ReadQuestions())
    {
        ports.push_back(question.local_port);
    }
    EXPECT_EQ(ports, (std::vector<uint16_t>{1, 9}));
}

TEST_F(HoldTest, ARefusedConnectionIsAskedAboutAgain)
{
    SetOptions([](OPTIONS_WIRE *options) { options->MaxHeldPackets = 1; });
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(2))).blocked());

    client_.Verdict(client_.ReadQuestion().id, VerdictDrop);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(2))).absorbed()) << "there is room again";
    EXPECT_EQ(client_.ReadQuestion().local_port, 2);
}

TEST_F(HoldTest, AnInboundFloodGivesWayToAnOutboundConnection)
{
    const ByteVector packet = MakePacket(WithPort(7), true);

    SetOptions([](OPTIONS_WIRE *options) { options->MaxHeldPackets = 1; });
    const Network::Answer accept = network_.Accept(WithPort(7), &packet);
    EXPECT_TRUE(accept.pended());
    const Network::Answer connect = network_.Connect(Flow{});
    EXPECT_TRUE(connect.pended());
    machine_.Run();
    EXPECT_EQ(accept.completed(), 1);
    EXPECT_EQ(connect.completed(), 0);
    EXPECT_TRUE(network_.TakeInjected().empty());
}

TEST_F(HoldTest, WhatAFullEventQueueCannotHoldIsRefusedToTheOwnerWhoseQuestionsFillIt)
{
    SetOptions([](OPTIONS_WIRE *options) { options->MaxQueuedBytes = 64 * 1024; });
    const size_t held = FillEventQueue();
    EXPECT_GT(held, 10u);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, held);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(9), false, Payload(1400))).blocked());

    const Network::Answer connect = network_.Connect(Of(200, 9));
    EXPECT_TRUE(connect.pended());
    machine_.Run();
    EXPECT_EQ(connect.completed(), 0);
    EXPECT_GE(client_.GetStatistics().PacketsHeld, held);
    EXPECT_GT(client_.GetStatistics().EventsLost, 0u);
}

// ---- Time-outs

TEST_F(HoldTest, WithoutATimeoutAHeldPacketWaitsForever)
{
    const Network::Answer connect = network_.Connect(Flow{});

    Advance(1h);
    EXPECT_EQ(connect.completed(), 0);
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(client_.GetStatistics().Connections, 1u) << "the idle connection is not forgotten";
}

TEST_F(HoldTest, TheTimeoutVerdictIsAppliedAndReported)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS;
            options->PendingTimeoutMs = 2000;
            options->TimeoutVerdict = VerdictPermanentAccept;
        });
    const Network::Answer connect = network_.Connect(Flow{});
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 2u);

    Advance(1900ms);
    EXPECT_EQ(connect.completed(), 0);
    Advance(300ms);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);

    const std::vector<Record> records = client_.ReadType(InfoConnectionTimeout);
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].At<uint64_t>(0), questions[0].id);
    EXPECT_EQ(records[1].At<uint64_t>(0), questions[1].id);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());

    client_.Verdict(questions[0].id, VerdictPermanentBlock);
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
}

TEST_F(HoldTest, ATimeoutNamesItsConnectionAndItsVerdict)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS | OPTION_FLAG_FAIL_CLOSED;
            options->PendingTimeoutMs = 500;
            options->TimeoutVerdict = 0;
        });
    network_.Connect(Flow{});
    const Question question = client_.ReadQuestion();
    Advance(700ms);

    const std::vector<Record> records = client_.ReadType(InfoConnectionTimeout);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].body.size(), 8u + 3 + 22);
    EXPECT_EQ(records[0].At<uint64_t>(0), question.id);
    EXPECT_EQ(records[0].At<uint8_t>(8), VerdictPermanentBlock);
    EXPECT_EQ(records[0].At<uint8_t>(9), TimeoutCauseTime);
    EXPECT_EQ(records[0].At<uint8_t>(10), InfoConnectionEndV4);
    EXPECT_EQ(records[0].At<uint64_t>(11), Flow{}.process_id);
    EXPECT_EQ(records[0].At<uint16_t>(29), Flow{}.local.port);
}

TEST_F(HoldTest, AnOlderClientLearnsOnlyTheIdOfATimeout)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->StructSize = FIELD_OFFSET(OPTIONS_WIRE, StallTimeoutMs);
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS;
            options->PendingTimeoutMs = 500;
        });
    network_.Connect(Flow{});
    Advance(700ms);
    const std::vector<Record> records = client_.ReadType(InfoConnectionTimeout);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].body.size(), 8u);
}

TEST_F(HoldTest, ARefusedConnectionIsReportedWithoutAQuestion)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->Flags = OPTION_FLAG_EXTENDED_RECORDS;
            options->MaxHeldPackets = 1;
        });
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    client_.ReadQuestion();
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(2))).blocked());

    const std::vector<Record> records = client_.ReadType(InfoConnectionTimeout);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].At<uint64_t>(0), 0u);
    EXPECT_EQ(records[0].At<uint8_t>(8), VerdictBlock);
    EXPECT_EQ(records[0].At<uint8_t>(9), TimeoutCauseShare);
    EXPECT_EQ(records[0].At<uint16_t>(29), 2);
}

TEST_F(HoldTest, ATimeoutMayBlock)
{
    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->PendingTimeoutMs = 500;
            options->TimeoutVerdict = VerdictPermanentBlock;
        });
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    Advance(700ms);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).blocked());
}

TEST_F(HoldTest, ATimedOutReauthorizationReauthorizes)
{
    const ByteVector packet = MakePacket(Flow{});
    AleOptions ale;

    SetOptions(
        [](OPTIONS_WIRE *options)
        {
            options->PendingTimeoutMs = 500;
            options->TimeoutVerdict = VerdictPermanentAccept;
        });
    ale.reauthorize = true;
    EXPECT_TRUE(network_.Connect(Flow{}, &packet, ale).absorbed());
    network_.TakeReauthorized();
    Advance(700ms);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_EQ(network_.TakeReauthorized().size(), 4u);
}

// ---- Races

// A client may guess an id before it is reported. The operation is resolved once, and nothing is left.
TEST_F(HoldTest, AVerdictMayComeBeforeItsReport)
{
    network_.Connect(Flow{});
    const uint64_t next = client_.ReadQuestion().id + 1;

    client_.Verdict(next, VerdictPermanentAccept);
    const Network::Answer connect = network_.Connect(WithPort(1, PROTOCOL_TCP));
    EXPECT_TRUE(connect.pended());
    EXPECT_EQ(client_.ReadQuestion().id, next);
    client_.Verdict(next, VerdictPermanentAccept);
    EXPECT_EQ(connect.completed(), 1);
}

// ---- Allocation failures

// Every way to hold and resolve runs once per allocation, and in each run another allocation fails.
TEST_F(HoldTest, NothingHangsOrLeaksWhenAnyAllocationFails)
{
    const ByteVector out = MakePacket(WithPort(2));
    const ByteVector in = MakePacket(WithPort(3), true);
    const ByteVector v6 = MakePacket(UdpV6());
    unsigned runs = 0;

    for (;; runs++)
    {
        AleOptions reauthorize;
        reauthorize.reauthorize = true;

        network_.FailNth(runs);
        std::vector<Network::Answer> answers;
        answers.push_back(network_.Connect(WithPort(1, PROTOCOL_TCP)));
        answers.push_back(network_.Connect(WithPort(2), &out, {}));
        answers.push_back(network_.Accept(WithPort(3), &in));
        network_.Connect(UdpV6(), &v6, reauthorize);
        network_.Outbound(std::vector<std::vector<ByteVector>>{{MakePacket(WithPort(4)), MakePacket(WithPort(5))}});
        const uint64_t failures = network_.StopFailing();

        for (const Question &question : client_.ReadQuestions())
        {
            client_.Verdict(question.id, VerdictAccept);
        }
        network_.TakeInjected();
        for (const Network::Answer &answer : answers)
        {
            EXPECT_EQ(answer.completed(), answer.pended() ? 1 : 0) << "run " << runs;
        }
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u) << "run " << runs;
        EXPECT_EQ(machine_.wfp().counters().pended_now, 0u);
        client_.Command(CommandClearCache);
        client_.Read();
        if (failures == 0)
        {
            break;
        }
    }
    EXPECT_GT(runs, 20u);
}

TEST_F(HoldTest, WithoutAnyMemoryTheFailPolicyDecides)
{
    const ByteVector in = MakePacket(WithPort(3), true);

    network_.FailNth(0, true);
    const Network::Answer connect = network_.Connect(Flow{});
    const Network::Answer accept = network_.Accept(WithPort(3), &in);
    network_.StopFailing();
    EXPECT_TRUE(connect.permitted());
    EXPECT_TRUE(accept.permitted());

    SetOptions([](OPTIONS_WIRE *options) { options->Flags = OPTION_FLAG_FAIL_CLOSED; });
    client_.Command(CommandClearCache);
    network_.FailNth(0, true);
    EXPECT_TRUE(network_.Connect(Flow{}).blocked());
    network_.StopFailing();
}

// ---- Several processors

class HoldStressTest : public DriverTest
{
  protected:
    HoldStressTest() : DriverTest(RunningClock()) {}

    static sim::MachineOptions RunningClock()
    {
        sim::MachineOptions options;

        options.processors = 4;
        return options;
    }

    static Flow FlowOf(unsigned thread, unsigned i, uint8_t protocol)
    {
        Flow flow;

        flow.protocol = protocol;
        flow.local.port = static_cast<uint16_t>(1000 + thread * 1000 + i % 50);
        flow.remote.address[3] = static_cast<uint8_t>(1 + i % 7);
        return flow;
    }

    // One step of a network thread: connect, accept, send, receive or close.
    void Indicate(unsigned thread, unsigned i)
    {
        const Flow tcp = FlowOf(thread, i, PROTOCOL_TCP);
        const Flow udp = FlowOf(thread, i, PROTOCOL_UDP);
        const ByteVector out = MakePacket(udp);
        const ByteVector in = MakePacket(tcp, true);

        Note(network_.Connect(tcp));
        Note(network_.Connect(udp, &out, {}));
        Note(network_.Accept(tcp, &in));
        network_.Outbound({{MakePacket(tcp), MakePacket(udp)}, {MakePacket(tcp)}});
        network_.Inbound(in);
        network_.Stream(tcp, (i & 1) != 0, 10);
        if (i % 3 == 0)
        {
            network_.Close(tcp);
        }
        if (i % 11 == 0)
        {
            network_.Release(PROTOCOL_UDP, V4(0, 0, 0, 0, udp.local.port));
        }
    }

    void Note(const Network::Answer &answer)
    {
        if (answer.pended())
        {
            const std::lock_guard<std::mutex> lock(answers_mutex_);

            answers_.push_back(answer);
        }
    }

    void Start(std::function<void()> body)
    {
        threads_.emplace_back(
            [this, body = std::move(body)]
            {
                sim::Machine::Scope scope(machine_);

                body();
            });
    }

    void StartNetwork(unsigned threads, unsigned rounds)
    {
        running_ = threads;
        for (unsigned thread = 0; thread < threads; thread++)
        {
            Start(
                [this, thread, rounds]
                {
                    for (unsigned i = 0; i < rounds; i++)
                    {
                        Indicate(thread, i);
                    }
                    running_--;
                });
        }
    }

    void Join()
    {
        for (std::thread &thread : threads_)
        {
            thread.join();
        }
        threads_.clear();
    }

    void ExpectEveryOperationCompletedOnce()
    {
        machine_.Run();
        for (const Network::Answer &answer : answers_)
        {
            EXPECT_EQ(answer.completed(), 1);
        }
        EXPECT_EQ(machine_.wfp().counters().pended_now, 0u);
    }

    std::vector<std::thread> threads_;
    std::atomic<unsigned> running_{0};
    std::mutex answers_mutex_;
    std::vector<Network::Answer> answers_; // under answers_mutex_
};

TEST_F(HoldStressTest, EveryOperationIsCompletedOnceWhileVerdictsGuessIds)
{
    std::atomic<uint64_t> id{1};

    client_.StopObserving(); // the observer does not expect verdicts before their reports
    StartNetwork(2, 60);
    for (int i = 0; i < 2; i++)
    {
        Start(
            [this, &id]
            {
                while (running_ != 0)
                {
                    // These ids are not reported yet, pending, or resolved.
                    client_.Verdict(id++ % 2000, id % 2 != 0 ? VerdictPermanentAccept : VerdictDrop);
                }
            });
    }
    while (running_ != 0)
    {
        client_.ReadBytes();
    }
    Join();
    client_.Close();
    ExpectEveryOperationCompletedOnce();
    EXPECT_EQ(PacketCacheCount(&context()->Packets), 0u);
}

TEST_F(HoldStressTest, ClientsMayComeAndGoWhileTheNetworkRuns)
{
    client_.StopObserving(); // the observer needs a network at rest
    StartNetwork(3, 60);
    for (int i = 0; running_ != 0; i++)
    {
        for (const Question &question : client_.ReadQuestions())
        {
            client_.Verdict(question.id, i % 2 == 0 ? VerdictPermanentAccept : VerdictBlock);
        }
        if (i % 4 == 3)
        {
            client_.Command(CommandShutdown);
        }
        client_.Close();
        EXPECT_EQ(PacketCacheCount(&context()->Packets), 0u);
        ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
        client_.StopObserving();
    }
    Join();
    client_.Close();
    ExpectEveryOperationCompletedOnce();
}

TEST_F(HoldStressTest, TimeoutsVerdictsAndClearCacheMayRace)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    options.PendingTimeoutMs = 1;
    options.TimeoutVerdict = VerdictAccept;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    StartNetwork(2, 60);
    Start(
        [this]
        {
            while (running_ != 0)
            {
                client_.Command(CommandClearCache);
                client_.Command(CommandCleanEndedConnections);
                client_.Command(CommandGetBandwidthStats);
                client_.Command(CommandPrintMemoryStats);
                client_.Command(CommandGetLogs);
                DeferredRequest(&context()->Deferred, DEFERRED_DUE | DEFERRED_FAILED_HOLDS);
                DeferredQueue(&context()->Deferred);
            }
        });
    while (running_ != 0)
    {
        for (const Question &question : client_.ReadQuestions())
        {
            client_.Verdict(question.id, VerdictPermanentAccept);
        }
    }
    Join();
    client_.Close();
    ExpectEveryOperationCompletedOnce();
}

} // namespace
} // namespace kext_test

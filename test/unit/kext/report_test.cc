// The order of the records of one key: the questions of a connection, its end, then the questions of its successor.
#include "support/driver_test.h"

#include "nt/fault_injection.h"

#include <map>
#include <random>
#include <thread>

#include "hold.h"
#include "report.h"

namespace kext_test
{
namespace
{

class ReportTest : public DriverTest
{
  protected:
    static CONNECTION_KEY KeyOf(const Flow &flow)
    {
        CONNECTION_KEY key{};

        std::copy_n(flow.local.address.begin(), flow.family() == 6 ? 16 : 4, key.LocalAddress);
        std::copy_n(flow.remote.address.begin(), flow.family() == 6 ? 16 : 4, key.RemoteAddress);
        key.LocalPort = flow.local.port;
        key.RemotePort = flow.remote.port;
        key.Protocol = flow.protocol;
        key.IpVersion = flow.family();
        return key;
    }

    // Inserts a connection, or finds it. Returns its generation.
    UINT32 Insert(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state{};

        EXPECT_TRUE(
            NT_SUCCESS(ConnectionTableFindOrInsert(&context()->Connections, &key, 7, DirectionOutbound, &state)));
        return state.Generation;
    }

    // The network's compartment has the first scope that is not the default one.
    static CONNECTION_KEY InTheNetwork(CONNECTION_KEY key)
    {
        key.Scope = SCOPE_DEFAULT + 1;
        return key;
    }

    CONNECTION_STATE State(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state{};

        EXPECT_TRUE(ConnectionTableLookup(&context()->Connections, &key, &state));
        return state;
    }

    // Asks about a connection of an earlier generation, as a thread does that was late.
    DECISION AskLate(const CONNECTION_KEY &key, UINT32 generation, HELD_KIND kind, bool begins)
    {
        HOLD_QUESTION question{};

        question.Kind = kind;
        question.Direction = kind == HeldPacketInbound ? DirectionInbound : DirectionOutbound;
        question.Key = &key;
        question.Generation = generation;
        question.Begins = begins;
        question.ProcessId = 7;
        question.PayloadLayer = PROTOCOL_PAYLOAD_TRANSPORT_LAYER;
        return HoldAsk(context(), &question);
    }

    const CONNECTION_KEY key_ = KeyOf(UdpV4());
};

TEST_F(ReportTest, AQuestionIsQueuedOnlyWhileItsConnectionLives)
{
    const UINT32 first = Insert(key_);
    EVENT_DETAILS details{};
    REPORT_GATE gate;

    client_.StopObserving(); // no packet waits for these questions
    const auto ask = [&](UINT32 generation, uint64_t id)
    {
        ReportMakeGate(&gate, &context()->Connections, &key_, generation, id, &details);
        return EventConnection(&context()->Events, id, &key_, 7, DirectionOutbound, PROTOCOL_PAYLOAD_NETWORK_LAYER,
                               nullptr, 0, &details, &gate.Gate);
    };

    EXPECT_EQ(ask(first, 1000), STATUS_SUCCESS);
    EXPECT_TRUE(State(key_).Reported);
    ReportEnd(context(), &key_, 0, EndReasonClosed);
    EXPECT_EQ(ask(first, 1001), STATUS_NOT_FOUND) << "it ended";
    const UINT32 second = Insert(key_);
    EXPECT_EQ(ask(first, 1002), STATUS_NOT_FOUND) << "its successor lives";
    EXPECT_FALSE(State(key_).Reported) << "only the predecessor was reported";
    EXPECT_EQ(ask(second, 1003), STATUS_SUCCESS);

    const std::vector<Record> records = client_.Read();
    ASSERT_EQ(records.size(), 3u);
    EXPECT_EQ(records[0].At<uint64_t>(0), 1000u);
    EXPECT_EQ(records[1].type, InfoConnectionEndV4);
    EXPECT_EQ(records[2].At<uint64_t>(0), 1003u);
    EXPECT_EQ(client_.GetStatistics().EventsLost, 0u) << "a question that is not asked is no loss";
}

TEST_F(ReportTest, AConnectionThatWasNotReportedEndsWithoutARecord)
{
    Insert(key_);
    ReportEnd(context(), &key_, 0, EndReasonClosed);
    EXPECT_TRUE(State(key_).Ended);
    EXPECT_TRUE(client_.Read().empty());
}

TEST_F(ReportTest, OnlyTheGenerationThatIsNamedEnds)
{
    const UINT32 first = Insert(key_);

    ReportEnd(context(), &key_, first + 1, EndReasonClosed);
    EXPECT_FALSE(State(key_).Ended);
    ReportEnd(context(), &key_, first, EndReasonClosed);
    EXPECT_TRUE(State(key_).Ended);
}

TEST_F(ReportTest, AnEndThatFindsNoRoomIsLostAndItsConnectionEndsAllTheSame)
{
    const ByteVector packet = MakePacket(UdpV4(), false, Payload(1400));

    network_.Connect(UdpV4(), &packet);
    IoQueueSetOptions(&context()->Queue, static_cast<UINT32>(IoQueueBytes(&context()->Queue)), FALSE);
    const uint64_t before = client_.GetStatistics().EventsLost;

    network_.Close(UdpV4());
    EXPECT_TRUE(State(InTheNetwork(key_)).Ended);
    EXPECT_EQ(client_.GetStatistics().EventsLost, before + 1);
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(ReportTest, AFirstAuthorizationWhoseConnectionEndedIsAskedAboutAsItsSuccessor)
{
    const UINT32 first = Insert(key_);

    ReportEnd(context(), &key_, 0, EndReasonClosed);
    EXPECT_EQ(AskLate(key_, first, HeldAleConnect, true), DecisionHeld);
    EXPECT_NE(State(key_).Generation, first);
    EXPECT_TRUE(State(key_).Reported);
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_EQ(State(key_).Verdict, VerdictPermanentAccept);
    network_.Close(UdpV4());
    EXPECT_EQ(client_.ReadType(InfoConnectionEndV4).size(), 1u);
}

TEST_F(ReportTest, ALateQuestionIsAskedAboutASuccessorThatLives)
{
    const UINT32 first = Insert(key_);

    ReportEnd(context(), &key_, 0, EndReasonClosed);
    const UINT32 second = Insert(key_);
    EXPECT_EQ(AskLate(key_, first, HeldPacketOutbound, false), DecisionHeld);
    EXPECT_EQ(State(key_).Generation, second);
    EXPECT_TRUE(State(key_).Reported);
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(ReportTest, ALateQuestionAboutAForgottenConnectionIsAsked)
{
    const UINT32 first = Insert(key_);

    ConnectionTableClearCache(&context()->Connections);
    EXPECT_EQ(AskLate(key_, first, HeldPacketOutbound, false), DecisionHeld);
    EXPECT_TRUE(State(key_).Reported);
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
}

TEST_F(ReportTest, APacketWhoseConnectionEndedIsNotAskedAbout)
{
    const UINT32 first = Insert(key_);
    CONNECTION_STATE state;

    ReportEnd(context(), &key_, 0, EndReasonClosed);
    EXPECT_EQ(AskLate(key_, first, HeldPacketOutbound, false), DecisionAbsorb) << "the last verdict is Undecided";
    EXPECT_EQ(AskLate(key_, first, HeldPacketInbound, false), DecisionPermit) << "ALE decides on it";

    const UINT32 second = Insert(key_);
    ASSERT_TRUE(ConnectionTableSetVerdict(&context()->Connections, &key_, VerdictAccept, &state));
    ReportEnd(context(), &key_, 0, EndReasonClosed);
    EXPECT_EQ(AskLate(key_, second, HeldPacketOutbound, false), DecisionPermit) << "the last verdict is Accept";
    EXPECT_TRUE(client_.Read().empty());
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

TEST_F(ReportTest, ALateQuestionWithoutMemoryForItsSuccessorGoesByTheFailPolicy)
{
    const UINT32 first = Insert(key_);

    ConnectionTableRemoveAll(&context()->Connections);
    for (unsigned n = 1; n < 20; n++)
    {
        machine_.faults().FailNth(n);
        const DECISION decision = AskLate(key_, first, HeldPacketOutbound, false);
        machine_.faults().Stop();
        EXPECT_TRUE(decision == DecisionHeld || decision == DecisionPermit) << n;
        ConnectionTableRemoveAll(&context()->Connections);
    }
    EXPECT_FALSE(client_.ReadQuestions().empty());
}

// The queue's lock keeps the records of both threads waiting. Either thread may get it first.
TEST_F(ReportTest, AnEndComesBeforeTheQuestionOfASuccessorThatBeginsMeanwhile)
{
    const ByteVector packet = MakePacket(UdpV4());

    for (unsigned round = 0; round < 20; round++)
    {
        KIRQL irql;

        network_.Connect(UdpV4(), &packet);
        KeAcquireSpinLock(&context()->Queue.Lock, &irql);
        std::thread closer(
            [&]
            {
                sim::Machine::Scope scope(machine_);
                network_.Close(UdpV4());
            });
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::thread connecter(
            [&]
            {
                sim::Machine::Scope scope(machine_);
                network_.Connect(UdpV4(), &packet);
            });
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        KeReleaseSpinLock(&context()->Queue.Lock, irql);
        closer.join();
        connecter.join();
        network_.Close(UdpV4());

        std::vector<uint8_t> types;
        for (const Record &record : client_.Read())
        {
            types.push_back(record.type);
        }
        // The second question is about the same connection, or about its successor.
        EXPECT_TRUE(types == std::vector<uint8_t>({InfoConnectionV4, InfoConnectionV4, InfoConnectionEndV4}) ||
                    types == std::vector<uint8_t>(
                                 {InfoConnectionV4, InfoConnectionEndV4, InfoConnectionV4, InfoConnectionEndV4}))
            << testing::PrintToString(types);
    }
}

TEST_F(ReportTest, AConnectionThatIsUsedWhileTheTableCleansStays)
{
    const UINT32 generation = Insert(key_);
    CONNECTION connection;

    ConnectionTableSetReported(&context()->Connections, &key_, generation, 1);
    Advance(std::chrono::minutes(11));
    ASSERT_TRUE(ConnectionTableCopyLive(&context()->Connections, &key_, &connection));
    connection.Life.EndReason = EndReasonIdle;
    State(key_); // a packet
    ReportEndOfRemoved(context(), &connection);
    EXPECT_FALSE(State(key_).Ended);
    connection.Life.EndReason = EndReasonCleared;
    ConnectionTableAddPending(&context()->Connections, &key_, generation, 0);
    ReportEndOfRemoved(context(), &connection);
    EXPECT_FALSE(State(key_).Ended) << "a question waits";
    ConnectionTableReleasePending(&context()->Connections, &key_, generation);
    ReportEndOfRemoved(context(), &connection);
    EXPECT_TRUE(State(key_).Ended);
    EXPECT_TRUE(client_.Read().empty()) << "a base client learns nothing of that";
}

// The client wants ConnectionInfo and ConnectionEnded. Every end names the last question of its connection.
TEST_F(ReportTest, EachRecordOfManyThreadsComesRightAfterItsDetails)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    std::vector<std::thread> threads;
    uint64_t question = 0;
    unsigned cleared = 0;

    options.Flags = OPTION_FLAG_EXTENDED_RECORDS | OPTION_FLAG_CONNECTION_INFO;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    client_.StopObserving(); // the test resolves questions for the client
    for (unsigned seed = 0; seed < 3; seed++)
    {
        threads.emplace_back(
            [&, seed]
            {
                sim::Machine::Scope scope(machine_);
                const ByteVector packet = MakePacket(UdpV4());
                std::mt19937 random(seed);

                for (unsigned step = 0; step < 700; step++)
                {
                    switch (random() % 4)
                    {
                    case 0:
                        network_.Close(UdpV4());
                        break;
                    case 1:
                        HoldResolvePresent(context());
                        ConnectionTableClearCache(&context()->Connections);
                        break;
                    default:
                        network_.Connect(UdpV4(), &packet);
                    }
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    network_.Close(UdpV4());

    std::vector<Record> records;
    for (const Record &record : client_.Read())
    {
        if (record.type != InfoProcessInfo && record.type != InfoConnectionTimeout)
        {
            records.push_back(record);
        }
    }
    ASSERT_EQ(records.size() % 2, 0u);
    for (size_t i = 0; i < records.size(); i += 2)
    {
        const bool ends = records[i + 1].type == InfoConnectionEndV4;

        ASSERT_EQ(records[i].type, ends ? InfoConnectionEnded : InfoConnectionInfo) << i;
        const uint64_t id = records[i].At<uint64_t>(0);
        if (ends)
        {
            ASSERT_EQ(id, question) << i;
            cleared += records[i].At<uint8_t>(41) == EndReasonCleared ? 1 : 0;
        }
        else
        {
            ASSERT_EQ(id, records[i + 1].At<uint64_t>(0)) << i;
            ASSERT_EQ((records[i].At<uint32_t>(24) & CONNECTION_INFO_ASKED_AGAIN) != 0, question != 0) << i;
        }
        question = ends ? 0 : id;
    }
    EXPECT_EQ(question, 0u);
    EXPECT_GT(cleared, 20u);
}

TEST_F(ReportTest, EndsAndQuestionsOfManyThreadsAreInOrder)
{
    const std::vector<Flow> flows = {UdpV4(), UdpV6()};
    std::vector<std::thread> threads;

    for (unsigned seed = 0; seed < 4; seed++)
    {
        threads.emplace_back(
            [&, seed]
            {
                sim::Machine::Scope scope(machine_);
                std::mt19937 random(seed);

                for (unsigned step = 0; step < 1500; step++)
                {
                    const Flow &flow = flows[random() % flows.size()];
                    const ByteVector packet = MakePacket(flow);

                    if (random() % 2 == 0)
                    {
                        network_.Connect(flow, &packet);
                    }
                    else
                    {
                        network_.Close(flow);
                    }
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    network_.Close(flows[0]);
    network_.Close(flows[1]);

    std::map<bool, bool> alive; // by IP version
    unsigned ends = 0;

    for (const Record &record : client_.Read())
    {
        const bool v6 = record.type == InfoConnectionV6 || record.type == InfoConnectionEndV6;

        if (!IsQuestion(record))
        {
            ASSERT_TRUE(alive[v6]) << "an end without a question, after " << ends;
            ends++;
        }
        alive[v6] = IsQuestion(record);
    }
    EXPECT_FALSE(alive[false] || alive[true]) << "a question after the end";
    EXPECT_GT(ends, 100u);
}

} // namespace
} // namespace kext_test

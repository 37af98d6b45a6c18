// Turns, order and shares. The owners here are made of small numbers, so that a test says who is who.

#include "lanes.h"

#include "kext_test.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

namespace
{

// Small numbers are names of shared groups.
constexpr uint64_t kFirst = 1'000'000;

LANE_OWNER Image(uint64_t image, uint64_t connection = 0)
{
    static uint64_t next = 1ull << 40;

    return {LaneOutbound, kFirst + image, 0, connection != 0 ? connection : next++};
}

LANE_OWNER Remote(uint64_t port, uint64_t network, uint64_t connection = 0)
{
    LANE_OWNER owner = Image(0, connection);

    owner.Side = LaneInbound;
    owner.Group = kFirst * (port + 1) * 7919;
    owner.Network = owner.Group * 31 + kFirst * (network + 1) * 104729;
    return owner;
}

class LanesTest : public kext_test::KextTest
{
  protected:
    struct Unit
    {
        LANE_RECORD record;
        int name;
    };

    LanesTest()
    {
        EXPECT_EQ(LanesInitialize(&lanes_, &memory_), STATUS_SUCCESS);
        SetLimits(1000, 1'000'000);
    }

    ~LanesTest() override
    {
        LeaveAll();
        for (LANE_QUESTION &question : questions_)
        {
            LanesRelease(&lanes_, &question);
        }
        LanesForgetRefused(&lanes_);
        EXPECT_EQ(lanes_.Networks.Used, 0u);
        EXPECT_EQ(lanes_.Directions[LaneOutbound].Groups.Used, 0u);
        EXPECT_EQ(lanes_.Directions[LaneInbound].Groups.Used, 0u);
        EXPECT_EQ(lanes_.QueuedBytes, 0u);
        EXPECT_EQ(lanes_.QueuedRecords, 0u);
        LanesUninitialize(&lanes_);
    }

    void SetLimits(uint64_t packets, uint64_t bytes)
    {
        lanes_.MaxHeld[LaneHeldPackets] = packets;
        lanes_.MaxHeld[LaneHeldBytes] = bytes;
    }

    void Append(const LANE_OWNER *owner, int name, LANE_QUESTION *question = nullptr, uint32_t length = 100)
    {
        units_.push_back({});
        units_.back().name = name;
        units_.back().record.Length = length;
        units_.back().record.Records = 1;
        LanesAppend(&lanes_, owner, &units_.back().record, question);
    }

    void Append(const LANE_OWNER &owner, int name) { Append(&owner, name); }
    void Append(std::nullptr_t, int name) { Append(static_cast<const LANE_OWNER *>(nullptr), name); }

    // Returns the name of the unit whose turn it is. 0: none waits.
    int Leave()
    {
        LANE_RECORD *record = LanesNext(&lanes_);

        if (record == nullptr)
        {
            return 0;
        }
        LanesTake(&lanes_, record);
        return CONTAINING_RECORD(record, Unit, record)->name;
    }

    std::vector<int> LeaveAll()
    {
        std::vector<int> names;

        for (int name = Leave(); name != 0; name = Leave())
        {
            names.push_back(name);
        }
        return names;
    }

    NTSTATUS Admit(const LANE_OWNER &owner, uint64_t bytes = 1)
    {
        questions_.push_back({});
        LANE_QUESTION &question = questions_.back();
        question.Id = questions_.size();
        question.ProcessId = owner.Group;
        question.Bytes = bytes;
        return LanesAdmit(&lanes_, &owner, &question);
    }

    // Admits a question and queues its record, whose name is the question's id.
    NTSTATUS Ask(const LANE_OWNER &owner, uint64_t bytes = 1)
    {
        const NTSTATUS status = Admit(owner, bytes);

        if (status == STATUS_SUCCESS)
        {
            Append(&owner, static_cast<int>(Id()), &questions_.back());
        }
        return status;
    }

    // As a driver asks: who gives way is noted and withdrawn, and the newcomer tries again.
    NTSTATUS AskUntilDecided(const LANE_OWNER &owner)
    {
        NTSTATUS status = Ask(owner);

        while (status == STATUS_RETRY)
        {
            displaced_.insert(Displaced());
            (void)LanesWithdraw(&lanes_, Question(Displaced()));
            status = Ask(owner);
        }
        return status;
    }

    uint64_t Id() const { return questions_.size(); }
    uint64_t Displaced() const { return questions_.back().Displaced; }
    LANE_QUESTION *Question(uint64_t id) { return &questions_[id - 1]; }

    LANES lanes_;
    std::deque<Unit> units_;
    std::deque<LANE_QUESTION> questions_;
    std::set<uint64_t> displaced_;
};

// ---- Turns

TEST_F(LanesTest, OneOwnersRecordsLeaveInOrder)
{
    for (int i = 1; i <= 5; i++)
    {
        Append(Image(1), i);
    }
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 2, 3, 4, 5}));
}

TEST_F(LanesTest, ImagesTakeTurns)
{
    for (int i = 1; i <= 3; i++)
    {
        Append(Image(1), i);
    }
    Append(Image(2), 11);
    Append(Image(3), 21);
    Append(Image(3), 22);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 11, 21, 2, 22, 3}));
}

TEST_F(LanesTest, PortsTakeTurnsAndNetworksAtEachPort)
{
    Append(Remote(443, 1), 1);
    Append(Remote(443, 1), 2);
    Append(Remote(443, 2), 11);
    Append(Remote(443, 3), 21);
    Append(Remote(22, 1), 101);
    Append(Remote(22, 1), 102);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 101, 11, 102, 21, 2}));
}

TEST_F(LanesTest, BothDirectionsAndRepliesAlternate)
{
    for (int i = 0; i < 3; i++)
    {
        Append(Image(1), 1 + i);
        Append(Remote(443, 1), 11 + i);
        Append(nullptr, 21 + i);
    }
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 11, 21, 2, 12, 22, 3, 13, 23}));
}

TEST_F(LanesTest, ALaneThatWasEmptyTakesItsTurnBehindTheOthers)
{
    Append(Image(1), 1);
    Append(Image(1), 2);
    Append(Image(2), 11);
    EXPECT_EQ(Leave(), 1);
    Append(Image(3), 21);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{11, 2, 21}));
}

TEST_F(LanesTest, ARecordJoinsTheLaneWhereAnotherOfItsConnectionWaits)
{
    const uint64_t connection = 77;

    for (int i = 1; i <= 3; i++)
    {
        Append(Image(1), i);
    }
    Append(Image(1, connection), 4);
    // The port is another program's by now.
    Append(Image(2, connection), 5);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 2, 3, 4, 5}));
    Append(Image(1), 6);
    Append(Image(1), 7);
    Append(Image(2, connection), 8);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{6, 8, 7})) << "nothing of the connection waits any longer";
}

TEST_F(LanesTest, AFloodOfImagesOrNetworksDelaysAnotherByOneTurnEach)
{
    for (int i = 0; i < 10000; i++)
    {
        Append(Image(i % 64), 1);
        Append(Remote(443, i), 1);
    }
    Append(Image(1000), 2);
    Append(Remote(22, 5), 3);
    int before = 0;
    std::map<int, int> place;
    for (int name = Leave(); name != 0 && place.size() < 2; name = Leave())
    {
        if (name != 1)
        {
            place[name] = before;
        }
        before++;
    }
    EXPECT_LE(place[2], 2 * 65);
    EXPECT_LE(place[3], 4);
}

TEST_F(LanesTest, OwnersBeyondTheLanesShareThemAndKeepTheirOrder)
{
    std::map<int, std::vector<int>> left;
    constexpr int kOwners = 3000;
    constexpr int kRounds = 4;
    std::mt19937 random(7);

    for (int i = 1; i < kOwners * kRounds; i++)
    {
        const int owner = i % kOwners;

        Append(owner % 2 == 0 ? Image(owner) : Remote(owner % 700, owner), i);
        if (random() % 3 == 0)
        {
            const int name = Leave();
            left[name % kOwners].push_back(name);
        }
    }
    for (const int name : LeaveAll())
    {
        left[name % kOwners].push_back(name);
    }
    for (const auto &[owner, names] : left)
    {
        EXPECT_TRUE(std::is_sorted(names.begin(), names.end())) << owner;
    }
}

// A search follows the links of one list. Keyed hashes spread the names evenly.
TEST_F(LanesTest, EverySearchFollowsAFewLinksHoweverMuchWaits)
{
    std::mt19937_64 random(3);
    size_t longest = 0;
    const auto measure = [&](const LIST_ENTRY *list)
    {
        size_t length = 0;

        for (const LIST_ENTRY *link = list->Flink; link != list; link = link->Flink)
        {
            length++;
        }
        longest = std::max(longest, length);
    };

    for (int i = 0; i < 65536; i++)
    {
        const LANE_OWNER owner = {static_cast<UINT8>(i % 2), random(), i % 2 != 0 ? random() : 0, random()};
        Append(owner, 1);
    }
    for (UINT32 i = 0; i < LANES_GROUP_COUNT; i++)
    {
        measure(&lanes_.Directions[LaneOutbound].Groups.Lists[i]);
        measure(&lanes_.Directions[LaneInbound].Groups.Lists[i]);
    }
    for (UINT32 i = 0; i < LANES_NETWORK_COUNT; i++)
    {
        measure(&lanes_.Networks.Lists[i]);
    }
    EXPECT_LT(longest, 40u);
    longest = 0;
    for (UINT32 i = 0; i < LANES_CONNECTION_LISTS; i++)
    {
        measure(&lanes_.Connections[i]);
    }
    EXPECT_LT(longest, 16 + 4u * 65536 / LANES_CONNECTION_LISTS);
}

// ---- Shares

TEST_F(LanesTest, WhileThereIsRoomAnybodyMayHaveIt)
{
    SetLimits(100, 1'000'000);
    for (int i = 0; i < 100; i++)
    {
        EXPECT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
}

TEST_F(LanesTest, TheFloodersOwnNextQuestionIsRefused)
{
    SetLimits(10, 1'000'000);
    for (int i = 0; i < 10; i++)
    {
        ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
    EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED);
    LanesRelease(&lanes_, Question(4));
    EXPECT_EQ(Ask(Image(1)), STATUS_SUCCESS) << "there is room again";
}

TEST_F(LanesTest, TheNewestQuestionOfTheFlooderGivesWayToAnother)
{
    SetLimits(10, 1'000'000);
    for (int i = 0; i < 10; i++)
    {
        ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
    EXPECT_EQ(Ask(Image(2)), STATUS_RETRY);
    EXPECT_EQ(Displaced(), 10u);
    EXPECT_FALSE(LanesWithdraw(&lanes_, Question(10))) << "its connection was reported before";
    EXPECT_NE(Question(10)->Unwanted, nullptr) << "no client has read its record";
    EXPECT_TRUE(Question(10)->Withdrawn);
    EXPECT_EQ(Ask(Image(2)), STATUS_SUCCESS);
    EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 12, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST_F(LanesTest, AQuestionThatAClientHasReadIsGivenUpToo)
{
    SetLimits(3, 1'000'000);
    for (int i = 0; i < 3; i++)
    {
        ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
    LeaveAll();
    EXPECT_EQ(Ask(Image(2)), STATUS_RETRY);
    EXPECT_EQ(Displaced(), 3u);
    EXPECT_FALSE(LanesWithdraw(&lanes_, Question(3)));
    EXPECT_EQ(Question(3)->Unwanted, nullptr);
    EXPECT_FALSE(Question(3)->Withdrawn);
    LanesRelease(&lanes_, Question(3));
    EXPECT_EQ(Ask(Image(2)), STATUS_SUCCESS) << "a question that was given up is charged to nobody";
}

TEST_F(LanesTest, TheEndOfAConnectionIsTakenOutWithItsOnlyQuestion)
{
    for (const bool first : {true, false})
    {
        const LANE_OWNER owner = Image(1, 77);

        SetLimits(1, 1'000'000);
        ASSERT_EQ(Ask(owner), STATUS_SUCCESS);
        Question(Id())->IsFirst = first;
        Append(&owner, 1000);
        units_.back().record.Ends = TRUE;
        Append(&owner, 1001);
        EXPECT_EQ(Ask(Image(2)), STATUS_RETRY);
        EXPECT_EQ(LanesWithdraw(&lanes_, Question(Displaced())), first);
        EXPECT_EQ(LeaveAll(), first ? std::vector<int>{1001} : (std::vector<int>{1000, 1001}));
    }
}

TEST_F(LanesTest, TheNextQuestionAboutAConnectionIsItsFirstWhenTheFirstIsWithdrawn)
{
    const LANE_OWNER owner = Image(1, 77);

    SetLimits(2, 1'000'000);
    ASSERT_EQ(Ask(owner), STATUS_SUCCESS);
    Question(1)->IsFirst = TRUE;
    units_.back().record.Asks = TRUE;
    ASSERT_EQ(Ask(owner), STATUS_SUCCESS);
    units_.back().record.Asks = TRUE;
    Append(&owner, 1000);
    units_.back().record.Ends = TRUE;
    EXPECT_FALSE(LanesWithdraw(&lanes_, Question(1))) << "the client learns of the connection from the second question";
    EXPECT_TRUE(LanesWithdraw(&lanes_, Question(2)));
    EXPECT_EQ(LeaveAll(), std::vector<int>()) << "the end went with the last question";
}

TEST_F(LanesTest, TheSideThatHoldsMoreGivesWay)
{
    SetLimits(10, 1'000'000);
    for (int i = 0; i < 4; i++)
    {
        ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
    for (uint64_t i = 0; i < 6; i++)
    {
        ASSERT_EQ(Ask(Remote(443, i % 3)), STATUS_SUCCESS);
    }
    EXPECT_EQ(Ask(Image(1)), STATUS_RETRY) << "though it is the owner that holds most";
    EXPECT_GT(Displaced(), 4u);
    EXPECT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED) << "outbound holds more now";
}

TEST_F(LanesTest, AFloodOfEqualOwnersGivesWayToAnother)
{
    SetLimits(640, 1'000'000);
    for (int i = 0; i < 6400; i++)
    {
        AskUntilDecided(Image(i % 64));
    }
    displaced_.clear();
    EXPECT_EQ(AskUntilDecided(Image(1000)), STATUS_SUCCESS);
    const uint64_t honest = Id();
    for (int i = 0; i < 6400; i++)
    {
        AskUntilDecided(Image(i % 64));
    }
    EXPECT_EQ(displaced_.count(honest), 0u);
    std::map<LANE *, int> held;
    for (const LANE_QUESTION &question : questions_)
    {
        held[question.Lane]++;
    }
    held.erase(nullptr);
    for (const auto &[lane, count] : held)
    {
        EXPECT_LE(count, 12);
    }
}

TEST_F(LanesTest, AFloodFromManyNetworksGivesWayToARemoteAtAnotherPort)
{
    SetLimits(5000, 1'000'000);
    for (uint64_t i = 0; i < 20000; i++)
    {
        AskUntilDecided(Remote(443, i));
    }
    displaced_.clear();
    EXPECT_EQ(AskUntilDecided(Remote(22, 5)), STATUS_SUCCESS);
    const uint64_t honest = Id();
    for (uint64_t i = 20000; i < 40000; i++)
    {
        AskUntilDecided(Remote(443, i));
    }
    EXPECT_EQ(displaced_.count(honest), 0u);
}

TEST_F(LanesTest, HeldBytesHaveSharesToo)
{
    SetLimits(1000, 10000);
    for (int i = 0; i < 20; i++)
    {
        ASSERT_EQ(Ask(Image(1), 100), STATUS_SUCCESS);
    }
    ASSERT_EQ(Ask(Image(2), 8000), STATUS_SUCCESS);
    EXPECT_EQ(Ask(Image(2), 1), STATUS_QUOTA_EXCEEDED) << "it holds fewer packets, but more bytes";
    EXPECT_EQ(Ask(Image(1), 100), STATUS_RETRY);
    EXPECT_EQ(Displaced(), 21u);
}

TEST_F(LanesTest, QueuedBytesAreThoseOfRecordsThatWait)
{
    for (int i = 0; i < 10; i++)
    {
        ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
    ASSERT_EQ(Admit(Image(2)), STATUS_SUCCESS);
    LANE_QUESTION *newcomer = &questions_.back();
    for (int i = 10; i > 2; i--)
    {
        EXPECT_EQ(LanesMakeRoom(&lanes_, newcomer, 200), STATUS_RETRY);
        EXPECT_EQ(newcomer->Displaced, static_cast<uint64_t>(i));
    }
    EXPECT_EQ(LanesMakeRoom(&lanes_, newcomer, 300), STATUS_QUOTA_EXCEEDED) << "it would have more than the other";
    LeaveAll();
    EXPECT_EQ(LanesMakeRoom(&lanes_, newcomer, 200), STATUS_BUFFER_OVERFLOW) << "nobody's question waits";
}

TEST_F(LanesTest, AReleasedQuestionsRecordStillLeaves)
{
    ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    LanesRelease(&lanes_, Question(1));
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1}));
}

TEST_F(LanesTest, AQuestionThatJoinsAnotherLaneIsChargedToItsOwner)
{
    const LANE_OWNER end = Image(1, 77);

    Append(end, 1000);
    ASSERT_EQ(Ask(Image(2, 77)), STATUS_SUCCESS);
    EXPECT_NE(Question(1)->Lane, units_[0].record.Lane);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1000, 1}));
}

TEST_F(LanesTest, ABarrierFollowsEverythingThatCameBefore)
{
    for (int i = 1; i <= 3; i++)
    {
        Append(Image(1), i);
    }
    Append(nullptr, 10);
    units_.back().record.Barrier = TRUE;
    Append(nullptr, 11);
    Append(Image(2), 21);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 21, 2, 3, 10, 11}));
}

TEST_F(LanesTest, WithoutTurnsEverythingLeavesInOrder)
{
    lanes_.InTurn = FALSE;
    SetLimits(4, 1'000'000);
    for (int i = 0; i < 3; i++)
    {
        ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    }
    ASSERT_EQ(Ask(Image(2)), STATUS_SUCCESS);
    EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED);
    EXPECT_EQ(Ask(Remote(443, 1)), STATUS_RETRY);
    EXPECT_EQ(Displaced(), 3u);
    (void)LanesWithdraw(&lanes_, Question(3));
    Append(nullptr, 10);
    EXPECT_EQ(LeaveAll(), (std::vector<int>{1, 2, 4, 10}));
}

// ---- Refusals

TEST_F(LanesTest, RefusalsAreReportedOncePerOwnerAndPeriod)
{
    UINT64 count;
    UINT64 process;

    SetLimits(1, 1000);
    ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    EXPECT_FALSE(LanesTakeRefused(&lanes_, 5, 10, &count, &process));
    EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED);
    ASSERT_TRUE(LanesTakeRefused(&lanes_, 5, 10, &count, &process));
    EXPECT_EQ(count, 1u);
    EXPECT_EQ(process, kFirst + 1);
    for (int i = 0; i < 7; i++)
    {
        EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED);
    }
    EXPECT_FALSE(LanesTakeRefused(&lanes_, 14, 10, &count, &process));
    EXPECT_TRUE(LanesHaveRefused(&lanes_));
    ASSERT_TRUE(LanesTakeRefused(&lanes_, 15, 10, &count, &process));
    EXPECT_EQ(count, 7u);
    EXPECT_FALSE(LanesTakeRefused(&lanes_, 25, 10, &count, &process));
    EXPECT_FALSE(LanesHaveRefused(&lanes_));
}

TEST_F(LanesTest, RefusalsOfSeveralProcessesNameNone)
{
    UINT64 count;
    UINT64 process;

    SetLimits(1, 1000);
    ASSERT_EQ(Ask(Image(1)), STATUS_SUCCESS);
    EXPECT_EQ(Ask(Image(1)), STATUS_QUOTA_EXCEEDED);
    const LANE_OWNER owner = Image(1);
    questions_.push_back({});
    questions_.back().ProcessId = 4;
    EXPECT_EQ(LanesAdmit(&lanes_, &owner, &questions_.back()), STATUS_QUOTA_EXCEEDED);
    ASSERT_TRUE(LanesTakeRefused(&lanes_, 5, 10, &count, &process));
    EXPECT_EQ(count, 2u);
    EXPECT_EQ(process, 0u);
}

TEST_F(LanesTest, WithoutMemoryThereAreNoLanes)
{
    LANES lanes;

    machine_.faults().FailAll();
    EXPECT_EQ(LanesInitialize(&lanes, &memory_), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
}

} // namespace

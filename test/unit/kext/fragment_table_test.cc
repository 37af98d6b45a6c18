#include "support/commands.h"
#include "support/driver_test.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

namespace kext_test
{
namespace
{

using std::chrono::milliseconds;
using std::chrono::seconds;

class FragmentDriverTest : public DriverTest
{
  protected:
    static constexpr size_t kPiece = 24;
    static constexpr size_t kPieces = 4;

    static ByteVector Whole(const Flow &flow, bool inbound = false)
    {
        const size_t transport = flow.protocol == PROTOCOL_TCP ? 20 : 8;

        return MakePacket(flow, inbound, Payload(kPiece * kPieces - transport));
    }

    static std::vector<ByteVector> Split(const Flow &flow, bool inbound = false, uint32_t id = 1)
    {
        const ByteVector whole = Whole(flow, inbound);
        std::vector<ByteVector> fragments;

        for (size_t i = 0; i < kPieces; i++)
        {
            fragments.push_back(Fragment(whole, i * kPiece, kPiece, id));
        }
        return fragments;
    }

    std::vector<ByteVector> TakeBytes()
    {
        std::vector<ByteVector> bytes;

        for (Injected &injected : network_.TakeInjected())
        {
            EXPECT_TRUE(injected.decided_permit);
            bytes.push_back(std::move(injected.bytes));
        }
        return bytes;
    }

    uint64_t Blocked() { return client_.GetStatistics().FragmentsBlocked; }
    UINT64 Remembered() { return FragmentTableCount(&context()->Fragments); }

    void SetFlags(uint32_t flags)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = flags;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    void FailClosed() { SetFlags(OPTION_FLAG_FAIL_CLOSED); }

    void Elapse(milliseconds duration)
    {
        for (milliseconds left = duration; left.count() > 0; left -= milliseconds(100))
        {
            Advance(std::min(left, milliseconds(100)));
            machine_.Run();
        }
    }
};

// ---- Every IP version, protocol and direction

class FragmentEachTest : public FragmentDriverTest, public testing::WithParamInterface<std::tuple<Flow, bool>>
{
  protected:
    Flow flow() const { return std::get<0>(GetParam()); }
    bool inbound() const { return std::get<1>(GetParam()); }
    Network::Answer Pass(const ByteVector &packet)
    {
        return inbound() ? network_.Inbound(packet) : network_.Outbound(packet);
    }
    std::vector<ByteVector> Split(uint32_t id = 1) { return FragmentDriverTest::Split(flow(), inbound(), id); }
};

INSTANTIATE_TEST_SUITE_P(EachKind, FragmentEachTest,
                         testing::Combine(testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6()), testing::Bool()));

TEST_P(FragmentEachTest, LaterFragmentsFollowAPermittedFirst)
{
    Decide(flow(), VerdictPermanentAccept);
    for (const ByteVector &fragment : Split())
    {
        EXPECT_TRUE(Pass(fragment).permitted());
    }
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(Blocked(), 0u);
    EXPECT_EQ(Remembered(), 0u) << "all fragments have passed";
}

TEST_P(FragmentEachTest, LaterFragmentsFollowABlockedFirst)
{
    Decide(flow(), VerdictPermanentBlock);
    for (const ByteVector &fragment : Split())
    {
        EXPECT_TRUE(Pass(fragment).blocked());
    }
    EXPECT_EQ(Blocked(), kPieces);
}

TEST_P(FragmentEachTest, LaterFragmentsFollowADroppedFirst)
{
    Decide(flow(), VerdictPermanentDrop);
    for (const ByteVector &fragment : Split())
    {
        EXPECT_TRUE(Pass(fragment).absorbed());
    }
    EXPECT_EQ(Blocked(), kPieces);
    EXPECT_TRUE(TakeBytes().empty());
}

TEST_P(FragmentEachTest, EarlyFragmentsPassWithTheirFirst)
{
    const std::vector<ByteVector> fragments = Split();

    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(Pass(fragments[3]).absorbed());
    EXPECT_TRUE(Pass(fragments[1]).absorbed());
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_TRUE(Pass(fragments[0]).permitted());
    EXPECT_EQ(TakeBytes(), (std::vector<ByteVector>{fragments[3], fragments[1]}));
    EXPECT_TRUE(Pass(fragments[2]).permitted());
    EXPECT_EQ(Blocked(), 0u);
    EXPECT_EQ(Remembered(), 0u);
}

TEST_P(FragmentEachTest, EarlyFragmentsAreDroppedWithTheirFirst)
{
    const std::vector<ByteVector> fragments = Split();

    Decide(flow(), VerdictPermanentBlock);
    EXPECT_TRUE(Pass(fragments[1]).absorbed());
    EXPECT_TRUE(Pass(fragments[0]).blocked());
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_EQ(Blocked(), 2u);
}

TEST_P(FragmentEachTest, TheVerdictOnAHeldFirstDecidesAll)
{
    const std::vector<ByteVector> fragments = Split();

    for (uint8_t verdict : {VerdictAccept, VerdictBlock, VerdictDrop, VerdictPermanentDrop, VerdictPermanentAccept})
    {
        const Statistics before = client_.GetStatistics();
        const bool accept = verdict == VerdictAccept || verdict == VerdictPermanentAccept;

        Decide(flow(), VerdictAccept);
        EXPECT_TRUE(Pass(fragments[3]).absorbed());
        EXPECT_TRUE(Pass(fragments[0]).absorbed());
        EXPECT_TRUE(Pass(fragments[1]).absorbed());
        const Question question = client_.ReadQuestion();
        EXPECT_EQ(question.payload, fragments[0]);
        EXPECT_EQ(question.local_port, flow().local.port);
        EXPECT_EQ(question.direction, inbound() ? DirectionInbound : DirectionOutbound);
        client_.Verdict(question.id, verdict);

        EXPECT_EQ(TakeBytes(), (accept ? std::vector<ByteVector>{fragments[0], fragments[3], fragments[1]}
                                       : std::vector<ByteVector>{}));
        const Network::Answer last = Pass(fragments[2]);
        EXPECT_TRUE(accept ? last.permitted() : last.absorbed());

        const Statistics after = client_.GetStatistics();
        EXPECT_EQ(after.PacketsPermitted - before.PacketsPermitted, accept ? kPieces : 0u);
        EXPECT_EQ(after.PacketsBlocked - before.PacketsBlocked, accept ? 0u : kPieces);
        EXPECT_EQ(after.FragmentsBlocked - before.FragmentsBlocked, accept ? 0u : kPieces);
        EXPECT_EQ(Remembered(), 0u);
        client_.Command(CommandClearCache);
        network_.TakeReauthorized();
    }
}

TEST_P(FragmentEachTest, AnOverlapRefusesTheWholeDatagram)
{
    const std::vector<ByteVector> fragments = Split();
    const ByteVector overlap = Fragment(Whole(flow(), inbound()), kPiece + 8, kPiece);

    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(Pass(fragments[0]).permitted());
    EXPECT_TRUE(Pass(fragments[1]).permitted());
    EXPECT_TRUE(Pass(overlap).blocked());
    EXPECT_TRUE(Pass(fragments[2]).blocked());
    EXPECT_TRUE(Pass(fragments[3]).blocked());
    EXPECT_EQ(Blocked(), 3u);
}

TEST_P(FragmentEachTest, AnOverlapDropsWaitingFragmentsAndRefusesTheFirst)
{
    const std::vector<ByteVector> fragments = Split();

    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(Pass(fragments[2]).absorbed());
    EXPECT_TRUE(Pass(Fragment(Whole(flow(), inbound()), kPiece, 2 * kPiece)).blocked());
    EXPECT_TRUE(Pass(fragments[0]).blocked());
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_EQ(Blocked(), 3u);
}

TEST_P(FragmentEachTest, AnOverlapRefusesTheHeldFirst)
{
    const std::vector<ByteVector> fragments = Split();
    const Statistics before = client_.GetStatistics();

    Decide(flow(), VerdictAccept);
    EXPECT_TRUE(Pass(fragments[0]).absorbed());
    EXPECT_TRUE(Pass(fragments[1]).absorbed());
    EXPECT_TRUE(Pass(Fragment(Whole(flow(), inbound()), kPiece + 8, kPiece)).blocked());
    EXPECT_TRUE(Pass(fragments[2]).blocked());
    EXPECT_TRUE(Pass(fragments[3]).blocked());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_TRUE(TakeBytes().empty()) << "every fragment is discarded";

    const Statistics after = client_.GetStatistics();
    EXPECT_EQ(after.PacketsPermitted - before.PacketsPermitted, 0u);
    EXPECT_EQ(after.PacketsBlocked - before.PacketsBlocked, kPieces + 1);
    EXPECT_EQ(after.FragmentsBlocked - before.FragmentsBlocked, kPieces + 1);
}

TEST_P(FragmentEachTest, ARefusedDatagramStaysRefused)
{
    const std::vector<ByteVector> fragments = Split();

    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(Pass(fragments[0]).permitted());
    EXPECT_TRUE(Pass(Fragment(Whole(flow(), inbound()), 8, kPiece)).blocked());
    for (size_t i = 1; i < kPieces; i++)
    {
        EXPECT_TRUE(Pass(fragments[i]).blocked());
    }
    EXPECT_TRUE(Pass(fragments[0]).blocked());
    EXPECT_EQ(Remembered(), 1u);
    Elapse(milliseconds(30100));
    EXPECT_EQ(Remembered(), 0u);
}

TEST_P(FragmentEachTest, OnlyTheDuplicateIsDropped)
{
    const std::vector<ByteVector> fragments = Split();

    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(Pass(fragments[0]).permitted());
    EXPECT_TRUE(Pass(fragments[1]).permitted());
    EXPECT_TRUE(Pass(fragments[1]).blocked());
    EXPECT_TRUE(Pass(fragments[0]).blocked());
    EXPECT_TRUE(Pass(fragments[2]).permitted());
    EXPECT_TRUE(Pass(fragments[3]).permitted());
    EXPECT_EQ(Blocked(), 2u);
}

TEST_P(FragmentEachTest, DataBehindTheLastFragmentRefusesTheDatagram)
{
    const std::vector<ByteVector> fragments = Split();
    ByteVector cut = Whole(flow(), inbound());
    cut.resize(cut.size() - kPiece);
    const ByteVector shorter = Fragment(cut, 2 * kPiece, kPiece);

    Decide(flow(), VerdictPermanentAccept);
    EXPECT_TRUE(Pass(fragments[0]).permitted());
    EXPECT_TRUE(Pass(fragments[3]).permitted());
    EXPECT_TRUE(Pass(shorter).blocked()) << "the datagram would have two ends";
    EXPECT_TRUE(Pass(fragments[1]).blocked());
}

TEST_P(FragmentEachTest, DatagramsDoNotMix)
{
    const std::vector<ByteVector> one = Split(1);
    const std::vector<ByteVector> two = Split(2);

    Decide(flow(), VerdictAccept);
    EXPECT_TRUE(Pass(one[1]).absorbed());
    EXPECT_TRUE(Pass(two[0]).absorbed());
    EXPECT_TRUE(Pass(one[0]).absorbed());
    EXPECT_TRUE(Pass(two[1]).absorbed());
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), 2u);
    client_.Verdict(questions[0].id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), (std::vector<ByteVector>{two[0], two[1]}));
    client_.Verdict(questions[1].id, VerdictBlock);
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_TRUE(Pass(two[2]).permitted());
    EXPECT_TRUE(Pass(one[2]).absorbed());
}

// ---- Reassembly, which happens to inbound datagrams only

class FragmentInboundTest : public FragmentDriverTest, public testing::WithParamInterface<Flow>
{
};

INSTANTIATE_TEST_SUITE_P(EachKind, FragmentInboundTest, testing::Values(Flow{}, UdpV4(), TcpV6(), UdpV6()));

TEST_P(FragmentInboundTest, AReassembledDatagramIsNotReportedAgain)
{
    const std::vector<ByteVector> fragments = Split(GetParam(), true);

    Decide(GetParam(), VerdictAccept);
    const uint64_t before = client_.GetStatistics().PacketsPermitted;
    for (const ByteVector &fragment : fragments)
    {
        EXPECT_TRUE(network_.Inbound(fragment).absorbed());
    }
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), fragments);
    EXPECT_TRUE(network_.Reassembled(Whole(GetParam(), true)).permitted());
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_EQ(client_.GetStatistics().PacketsPermitted - before, kPieces) << "each counts once";
}

TEST_P(FragmentInboundTest, AReassembledDatagramWithoutItsFlagIsAPacket)
{
    Decide(GetParam(), VerdictPermanentAccept);
    for (const ByteVector &fragment : Split(GetParam(), true))
    {
        EXPECT_TRUE(network_.Inbound(fragment).permitted());
    }
    EXPECT_TRUE(network_.Inbound(Whole(GetParam(), true)).permitted());
    EXPECT_EQ(Blocked(), 0u);
}

// ---- Time

TEST_F(FragmentDriverTest, AnEarlyFragmentWaitsASecondForTheFirst)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    Decide(UdpV4(), VerdictPermanentAccept);
    Elapse(milliseconds(500)); // no other timer is due at the same time
    EXPECT_TRUE(network_.Outbound(fragments[1]).absorbed());
    Elapse(milliseconds(1001));
    EXPECT_TRUE(network_.Outbound(fragments[0]).permitted());
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_EQ(Blocked(), 1u);
}

TEST_F(FragmentDriverTest, AFragmentThatHasWaitedASecondIsDroppedWithinAnother)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    Elapse(milliseconds(500)); // the timer is not due at the same time
    EXPECT_TRUE(network_.Outbound(Split(UdpV4())[1]).absorbed());
    Elapse(milliseconds(999));
    EXPECT_EQ(Remembered(), 1u);
    Elapse(milliseconds(1001));
    EXPECT_EQ(Remembered(), 0u);
    EXPECT_EQ(Blocked(), 1u);
}

TEST_F(FragmentDriverTest, EachEarlyDatagramWaitsItsOwnSecond)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 1)[1]).absorbed());
    Elapse(milliseconds(600));
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 2)[1]).absorbed());
    Elapse(milliseconds(500));
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 1)[0]).permitted());
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 2)[0]).permitted());
    EXPECT_EQ(TakeBytes().size(), 1u);
    EXPECT_EQ(Blocked(), 1u);
}

TEST_F(FragmentDriverTest, FragmentsWaitForTheVerdictLongerThanForTheFirst)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    EXPECT_TRUE(network_.Outbound(fragments[0]).absorbed());
    EXPECT_TRUE(network_.Outbound(fragments[1]).absorbed());
    Elapse(seconds(10));
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), (std::vector<ByteVector>{fragments[0], fragments[1]}));
}

TEST_F(FragmentDriverTest, ADecisionIsForgottenAfterHalfAMinute)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(fragments[0]).permitted());
    Elapse(milliseconds(29900));
    EXPECT_TRUE(network_.Outbound(fragments[1]).permitted());
    Elapse(milliseconds(200));
    EXPECT_TRUE(network_.Outbound(fragments[2]).absorbed()) << "waits for its first fragment";
}

TEST_F(FragmentDriverTest, AReusedIdentificationIsDecidedAgain)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());
    Flow other = UdpV4();
    other.local.port++;
    const std::vector<ByteVector> others = Split(other);

    Decide(UdpV4(), VerdictPermanentAccept);
    Decide(other, VerdictPermanentBlock);
    EXPECT_TRUE(network_.Outbound(fragments[0]).permitted());
    Advance(milliseconds(30100)); // deferred work has not run yet
    EXPECT_TRUE(network_.Outbound(others[0]).blocked());
    EXPECT_TRUE(network_.Outbound(others[1]).blocked());
}

TEST_F(FragmentDriverTest, ALateVerdictDecidesOnlyTheFirstFragment)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    EXPECT_TRUE(network_.Outbound(fragments[0]).absorbed());
    EXPECT_TRUE(network_.Outbound(fragments[1]).absorbed());
    const Question old = client_.ReadQuestion();
    Elapse(milliseconds(31000));
    EXPECT_EQ(Blocked(), 1u);
    EXPECT_TRUE(network_.Outbound(fragments[2]).absorbed()) << "belongs to the next datagram";
    client_.Verdict(old.id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), std::vector<ByteVector>{fragments[0]});
}

// ---- Bounds

TEST_F(FragmentDriverTest, SixtyFourFragmentsOfADatagramMayWait)
{
    const ByteVector whole = MakePacket(UdpV4(), false, Payload(8 * 70 - 8));

    Decide(UdpV4(), VerdictPermanentAccept);
    for (size_t i = 1; i <= FRAGMENT_MAX_WAITING; i++)
    {
        EXPECT_TRUE(network_.Outbound(Fragment(whole, 8 * i, 8)).absorbed());
    }
    EXPECT_TRUE(network_.Outbound(Fragment(whole, 8 * 65, 8)).blocked());
    EXPECT_EQ(Blocked(), 1u);
    EXPECT_TRUE(network_.Outbound(Fragment(whole, 0, 8)).permitted());
    EXPECT_EQ(TakeBytes().size(), FRAGMENT_MAX_WAITING);
}

TEST_F(FragmentDriverTest, ADatagramInTooManyPiecesIsRefused)
{
    const ByteVector whole = MakePacket(UdpV4(), false, Payload(8 * (FRAGMENT_MAX_PIECES + 2) - 8));

    Decide(UdpV4(), VerdictPermanentAccept);
    for (size_t i = 0; i < FRAGMENT_MAX_PIECES; i++)
    {
        EXPECT_TRUE(network_.Outbound(Fragment(whole, 8 * i, 8)).permitted());
    }
    EXPECT_TRUE(network_.Outbound(Fragment(whole, 8 * FRAGMENT_MAX_PIECES, 8)).blocked());
    EXPECT_EQ(Blocked(), 1u);
}

TEST_F(FragmentDriverTest, AFullTableGivesUpItsOldestLoneFragment)
{
    const ByteVector whole = Whole(UdpV6());
    const std::vector<ByteVector> more = Split(UdpV6(), false, FRAGMENT_MAX_DATAGRAMS);

    SetFlags(OPTION_FLAG_EXTENDED_RECORDS);
    Decide(UdpV6(), VerdictPermanentAccept);
    for (uint32_t id = 0; id < FRAGMENT_MAX_DATAGRAMS; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, kPiece, kPiece, id)).absorbed());
    }
    EXPECT_TRUE(client_.ReadType(InfoEventsLost).empty());
    EXPECT_TRUE(network_.Outbound(more[1]).absorbed());
    EXPECT_EQ(Remembered(), FRAGMENT_MAX_DATAGRAMS);
    EXPECT_EQ(Blocked(), 1u);
    const std::vector<Record> lost = client_.ReadType(InfoEventsLost);
    ASSERT_EQ(lost.size(), 1u);
    EXPECT_EQ(lost[0].At<uint64_t>(0), 1u);
    EXPECT_EQ(lost[0].At<uint8_t>(8), LossFragmentLimit);

    EXPECT_TRUE(network_.Outbound(Fragment(whole, 0, kPiece, 1)).permitted());
    EXPECT_EQ(TakeBytes().size(), 1u) << "the second oldest still waits for its first fragment";
    EXPECT_TRUE(network_.Outbound(more[0]).permitted());
    EXPECT_EQ(TakeBytes(), std::vector<ByteVector>{more[1]});
    EXPECT_TRUE(network_.Outbound(Fragment(whole, 0, kPiece, 0)).permitted());
    EXPECT_TRUE(TakeBytes().empty()) << "the oldest was given up";
}

TEST_F(FragmentDriverTest, AFullTableKeepsDecisionsAndHeldFirstsBeforeLoneFragments)
{
    const ByteVector whole = Whole(UdpV6());
    const std::vector<ByteVector> permitted = Split(UdpV6(), false, 1);
    Flow other = UdpV6();
    other.local.port++;
    const std::vector<ByteVector> asked = Split(other, false, 2);

    Decide(UdpV6(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(permitted[0]).permitted());
    EXPECT_TRUE(network_.Outbound(asked[0]).absorbed());
    const Question question = client_.ReadQuestion();
    for (uint32_t id = 0; id < FRAGMENT_MAX_DATAGRAMS + 100; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, kPiece, kPiece, 1000 + id)).absorbed());
    }
    EXPECT_EQ(Remembered(), FRAGMENT_MAX_DATAGRAMS);
    EXPECT_TRUE(network_.Outbound(permitted[1]).permitted());
    EXPECT_TRUE(network_.Outbound(asked[1]).absorbed());
    client_.Verdict(question.id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), (std::vector<ByteVector>{asked[0], asked[1]}));
}

TEST_F(FragmentDriverTest, ATableFullOfHeldFirstsGivesUpTheOldestOfThem)
{
    const ByteVector whole = Whole(UdpV6());

    for (uint32_t id = 0; id <= FRAGMENT_MAX_DATAGRAMS; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, 0, kPiece, id)).absorbed());
    }
    EXPECT_EQ(Remembered(), FRAGMENT_MAX_DATAGRAMS);
    EXPECT_TRUE(network_.Outbound(Fragment(whole, kPiece, kPiece, 1)).absorbed());
    EXPECT_TRUE(network_.Outbound(Fragment(whole, kPiece, kPiece, 0)).absorbed()) << "waits for a first fragment";
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), FRAGMENT_MAX_DATAGRAMS + 1);
    client_.Verdict(questions[0].id, VerdictAccept);
    EXPECT_EQ(TakeBytes().size(), 1u) << "the held first goes on alone";
    client_.Verdict(questions[2].id, VerdictAccept);
    EXPECT_EQ(TakeBytes().size(), 1u);
}

TEST_F(FragmentDriverTest, AFullTableForgetsItsOldestDecision)
{
    const ByteVector whole = Whole(UdpV6(), true);
    const std::vector<ByteVector> last = Split(UdpV6(), true, FRAGMENT_MAX_DATAGRAMS);

    Decide(UdpV6(), VerdictPermanentBlock);
    for (uint32_t id = 0; id < FRAGMENT_MAX_DATAGRAMS; id++)
    {
        ASSERT_TRUE(network_.Inbound(Fragment(whole, 0, kPiece, id)).blocked());
    }
    EXPECT_TRUE(network_.Inbound(last[0]).blocked());
    EXPECT_TRUE(network_.Inbound(last[1]).blocked()) << "decided like the first fragment";
    EXPECT_EQ(Remembered(), FRAGMENT_MAX_DATAGRAMS);
    EXPECT_TRUE(network_.Inbound(Fragment(whole, kPiece, kPiece, 1)).blocked()) << "still remembered";
    EXPECT_TRUE(network_.Inbound(Fragment(whole, kPiece, kPiece, 0)).absorbed()) << "waits for its first fragment";
    EXPECT_EQ(Remembered(), FRAGMENT_MAX_DATAGRAMS);
}

TEST_F(FragmentDriverTest, AFullTableKeepsEveryPendingDatagram)
{
    const ByteVector whole = Whole(UdpV6());
    const std::vector<ByteVector> asked = Split(UdpV6(), false, FRAGMENT_MAX_DATAGRAMS);

    Decide(UdpV6(), VerdictAccept);
    EXPECT_TRUE(network_.Outbound(asked[0]).absorbed());
    const Question question = client_.ReadQuestion();
    client_.Write(UpdateBytes(UdpV6(), VerdictPermanentBlock));
    network_.TakeReauthorized();
    for (uint32_t id = 0; id < FRAGMENT_MAX_DATAGRAMS; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, 0, kPiece, id)).blocked());
    }
    EXPECT_TRUE(network_.Outbound(asked[1]).absorbed()) << "waits for the verdict";
    client_.Verdict(question.id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), (std::vector<ByteVector>{asked[0], asked[1]}));
}

TEST_F(FragmentDriverTest, AFragmentOfAKnownDatagramAllocatesNothing)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(fragments[0]).permitted());
    network_.FailNth(0, true);
    EXPECT_TRUE(network_.Outbound(fragments[1]).permitted());
    EXPECT_EQ(network_.StopFailing(), 0u);
}

TEST_F(FragmentDriverTest, WaitingCopiesAreBoundedByTheirBytesAndTheOldestGo)
{
    const ByteVector whole = MakePacket(UdpV4(), false, Payload(65000));

    Decide(UdpV4(), VerdictPermanentAccept);
    for (uint32_t id = 0; id < 1000; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, 64, 64000, id)).absorbed());
    }
    EXPECT_LE(Remembered(), FRAGMENT_MAX_WAITING_BYTES / 64000);
    EXPECT_GT(Remembered(), FRAGMENT_MAX_WAITING_BYTES / 70000);
    EXPECT_EQ(Blocked(), 1000 - Remembered());
    EXPECT_TRUE(network_.Outbound(Fragment(whole, 0, 64, 999)).permitted());
    EXPECT_EQ(TakeBytes().size(), 1u);
}

TEST_F(FragmentDriverTest, LoneFragmentsDoNotPushOutTheBytesThatWaitForAVerdict)
{
    const ByteVector whole = MakePacket(UdpV4(), false, Payload(65000));
    const std::vector<ByteVector> asked = Split(UdpV4(), false, 2000);

    EXPECT_TRUE(network_.Outbound(asked[0]).absorbed());
    EXPECT_TRUE(network_.Outbound(asked[1]).absorbed());
    for (uint32_t id = 0; id < 300; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, 64, 64000, id)).absorbed());
    }
    EXPECT_TRUE(network_.Outbound(asked[2]).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), (std::vector<ByteVector>{asked[0], asked[1], asked[2]}));
}

TEST_F(FragmentDriverTest, BytesThatWaitForVerdictsMakeRoomOldestFirst)
{
    const ByteVector whole = MakePacket(UdpV4(), false, Payload(65000));
    constexpr uint32_t kDatagrams = FRAGMENT_MAX_WAITING_BYTES / 64000 + 10;

    for (uint32_t id = 0; id < kDatagrams; id++)
    {
        ASSERT_TRUE(network_.Outbound(Fragment(whole, 0, 64, id)).absorbed());
        ASSERT_TRUE(network_.Outbound(Fragment(whole, 64, 64000, id)).absorbed());
    }
    EXPECT_LT(Remembered(), kDatagrams);
    const std::vector<Question> questions = client_.ReadQuestions();
    ASSERT_EQ(questions.size(), kDatagrams);
    client_.Verdict(questions.front().id, VerdictAccept);
    EXPECT_EQ(TakeBytes().size(), 1u);
    client_.Verdict(questions.back().id, VerdictAccept);
    EXPECT_EQ(TakeBytes().size(), 2u);
}

TEST_F(FragmentDriverTest, AFragmentThatManySmallOnesLeaveNoRoomForMakesRoom)
{
    const ByteVector small = MakePacket(UdpV4(), false, Payload(8 * 70 - 8));
    const ByteVector large = MakePacket(UdpV4(), false, Payload(65000));
    uint32_t id = 0;

    while (context()->Fragments.WaitingBytes < FRAGMENT_MAX_WAITING_BYTES - 60000)
    {
        ASSERT_LT(id, FRAGMENT_MAX_DATAGRAMS);
        for (size_t i = 1; i <= FRAGMENT_MAX_WAITING; i++)
        {
            ASSERT_TRUE(network_.Outbound(Fragment(small, 8 * i, 8, id)).absorbed());
        }
        id++;
    }
    EXPECT_TRUE(network_.Outbound(Fragment(large, 64, 64000, id)).absorbed()) << "whole datagrams make room";
    EXPECT_LE(context()->Fragments.WaitingBytes, FRAGMENT_MAX_WAITING_BYTES);
}

// ---- Packets that are not fragments of a known datagram

TEST_F(FragmentDriverTest, AFirstFragmentWithoutAWholeTransportHeaderIsMalformed)
{
    Decide(Flow{}, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Fragment(Whole(Flow{}), 0, 16)).blocked());
    EXPECT_TRUE(network_.Inbound(Fragment(Whole(TcpV6(), true), 0, 16)).blocked());
    EXPECT_EQ(client_.GetStatistics().MalformedPackets, 2u);
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(FragmentDriverTest, AnAtomicFragmentIsAPacket)
{
    Decide(UdpV6(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Fragment(Whole(UdpV6()), 0, kPiece * kPieces)).permitted());
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(FragmentDriverTest, FirstFragmentsOfOtherProtocolsAreReported)
{
    Flow echo;
    echo.protocol = PROTOCOL_ICMP;
    const std::vector<ByteVector> fragments = Split(echo, true);

    for (const ByteVector &fragment : fragments)
    {
        EXPECT_TRUE(network_.Inbound(fragment).absorbed());
    }
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    EXPECT_EQ(TakeBytes(), fragments);
}

TEST_F(FragmentDriverTest, AnUnknownInboundDatagramIsLeftToTheAleLayer)
{
    for (const ByteVector &fragment : Split(UdpV4(), true))
    {
        EXPECT_TRUE(network_.Inbound(fragment).permitted());
    }
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(FragmentDriverTest, TheDirectionsOfALoopbackDatagramAreDecidedSeparately)
{
    Flow flow = UdpV4();
    flow.local = V4(127, 0, 0, 1, 5000);
    flow.remote = V4(127, 0, 0, 1, 6000);
    const std::vector<ByteVector> fragments = Split(flow);

    Decide(flow, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(fragments[0]).permitted());
    EXPECT_TRUE(network_.Inbound(fragments[0], true).permitted());
    EXPECT_EQ(Blocked(), 0u);
    EXPECT_EQ(Remembered(), 2u);
}

TEST_F(FragmentDriverTest, PermittedFragmentsOfAMixedChainAreInjected)
{
    const std::vector<ByteVector> good = Split(UdpV4(), false, 1);
    Flow other = UdpV4();
    other.local.port++;
    const std::vector<ByteVector> bad = Split(other, false, 2);

    Decide(UdpV4(), VerdictPermanentAccept);
    Decide(other, VerdictPermanentBlock);
    EXPECT_TRUE(network_.Outbound({{good[1], good[0], bad[1]}, {bad[0], good[2]}}).absorbed());
    EXPECT_THAT(TakeBytes(), testing::UnorderedElementsAre(good[0], good[1], good[2]));
    EXPECT_EQ(Blocked(), 2u);
}

// ---- Detach

TEST_F(FragmentDriverTest, DetachingReleasesTheFragmentsOfAHeldFirst)
{
    const std::vector<ByteVector> early = Split(UdpV4(), false, 1);
    const std::vector<ByteVector> asked = Split(UdpV4(), false, 2);

    EXPECT_TRUE(network_.Outbound(early[1]).absorbed());
    EXPECT_TRUE(network_.Outbound(asked[0]).absorbed());
    EXPECT_TRUE(network_.Outbound(asked[1]).absorbed());
    client_.Close();
    EXPECT_THAT(TakeBytes(), testing::UnorderedElementsAre(asked[0], asked[1]))
        << "the first fragment of the other datagram was never permitted";
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(FragmentDriverTest, DetachingAFailClosedClientDropsWaitingFragments)
{
    FailClosed();
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 1)[1]).absorbed());
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 2)[0]).absorbed());
    EXPECT_TRUE(network_.Outbound(Split(UdpV4(), false, 2)[1]).absorbed());
    client_.Close();
    EXPECT_TRUE(TakeBytes().empty());
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(FragmentDriverTest, TheTableIsInTheMemoryStatistics)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    options.LogLevel = LogSeverityInfo;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(Split(UdpV4())[1]).absorbed());
    client_.Command(CommandPrintMemoryStats);
    EXPECT_THAT(client_.GetLogs(),
                testing::Contains(testing::ContainsRegex("fragments: 1 entries, [1-9][0-9]* bytes")));
}

// ---- Several processors

TEST_F(FragmentDriverTest, NoFragmentIsLostWhenAllComeAtOnce)
{
    constexpr uint32_t kDatagrams = 500;
    std::atomic<size_t> passed{0};
    std::atomic<size_t> ready{0};
    std::vector<std::thread> threads;

    Decide(UdpV6(), VerdictPermanentAccept);
    for (size_t piece = 0; piece < kPieces; piece++)
    {
        threads.emplace_back(
            [&, piece]
            {
                sim::Machine::Scope scope(machine_);

                for (uint32_t id = 0; id < kDatagrams; id++)
                {
                    const ByteVector fragment = Split(UdpV6(), false, id)[piece];

                    for (ready++; ready < kPieces * (id + 1);)
                    {
                        std::this_thread::yield();
                    }
                    passed += network_.Outbound(fragment).permitted() ? 1 : 0;
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    EXPECT_EQ(passed + TakeBytes().size(), kPieces * kDatagrams);
    EXPECT_EQ(Blocked(), 0u);
    EXPECT_EQ(Remembered(), 0u);
}

// ---- Without memory

TEST_F(FragmentDriverTest, WithoutMemoryForAnEntryTheFirstIsDecidedAndTheRestIsRefused)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    Decide(UdpV4(), VerdictPermanentBlock);
    for (const uint32_t policy : {0u, static_cast<uint32_t>(OPTION_FLAG_FAIL_CLOSED)})
    {
        SetFlags(policy | OPTION_FLAG_EXTENDED_RECORDS);
        network_.FailNth(0, true);
        EXPECT_TRUE(network_.Outbound(fragments[0]).blocked());
        EXPECT_TRUE(network_.Outbound(fragments[1]).blocked());
        network_.StopFailing();
        const std::vector<Record> lost = client_.ReadType(InfoEventsLost);
        ASSERT_EQ(lost.size(), 1u);
        EXPECT_EQ(lost[0].At<uint64_t>(0), 1u);
        EXPECT_EQ(lost[0].At<uint8_t>(8), LossOutOfMemory);
    }
    EXPECT_EQ(Remembered(), 0u);
}

TEST_F(FragmentDriverTest, WithoutMemoryForItsCopyAFragmentIsRefused)
{
    const std::vector<ByteVector> fragments = Split(UdpV4());

    EXPECT_TRUE(network_.Outbound(fragments[0]).absorbed());
    network_.FailNth(0, true);
    EXPECT_TRUE(network_.Outbound(fragments[1]).blocked());
    network_.StopFailing();
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(TakeBytes(), std::vector<ByteVector>{fragments[0]});
}

TEST_F(FragmentDriverTest, EachAllocationOfEachStepMayFail)
{
    for (uint64_t n = 0;; n++)
    {
        const auto id = static_cast<uint32_t>(n + 1);

        network_.FailNth(n);
        for (const size_t i : {2u, 0u, 1u, 3u})
        {
            network_.Outbound(Split(UdpV4(), false, id)[i]);
        }
        const uint64_t failures = network_.StopFailing();
        for (const Question &question : client_.ReadQuestions())
        {
            client_.Verdict(question.id, VerdictAccept);
        }
        network_.TakeInjected();
        Elapse(seconds(31));
        EXPECT_EQ(Remembered(), 0u);
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
        client_.Command(CommandClearCache);
        if (failures == 0)
        {
            EXPECT_GT(n, 8u);
            break;
        }
    }
}

} // namespace
} // namespace kext_test

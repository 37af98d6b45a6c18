// Tests each check of the fuzzers' model with a driver that breaks it and with one that does not.
#include "fuzz/model.h"
#include "support/commands.h"
#include "support/record_bytes.h"

#include <gtest/gtest-spi.h>

namespace kext_test
{
namespace
{

class FuzzModelTest : public testing::Test
{
  protected:
    FuzzModelTest()
    {
        model_.Attached();
        model_.SetStrict(true);
    }

    // The driver holds and reports the packet that ends in `serial`.
    void Hold(uint32_t serial, uint64_t id, const Flow &flow = {})
    {
        model_.Sent(serial, flow, false);
        Ask(serial, id, flow);
    }

    void Ask(uint32_t serial, uint64_t id, const Flow &flow = {})
    {
        auto wire = MakeRecord<CONNECTION_V4_WIRE>(InfoConnectionV4, flow, sizeof(serial));

        wire.Id = id;
        wire.PayloadLength = sizeof(serial);
        Read(wire, serial);
    }

    void ReportEnd(const Flow &flow = {}) { Read(MakeRecord<CONNECTION_END_V4_WIRE>(InfoConnectionEndV4, flow)); }

    void Verdict(uint64_t id, uint8_t verdict) { model_.Written(VerdictBytes(id, verdict)); }

    fuzz::Model model_;

  private:
    template <typename... Parts> void Read(const Parts &...parts)
    {
        (model_.Read(reinterpret_cast<const uint8_t *>(&parts), sizeof(parts)), ...);
    }
};

constexpr uint32_t kSerial = 0x01000001;

TEST_F(FuzzModelTest, AnAcceptedPacketThatIsInjectedIsRight)
{
    Hold(kSerial, 1);
    Verdict(1, VerdictAccept);
    model_.Injected(kSerial);
    model_.Settled();
}

TEST_F(FuzzModelTest, FindsAnAcceptedPacketThatIsNeverInjected)
{
    Hold(kSerial, 1);
    Verdict(1, VerdictAccept);
    EXPECT_NONFATAL_FAILURE(model_.Settled(), "accepted, and not injected");
}

TEST_F(FuzzModelTest, AnAcceptedPacketMayGetLostWhereInjectionsFail)
{
    Hold(kSerial, 1);
    model_.SetReliable(false);
    Verdict(1, VerdictAccept);
    model_.Settled();
    model_.SetReliable(true);
    Hold(kSerial + 1, 2);
    Verdict(2, VerdictAccept);
    model_.SetReliable(false);
    model_.Settled();
}

TEST_F(FuzzModelTest, AnAcceptedPacketMayHaveTimedOutBefore)
{
    Hold(kSerial, 1);
    model_.OthersMayDecide();
    Verdict(1, VerdictAccept);
    model_.Settled();
}

TEST_F(FuzzModelTest, FindsAPacketThatIsInjectedTwice)
{
    Hold(kSerial, 1);
    Hold(kSerial + 1, 2);
    Verdict(1, VerdictAccept);
    Verdict(2, VerdictAccept);
    model_.Injected(kSerial);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial), "injected twice");
}

TEST_F(FuzzModelTest, FindsAPacketThatIsInjectedAThirdTimeAlthoughInjectionsMayFail)
{
    Hold(kSerial, 1);
    Hold(kSerial + 1, 2);
    Verdict(1, VerdictAccept);
    Verdict(2, VerdictAccept);
    model_.SetReliable(false);
    model_.Injected(kSerial);
    model_.Injected(kSerial);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial), "injected twice");
}

TEST_F(FuzzModelTest, APacketThatItsEndpointRefusedMayBeInjectedTwiceMore)
{
    Hold(kSerial, 1);
    Hold(kSerial + 1, 2);
    Verdict(1, VerdictAccept);
    Verdict(2, VerdictAccept);
    model_.SetReliable(false);
    model_.Injected(kSerial, true);
    model_.Injected(kSerial);
    model_.Injected(kSerial);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial), "injected twice");
}

TEST_F(FuzzModelTest, FindsAPacketThatIsInjectedAfterItHadPassed)
{
    model_.SetStrict(false);
    model_.Sent(kSerial, {}, true);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial), "had passed");
}

TEST_F(FuzzModelTest, FindsARefusedPacketThatIsInjected)
{
    model_.SetStrict(false);
    Hold(kSerial, 1);
    Verdict(1, VerdictBlock);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial), "refused");
}

TEST_F(FuzzModelTest, FindsAPacketThatIsInjectedByTheVerdictOnAnother)
{
    Hold(kSerial, 1);
    Hold(kSerial + 1, 2);
    Verdict(1, VerdictAccept);
    model_.Injected(kSerial);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial + 1), "injected before a verdict");
}

TEST_F(FuzzModelTest, FindsAPacketThatASecondVerdictOnAnIdReleases)
{
    Hold(kSerial, 1);
    Verdict(1, VerdictDrop);
    Verdict(1, VerdictAccept);
    Hold(kSerial + 1, 2);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial + 1), "injected before a verdict");
}

TEST_F(FuzzModelTest, FindsAPacketThatLeavesBeforeAVerdict)
{
    EXPECT_NONFATAL_FAILURE(model_.Sent(kSerial, {}, true), "left before a verdict");
}

TEST_F(FuzzModelTest, FindsAPacketThatLeavesAfterALaterBlock)
{
    Hold(kSerial, 1);
    Hold(kSerial + 1, 2);
    Verdict(1, VerdictPermanentAccept);
    model_.Sent(kSerial + 2, {}, true);
    Verdict(2, VerdictPermanentBlock);
    EXPECT_NONFATAL_FAILURE(model_.Sent(kSerial + 3, {}, true), "left before a verdict");
}

TEST_F(FuzzModelTest, FindsAPacketThatLeavesAfterAnUpdateToBlock)
{
    model_.Written(UpdateBytes({}, VerdictPermanentAccept));
    model_.Sent(kSerial, {}, true);
    model_.Written(UpdateBytes({}, VerdictBlock));
    EXPECT_NONFATAL_FAILURE(model_.Sent(kSerial + 1, {}, true), "left before a verdict");
}

TEST_F(FuzzModelTest, ABlockOfAnEndedConnectionMayHaveNoEffect)
{
    Hold(kSerial, 1);
    model_.Written(UpdateBytes({}, VerdictPermanentAccept));
    model_.Ended(PROTOCOL_TCP, Flow{}.local);
    Verdict(1, VerdictBlock);
    model_.Sent(kSerial + 1, {}, true);
}

TEST_F(FuzzModelTest, FindsAPacketThatLeavesByAVerdictOfTheClientBefore)
{
    Hold(kSerial, 1);
    Verdict(1, VerdictPermanentAccept);
    model_.Detached();
    EXPECT_NONFATAL_FAILURE(model_.Sent(kSerial + 1, {}, true), "left before a verdict");
    model_.Attached();
    EXPECT_NONFATAL_FAILURE(model_.Sent(kSerial + 2, {}, true), "left before a verdict");
}

TEST_F(FuzzModelTest, FindsAPacketThatLeavesAfterTheCacheWasCleared)
{
    model_.Written(UpdateBytes({}, VerdictPermanentAccept));
    model_.Written({CommandClearCache});
    EXPECT_NONFATAL_FAILURE(model_.Sent(kSerial, {}, true), "left before a verdict");
}

TEST_F(FuzzModelTest, NothingIsCertainAfterAVerdictOnAnIdThatWasNotRead)
{
    model_.Sent(kSerial, {}, false);
    Verdict(1, VerdictAccept);
    model_.Injected(kSerial);
}

TEST_F(FuzzModelTest, AnInvalidVerdictIsIgnored)
{
    Hold(kSerial, 1);
    Verdict(1, VerdictCount);
    Verdict(1, VerdictAccept);
    model_.Injected(kSerial);
    model_.Settled();
}

TEST_F(FuzzModelTest, FindsAnEndWhoseStartWasReportedToTheClientBefore)
{
    Hold(kSerial, 1);
    ReportEnd();
    model_.Attached();
    EXPECT_NONFATAL_FAILURE(ReportEnd(), "was not reported");
}

TEST_F(FuzzModelTest, FindsASecondEndOfOneConnection)
{
    Hold(kSerial, 1);
    ReportEnd();
    EXPECT_NONFATAL_FAILURE(ReportEnd(), "was not reported");
}

TEST_F(FuzzModelTest, FindsAnEndThatComesAfterTheQuestionOfASuccessor)
{
    Hold(kSerial, 1);
    Hold(kSerial + 1, 2);
    ReportEnd();
    EXPECT_NONFATAL_FAILURE(ReportEnd(), "was not reported");
}

TEST_F(FuzzModelTest, FindsARepeatedId)
{
    Hold(kSerial, 1);
    EXPECT_NONFATAL_FAILURE(Ask(kSerial, 1), "an id comes once");
}

TEST_F(FuzzModelTest, CountsTheRecordsOfEachClient)
{
    Hold(kSerial, 1);
    ReportEnd();
    EXPECT_EQ(model_.records(), 2u);
    model_.Attached();
    EXPECT_EQ(model_.records(), 0u);
}

// Only the first fragment has the ports.
TEST_F(FuzzModelTest, AFragmentFollowsAnyFirstFragmentOfItsHosts)
{
    Flow other;
    other.local.port++;

    model_.Sent(kSerial, {}, false, true);
    Hold(kSerial + 1, 1, other);
    Verdict(1, VerdictAccept);
    model_.Injected(kSerial);
    model_.Injected(kSerial + 1);
}

TEST_F(FuzzModelTest, FindsAnInjectedFragmentOfHostsWithoutAVerdict)
{
    Flow other;
    other.remote.address[3]++;

    model_.Sent(kSerial, {}, false, true);
    Hold(kSerial + 1, 1, other);
    Verdict(1, VerdictAccept);
    EXPECT_NONFATAL_FAILURE(model_.Injected(kSerial), "before a verdict");
}

TEST_F(FuzzModelTest, FindsAnAcceptedFragmentThatIsNeverInjected)
{
    model_.Sent(kSerial, {}, false, true);
    Ask(kSerial, 1);
    Verdict(1, VerdictAccept);
    EXPECT_NONFATAL_FAILURE(model_.Settled(), "accepted, and not injected");
}

TEST_F(FuzzModelTest, AnAcceptedFragmentMayBeRefusedForALaterOne)
{
    model_.Sent(kSerial, {}, false, true);
    Ask(kSerial, 1);
    model_.Sent(kSerial + 1, {}, false, true);
    Verdict(1, VerdictAccept);
    model_.Settled();
}

} // namespace
} // namespace kext_test

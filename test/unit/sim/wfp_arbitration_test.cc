#include "wfp_fixture.h"

#include <string>

namespace sim::wfp
{
namespace
{

constexpr uint16_t kOurWeight = 0x8000;
constexpr uint16_t kAbove = 0xFFFF;
constexpr uint16_t kBelow = 0x0001;

enum class Ours
{
    kSoftPermit,
    kHardPermit,
    kSoftBlock,
    kHardBlock,
    kContinue,
    kRespectful // decides only if it has the right to
};

struct Case
{
    const char *name;
    ForeignAction foreign;
    uint16_t foreign_weight;
    Ours ours;
    ClassifyResult::Action expected;
};

void Decide(Ours ours, const ClassifyCall &call)
{
    switch (ours)
    {
    case Ours::kHardPermit:
        call.ClearRight();
        [[fallthrough]];
    case Ours::kSoftPermit:
        call.Permit();
        return;
    case Ours::kHardBlock:
        call.ClearRight();
        [[fallthrough]];
    case Ours::kSoftBlock:
        call.Block();
        return;
    case Ours::kContinue:
        call.Continue();
        return;
    case Ours::kRespectful:
        if ((call.out->rights & FWPS_RIGHT_ACTION_WRITE) != 0)
        {
            call.Permit();
        }
        return;
    }
}

class WfpArbitration : public WfpTest, public ::testing::WithParamInterface<Case>
{
};

TEST_P(WfpArbitration, GivesTheExpectedAction)
{
    const Case &test = GetParam();
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4}, kOurWeight);
    const uint64_t foreign = engine().AddForeignFilter(kLayer, test.foreign_weight, test.foreign);

    callout.classify = [&](const ClassifyCall &call) { Decide(test.ours, call); };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    EXPECT_EQ(Classify().action, test.expected);
    engine().RemoveForeignFilter(foreign);
    StopDriver(driver);
}

constexpr auto kPermit = ClassifyResult::kPermit;
constexpr auto kBlock = ClassifyResult::kBlock;

INSTANTIATE_TEST_SUITE_P(
    TwoSublayers, WfpArbitration,
    ::testing::Values(
        Case{"SoftPermitBelowAForeignPermit", ForeignAction::kSoftPermit, kAbove, Ours::kSoftPermit, kPermit},
        Case{"OurBlockOverridesASoftPermitAbove", ForeignAction::kSoftPermit, kAbove, Ours::kSoftBlock, kBlock},
        Case{"OurBlockVetoesAHardPermitAbove", ForeignAction::kHardPermit, kAbove, Ours::kSoftBlock, kBlock},
        Case{"OurPermitOverridesASoftBlockAbove", ForeignAction::kSoftBlock, kAbove, Ours::kSoftPermit, kPermit},
        Case{"HardBlockAboveStaysForARespectfulCallout", ForeignAction::kHardBlock, kAbove, Ours::kRespectful, kBlock},
        Case{"ContinueLeavesABlockAbove", ForeignAction::kSoftBlock, kAbove, Ours::kContinue, kBlock},
        Case{"SoftPermitYieldsToABlockBelow", ForeignAction::kSoftBlock, kBelow, Ours::kSoftPermit, kBlock},
        Case{"SoftPermitYieldsToAHardBlockBelow", ForeignAction::kHardBlock, kBelow, Ours::kSoftPermit, kBlock},
        Case{"HardPermitStandsAgainstABlockBelow", ForeignAction::kHardBlock, kBelow, Ours::kHardPermit, kPermit},
        Case{"HardPermitYieldsToAVetoBelow", ForeignAction::kVeto, kBelow, Ours::kHardPermit, kBlock},
        Case{"SoftBlockYieldsToAPermitBelow", ForeignAction::kSoftPermit, kBelow, Ours::kSoftBlock, kPermit},
        Case{"HardBlockStandsAgainstAPermitBelow", ForeignAction::kHardPermit, kBelow, Ours::kHardBlock, kBlock},
        Case{"ContinueBelowLeavesOurBlock", ForeignAction::kContinue, kBelow, Ours::kSoftBlock, kBlock},
        Case{"NobodyDecides", ForeignAction::kContinue, kBelow, Ours::kContinue, kPermit}),
    [](const auto &info) { return std::string(info.param.name); });

class WfpSublayer : public WfpTest
{
};

TEST_F(WfpSublayer, FirstFilterThatDecidesEndsTheSublayer)
{
    TestCallout heavy;
    TestCallout light;
    int light_calls = 0;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    heavy.classify = [](const ClassifyCall &call) { call.Permit(); };
    light.classify = [&](const ClassifyCall &call)
    {
        ++light_calls;
        call.Block();
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, light, 0, FWP_ACTION_CALLOUT_TERMINATING, 1);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, heavy, 0, FWP_ACTION_CALLOUT_TERMINATING, 9);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_EQ(light_calls, 0);

    heavy.classify = [](const ClassifyCall &call) { call.Continue(); };
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    EXPECT_EQ(light_calls, 1);
    StopDriver(driver);
}

TEST_F(WfpSublayer, LowerSublayersAreEvaluatedAfterABlock)
{
    TestCallout callout;
    int calls = 0;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4}, kOurWeight);
    const uint64_t foreign = engine().AddForeignFilter(kLayer, kAbove, ForeignAction::kHardBlock);

    callout.classify = [&](const ClassifyCall &call)
    {
        ++calls;
        EXPECT_EQ(call.out->actionType, static_cast<UINT32>(FWP_ACTION_BLOCK));
        EXPECT_EQ(call.out->rights, 0u);
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    EXPECT_EQ(calls, 1);
    engine().RemoveForeignFilter(foreign);
    StopDriver(driver);
}

TEST_F(WfpSublayer, PlainFiltersDecideWithoutACallout)
{
    const HANDLE session = Open();
    FWPM_FILTER0 permit = MakeFilter(FWPM_LAYER_ALE_AUTH_CONNECT_V4, 1, FWP_ACTION_PERMIT);
    FWPM_FILTER0 block = MakeFilter(FWPM_LAYER_ALE_AUTH_CONNECT_V4, 2, FWP_ACTION_BLOCK);
    UINT64 soft_permit = 0;

    ASSERT_EQ(AddSubLayer(session, 1, 200), STATUS_SUCCESS);
    ASSERT_EQ(AddSubLayer(session, 2, 100), STATUS_SUCCESS);
    ASSERT_EQ(FwpmFilterAdd0(session, &permit, nullptr, &soft_permit), STATUS_SUCCESS);
    ASSERT_EQ(FwpmFilterAdd0(session, &block, nullptr, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);

    ASSERT_EQ(FwpmFilterDeleteById0(session, soft_permit), STATUS_SUCCESS);
    permit.flags = FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT;
    ASSERT_EQ(FwpmFilterAdd0(session, &permit, nullptr, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

} // namespace
} // namespace sim::wfp

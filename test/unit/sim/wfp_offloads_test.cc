// Offloads of the adapters, connections that are older than a stream filter, and stream actions.
#include "wfp_fixture.h"

#include "wfp/offloads.h"

namespace sim::wfp
{
namespace
{

constexpr UINT32 kOffloadFlags = FWP_CALLOUT_FLAG_ALLOW_OFFLOAD | FWP_CALLOUT_FLAG_ALLOW_RSC |
                                 FWP_CALLOUT_FLAG_ALLOW_USO | FWP_CALLOUT_FLAG_ALLOW_URO;

class WfpOffloads : public WfpTest
{
  protected:
    // The offloads that are on, as letters: c(hecksums), r(sc), s(egmentation of UDP), u(ro).
    std::string On()
    {
        const OffloadState state = engine().offloads();
        std::string on;

        on += state.checksums_and_large_send ? "c" : "";
        on += state.rsc ? "r" : "";
        on += state.uso ? "s" : "";
        on += state.uro ? "u" : "";
        EXPECT_EQ(state.all(), on == "crsu");
        return on;
    }

    // What is on while a callout with these flags is registered, then added, then named by a filter.
    std::vector<std::string> OnWith(UINT32 flags)
    {
        const HANDLE session = Open();
        TestCallout callout;
        std::vector<std::string> on;
        Driver driver;
        UINT32 id = 0;

        EXPECT_EQ(On(), "crsu");
        EXPECT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
        EXPECT_EQ(Register(kFirstCallout, &id, flags), STATUS_SUCCESS);
        on.push_back(On());
        EXPECT_EQ(AddCallout(session, kFirstCallout, FWPM_LAYER_INBOUND_IPPACKET_V4), STATUS_SUCCESS);
        on.push_back(On());
        driver.session = session;
        driver.callouts.push_back(id);
        AddCalloutFilter(driver, FWPM_LAYER_INBOUND_IPPACKET_V4, callout);
        on.push_back(On());
        StopDriver(driver);
        EXPECT_EQ(On(), "crsu");
        return on;
    }
};

using Steps = std::vector<std::string>;

TEST_F(WfpOffloads, EveryFlagThatIsMissingSwitchesItsOffloadOff)
{
    EXPECT_EQ(OnWith(kOffloadFlags), (Steps{"crsu", "crsu", "crsu"}));
    EXPECT_EQ(OnWith(kOffloadFlags & ~FWP_CALLOUT_FLAG_ALLOW_OFFLOAD), (Steps{"crsu", "crsu", "rsu"}));
    EXPECT_EQ(OnWith(kOffloadFlags & ~FWP_CALLOUT_FLAG_ALLOW_RSC), (Steps{"csu", "csu", "csu"}));
    EXPECT_EQ(OnWith(kOffloadFlags & ~FWP_CALLOUT_FLAG_ALLOW_USO), (Steps{"crsu", "crsu", "cru"}));
    EXPECT_EQ(OnWith(kOffloadFlags & ~FWP_CALLOUT_FLAG_ALLOW_URO), (Steps{"crsu", "crs", "crs"}));
    EXPECT_EQ(OnWith(0), (Steps{"csu", "cs", ""}));
}

TEST_F(WfpOffloads, OneCalloutWithoutAFlagIsEnough)
{
    TestCallout callout;
    const Driver friendly = StartDriver({&FWPM_LAYER_INBOUND_IPPACKET_V4}, 1, kOffloadFlags);
    UINT32 other = 0;

    AddCalloutFilter(friendly, FWPM_LAYER_INBOUND_IPPACKET_V4, callout);
    EXPECT_EQ(On(), "crsu");
    ASSERT_EQ(Register(5, &other), STATUS_SUCCESS);
    EXPECT_EQ(On(), "csu");
    EXPECT_EQ(FwpsCalloutUnregisterById0(other), STATUS_SUCCESS);
    EXPECT_EQ(On(), "crsu");
    StopDriver(friendly);
}

TEST_F(WfpOffloads, AFilterWhoseCalloutIsNotRegisteredSwitchesNothingOff)
{
    TestCallout callout;
    Driver driver;

    driver.session = Open();
    ASSERT_EQ(AddSubLayer(driver.session, kSubLayer, 1), STATUS_SUCCESS);
    ASSERT_EQ(AddCallout(driver.session, kFirstCallout, FWPM_LAYER_INBOUND_IPPACKET_V4), STATUS_SUCCESS);
    AddCalloutFilter(driver, FWPM_LAYER_INBOUND_IPPACKET_V4, callout);
    EXPECT_EQ(On(), "crsu");
    StopDriver(driver);
}

TEST(WfpOldBuild, FlagsOfNewerBuildsAreRefusedAndNotAskedFor)
{
    MachineOptions options;
    options.virtual_clock = true;
    options.worker = false;
    options.windows_build = kFirstBuildWithUdpFlags - 1;
    Machine machine(options);
    const Machine::Scope scope(machine);
    DEVICE_OBJECT device{};
    FWPS_CALLOUT2 callout{};
    UINT32 id = 0;

    callout.calloutKey = Key(1);
    callout.classifyFn = TestCallout::ClassifyFunction;
    callout.notifyFn = TestCallout::NotifyFunction;
    for (const UINT32 flag : {FWP_CALLOUT_FLAG_ALLOW_USO, FWP_CALLOUT_FLAG_ALLOW_URO})
    {
        callout.flags = flag;
        EXPECT_EQ(FwpsCalloutRegister2(&device, &callout, &id), STATUS_INVALID_PARAMETER);
    }
    callout.flags = FWP_CALLOUT_FLAG_ALLOW_OFFLOAD | FWP_CALLOUT_FLAG_ALLOW_RSC;
    ASSERT_EQ(FwpsCalloutRegister2(&device, &callout, &id), STATUS_SUCCESS);
    EXPECT_TRUE(machine.wfp().offloads().all());
    EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
}

class WfpStream : public WfpTest
{
  protected:
    // Classifies payload of a connection that was established at this epoch.
    void Classify(uint64_t established)
    {
        FWPS_STREAM_DATA0 data{};
        FWPS_STREAM_CALLOUT_IO_PACKET0 packet{};
        ClassifyInput input = Input(FWPS_LAYER_STREAM_V4);

        packet.streamData = &data;
        input.layer_data = &packet;
        input.established = established;
        engine().Classify(input);
    }

    // Returns how often callouts with these flags see payload of a connection that is older than their filters,
    // and of one that is newer.
    std::pair<int, int> CallsWith(UINT32 flags)
    {
        TestCallout callout;
        int calls = 0;
        const Driver driver = StartDriver({&FWPM_LAYER_STREAM_V4}, 1, flags);
        const uint64_t before = engine().filter_epoch();

        callout.classify = [&](const ClassifyCall &call)
        {
            static_cast<FWPS_STREAM_CALLOUT_IO_PACKET0 *>(call.layer_data)->streamAction = FWPS_STREAM_ACTION_NONE;
            call.Continue();
            ++calls;
        };
        AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, callout, 0, FWP_ACTION_CALLOUT_INSPECTION);
        EXPECT_GT(engine().filter_epoch(), before);

        Classify(before);
        const int old_connection = calls;
        Classify(engine().filter_epoch());
        StopDriver(driver);
        return {old_connection, calls - old_connection};
    }
};

TEST_F(WfpStream, OldConnectionsAreSeenOnlyWithTheFlagForThem)
{
    EXPECT_EQ(CallsWith(0), std::make_pair(0, 1));
    EXPECT_EQ(CallsWith(FWP_CALLOUT_FLAG_ALLOW_MID_STREAM_INSPECTION), std::make_pair(1, 1));
}

TEST_F(WfpStream, AFilterThatDoesNotApplyLeavesTheDecisionToTheOthers)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_STREAM_V4}, 2);
    const uint64_t before = engine().filter_epoch();
    const uint64_t foreign = engine().AddForeignFilter(FWPS_LAYER_STREAM_V4, 1, ForeignAction::kHardBlock);
    ClassifyInput input = Input(FWPS_LAYER_STREAM_V4);

    callout.classify = [](const ClassifyCall &call) { call.Permit(); };
    AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, callout);
    input.established = before;
    EXPECT_EQ(engine().Classify(input).action, ClassifyResult::kBlock);
    engine().RemoveForeignFilter(foreign);
    StopDriver(driver);
}

using WfpStreamDeathTest = WfpStream;

TEST_F(WfpStreamDeathTest, ACalloutThatSetsNoStreamActionIsFound)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_STREAM_V4});

    AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, callout, 0, FWP_ACTION_CALLOUT_INSPECTION);
    EXPECT_DEATH(Classify(engine().filter_epoch()), "WFP_STREAM_ACTION");
    StopDriver(driver);
}

} // namespace
} // namespace sim::wfp

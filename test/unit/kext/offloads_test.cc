// The offloads of the network adapters: which of them the driver's callouts leave on.
#include "load_fixture.h"

#include "support/device_client.h"

#include "layers.h"

#include <vector>

namespace kext_test
{
namespace
{

using sim::wfp::OffloadState;

class OffloadsTest : public BareMachineTest
{
  protected:
    OffloadState offloads() { return machine_.wfp().offloads(); }
};

constexpr GUID kSubLayerKey = {0x6f666c64, 0, 0, {}};

void NTAPI Continue(const FWPS_INCOMING_VALUES0 *, const FWPS_INCOMING_METADATA_VALUES0 *, void *, const void *,
                    const FWPS_FILTER2 *, UINT64, FWPS_CLASSIFY_OUT0 *out)
{
    out->actionType = FWP_ACTION_CONTINUE;
}

NTSTATUS NTAPI Agree(FWPS_CALLOUT_NOTIFY_TYPE, const GUID *, FWPS_FILTER2 *)
{
    return STATUS_SUCCESS;
}

// Registers the callout of a row, and adds it with a filter.
UINT32 AddRow(HANDLE session, const LAYER &row)
{
    static DEVICE_OBJECT device{};
    FWPS_CALLOUT2 runtime{};
    FWPM_CALLOUT0 callout{};
    FWPM_FILTER0 filter{};
    UINT32 id = 0;

    runtime.calloutKey = row.CalloutKey;
    runtime.flags = row.CalloutFlags;
    runtime.classifyFn = Continue;
    runtime.notifyFn = Agree;
    EXPECT_EQ(FwpsCalloutRegister2(&device, &runtime, &id), STATUS_SUCCESS);
    callout.calloutKey = row.CalloutKey;
    callout.displayData.name = const_cast<wchar_t *>(L"callout");
    callout.applicableLayer = *row.Key;
    EXPECT_EQ(FwpmCalloutAdd0(session, &callout, nullptr, nullptr), STATUS_SUCCESS);
    filter.displayData.name = const_cast<wchar_t *>(L"filter");
    filter.layerKey = *row.Key;
    filter.subLayerKey = kSubLayerKey;
    filter.action.type = row.Action;
    filter.action.calloutKey = row.CalloutKey;
    EXPECT_EQ(FwpmFilterAdd0(session, &filter, nullptr, nullptr), STATUS_SUCCESS);
    return id;
}

TEST_F(OffloadsTest, TheFiltersOfTheInspectionLayersSwitchNoneOff)
{
    FWPM_SESSION0 dynamic{};
    FWPM_SUBLAYER0 sub_layer{};
    HANDLE session = nullptr;
    std::vector<UINT32> ids;

    dynamic.flags = FWPM_SESSION_FLAG_DYNAMIC;
    ASSERT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, &dynamic, &session), STATUS_SUCCESS);
    sub_layer.subLayerKey = kSubLayerKey;
    sub_layer.displayData.name = const_cast<wchar_t *>(L"sublayer");
    ASSERT_EQ(FwpmSubLayerAdd0(session, &sub_layer, nullptr), STATUS_SUCCESS);
    for (const LAYER &row : Layers)
    {
        if (row.Action == FWP_ACTION_CALLOUT_INSPECTION)
        {
            ids.push_back(AddRow(session, row));
        }
    }
    EXPECT_EQ(ids.size(), 12u);
    EXPECT_TRUE(offloads().all());
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    for (const UINT32 id : ids)
    {
        EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
    }
}

// RSC goes with the registration of a callout and URO with its addition, so no deciding callout may be registered.
TEST_F(OffloadsTest, AMachineKeepsItsOffloadsWhileNoClientIsAttached)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    machine_.Run();
    EXPECT_TRUE(offloads().all());
    {
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
        EXPECT_FALSE(offloads().all()) << "the deciding callouts copy packets";
    }
    machine_.Run();
    EXPECT_TRUE(offloads().all());
    Unload();
}

TEST_F(OffloadsTest, ACalloutThatIsStillInUseIsUnregisteredLater)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    {
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
        machine_.wfp().SetUnregisterFailures({STATUS_DEVICE_BUSY});
    }
    machine_.Run();
    EXPECT_FALSE(offloads().rsc);
    machine_.clock().Advance(std::chrono::seconds(1));
    EXPECT_TRUE(offloads().all());
    Unload();
}

class OldSystemTest : public MachineTest
{
  protected:
    static sim::MachineOptions Windows10()
    {
        sim::MachineOptions options = StandingClock();

        options.windows_build = 17763;
        return options;
    }

    OldSystemTest() : MachineTest(Windows10()), driver_(machine_) {}

    DriverLoader driver_;
};

TEST_F(OldSystemTest, AnOldSystemGetsNoFlagThatItDoesNotKnow)
{
    ASSERT_EQ(driver_.Load(u"NetVerdict"), STATUS_SUCCESS);
    {
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    }
    driver_.Unload();
}

} // namespace
} // namespace kext_test

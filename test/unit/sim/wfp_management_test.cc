#include "wfp_fixture.h"

#include <thread>

namespace sim::wfp
{
namespace
{

using Notifications = std::vector<FWPS_CALLOUT_NOTIFY_TYPE>;

class WfpManagement : public WfpTest
{
};

TEST_F(WfpManagement, FilterTakesEffectAtCommitAndNotBefore)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    callout.classify = [](const ClassifyCall &call) { call.Block(); };
    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_TRUE(callout.notifications.empty());

    ASSERT_EQ(FwpmTransactionCommit0(driver.session), STATUS_SUCCESS);
    EXPECT_TRUE(engine().has_filters(kLayer));
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    EXPECT_EQ(callout.notifications, Notifications{FWPS_CALLOUT_NOTIFY_ADD_FILTER});
    StopDriver(driver);
}

TEST_F(WfpManagement, AbortUndoesTheTransaction)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    const UINT64 id = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    ASSERT_EQ(FwpmTransactionAbort0(driver.session), STATUS_SUCCESS);

    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_TRUE(callout.notifications.empty());
    EXPECT_EQ(FwpmFilterDeleteById0(driver.session, id), STATUS_FWP_FILTER_NOT_FOUND);
    EXPECT_EQ(FwpmTransactionAbort0(driver.session), STATUS_FWP_NO_TXN_IN_PROGRESS);
    StopDriver(driver);
}

TEST_F(WfpManagement, SwappingAFilterInOneTransactionNotifiesAdditionThenDeletion)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const UINT64 first = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);

    callout.notifications.clear();
    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    ASSERT_EQ(FwpmFilterDeleteById0(driver.session, first), STATUS_SUCCESS);
    EXPECT_NE(AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout), first);
    ASSERT_EQ(FwpmTransactionCommit0(driver.session), STATUS_SUCCESS);

    EXPECT_EQ(callout.notifications,
              (Notifications{FWPS_CALLOUT_NOTIFY_ADD_FILTER, FWPS_CALLOUT_NOTIFY_DELETE_FILTER}));
    StopDriver(driver);
}

TEST_F(WfpManagement, NotifyThatRefusesAFilterUndoesTheWholeTransaction)
{
    TestCallout accepting;
    TestCallout refusing;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    refusing.notify = [](FWPS_CALLOUT_NOTIFY_TYPE) { return STATUS_INSUFFICIENT_RESOURCES; };
    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, accepting);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, refusing);

    EXPECT_EQ(FwpmTransactionCommit0(driver.session), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_EQ(accepting.notifications,
              (Notifications{FWPS_CALLOUT_NOTIFY_ADD_FILTER, FWPS_CALLOUT_NOTIFY_DELETE_FILTER}));
    EXPECT_EQ(FwpmTransactionCommit0(driver.session), STATUS_FWP_NO_TXN_IN_PROGRESS);
    StopDriver(driver);
}

TEST_F(WfpManagement, OneSessionHasOneTransaction)
{
    const HANDLE session = Open();

    ASSERT_EQ(FwpmTransactionBegin0(session, 0), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_FWP_TXN_IN_PROGRESS);
    EXPECT_EQ(FwpmTransactionCommit0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpManagement, AnotherSessionWaitsForTheTransactionUntilItsTimeout)
{
    const HANDLE first = Open();
    const HANDLE second = Open();

    ASSERT_EQ(FwpmTransactionBegin0(first, 0), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionBegin0(second, 0), STATUS_FWP_TIMEOUT);
    EXPECT_EQ(AddSubLayer(second, 7, 1), STATUS_FWP_TIMEOUT);
    ASSERT_EQ(FwpmTransactionAbort0(first), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionBegin0(second, 0), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionAbort0(second), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(first), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(second), STATUS_SUCCESS);
}

TEST_F(WfpManagement, ATransactionOfAClosedSessionIsFound)
{
    const HANDLE session = Open();

    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    EXPECT_DEATH((void)FwpmTransactionBegin0(session, 0), "BUGCHECK WFP_INVALID_HANDLE");
}

TEST_F(WfpManagement, ReadOnlyTransactionChangesNothing)
{
    const HANDLE session = Open();

    ASSERT_EQ(FwpmTransactionBegin0(session, FWPM_TXN_READ_ONLY), STATUS_SUCCESS);
    EXPECT_EQ(AddSubLayer(session, 7, 1), STATUS_FWP_INCOMPATIBLE_TXN);
    EXPECT_EQ(FwpmTransactionAbort0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpManagement, ClosingADynamicSessionDeletesItsObjects)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    callout.notifications.clear();
    ASSERT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);

    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_EQ(callout.notifications, Notifications{FWPS_CALLOUT_NOTIFY_DELETE_FILTER});
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_INVALID_HANDLE);
    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);

    const HANDLE again = Open();
    EXPECT_EQ(AddSubLayer(again, kSubLayer, 1), STATUS_SUCCESS) << "the sublayer's key is free again";
    EXPECT_EQ(FwpmEngineClose0(again), STATUS_SUCCESS);
    engine().CheckUnloaded();
}

TEST_F(WfpManagement, ObjectsBelongToAProviderOfTheirSession)
{
    GUID key = Key(50);
    const HANDLE session = Open();
    FWPM_PROVIDER0 provider{};
    FWPM_SUBLAYER0 sub_layer{};

    sub_layer.displayData.name = const_cast<wchar_t *>(L"sublayer");
    sub_layer.providerKey = &key;
    EXPECT_EQ(FwpmSubLayerAdd0(session, &sub_layer, nullptr), STATUS_FWP_PROVIDER_NOT_FOUND);

    provider.providerKey = key;
    EXPECT_EQ(FwpmProviderAdd0(session, &provider, nullptr), STATUS_FWP_NULL_DISPLAY_NAME);
    provider.displayData.name = const_cast<wchar_t *>(L"provider");
    EXPECT_EQ(FwpmProviderAdd0(session, &provider, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(FwpmProviderAdd0(session, &provider, nullptr), STATUS_FWP_ALREADY_EXISTS);
    EXPECT_EQ(FwpmSubLayerAdd0(session, &sub_layer, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(engine().objects_without_provider(), 0u);

    EXPECT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
    EXPECT_EQ(engine().objects_without_provider(), 1u);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);

    const HANDLE again = Open();
    EXPECT_EQ(FwpmProviderAdd0(again, &provider, nullptr), STATUS_SUCCESS) << "the key is free again";
    EXPECT_EQ(FwpmEngineClose0(again), STATUS_SUCCESS);
}

TEST_F(WfpManagement, ACalloutThatFiltersNameCanBeUnregisteredAndThenItsFiltersBlockOrPermit)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    callout.classify = [](const ClassifyCall &call) { call.Permit(); };
    const UINT64 blocking = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);

    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_FWP_CALLOUT_NOT_FOUND);

    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    ASSERT_EQ(FwpmFilterDeleteById0(driver.session, blocking), STATUS_SUCCESS);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout, 0, FWP_ACTION_CALLOUT_TERMINATING, 8,
                     FWPM_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED);
    ASSERT_EQ(FwpmTransactionCommit0(driver.session), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_EQ(callout.notifications, Notifications{FWPS_CALLOUT_NOTIFY_ADD_FILTER}) << "of the first filter alone";
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    engine().CheckUnloaded();
}

TEST_F(WfpManagement, AnInspectionFilterWithoutItsCalloutIsIgnored)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout, 0, FWP_ACTION_CALLOUT_INSPECTION);
    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
}

TEST_F(WfpManagement, CalloutCannotUnregisterItselfInsideAClassify)
{
    TestCallout callout;
    NTSTATUS inside = STATUS_SUCCESS;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const UINT32 id = driver.callouts[0];

    callout.classify = [&](const ClassifyCall &call)
    {
        inside = FwpsCalloutUnregisterById0(id);
        call.Permit();
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    Classify();
    EXPECT_EQ(inside, STATUS_DEVICE_BUSY);
    StopDriver(driver);
}

TEST_F(WfpManagement, CalloutIdIsTheSameForRegistrationAndAddition)
{
    UINT32 registered = 0;
    UINT32 added = 0;
    const HANDLE session = Open();

    ASSERT_EQ(Register(5, &registered), STATUS_SUCCESS);
    EXPECT_EQ(Register(5, nullptr), STATUS_FWP_ALREADY_EXISTS);
    ASSERT_EQ(AddCallout(session, 5, FWPM_LAYER_STREAM_V4, &added), STATUS_SUCCESS);
    EXPECT_EQ(registered, added);
    EXPECT_EQ(AddCallout(session, 5, FWPM_LAYER_STREAM_V4), STATUS_FWP_ALREADY_EXISTS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpsCalloutUnregisterById0(registered), STATUS_SUCCESS);
}

TEST_F(WfpManagement, CalloutRegisteredAfterItsFilterIsNotifiedAndCalled)
{
    TestCallout callout;
    const HANDLE session = Open();
    FWPM_FILTER0 filter = MakeFilter(FWPM_LAYER_ALE_AUTH_CONNECT_V4, kSubLayer, FWP_ACTION_CALLOUT_TERMINATING);
    UINT32 id = 0;

    ASSERT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
    ASSERT_EQ(AddCallout(session, kFirstCallout, FWPM_LAYER_ALE_AUTH_CONNECT_V4), STATUS_SUCCESS);
    filter.action.calloutKey = Key(kFirstCallout);
    filter.rawContext = reinterpret_cast<UINT64>(&callout);
    ASSERT_EQ(FwpmFilterAdd0(session, &filter, nullptr, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock) << "a callout that is not registered blocks";

    callout.classify = [](const ClassifyCall &call) { call.Permit(); };
    ASSERT_EQ(Register(kFirstCallout, &id), STATUS_SUCCESS);
    EXPECT_EQ(callout.notifications, Notifications{FWPS_CALLOUT_NOTIFY_ADD_FILTER});
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);

    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
}

TEST_F(WfpManagement, FilterMayPermitWhileItsCalloutIsNotRegistered)
{
    const HANDLE session = Open();
    FWPM_FILTER0 filter = MakeFilter(FWPM_LAYER_ALE_AUTH_CONNECT_V4, kSubLayer, FWP_ACTION_CALLOUT_TERMINATING);

    ASSERT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
    ASSERT_EQ(AddCallout(session, kFirstCallout, FWPM_LAYER_ALE_AUTH_CONNECT_V4), STATUS_SUCCESS);
    filter.action.calloutKey = Key(kFirstCallout);
    filter.flags = FWPM_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED;
    ASSERT_EQ(FwpmFilterAdd0(session, &filter, nullptr, nullptr), STATUS_SUCCESS);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpManagement, CalloutSeesItsFilter)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const UINT64 id = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    const FWPS_FILTER2 *seen = nullptr;

    callout.classify = [&](const ClassifyCall &call)
    {
        seen = call.filter;
        EXPECT_EQ(call.filter->context, reinterpret_cast<UINT64>(&callout));
        EXPECT_EQ(call.filter->filterId, id);
        EXPECT_EQ(call.filter->subLayerWeight, 0x8000);
        EXPECT_EQ(*call.filter->weight.uint64, 8ULL << 60);
        EXPECT_EQ(call.filter->action.calloutId, driver.callouts[0]);
        call.Permit();
    };
    Classify();
    EXPECT_NE(seen, nullptr);
    StopDriver(driver);
}

TEST_F(WfpManagement, FilterNeedsTheObjectsThatItNames)
{
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const auto add = [&](const std::function<void(FWPM_FILTER0 *)> &change)
    {
        FWPM_FILTER0 filter = MakeFilter(FWPM_LAYER_ALE_AUTH_CONNECT_V4, kSubLayer, FWP_ACTION_PERMIT);
        change(&filter);
        return FwpmFilterAdd0(driver.session, &filter, nullptr, nullptr);
    };

    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->layerKey = Key(99); }), STATUS_FWP_LAYER_NOT_FOUND);
    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->subLayerKey = Key(99); }), STATUS_FWP_SUBLAYER_NOT_FOUND);
    GUID provider = Key(99);
    EXPECT_EQ(add([&](FWPM_FILTER0 *filter) { filter->providerKey = &provider; }), STATUS_FWP_PROVIDER_NOT_FOUND);
    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->displayData.name = nullptr; }), STATUS_FWP_NULL_DISPLAY_NAME);
    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->action.type = FWP_ACTION_CONTINUE; }),
              STATUS_FWP_INVALID_ACTION_TYPE);
    EXPECT_EQ(add(
                  [](FWPM_FILTER0 *filter)
                  {
                      filter->weight.type = FWP_UINT8;
                      filter->weight.uint8 = 16;
                  }),
              STATUS_FWP_INVALID_WEIGHT);
    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->action.type = FWP_ACTION_CALLOUT_TERMINATING; }),
              STATUS_FWP_CALLOUT_NOT_FOUND);
    EXPECT_EQ(add(
                  [](FWPM_FILTER0 *filter)
                  {
                      filter->layerKey = FWPM_LAYER_ALE_AUTH_CONNECT_V6;
                      filter->action.type = FWP_ACTION_CALLOUT_TERMINATING;
                      filter->action.calloutKey = Key(kFirstCallout);
                  }),
              STATUS_FWP_INCOMPATIBLE_LAYER);
    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->filterKey = Key(50); }), STATUS_SUCCESS);
    EXPECT_EQ(add([](FWPM_FILTER0 *filter) { filter->filterKey = Key(50); }), STATUS_FWP_ALREADY_EXISTS);
    StopDriver(driver);
}

TEST_F(WfpManagement, FilterOfAnotherDynamicSessionCannotBeDeleted)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const UINT64 filter = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    const HANDLE other = Open();

    EXPECT_EQ(FwpmFilterDeleteById0(other, filter), STATUS_FWP_WRONG_SESSION);
    EXPECT_EQ(FwpmEngineClose0(other), STATUS_SUCCESS);
    StopDriver(driver);
}

class Changes : public Reauthorizer
{
  public:
    void FiltersChanged(uint16_t layer) override { layers.push_back(layer); }

    std::vector<uint16_t> layers;
};

TEST_F(WfpManagement, FilterChangeAtAnAuthorizationLayerReauthorizesOnceForSeveralChanges)
{
    TestCallout callout;
    Changes changes;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4, &FWPM_LAYER_STREAM_V4});

    engine().SetReauthorizer(&changes);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, callout, 1, FWP_ACTION_CALLOUT_INSPECTION);
    EXPECT_TRUE(changes.layers.empty()) << "not inside the driver's own call";
    machine.Run();
    EXPECT_EQ(changes.layers, std::vector<uint16_t>{FWPS_LAYER_ALE_AUTH_CONNECT_V4});

    StopDriver(driver);
    machine.Run();
    EXPECT_EQ(changes.layers.size(), 2u) << "deleting changes the filters too";
    engine().SetReauthorizer(nullptr);
}

using WfpManagementDeathTest = WfpManagement;

TEST_F(WfpManagementDeathTest, ClosingASessionWithItsTransactionOpen)
{
    const HANDLE session = Open();

    ASSERT_EQ(FwpmTransactionBegin0(session, 0), STATUS_SUCCESS);
    EXPECT_DEATH(FwpmEngineClose0(session), "BUGCHECK WFP_TRANSACTION_OPEN");
    EXPECT_EQ(FwpmTransactionAbort0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpManagementDeathTest, ManagementAboveItsIrql)
{
    HANDLE session = nullptr;
    const auto at_dispatch = [&]
    {
        const nt::IrqlScope dispatch(DISPATCH_LEVEL);
        FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, nullptr, &session);
    };

    EXPECT_DEATH(at_dispatch(), "BUGCHECK.*FwpmEngineOpen0");
}

TEST_F(WfpManagementDeathTest, ObjectsLeftAtUnload)
{
    const HANDLE session = Open();
    UINT32 id = 0;

    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_SESSION_LEAKED");
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    ASSERT_EQ(Register(5, &id), STATUS_SUCCESS);
    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_CALLOUT_LEAKED");
    EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
    engine().CheckUnloaded();
}

} // namespace
} // namespace sim::wfp

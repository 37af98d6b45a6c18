#include "wfp_fixture.h"

#include "nt/sanitizer.h"

#include <atomic>
#include <cstring>
#include <thread>

namespace sim::wfp
{
namespace
{

class WfpClassify : public WfpTest
{
  protected:
    static MachineOptions WithoutVerifier() { return {true, false, 2, false}; }

    using WfpTest::WfpTest;
};

TEST_F(WfpClassify, LayerWithoutFiltersPermits)
{
    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    EXPECT_EQ(Classify(FWPS_LAYER_STREAM_V6).action, ClassifyResult::kPermit);
}

TEST_F(WfpClassify, FirstCalloutStartsWithTheRightAndNoAction)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    callout.classify = [](const ClassifyCall &call)
    {
        EXPECT_EQ(call.out->actionType, 0u);
        EXPECT_EQ(call.out->rights, static_cast<UINT32>(FWPS_RIGHT_ACTION_WRITE));
        EXPECT_EQ(call.out->flags, 0u);
        EXPECT_EQ(call.out->filterId, call.filter->filterId);
        EXPECT_EQ(call.metadata->processId, 1234u);
        call.Permit();
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    StopDriver(driver);
}

TEST_F(WfpClassify, AbsorbAppliesToTheBlockThatSetIt)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    callout.classify = [](const ClassifyCall &call) { call.Absorb(); };
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    EXPECT_TRUE(Classify().absorbed);

    callout.classify = [](const ClassifyCall &call) { call.Block(); };
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    EXPECT_FALSE(Classify().absorbed);
    StopDriver(driver);
}

TEST_F(WfpClassify, InspectionDoesNotDecide)
{
    TestCallout callout;
    int calls = 0;
    const Driver driver = StartDriver({&FWPM_LAYER_STREAM_V4});

    callout.classify = [&](const ClassifyCall &call)
    {
        ++calls;
        call.Continue();
    };
    AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, callout, 0, FWP_ACTION_CALLOUT_INSPECTION);
    EXPECT_EQ(Classify(FWPS_LAYER_STREAM_V4).action, ClassifyResult::kPermit);
    EXPECT_EQ(calls, 1);
    StopDriver(driver);
}

TEST_F(WfpClassify, CompletionHandleIsPresentOnlyAtAuthorizationLayers)
{
    TestCallout callout;
    bool present = false;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4, &FWPM_LAYER_OUTBOUND_IPPACKET_V4});

    callout.classify = [&](const ClassifyCall &call)
    {
        present = FWPS_IS_METADATA_FIELD_PRESENT(call.metadata, FWPS_METADATA_FIELD_COMPLETION_HANDLE);
        call.Permit();
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout, 0);
    AddCalloutFilter(driver, FWPM_LAYER_OUTBOUND_IPPACKET_V4, callout, 1);
    Classify(FWPS_LAYER_ALE_AUTH_CONNECT_V4);
    EXPECT_TRUE(present);
    Classify(FWPS_LAYER_OUTBOUND_IPPACKET_V4);
    EXPECT_FALSE(present);
    StopDriver(driver);
}

TEST_F(WfpClassify, RetreatThatIsUndoneIsAllowed)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_INBOUND_IPPACKET_V4});
    PacketBytes packet(std::vector<uint8_t>(64));
    NET_BUFFER_LIST *list = machine.net_buffers().Allocate(machine.net_buffers().stack_pool(), 0, 0, packet.mdl(), 20,
                                                           packet.length() - 20);
    ClassifyInput input = Input(FWPS_LAYER_INBOUND_IPPACKET_V4);

    callout.classify = [](const ClassifyCall &call)
    {
        auto *inbound = static_cast<NET_BUFFER_LIST *>(call.layer_data);

        ASSERT_EQ(NdisRetreatNetBufferDataStart(inbound->FirstNetBuffer, 20, 0, nullptr), NDIS_STATUS_SUCCESS);
        EXPECT_EQ(NET_BUFFER_DATA_LENGTH(inbound->FirstNetBuffer), 64u);
        NdisAdvanceNetBufferDataStart(inbound->FirstNetBuffer, 20, FALSE, nullptr);
        call.Permit();
    };
    AddCalloutFilter(driver, FWPM_LAYER_INBOUND_IPPACKET_V4, callout);
    input.layer_data = list;
    EXPECT_EQ(engine().Classify(input).action, ClassifyResult::kPermit);
    machine.net_buffers().Free(list);
    StopDriver(driver);
}

TEST_F(WfpClassify, DataOfAClassifyIsOverwrittenAfterIt)
{
    TestCallout callout;
    const WSACMSGHDR *kept = nullptr;
    WSACMSGHDR control{};
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    control.cmsg_len = sizeof(control);
    metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA;
    metadata.controlData = &control;
    metadata.controlDataLength = sizeof(control);
    callout.classify = [&](const ClassifyCall &call)
    {
        kept = call.metadata->controlData;
        EXPECT_EQ(kept->cmsg_len, sizeof(control));
        call.Permit();
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    Classify();
    EXPECT_NE(kept, &control);
#if defined(SIM_ADDRESS_SANITIZER)
    EXPECT_DEATH(EXPECT_EQ(kept->cmsg_len, 0u), "use-after-poison");
#else
    EXPECT_EQ(kept->cmsg_len, 0xDDDDDDDDDDDDDDDDull);
#endif
    StopDriver(driver);
}

TEST_F(WfpClassify, ClassifiesNest)
{
    TestCallout outer;
    TestCallout inner;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4, &FWPM_LAYER_STREAM_V4});

    outer.classify = [&](const ClassifyCall &call)
    {
        EXPECT_EQ(Classify(FWPS_LAYER_STREAM_V4).action, ClassifyResult::kBlock);
        EXPECT_EQ(call.metadata->processId, 1234u);
        call.Permit();
    };
    inner.classify = [](const ClassifyCall &call) { call.Block(); };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, outer, 0);
    AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, inner, 1);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    StopDriver(driver);
}

class WfpClassifyThreads : public WfpTest
{
  protected:
    WfpClassifyThreads() : WfpTest({false, true, 2, false}) {}
};

TEST_F(WfpClassifyThreads, FiltersChangeDuringClassifies)
{
    constexpr int kSwaps = 300;
    TestCallout callout;
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> blocked{0};
    std::atomic<uint64_t> permitted{0};
    std::vector<std::thread> threads;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    UINT64 filter = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    const ClassifyInput input = Input();

    callout.classify = [](const ClassifyCall &call) { call.Block(); };
    for (int i = 0; i < 2; ++i)
    {
        threads.emplace_back(
            [&]
            {
                const Machine::Scope of_thread(machine);
                ClassifyInput own_input = input;
                FWPS_INCOMING_METADATA_VALUES0 own_metadata = metadata;

                own_input.metadata = &own_metadata;
                while (!stop)
                {
                    (engine().Classify(own_input).action == ClassifyResult::kBlock ? blocked : permitted).fetch_add(1);
                }
            });
    }
    while (blocked == 0)
    {
        std::this_thread::yield();
    }
    for (int i = 0; i < kSwaps; ++i)
    {
        ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
        ASSERT_EQ(FwpmFilterDeleteById0(driver.session, filter), STATUS_SUCCESS);
        filter = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
        ASSERT_EQ(FwpmTransactionCommit0(driver.session), STATUS_SUCCESS);
    }
    EXPECT_EQ(permitted, 0u) << "a swap in one transaction leaves no moment without a filter";

    // The callout is unused once it is unregistered: it is destroyed right afterwards.
    ASSERT_EQ(FwpmFilterDeleteById0(driver.session, filter), STATUS_SUCCESS);
    ASSERT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
    callout.classify = nullptr;
    stop = true;
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    engine().CheckUnloaded();
}

class WfpClassifyDeathTest : public WfpTest
{
  protected:
    // Expects a bugcheck of the engine for this classify function.
    void ExpectDeath(uint16_t layer, const GUID &key, FWP_ACTION_TYPE action,
                     const std::function<void(const ClassifyCall &)> &classify, const char *message)
    {
        TestCallout callout;
        const Driver driver = StartDriver({&key});

        callout.classify = classify;
        AddCalloutFilter(driver, key, callout, 0, action);
        EXPECT_DEATH(Classify(layer), message);
        StopDriver(driver);
    }
};

TEST_F(WfpClassifyDeathTest, ActionWithoutTheRight)
{
    const uint64_t foreign = engine().AddForeignFilter(kLayer, 0xFFFF, ForeignAction::kHardBlock);

    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_TERMINATING,
        [](const ClassifyCall &call) { call.Permit(); }, "BUGCHECK WFP_ACTION_WITHOUT_RIGHT");
    engine().RemoveForeignFilter(foreign);
}

TEST_F(WfpClassifyDeathTest, RightSetAgain)
{
    const uint64_t foreign = engine().AddForeignFilter(kLayer, 0xFFFF, ForeignAction::kHardPermit);

    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_TERMINATING,
        [](const ClassifyCall &call) { call.out->rights |= FWPS_RIGHT_ACTION_WRITE; }, "BUGCHECK WFP_RIGHT_TAKEN");
    engine().RemoveForeignFilter(foreign);
}

TEST_F(WfpClassifyDeathTest, TerminatingCalloutWithoutAnAction)
{
    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_TERMINATING, [](const ClassifyCall &) {},
        "BUGCHECK WFP_NO_ACTION");
}

TEST_F(WfpClassifyDeathTest, InspectionThatDecides)
{
    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_INSPECTION,
        [](const ClassifyCall &call) { call.Block(); }, "BUGCHECK WFP_INSPECTION_DECIDED");
}

TEST_F(WfpClassifyDeathTest, InspectionWithoutAnAction)
{
    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_INSPECTION, [](const ClassifyCall &) {},
        "BUGCHECK WFP_INSPECTION_NO_ACTION");
}

TEST_F(WfpClassifyDeathTest, IrqlNotRestored)
{
    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_TERMINATING,
        [](const ClassifyCall &call)
        {
            nt::RaiseIrql(DISPATCH_LEVEL);
            call.Permit();
        },
        "BUGCHECK.*FWPS_CALLOUT_CLASSIFY_FN2");
}

TEST_F(WfpClassifyDeathTest, RetreatNotUndone)
{
    PacketBytes packet(std::vector<uint8_t>(64));
    NET_BUFFER_LIST *list = machine.net_buffers().Allocate(machine.net_buffers().stack_pool(), 0, 0, packet.mdl(), 20,
                                                           packet.length() - 20);
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_INBOUND_IPPACKET_V4});
    ClassifyInput input = Input(FWPS_LAYER_INBOUND_IPPACKET_V4);

    input.layer_data = list;
    callout.classify = [](const ClassifyCall &call)
    {
        NdisRetreatNetBufferDataStart(static_cast<NET_BUFFER_LIST *>(call.layer_data)->FirstNetBuffer, 20, 0, nullptr);
        call.Permit();
    };
    AddCalloutFilter(driver, FWPM_LAYER_INBOUND_IPPACKET_V4, callout);
    EXPECT_DEATH(engine().Classify(input), "BUGCHECK WFP_RETREAT_NOT_UNDONE");
    machine.net_buffers().Free(list);
    StopDriver(driver);
}

TEST_F(WfpClassifyDeathTest, CallWithALockHeld)
{
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_TERMINATING,
        [&](const ClassifyCall &)
        {
            KIRQL irql;

            KeAcquireSpinLock(&lock, &irql);
            FwpsCompleteOperation0(nullptr, nullptr);
        },
        "BUGCHECK.*FwpsCompleteOperation0");
}

TEST_F(WfpClassifyDeathTest, CallAtARaisedIrqlInsideAClassify)
{
    ExpectDeath(
        kLayer, FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWP_ACTION_CALLOUT_TERMINATING,
        [&](const ClassifyCall &)
        {
            const nt::IrqlScope raised(DISPATCH_LEVEL);
            FwpsCompleteOperation0(nullptr, nullptr);
        },
        "BUGCHECK WFP_IRQL_RAISED_IN_CLASSIFY");
}

} // namespace
} // namespace sim::wfp

// What other products, the filter engine and its service do to a driver.
#include "wfp_fixture.h"

#include "nt/clock.h"
#include "nt/fault_injection.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace sim::wfp
{
namespace
{

using namespace std::chrono_literals;

using Notifications = std::vector<FWPS_CALLOUT_NOTIFY_TYPE>;

constexpr uint64_t kTicksPerMillisecond = 10'000;

class WfpFaults : public WfpTest
{
  protected:
    uint64_t Milliseconds() { return machine.clock().InterruptTime() / kTicksPerMillisecond; }

    void EndForeignAfter(std::chrono::milliseconds delay)
    {
        machine.scheduler().QueueAfter(delay, PASSIVE_LEVEL, [this] { engine().EndForeignTransaction(); });
    }
};

TEST_F(WfpFaults, AForeignTransactionKeepsABeginWaitingForTheSessionsTimeout)
{
    const HANDLE session = Open(FWPM_SESSION_FLAG_DYNAMIC, 700);
    const uint64_t before = Milliseconds();

    engine().BeginForeignTransaction();
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_FWP_TIMEOUT);
    EXPECT_EQ(Milliseconds() - before, 700u);
    EXPECT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_FWP_TIMEOUT) << "an implicit transaction waits too";
    EXPECT_EQ(Milliseconds() - before, 1400u);
    engine().EndForeignTransaction();
    EXPECT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpFaults, ABeginGoesOnWhenTheForeignTransactionEnds)
{
    const HANDLE session = Open(FWPM_SESSION_FLAG_DYNAMIC, 700);
    const uint64_t before = Milliseconds();

    engine().BeginForeignTransaction();
    EndForeignAfter(300ms);
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_SUCCESS);
    EXPECT_EQ(Milliseconds() - before, 300u);
    EXPECT_EQ(FwpmTransactionAbort0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpFaults, ASessionWithoutATimeoutWaitsFifteenSeconds)
{
    const HANDLE session = Open(FWPM_SESSION_FLAG_DYNAMIC, 0);
    const uint64_t before = Milliseconds();

    engine().BeginForeignTransaction();
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_FWP_TIMEOUT);
    EXPECT_EQ(Milliseconds() - before, 15000u);
    engine().EndForeignTransaction();
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpFaults, WorkThatWaitsForAForeignTransactionKeepsNoOtherWorkWaiting)
{
    const HANDLE session = Open(FWPM_SESSION_FLAG_DYNAMIC, 60'000);
    const uint64_t before = Milliseconds();
    NTSTATUS begun = STATUS_PENDING;
    uint64_t fired = 0;
    KEVENT items[2];

    engine().BeginForeignTransaction();
    machine.scheduler().QueueWorkItem(reinterpret_cast<PIO_WORKITEM>(&items[0]),
                                      [&] { begun = FwpmTransactionBegin0(session, 0); });
    machine.Run();
    machine.scheduler().QueueAfter(150ms, DISPATCH_LEVEL,
                                   [&]
                                   {
                                       machine.scheduler().QueueWorkItem(reinterpret_cast<PIO_WORKITEM>(&items[1]),
                                                                         [&] { fired = Milliseconds() - before; });
                                   });
    machine.clock().Advance(200ms);
    EXPECT_EQ(fired, 150u);
    EXPECT_EQ(begun, STATUS_PENDING);
    EXPECT_EQ(Milliseconds() - before, 200u);

    engine().EndForeignTransaction();
    machine.Run();
    EXPECT_EQ(begun, STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionAbort0(session), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpFaults, AForeignReadOnlyTransactionLetsOthersReadButNotWrite)
{
    const HANDLE session = Open();

    engine().BeginForeignTransaction({true, false});
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_FWP_TIMEOUT);
    EXPECT_EQ(FwpmTransactionBegin0(session, FWPM_TXN_READ_ONLY), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionAbort0(session), STATUS_SUCCESS);
    engine().EndForeignTransaction();
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpFaults, FiltersOfOtherProductsChangeDuringTheForeignTransaction)
{
    engine().BeginForeignTransaction();
    const uint64_t filter = engine().AddForeignFilter(kLayer, 1, ForeignAction::kHardBlock);
    EXPECT_EQ(Classify().action, ClassifyResult::kBlock);
    engine().RemoveForeignFilter(filter);
    EXPECT_EQ(Classify().action, ClassifyResult::kPermit);
    engine().EndForeignTransaction();
}

TEST_F(WfpFaults, ClosingASessionWithObjectsWaitsForTheForeignTransactionWithoutALimit)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const uint64_t before = Milliseconds();

    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    engine().BeginForeignTransaction();
    EndForeignAfter(90s);
    StopDriver(driver);
    EXPECT_EQ(Milliseconds() - before, 90'000u);
}

TEST_F(WfpFaults, ClosingASessionWithoutObjectsWaitsOnlyIfTheTestAsksForIt)
{
    const HANDLE first = Open();
    const HANDLE second = Open();
    const uint64_t before = Milliseconds();

    engine().BeginForeignTransaction();
    EXPECT_EQ(FwpmEngineClose0(first), STATUS_SUCCESS);
    EXPECT_EQ(Milliseconds(), before);
    engine().EndForeignTransaction();

    engine().BeginForeignTransaction({false, true});
    EndForeignAfter(90s);
    EXPECT_EQ(FwpmEngineClose0(second), STATUS_SUCCESS);
    EXPECT_EQ(Milliseconds() - before, 90'000u);
}

TEST_F(WfpFaults, AStopOfTheServiceEndsTheForeignTransactionAndTheWaitForIt)
{
    const HANDLE session = Open(FWPM_SESSION_FLAG_DYNAMIC, 700);
    const uint64_t before = Milliseconds();

    engine().BeginForeignTransaction();
    machine.scheduler().QueueAfter(10ms, PASSIVE_LEVEL, [this] { engine().SetServiceState(FWPM_SERVICE_STOPPED); });
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), RPC_NT_SERVER_UNAVAILABLE);
    EXPECT_EQ(Milliseconds() - before, 10u);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    engine().SetServiceState(FWPM_SERVICE_RUNNING);

    const HANDLE again = Open();
    EXPECT_EQ(FwpmTransactionBegin0(again, 0), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionAbort0(again), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(again), STATUS_SUCCESS);
}

TEST_F(WfpFaults, ASubscriberIsNotifiedOfEachStateUntilItUnsubscribes)
{
    static DEVICE_OBJECT device{};
    std::vector<FWPM_SERVICE_STATE> states;
    HANDLE subscription = nullptr;

    ASSERT_EQ(FwpmBfeStateSubscribeChanges0(
                  &device, [](void *context, FWPM_SERVICE_STATE state)
                  { static_cast<std::vector<FWPM_SERVICE_STATE> *>(context)->push_back(state); }, &states,
                  &subscription),
              STATUS_SUCCESS);
    EXPECT_TRUE(states.empty()) << "the present state is not a change";
    engine().SetServiceState(FWPM_SERVICE_STOP_PENDING);
    engine().SetServiceState(FWPM_SERVICE_STOPPED);
    EXPECT_EQ(FwpmBfeStateGet0(), FWPM_SERVICE_STOPPED);
    EXPECT_EQ(states, (std::vector<FWPM_SERVICE_STATE>{FWPM_SERVICE_STOP_PENDING, FWPM_SERVICE_STOPPED}));
    EXPECT_EQ(FwpmBfeStateUnsubscribeChanges0(subscription), STATUS_SUCCESS);
    EXPECT_EQ(FwpmBfeStateUnsubscribeChanges0(subscription), STATUS_INVALID_HANDLE);
    engine().SetServiceState(FWPM_SERVICE_RUNNING);
    EXPECT_EQ(states.size(), 2u);
}

TEST_F(WfpFaults, RefusedCallsFailUntilTheRefusalIsLifted)
{
    static DEVICE_OBJECT device{};
    const auto changed = [](void *, FWPM_SERVICE_STATE) {};
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const UINT64 filter = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    HANDLE handle = nullptr;

    engine().Refuse(STATUS_ACCESS_DENIED);
    EXPECT_EQ(FwpmBfeStateSubscribeChanges0(&device, changed, nullptr, &handle), STATUS_ACCESS_DENIED);
    EXPECT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, nullptr, &handle), STATUS_ACCESS_DENIED);
    EXPECT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_ACCESS_DENIED);
    EXPECT_EQ(AddSubLayer(driver.session, 7, 1), STATUS_ACCESS_DENIED);
    EXPECT_EQ(AddCallout(driver.session, 7, FWPM_LAYER_STREAM_V4), STATUS_ACCESS_DENIED);
    EXPECT_EQ(FwpmFilterDeleteById0(driver.session, filter), STATUS_ACCESS_DENIED);
    EXPECT_EQ(FwpmTransactionCommit0(driver.session), STATUS_ACCESS_DENIED);
    EXPECT_TRUE(engine().has_filters(kLayer));

    engine().Refuse(STATUS_SUCCESS);
    EXPECT_EQ(FwpmFilterDeleteById0(driver.session, filter), STATUS_SUCCESS);
    StopDriver(driver);
}

TEST_F(WfpFaults, OnlyTheCallsOfTheMaskAreRefused)
{
    const HANDLE session = Open();

    engine().Refuse(STATUS_INSUFFICIENT_RESOURCES, kCommitCall | kDeleteCall);
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_SUCCESS);
    EXPECT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
    EXPECT_EQ(FwpmTransactionCommit0(session), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(FwpmTransactionAbort0(session), STATUS_SUCCESS) << "the refused commit left the transaction open";
    EXPECT_EQ(FwpmFilterDeleteById0(session, 1), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
}

TEST_F(WfpFaults, ClosingASessionAbortsATransactionWhoseAbortWasRefused)
{
    const HANDLE session = Open();

    ASSERT_EQ(FwpmTransactionBegin0(session, 0), STATUS_SUCCESS);
    ASSERT_EQ(AddSubLayer(session, kSubLayer, 1), STATUS_SUCCESS);
    engine().Refuse(RPC_NT_CALL_FAILED, kAbortCall);
    EXPECT_EQ(FwpmTransactionAbort0(session), RPC_NT_CALL_FAILED);
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_FWP_TXN_IN_PROGRESS);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);

    const HANDLE again = Open();
    EXPECT_EQ(AddSubLayer(again, kSubLayer, 1), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(again), STATUS_SUCCESS);
}

TEST_F(WfpFaults, ARefusedCloseStillEndsItsSessionAndDoesNotWait)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const uint64_t before = Milliseconds();

    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    engine().BeginForeignTransaction();
    engine().Refuse(RPC_NT_CALL_FAILED);
    EXPECT_EQ(FwpmEngineClose0(driver.session), RPC_NT_CALL_FAILED);
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_INVALID_HANDLE);
    EXPECT_EQ(Milliseconds(), before);
    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
    engine().Refuse(STATUS_SUCCESS);
    engine().EndForeignTransaction();
    engine().CheckUnloaded();
}

TEST_F(WfpFaults, ALostSessionLosesItsObjectsWithoutAChangeOfTheServicesState)
{
    static DEVICE_OBJECT device{};
    bool notified = false;
    HANDLE subscription = nullptr;
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4, &FWPM_LAYER_STREAM_V4});

    ASSERT_EQ(FwpmBfeStateSubscribeChanges0(
                  &device, [](void *context, FWPM_SERVICE_STATE) { *static_cast<bool *>(context) = true; }, &notified,
                  &subscription),
              STATUS_SUCCESS);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    AddCalloutFilter(driver, FWPM_LAYER_STREAM_V4, callout, 1, FWP_ACTION_CALLOUT_INSPECTION);
    callout.notifications.clear();

    engine().LoseSessions();
    EXPECT_FALSE(engine().has_filters(kLayer));
    EXPECT_EQ(callout.notifications,
              (Notifications{FWPS_CALLOUT_NOTIFY_DELETE_FILTER, FWPS_CALLOUT_NOTIFY_DELETE_FILTER}));
    EXPECT_EQ(FwpmBfeStateGet0(), FWPM_SERVICE_RUNNING);
    EXPECT_FALSE(notified);
    EXPECT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_FWP_SESSION_ABORTED);
    EXPECT_EQ(AddSubLayer(driver.session, 7, 1), STATUS_FWP_SESSION_ABORTED);
    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_SUBSCRIPTION_LEAKED");
    EXPECT_EQ(FwpmBfeStateUnsubscribeChanges0(subscription), STATUS_SUCCESS);
    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_SESSION_LEAKED") << "the handle is still to be closed";
    StopDriver(driver);
}

TEST_F(WfpFaults, ASessionLostWithinATransactionForgetsIt)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    engine().LoseSessions(RPC_NT_CALL_FAILED);
    EXPECT_EQ(FwpmTransactionCommit0(driver.session), RPC_NT_CALL_FAILED);
    EXPECT_EQ(FwpmTransactionAbort0(driver.session), RPC_NT_CALL_FAILED);
    EXPECT_TRUE(callout.notifications.empty());

    const HANDLE other = Open();
    EXPECT_EQ(FwpmTransactionBegin0(other, 0), STATUS_SUCCESS) << "nobody waits for the lost transaction";
    EXPECT_EQ(FwpmTransactionAbort0(other), STATUS_SUCCESS);
    EXPECT_EQ(FwpmEngineClose0(other), STATUS_SUCCESS);
    StopDriver(driver);
}

TEST_F(WfpFaults, ALostSessionMayBeClosedWhileTheEngineStillRemovesItsObjects)
{
    TestCallout callout;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    NTSTATUS closed = STATUS_PENDING;

    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    callout.notify = [&](FWPS_CALLOUT_NOTIFY_TYPE type)
    {
        if (type == FWPS_CALLOUT_NOTIFY_DELETE_FILTER)
        {
            closed = FwpmEngineClose0(driver.session);
        }
        return STATUS_SUCCESS;
    };
    engine().LoseSessions();
    EXPECT_EQ(closed, STATUS_SUCCESS);
    for (const UINT32 id : driver.callouts)
    {
        EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
    }
    engine().CheckUnloaded();
}

TEST_F(WfpFaults, ASessionMayBeLostWhileItWaitsForATransaction)
{
    const HANDLE session = Open(FWPM_SESSION_FLAG_DYNAMIC, 700);
    const uint64_t before = Milliseconds();

    engine().BeginForeignTransaction();
    machine.scheduler().QueueAfter(10ms, PASSIVE_LEVEL, [this] { engine().LoseSessions(); });
    EXPECT_EQ(FwpmTransactionBegin0(session, 0), STATUS_FWP_SESSION_ABORTED);
    EXPECT_EQ(Milliseconds() - before, 10u);
    EXPECT_EQ(FwpmEngineClose0(session), STATUS_SUCCESS);
    engine().EndForeignTransaction();
}

TEST_F(WfpFaults, UnregisteringFailsAsOftenAsAskedForEachCallout)
{
    const std::vector<NTSTATUS> failures = {STATUS_DEVICE_BUSY, STATUS_FWP_IN_USE, STATUS_FWP_TIMEOUT,
                                            STATUS_UNSUCCESSFUL};
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4, &FWPM_LAYER_STREAM_V4});

    engine().SetUnregisterFailures(failures);
    for (const UINT32 id : driver.callouts)
    {
        for (const NTSTATUS failure : failures)
        {
            EXPECT_EQ(FwpsCalloutUnregisterById0(id), failure);
        }
        EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
        EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_FWP_CALLOUT_NOT_FOUND);
    }
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    engine().CheckUnloaded();
}

TEST_F(WfpFaults, AnInjectedFaultOfUnregisteringComesOnceForEachCalloutWithAnotherStatusEachTime)
{
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4, &FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
                                       &FWPM_LAYER_STREAM_V4, &FWPM_LAYER_DATAGRAM_DATA_V4});
    std::vector<NTSTATUS> failures;

    machine.faults().FailAll();
    for (const UINT32 id : driver.callouts)
    {
        failures.push_back(FwpsCalloutUnregisterById0(id));
        EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
    }
    machine.faults().Stop();
    EXPECT_EQ(failures,
              (std::vector<NTSTATUS>{STATUS_DEVICE_BUSY, STATUS_FWP_IN_USE, STATUS_FWP_TIMEOUT, STATUS_UNSUCCESSFUL}));
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    engine().CheckUnloaded();
}

// One thread is inside a classify until the test lets it go on. Its callout absorbs every other classify.
class WfpRunningClassify : public WfpTest
{
  protected:
    void Start(const Driver &driver, UINT32 flags)
    {
        callout_.classify = [this](const ClassifyCall &call)
        {
            if (inside_.exchange(true))
            {
                call.Absorb();
                return;
            }
            while (!released_)
            {
                std::this_thread::yield();
            }
            call.Permit();
        };
        AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout_, 0, FWP_ACTION_CALLOUT_TERMINATING, 8, flags);
        thread_ = std::thread(
            [this]
            {
                Machine::Scope scope(machine);

                result_ = engine().Classify(Input());
            });
        while (!inside_)
        {
            std::this_thread::yield();
        }
    }

    void Finish()
    {
        released_ = true;
        thread_.join();
        EXPECT_EQ(result_.action, ClassifyResult::kPermit) << "it ran with its filter and its callout to its end";
    }

    ClassifyResult ClassifyAgain()
    {
        std::array<FWPS_INCOMING_VALUE0, FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX> other_fields = fields;
        FWPS_INCOMING_VALUES0 other_values = values;
        FWPS_INCOMING_METADATA_VALUES0 other_metadata = metadata;
        ClassifyInput input;

        other_values.incomingValue = other_fields.data();
        input.layer = kLayer;
        input.values = &other_values;
        input.metadata = &other_metadata;
        return engine().Classify(input);
    }

    TestCallout callout_;
    std::thread thread_;
    std::atomic<bool> inside_{false};
    std::atomic<bool> released_{false};
    ClassifyResult result_;
};

TEST_F(WfpRunningClassify, ClosingTheSessionReturnsWhileAClassifyStillRunsWithItsFilter)
{
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});

    Start(driver, 0);
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    EXPECT_EQ(callout_.notifications,
              (Notifications{FWPS_CALLOUT_NOTIFY_ADD_FILTER, FWPS_CALLOUT_NOTIFY_DELETE_FILTER}));
    EXPECT_EQ(ClassifyAgain().action, ClassifyResult::kPermit) << "no callout runs";
    Finish();
    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
}

TEST_F(WfpRunningClassify, WhileACalloutIsUnregisteredItsFiltersBlockOrPermitAndASecondUnregisteringFails)
{
    for (const UINT32 flags : {UINT32{0}, UINT32{FWPM_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED}})
    {
        const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
        std::atomic<NTSTATUS> unregistered{STATUS_PENDING};

        inside_ = false;
        released_ = false;
        Start(driver, flags);

        std::thread unregistering(
            [&]
            {
                Machine::Scope scope(machine);

                unregistered = FwpsCalloutUnregisterById0(driver.callouts[0]);
            });
        const auto expected = flags == 0 ? ClassifyResult::kBlock : ClassifyResult::kPermit;

        while (ClassifyAgain().absorbed)
        {
            std::this_thread::yield();
        }
        EXPECT_EQ(ClassifyAgain().action, expected);
        EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_FWP_IN_USE);
        EXPECT_EQ(unregistered, STATUS_PENDING) << "unregistering waits for the classify that runs";
        Finish();
        unregistering.join();
        EXPECT_EQ(unregistered, STATUS_SUCCESS);
        EXPECT_EQ(ClassifyAgain().action, expected);
        EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    }
}

class WfpPublishing : public WfpFaults
{
  protected:
    struct Seen
    {
        uint16_t published;
        uint16_t next;
        std::vector<uint16_t> filtered;
    };

    static constexpr uint16_t kLayers[] = {FWPS_LAYER_INBOUND_IPPACKET_V4, FWPS_LAYER_OUTBOUND_IPPACKET_V4,
                                           FWPS_LAYER_ALE_AUTH_CONNECT_V4};

    void Watch(PublishOrder order)
    {
        engine().SetPublishing(order,
                               [this](uint16_t published, uint16_t next)
                               {
                                   Seen seen{published, next, {}};

                                   for (const uint16_t layer : kLayers)
                                   {
                                       if (engine().has_filters(layer))
                                       {
                                           seen.filtered.push_back(layer);
                                       }
                                   }
                                   seen_.push_back(seen);
                               });
    }

    Driver StartAtAllLayers(TestCallout &callout)
    {
        const Driver driver = StartDriver(
            {&FWPM_LAYER_INBOUND_IPPACKET_V4, &FWPM_LAYER_OUTBOUND_IPPACKET_V4, &FWPM_LAYER_ALE_AUTH_CONNECT_V4});

        EXPECT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
        AddCalloutFilter(driver, FWPM_LAYER_INBOUND_IPPACKET_V4, callout, 0);
        AddCalloutFilter(driver, FWPM_LAYER_OUTBOUND_IPPACKET_V4, callout, 1);
        AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout, 2);
        EXPECT_EQ(FwpmTransactionCommit0(driver.session), STATUS_SUCCESS);
        return driver;
    }

    std::vector<Seen> seen_;
};

TEST_F(WfpPublishing, ACommitReplacesTheFiltersOfOneLayerAfterTheOther)
{
    TestCallout callout;

    Watch(PublishOrder::kPacketLayersFirst);
    const Driver driver = StartAtAllLayers(callout);
    ASSERT_EQ(seen_.size(), 2u);
    EXPECT_EQ(seen_[0].filtered, (std::vector<uint16_t>{kLayers[0]}));
    EXPECT_EQ(seen_[0].next, kLayers[1]);
    EXPECT_EQ(seen_[1].filtered, (std::vector<uint16_t>{kLayers[0], kLayers[1]}));
    EXPECT_EQ(seen_[1].published, kLayers[1]);
    EXPECT_EQ(seen_[1].next, kLayers[2]);

    seen_.clear();
    StopDriver(driver);
    ASSERT_EQ(seen_.size(), 2u) << "the end of a session deletes in the same way";
    EXPECT_EQ(seen_[0].filtered, (std::vector<uint16_t>{kLayers[1], kLayers[2]}));
    EXPECT_EQ(seen_[1].filtered, (std::vector<uint16_t>{kLayers[2]}));
}

TEST_F(WfpPublishing, TheAleLayersMayComeFirst)
{
    TestCallout callout;

    Watch(PublishOrder::kAleLayersFirst);
    const Driver driver = StartAtAllLayers(callout);
    ASSERT_EQ(seen_.size(), 2u);
    EXPECT_EQ(seen_[0].filtered, (std::vector<uint16_t>{kLayers[2]}));
    EXPECT_EQ(seen_[1].filtered, (std::vector<uint16_t>{kLayers[1], kLayers[2]}));
    StopDriver(driver);
}

TEST_F(WfpPublishing, ATransactionThatDeletesNotifiesEachFilterAtItsCommitAtPassiveLevel)
{
    TestCallout callout;
    std::vector<KIRQL> levels;
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
    const UINT64 first = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
    const UINT64 second = AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);

    callout.notifications.clear();
    callout.notify = [&](FWPS_CALLOUT_NOTIFY_TYPE)
    {
        levels.push_back(KeGetCurrentIrql());
        return STATUS_SUCCESS;
    };
    ASSERT_EQ(FwpmTransactionBegin0(driver.session, 0), STATUS_SUCCESS);
    ASSERT_EQ(FwpmFilterDeleteById0(driver.session, first), STATUS_SUCCESS);
    ASSERT_EQ(FwpmFilterDeleteById0(driver.session, second), STATUS_SUCCESS);
    EXPECT_TRUE(callout.notifications.empty()) << "nothing is deleted before the commit";
    ASSERT_EQ(FwpmTransactionCommit0(driver.session), STATUS_SUCCESS);
    EXPECT_EQ(callout.notifications,
              (Notifications{FWPS_CALLOUT_NOTIFY_DELETE_FILTER, FWPS_CALLOUT_NOTIFY_DELETE_FILTER}));
    EXPECT_EQ(levels, (std::vector<KIRQL>{PASSIVE_LEVEL, PASSIVE_LEVEL}));
    StopDriver(driver);
}

} // namespace
} // namespace sim::wfp

// The base filtering engine (BFE) starts after the driver, stops and restarts, and its transactions fail.
#include "load_fixture.h"

#include "support/commands.h"
#include "support/driver_test.h"

#include "nt/fault_injection.h"
#include "nt/scheduler.h"

#include "layers.h"
#include "nt/debug_port.h"

#include <gmock/gmock.h>

#include <atomic>
#include <utility>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr size_t kResettableLayers = 4;

// A transaction of another product. It ends with the test, because an unload would wait for it.
class ForeignTransaction
{
  public:
    explicit ForeignTransaction(sim::wfp::Engine &engine) : engine_(engine) { engine_.BeginForeignTransaction(); }
    ~ForeignTransaction() { End(); }

    ForeignTransaction(const ForeignTransaction &) = delete;
    ForeignTransaction &operator=(const ForeignTransaction &) = delete;

    void End()
    {
        if (std::exchange(open_, false))
        {
            engine_.EndForeignTransaction();
        }
    }

  private:
    sim::wfp::Engine &engine_;
    bool open_ = true;
};

class FilterEngineLoadTest : public BareMachineTest
{
  protected:
    void Set(FWPM_SERVICE_STATE state) { machine_.wfp().SetServiceState(state); }
};

TEST_F(FilterEngineLoadTest, LoadsBeforeTheServiceAndFiltersOnceItRuns)
{
    Set(FWPM_SERVICE_STOPPED);
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    {
        Network network(machine_);
        Client client(machine_);

        EXPECT_EQ(client.Open(), STATUS_SUCCESS) << "a client may attach before the service runs";
        EXPECT_THAT(client.GetLogs(), testing::Contains(testing::HasSubstr("does not run")));
        Set(FWPM_SERVICE_START_PENDING);
        machine_.Run();
        EXPECT_EQ(FilteredLayers(machine_), 0u);
        Set(FWPM_SERVICE_RUNNING);
        machine_.Run();
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
        EXPECT_TRUE(network.Connect(Flow{}).pended());
    }
    Unload();
}

TEST_F(FilterEngineLoadTest, UnloadsInEveryStateOfTheService)
{
    for (FWPM_SERVICE_STATE at_load : {FWPM_SERVICE_STOPPED, FWPM_SERVICE_RUNNING})
    {
        for (FWPM_SERVICE_STATE at_unload :
             {FWPM_SERVICE_STOPPED, FWPM_SERVICE_START_PENDING, FWPM_SERVICE_STOP_PENDING, FWPM_SERVICE_RUNNING})
        {
            for (bool carried_out : {false, true})
            {
                Set(at_load);
                ASSERT_EQ(Load(), STATUS_SUCCESS);
                Set(at_unload);
                if (carried_out)
                {
                    machine_.Run();
                }
                Unload();
                machine_.wfp().CheckUnloaded();
            }
        }
    }
}

// At each unload the machine checks that nothing is left.
TEST_F(FilterEngineLoadTest, ASetupThatFailsAtAnyCallIsRetried)
{
    uint64_t failures = 1;
    unsigned runs = 0;

    for (uint64_t failing = 0; failures != 0; failing++)
    {
        Set(FWPM_SERVICE_STOPPED);
        ASSERT_EQ(Load(), STATUS_SUCCESS);
        {
            Client client(machine_);

            ASSERT_EQ(client.Open(), STATUS_SUCCESS);
            Set(FWPM_SERVICE_RUNNING);
            machine_.faults().FailNth(failing);
            machine_.Run();
            failures = machine_.faults().failures();
            machine_.faults().Stop();
            machine_.clock().Advance(1s);
            EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers)) << failing;
        }
        runs++;
        Unload();
    }
    EXPECT_GT(runs, 2 * std::size(kLayers));
}

struct Trouble
{
    const char *name;
    NTSTATUS status;
    uint32_t calls;
};

class FilterEngineTroubleTest : public FilterEngineLoadTest, public testing::WithParamInterface<Trouble>
{
};

TEST_P(FilterEngineTroubleTest, NoRefusalFailsTheLoadAndTheFiltersComeOnceItEnds)
{
    const Trouble &trouble = GetParam();

    machine_.wfp().Refuse(trouble.status, trouble.calls);
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    {
        Network network(machine_);
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS) << "a client may attach although the engine refuses";
        EXPECT_EQ(FilteredLayers(machine_), 0u);
        EXPECT_EQ(client.GetStatistics().EngineState, EngineRefused);
        EXPECT_THAT(client.GetLogs(), testing::Contains(testing::HasSubstr("refuses")));
        EXPECT_TRUE(network.Connect(Flow{}).permitted());
        machine_.clock().Advance(5s);
        EXPECT_GE(client.GetStatistics().EngineRetries, 5u);

        machine_.wfp().Refuse(STATUS_SUCCESS);
        machine_.clock().Advance(1s);
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
        EXPECT_EQ(client.GetStatistics().EngineState, EngineFiltering);
        EXPECT_TRUE(network.Connect(TcpV6()).pended());
    }
    Unload();
}

INSTANTIATE_TEST_SUITE_P(Calls, FilterEngineTroubleTest,
                         testing::Values(Trouble{"subscribe", STATUS_INSUFFICIENT_RESOURCES, sim::wfp::kSubscribeCall},
                                         Trouble{"open", STATUS_ACCESS_DENIED, sim::wfp::kOpenCall},
                                         Trouble{"begin", STATUS_FWP_SESSION_ABORTED, sim::wfp::kBeginCall},
                                         Trouble{"add", STATUS_ACCESS_DENIED, sim::wfp::kAddCall},
                                         Trouble{"commit", STATUS_INSUFFICIENT_RESOURCES, sim::wfp::kCommitCall}),
                         [](const testing::TestParamInfo<Trouble> &info) { return info.param.name; });

TEST_F(FilterEngineLoadTest, LoadsAndUnloadsDuringAnotherProductsTransaction)
{
    machine_.wfp().BeginForeignTransaction();
    const uint64_t before = KeQueryInterruptTime();

    ASSERT_EQ(Load(), STATUS_SUCCESS);
    Unload();
    EXPECT_EQ(KeQueryInterruptTime(), before) << "without filters nothing waits";
    machine_.wfp().EndForeignTransaction();
}

TEST_F(FilterEngineLoadTest, AnAttachWaitsAtMostTwoSecondsForAnotherProductsTransaction)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    machine_.Run();
    {
        Network network(machine_);
        Client client(machine_);

        ForeignTransaction transaction(machine_.wfp());
        const uint64_t before = KeQueryInterruptTime();
        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
        EXPECT_GE(KeQueryInterruptTime() - before, 2 * PLATFORM_TICKS_PER_SECOND);
        EXPECT_LE(KeQueryInterruptTime() - before, 2100 * PLATFORM_TICKS_PER_MILLISECOND);
        EXPECT_EQ(client.GetStatistics().EngineState, EngineBusy);
        EXPECT_TRUE(network.Connect(Flow{}).permitted()) << "as without a client";
        EXPECT_TRUE(network.Outbound(MakePacket(UdpV4())).permitted());

        transaction.End();
        machine_.clock().Advance(1s);
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
        EXPECT_FALSE(network.TakeReauthorized().empty()) << "the flows from before are authorized again";
        EXPECT_TRUE(network.Outbound(MakePacket(UdpV4())).absorbed());
    }
    Unload();
}

// Unloading waits in real time, on a thread of its own: the test ends the transaction.
TEST_F(FilterEngineLoadTest, AnUnloadWaitsForAnotherProductsTransactionAndSaysSoEachSecond)
{
    std::atomic<unsigned> reports{0};
    Client client(machine_);
    OPTIONS_WIRE options = Client::DefaultOptions();

    ASSERT_EQ(Load(), STATUS_SUCCESS);
    ASSERT_EQ(client.Open(), STATUS_SUCCESS);
    options.Flags = OPTION_FLAG_FAIL_CLOSED;
    ASSERT_EQ(client.SetOptions(options), STATUS_SUCCESS);
    machine_.Run();
    client.Close();
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers)) << "fail closed stays in force";

    machine_.debug().SetSink(
        [&](const std::string &line)
        {
            if (line.find("waits for the filter engine") != std::string::npos && ++reports == 3)
            {
                machine_.wfp().EndForeignTransaction();
            }
        });
    machine_.wfp().BeginForeignTransaction();
    Unload();
    machine_.debug().SetSink({});
    EXPECT_EQ(reports, 3u);
    EXPECT_EQ(FilteredLayers(machine_), 0u);
}

TEST_F(FilterEngineLoadTest, UnregisteringACalloutIsRepeatedWhateverItReturns)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    {
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
    }
    machine_.wfp().SetUnregisterFailures(
        {STATUS_DEVICE_BUSY, STATUS_FWP_IN_USE, STATUS_FWP_TIMEOUT, STATUS_UNSUCCESSFUL});
    Unload();
    machine_.wfp().CheckUnloaded();
}

// A client is attached.
class FilterEngineTest : public DriverTest
{
  protected:
    void Set(FWPM_SERVICE_STATE state) { machine_.wfp().SetServiceState(state); }

    void Stop()
    {
        Set(FWPM_SERVICE_STOP_PENDING);
        Set(FWPM_SERVICE_STOPPED);
    }
    void Start()
    {
        Set(FWPM_SERVICE_START_PENDING);
        Set(FWPM_SERVICE_RUNNING);
    }

    void ExpectToReauthorize()
    {
        network_.TakeReauthorized();
        client_.Command(CommandClearCache);
        EXPECT_EQ(network_.TakeReauthorized().size(), kResettableLayers);
    }
};

TEST_F(FilterEngineTest, ARestartOfTheServiceRestoresAllFiltersAndReauthorizesEveryFlow)
{
    Decide(Flow{}, VerdictPermanentAccept);
    Stop();
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    EXPECT_TRUE(network_.Connect(TcpV6()).permitted()) << "no callout runs";
    network_.TakeReauthorized();

    Start();
    EXPECT_EQ(network_.TakeReauthorized().size(), 2 * kResettableLayers) << "by the new filters, and once they decide";
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    EXPECT_TRUE(network_.Connect(Flow{}).pended()) << "the connection may be another one by now";
    EXPECT_TRUE(network_.Connect(TcpV6()).pended());
    EXPECT_THAT(client_.GetLogs(), testing::Contains(testing::HasSubstr("does not run")));
    ExpectToReauthorize();
}

TEST_F(FilterEngineTest, ARestartThatEndsBeforeTheDriverActsIsNotMissed)
{
    Stop();
    Start();
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    ExpectToReauthorize();
}

TEST_F(FilterEngineTest, FiltersReturnAfterACrashOfTheService)
{
    Set(FWPM_SERVICE_STOPPED);
    Set(FWPM_SERVICE_RUNNING);
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
}

TEST_F(FilterEngineTest, WhileTheServiceIsStoppedClientsComeAndGoAndNothingFails)
{
    const ByteVector datagram = MakePacket(UdpV4());

    EXPECT_TRUE(network_.Outbound(datagram).absorbed());
    const uint64_t id = client_.ReadQuestion().id;
    Stop();
    client_.Verdict(id, VerdictAccept);
    EXPECT_EQ(network_.TakeInjected().size(), 1u) << "a held packet can still be decided";
    client_.Close();
    EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
    client_.Command(CommandClearCache);
    machine_.Run();
    EXPECT_THAT(client_.GetLogs(), testing::Not(testing::Contains(testing::HasSubstr("could not"))));
    Start();
    machine_.Run();
    EXPECT_TRUE(network_.Outbound(datagram).absorbed());
}

TEST_F(FilterEngineTest, WhileTheServiceIsStoppedAFailClosedClientCannotBlock)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags = OPTION_FLAG_FAIL_CLOSED;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    client_.Close();
    EXPECT_TRUE(network_.Connect(Flow{}).blocked());
    Stop();
    machine_.Run();
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    Start();
    machine_.Run();
    EXPECT_TRUE(network_.Connect(Flow{}).blocked());
}

TEST_F(FilterEngineTest, TheDriverRecoversFromAStopDuringATransaction)
{
    uint64_t failures = 1;

    for (uint64_t failing = 0; failures != 0; failing++)
    {
        client_.Command(CommandClearCache);
        machine_.faults().FailNth(failing);
        machine_.Run();
        failures = machine_.faults().failures();
        machine_.faults().Stop();
        Stop();
        Start();
        Advance(1s);
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers)) << failing;
    }
    client_.GetLogs();
}

TEST_F(FilterEngineTest, AReauthorizationThatFailsAtAnyCallIsRetriedAndKeepsTheFilters)
{
    uint64_t failures = 1;
    unsigned runs = 0;

    for (uint64_t failing = 0; failures != 0; failing++)
    {
        client_.Command(CommandClearCache);
        machine_.faults().FailNth(failing);
        machine_.Run();
        failures = machine_.faults().failures();
        machine_.faults().Stop();
        if (runs > 0)
        {
            EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers)) << failing;
        }
        Advance(1s);
        EXPECT_GE(network_.TakeReauthorized().size(), kResettableLayers) << failing;
        ExpectToReauthorize();
        runs++;
    }
    EXPECT_EQ(runs, 2 + 2 * kResettableLayers + 1)
        << "begin, delete and add each filter, commit, and one run without a failure";
}

TEST_F(FilterEngineTest, AVerdictDoesNotWaitForAnotherProductsTransaction)
{
    HANDLE other = nullptr;

    Decide(Flow{}, VerdictPermanentAccept);
    ASSERT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, nullptr, &other), STATUS_SUCCESS);
    ASSERT_EQ(FwpmTransactionBegin0(other, 0), STATUS_SUCCESS);
    const uint64_t before = KeQueryInterruptTime();
    client_.Write(UpdateBytes(Flow{}, VerdictBlock));
    EXPECT_EQ(KeQueryInterruptTime(), before);
    EXPECT_TRUE(client_.GetLogs().empty()) << "no reauthorization was tried";
    ASSERT_EQ(FwpmTransactionCommit0(other), STATUS_SUCCESS);
    ASSERT_EQ(FwpmEngineClose0(other), STATUS_SUCCESS);
    EXPECT_EQ(network_.TakeReauthorized().size(), kResettableLayers);
}

TEST_F(FilterEngineTest, NoWorkIsLeftWithoutAClientAfterARetriedReauthorization)
{
    client_.Command(CommandClearCache);
    machine_.faults().FailNth(0);
    machine_.Run();
    machine_.faults().Stop();
    client_.Close();
    Advance(1s);
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    EXPECT_EQ(machine_.scheduler().DriverWorkLeft(), "");
}

TEST_F(FilterEngineTest, AShutdownRemovesTheFilters)
{
    client_.Command(CommandShutdown);
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    EXPECT_EQ(client_.GetStatistics().EngineState, EngineReady);
}

TEST_F(FilterEngineTest, FiltersThatVanishWithoutAStopAreRestored)
{
    Decide(Flow{}, VerdictPermanentAccept);
    machine_.wfp().LoseSessions();
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    EXPECT_EQ(EngineState(&context()->Engine), EngineLost);
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    EXPECT_TRUE(network_.Connect(Flow{}).pended()) << "the connection may be another one by now";
    ExpectToReauthorize();
}

TEST_F(FilterEngineTest, FiltersInForceStayHoweverOftenAChangeFails)
{
    machine_.wfp().Refuse(STATUS_ACCESS_DENIED, sim::wfp::kAddCall);
    client_.Command(CommandClearCache);
    Advance(10s);
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    EXPECT_EQ(client_.GetStatistics().EngineState, EngineRefused);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    client_.Read();
    machine_.wfp().Refuse(STATUS_SUCCESS);
    Advance(1s);
    EXPECT_EQ(client_.GetStatistics().EngineState, EngineFiltering);
}

TEST_F(FilterEngineTest, AnExtendedClientIsWarnedOnceThatNothingIsFiltered)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    const auto warnings = [&]
    {
        machine_.Run();
        return client_.ReadType(InfoLogLine).size();
    };

    Stop();
    EXPECT_EQ(warnings(), 0u) << "a base client gets no record that it did not ask for";
    options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_EQ(warnings(), 1u);
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    EXPECT_EQ(warnings(), 0u) << "once";
    Start();
    EXPECT_EQ(warnings(), 0u);
    Stop();
    EXPECT_EQ(warnings(), 1u);
}

TEST_F(FilterEngineTest, APendingTimeoutFiresWhileAnotherProductsTransactionIsOpen)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.PendingTimeoutMs = 500;
    options.TimeoutVerdict = VerdictAccept;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    machine_.Run();
    ForeignTransaction transaction(machine_.wfp());
    client_.Command(CommandClearCache);
    for (std::chrono::milliseconds passed = 0ms; passed < 1min; passed += 10s)
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
        Advance(700ms);
        EXPECT_EQ(network_.TakeInjected().size(), 1u) << "within 200 ms of its deadline";
        Advance(9300ms);
    }
    EXPECT_EQ(client_.GetStatistics().EngineState, EngineBusy);
    transaction.End();
    client_.Read();
}

TEST_F(FilterEngineTest, OnlyAFailClosedPolicyLetsAFilterWithoutItsCalloutBlock)
{
    OPTIONS_WIRE options = Client::DefaultOptions();
    const auto count_blocking = [&] { return machine_.wfp().filters_that_block_without_callout(); };

    EXPECT_EQ(count_blocking(), 0u);
    options.Flags = OPTION_FLAG_FAIL_CLOSED;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    machine_.Run();
    EXPECT_EQ(count_blocking(), 8u) << "the terminating filters";
    client_.Close();
    machine_.Run();
    EXPECT_EQ(count_blocking(), 8u) << "fail closed stays in force";
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    machine_.Run();
    EXPECT_EQ(count_blocking(), 0u) << "the next client starts with an open policy";
}

// The wire of a refused connection, in the time in which one commit reaches layer after layer.
class CommitOrderTest : public FilterEngineTest, public testing::WithParamInterface<sim::wfp::PublishOrder>
{
  protected:
    // A block by a base client is carried out at the packet layer, so ALE permits the connection.
    bool ReachesTheWire(const Flow &flow)
    {
        const ByteVector packet = MakePacket(flow);

        return network_.Connect(flow, &packet).permitted() && network_.Outbound(packet).permitted();
    }
};

TEST_P(CommitOrderTest, ARefusedConnectionIsNeverSeenOnTheWireWhileFiltersComeAndGo)
{
    const Flow refused = UdpV4();
    unsigned seen_between = 0;

    Decide(refused, VerdictBlock);
    machine_.wfp().SetPublishing(GetParam(),
                                 [&](uint16_t, uint16_t)
                                 {
                                     seen_between += ReachesTheWire(refused) ? 1 : 0;
                                     client_.Read();
                                 });
    client_.Write(UpdateBytes(refused, VerdictBlock));
    EXPECT_EQ(network_.TakeReauthorized().size(), kResettableLayers);
    machine_.wfp().SetPublishing(GetParam());
    EXPECT_EQ(seen_between, 0u);
}

// While the first filters are committed, everything goes as without a client: nothing is refused yet.
TEST_P(CommitOrderTest, NothingIsAskedOrRefusedBeforeAllFiltersAreCommitted)
{
    unsigned changed = 0;

    client_.Close();
    machine_.Run();
    machine_.wfp().SetPublishing(GetParam(), [&](uint16_t, uint16_t)
                                 { changed += ReachesTheWire(UdpV4()) || FilteredLayers(machine_) == 0 ? 0 : 1; });
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    machine_.wfp().SetPublishing(GetParam());
    EXPECT_EQ(changed, 0u);
    EXPECT_TRUE(client_.Read().empty());
    EXPECT_FALSE(ReachesTheWire(UdpV4()));
    client_.Read();
}

INSTANTIATE_TEST_SUITE_P(
    Orders, CommitOrderTest,
    testing::Values(sim::wfp::PublishOrder::kAleLayersFirst, sim::wfp::PublishOrder::kPacketLayersFirst),
    [](const auto &info)
    { return info.param == sim::wfp::PublishOrder::kAleLayersFirst ? "AleLayersFirst" : "PacketLayersFirst"; });

TEST_F(FilterEngineTest, AFilterThatAnotherProductMakesForACalloutIsRefused)
{
    HANDLE other = nullptr;
    FWPM_FILTER0 filter{};

    ASSERT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, nullptr, &other), STATUS_SUCCESS);
    filter.displayData.name = const_cast<wchar_t *>(reinterpret_cast<const wchar_t *>(u"another product"));
    filter.layerKey = *Layers[0].Key;
    filter.subLayerKey = {0xc5878765, 0x0ef1, 0x4d80, {0xb4, 0x91, 0x62, 0x92, 0xc7, 0xa0, 0x38, 0xcf}};
    filter.weight.type = FWP_EMPTY;
    filter.action.type = Layers[0].Action;
    filter.action.calloutKey = Layers[0].CalloutKey;
    filter.rawContext = 0;
    EXPECT_FALSE(NT_SUCCESS(FwpmFilterAdd0(other, &filter, nullptr, nullptr)));
    EXPECT_TRUE(network_.Connect(Flow{}).pended()) << "the driver's own filter decides";
    client_.Read();
    ASSERT_EQ(FwpmEngineClose0(other), STATUS_SUCCESS);
}

TEST_F(FilterEngineTest, AHandleForQueriesAttachesNoClientAndChangesNothing)
{
    client_.Close();
    machine_.Run();
    {
        Client query(machine_);

        ASSERT_EQ(query.OpenForQuery(), STATUS_SUCCESS);
        machine_.Run();
        EXPECT_EQ(FilteredLayers(machine_), 0u);
        ASSERT_EQ(client_.Open(), STATUS_SUCCESS) << "a client can attach beside it";
        ByteVector reply(16);
        EXPECT_EQ(query.Control(IOCTL_NETVERDICT_SHUTDOWN_REQUEST, {}, &reply).status, STATUS_ACCESS_DENIED);
    }
    EXPECT_TRUE(network_.Connect(Flow{}).pended()) << "its close detaches nobody";
    client_.Read();
}

} // namespace
} // namespace kext_test

// The base filtering engine (BFE) starts after the driver, stops and restarts, and its transactions fail.
#include "load_fixture.h"

#include "support/commands.h"
#include "support/driver_test.h"

#include "nt/fault_injection.h"
#include "nt/scheduler.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr size_t kResettableLayers = 4;

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
        Set(FWPM_SERVICE_RUNNING);
        machine_.faults().FailNth(failing);
        machine_.Run();
        failures = machine_.faults().failures();
        machine_.faults().Stop();
        EXPECT_EQ(FilteredLayers(machine_), failures != 0 ? 0 : std::size(kLayers)) << "all or nothing";
        machine_.clock().Advance(1s);
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers)) << failing;
        runs++;
        Unload();
    }
    EXPECT_GT(runs, 2 * std::size(kLayers));
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
    EXPECT_EQ(network_.TakeReauthorized().size(), kResettableLayers);
    EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    EXPECT_TRUE(network_.Connect(Flow{}).permitted()) << "the verdict is still known";
    EXPECT_TRUE(network_.Connect(TcpV6()).pended());
    EXPECT_THAT(client_.GetLogs(), testing::Contains(testing::HasSubstr("stopped")));
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

TEST_F(FilterEngineTest, AReauthorizationThatFailsAtAnyCallIsRetriedAndLaterOnesWork)
{
    uint64_t failures = 1;
    unsigned runs = 0;

    for (uint64_t failing = 0; failures != 0; failing++)
    {
        machine_.faults().FailNth(failing);
        EngineReauthorize(&context()->Engine);
        failures = machine_.faults().failures();
        machine_.faults().Stop();
        Advance(1s);
        EXPECT_EQ(network_.TakeReauthorized().size(), kResettableLayers) << failing;
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
    client_.Close();
    network_.TakeReauthorized();
    machine_.faults().FailNth(0);
    EngineReauthorize(&context()->Engine);
    machine_.faults().Stop();
    Advance(1s);
    EXPECT_EQ(network_.TakeReauthorized().size(), kResettableLayers);
    EXPECT_EQ(machine_.scheduler().DriverWorkLeft(), "");
}

} // namespace
} // namespace kext_test

#include "load_fixture.h"

#include "support/device_client.h"
#include "support/network.h"
#include "support/packets.h"

#include "ndis/net_buffers.h"
#include "nt/fault_injection.h"

namespace kext_test
{
namespace
{

class DriverLoadTest : public BareMachineTest
{
};

TEST_F(DriverLoadTest, FiltersAllTwentyLayersWhileAClientIsAttached)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), 0u) << "the driver costs nothing without a client";
    {
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
        EXPECT_EQ(FilteredLayers(machine_), std::size(kLayers));
    }
    machine_.Run();
    EXPECT_EQ(FilteredLayers(machine_), 0u);
    Unload();
}

TEST_F(DriverLoadTest, EveryFilterEngineObjectNamesItsProvider)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    Client client(machine_);

    ASSERT_EQ(client.Open(), STATUS_SUCCESS);
    EXPECT_TRUE(machine_.wfp().has_filters(FWPS_LAYER_ALE_AUTH_CONNECT_V4));
    EXPECT_EQ(machine_.wfp().objects_without_provider(), 0u);
}

TEST_F(DriverLoadTest, LeavesNothingBehindAfterUnloading)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    Unload();

    machine_.wfp().CheckUnloaded();
    EXPECT_EQ(machine_.net_buffers().DriverPoolsLeft(), "");
    EXPECT_TRUE(machine_.io().DeviceNames().empty());
}

TEST_F(DriverLoadTest, CanBeLoadedAgain)
{
    for (int i = 0; i < 3; i++)
    {
        ASSERT_EQ(Load(), STATUS_SUCCESS);
        Unload();
    }
}

TEST_F(DriverLoadTest, NamesItsDeviceAfterTheService)
{
    ASSERT_EQ(Load(u"PortmasterKext"), STATUS_SUCCESS);
    {
        Client client(machine_);

        EXPECT_EQ(client.Open(u"\\\\.\\NetVerdict"), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_EQ(client.Open(u"\\\\.\\PortmasterKext"), STATUS_SUCCESS);
    }
    Unload();
}

TEST_F(DriverLoadTest, OnlyTheSystemAndAdministratorsMayOpenItsDevice)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    EXPECT_EQ(machine_.io().SecurityDescriptor(u"\\Device\\NetVerdict"), u"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
    Unload();
}

TEST_F(DriverLoadTest, ASecondLoadFailsAndTheFirstKeepsFiltering)
{
    PDRIVER_OBJECT second = nullptr;

    ASSERT_EQ(Load(), STATUS_SUCCESS);
    EXPECT_FALSE(NT_SUCCESS(machine_.io().LoadDriver(DriverEntry, u"Another", &second)));
    {
        Client client(machine_);

        EXPECT_EQ(client.Open(), STATUS_SUCCESS);
        EXPECT_TRUE(machine_.wfp().has_filters(FWPS_LAYER_ALE_AUTH_CONNECT_V4));
    }
    Unload();
}

// After every failed load the machine checks that nothing is left.
TEST_F(DriverLoadTest, AFailedAllocationFailsTheLoadCleanly)
{
    unsigned failures = 0;

    for (unsigned n = 0;; n++)
    {
        machine_.faults().FailNth(n);
        const NTSTATUS status = Load();
        const uint64_t failed = machine_.faults().failures();
        machine_.faults().Stop();
        if (NT_SUCCESS(status))
        {
            Unload();
        }
        if (failed == 0)
        {
            EXPECT_EQ(status, STATUS_SUCCESS);
            break;
        }
        failures += NT_SUCCESS(status) ? 0 : 1;
    }
    EXPECT_GT(failures, 10u);
}

TEST_F(DriverLoadTest, UnloadsWhileThousandsOfConnectionsAreKnown)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    {
        Network network(machine_);
        Client client(machine_);

        ASSERT_EQ(client.Open(), STATUS_SUCCESS);
        for (uint16_t port = 1; port <= 2000; port++)
        {
            Flow flow;

            flow.local.port = port;
            network.Connect(flow);
        }
        EXPECT_EQ(client.GetStatistics().Connections, 2000u);
        EXPECT_EQ(client.GetStatistics().PacketsHeld, 2000u);
    }
    Unload();
}

TEST_F(DriverLoadTest, UnloadsOnlyWhenEveryInjectionHasCompleted)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    {
        Network network(machine_);
        {
            Client client(machine_);
            const ByteVector packet = MakePacket(UdpV4());

            ASSERT_EQ(client.Open(), STATUS_SUCCESS);
            EXPECT_TRUE(network.Outbound(packet).absorbed());
            client.Verdict(client.ReadQuestion().id, VerdictAccept);
            EXPECT_EQ(machine_.wfp().counters().injections_now, 1u);
        }
        Unload();
        EXPECT_EQ(machine_.wfp().counters().injections_now, 0u);
        EXPECT_EQ(network.TakeInjected().size(), 1u);
    }
}

// An open handle keeps the driver loaded until it is closed.
TEST_F(DriverLoadTest, UnloadingWaitsForTheClientsDetachWhichResolvesPendedConnections)
{
    ASSERT_EQ(Load(), STATUS_SUCCESS);
    Network network(machine_);
    Client client(machine_);
    std::vector<Network::Answer> connects;

    ASSERT_EQ(client.Open(), STATUS_SUCCESS);
    for (uint16_t port = 1; port <= 100; port++)
    {
        Flow flow;

        flow.local.port = port;
        connects.push_back(network.Connect(flow));
        EXPECT_TRUE(connects.back().pended());
    }
    EXPECT_EQ(driver_.BeginUnload(), STATUS_PENDING);
    machine_.Run();
    EXPECT_EQ(machine_.wfp().counters().pended_now, 100u) << "the client may still decide";
    EXPECT_EQ(client.GetStatistics().PacketsHeld, 100u);

    client.Close();
    for (const Network::Answer &connect : connects)
    {
        EXPECT_EQ(connect.completed(), 1);
    }
    EXPECT_FALSE(machine_.wfp().has_filters(FWPS_LAYER_ALE_AUTH_CONNECT_V4)) << "unloaded";
    EXPECT_TRUE(machine_.io().DeviceNames().empty());
}

} // namespace
} // namespace kext_test

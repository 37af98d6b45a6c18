// Load: one thread creates many flows, another decides on them.

#include "net_fixture.h"

#include "sources/flow_load.h"

#include <thread>

namespace sim::sources
{
namespace
{

using net::Decision;
using net::LayerKind;

class FlowLoadTest : public net::NetTest
{
  protected:
    FlowLoadTest() : NetTest({false, true, 2, true}) { Decide({LayerKind::kConnect}, Decision::kPend); }

    FlowLoadResult RunWithDecider(const FlowLoadOptions &options)
    {
        std::atomic<bool> done{false};
        std::thread decider(
            [this, &done]
            {
                const Machine::Scope scope(machine);

                while (!done)
                {
                    AllowAll();
                }
            });
        const FlowLoadResult result = FlowLoad(machine, options).Run();

        done = true;
        decider.join();
        return result;
    }

    static FlowLoadOptions Options(uint64_t connections, uint32_t in_flight)
    {
        FlowLoadOptions options;

        options.connections = connections;
        options.in_flight = in_flight;
        return options;
    }
};

TEST_F(FlowLoadTest, EachFlowOfASequenceHasALatency)
{
    const FlowLoadResult result = RunWithDecider(Options(500, 1));

    EXPECT_EQ(result.permitted, 500u);
    EXPECT_EQ(result.latencies.size(), 500u);
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(FlowLoadTest, ManyConcurrentFlowsAllHaveAnOutcome)
{
    const FlowLoadResult result = RunWithDecider(Options(2000, 64));

    EXPECT_EQ(result.permitted, 2000u);
    EXPECT_TRUE(result.latencies.empty());
    EXPECT_EQ(stack().counters().flows_now, 0u);
}

TEST_F(FlowLoadTest, APacketThatIsHeldIsWaitedFor)
{
    FlowLoadOptions options = Options(1, 1);
    std::atomic<bool> allowed{false};

    options.protocol = net::kProtocolUdp;
    options.packets_per_connection = 2;
    Decide({LayerKind::kInPacket}, Decision::kHold);

    std::thread decider(
        [this, &allowed]
        {
            const Machine::Scope scope(machine);

            while (held_count() == 0)
            {
                std::this_thread::yield();
            }
            allowed = true;
            AllowAll();
        });

    EXPECT_EQ(FlowLoad(machine, options).Run().permitted, 1u);
    EXPECT_TRUE(allowed);
    decider.join();
}

TEST_F(FlowLoadTest, StopEndsUndecidedFlows)
{
    FlowLoad load(machine, Options(8, 4));
    FlowLoadResult result;
    std::thread runner(
        [this, &load, &result]
        {
            const Machine::Scope scope(machine);

            result = load.Run();
        });

    while (held_count() != 4)
    {
        std::this_thread::yield();
    }
    load.Stop();
    runner.join();
    EXPECT_EQ(result.permitted, 0u);
    EXPECT_EQ(result.blocked + result.dropped, 4u);
    AllowAll();
}

} // namespace
} // namespace sim::sources

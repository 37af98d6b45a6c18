// The parts of a flow, each without the flow: the test takes the place of the stack around them.

#include <gtest/gtest.h>

#include "machine.h"
#include "net/core.h"
#include "net/stack.h"
#include "net/trip.h"

#include <memory>
#include <utility>

namespace sim::net
{
namespace
{

class NetParts : public testing::Test, protected FlowHost, protected HoldOwner
{
  protected:
    NetParts()
    {
        flow.resources = &core;
        flow.host = this;
        flow.identity.protocol = kProtocolTcp;
        flow.identity.local = {kIpv4, {10, 0, 0, 7}, 50001};
        flow.identity.remote = {kIpv4, {203, 0, 113, 9}, 443};
    }

    void LoopBack(PacketPtr) override { ++looped_back; }
    void Forward(PacketPtr, OutcomeCallback) override {}
    void SendToOwnGroup(const Packet &) override {}
    void ToSocket(PacketPtr, OutcomeCallback) override {}
    bool ToConversation(PacketPtr *) override { return false; }
    void InjectLoose(wfp::Injection::Kind, PacketPtr) override {}
    void FinishPeer(const Tuple &) override {}
    void RemoveOwner(Socket *) override {}
    void Unindex(Flow *) override {}
    void Recycle(Flow *) override {}

    const FlowIdentity &identity() const override { return flow.identity; }
    bool endpoint_closed() const override { return false; }
    void Post(HoldEvent) override {}
    void AddReference() override {}
    void Release() override {}
    std::shared_ptr<Resources> ShareResources() override { return core.shared_from_this(); }

    // Takes the next control segment out of the queue, as sent.
    std::pair<Direction, uint8_t> PassControl()
    {
        Job *job = jobs.Pop();
        const std::pair<Direction, uint8_t> control(job->direction, job->tcp_flags);

        EXPECT_EQ(job->kind, JobKind::kControl);
        tcp.ControlDone(*job);
        core.Resources::Recycle(job);
        return control;
    }

    Machine machine{{true, false, 2, true}};
    Machine::Scope scope{machine};
    Core &core = machine.net().core();
    FlowContext flow;
    JobQueue jobs;
    Authorization authorization{flow};
    PendingDecision decision{flow, authorization, *this};
    Trip trip{flow, authorization, decision};
    TcpConversation tcp{flow, *this, jobs};
    int looped_back = 0;
};

TEST_F(NetParts, AQueueKeepsTheOrderOfItsJobs)
{
    Job job[3];
    JobQueue first;
    JobQueue second;

    first.Append(&job[0]);
    second.Append(&job[1]);
    second.Append(&job[2]);
    first.Take(&second);
    EXPECT_TRUE(second.empty());
    for (Job &each : job)
    {
        EXPECT_EQ(first.Pop(), &each);
    }
    EXPECT_EQ(first.Pop(), nullptr);
}

TEST_F(NetParts, AnAuthorizationLastsUntilThePolicyChanges)
{
    Job job;

    EXPECT_EQ(authorization.NeedOf(job), Authorization::Need::kRefused);
    job.authorize = true;
    EXPECT_EQ(authorization.NeedOf(job), Authorization::Need::kFirst);
    authorization.Grant(job, flow.policy());
    EXPECT_EQ(authorization.NeedOf(job), Authorization::Need::kNothing);
    core.PolicyChanged();
    EXPECT_EQ(authorization.NeedOf(job), Authorization::Need::kAgain);
    authorization.Refuse(job, OutcomeKind::kDropped, flow.policy());
    EXPECT_EQ(authorization.NeedOf(job), Authorization::Need::kRefused);
    EXPECT_EQ(authorization.refusal(), OutcomeKind::kDropped);
    EXPECT_EQ(job.result, OutcomeKind::kDropped);
    core.PolicyChanged();
    EXPECT_EQ(authorization.NeedOf(job), Authorization::Need::kAgain);
}

TEST_F(NetParts, AConnectionIsEstablishedByThreeSegments)
{
    Job syn;

    syn.kind = JobKind::kControl;
    syn.tcp_flags = kTcpSyn;
    tcp.SetSequences(100, 900);
    tcp.ControlDone(syn);
    EXPECT_FALSE(flow.established);
    EXPECT_EQ(PassControl(), std::make_pair(Direction::kInbound, uint8_t{kTcpSyn | kTcpAck}));
    EXPECT_EQ(PassControl(), std::make_pair(Direction::kOutbound, uint8_t{kTcpAck}));
    EXPECT_TRUE(flow.established);
    EXPECT_TRUE(jobs.empty());
    EXPECT_EQ(tcp.MakeControl(syn)->info().sequence, 101u);
}

TEST_F(NetParts, AConnectionWithoutItsSynFails)
{
    Job syn;

    syn.kind = JobKind::kControl;
    syn.result = OutcomeKind::kBlocked;
    tcp.ControlDone(syn);
    EXPECT_FALSE(tcp.BeginControl(syn));
}

TEST_F(NetParts, APacketWithoutFiltersLeavesAndIsCounted)
{
    Job job;

    flow.raw = true;
    trip.Start(job, tcp.MakeControl(job));
    EXPECT_EQ(job.stage, Stage::kAuthorize);
    EXPECT_TRUE(trip.Advance(job));
    EXPECT_EQ(job.result, OutcomeKind::kPermitted);
    EXPECT_EQ(core.counters().outbound.offered, 1u);
    EXPECT_EQ(core.counters().outbound.permitted, 1u);
    EXPECT_EQ(looped_back, 0);
}

TEST_F(NetParts, ALoopbackPacketThatLeavesComesBack)
{
    Job job;

    flow.identity.loopback = true;
    authorization.Grant(job, flow.policy());
    trip.Start(job, tcp.MakeControl(job));
    EXPECT_TRUE(trip.Advance(job));
    EXPECT_EQ(looped_back, 1);
}

} // namespace
} // namespace sim::net

// Processes by their ids, as drivers find them.
#include "nt_fixture.h"

#include "net/stack.h"
#include "nt/processes.h"

namespace sim::test
{
namespace
{

class RunningProcessTest : public ::testing::Test
{
  protected:
    static NTSTATUS Lookup(uint64_t id, PEPROCESS *process)
    {
        return PsLookupProcessByProcessId(reinterpret_cast<HANDLE>(static_cast<uintptr_t>(id)), process);
    }

    // 0: no process runs with this id.
    static LONGLONG CreateTime(uint64_t id)
    {
        PEPROCESS process = nullptr;

        if (Lookup(id, &process) != STATUS_SUCCESS)
        {
            return 0;
        }

        const LONGLONG time = PsGetProcessCreateTimeQuadPart(process);

        ObDereferenceObject(process);
        return time;
    }

    TestMachine machine;
};

TEST_F(RunningProcessTest, ARunningProcessIsFoundWithTheTimeOfItsStart)
{
    const auto start = static_cast<LONGLONG>(machine->clock().SystemTime());

    machine->processes().Start(7);
    machine->clock().Advance(std::chrono::seconds(1));
    machine->processes().Start(7);
    machine->processes().Start(8);
    EXPECT_EQ(CreateTime(7), start);
    EXPECT_EQ(CreateTime(8), start + 10'000'000);
}

TEST_F(RunningProcessTest, OtherIdsAreInvalid)
{
    PEPROCESS process = nullptr;

    machine->processes().Start(0);
    machine->processes().Start(7);
    machine->processes().End(7);
    for (const uint64_t id : {0, 7, 8})
    {
        EXPECT_EQ(Lookup(id, &process), STATUS_INVALID_CID) << id;
    }
}

TEST_F(RunningProcessTest, AnIdThatIsUsedAgainIsAnotherProcess)
{
    PEPROCESS former = nullptr;

    machine->processes().Start(7);
    ASSERT_EQ(Lookup(7, &former), STATUS_SUCCESS);
    machine->processes().End(7);
    machine->clock().Advance(std::chrono::seconds(1));
    machine->processes().Start(7);
    EXPECT_EQ(CreateTime(7), PsGetProcessCreateTimeQuadPart(former) + 10'000'000);
    ObDereferenceObject(former);
}

TEST_F(RunningProcessTest, AFlowsProcessRuns)
{
    net::FlowSpec flow;

    flow.protocol = 17;
    flow.process_id = 7;
    flow.remote = {4, {198, 51, 100, 7}, 53, 0};
    machine->net().Connect(flow, nullptr);
    EXPECT_NE(CreateTime(7), 0);
}

TEST_F(RunningProcessTest, ReferencesThatAreLeftAreReported)
{
    PEPROCESS process = nullptr;

    machine->processes().Start(7);
    ASSERT_EQ(Lookup(7, &process), STATUS_SUCCESS);
    EXPECT_NE(machine->processes().Left(), "");
    ObDereferenceObject(process);
    EXPECT_EQ(machine->processes().Left(), "");
}

TEST(ProcessDeathTest, AReferenceReleasedTwiceIsFound)
{
    TestMachine machine;
    PEPROCESS process = nullptr;

    machine->processes().Start(7);
    ASSERT_EQ(PsLookupProcessByProcessId(reinterpret_cast<HANDLE>(7), &process), STATUS_SUCCESS);
    ObDereferenceObject(process);
    EXPECT_DEATH(ObDereferenceObject(process), "NOT_AN_OBJECT");
}

} // namespace
} // namespace sim::test

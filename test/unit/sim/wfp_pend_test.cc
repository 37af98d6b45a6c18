#include "wfp_fixture.h"

#include <atomic>
#include <thread>

namespace sim::wfp
{
namespace
{

class WfpPend : public WfpTest
{
  protected:
    WfpPend() : WfpPend(MachineOptions{true, false, 2, true}) {}
    explicit WfpPend(const MachineOptions &options) : WfpTest(options)
    {
        driver = StartDriver({&FWPM_LAYER_ALE_AUTH_CONNECT_V4});
        AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_CONNECT_V4, callout);
        callout.classify = [this](const ClassifyCall &call)
        {
            status = FwpsPendOperation0(call.metadata->completionHandle, &context);
            if (NT_SUCCESS(status))
            {
                call.Absorb();
            }
            else
            {
                call.Permit();
            }
        };
    }

    ~WfpPend() override { StopDriver(driver); }

    ClassifyInput PendableInput()
    {
        ClassifyInput input = Input();

        input.can_pend = true;
        input.on_complete = [this](NET_BUFFER_LIST *) { ++completions; };
        return input;
    }

    Driver driver;
    TestCallout callout;
    NTSTATUS status = STATUS_UNSUCCESSFUL;
    HANDLE context = nullptr;
    std::atomic<int> completions{0};
};

TEST_F(WfpPend, PendedOperationIsAbsorbedUntilItIsCompleted)
{
    const ClassifyResult result = engine().Classify(PendableInput());

    EXPECT_EQ(result.action, ClassifyResult::kBlock);
    EXPECT_TRUE(result.absorbed);
    EXPECT_TRUE(result.pended);
    EXPECT_EQ(engine().counters().pended_now, 1u);
    EXPECT_EQ(completions, 0);

    FwpsCompleteOperation0(context, nullptr);
    EXPECT_EQ(completions, 1);
    EXPECT_EQ(engine().counters().pended_now, 0u);
}

TEST_F(WfpPend, ReauthorizationCannotBePended)
{
    ClassifyInput input = PendableInput();

    input.can_pend = false;
    const ClassifyResult result = engine().Classify(input);
    EXPECT_EQ(status, STATUS_FWP_CANNOT_PEND);
    EXPECT_FALSE(result.pended);
    EXPECT_EQ(result.action, ClassifyResult::kPermit);
}

TEST_F(WfpPend, FailureCanBeRequested)
{
    engine().SetPendFailure(STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_FALSE(engine().Classify(PendableInput()).pended);
    EXPECT_EQ(status, STATUS_INSUFFICIENT_RESOURCES);
    engine().SetPendFailure(STATUS_SUCCESS);
    EXPECT_TRUE(engine().Classify(PendableInput()).pended);
    FwpsCompleteOperation0(context, nullptr);
}

TEST_F(WfpPend, CompletionInsideThePendingClassifyRunsAfterIt)
{
    bool inside = false;

    callout.classify = [&](const ClassifyCall &call)
    {
        FwpsPendOperation0(call.metadata->completionHandle, &context);
        inside = true;
        FwpsCompleteOperation0(context, nullptr);
        EXPECT_EQ(completions, 0);
        inside = false;
        call.Absorb();
    };
    ClassifyInput input = PendableInput();
    input.on_complete = [&](NET_BUFFER_LIST *)
    {
        EXPECT_FALSE(inside);
        ++completions;
    };
    EXPECT_TRUE(engine().Classify(input).pended);
    machine.Run();
    EXPECT_EQ(completions, 1);
}

TEST_F(WfpPend, CompletionMayClassifyAgain)
{
    ClassifyInput input = PendableInput();

    input.on_complete = [&](NET_BUFFER_LIST *)
    {
        ClassifyInput again = Input();

        ++completions;
        callout.classify = [](const ClassifyCall &call) { call.Permit(); };
        EXPECT_EQ(engine().Classify(again).action, ClassifyResult::kPermit);
    };
    EXPECT_TRUE(engine().Classify(input).pended);
    FwpsCompleteOperation0(context, nullptr);
    EXPECT_EQ(completions, 1);
}

class WfpPendThreads : public WfpPend
{
  protected:
    WfpPendThreads() : WfpPend({false, true, 2, true}) {}
};

TEST_F(WfpPendThreads, CompletionOnAnotherThreadRacesThePendingClassify)
{
    constexpr int kRounds = 500;
    std::atomic<HANDLE> handed{nullptr};
    std::atomic<bool> in_callout{false};
    std::atomic<bool> stop{false};
    std::thread completer(
        [&]
        {
            const Machine::Scope of_thread(machine);

            while (!stop)
            {
                const HANDLE taken = handed.exchange(nullptr);

                if (taken != nullptr)
                {
                    FwpsCompleteOperation0(taken, nullptr);
                }
            }
        });

    callout.classify = [&](const ClassifyCall &call)
    {
        HANDLE pended = nullptr;

        in_callout = true;
        FwpsPendOperation0(call.metadata->completionHandle, &pended);
        handed = pended;
        call.Absorb();
        in_callout = false;
    };
    for (int round = 0; round < kRounds; ++round)
    {
        ClassifyInput input = PendableInput();

        input.on_complete = [&](NET_BUFFER_LIST *)
        {
            EXPECT_FALSE(in_callout);
            ++completions;
        };
        ASSERT_TRUE(engine().Classify(input).pended);
        while (completions == round)
        {
            std::this_thread::yield();
        }
    }
    stop = true;
    completer.join();
    EXPECT_EQ(completions, kRounds);
}

using WfpPendDeathTest = WfpPend;

TEST_F(WfpPendDeathTest, CompletedTwice)
{
    engine().Classify(PendableInput());
    FwpsCompleteOperation0(context, nullptr);
    EXPECT_DEATH(FwpsCompleteOperation0(context, nullptr), "BUGCHECK WFP_OPERATION_COMPLETED_TWICE");
}

TEST_F(WfpPendDeathTest, CompletedWithAListThatTheDriverCannotInject)
{
    PacketBytes packet(std::vector<uint8_t>(40));
    ndis::NetBuffers &buffers = machine.net_buffers();
    NET_BUFFER_LIST *list = buffers.Allocate(buffers.stack_pool(), 0, 0, packet.mdl(), 0, packet.length());

    engine().Classify(PendableInput());
    EXPECT_DEATH(FwpsCompleteOperation0(context, list), "BUGCHECK WFP_COMPLETED_WITH_WRONG_LIST");
    FwpsCompleteOperation0(context, nullptr);
    buffers.Free(list);
}

TEST_F(WfpPendDeathTest, NeverCompletedByUnload)
{
    engine().Classify(PendableInput());
    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_OPERATION_NEVER_COMPLETED");
    FwpsCompleteOperation0(context, nullptr);
}

TEST_F(WfpPendDeathTest, PendedAndPermitted)
{
    callout.classify = [&](const ClassifyCall &call)
    {
        FwpsPendOperation0(call.metadata->completionHandle, &context);
        call.Permit();
    };
    EXPECT_DEATH(engine().Classify(PendableInput()), "BUGCHECK WFP_PENDED_NOT_ABSORBED");
}

TEST_F(WfpPendDeathTest, PendedOutsideItsClassify)
{
    HANDLE kept = nullptr;

    callout.classify = [&](const ClassifyCall &call)
    {
        kept = call.metadata->completionHandle;
        call.Permit();
    };
    engine().Classify(PendableInput());
    EXPECT_DEATH(FwpsPendOperation0(kept, &context), "BUGCHECK WFP_INVALID_HANDLE");
}

} // namespace
} // namespace sim::wfp

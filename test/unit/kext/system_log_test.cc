// What the driver writes into the system's event log.
#include "system_log.h"

#include "kext_test.h"
#include "load_fixture.h"

#include "support/driver_test.h"

#include "nt/error_log.h"
#include "nt/fault_injection.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;
using sim::nt::ErrorLogRecord;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// Severity and facility, as Event Viewer shows them beside the id.
constexpr uint32_t kError = 0xC0040000;
constexpr uint32_t kWarning = 0x80040000;
constexpr uint32_t kInformation = 0x40040000;

constexpr uint32_t kStartFailed = kError | 1;
constexpr uint32_t kEngineLost = kWarning | 2;
constexpr uint32_t kEngineRefused = kWarning | 3;
constexpr uint32_t kEngineBack = kInformation | 4;
constexpr uint32_t kFailClosed = kWarning | 5;
constexpr uint32_t kFailPolicy = kWarning | 6;

std::vector<uint32_t> Codes(const std::vector<ErrorLogRecord> &records)
{
    std::vector<uint32_t> codes;

    for (const ErrorLogRecord &record : records)
    {
        codes.push_back(static_cast<uint32_t>(record.code));
    }
    return codes;
}

class SystemLogTest : public DriverTest
{
  protected:
    SYSTEM_LOG *system_log() { return &context()->SystemLog; }
    std::vector<ErrorLogRecord> Take() { return machine_.error_log().Take(); }

    void SetOptions(uint32_t flags, uint32_t held = OPTIONS_DEFAULT_MAX_HELD_PACKETS)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = flags;
        options.MaxHeldPackets = held;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static Flow WithPort(uint16_t port)
    {
        Flow flow = UdpV4();

        flow.local.port = port;
        return flow;
    }
};

TEST_F(SystemLogTest, AnEntryHasTheDeviceTheStatusAndTheCount)
{
    SystemLogWrite(system_log(), SystemEventEngineRefused, STATUS_FWP_TIMEOUT);
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(records, SizeIs(1));
    EXPECT_EQ(records[0].source, u"NetVerdict");
    EXPECT_EQ(static_cast<uint32_t>(records[0].code), kEngineRefused);
    EXPECT_EQ(records[0].final_status, STATUS_FWP_TIMEOUT);
    EXPECT_THAT(records[0].insertions, ElementsAre(u"\\Device\\NetVerdict", u"0xC0220012", u"1"));
}

TEST_F(SystemLogTest, AnEventIsWrittenOnceAMinuteWithItsCount)
{
    for (int i = 0; i < 10; i++)
    {
        SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
        Advance(1s);
    }
    EXPECT_THAT(Take(), SizeIs(1));
    Advance(50s);
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_UNSUCCESSFUL);
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(records, SizeIs(1));
    EXPECT_THAT(records[0].insertions, ElementsAre(u"\\Device\\NetVerdict", u"0xC0000001", u"10"));
}

TEST_F(SystemLogTest, EventsOfOtherKindsAreNotHeldBack)
{
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
    SystemLogWrite(system_log(), SystemEventEngineBack, STATUS_SUCCESS);
    EXPECT_THAT(Codes(Take()), ElementsAre(kEngineLost, kEngineBack));
}

TEST_F(SystemLogTest, UnloadingWritesWhatWasHeldBack)
{
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
    EXPECT_THAT(Take(), SizeIs(1));
    client_.Close();
    Unload();
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(records, SizeIs(1));
    EXPECT_EQ(records[0].insertions[2], u"2");
}

TEST_F(SystemLogTest, AnEntryThatWindowsRefusesIsInTheLogAndCountedLater)
{
    machine_.faults().FailAll();
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
    machine_.faults().Stop();
    EXPECT_THAT(Take(), IsEmpty());
    EXPECT_THAT(client_.GetLogs(),
                testing::Contains(testing::HasSubstr("refused an entry of event 2, which happened 1 times")));
    Advance(60s);
    SystemLogWrite(system_log(), SystemEventEngineLost, STATUS_SUCCESS);
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(records, SizeIs(1));
    EXPECT_EQ(records[0].insertions[2], u"2");
}

TEST_F(SystemLogTest, EventsMayHappenAtDispatchLevel)
{
    const AtDispatchLevel dispatch;

    SystemLogWrite(system_log(), SystemEventFailPolicy, STATUS_QUOTA_EXCEEDED);
    EXPECT_THAT(Take(), SizeIs(1));
}

TEST_F(SystemLogTest, TheLongestNumbersFit)
{
    system_log()->Events[SystemEventEngineLost].Count = -2;
    SystemLogWrite(system_log(), SystemEventEngineLost, static_cast<NTSTATUS>(0xFFFFFFFF));
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(records, SizeIs(1));
    EXPECT_THAT(records[0].insertions, ElementsAre(u"\\Device\\NetVerdict", u"0xFFFFFFFF", u"4294967295"));
}

// ---- Where events happen

TEST_F(SystemLogTest, AFilterEngineThatStopsAndComesBackIsReported)
{
    machine_.wfp().SetServiceState(FWPM_SERVICE_STOPPED);
    machine_.Run();
    EXPECT_THAT(Codes(Take()), ElementsAre(kEngineLost));
    machine_.wfp().SetServiceState(FWPM_SERVICE_RUNNING);
    machine_.Run();
    EXPECT_THAT(Codes(Take()), ElementsAre(kEngineBack));
}

TEST_F(SystemLogTest, AFilterEngineThatLosesTheFiltersWithoutAStopIsReported)
{
    machine_.wfp().LoseSessions();
    machine_.Run();
    EXPECT_THAT(Codes(Take()), ElementsAre(kEngineLost, kEngineBack));
}

TEST_F(SystemLogTest, AFilterEngineThatRefusesTheFiltersIsReportedOnce)
{
    client_.Close();
    machine_.Run();
    machine_.wfp().Refuse(STATUS_ACCESS_DENIED, sim::wfp::kAddCall);
    EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
    Advance(10s);
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(Codes(records), ElementsAre(kEngineRefused));
    EXPECT_EQ(records[0].insertions[1], u"0xC0000022");
    machine_.wfp().Refuse(STATUS_SUCCESS);
    Advance(1s);
    EXPECT_THAT(Codes(Take()), ElementsAre(kEngineBack));
}

TEST_F(SystemLogTest, AFilterEngineThatStartsAfterTheDriverIsNotReported)
{
    client_.Close();
    Unload();
    machine_.wfp().SetServiceState(FWPM_SERVICE_STOPPED);
    ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
    machine_.Run();
    machine_.wfp().SetServiceState(FWPM_SERVICE_RUNNING);
    machine_.Run();
    EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(SystemLogTest, AClientThatDetachesWithAClosedFailPolicyIsReported)
{
    SetOptions(OPTION_FLAG_FAIL_CLOSED);
    EXPECT_THAT(Take(), IsEmpty());
    client_.Close();
    EXPECT_THAT(Codes(Take()), ElementsAre(kFailClosed));
}

TEST_F(SystemLogTest, AClientThatDetachesWithAnOpenFailPolicyIsNotReported)
{
    SetOptions(0);
    client_.Close();
    EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(SystemLogTest, AShutdownWithAClosedFailPolicyIsReportedOnce)
{
    SetOptions(OPTION_FLAG_FAIL_CLOSED);
    client_.Command(CommandShutdown);
    client_.Close();
    EXPECT_THAT(Codes(Take()), ElementsAre(kFailClosed));
    EXPECT_EQ(system_log()->Events[SystemEventFailClosed].Count, 0);
}

TEST_F(SystemLogTest, AClosedFailPolicyThatIsChosenAfterTheShutdownIsReported)
{
    client_.Command(CommandShutdown);
    EXPECT_THAT(Take(), IsEmpty());
    SetOptions(OPTION_FLAG_FAIL_CLOSED);
    EXPECT_THAT(Codes(Take()), ElementsAre(kFailClosed));
}

TEST_F(SystemLogTest, AnAttachedClientWithoutFiltersIsNotReportedAsAbsent)
{
    machine_.wfp().SetServiceState(FWPM_SERVICE_STOPPED);
    machine_.Run();
    EXPECT_THAT(Codes(Take()), ElementsAre(kEngineLost));
    SetOptions(OPTION_FLAG_FAIL_CLOSED);
    EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(SystemLogTest, AClientsCrashLoopWritesOneEntryAMinute)
{
    for (int i = 0; i < 30; i++)
    {
        SetOptions(OPTION_FLAG_FAIL_CLOSED);
        client_.Close();
        EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
    }
    EXPECT_THAT(Codes(Take()), ElementsAre(kFailClosed));
}

TEST_F(SystemLogTest, AFailPolicyThatALimitMakesDecideIsReported)
{
    context()->Connections.Connections.Quota.Most = 1;
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    EXPECT_THAT(Take(), IsEmpty());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(2))).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(3))).permitted());
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(Codes(records), ElementsAre(kFailPolicy));
    EXPECT_EQ(records[0].insertions[1], u"0xC0000246");
}

TEST_F(SystemLogTest, AFullEventQueueThatMakesTheFailPolicyDecideIsReported)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.MaxQueuedBytes = 64 * 1024;
    EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    // A reply that leaves 10 bytes.
    const IO_QUEUE_LOSS uncounted = {LossUncounted, 0};
    const ByteVector header = {0xFF, 0xF1, 0xFF, 0, 0};
    const ByteVector body(0xFFF1);
    const IO_QUEUE_PIECE pieces[] = {{header.data(), 5}, {body.data(), static_cast<UINT32>(body.size())}};
    ASSERT_EQ(IoQueuePush(&context()->Queue, pieces, 2, &uncounted), STATUS_SUCCESS);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).permitted());
    const std::vector<ErrorLogRecord> records = Take();
    ASSERT_THAT(Codes(records), ElementsAre(kFailPolicy));
    EXPECT_EQ(records[0].insertions[1], u"0x80000005");
}

TEST_F(SystemLogTest, MissingMemoryThatMakesTheFailPolicyDecideIsReported)
{
    unsigned reported = 0;

    for (uint16_t failing = 0; failing < 8; failing++)
    {
        Flow flow;

        flow.local.port = static_cast<uint16_t>(100 + failing);
        Advance(60s);
        machine_.faults().FailNth(failing);
        network_.Connect(flow);
        machine_.faults().Stop();
        for (const ErrorLogRecord &record : Take())
        {
            EXPECT_EQ(static_cast<uint32_t>(record.code), kFailPolicy);
            EXPECT_EQ(record.insertions[1], u"0xC000009A");
            reported++;
        }
    }
    EXPECT_GT(reported, 0u);
}

TEST_F(SystemLogTest, AnAttachedClientThatDecidesWritesNoEntry)
{
    Decide(Flow{}, VerdictPermanentBlock);
    network_.Outbound(MakePacket(Flow{}));
    network_.Close(Flow{});
    client_.Close();
    Unload();
    EXPECT_THAT(Take(), IsEmpty());
}

// ---- A start that fails

using SystemLogLoadTest = BareMachineTest;

TEST_F(SystemLogLoadTest, AStartThatFailsAtAnyCallIsReported)
{
    unsigned failed = 0;

    for (uint64_t failing = 0;; failing++)
    {
        machine_.faults().FailNth(failing);
        const NTSTATUS status = Load();
        const bool is_injected = machine_.faults().failures() != 0;
        machine_.faults().Stop();
        const std::vector<ErrorLogRecord> records = machine_.error_log().Take();

        if (NT_SUCCESS(status))
        {
            EXPECT_THAT(records, IsEmpty());
            Unload();
        }
        else
        {
            ASSERT_THAT(Codes(records), ElementsAre(kStartFailed)) << failing;
            EXPECT_EQ(records[0].final_status, status);
            EXPECT_EQ(records[0].insertions[0], u"\\Driver\\NetVerdict");
            failed++;
        }
        if (!is_injected)
        {
            break;
        }
    }
    EXPECT_GT(failed, 10u);
}

TEST_F(SystemLogLoadTest, AStartWhoseEntryIsRefusedFailsAsBefore)
{
    machine_.faults().FailAll();
    EXPECT_EQ(Load(), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    EXPECT_THAT(machine_.error_log().Take(), IsEmpty());
}

} // namespace
} // namespace kext_test

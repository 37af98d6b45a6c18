// When the driver's timer runs, and by which clock it fires.
#include "support/driver_test.h"

#include "nt/fault_injection.h"
#include "nt/scheduler.h"

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr uint64_t kSecond = PLATFORM_TICKS_PER_SECOND;
constexpr uint64_t kMillisecond = PLATFORM_TICKS_PER_MILLISECOND;

class MaintenanceTest : public DriverTest
{
  protected:
    explicit MaintenanceTest(const sim::MachineOptions &options = StandingClock()) : DriverTest(options) {}

    // The timers of the driver.
    size_t Timers() { return machine_.scheduler().DriverTimers().size(); }

    // What is left once the requested runs are over.
    std::string WorkLeft()
    {
        machine_.Run();
        return machine_.scheduler().DriverWorkLeft();
    }

    // From now until the driver's only timer is due, and from then until it has to fire.
    struct Window
    {
        uint64_t wait = 0;
        uint64_t tolerance = 0;
    };

    Window TimerWindow()
    {
        const auto timers = machine_.scheduler().DriverTimers();

        EXPECT_EQ(timers.size(), 1u);
        return timers.size() == 1
                   ? Window{timers[0].first - KeQueryUnbiasedInterruptTime(), timers[0].second - timers[0].first}
                   : Window{};
    }

    void Sleep(std::chrono::nanoseconds duration, sim::SleepKind kind = sim::SleepKind::kModernStandby)
    {
        client_.observer().OthersMayDecide();
        machine_.Sleep(duration, kind, timers_count_sleep_);
        machine_.Run();
    }

    void SetTimeout(uint32_t milliseconds)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.PendingTimeoutMs = milliseconds;
        options.TimeoutVerdict = VerdictPermanentAccept;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
        client_.observer().OthersMayDecide();
    }

    uint64_t Connections() { return client_.GetStatistics().Connections; }

    bool timers_count_sleep_ = false;
};

Flow WithPort(uint16_t port)
{
    Flow flow = UdpV4();

    flow.local.port = port;
    return flow;
}

// ---- The timer runs only while there is work

TEST_F(MaintenanceTest, WithAnIdleClientNoTimerRuns)
{
    EXPECT_EQ(WorkLeft(), "");
    SetTimeout(1000);
    EXPECT_EQ(WorkLeft(), "");
    client_.Read();
    client_.GetLogs();
    EXPECT_EQ(WorkLeft(), "");
}

TEST_F(MaintenanceTest, ATimerRunsFromTheFirstConnectionUntilItIsForgotten)
{
    Decide(Flow{}, VerdictPermanentAccept);
    EXPECT_EQ(TimerWindow().wait, 601 * kSecond);
    EXPECT_EQ(TimerWindow().tolerance, 5 * kSecond);
    Advance(606s);
    EXPECT_EQ(Connections(), 0u);
    EXPECT_EQ(WorkLeft(), "");
}

TEST_F(MaintenanceTest, AConnectionThatIsUsedIsLookedAtAgainWhenItMayBeIdle)
{
    Decide(Flow{}, VerdictPermanentAccept);
    Advance(500s);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
    Advance(106s);
    EXPECT_EQ(Connections(), 1u);
    EXPECT_EQ(TimerWindow().wait, (601 - 106) * kSecond);
}

TEST_F(MaintenanceTest, AnEndBringsTheTimerForward)
{
    Decide(Flow{}, VerdictPermanentAccept);
    Advance(10s);
    network_.Close(Flow{});
    EXPECT_EQ(TimerWindow().wait, 61 * kSecond);
    Advance(60s);
    EXPECT_EQ(Connections(), 1u);
    Advance(6s);
    EXPECT_EQ(Connections(), 0u);
    EXPECT_EQ(WorkLeft(), "");
}

TEST_F(MaintenanceTest, APortsReleaseBringsTheTimerForward)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    network_.Release(PROTOCOL_UDP, UdpV4().local);
    EXPECT_EQ(TimerWindow().wait, 61 * kSecond);
}

TEST_F(MaintenanceTest, ALaterEndDoesNotPutTheTimerOff)
{
    Decide(WithPort(1), VerdictPermanentAccept);
    Decide(WithPort(2), VerdictPermanentAccept);
    network_.Close(WithPort(1));
    Advance(50s);
    network_.Close(WithPort(2));
    EXPECT_EQ(TimerWindow().wait, 11 * kSecond);
    Advance(16s);
    EXPECT_EQ(Connections(), 1u);
    Advance(55s);
    EXPECT_EQ(Connections(), 0u);
    EXPECT_EQ(Timers(), 0u);
}

TEST_F(MaintenanceTest, AConnectionThatWaitsForItsVerdictIsLookedAtAgain)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    Advance(700s);
    EXPECT_EQ(Connections(), 1u);
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentAccept);
    Advance(590s);
    EXPECT_EQ(Connections(), 1u) << "it is used when its verdict comes";
    Advance(80s);
    EXPECT_EQ(Connections(), 0u);
    EXPECT_EQ(Timers(), 0u);
}

TEST_F(MaintenanceTest, AnEarlyRoundLeavesATimerForTheRest)
{
    Decide(Flow{}, VerdictPermanentAccept);
    DeferredRequest(&context()->Deferred, DEFERRED_DUE);
    DeferredQueue(&context()->Deferred);
    machine_.Run();
    EXPECT_EQ(TimerWindow().wait, 601 * kSecond);
}

TEST_F(MaintenanceTest, ManyRoundsCleanTheTablesOnceInFiveSeconds)
{
    SetTimeout(1000);
    Decide(Flow{}, VerdictPermanentAccept);
    network_.Close(Flow{});
    Advance(59s);
    // These time out, one round after the other, while the first connection becomes old.
    for (uint16_t port = 1; port <= 30; port++)
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(port))).absorbed());
        Advance(100ms);
    }
    Advance(9s);
    EXPECT_EQ(Connections(), 30u) << "the first is forgotten";
}

TEST_F(MaintenanceTest, AFragmentThatWaitsHasATimer)
{
    EXPECT_TRUE(network_.Outbound(Fragment(MakePacket(UdpV4(), false, Payload(40)), 24, 24)).absorbed());
    EXPECT_EQ(TimerWindow().wait, 1 * kSecond);
    EXPECT_LE(TimerWindow().tolerance, 250 * kMillisecond);
    Advance(1100ms);
    EXPECT_EQ(FragmentTableCount(&context()->Fragments), 0u);
    EXPECT_EQ(WorkLeft(), "");
}

TEST_F(MaintenanceTest, ARefusedInjectionHasATimer)
{
    Decide(UdpV4(), VerdictPermanentAccept);
    Decide(WithPort(1), VerdictAccept);
    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kFail, STATUS_FWP_TCPIP_NOT_READY});
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictAccept);
    EXPECT_EQ(TimerWindow().wait, 100 * kMillisecond);
    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kDeferred, STATUS_SUCCESS});
    Advance(200ms);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

TEST_F(MaintenanceTest, APacketThatIsRefusedAfterTheClientIsGoneIsResolvedToo)
{
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kDeferred, STATUS_FWP_TCPIP_NOT_READY});
    client_.Close();
    machine_.Run();
    machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kDeferred, STATUS_SUCCESS});
    network_.TakeInjected();
    Advance(200ms);
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
    EXPECT_EQ(WorkLeft(), "");
}

TEST_F(MaintenanceTest, ADetachStopsTheTimer)
{
    SetTimeout(1000);
    Decide(Flow{}, VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    EXPECT_EQ(Timers(), 1u);
    client_.Close();
    EXPECT_EQ(WorkLeft(), "");
}

TEST_F(MaintenanceTest, AShutdownStopsTheTimer)
{
    Decide(Flow{}, VerdictPermanentAccept);
    client_.Command(CommandShutdown);
    EXPECT_EQ(WorkLeft(), "");
}

// ---- Time-outs

TEST_F(MaintenanceTest, WithoutATimeoutAHeldPacketNeedsNoTimer)
{
    EXPECT_TRUE(network_.Outbound(MakePacket({PROTOCOL_ICMP, UdpV4().local, UdpV4().remote, 0})).absorbed());
    EXPECT_EQ(Timers(), 0u);
}

TEST_F(MaintenanceTest, ATimeoutIsNeverMoreThan200MsLate)
{
    SetTimeout(1000);
    for (uint16_t port = 1; port <= 40; port++)
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(port))).absorbed());
        Advance(37ms);
        const uint64_t held = client_.GetStatistics().PacketsHeld;
        // The packets of the last 1.2 seconds may be held, and no others.
        EXPECT_LE(held, 1200u / 37u + 1u);
    }
    Advance(1200ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

TEST_F(MaintenanceTest, ATimeoutIsNotEarly)
{
    SetTimeout(1000);
    EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(1))).absorbed());
    EXPECT_EQ(TimerWindow().wait, 1 * kSecond);
    EXPECT_EQ(TimerWindow().tolerance, 50 * kMillisecond);
    Advance(999ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
}

TEST_F(MaintenanceTest, ADeadlineIsInTimeBehindACoarserTimer)
{
    Decide(Flow{}, VerdictPermanentAccept);
    network_.Close(Flow{});
    Advance(60s);
    EXPECT_EQ(TimerWindow().wait, 1 * kSecond) << "due before the packet's deadline, but it may fire later";
    SetTimeout(2000);
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    EXPECT_EQ(TimerWindow().wait, 2 * kSecond);
    EXPECT_EQ(TimerWindow().tolerance, 50 * kMillisecond);
    Advance(2200ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

// ---- Sleep

TEST_F(MaintenanceTest, AHeldPacketsTimeoutDoesNotCountSleep)
{
    for (const bool timers_count : {false, true})
    {
        timers_count_sleep_ = timers_count;
        SetTimeout(1000);
        EXPECT_TRUE(network_.Outbound(MakePacket(WithPort(timers_count ? 2 : 1))).absorbed());
        Advance(500ms);
        Sleep(8h);
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
        Advance(499ms);
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
        Advance(201ms);
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    }
}

TEST_F(MaintenanceTest, TenMinutesOfSleepRemoveNoConnection)
{
    for (const sim::SleepKind kind : {sim::SleepKind::kModernStandby, sim::SleepKind::kStandby})
    {
        for (const bool timers_count : {false, true})
        {
            timers_count_sleep_ = timers_count;
            Decide(Flow{}, VerdictPermanentAccept);
            Decide(UdpV4(), VerdictPermanentBlock);
            Advance(5min);
            Sleep(11min, kind);
            EXPECT_EQ(Connections(), 2u);
            EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
            Advance(5min + 7s);
            EXPECT_EQ(Connections(), 1u) << "the one without a packet was idle for ten minutes";
            Advance(10min);
            EXPECT_EQ(Connections(), 0u);
        }
    }
}

TEST_F(MaintenanceTest, AnEndedConnectionIsForgottenAMinuteOfWorkAfterItsEnd)
{
    Decide(Flow{}, VerdictPermanentAccept);
    network_.Close(Flow{});
    Advance(30s);
    Sleep(8h);
    EXPECT_EQ(client_.Command(CommandCleanEndedConnections).status, STATUS_SUCCESS);
    EXPECT_EQ(Connections(), 1u);
    Advance(37s);
    EXPECT_EQ(Connections(), 0u);
}

TEST_F(MaintenanceTest, AFragmentWaitsForItsFirstOneAcrossASleep)
{
    const ByteVector packet = MakePacket(UdpV4(), false, Payload(40));

    Decide(UdpV4(), VerdictPermanentAccept);
    EXPECT_TRUE(network_.Outbound(Fragment(packet, 24, 24)).absorbed());
    Advance(500ms);
    Sleep(8h);
    EXPECT_TRUE(network_.Outbound(Fragment(packet, 0, 24)).permitted());
    EXPECT_EQ(network_.TakeInjected().size(), 1u);
}

TEST_F(MaintenanceTest, ARedirectionOutlivesASleep)
{
    Decide(UdpV4(), VerdictRedirectTunnel);
    EXPECT_EQ(RedirectTableCount(&context()->Redirects), 1u);
    Sleep(11min);
    EXPECT_EQ(client_.Command(CommandCleanEndedConnections).status, STATUS_SUCCESS);
    EXPECT_EQ(RedirectTableCount(&context()->Redirects), 1u);
    Advance(607s);
    EXPECT_EQ(RedirectTableCount(&context()->Redirects), 0u);
}

TEST_F(MaintenanceTest, TheFirstSecondAfterASleepIsLikeAnyOther)
{
    SetTimeout(1000);
    Decide(Flow{}, VerdictPermanentAccept);
    Sleep(8h, sim::SleepKind::kStandby);
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
    EXPECT_EQ(TimerWindow().wait, 1 * kSecond);
    Advance(999ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 1u);
    Advance(201ms);
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
}

// ---- Systems without the routines

class OldKernelTest : public MaintenanceTest
{
  protected:
    OldKernelTest() : MaintenanceTest(OldSystem()) {}

    static sim::MachineOptions OldSystem()
    {
        sim::MachineOptions options = StandingClock();

        options.missing_routines = {"KeQueryUnbiasedInterruptTime", "KeSetCoalescableTimer"};
        return options;
    }
};

TEST_F(OldKernelTest, TimersHaveNoTolerableDelay)
{
    Decide(Flow{}, VerdictPermanentAccept);
    EXPECT_EQ(TimerWindow().wait, 601 * kSecond);
    EXPECT_EQ(TimerWindow().tolerance, 0u);
    network_.Close(Flow{});
    Advance(62s);
    EXPECT_EQ(Connections(), 0u);
    EXPECT_EQ(Timers(), 0u);
}

TEST_F(OldKernelTest, TheClockCountsSleep)
{
    Decide(Flow{}, VerdictPermanentAccept);
    Sleep(11min);
    EXPECT_EQ(client_.Command(CommandCleanEndedConnections).status, STATUS_SUCCESS);
    EXPECT_EQ(Connections(), 0u);
}

} // namespace
} // namespace kext_test

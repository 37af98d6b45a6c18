// What each log level says: info names the life of the driver, debug each decision on a connection, and trace each
// packet that is not simply permitted.
#include "kext_test.h"

#include "support/commands.h"
#include "support/driver_test.h"

#include "nt/callback_object.h"
#include "nt/fault_injection.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

class LogContentTest : public DriverTest
{
  protected:
    LogContentTest() { options_ = Client::DefaultOptions(); }

  public:
    void SetOptions(const std::function<void(OPTIONS_WIRE *)> &change)
    {
        change(&options_);
        EXPECT_EQ(client_.SetOptions(options_), STATUS_SUCCESS);
    }

    void SetLevel(uint8_t level)
    {
        SetOptions([level](OPTIONS_WIRE *options) { options->LogLevel = level; });
    }

    void LimitConnections() { context()->Connections.Connections.Quota.Most = 1; }

    void LimitHeldPackets()
    {
        SetOptions([](OPTIONS_WIRE *options) { options->MaxHeldPackets = 1; });
    }

    void FailClosed()
    {
        SetOptions([](OPTIONS_WIRE *options) { options->Flags = OPTION_FLAG_FAIL_CLOSED; });
    }

    void Update(const Flow &flow, uint8_t verdict)
    {
        EXPECT_TRUE(NT_SUCCESS(client_.Write(UpdateBytes(flow, verdict)).status));
        network_.TakeReauthorized();
    }

    void Reattach()
    {
        client_.Close();
        EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
    }

    void SetService(FWPM_SERVICE_STATE state)
    {
        machine_.wfp().SetServiceState(state);
        machine_.Run();
    }

    void NotifyPower(bool awake)
    {
        client_.observer().OthersMayDecide();
        machine_.power_state().Notify(PO_CB_SYSTEM_STATE_LOCK, awake ? 1 : 0);
    }

    void RefuseInjections()
    {
        machine_.wfp().SetInjectionBehavior({sim::wfp::InjectionBehavior::kFail, STATUS_FWP_TCPIP_NOT_READY});
    }

    using DriverTest::Advance;
    using DriverTest::client_;
    using DriverTest::Decide;
    using DriverTest::network_;

  private:
    OPTIONS_WIRE options_;
};

Flow WithPort(uint16_t port)
{
    Flow flow = UdpV4();

    flow.local.port = port;
    return flow;
}

struct Case
{
    const char *name;
    uint8_t level; // LOG_SEVERITY
    std::function<void(LogContentTest *)> play;
    const char *line; // a regular expression
};

void PrintTo(const Case &row, std::ostream *out)
{
    *out << row.name;
}

const Case kCases[] = {
    {"AnAttach", LogSeverityInfo, [](LogContentTest *test) { test->Reattach(); }, "attached: process [0-9]+$"},
    {"ADetach", LogSeverityInfo, [](LogContentTest *test) { test->Reattach(); }, "detached: process [0-9]+$"},
    {"AShutdown", LogSeverityInfo,
     [](LogContentTest *test)
     {
         test->client_.Command(CommandShutdown);
         test->Reattach();
     },
     "stopped filtering: process [0-9]+$"},
    {"NewOptions", LogSeverityInfo, [](LogContentTest *test) { test->FailClosed(); },
     "options of process [0-9]+: flags 0x2, log level [0-9], payload limit [0-9]+, pending timeout 0 ms with verdict "
     "[A-Za-z]+, stall timeout 0 ms, ports 53, 717 and 719, at most [0-9]+ queued bytes, [0-9]+ held packets and [0-9]+ "
     "connections$"},
    {"TheEngineComesUp", LogSeverityInfo,
     [](LogContentTest *test)
     {
         test->SetService(FWPM_SERVICE_STOPPED);
         test->SetService(FWPM_SERVICE_RUNNING);
     },
     "The filter engine is up: the filters are in force$"},
    {"Sleep", LogSeverityInfo, [](LogContentTest *test) { test->NotifyPower(false); }, "The system goes to sleep$"},
    {"Resume", LogSeverityInfo, [](LogContentTest *test) { test->NotifyPower(true); }, "The system has resumed$"},

    {"AQuestion", LogSeverityDebug, [](LogContentTest *test) { test->network_.Connect(Flow{}); },
     "asked: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234, id [0-9]+$"},
    {"AQuestionOnAPacket", LogSeverityDebug, [](LogContentTest *test) { test->network_.Outbound(MakePacket(UdpV6())); },
     "asked: outbound UDP \\[2001:db8::[0-9a-f]+\\]:[0-9]+ -> \\[2001:db8::[0-9a-f]+\\]:[0-9]+, process 0, id [0-9]+$"},
    {"AQuestionOnAnAccept", LogSeverityDebug,
     [](LogContentTest *test)
     {
         const ByteVector packet = MakePacket(Flow{}, true);

         test->network_.Accept(Flow{}, &packet);
     },
     "asked: inbound TCP 198\\.51\\.100\\.7:443 -> 192\\.0\\.2\\.1:50000, process 1234, id [0-9]+$"},
    {"AVerdict", LogSeverityDebug, [](LogContentTest *test) { test->Decide(Flow{}, VerdictPermanentBlock); },
     "verdict PermanentBlock: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234, id [0-9]+$"},
    {"AnUpdate", LogSeverityDebug,
     [](LogContentTest *test)
     {
         test->Decide(Flow{}, VerdictPermanentBlock);
         test->Update(Flow{}, VerdictPermanentAccept);
     },
     "updated to verdict PermanentAccept: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234$"},
    {"AnEnd", LogSeverityDebug,
     [](LogContentTest *test)
     {
         test->Decide(Flow{}, VerdictPermanentAccept);
         test->network_.Close(Flow{});
     },
     "ended: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234$"},
    {"AnEndByItsPort", LogSeverityDebug,
     [](LogContentTest *test)
     {
         test->Decide(UdpV4(), VerdictPermanentAccept);
         test->network_.Release(PROTOCOL_UDP, UdpV4().local);
     },
     "ended: outbound UDP .* process 1234$"},
    {"ATimeout", LogSeverityDebug,
     [](LogContentTest *test)
     {
         test->SetOptions(
             [](OPTIONS_WIRE *options)
             {
                 options->PendingTimeoutMs = 100;
                 options->TimeoutVerdict = VerdictBlock;
             });
         test->client_.observer().OthersMayDecide();
         test->network_.Connect(Flow{});
         test->Advance(1s);
     },
     "timed out, verdict Block: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234, id [0-9]+$"},
    {"ARedirection", LogSeverityDebug, [](LogContentTest *test) { test->Decide(UdpV4(), VerdictRedirectNameServer); },
     "redirected: outbound UDP 192\\.0\\.2\\.1:[0-9]+ -> [0-9.:]+, process 1234, id [0-9]+, "
     "becomes outbound UDP 127\\.0\\.0\\.1:[0-9]+ -> 127\\.0\\.0\\.1:53$"},
    {"ADecisionOfTheFailPolicy", LogSeverityDebug,
     [](LogContentTest *test)
     {
         test->network_.Connect(Flow{});
         test->NotifyPower(false);
     },
     "fail policy, verdict Accept: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234, id "
     "[0-9]+$"},
    {"ABind", LogSeverityDebug, [](LogContentTest *test)
     { test->network_.Bind(PROTOCOL_TCP, V4(0, 0, 0, 0, 8080), 77); }, "Process 77 binds IPv4 protocol 6 port 8080$"},

    {"ABlockedPacket", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->Decide(Flow{}, VerdictPermanentBlock);
         EXPECT_TRUE(test->network_.Inbound(MakePacket(Flow{}, true)).blocked());
     },
     "blocked: inbound TCP 198\\.51\\.100\\.7:443 -> 192\\.0\\.2\\.1:50000, process 1234: verdict PermanentBlock$"},
    {"ADroppedPacket", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->Decide(Flow{}, VerdictPermanentDrop);
         EXPECT_TRUE(test->network_.Outbound(MakePacket(Flow{})).absorbed());
     },
     "dropped: outbound TCP 192\\.0\\.2\\.1:50000 -> 198\\.51\\.100\\.7:443, process 1234: verdict PermanentDrop$"},
    {"APacketOfAnEndedConnection", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->Decide(Flow{}, VerdictPermanentDrop);
         test->network_.Close(Flow{});
         EXPECT_TRUE(test->network_.Outbound(MakePacket(Flow{})).absorbed());
     },
     "dropped: outbound TCP .*, process 1234: the connection has ended, verdict PermanentDrop$"},
    {"ABlockedAuthorization", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->Decide(Flow{}, VerdictPermanentBlock);
         EXPECT_TRUE(test->network_.Connect(Flow{}).blocked());
     },
     "blocked: authorization of outbound TCP .*, process 1234: verdict PermanentBlock$"},
    {"AMalformedPacket", LogSeverityTrace,
     [](LogContentTest *test)
     {
         ByteVector packet = MakePacket(Flow{});

         packet[2] = 0xFF;
         EXPECT_TRUE(test->network_.Outbound(packet).blocked());
     },
     "blocked: outbound IPv4 packet: it is malformed$"},
    {"ARedirectedPacket", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->Decide(UdpV4(), VerdictPermanentAccept);
         test->Update(UdpV4(), VerdictRedirectTunnel);
         EXPECT_TRUE(test->network_.Outbound(MakePacket(UdpV4())).absorbed());
         test->network_.TakeInjected();
     },
     "redirected: outbound UDP 192\\.0\\.2\\.1:[0-9]+ -> [0-9.:]+ becomes outbound UDP 192\\.0\\.2\\.1:[0-9]+ -> "
     "192\\.0\\.2\\.1:717$"},
    {"AStrangersPacketOfARedirectedConnection", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->Decide(UdpV4(), VerdictRedirectTunnel);
         EXPECT_TRUE(test->network_.Inbound(MakePacket(UdpV4(), true)).absorbed());
     },
     "dropped: inbound UDP .*: its connection is redirected$"},
    {"AnEarlyFragment", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->client_.observer().OthersMayDecide();
         EXPECT_TRUE(test->network_.Outbound(Fragment(MakePacket(UdpV4(), false, Payload(40)), 24, 24)).absorbed());
     },
     "held: outbound UDP 192\\.0\\.2\\.1 -> [0-9.]+: a fragment that came before its datagram's first one$"},
    {"AFragmentOfARefusedDatagram", LogSeverityTrace,
     [](LogContentTest *test)
     {
         const ByteVector datagram = MakePacket(UdpV4(), false, Payload(40));

         test->Decide(UdpV4(), VerdictPermanentBlock);
         EXPECT_TRUE(test->network_.Outbound(Fragment(datagram, 0, 24)).blocked());
         EXPECT_FALSE(test->network_.Outbound(Fragment(datagram, 24, 24)).permitted());
     },
     "(blocked|dropped): outbound UDP 192\\.0\\.2\\.1 -> [0-9.]+: a fragment of a datagram that is not permitted$"},
    {"APacketThatTheStackRefuses", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->RefuseInjections();
         EXPECT_TRUE(test->network_.Outbound(MakePacket(UdpV4())).absorbed());
         test->client_.Verdict(test->client_.ReadQuestion().id, VerdictAccept);
     },
     "refused by the network stack: IPv4 packet of [0-9]+ bytes: status 0x[0-9a-f]{8}$"},
    {"APacketThatTheStackRefusesTwice", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->RefuseInjections();
         EXPECT_TRUE(test->network_.Outbound(MakePacket(UdpV4())).absorbed());
         test->client_.Verdict(test->client_.ReadQuestion().id, VerdictAccept);
         test->Advance(1s);
     },
     "dropped, not injected by the fail policy: IPv4 packet of [0-9]+ bytes: status 0x[0-9a-f]{8}$"},
    {"APacketThatTheOpenFailPolicyPermits", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->LimitConnections();
         test->network_.Outbound(MakePacket(WithPort(1)));
         EXPECT_TRUE(test->network_.Outbound(MakePacket(WithPort(2))).permitted());
     },
     "permitted by the fail policy: outbound UDP 192\\.0\\.2\\.1:2 -> .*: the connection table is full$"},
    {"APacketThatTheClosedFailPolicyBlocks", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->FailClosed();
         test->LimitConnections();
         test->network_.Outbound(MakePacket(WithPort(1)));
         EXPECT_TRUE(test->network_.Outbound(MakePacket(WithPort(2))).blocked());
     },
     "blocked by the fail policy: outbound UDP 192\\.0\\.2\\.1:2 -> .*: the connection table is full$"},
    {"APacketOfAnOwnerThatHoldsTooMuch", LogSeverityTrace,
     [](LogContentTest *test)
     {
         test->LimitHeldPackets();
         test->network_.Outbound(MakePacket(WithPort(1)));
         EXPECT_TRUE(test->network_.Outbound(MakePacket(WithPort(2))).blocked());
     },
     "refused: outbound UDP 192\\.0\\.2\\.1:2 -> .*: its owner holds too much$"},
};

class LogContentTableTest : public LogContentTest, public testing::WithParamInterface<Case>
{
  protected:
    // Returns the lines of what the case plays. The first options set the level.
    std::vector<std::string> LinesAt(uint8_t level)
    {
        SetLevel(level);
        (void)client_.GetLogs();
        GetParam().play(this);
        return client_.GetLogs();
    }
};

TEST_P(LogContentTableTest, IsWrittenAtItsLevel)
{
    EXPECT_THAT(LinesAt(GetParam().level), testing::Contains(testing::ContainsRegex(GetParam().line)));
}

TEST_P(LogContentTableTest, IsNotWrittenAtTheNextLevel)
{
    EXPECT_THAT(LinesAt(GetParam().level + 1),
                testing::Not(testing::Contains(testing::ContainsRegex(GetParam().line))));
}

INSTANTIATE_TEST_SUITE_P(Lines, LogContentTableTest, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case> &info) { return std::string(info.param.name); });

TEST_F(LogContentTest, APermittedPacketOfAKnownConnectionWritesNoLine)
{
    Decide(Flow{}, VerdictPermanentAccept);
    SetLevel(LogSeverityTrace);
    (void)client_.GetLogs();
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).permitted());
    EXPECT_TRUE(network_.Inbound(MakePacket(Flow{}, true)).permitted());
    EXPECT_THAT(client_.GetLogs(), testing::IsEmpty());
}

TEST_F(LogContentTest, LinesAreWrittenAtDispatchLevel)
{
    SetLevel(LogSeverityTrace);
    Decide(Flow{}, VerdictPermanentBlock);
    (void)client_.GetLogs();
    {
        const AtDispatchLevel dispatch;

        EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).absorbed());
        EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).blocked());
        network_.Close(Flow{});
    }
    EXPECT_THAT(client_.GetLogs(), testing::IsSupersetOf({testing::HasSubstr("asked:"), testing::HasSubstr("blocked:"),
                                                          testing::HasSubstr("ended:")}));
}

// The ring keeps the newest lines of a flood, and no packet waits for a reader.
TEST_F(LogContentTest, AFloodAtTraceOverwritesOldLines)
{
    constexpr size_t kPackets = 3 * LOG_LINE_COUNT;

    SetLevel(LogSeverityTrace);
    Decide(Flow{}, VerdictPermanentBlock);
    (void)client_.GetLogs();
    for (size_t i = 0; i < kPackets; i++)
    {
        EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).blocked());
    }
    EXPECT_EQ(client_.GetLogs().size(), size_t{LOG_LINE_COUNT});
    EXPECT_THAT(client_.GetLogs(), testing::Contains(testing::ContainsRegex(std::to_string(kPackets - LOG_LINE_COUNT) +
                                                                            " log lines were overwritten")));
}

} // namespace
} // namespace kext_test

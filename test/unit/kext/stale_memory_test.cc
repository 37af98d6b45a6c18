// The driver writes every byte that the client gets: no stale kernel memory leaves the driver.
// Each test runs the driver twice with fresh memory of different bytes, so that an unwritten byte differs.
// The compiler fills new stack variables with a pattern that no record contains.
#include "support/driver_test.h"

#include "nt/pool.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>
#include <utility>

namespace
{

using namespace kext_test;

#if defined(__clang__)
constexpr uint8_t kStaleVariable = 0xAA;
#else
constexpr uint8_t kStaleVariable = 0xFE;
#endif

// More than fit into the chunks that the event queue keeps. The ids after them have no byte like a pattern.
constexpr size_t kDirtyPackets = 432;

class Session
{
  public:
    explicit Session(uint8_t stale)
        : machine_(StandingClock()), scope_(machine_), network_(machine_), driver_(machine_), client_(machine_)
    {
        machine_.pool().SetFreshByte(stale);
        EXPECT_EQ(driver_.Load(), STATUS_SUCCESS);
        EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
        SetOptions([](OPTIONS_WIRE *) {});
        DirtyTheEventQueue(stale);
    }

    ByteVector EveryRecord()
    {
        for (const Flow &flow : {Flow{}, TcpV6(), UdpV4(), UdpV6()})
        {
            AskAbout(flow);
        }
        ReportBandwidth();
        EndConnections();
        LetTimePass();
        LoseEvents();
        WriteLog();
        return std::move(stream_);
    }

    ByteVector EveryAnswer()
    {
        ByteVector answers;

        for (uint32_t code :
             {IOCTL_NETVERDICT_VERSION, IOCTL_NETVERDICT_GET_CAPABILITIES, IOCTL_NETVERDICT_GET_STATISTICS})
        {
            ByteVector out(sizeof(STATISTICS_WIRE));

            EXPECT_EQ(client_.Control(code, {}, &out).status, STATUS_SUCCESS);
            answers.insert(answers.end(), out.begin(), out.end());
        }
        return answers;
    }

  private:
    template <typename Change> void SetOptions(const Change &change)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
        options.LogLevel = LogSeverityTrace;
        change(&options);
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    // Later records go to reused chunks, which hold old records instead of fresh memory.
    void DirtyTheEventQueue(uint8_t stale)
    {
        const ByteVector packet = MakePacket(UdpV4(), false, ByteVector(1400, stale));

        for (size_t i = 0; i < kDirtyPackets; i++)
        {
            network_.Outbound(packet);
        }
        EXPECT_EQ(client_.ReadQuestions().size(), kDirtyPackets);
        EXPECT_EQ(client_.Command(CommandClearCache).status, STATUS_SUCCESS);
        EXPECT_EQ(client_.Command(CommandGetLogs).status, STATUS_SUCCESS);
        client_.ReadBytes();
    }

    void Read()
    {
        const ByteVector bytes = client_.ReadBytes();

        stream_.insert(stream_.end(), bytes.begin(), bytes.end());
    }

    void AskAbout(const Flow &flow)
    {
        const ByteVector packet = MakePacket(flow);
        AleOptions options;

        options.process_path = u"\\device\\harddiskvolume1\\program.exe";
        network_.Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet, options);
        network_.Outbound(packet);
        network_.Outbound(MakePacket({PROTOCOL_ICMP, flow.local, flow.remote, 0}));
        Read();
    }

    void ReportBandwidth()
    {
        for (const Flow &flow : {Flow{}, TcpV6()})
        {
            network_.Stream(flow, false, 1000);
            network_.Stream(flow, true, 2000);
        }
        for (const Flow &flow : {UdpV4(), UdpV6()})
        {
            network_.Datagrams(flow, false, {{MakePacket(flow)}});
        }
        EXPECT_EQ(client_.Command(CommandGetBandwidthStats).status, STATUS_SUCCESS);
        Read();
    }

    void EndConnections()
    {
        for (const Flow &flow : {Flow{}, TcpV6(), UdpV4(), UdpV6()})
        {
            network_.Close(flow);
        }
        Read();
    }

    void LetTimePass()
    {
        SetOptions(
            [](OPTIONS_WIRE *options)
            {
                options->PendingTimeoutMs = 1000;
                options->TimeoutVerdict = VerdictBlock;
            });
        network_.Outbound(MakePacket({PROTOCOL_ICMP, UdpV4().local, UdpV4().remote, 0}));
        machine_.clock().Advance(std::chrono::seconds(5));
        machine_.Run();
        Read();
    }

    void LoseEvents()
    {
        SetOptions([](OPTIONS_WIRE *options) { options->MaxQueuedBytes = OPTIONS_LEAST_MAX_QUEUED_BYTES; });
        for (int i = 0; i < 60; i++)
        {
            network_.Outbound(MakePacket({PROTOCOL_ICMP, UdpV4().local, UdpV4().remote, 0}, false, Payload(1400)));
        }
        Read();
        SetOptions([](OPTIONS_WIRE *) {});
    }

    void WriteLog()
    {
        EXPECT_EQ(client_.Verdict(UINT64_MAX, VerdictAccept).status, STATUS_SUCCESS);
        EXPECT_EQ(client_.Command(CommandPrintMemoryStats).status, STATUS_SUCCESS);
        EXPECT_EQ(client_.Command(CommandGetLogs).status, STATUS_SUCCESS);
        Read();
    }

    sim::Machine machine_;
    sim::Machine::Scope scope_;
    Network network_;
    DriverLoader driver_;
    Client client_;
    ByteVector stream_;
};

// The bytes of a table depend on its hash key, which is random. So numbers of log lines are not compared.
ByteVector Comparable(const Record &record)
{
    ByteVector body = record.body;

    if (record.type == InfoLogLine)
    {
        const auto digit = [](uint8_t byte) { return byte >= '0' && byte <= '9'; };

        body.erase(std::remove_if(body.begin(), body.end(), digit), body.end());
    }
    return body;
}

TEST(StaleMemoryTest, EveryByteOfEveryRecordIsWritten)
{
    const std::vector<Record> first = AllRecords(Session(0xAA).EveryRecord());
    const std::vector<Record> second = AllRecords(Session(0x55).EveryRecord());
    std::set<int> types;

    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); i++)
    {
        EXPECT_EQ(first[i].type, second[i].type) << "record " << i;
        EXPECT_EQ(Comparable(first[i]), Comparable(second[i])) << "record " << i << " of type " << int{first[i].type};
        EXPECT_THAT(first[i].body, testing::Not(testing::Contains(kStaleVariable)))
            << "record " << i << " of type " << int{first[i].type};
        types.insert(first[i].type);
    }
    EXPECT_EQ(types, (std::set<int>{InfoLogLine, InfoConnectionV4, InfoConnectionV6, InfoConnectionEndV4,
                                    InfoConnectionEndV6, InfoBandwidthStatsV4, InfoBandwidthStatsV6, InfoEventsLost,
                                    InfoReplyEnd, InfoProcessInfo, InfoConnectionTimeout}));
}

TEST(StaleMemoryTest, EveryByteOfEveryReplyIsWritten)
{
    const ByteVector answers = Session(0xAA).EveryAnswer();

    EXPECT_EQ(answers, Session(0x55).EveryAnswer());
    // One byte of a counter may equal the pattern by chance.
    EXPECT_EQ(std::search_n(answers.begin(), answers.end(), 2, kStaleVariable), answers.end());
}

} // namespace

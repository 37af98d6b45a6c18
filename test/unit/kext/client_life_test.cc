// Many clients attach to one driver, one after the other, like an application that restarts for months.
// A client finds nothing that an earlier one left, and the driver's memory does not grow.
#include "support/driver_test.h"

namespace kext_test
{
namespace
{

class ClientLifeTest : public DriverTest
{
  protected:
    // Makes the driver remember all that a client can make it remember.
    void Live(unsigned life)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags |= OPTION_FLAG_EXTENDED_RECORDS;
        options.LogLevel = LogSeverityDebug;
        options.MaxQueuedBytes = 1u << 16;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
        for (uint16_t port = 50000; port < 50100; port++)
        {
            Connect(port, life);
        }
        network_.Outbound(Fragment(MakePacket(UdpV4(), false, Payload(64)), 0, 24, life + 1));
        network_.Inbound(Fragment(MakePacket(UdpV4(), true, Payload(64)), 24, 24, life + 1));
        Decide(life % 3 == 0 ? 50 : 1000);
        network_.TakeInjected();
    }

    void Connect(uint16_t port, unsigned life)
    {
        Flow flow = port % 2 == 0 ? UdpV4() : TcpV6();
        const ByteVector packet = MakePacket(flow);
        AleOptions options;

        flow.local.port = port;
        flow.process_id = port + life;
        options.process_path = u"\\device\\app.exe";
        network_.Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet, options);
        network_.Outbound(MakePacket(flow));
        network_.Stream(TcpV6(), false, 100);
        if (port % 8 == 0)
        {
            network_.Close(flow);
        }
    }

    // Decides some questions, with every verdict. The others stay held.
    void Decide(size_t most)
    {
        for (const Question &question : client_.ReadQuestions())
        {
            if (most-- == 0)
            {
                return;
            }
            client_.Verdict(question.id, static_cast<uint8_t>(question.id % VerdictCount));
        }
    }

    void Leave(unsigned life)
    {
        if (life % 2 == 0)
        {
            client_.Command(CommandShutdown);
        }
        client_.Close();
        network_.TakeInjected();
        network_.TakeReauthorized();
    }

    uint64_t PoolBytes() { return MemoryBytes(&context()->Memory); }
};

TEST_F(ClientLifeTest, EveryClientLeavesTheSameMemoryInUse)
{
    constexpr unsigned kLives = 60;
    uint64_t idle = 0;

    for (unsigned life = 0; life < kLives; life++)
    {
        if (life != 0)
        {
            ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
        }
        Live(life);
        EXPECT_GT(PoolBytes(), idle);
        Leave(life);
        if (life == 0)
        {
            idle = PoolBytes(); // includes the list heads of the ports that all clients use
        }
        ASSERT_EQ(PoolBytes(), idle) << "after client " << life;
    }
}

TEST_F(ClientLifeTest, AClientGetsNoRecordOfTheClientBefore)
{
    Live(0);
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    EXPECT_TRUE(client_.Read().empty());
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
    EXPECT_EQ(client_.GetStatistics().Connections, 0u);
    EXPECT_EQ(client_.GetStatistics().BandwidthEntries, 0u);
}

} // namespace
} // namespace kext_test

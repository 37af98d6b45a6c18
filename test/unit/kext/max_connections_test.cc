// The option maxConnections: how many connections the driver remembers for its client.

#include "support/driver_test.h"
#include "support/flood.h"
#include "support/wire_records.h"

namespace kext_test
{
namespace
{

class MaxConnectionsTest : public DriverTest
{
  protected:
    MaxConnectionsTest() : answerer_(client_, VerdictPermanentAccept) {}

    void SetMaxConnections(uint32_t most, uint32_t flags = OPTION_FLAG_EXTENDED_RECORDS)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = flags;
        options.MaxConnections = most;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    // Datagrams to this many destinations, all permitted.
    void Send(uint32_t count)
    {
        for (uint32_t n = 0; n < count; n++)
        {
            const Flow flow = OneSocketToMany(n, false);
            const ByteVector packet = MakePacket(flow);

            EXPECT_TRUE(network_.Connect(flow, &packet).pended());
        }
        answerer_.Answer();
        network_.TakeInjected();
    }

    uint64_t Count() { return client_.GetStatistics().Connections; }

    Answerer answerer_;
};

TEST_F(MaxConnectionsTest, ALowerLimitEvictsInSteps)
{
    SetMaxConnections(0);
    Send(10'000);
    EXPECT_EQ(Count(), 10'000u);

    SetMaxConnections(4096);
    EXPECT_EQ(Count(), 10'000u) << "the client does not wait";
    machine_.Run();
    EXPECT_EQ(Count(), 4096u);
    EXPECT_EQ(answerer_.Answer().ends, 10'000u - 4096u);
}

TEST_F(MaxConnectionsTest, WhatWaitsAboveALowerLimitIsEvictedOnceItIsDecided)
{
    SetMaxConnections(0);
    for (uint32_t n = 0; n < 6000; n++)
    {
        EXPECT_TRUE(network_.Connect(Scan(n, false)).pended());
    }
    SetMaxConnections(4096);
    machine_.Run();
    EXPECT_EQ(Count(), 6000u);

    answerer_.Answer();
    Advance(std::chrono::seconds(2));
    machine_.Run();
    EXPECT_EQ(Count(), 4096u);
}

TEST_F(MaxConnectionsTest, TheNextClientGetsTheDefaultLimit)
{
    SetMaxConnections(4096);
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    machine_.Run();
    network_.TakeReauthorized();
    Send(5000);
    EXPECT_EQ(Count(), 5000u);
}

// All 3072 are embryonic, so the next one makes room.
TEST_F(MaxConnectionsTest, AnEvictedConnectionIsReportedAsEnded)
{
    SetMaxConnections(4096, OPTION_FLAG_EXTENDED_RECORDS | OPTION_FLAG_CONNECTION_INFO);
    Send(3072);
    EXPECT_EQ(answerer_.ends(), 0u);
    for (uint32_t n = 4000; n < 8000; n++)
    {
        const Flow flow = OneSocketToMany(n, false);
        const ByteVector packet = MakePacket(flow);

        EXPECT_TRUE(network_.Connect(flow, &packet).pended());
        if (const auto ends = client_.ReadType(InfoConnectionEnded); !ends.empty())
        {
            EXPECT_EQ(ends[0].At<uint8_t>(sizeof(CONNECTION_ENDED_WIRE) - sizeof(INFO_HEADER_WIRE) - 1),
                      EndReasonEvicted);
            return;
        }
    }
    FAIL() << "nothing was evicted";
}

TEST_F(MaxConnectionsTest, ABaseClientGetsTheEndOfAnEvictedConnection)
{
    client_.Close();
    ASSERT_EQ(client_.Open(), STATUS_SUCCESS);
    machine_.Run();
    network_.TakeReauthorized();
    (void)ConnectionTableSetLimit(&context()->Connections, 4096);
    Send(3072);
    for (uint32_t n = 4000; n < 6000; n++)
    {
        const Flow flow = OneSocketToMany(n, false);
        const ByteVector packet = MakePacket(flow);

        network_.Connect(flow, &packet);
    }
    EXPECT_GT(answerer_.Answer().ends, 0u);
}

} // namespace
} // namespace kext_test

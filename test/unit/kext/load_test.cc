#include "driver_fixture.h"

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

// Without the verifier, whose guards would cost more than the driver.
sim::MachineOptions Fast()
{
    sim::MachineOptions options = StandingClock();

    options.verifier = false;
    return options;
}

// 50,000 connections a second, for 10 seconds: a port scan from outside, or a torrent client's peers.
class LoadTest : public DriverTest
{
  protected:
    static constexpr uint32_t kPerSecond = 50'000;
    static constexpr uint32_t kSeconds = 10;
    // As many as the queue of events has room for.
    static constexpr uint32_t kBatch = 10'000;

    LoadTest() : DriverTest(Fast()) {}

    static Flow Numbered(uint32_t number)
    {
        Flow flow;

        flow.remote = V4(10, static_cast<uint8_t>(number >> 16), static_cast<uint8_t>(number >> 8),
                         static_cast<uint8_t>(number), 6881);
        return flow;
    }

    // Reads a batch of records, all of the one type, without taking each apart: returns their bytes.
    template <typename Wire> ByteVector ReadBatch(uint8_t type)
    {
        const ByteVector stream = client_.ReadBytes();

        EXPECT_EQ(stream.size(), kBatch * sizeof(Wire));
        for (size_t at = 0; at < stream.size(); at += sizeof(Wire))
        {
            EXPECT_EQ(stream[at], type);
        }
        return stream;
    }

    void Answer(uint8_t verdict)
    {
        const ByteVector questions = ReadBatch<CONNECTION_V4_WIRE>(InfoConnectionV4);
        ByteVector verdicts;

        for (size_t at = 0; at < questions.size(); at += sizeof(CONNECTION_V4_WIRE))
        {
            COMMAND_VERDICT_WIRE wire{CommandVerdict, 0, verdict};
            const auto *bytes = reinterpret_cast<const uint8_t *>(&wire);

            std::memcpy(&wire.Id, questions.data() + at + offsetof(CONNECTION_V4_WIRE, Id), sizeof(wire.Id));
            verdicts.insert(verdicts.end(), bytes, bytes + sizeof(wire));
            if (verdicts.size() == PROTOCOL_MAX_COMMANDS_PER_WRITE * sizeof(wire))
            {
                Write(&verdicts);
            }
        }
        Write(&verdicts);
    }

    // `each` makes one connection.
    template <typename Each> void Run(uint8_t verdict, const Each &each)
    {
        for (uint32_t number = 0; number < kSeconds * kPerSecond; number++)
        {
            each(Numbered(number));
            if ((number + 1) % kBatch == 0)
            {
                Answer(verdict);
            }
            if ((number + 1) % kPerSecond == 0)
            {
                Advance(1s);
            }
        }
    }

    // Once it is over nothing of it is left.
    void ExpectQuiet(uint64_t pool_bytes_before)
    {
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
        EXPECT_EQ(client_.GetStatistics().EventsLost, 0u);
        // One round of maintenance at the end of the time, not hundreds on the way.
        MaintenanceStop(context());
        Advance(11min);
        MaintenanceStart(context());
        Advance(2s);
        client_.Read();
        EXPECT_EQ(client_.GetStatistics().Connections, 0u);
        EXPECT_LT(client_.GetStatistics().PoolBytes, pool_bytes_before + 4 * 1024 * 1024);
    }

  private:
    void Write(ByteVector *commands)
    {
        if (!commands->empty())
        {
            ASSERT_EQ(client_.Write(*commands).status, STATUS_SUCCESS);
            commands->clear();
        }
    }
};

TEST_F(LoadTest, ATorrentsConnectionsAreAllAskedAboutAndForgottenAfterTheirEnds)
{
    const uint64_t before = client_.GetStatistics().PoolBytes;

    Run(VerdictPermanentAccept, [this](const Flow &flow) { EXPECT_TRUE(network_.Connect(flow).pended()); });
    EXPECT_EQ(client_.GetStatistics().Connections, uint64_t{kSeconds} * kPerSecond);
    for (uint32_t number = 0; number < kSeconds * kPerSecond; number++)
    {
        network_.Close(Numbered(number));
        if ((number + 1) % kBatch == 0)
        {
            ReadBatch<CONNECTION_END_V4_WIRE>(InfoConnectionEndV4); // each told once
        }
    }
    ExpectQuiet(before);
}

TEST_F(LoadTest, APortScansConnectionsAreAllBlockedAndForgotten)
{
    const uint64_t before = client_.GetStatistics().PoolBytes;

    Run(VerdictPermanentBlock, [this](const Flow &flow) { EXPECT_TRUE(network_.Accept(flow, nullptr).pended()); });
    EXPECT_TRUE(network_.Accept(Numbered(kPerSecond), nullptr).blocked());
    ExpectQuiet(before);
}

} // namespace
} // namespace kext_test

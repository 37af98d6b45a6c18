#include "support/driver_test.h"
#include "support/wire_records.h"

#include "net/ip_packet.h"

#include <cstring>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

// 50,000 connections a second for 10 seconds, like a port scan or the peers of a torrent client.
class LoadLongTest : public DriverTest
{
  protected:
    static constexpr uint32_t kPerSecond = 50'000;
    static constexpr uint32_t kSeconds = 10;
    // The event queue has room for one batch.
    static constexpr uint32_t kBatch = 10'000;

    static Flow Numbered(uint32_t number)
    {
        Flow flow;

        flow.remote = V4(10, static_cast<uint8_t>(number >> 16), static_cast<uint8_t>(number >> 8),
                         static_cast<uint8_t>(number), 6881);
        return flow;
    }

    // Each address of the scanner probes every port.
    static Flow Probe(uint32_t number)
    {
        Flow flow;

        flow.local.port = static_cast<uint16_t>(1 + number % 65'535);
        flow.remote = V4(203, 0, 113, static_cast<uint8_t>(number / 65'535), 40'000);
        return flow;
    }

    static ByteVector Syn(const Flow &flow)
    {
        ByteVector packet(40);

        EXPECT_EQ(
            sim::net::WriteTcpPacket(packet.data(), flow.remote, flow.local, {1, 0, sim::net::kTcpSyn}, nullptr, 0),
            packet.size());
        return packet;
    }

    // Reads one batch of records of the same type and length. Returns their bytes.
    ByteVector ReadBatch(uint8_t type, size_t length)
    {
        const ByteVector stream = client_.ReadBytes();

        EXPECT_EQ(stream.size(), kBatch * length);
        for (size_t at = 0; at < stream.size(); at += length)
        {
            EXPECT_EQ(stream[at], type);
        }
        return stream;
    }

    void Answer(uint8_t verdict, size_t payload)
    {
        const size_t length = sizeof(CONNECTION_V4_WIRE) + payload;
        const ByteVector questions = ReadBatch(InfoConnectionV4, length);
        ByteVector verdicts;

        for (size_t at = 0; at < questions.size(); at += length)
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

    // `each` makes connection `number`. Its record has `payload` bytes of payload.
    template <typename Each> void Run(uint8_t verdict, size_t payload, const Each &each)
    {
        for (uint32_t number = 0; number < kSeconds * kPerSecond; number++)
        {
            each(number);
            if ((number + 1) % kBatch == 0)
            {
                Answer(verdict, payload);
            }
            if ((number + 1) % kPerSecond == 0)
            {
                Advance(1s);
            }
        }
    }

    // Nothing of the load is left after its end.
    void ExpectQuiet(uint64_t pool_bytes_before)
    {
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
        EXPECT_EQ(client_.GetStatistics().EventsLost, 0u);
        Advance(11min);
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

TEST_F(LoadLongTest, ATorrentsConnectionsAreAllReportedAndForgottenAfterTheirEnds)
{
    const uint64_t before = client_.GetStatistics().PoolBytes;

    Run(VerdictPermanentAccept, 0,
        [this](uint32_t number) { EXPECT_TRUE(network_.Connect(Numbered(number)).pended()); });
    EXPECT_EQ(client_.GetStatistics().Connections, uint64_t{kSeconds} * kPerSecond);
    for (uint32_t number = 0; number < kSeconds * kPerSecond; number++)
    {
        network_.Close(Numbered(number));
        if ((number + 1) % kBatch == 0)
        {
            ReadBatch(InfoConnectionEndV4, sizeof(CONNECTION_END_V4_WIRE)); // each is reported once
        }
    }
    ExpectQuiet(before);
}

TEST_F(LoadLongTest, APortScansConnectionsAreAllBlockedAndForgotten)
{
    const uint64_t before = client_.GetStatistics().PoolBytes;

    const auto probe = [this](uint32_t number)
    {
        const Flow flow = Probe(number);
        const ByteVector syn = Syn(flow);

        return network_.Accept(flow, &syn);
    };

    Run(VerdictPermanentBlock, 20, [&](uint32_t number) { EXPECT_TRUE(probe(number).pended()); });
    EXPECT_TRUE(probe(kPerSecond).blocked());
    EXPECT_TRUE(network_.TakeInjected().empty());
    ExpectQuiet(before);
}

TEST_F(LoadLongTest, AMillionOperationsAreHeldAndNotOneMore)
{
    constexpr uint32_t kMany = 1'000'000;
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.MaxHeldPackets = kMany;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    for (uint32_t number = 0; number < kMany; number++)
    {
        ASSERT_TRUE(network_.Connect(Numbered(number)).pended());
        if ((number + 1) % kBatch == 0)
        {
            ReadBatch(InfoConnectionV4, sizeof(CONNECTION_V4_WIRE));
        }
    }
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, kMany);

    const Network::Answer one_more = network_.Connect(Numbered(kMany));
    EXPECT_TRUE(client_.ReadQuestions().empty());
    EXPECT_TRUE(one_more.blocked()) << "its owner holds everything";
    EXPECT_EQ(client_.GetStatistics().PacketsHeld, kMany);
    EXPECT_EQ(client_.GetStatistics().EventsLost, 1u);

    client_.Close();
    EXPECT_EQ(machine_.wfp().counters().pended_now, 0u);
    EXPECT_EQ(PacketCacheCount(&context()->Packets), 0u);
}

} // namespace
} // namespace kext_test

// Each loss names its reason, and the process that it is about.

#include "support/driver_test.h"

#include "nt/fault_injection.h"

#include <gmock/gmock.h>

namespace kext_test
{
namespace
{

using testing::ElementsAre;
using testing::IsEmpty;

struct Loss
{
    uint64_t count;
    uint8_t reason;
    uint64_t process_id;

    bool operator==(const Loss &other) const
    {
        return count == other.count && reason == other.reason && process_id == other.process_id;
    }
};

void PrintTo(const Loss &loss, std::ostream *out)
{
    *out << loss.count << " for reason " << int{loss.reason} << " of process " << loss.process_id;
}

constexpr uint64_t kProcess = 4242;
constexpr uint64_t kOther = 812;

class LossTest : public DriverTest
{
  protected:
    LossTest()
    {
        SetOptions([](OPTIONS_WIRE *) {});
    }

    void SetOptions(const std::function<void(OPTIONS_WIRE *)> &change)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags |= OPTION_FLAG_EXTENDED_RECORDS;
        change(&options);
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static Flow WithPort(uint16_t port)
    {
        Flow flow;

        flow.local.port = port;
        return flow;
    }

    Network::Answer Connect(uint16_t port, uint64_t process_id = kProcess)
    {
        Flow flow = WithPort(port);

        flow.process_id = process_id;
        return network_.Connect(flow);
    }

    std::vector<Loss> Losses()
    {
        std::vector<Loss> losses;

        for (const Record &record : client_.ReadType(InfoEventsLost))
        {
            losses.push_back({record.At<uint64_t>(0), record.At<uint8_t>(8), record.At<uint64_t>(9)});
        }
        return losses;
    }
};

TEST_F(LossTest, ARefusedQuestionNamesItsProcess)
{
    SetOptions([](OPTIONS_WIRE *options) { options->MaxHeldPackets = 1; });
    Connect(1);
    client_.Read();
    Connect(2, kOther);
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossOwnerShare, kProcess}));
}

TEST_F(LossTest, AFullConnectionTableIsNotAShare)
{
    context()->Connections.Connections.Quota.Most = 1;
    Connect(1, kOther);
    client_.Read();
    Connect(2);
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossConnectionLimit, kProcess}));
}

TEST_F(LossTest, APacketThatAFullConnectionTableHasNoRoomForIsOfNoKnownProcess)
{
    context()->Connections.Connections.Quota.Most = 0;
    EXPECT_TRUE(network_.Outbound(MakePacket(UdpV4())).permitted());
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossConnectionLimit, 0}));
}

TEST_F(LossTest, MissingMemoryNamesTheProcess)
{
    Connect(1, kOther);
    client_.Read();
    machine_.faults().FailAll();
    Connect(2);
    machine_.faults().Stop();
    Connect(3, kOther);
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossOutOfMemory, kProcess}));
}

TEST_F(LossTest, AFullEventQueueNamesTheProcessOfTheQuestion)
{
    SetOptions([](OPTIONS_WIRE *options) { options->MaxQueuedBytes = 64 * 1024; });
    for (uint16_t port = 1; port <= 2000; port++)
    {
        Connect(port);
    }
    const std::vector<Loss> losses = Losses();
    ASSERT_EQ(losses.size(), 1u);
    EXPECT_EQ(losses[0].reason, LossOwnerShare);
    EXPECT_EQ(losses[0].process_id, kProcess);
}

TEST_F(LossTest, AFullEventQueueNamesTheProcessOfAnEnd)
{
    Connect(1);
    machine_.Run();
    client_.Read();
    SetOptions([](OPTIONS_WIRE *options) { options->MaxQueuedBytes = 64 * 1024; });
    // A record that leaves 10 bytes.
    const IO_QUEUE_LOSS uncounted = {LossUncounted, 0};
    const ByteVector header = {0xFF, 0xF1, 0xFF, 0, 0};
    const ByteVector body(0xFFF1);
    const IO_QUEUE_PIECE pieces[] = {{header.data(), 5}, {body.data(), static_cast<UINT32>(body.size())}};
    ASSERT_EQ(IoQueuePush(&context()->Queue, pieces, 2, &uncounted), STATUS_SUCCESS);

    network_.Close(WithPort(1));
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossQueueFull, kProcess}));
}

TEST_F(LossTest, LossesOfSeveralProcessesNameNone)
{
    Connect(1);
    IoQueueReportLost(&context()->Queue, 1, LossOwnerShare, kProcess);
    IoQueueReportLost(&context()->Queue, 1, LossFragmentLimit, kOther);
    IoQueueReportLost(&context()->Queue, 1, LossOwnerShare, kOther);
    IoQueueReportLost(&context()->Queue, 1, LossOwnerShare, kProcess);
    IoQueueReportLost(&context()->Queue, 2, LossFragmentLimit, kOther);
    EXPECT_THAT(Losses(), ElementsAre(Loss{3, LossOwnerShare, 0}, Loss{3, LossFragmentLimit, kOther}));
}

TEST_F(LossTest, TheNextReportForgetsTheProcessesOfTheOneBefore)
{
    Connect(1);
    IoQueueReportLost(&context()->Queue, 1, LossFragmentLimit, kProcess);
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossFragmentLimit, kProcess}));
    IoQueueReportLost(&context()->Queue, 1, LossFragmentLimit, kOther);
    EXPECT_THAT(Losses(), ElementsAre(Loss{1, LossFragmentLimit, kOther}));
    EXPECT_THAT(Losses(), IsEmpty());
}

TEST_F(LossTest, AClientOfExtension1GetsNoProcess)
{
    OPTIONS_WIRE options = Client::DefaultOptions();

    options.Flags |= OPTION_FLAG_EXTENDED_RECORDS;
    options.StructSize = FIELD_OFFSET(OPTIONS_WIRE, StallTimeoutMs);
    options.MaxHeldPackets = 1;
    ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    Connect(1);
    Connect(2);
    const std::vector<Record> records = client_.ReadType(InfoEventsLost);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].body, (ByteVector{1, 0, 0, 0, 0, 0, 0, 0, LossOwnerShare}));
}

} // namespace
} // namespace kext_test

#include "io_queue.h"

#include "kext_test.h"
#include "queue_device.h"

#include "nt/request.h"

#include <map>
#include <random>

namespace
{

using kext_test::AllRecords;
using kext_test::QueueDevice;
using kext_test::Record;

// A record whose body counts up from `seed`.
std::vector<uint8_t> MakeRecord(uint8_t type, uint32_t bodyLength, uint8_t seed = 0)
{
    std::vector<uint8_t> record(5 + bodyLength);

    record[0] = type;
    memcpy(&record[1], &bodyLength, 4);
    for (uint32_t i = 0; i < bodyLength; i++)
    {
        record[5 + i] = static_cast<uint8_t>(seed + i);
    }
    return record;
}

constexpr IO_QUEUE_LOSS kLoss = {LossQueueFull, 0};

constexpr uint32_t kLarge = 70000;

class IoQueueTest : public kext_test::KextTest
{
  protected:
    explicit IoQueueTest(const sim::MachineOptions &options = kext_test::StandingClock())
        : KextTest(options), device_(std::make_unique<QueueDevice>(machine_, &memory_))
    {
    }

    ~IoQueueTest() override { device_.reset(); }

    NTSTATUS Push(const std::vector<uint8_t> &record, UINT8 reason = LossQueueFull, UINT64 process_id = 0)
    {
        const IO_QUEUE_PIECE piece = {record.data(), static_cast<UINT32>(record.size())};
        const IO_QUEUE_LOSS loss = {reason, process_id};

        return IoQueuePush(device_->queue(), &piece, 1, &loss);
    }

    void PushAll(const std::vector<std::vector<uint8_t>> &records)
    {
        for (const std::vector<uint8_t> &record : records)
        {
            ASSERT_EQ(Push(record), STATUS_SUCCESS);
        }
    }

    static std::vector<uint8_t> Joined(const std::vector<std::vector<uint8_t>> &records)
    {
        std::vector<uint8_t> stream;

        for (const std::vector<uint8_t> &record : records)
        {
            stream.insert(stream.end(), record.begin(), record.end());
        }
        return stream;
    }

    std::vector<std::string> LogLines()
    {
        std::vector<std::string> lines;

        LogDrain(
            device_->log(),
            [](void *context, UINT8, const CHAR *text, UINT32 length) -> BOOLEAN
            {
                static_cast<std::vector<std::string> *>(context)->emplace_back(text, length);
                return TRUE;
            },
            &lines);
        return lines;
    }

    std::unique_ptr<QueueDevice> device_;
};

TEST_F(IoQueueTest, AReadPendsUntilThereIsARecord)
{
    QueueDevice::Read *read = device_->StartRead(1024);
    const std::vector<uint8_t> record = MakeRecord(1, 10);

    EXPECT_FALSE(read->done);
    ASSERT_EQ(Push(record), STATUS_SUCCESS);
    ASSERT_TRUE(read->done);
    EXPECT_EQ(read->status, STATUS_SUCCESS);
    EXPECT_EQ(read->data(), record);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(IoQueueTest, AReadGetsQueuedRecords)
{
    const std::vector<std::vector<uint8_t>> records = {MakeRecord(1, 10), MakeRecord(0, 0), MakeRecord(2, 77, 9)};

    PushAll(records);
    EXPECT_EQ(IoQueueBytes(device_->queue()), Joined(records).size());
    EXPECT_EQ(IoQueueRecords(device_->queue()), 3u);
    QueueDevice::Read *read = device_->StartRead(1024);
    ASSERT_TRUE(read->done);
    EXPECT_EQ(read->data(), Joined(records));
    EXPECT_EQ(IoQueueRecords(device_->queue()), 0u);
}

TEST_F(IoQueueTest, RecordsMayBeGivenInPieces)
{
    const std::vector<uint8_t> record = MakeRecord(3, 100);
    const IO_QUEUE_PIECE pieces[] = {
        {record.data(), 7}, {record.data() + 7, 0}, {record.data() + 7, 90}, {record.data() + 97, 8}};

    ASSERT_EQ(IoQueuePush(device_->queue(), pieces, 4, &kLoss), STATUS_SUCCESS);
    EXPECT_EQ(device_->ReadAll(1024), record);
}

TEST_F(IoQueueTest, RefusesRecordsWhoseHeaderContradictsThePieces)
{
    std::vector<uint8_t> record = MakeRecord(3, 10);

    record.push_back(0);
    EXPECT_EQ(Push(record), STATUS_INVALID_PARAMETER);
    record.resize(14);
    EXPECT_EQ(Push(record), STATUS_INVALID_PARAMETER);
    record.resize(4);
    EXPECT_EQ(Push(record), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(IoQueuePush(device_->queue(), nullptr, 0, &kLoss), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 0u);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(IoQueueTest, CompletesReadsInTheOrderTheyCame)
{
    std::vector<QueueDevice::Read *> reads;

    for (unsigned i = 0; i < 5; i++)
    {
        reads.push_back(device_->StartRead(100));
    }
    for (unsigned i = 0; i < 5; i++)
    {
        ASSERT_EQ(Push(MakeRecord(1, 4, static_cast<uint8_t>(i))), STATUS_SUCCESS);
        for (unsigned j = 0; j < 5; j++)
        {
            EXPECT_EQ(reads[j]->done, j <= i);
        }
        EXPECT_EQ(reads[i]->data(), MakeRecord(1, 4, static_cast<uint8_t>(i)));
    }
}

TEST_F(IoQueueTest, FillsAReadWithWholeRecordsOnly)
{
    PushAll({MakeRecord(1, 35), MakeRecord(1, 35), MakeRecord(1, 35)}); // 40 bytes each

    EXPECT_EQ(device_->StartRead(119)->information, 80u);
    EXPECT_EQ(device_->StartRead(119)->information, 40u);
    PushAll({MakeRecord(1, 35), MakeRecord(1, 35), MakeRecord(1, 35)});
    EXPECT_EQ(device_->StartRead(120)->information, 120u);
}

TEST_F(IoQueueTest, ARecordThatFitsExactlyIsNotSplit)
{
    PushAll({MakeRecord(1, 35)});
    EXPECT_EQ(device_->StartRead(40)->information, 40u);
}

TEST_F(IoQueueTest, ALargerRecordBehindAnotherWaitsForTheNextRead)
{
    PushAll({MakeRecord(1, 5), MakeRecord(2, 100)});
    EXPECT_EQ(device_->StartRead(50)->data(), MakeRecord(1, 5));
    const std::vector<uint8_t> large = MakeRecord(2, 100);
    EXPECT_EQ(device_->StartRead(50)->data(), std::vector<uint8_t>(large.begin(), large.begin() + 50));
    EXPECT_EQ(device_->StartRead(50)->data(), std::vector<uint8_t>(large.begin() + 50, large.begin() + 100));
    EXPECT_EQ(device_->StartRead(50)->data(), std::vector<uint8_t>(large.begin() + 100, large.end()));
}

TEST_F(IoQueueTest, TheRestOfASplitRecordStartsTheNextReadAndWholeRecordsFollowIt)
{
    const std::vector<uint8_t> large = MakeRecord(2, 95); // 100 bytes
    const std::vector<uint8_t> small = MakeRecord(1, 15); // 20 bytes

    PushAll({large, small, small, small});
    EXPECT_EQ(device_->StartRead(60)->information, 60u);
    std::vector<uint8_t> expected(large.begin() + 60, large.end());
    expected.insert(expected.end(), small.begin(), small.end());
    EXPECT_EQ(device_->StartRead(60)->data(), expected);
    EXPECT_EQ(device_->StartRead(60)->data(), Joined({small, small}));
}

TEST_F(IoQueueTest, TheStreamIsTheSameForEveryReadSize)
{
    std::mt19937 random(4);
    std::vector<std::vector<uint8_t>> records;

    for (unsigned i = 0; i < 60; i++)
    {
        const uint32_t lengths[] = {0, 1, 35, 59, 300, 5000, 40000, 70000};
        records.push_back(MakeRecord(static_cast<uint8_t>(i), lengths[random() % 8], static_cast<uint8_t>(random())));
    }
    const std::vector<uint8_t> stream = Joined(records);

    for (uint32_t size : {5u, 6u, 7u, 64u, 1024u, 4096u, 65535u, 65536u, 65537u, 1u << 20})
    {
        PushAll(records);
        EXPECT_TRUE(device_->ReadAll(size) == stream) << size;
    }
}

TEST_F(IoQueueTest, ReadsOfOneByteGiveTheWholeStream)
{
    const std::vector<std::vector<uint8_t>> records = {MakeRecord(1, 35), MakeRecord(0, 0), MakeRecord(2, 300)};

    PushAll(records);
    EXPECT_EQ(device_->ReadAll(1), Joined(records));
    EXPECT_EQ(device_->Statistic(StatisticEventsDelivered), 3u);
}

TEST_F(IoQueueTest, ReadsOfZeroBytesCompleteAtOnce)
{
    QueueDevice::Read *read = device_->StartRead(0);

    EXPECT_TRUE(read->done);
    EXPECT_EQ(read->status, STATUS_SUCCESS);
    EXPECT_EQ(read->information, 0u);
    ASSERT_EQ(Push(MakeRecord(1, 1)), STATUS_SUCCESS);
    EXPECT_EQ(device_->StartRead(0)->information, 0u);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 6u);
}

TEST_F(IoQueueTest, AUnitOfRecordsIsQueuedAsOneAndReadRecordByRecord)
{
    const std::vector<uint8_t> first = MakeRecord(1, 10);
    const std::vector<uint8_t> second = MakeRecord(2, 20);
    IO_QUEUE_PIECE pieces[] = {{first.data(), static_cast<UINT32>(first.size())},
                               {second.data(), 7},
                               {second.data() + 7, static_cast<UINT32>(second.size() - 7)}};

    ASSERT_EQ(IoQueuePush(device_->queue(), pieces, 3, &kLoss), STATUS_SUCCESS);
    EXPECT_EQ(IoQueueRecords(device_->queue()), 2u);
    EXPECT_EQ(device_->Statistic(StatisticEventsQueued), 2u);
    EXPECT_EQ(device_->StartRead(static_cast<UINT32>(first.size()) + 3)->data(), first) << "whole records only";
    EXPECT_EQ(device_->StartRead(1024)->data(), second);

    pieces[2].Length--;
    EXPECT_EQ(IoQueuePush(device_->queue(), pieces, 3, &kLoss), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(IoQueuePush(device_->queue(), pieces, 0, &kLoss), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(IoQueueTest, AQueueThatNeverRunsEmptyFreesItsMemory)
{
    std::vector<uint8_t> pushed;
    std::vector<uint8_t> read;

    for (unsigned i = 0; i < 3000; i++)
    {
        const std::vector<uint8_t> record = MakeRecord(1, 1000 + i % 50, static_cast<uint8_t>(i));

        ASSERT_EQ(Push(record), STATUS_SUCCESS);
        pushed.insert(pushed.end(), record.begin(), record.end());
        if (i >= 100)
        {
            const std::vector<uint8_t> data = device_->StartRead(1060)->data();
            read.insert(read.end(), data.begin(), data.end());
        }
    }
    EXPECT_LT(MemoryBytes(&memory_), 2u * 1024 * 1024);
    const std::vector<uint8_t> rest = device_->ReadAll(65536);
    read.insert(read.end(), rest.begin(), rest.end());
    EXPECT_TRUE(read == pushed);
}

TEST_F(IoQueueTest, IsBoundedByBytes)
{
    IoQueueSetOptions(device_->queue(), 1000 + 24, FALSE);
    for (unsigned i = 0; i < 25; i++)
    {
        ASSERT_EQ(Push(MakeRecord(1, 35)), STATUS_SUCCESS);
    }
    EXPECT_EQ(Push(MakeRecord(1, 35)), STATUS_BUFFER_OVERFLOW);
    EXPECT_EQ(Push(MakeRecord(1, 19)), STATUS_SUCCESS) << "24 bytes are left";
    EXPECT_EQ(Push(MakeRecord(1, 0)), STATUS_BUFFER_OVERFLOW);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 2u);
    EXPECT_EQ(device_->Statistic(StatisticEventsQueued), 26u);
    EXPECT_EQ(device_->ReadAll(100).size(), 1024u);
    EXPECT_EQ(Push(MakeRecord(1, 35)), STATUS_SUCCESS);
}

TEST_F(IoQueueTest, ARecordLargerThanTheWholeQueueIsLost)
{
    IoQueueSetOptions(device_->queue(), 4096, FALSE);
    EXPECT_EQ(Push(MakeRecord(1, 5000)), STATUS_BUFFER_OVERFLOW);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(IoQueueTest, AnExtendedClientGetsLossesInOrder)
{
    const std::vector<uint8_t> record = MakeRecord(1, 95);

    IoQueueSetOptions(device_->queue(), 1024, TRUE);
    for (unsigned i = 0; i < 10; i++)
    {
        ASSERT_EQ(Push(record), STATUS_SUCCESS);
    }
    for (unsigned i = 0; i < 7; i++)
    {
        ASSERT_EQ(Push(record), STATUS_BUFFER_OVERFLOW);
    }
    IoQueueReportLost(device_->queue(), 3, LossHeldPacketLimit, 0);

    // The losses stand between the records that were queued before and after them.
    std::vector<uint8_t> stream = device_->StartRead(512)->data();
    ASSERT_EQ(Push(MakeRecord(9, 1)), STATUS_SUCCESS);
    const std::vector<uint8_t> rest = device_->ReadAll(512);
    stream.insert(stream.end(), rest.begin(), rest.end());

    const std::vector<Record> records = AllRecords(stream);
    ASSERT_EQ(records.size(), 13u);
    EXPECT_EQ(records[9].type, 1);
    EXPECT_EQ(records[10].type, InfoEventsLost);
    EXPECT_EQ(records[10].body, (std::vector<uint8_t>{7, 0, 0, 0, 0, 0, 0, 0, LossQueueFull}));
    EXPECT_EQ(records[11].type, InfoEventsLost);
    EXPECT_EQ(records[11].body, (std::vector<uint8_t>{3, 0, 0, 0, 0, 0, 0, 0, LossHeldPacketLimit}));
    EXPECT_EQ(records[12].type, 9);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 10u);
    EXPECT_EQ(device_->Statistic(StatisticEventsQueued), device_->Statistic(StatisticEventsDelivered));
}

TEST_F(IoQueueTest, LossesAreReportedEvenWhenNothingFollows)
{
    IoQueueSetOptions(device_->queue(), 1024, TRUE);
    ASSERT_EQ(Push(MakeRecord(1, 1000)), STATUS_SUCCESS);
    ASSERT_EQ(Push(MakeRecord(1, 100)), STATUS_BUFFER_OVERFLOW);
    const std::vector<Record> records = AllRecords(device_->ReadAll(2000));
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[1].type, InfoEventsLost);
}

TEST_F(IoQueueTest, AWaitingClientGetsEachLossAtOnceAndABusyOneGetsThemTogether)
{
    IoQueueSetOptions(device_->queue(), 1 << 16, TRUE);
    ASSERT_EQ(Push(MakeRecord(1, 1)), STATUS_SUCCESS);
    device_->ReadAll(100);
    QueueDevice::Read *read = device_->StartRead(100);

    IoQueueReportLost(device_->queue(), 1, LossHeldPacketLimit, 0);
    ASSERT_TRUE(read->done);
    EXPECT_EQ(AllRecords(read->data())[0].body, (std::vector<uint8_t>{1, 0, 0, 0, 0, 0, 0, 0, LossHeldPacketLimit}));

    for (unsigned i = 0; i < 1001; i++)
    {
        IoQueueReportLost(device_->queue(), 1, LossHeldPacketLimit, 0);
    }
    EXPECT_EQ(IoQueueBytes(device_->queue()), sizeof(EVENTS_LOST_WIRE)) << "one record holds all losses";
    EXPECT_EQ(IoQueueRecords(device_->queue()), 1u);
    const std::vector<Record> records = AllRecords(device_->ReadAll(100));
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].body, (std::vector<uint8_t>{1, 0, 0, 0, 0, 0, 0, 0, LossHeldPacketLimit}));
    EXPECT_EQ(records[1].body, (std::vector<uint8_t>{0xE8, 3, 0, 0, 0, 0, 0, 0, LossHeldPacketLimit}));
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 1002u);
}

TEST_F(IoQueueTest, ABaseClientFindsLossesInTheLog)
{
    IoQueueSetOptions(device_->queue(), 1024, FALSE);
    ASSERT_EQ(Push(MakeRecord(1, 1000)), STATUS_SUCCESS);
    ASSERT_EQ(Push(MakeRecord(1, 100)), STATUS_BUFFER_OVERFLOW);
    ASSERT_EQ(Push(MakeRecord(1, 100)), STATUS_BUFFER_OVERFLOW);
    EXPECT_TRUE(LogLines().empty());
    EXPECT_EQ(AllRecords(device_->ReadAll(2000)).size(), 1u);
    ASSERT_EQ(Push(MakeRecord(1, 100)), STATUS_SUCCESS);
    ASSERT_EQ(Push(MakeRecord(1, 100)), STATUS_SUCCESS);
    const std::vector<std::string> lines = LogLines();
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_NE(lines[0].find("2 events were lost"), std::string::npos) << lines[0];
    EXPECT_EQ(AllRecords(device_->ReadAll(2000)).size(), 2u);
}

TEST_F(IoQueueTest, UncountedRecordsAreNotLosses)
{
    IoQueueSetOptions(device_->queue(), 1024, TRUE);
    EXPECT_EQ(Push(MakeRecord(1, 2000), LossUncounted), STATUS_BUFFER_OVERFLOW);
    IoQueueSetOptions(device_->queue(), 1 << 20, TRUE);
    machine_.faults().FailAll();
    EXPECT_EQ(Push(MakeRecord(1, kLarge), LossUncounted), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    ASSERT_EQ(Push(MakeRecord(1, 20)), STATUS_SUCCESS);
    EXPECT_EQ(AllRecords(device_->ReadAll(2000)).size(), 1u);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 0u);
}

TEST_F(IoQueueTest, WithoutMemoryARecordIsLostWithThatReason)
{
    IoQueueSetOptions(device_->queue(), 1 << 20, TRUE);
    ASSERT_EQ(Push(MakeRecord(1, 20)), STATUS_SUCCESS);
    machine_.faults().FailAll();
    EXPECT_EQ(Push(MakeRecord(1, kLarge)), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 1u);
    ASSERT_EQ(Push(MakeRecord(2, 20)), STATUS_SUCCESS);
    const std::vector<Record> records = AllRecords(device_->ReadAll(2000));
    ASSERT_EQ(records.size(), 3u);
    EXPECT_EQ(records[1].type, InfoEventsLost);
    EXPECT_EQ(records[1].body[8], LossOutOfMemory);
    EXPECT_EQ(records[2].type, 2);
}

TEST_F(IoQueueTest, AWaitingClientGetsTheLossOfAFirstRecordWithoutMemory)
{
    QueueDevice::Read *read = device_->StartRead(100);

    IoQueueSetOptions(device_->queue(), 1 << 20, TRUE);
    machine_.faults().FailAll();
    EXPECT_EQ(Push(MakeRecord(1, kLarge)), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    ASSERT_TRUE(read->done);
    const std::vector<Record> records = AllRecords(read->data());
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].type, InfoEventsLost);
    EXPECT_EQ(records[0].body[8], LossOutOfMemory);
}

TEST_F(IoQueueTest, ALargeRecordIsQueuedWholeOrNotAtAll)
{
    const std::vector<uint8_t> large = MakeRecord(1, 300000);

    unsigned failures = 0;
    NTSTATUS status;
    do
    {
        machine_.faults().FailNth(failures);
        status = Push(large);
        machine_.faults().Stop();
        if (status != STATUS_SUCCESS)
        {
            ASSERT_EQ(status, STATUS_INSUFFICIENT_RESOURCES);
            failures++;
        }
        EXPECT_TRUE(device_->ReadAll(1 << 20) == (status == STATUS_SUCCESS ? large : std::vector<uint8_t>()));
        IoQueueDetach(device_->queue());
        IoQueueAttach(device_->queue());
    } while (status != STATUS_SUCCESS);
    EXPECT_EQ(failures, 1u) << "one allocation per unit";
}

TEST_F(IoQueueTest, AReadThatCannotBeMappedFailsAndLosesNothing)
{
    ASSERT_EQ(Push(MakeRecord(1, 20)), STATUS_SUCCESS);
    // Finds the mapping among the calls of a read that may fail.
    unsigned refused = 0;
    for (unsigned n = 0; n < 8; n++)
    {
        machine_.faults().FailNth(n);
        QueueDevice::Read *read = device_->StartRead(0x1000);
        const bool failed = machine_.faults().failures() != 0;
        machine_.faults().Stop();
        ASSERT_TRUE(read->done);
        if (!failed)
        {
            EXPECT_EQ(read->data(), MakeRecord(1, 20));
            break;
        }
        EXPECT_EQ(read->status, STATUS_INSUFFICIENT_RESOURCES);
        refused++;
    }
    EXPECT_GE(refused, 1u);
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
}

TEST_F(IoQueueTest, CancelCompletesTheReadAndNoOther)
{
    QueueDevice::Read *first = device_->StartRead(100);
    QueueDevice::Read *second = device_->StartRead(100);
    QueueDevice::Read *third = device_->StartRead(100);

    EXPECT_TRUE(machine_.io().Cancel(device_->file(), second));
    ASSERT_TRUE(second->done);
    EXPECT_EQ(second->status, STATUS_CANCELLED);
    EXPECT_EQ(second->information, 0u);
    EXPECT_FALSE(first->done);
    PushAll({MakeRecord(1, 1), MakeRecord(2, 1)});
    EXPECT_EQ(first->data(), MakeRecord(1, 1));
    EXPECT_EQ(third->data(), MakeRecord(2, 1));
}

// The I/O manager has taken the first read's cancel routine, which waits for the queue's lock.
TEST_F(IoQueueTest, AReadThatArrivesCancelledDoesNotStopTheDelivery)
{
    QueueDevice::Read *first = device_->StartRead(100);
    IRP *irp = device_->last_irp();
    irp->Cancel = TRUE;
    const PDRIVER_CANCEL cancel_routine = IoSetCancelRoutine(irp, nullptr);

    ASSERT_NE(cancel_routine, nullptr);
    ASSERT_EQ(Push(MakeRecord(1, 1)), STATUS_SUCCESS);
    QueueDevice::Read *second = device_->StartCancelledRead(100);
    EXPECT_TRUE(second->done);
    EXPECT_EQ(second->status, STATUS_CANCELLED);

    IoAcquireCancelSpinLock(&irp->CancelIrql);
    cancel_routine(nullptr, irp);
    EXPECT_TRUE(first->done);
    EXPECT_EQ(first->status, STATUS_CANCELLED);

    QueueDevice::Read *third = device_->StartRead(100);
    EXPECT_TRUE(third->done);
    EXPECT_EQ(third->data(), MakeRecord(1, 1));
    machine_.io().CancelAll(device_->file());
}

TEST_F(IoQueueTest, CancelAllCompletesEveryRead)
{
    std::vector<QueueDevice::Read *> reads;

    for (unsigned i = 0; i < 10; i++)
    {
        reads.push_back(device_->StartRead(100));
    }
    machine_.io().CancelAll(device_->file());
    for (QueueDevice::Read *read : reads)
    {
        EXPECT_TRUE(read->done);
        EXPECT_EQ(read->status, STATUS_CANCELLED);
    }
    ASSERT_EQ(Push(MakeRecord(1, 1)), STATUS_SUCCESS);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(1, 1));
}

TEST_F(IoQueueTest, DetachCancelsReadsAndDiscardsRecords)
{
    QueueDevice::Read *read = device_->StartRead(100);

    IoQueueDetach(device_->queue());
    EXPECT_TRUE(read->done);
    EXPECT_EQ(read->status, STATUS_CANCELLED);
    EXPECT_EQ(Push(MakeRecord(1, 1)), STATUS_DEVICE_NOT_CONNECTED);
    IoQueueReportLost(device_->queue(), 5, LossQueueFull, 0);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), 0u) << "without a client nothing is lost";
    read = device_->StartRead(100);
    EXPECT_TRUE(read->done);
    EXPECT_EQ(read->status, STATUS_CANCELLED);

    IoQueueAttach(device_->queue());
    ASSERT_EQ(Push(MakeRecord(1, 30)), STATUS_SUCCESS);
    EXPECT_EQ(device_->StartRead(10)->information, 10u) << "a split record";
    IoQueueDetach(device_->queue());
    EXPECT_EQ(IoQueueBytes(device_->queue()), 0u);
    IoQueueAttach(device_->queue());
    ASSERT_EQ(Push(MakeRecord(7, 3)), STATUS_SUCCESS);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(7, 3)) << "the new client's stream starts with a record";
}

TEST_F(IoQueueTest, AttachForgetsTheOptionsAndLossesOfTheClientBefore)
{
    IoQueueSetOptions(device_->queue(), 1024, TRUE);
    ASSERT_EQ(Push(MakeRecord(1, 2000)), STATUS_BUFFER_OVERFLOW);
    IoQueueDetach(device_->queue());
    IoQueueAttach(device_->queue());
    ASSERT_EQ(Push(MakeRecord(1, 2000)), STATUS_SUCCESS);
    const std::vector<Record> records = AllRecords(device_->ReadAll(4096));
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].type, 1);
}

TEST_F(IoQueueTest, DetachFreesAllMemory)
{
    IoQueueDetach(device_->queue());
    const UINT64 detached = MemoryBytes(&memory_);

    IoQueueAttach(device_->queue());
    for (unsigned i = 0; i < 1000; i++)
    {
        ASSERT_EQ(Push(MakeRecord(1, 1000)), STATUS_SUCCESS);
    }
    EXPECT_GT(MemoryBytes(&memory_), detached);
    IoQueueDetach(device_->queue());
    EXPECT_EQ(MemoryBytes(&memory_), detached);
}

TEST_F(IoQueueTest, AfterShutdownReadsGetTheRestAndThenEndOfFile)
{
    PushAll({MakeRecord(1, 30), MakeRecord(2, 30)});
    IoQueueShutdown(device_->queue());
    EXPECT_EQ(Push(MakeRecord(3, 1)), STATUS_DEVICE_NOT_CONNECTED);
    EXPECT_EQ(device_->StartRead(40)->data(), MakeRecord(1, 30));
    EXPECT_EQ(device_->StartRead(40)->data(), MakeRecord(2, 30));
    for (unsigned i = 0; i < 3; i++)
    {
        QueueDevice::Read *read = device_->StartRead(40);
        EXPECT_TRUE(read->done);
        EXPECT_EQ(read->status, STATUS_END_OF_FILE);
        EXPECT_EQ(read->information, 0u);
    }
}

TEST_F(IoQueueTest, ShutdownEndsPendedReads)
{
    QueueDevice::Read *first = device_->StartRead(40);
    QueueDevice::Read *second = device_->StartRead(40);

    IoQueueShutdown(device_->queue());
    EXPECT_EQ(first->status, STATUS_END_OF_FILE);
    EXPECT_EQ(second->status, STATUS_END_OF_FILE);
    IoQueueShutdown(device_->queue());
    IoQueueDetach(device_->queue());
    EXPECT_EQ(device_->StartRead(40)->status, STATUS_CANCELLED);
}

TEST_F(IoQueueTest, ShutdownWithoutAClientDoesNothing)
{
    IoQueueDetach(device_->queue());
    IoQueueShutdown(device_->queue());
    EXPECT_EQ(device_->StartRead(40)->status, STATUS_CANCELLED);
}

TEST_F(IoQueueTest, CountsDeliveredRecordsAndBytes)
{
    PushAll({MakeRecord(1, 30), MakeRecord(2, 30), MakeRecord(3, 100)});
    device_->ReadAll(80);
    EXPECT_EQ(device_->Statistic(StatisticEventsQueued), 3u);
    EXPECT_EQ(device_->Statistic(StatisticEventsDelivered), 3u);
    EXPECT_EQ(device_->Statistic(StatisticBytesDelivered), 35u + 35 + 105);
    EXPECT_EQ(device_->Statistic(StatisticReadsCompleted), 3u);
}

TEST_F(IoQueueTest, ManyWaitingReadsAreServedInPartsByTheDpc)
{
    std::vector<QueueDevice::Read *> reads;

    for (unsigned i = 0; i < 100; i++)
    {
        reads.push_back(device_->StartRead(6));
    }
    {
        kext_test::AtDispatchLevel dispatch;
        ASSERT_EQ(Push(MakeRecord(1, 595)), STATUS_SUCCESS); // 600 bytes: 100 reads of 6
    }
    unsigned served = 0;
    for (QueueDevice::Read *read : reads)
    {
        served += read->done ? 1 : 0;
    }
    EXPECT_EQ(served, static_cast<unsigned>(IO_QUEUE_DELIVERY_BUDGET)) << "a producer's time is bounded";
    machine_.Run();
    std::vector<uint8_t> stream;
    for (QueueDevice::Read *read : reads)
    {
        ASSERT_TRUE(read->done);
        const std::vector<uint8_t> data = read->data();
        stream.insert(stream.end(), data.begin(), data.end());
    }
    EXPECT_EQ(stream, MakeRecord(1, 595));
}

// At a lower IRQL a preempted or suspended reader thread would stop the delivery for all clients.
TEST_F(IoQueueTest, DeliversAtDispatchLevelOnAnyThread)
{
    struct Reader
    {
        QueueDevice *device;
        sim::Machine *machine;
        uint8_t buffer[7];
        std::vector<uint8_t> stream;
        KIRQL lowest = HIGH_LEVEL;
        bool idle = true;

        void Start()
        {
            idle = false;
            machine->io().Read(device->file(), buffer, sizeof(buffer), Completed, this);
        }

        static void Completed(void *context, NTSTATUS status, uint64_t information)
        {
            Reader *self = static_cast<Reader *>(context);

            if (status == STATUS_SUCCESS)
            {
                self->stream.insert(self->stream.end(), self->buffer, self->buffer + information);
                self->lowest = std::min(self->lowest, KeGetCurrentIrql());
            }
            self->idle = true;
        }
    } reader = {device_.get(), &machine_, {}, {}};

    reader.Start();
    ASSERT_EQ(Push(MakeRecord(1, 30)), STATUS_SUCCESS);
    EXPECT_EQ(reader.stream.size(), 7u) << "delivered by the producer";
    while (IoQueueBytes(device_->queue()) != 0)
    {
        ASSERT_TRUE(reader.idle);
        reader.Start();
    }
    EXPECT_EQ(reader.stream, MakeRecord(1, 30)) << "delivered by the reader";
    EXPECT_EQ(reader.lowest, DISPATCH_LEVEL);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

TEST_F(IoQueueTest, WorksAtDispatchLevel)
{
    QueueDevice::Read *read = device_->StartRead(100);
    {
        kext_test::AtDispatchLevel dispatch;

        ASSERT_EQ(Push(MakeRecord(1, 1)), STATUS_SUCCESS);
        IoQueueSetOptions(device_->queue(), 1 << 16, TRUE);
        IoQueueReportLost(device_->queue(), 1, LossQueueFull, 0);
        IoQueueShutdown(device_->queue());
        IoQueueDetach(device_->queue());
        IoQueueAttach(device_->queue());
    }
    EXPECT_TRUE(read->done);
}

class IoQueueThreadsTest : public IoQueueTest
{
  protected:
    IoQueueThreadsTest() : IoQueueTest(WithWorker()) {}

    // A body holds a u32 thread, a u32 sequence number and padding.
    static std::vector<uint8_t> Numbered(uint32_t thread, uint32_t sequence, uint32_t filling)
    {
        std::vector<uint8_t> record =
            MakeRecord(static_cast<uint8_t>(thread), 8 + filling, static_cast<uint8_t>(sequence));

        memcpy(&record[5], &thread, 4);
        memcpy(&record[9], &sequence, 4);
        return record;
    }

    static void CheckNumbered(const std::vector<Record> &records, std::map<uint32_t, uint32_t> *next)
    {
        for (const Record &record : records)
        {
            uint32_t thread;
            uint32_t sequence;

            ASSERT_GE(record.body.size(), 8u);
            memcpy(&thread, &record.body[0], 4);
            memcpy(&sequence, &record.body[4], 4);
            const std::vector<uint8_t> expected =
                Numbered(thread, sequence, static_cast<uint32_t>(record.body.size() - 8));
            ASSERT_TRUE(std::equal(record.body.begin(), record.body.end(), expected.begin() + 5)) << "torn";
            ASSERT_EQ(sequence, (*next)[thread]++) << "a producer's records stay in order";
        }
    }
};

TEST_F(IoQueueThreadsTest, ProducersAndAReaderRaceWithoutLostOrTornRecords)
{
    constexpr unsigned kProducers = 3;
    constexpr uint32_t kRecords = 6000;
    std::vector<uint8_t> stream;
    std::atomic<unsigned> producing{kProducers};

    RunThreads(kProducers + 1,
               [&](unsigned thread)
               {
                   if (thread < kProducers)
                   {
                       std::mt19937 random(thread);

                       for (uint32_t i = 0; i < kRecords; i++)
                       {
                           ASSERT_EQ(Push(Numbered(thread, i, random() % 300 == 0 ? 70000 : random() % 60)),
                                     STATUS_SUCCESS);
                       }
                       producing--;
                       return;
                   }
                   // Four reads are in flight. Their data is taken in order.
                   std::deque<std::unique_ptr<QueueDevice::Read>> reads;
                   std::mt19937 random(99);
                   for (;;)
                   {
                       while (reads.size() < 4)
                       {
                           reads.push_back(std::make_unique<QueueDevice::Read>());
                           device_->StartRead(reads.back().get(), 1 + random() % 5000);
                       }
                       while (!reads.front()->done)
                       {
                           if (producing == 0 && IoQueueBytes(device_->queue()) == 0)
                           {
                               machine_.io().CancelAll(device_->file());
                           }
                           std::this_thread::yield();
                       }
                       if (reads.front()->status == STATUS_CANCELLED)
                       {
                           machine_.io().CancelAll(device_->file());
                           for (const auto &read : reads)
                           {
                               EXPECT_EQ(read->status, STATUS_CANCELLED);
                           }
                           return;
                       }
                       const std::vector<uint8_t> data = reads.front()->data();
                       stream.insert(stream.end(), data.begin(), data.end());
                       reads.pop_front();
                   }
               });

    const std::vector<Record> records = AllRecords(stream);
    std::map<uint32_t, uint32_t> next;
    EXPECT_EQ(records.size(), kProducers * kRecords);
    CheckNumbered(records, &next);
    EXPECT_EQ(device_->Statistic(StatisticEventsDelivered), kProducers * kRecords);
}

TEST_F(IoQueueThreadsTest, LossesAreCountedExactly)
{
    constexpr unsigned kProducers = 2;
    constexpr uint32_t kRecords = 20000;
    std::vector<uint8_t> stream;
    std::atomic<unsigned> producing{kProducers};
    std::atomic<uint64_t> refused{0};

    IoQueueSetOptions(device_->queue(), 8192, TRUE);
    RunThreads(kProducers + 1,
               [&](unsigned thread)
               {
                   if (thread < kProducers)
                   {
                       for (uint32_t i = 0; i < kRecords; i++)
                       {
                           refused += Push(MakeRecord(1, 50)) == STATUS_SUCCESS ? 0 : 1;
                       }
                       producing--;
                       return;
                   }
                   while (producing > 0)
                   {
                       const std::vector<uint8_t> data = IoQueueBytes(device_->queue()) != 0
                                                             ? device_->StartRead(4096)->data()
                                                             : std::vector<uint8_t>();
                       stream.insert(stream.end(), data.begin(), data.end());
                   }
               });
    const std::vector<uint8_t> rest = device_->ReadAll(4096);
    stream.insert(stream.end(), rest.begin(), rest.end());

    uint64_t got = 0;
    uint64_t told = 0;
    for (const Record &record : AllRecords(stream))
    {
        uint64_t count;

        memcpy(&count, &record.body[0], 8);
        got += record.type == 1 ? 1 : 0;
        told += record.type == InfoEventsLost ? count : 0;
    }
    EXPECT_EQ(got + refused, static_cast<uint64_t>(kProducers) * kRecords);
    EXPECT_EQ(told, refused);
    EXPECT_EQ(device_->Statistic(StatisticEventsLost), refused);
}

TEST_F(IoQueueThreadsTest, ClientsAttachAndDetachWhileAllThreadsWork)
{
    std::atomic<bool> stop{false};
    std::atomic<unsigned> completed{0};
    std::atomic<unsigned> started{0};

    RunThreads(4,
               [&](unsigned thread)
               {
                   std::mt19937 random(thread);

                   if (thread < 2)
                   {
                       while (!stop)
                       {
                           (void)Push(MakeRecord(1, random() % 500 == 0 ? 100000 : random() % 100));
                       }
                   }
                   else if (thread == 2)
                   {
                       std::deque<std::unique_ptr<QueueDevice::Read>> reads;

                       while (!stop)
                       {
                           reads.push_back(std::make_unique<QueueDevice::Read>());
                           device_->StartRead(reads.back().get(), 1 + random() % 3000);
                           started++;
                           if (random() % 5 == 0)
                           {
                               machine_.io().Cancel(device_->file(), reads.back().get());
                           }
                           while (reads.size() > 8)
                           {
                               while (!reads.front()->done)
                               {
                                   std::this_thread::yield();
                               }
                               completed++;
                               reads.pop_front();
                           }
                       }
                       machine_.io().CancelAll(device_->file());
                       for (const auto &read : reads)
                       {
                           while (!read->done)
                           {
                               std::this_thread::yield();
                           }
                           completed++;
                       }
                   }
                   else
                   {
                       for (unsigned i = 0; i < 100; i++)
                       {
                           if (i % 3 == 0)
                           {
                               IoQueueShutdown(device_->queue());
                           }
                           IoQueueDetach(device_->queue());
                           std::this_thread::yield();
                           IoQueueAttach(device_->queue());
                           for (unsigned spins = 0; spins < 50; spins++)
                           {
                               std::this_thread::yield();
                           }
                       }
                       stop = true;
                   }
               });
    EXPECT_EQ(completed, started);
    EXPECT_EQ(machine_.io().outstanding(device_->file()), 0u);

    // The queue still works.
    IoQueueDetach(device_->queue());
    IoQueueAttach(device_->queue());
    ASSERT_EQ(Push(MakeRecord(1, 9)), STATUS_SUCCESS);
    EXPECT_EQ(device_->StartRead(100)->data(), MakeRecord(1, 9));
}

TEST_F(IoQueueThreadsTest, CancelsRaceWithDeliveries)
{
    for (unsigned round = 0; round < 500; round++)
    {
        QueueDevice::Read read;

        device_->StartRead(&read, 100);
        RunThreads(2,
                   [&](unsigned thread)
                   {
                       if (thread == 0)
                       {
                           ASSERT_EQ(Push(MakeRecord(1, 1)), STATUS_SUCCESS);
                       }
                       else
                       {
                           machine_.io().CancelAll(device_->file());
                       }
                   });
        ASSERT_TRUE(read.done);
        if (read.status == STATUS_CANCELLED)
        {
            EXPECT_EQ(device_->ReadAll(100), MakeRecord(1, 1)) << "the record is there for the next read";
        }
        else
        {
            EXPECT_EQ(read.data(), MakeRecord(1, 1));
        }
    }
}

} // namespace

// The reads of a base client, which wait in their dispatch routine. Each test's client is a process with threads.
#include "support/async_read.h"
#include "support/commands.h"
#include "support/device_client.h"
#include "support/driver_loader.h"
#include "support/machine_test.h"
#include "support/network.h"
#include "support/packets.h"
#include "support/records.h"
#include "support/wire_records.h"

#include "nt/client_process.h"
#include "nt/fault_injection.h"

#include <deque>
#include <thread>

namespace kext_test
{
namespace
{

constexpr size_t kReadLength = 1024;

class BaseReadTest : public MachineTest
{
  protected:
    // A thread of the client, and its one read.
    struct Reader
    {
        AsyncRead read;
        bool pended = false; // the read was not done when it returned
        sim::nt::ClientThread *thread = nullptr;
    };

    BaseReadTest() : network_(machine_), driver_(machine_), process_(machine_) {}

    void SetUp() override
    {
        ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
        Attach();
    }

    ~BaseReadTest() override
    {
        process_.Kill();
        driver_.Unload();
    }

    void Attach()
    {
        ASSERT_EQ(process_.Open(u"\\\\.\\NetVerdict", &file_), STATUS_SUCCESS);
        network_.TakeReauthorized();
    }

    // Returns once the reader waits.
    Reader &StartReader(size_t length = kReadLength)
    {
        readers_.emplace_back();

        Reader &reader = readers_.back();

        reader.thread = &process_.Start(
            [this, &reader, length]
            {
                reader.read.Start(machine_.io(), file_, length);
                reader.pended = !reader.read.done;
            });
        reader.thread->AwaitWaiting();
        EXPECT_FALSE(reader.read.done);
        return reader;
    }

    static void ExpectEnd(Reader &reader, NTSTATUS status)
    {
        reader.thread->Join();
        EXPECT_TRUE(reader.read.done);
        EXPECT_FALSE(reader.pended);
        EXPECT_EQ(reader.read.status, status);
        EXPECT_EQ(reader.read.information, 0u);
    }

    static Question ExpectQuestion(Reader &reader)
    {
        reader.thread->Join();
        EXPECT_TRUE(reader.read.done);
        EXPECT_FALSE(reader.pended);
        EXPECT_EQ(reader.read.status, STATUS_SUCCESS);

        const std::vector<Record> records = AllRecords(reader.read.data());

        EXPECT_EQ(records.size(), 1u);
        return records.empty() ? Question{} : ParseQuestion(records[0]);
    }

    // What a read gets that does not wait.
    std::vector<Record> ReadNow()
    {
        AsyncRead read;

        read.ReadNow(machine_.io(), file_, 1 << 16);
        return AllRecords(read.data());
    }

    static Flow WithPort(uint16_t port)
    {
        Flow flow;

        flow.local.port = port;
        return flow;
    }

    sim::nt::IoResult Write(const ByteVector &bytes)
    {
        return machine_.io().WriteAndWait(file_, bytes.data(), static_cast<uint32_t>(bytes.size()));
    }

    void SetOptions()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        EXPECT_EQ(machine_.io()
                      .DeviceControlAndWait(file_, IOCTL_NETVERDICT_SET_OPTIONS, &options, sizeof(options), nullptr, 0)
                      .status,
                  STATUS_SUCCESS);
    }

    Network network_;
    DriverLoader driver_;
    sim::nt::ClientProcess process_;
    sim::nt::File *file_ = nullptr;
    std::deque<Reader> readers_;
};

TEST_F(BaseReadTest, AReadWaitsForARecordAndNeverReturnsPending)
{
    Reader &reader = StartReader();

    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    EXPECT_EQ(ExpectQuestion(reader).process_id, 1234u);
}

TEST_F(BaseReadTest, AReadGetsTheRecordsThatAreThereWithoutAWait)
{
    EXPECT_TRUE(network_.Connect(WithPort(1000)).pended());
    EXPECT_TRUE(network_.Connect(WithPort(1001)).pended());

    ByteVector buffer(kReadLength);
    const sim::nt::IoResult read = machine_.io().ReadAndWait(file_, buffer.data(), kReadLength);

    EXPECT_EQ(read.status, STATUS_SUCCESS);
    EXPECT_EQ(read.information, 2 * sizeof(CONNECTION_V4_WIRE));
}

TEST_F(BaseReadTest, ARecordThatIsSplitContinuesInTheNextRead)
{
    constexpr size_t kFirst = 10;
    Reader &first = StartReader(kFirst);
    Reader &second = StartReader();

    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    first.thread->Join();
    second.thread->Join();
    EXPECT_EQ(first.read.information, kFirst);

    ByteVector stream = first.read.data();
    const ByteVector rest = second.read.data();

    stream.insert(stream.end(), rest.begin(), rest.end());
    EXPECT_EQ(AllRecords(stream).size(), 1u);
}

TEST_F(BaseReadTest, SixtyFourReadsAreServedInTheOrderTheyCame)
{
    constexpr uint16_t kReads = 64;

    for (uint16_t i = 0; i < kReads; i++)
    {
        StartReader(sizeof(CONNECTION_V4_WIRE));
    }
    for (uint16_t i = 0; i < kReads; i++)
    {
        EXPECT_TRUE(network_.Connect(WithPort(static_cast<uint16_t>(1000 + i))).pended());
    }
    for (uint16_t i = 0; i < kReads; i++)
    {
        EXPECT_EQ(ExpectQuestion(readers_[i]).local_port, 1000 + i);
    }
}

TEST_F(BaseReadTest, TheEndOfTheThreadEndsItsReadAndLosesNoRecord)
{
    Reader &reader = StartReader();

    reader.thread->Terminate();
    ExpectEnd(reader, STATUS_USER_APC);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    EXPECT_EQ(ReadNow().size(), 1u);
}

TEST_F(BaseReadTest, TheReadBehindOneWhoseThreadEndedGetsTheNextRecord)
{
    Reader &first = StartReader();
    Reader &second = StartReader();

    first.thread->Terminate();
    ExpectEnd(first, STATUS_USER_APC);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    ExpectQuestion(second);
}

TEST_F(BaseReadTest, TheEndOfTheProcessEndsItsReadsAndDetachesIt)
{
    Reader *const readers[] = {&StartReader(), &StartReader(), &StartReader()};
    const Network::Answer held = network_.Connect(WithPort(1000));

    ExpectQuestion(*readers[0]);
    process_.Kill();
    ExpectEnd(*readers[1], STATUS_USER_APC);
    ExpectEnd(*readers[2], STATUS_USER_APC);
    EXPECT_EQ(held.completed(), 1);
    EXPECT_TRUE(network_.Connect(Flow{}).permitted());
    Attach();
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
}

TEST_F(BaseReadTest, ClosingTheHandleCancelsWaitingReads)
{
    Reader *const readers[] = {&StartReader(), &StartReader()};

    process_.Close(file_);
    ExpectEnd(*readers[0], STATUS_CANCELLED);
    ExpectEnd(*readers[1], STATUS_CANCELLED);
}

TEST_F(BaseReadTest, ACancelEndsOneWaitingRead)
{
    Reader &first = StartReader();
    Reader &second = StartReader();
    Reader &third = StartReader();

    EXPECT_TRUE(machine_.io().Cancel(file_, &first.read));
    ExpectEnd(first, STATUS_CANCELLED);
    EXPECT_TRUE(machine_.io().Cancel(file_, &third.read));
    ExpectEnd(third, STATUS_CANCELLED);
    EXPECT_FALSE(second.read.done);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    ExpectQuestion(second);
}

TEST_F(BaseReadTest, ShutdownEndsEveryWaitingReadWithTheEndOfTheFile)
{
    Reader *const readers[] = {&StartReader(), &StartReader(), &StartReader()};

    EXPECT_EQ(Write({CommandShutdown}).status, STATUS_SUCCESS);
    for (Reader *reader : readers)
    {
        ExpectEnd(*reader, STATUS_END_OF_FILE);
    }
}

TEST_F(BaseReadTest, AWriteWorksWhileAReadWaits)
{
    const Network::Answer connect = network_.Connect(Flow{});
    const std::vector<Record> records = ReadNow();

    ASSERT_EQ(records.size(), 1u);
    Reader &reader = StartReader();

    EXPECT_EQ(Write(VerdictBytes(ParseQuestion(records[0]).id, VerdictPermanentAccept)).status, STATUS_SUCCESS);
    EXPECT_EQ(connect.completed(), 1);
    EXPECT_FALSE(reader.read.done);
}

TEST_F(BaseReadTest, AUserApcDoesNothing)
{
    std::atomic<bool> delivered{false};
    Reader &reader = StartReader();

    reader.thread->QueueUserApc([&] { delivered = true; });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(reader.read.done);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    ExpectQuestion(reader);
    EXPECT_FALSE(delivered);
}

TEST_F(BaseReadTest, AReadWithoutMemoryFailsAndLosesNoRecord)
{
    ByteVector buffer(kReadLength);

    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    machine_.faults().FailNth(0);
    EXPECT_EQ(machine_.io().ReadAndWait(file_, buffer.data(), kReadLength).status, STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    EXPECT_EQ(ReadNow().size(), 1u);
}

TEST_F(BaseReadTest, AWaitingReadOfAClientThatBecomesExtendedEndsWithTheNextRecord)
{
    Reader &waiting = StartReader();
    AsyncRead pended;

    SetOptions();
    EXPECT_FALSE(waiting.read.done);
    pended.Start(machine_.io(), file_, kReadLength);
    EXPECT_FALSE(pended.done);
    EXPECT_TRUE(network_.Connect(WithPort(1000)).pended());
    EXPECT_EQ(ExpectQuestion(waiting).local_port, 1000);
    EXPECT_FALSE(pended.done);
    EXPECT_TRUE(network_.Connect(WithPort(1001)).pended());
    EXPECT_TRUE(pended.done);
}

TEST_F(BaseReadTest, TheNextBaseClientsReadsWaitAgain)
{
    SetOptions();
    process_.Close(file_);
    Attach();
    Reader &reader = StartReader();

    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    ExpectQuestion(reader);
}

TEST_F(BaseReadTest, ReadsPendWhereTheSystemDispatchesOneRequestAtATime)
{
    AsyncRead read;

    process_.Close(file_);
    driver_.context()->Queue.BaseReadsPend = TRUE;
    Attach();
    read.Start(machine_.io(), file_, kReadLength);
    EXPECT_FALSE(read.done);
    EXPECT_TRUE(network_.Connect(Flow{}).pended());
    EXPECT_TRUE(read.done);
    EXPECT_EQ(read.status, STATUS_SUCCESS);
}

} // namespace
} // namespace kext_test

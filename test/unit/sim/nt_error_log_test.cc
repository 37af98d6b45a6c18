// The System event log: what a driver must do with an entry (WDK pages "IoAllocateErrorLogEntry",
// "IO_ERROR_LOG_PACKET").
#include "nt_fixture.h"

#include "nt/error_log.h"

#include <cstring>

namespace sim::test
{
namespace
{

using testing::ElementsAre;

constexpr char16_t kText[] = u"two";
constexpr size_t kStrings = sizeof(IO_ERROR_LOG_PACKET);

NTSTATUS NoEntry(PDRIVER_OBJECT driver, PUNICODE_STRING)
{
    driver->DriverUnload = [](PDRIVER_OBJECT) {};
    return STATUS_SUCCESS;
}

class ErrorLogTest : public testing::Test
{
  protected:
    ErrorLogTest() { EXPECT_EQ(machine->io().LoadDriver(NoEntry, u"Small", &driver_), STATUS_SUCCESS); }
    ~ErrorLogTest() override { Unload(); }

    void Unload()
    {
        if (driver_ != nullptr)
        {
            EXPECT_EQ(machine->io().UnloadDriver(std::exchange(driver_, nullptr)), STATUS_SUCCESS);
        }
    }

    // An entry with one string.
    PIO_ERROR_LOG_PACKET Make(void *object, UCHAR bytes = kStrings + sizeof(kText))
    {
        auto *packet = static_cast<PIO_ERROR_LOG_PACKET>(IoAllocateErrorLogEntry(object, bytes));

        if (packet != nullptr)
        {
            packet->ErrorCode = static_cast<NTSTATUS>(0xC0040001);
            packet->FinalStatus = STATUS_INSUFFICIENT_RESOURCES;
            packet->NumberOfStrings = 1;
            packet->StringOffset = kStrings;
            std::memcpy(reinterpret_cast<uint8_t *>(packet) + kStrings, kText, bytes - kStrings);
        }
        return packet;
    }

    TestMachine machine;
    PDRIVER_OBJECT driver_ = nullptr;
};

TEST_F(ErrorLogTest, AnEntryNamesTheServiceTheObjectAndTheStringsOfTheDriver)
{
    IoWriteErrorLogEntry(Make(driver_));
    const std::vector<nt::ErrorLogRecord> records = machine->error_log().Take();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].source, u"Small");
    EXPECT_EQ(records[0].code, static_cast<NTSTATUS>(0xC0040001));
    EXPECT_EQ(records[0].final_status, STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_THAT(records[0].insertions, ElementsAre(u"\\Driver\\Small", u"two"));
    EXPECT_TRUE(records[0].dump.empty());
    EXPECT_TRUE(machine->error_log().Take().empty());
}

TEST_F(ErrorLogTest, AnEntryOfADeviceNamesTheDevice)
{
    PDEVICE_OBJECT device = nullptr;
    UNICODE_STRING name;

    RtlInitUnicodeString(&name, L"\\Device\\Small");
    ASSERT_EQ(IoCreateDevice(driver_, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
    IoWriteErrorLogEntry(Make(device));
    IoDeleteDevice(device);
    const std::vector<nt::ErrorLogRecord> records = machine->error_log().Take();
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].source, u"Small");
    EXPECT_EQ(records[0].insertions[0], u"\\Device\\Small");
}

TEST_F(ErrorLogTest, DumpDataIsKept)
{
    auto *packet = static_cast<PIO_ERROR_LOG_PACKET>(IoAllocateErrorLogEntry(driver_, kStrings));

    packet->DumpDataSize = sizeof(ULONG);
    packet->DumpData[0] = 7;
    IoWriteErrorLogEntry(packet);
    EXPECT_THAT(machine->error_log().Take()[0].dump, ElementsAre(7u));
}

TEST_F(ErrorLogTest, AnEntryMayBeFreedInsteadOfWritten)
{
    IoFreeErrorLogEntry(Make(driver_));
    EXPECT_TRUE(machine->error_log().Take().empty());
}

TEST_F(ErrorLogTest, AnAllocationMayFail)
{
    machine->faults().FailAll();
    EXPECT_EQ(IoAllocateErrorLogEntry(driver_, kStrings), nullptr);
    machine->faults().Stop();
    EXPECT_TRUE(machine->error_log().Left().empty());
}

TEST_F(ErrorLogTest, EntriesAreWrittenAtDispatchLevel)
{
    nt::IrqlScope scope(DISPATCH_LEVEL);

    IoWriteErrorLogEntry(Make(driver_));
    EXPECT_EQ(machine->error_log().Take().size(), 1u);
}

using ErrorLogDeathTest = ErrorLogTest;

TEST_F(ErrorLogDeathTest, AnEntryOfAnImpossibleSizeIsFound)
{
    EXPECT_DEATH(IoAllocateErrorLogEntry(driver_, sizeof(IO_ERROR_LOG_PACKET) - 1), "BUGCHECK ERROR_LOG_SIZE");
    EXPECT_DEATH(IoAllocateErrorLogEntry(driver_, ERROR_LOG_MAXIMUM_SIZE + 1), "BUGCHECK ERROR_LOG_SIZE");
    IoFreeErrorLogEntry(IoAllocateErrorLogEntry(driver_, ERROR_LOG_MAXIMUM_SIZE));
}

TEST_F(ErrorLogDeathTest, AStringThatDoesNotEndWithinItsEntryIsFound)
{
    PIO_ERROR_LOG_PACKET packet = Make(driver_, kStrings + sizeof(kText) - sizeof(char16_t));

    EXPECT_DEATH(IoWriteErrorLogEntry(packet), "BUGCHECK ERROR_LOG_STRING");
    packet->NumberOfStrings = 0;
    IoWriteErrorLogEntry(packet);
}

TEST_F(ErrorLogDeathTest, AStringInsideThePacketIsFound)
{
    PIO_ERROR_LOG_PACKET packet = Make(driver_);

    packet->StringOffset = 8;
    EXPECT_DEATH(IoWriteErrorLogEntry(packet), "BUGCHECK ERROR_LOG_STRING");
    IoFreeErrorLogEntry(packet);
}

TEST_F(ErrorLogDeathTest, DumpDataThatIsNoWholeNumberOfWordsOrLeavesTheEntryIsFound)
{
    PIO_ERROR_LOG_PACKET packet = Make(driver_);

    packet->NumberOfStrings = 0;
    packet->DumpDataSize = 3;
    EXPECT_DEATH(IoWriteErrorLogEntry(packet), "BUGCHECK ERROR_LOG_DUMP");
    packet->DumpDataSize = 200;
    EXPECT_DEATH(IoWriteErrorLogEntry(packet), "BUGCHECK ERROR_LOG_DUMP");
    IoFreeErrorLogEntry(packet);
}

TEST_F(ErrorLogDeathTest, AnEntryThatIsWrittenTwiceIsFound)
{
    PIO_ERROR_LOG_PACKET packet = Make(driver_);

    IoWriteErrorLogEntry(packet);
    EXPECT_DEATH(IoWriteErrorLogEntry(packet), "BUGCHECK ERROR_LOG_ENTRY");
    EXPECT_DEATH(IoFreeErrorLogEntry(packet), "BUGCHECK ERROR_LOG_ENTRY");
}

TEST_F(ErrorLogDeathTest, AnEntryThatIsLeftAtUnloadIsFound)
{
    PIO_ERROR_LOG_PACKET packet = Make(driver_);

    EXPECT_DEATH(Unload(), "BUGCHECK ERROR_LOG_ENTRY_LEFT");
    IoFreeErrorLogEntry(packet);
}

} // namespace
} // namespace sim::test

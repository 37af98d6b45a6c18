#include "nt_fixture.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

namespace sim::test
{
namespace
{

using namespace std::chrono_literals;
using ::testing::ElementsAre;

constexpr ULONG kBuffered = CTL_CODE(FILE_DEVICE_NETWORK, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS);
constexpr ULONG kOutDirect = CTL_CODE(FILE_DEVICE_NETWORK, 0x801, METHOD_OUT_DIRECT, FILE_ANY_ACCESS);
constexpr ULONG kNeither = CTL_CODE(FILE_DEVICE_NETWORK, 0x802, METHOD_NEITHER, FILE_ANY_ACCESS);

void *SystemAddress(PIRP irp)
{
    return MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);
}

// Pends requests in a list, as a driver does: the thread that removes a request under the lock completes it.
class PendingQueue
{
  public:
    PendingQueue()
    {
        InitializeListHead(&list_);
        KeInitializeSpinLock(&lock_);
    }

    NTSTATUS Pend(PIRP irp)
    {
        KIRQL irql;

        IoMarkIrpPending(irp);
        KeAcquireSpinLock(&lock_, &irql);
        irp->Tail.Overlay.DriverContext[0] = this;
        InsertTailList(&list_, &irp->Tail.Overlay.ListEntry);
        IoSetCancelRoutine(irp, Cancelled);
        if (irp->Cancel && IoSetCancelRoutine(irp, nullptr) != nullptr)
        {
            RemoveEntryList(&irp->Tail.Overlay.ListEntry);
            KeReleaseSpinLock(&lock_, irql);
            CompleteWith(irp, STATUS_CANCELLED);
            return STATUS_PENDING;
        }
        KeReleaseSpinLock(&lock_, irql);
        return STATUS_PENDING;
    }

    PIRP Take()
    {
        PIRP irp = nullptr;
        KIRQL irql;

        KeAcquireSpinLock(&lock_, &irql);
        while (irp == nullptr && !IsListEmpty(&list_))
        {
            PIRP candidate = CONTAINING_RECORD(RemoveHeadList(&list_), IRP, Tail.Overlay.ListEntry);

            if (IoSetCancelRoutine(candidate, nullptr) != nullptr)
            {
                irp = candidate;
            }
            else
            {
                InitializeListHead(&candidate->Tail.Overlay.ListEntry);
            }
        }
        KeReleaseSpinLock(&lock_, irql);
        return irp;
    }

  private:
    static VOID Cancelled(PDEVICE_OBJECT, PIRP irp)
    {
        PendingQueue *self = static_cast<PendingQueue *>(irp->Tail.Overlay.DriverContext[0]);
        KIRQL irql;

        IoReleaseCancelSpinLock(irp->CancelIrql);
        KeAcquireSpinLock(&self->lock_, &irql);
        RemoveEntryList(&irp->Tail.Overlay.ListEntry);
        KeReleaseSpinLock(&self->lock_, irql);
        CompleteWith(irp, STATUS_CANCELLED);
    }

    LIST_ENTRY list_;
    KSPIN_LOCK lock_;
};

// A loaded driver with an open handle.
class IoTest : public ::testing::Test
{
  protected:
    void SetUp() override { ASSERT_EQ(driver.Load(*machine), STATUS_SUCCESS); }

    void TearDown() override
    {
        if (file != nullptr)
        {
            machine->io().Close(file);
        }
        EXPECT_EQ(machine->io().UnloadDriver(driver.object), STATUS_SUCCESS);
    }

    void Open() { ASSERT_EQ(machine->io().Open(u"\\\\.\\Test", &file), STATUS_SUCCESS); }

    TestMachine machine;
    TestDriver driver;
    nt::File *file = nullptr;
};

TEST_F(IoTest, OpenAndCloseSendCreateCleanupClose)
{
    std::vector<UCHAR> seen;

    for (UCHAR major : {IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE})
    {
        driver.dispatch[major] = [&seen, major](PDEVICE_OBJECT, PIRP irp)
        {
            seen.push_back(major);
            return CompleteWith(irp, STATUS_SUCCESS);
        };
    }
    Open();
    EXPECT_THAT(seen, ElementsAre(IRP_MJ_CREATE));
    machine->io().Close(file);
    file = nullptr;
    EXPECT_THAT(seen, ElementsAre(IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE));
}

TEST_F(IoTest, NamesIgnoreCaseAndTheDeviceNameWorksToo)
{
    for (const char16_t *name :
         {u"\\\\.\\TEST", u"\\\\?\\test", u"\\??\\Test", u"\\Device\\test", u"\\DosDevices\\Global\\Test"})
    {
        ASSERT_EQ(machine->io().Open(name, &file), STATUS_SUCCESS);
        machine->io().Close(file);
        file = nullptr;
    }
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test2", &file), STATUS_OBJECT_NAME_NOT_FOUND);
    EXPECT_EQ(file, nullptr);
}

TEST_F(IoTest, RestOfTheNameIsTheFileName)
{
    std::u16string name;

    driver.dispatch[IRP_MJ_CREATE] = [&name](PDEVICE_OBJECT, PIRP irp)
    {
        UNICODE_STRING file_name = IoGetCurrentIrpStackLocation(irp)->FileObject->FileName;

        name = std::u16string(reinterpret_cast<char16_t *>(file_name.Buffer), file_name.Length / 2);
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    ASSERT_EQ(machine->io().Open(u"\\\\.\\Test\\Sub\\Name", &file), STATUS_SUCCESS);
    EXPECT_EQ(name, u"\\Sub\\Name");
}

TEST_F(IoTest, RefusedCreateGivesNoHandle)
{
    int closes = 0;

    driver.dispatch[IRP_MJ_CREATE] = [](PDEVICE_OBJECT, PIRP irp) { return CompleteWith(irp, STATUS_DEVICE_BUSY); };
    driver.dispatch[IRP_MJ_CLOSE] = [&closes](PDEVICE_OBJECT, PIRP irp)
    {
        closes++;
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &file), STATUS_DEVICE_BUSY);
    EXPECT_EQ(file, nullptr);
    EXPECT_EQ(closes, 0);
}

TEST_F(IoTest, SecurityDescriptorIsReadable)
{
    EXPECT_EQ(machine->io().SecurityDescriptor(u"\\\\.\\Test"), u"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
}

TEST_F(IoTest, FileContextBelongsToTheDriver)
{
    int mark = 0;
    PVOID seen = nullptr;

    driver.dispatch[IRP_MJ_CREATE] = [&mark](PDEVICE_OBJECT, PIRP irp)
    {
        IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext = &mark;
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    driver.dispatch[IRP_MJ_CLOSE] = [&seen](PDEVICE_OBJECT, PIRP irp)
    {
        seen = IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext;
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    Open();
    machine->io().Close(file);
    file = nullptr;
    EXPECT_EQ(seen, &mark);
}

TEST_F(IoTest, DirectReadSeesTheCallersPages)
{
    char buffer[10] = {};
    Outcome outcome;

    driver.dispatch[IRP_MJ_READ] = [&buffer](PDEVICE_OBJECT, PIRP irp)
    {
        EXPECT_EQ(IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length, sizeof(buffer));
        EXPECT_EQ(MmGetMdlByteCount(irp->MdlAddress), sizeof(buffer));
        EXPECT_EQ(SystemAddress(irp), buffer);
        std::memcpy(SystemAddress(irp), "direct", 6);
        return CompleteWith(irp, STATUS_SUCCESS, 6);
    };
    Open();
    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    EXPECT_EQ(outcome.calls, 1);
    EXPECT_EQ(outcome.status, STATUS_SUCCESS);
    EXPECT_EQ(outcome.information, 6u);
    EXPECT_STREQ(buffer, "direct");
}

TEST_F(IoTest, DirectReadOfZeroBytesHasNoMdl)
{
    Outcome outcome;

    driver.dispatch[IRP_MJ_READ] = [](PDEVICE_OBJECT, PIRP irp)
    {
        EXPECT_EQ(irp->MdlAddress, nullptr);
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    Open();
    machine->io().Read(file, nullptr, 0, Outcome::Record, &outcome);
    EXPECT_EQ(outcome.calls, 1);
}

TEST_F(IoTest, MappingTheCallersPagesMayFail)
{
    char buffer[10];

    driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        machine->faults().FailAll();

        PVOID address = SystemAddress(irp);

        machine->faults().Stop();
        EXPECT_EQ(address, nullptr);
        EXPECT_EQ(SystemAddress(irp), MmGetMdlVirtualAddress(irp->MdlAddress)) << "and succeeds again";
        return CompleteWith(irp, STATUS_INSUFFICIENT_RESOURCES);
    };
    Open();
    EXPECT_EQ(machine->io().ReadAndWait(file, buffer, sizeof(buffer)).status, STATUS_INSUFFICIENT_RESOURCES);
}

TEST_F(IoTest, DirectWriteSeesTheCallersPages)
{
    std::string seen;

    driver.dispatch[IRP_MJ_WRITE] = [&seen](PDEVICE_OBJECT, PIRP irp)
    {
        ULONG length = IoGetCurrentIrpStackLocation(irp)->Parameters.Write.Length;

        seen.assign(static_cast<char *>(SystemAddress(irp)), length);
        return CompleteWith(irp, STATUS_SUCCESS, length);
    };
    Open();

    nt::IoResult result = machine->io().WriteAndWait(file, "hello", 5);

    EXPECT_EQ(result.status, STATUS_SUCCESS);
    EXPECT_EQ(result.information, 5u);
    EXPECT_EQ(seen, "hello");
}

class BufferedIoTest : public IoTest
{
  protected:
    void SetUp() override
    {
        driver.device_flags = DO_BUFFERED_IO;
        IoTest::SetUp();
    }
};

TEST_F(BufferedIoTest, ReadIsCopiedFromTheSystemBuffer)
{
    char buffer[10] = {};

    driver.dispatch[IRP_MJ_READ] = [&buffer](PDEVICE_OBJECT, PIRP irp)
    {
        EXPECT_EQ(irp->MdlAddress, nullptr);
        EXPECT_NE(irp->AssociatedIrp.SystemBuffer, buffer);
        std::memcpy(irp->AssociatedIrp.SystemBuffer, "buffered!", 9);
        return CompleteWith(irp, STATUS_SUCCESS, 6);
    };
    Open();
    EXPECT_EQ(machine->io().ReadAndWait(file, buffer, sizeof(buffer)).information, 6u);
    EXPECT_STREQ(buffer, "buffer");
}

TEST_F(BufferedIoTest, WriteIsCopiedIntoTheSystemBuffer)
{
    std::string seen;

    driver.dispatch[IRP_MJ_WRITE] = [&seen](PDEVICE_OBJECT, PIRP irp)
    {
        seen.assign(static_cast<char *>(irp->AssociatedIrp.SystemBuffer), 5);
        std::memset(irp->AssociatedIrp.SystemBuffer, 0, 5);
        return CompleteWith(irp, STATUS_SUCCESS, 5);
    };
    Open();

    std::string text = "hello";

    machine->io().WriteAndWait(file, text.data(), 5);
    EXPECT_EQ(seen, "hello");
    EXPECT_EQ(text, "hello") << "the caller's own memory is not the driver's to write";
}

TEST_F(IoTest, BufferedControlSharesOneBuffer)
{
    char out[8] = {};

    driver.dispatch[IRP_MJ_DEVICE_CONTROL] = [](PDEVICE_OBJECT, PIRP irp)
    {
        auto &parameters = IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl;
        char *buffer = static_cast<char *>(irp->AssociatedIrp.SystemBuffer);

        EXPECT_EQ(parameters.IoControlCode, kBuffered);
        EXPECT_EQ(parameters.InputBufferLength, 3u);
        EXPECT_EQ(parameters.OutputBufferLength, 8u);
        std::reverse(buffer, buffer + 3);
        return CompleteWith(irp, STATUS_SUCCESS, 3);
    };
    Open();

    nt::IoResult result = machine->io().DeviceControlAndWait(file, kBuffered, "abc", 3, out, sizeof(out));

    EXPECT_EQ(result.status, STATUS_SUCCESS);
    EXPECT_EQ(result.information, 3u);
    EXPECT_STREQ(out, "cba");
}

TEST_F(IoTest, FailedControlReturnsNoData)
{
    char out[8] = {};

    driver.dispatch[IRP_MJ_DEVICE_CONTROL] = [](PDEVICE_OBJECT, PIRP irp)
    {
        std::memset(irp->AssociatedIrp.SystemBuffer, 'x', 8);
        return CompleteWith(irp, STATUS_INVALID_PARAMETER, 8);
    };
    Open();
    EXPECT_EQ(machine->io().DeviceControlAndWait(file, kBuffered, nullptr, 0, out, sizeof(out)).status,
              STATUS_INVALID_PARAMETER);
    EXPECT_STREQ(out, "");
}

TEST_F(IoTest, DirectControlHasAnMdlForItsOutput)
{
    char out[8] = {};

    driver.dispatch[IRP_MJ_DEVICE_CONTROL] = [&out](PDEVICE_OBJECT, PIRP irp)
    {
        EXPECT_EQ(SystemAddress(irp), out);
        std::memcpy(SystemAddress(irp), irp->AssociatedIrp.SystemBuffer, 3);
        return CompleteWith(irp, STATUS_SUCCESS, 3);
    };
    Open();
    machine->io().DeviceControlAndWait(file, kOutDirect, "abc", 3, out, sizeof(out));
    EXPECT_STREQ(out, "abc");
}

TEST_F(IoTest, NeitherControlGivesTheCallersPointers)
{
    char in[4] = "in";
    char out[4] = {};

    driver.dispatch[IRP_MJ_DEVICE_CONTROL] = [&](PDEVICE_OBJECT, PIRP irp)
    {
        EXPECT_EQ(IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl.Type3InputBuffer, in);
        EXPECT_EQ(irp->UserBuffer, out);
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    Open();
    machine->io().DeviceControlAndWait(file, kNeither, in, sizeof(in), out, sizeof(out));
}

TEST_F(IoTest, OutOfMemoryForTheSystemBufferFailsOnlyTheRequest)
{
    int calls = 0;
    char out[8];

    driver.dispatch[IRP_MJ_DEVICE_CONTROL] = [&calls](PDEVICE_OBJECT, PIRP irp)
    {
        calls++;
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    Open();
    machine->faults().FailAll();
    EXPECT_EQ(machine->io().DeviceControlAndWait(file, kBuffered, nullptr, 0, out, sizeof(out)).status,
              STATUS_INSUFFICIENT_RESOURCES);
    machine->faults().Stop();
    EXPECT_EQ(calls, 0);
}

TEST_F(IoTest, UnhandledMajorFunctionIsRefused)
{
    Open();
    driver.object->MajorFunction[IRP_MJ_WRITE] = driver.object->MajorFunction[IRP_MJ_FLUSH_BUFFERS];
    EXPECT_EQ(machine->io().WriteAndWait(file, "x", 1).status, STATUS_INVALID_DEVICE_REQUEST);
}

// A driver with a queue of pended reads.
class PendedIoTest : public IoTest
{
  protected:
    void SetUp() override
    {
        driver.dispatch[IRP_MJ_READ] = [this](PDEVICE_OBJECT, PIRP irp) { return queue.Pend(irp); };
        IoTest::SetUp();
        Open();
    }

    PendingQueue queue;
    char buffer[16] = {};
};

TEST_F(PendedIoTest, PendedReadCompletesLater)
{
    Outcome outcome;

    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    EXPECT_EQ(outcome.calls, 0);
    EXPECT_EQ(machine->io().outstanding(file), 1u);
    CompleteWith(queue.Take(), STATUS_SUCCESS, 4);
    EXPECT_EQ(outcome.calls, 1);
    EXPECT_EQ(outcome.information, 4u);
    EXPECT_EQ(machine->io().outstanding(file), 0u);
}

TEST_F(PendedIoTest, WaitingRunsTheDeferredWorkThatCompletesTheRead)
{
    machine->scheduler().Queue(DISPATCH_LEVEL, [this] { CompleteWith(queue.Take(), STATUS_SUCCESS, 2); });
    EXPECT_EQ(machine->io().ReadAndWait(file, buffer, sizeof(buffer)).information, 2u);
}

TEST_F(PendedIoTest, CancelAllCancelsInOrderAndOnlyOnce)
{
    std::vector<Outcome> outcomes(3);

    for (Outcome &outcome : outcomes)
    {
        machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    }
    machine->io().CancelAll(file);
    for (Outcome &outcome : outcomes)
    {
        EXPECT_EQ(outcome.calls, 1);
        EXPECT_EQ(outcome.status, STATUS_CANCELLED);
    }
    EXPECT_EQ(queue.Take(), nullptr);
    machine->io().CancelAll(file);
}

TEST_F(PendedIoTest, CancelTakesOneRequest)
{
    Outcome first;
    Outcome second;

    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &first);
    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &second);
    EXPECT_TRUE(machine->io().Cancel(file, &second));
    EXPECT_EQ(first.calls, 0);
    EXPECT_EQ(second.status, STATUS_CANCELLED);
    EXPECT_FALSE(machine->io().Cancel(file, &second)) << "it has completed";
    machine->io().CancelAll(file);
}

TEST_F(PendedIoTest, CancelOfARequestWithoutRoutineMarksIt)
{
    PIRP pended = nullptr;
    Outcome outcome;

    driver.dispatch[IRP_MJ_WRITE] = [&pended](PDEVICE_OBJECT, PIRP irp)
    {
        IoMarkIrpPending(irp);
        pended = irp;
        return STATUS_PENDING;
    };
    machine->io().Write(file, "x", 1, Outcome::Record, &outcome);
    machine->io().CancelAll(file);
    EXPECT_EQ(outcome.calls, 0);
    EXPECT_TRUE(pended->Cancel);
    CompleteWith(pended, STATUS_CANCELLED);
    EXPECT_EQ(outcome.status, STATUS_CANCELLED);
}

TEST_F(PendedIoTest, CloseLetsCleanupFinishTheRequests)
{
    std::vector<Outcome> outcomes(2);

    driver.dispatch[IRP_MJ_CLEANUP] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        for (PIRP read = queue.Take(); read != nullptr; read = queue.Take())
        {
            CompleteWith(read, STATUS_CANCELLED);
        }
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    for (Outcome &outcome : outcomes)
    {
        machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    }
    machine->io().Close(file);
    file = nullptr;
    EXPECT_EQ(outcomes[0].calls, 1);
    EXPECT_EQ(outcomes[1].calls, 1);
}

TEST_F(PendedIoTest, CloseWaitsForACompletionByDeferredWork)
{
    Outcome outcome;

    driver.dispatch[IRP_MJ_CLEANUP] = [this](PDEVICE_OBJECT, PIRP irp)
    {
        machine->scheduler().Queue(DISPATCH_LEVEL, [this] { CompleteWith(queue.Take(), STATUS_END_OF_FILE); });
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    machine->io().Read(file, buffer, sizeof(buffer), Outcome::Record, &outcome);
    machine->io().Close(file);
    file = nullptr;
    EXPECT_EQ(outcome.status, STATUS_END_OF_FILE);
}

TEST_F(PendedIoTest, CompletionMayMakeTheNextRequest)
{
    struct Again
    {
        nt::IoManager *io;
        nt::File *file;
        char *buffer;
        int completed = 0;

        static void Next(void *context, NTSTATUS, uint64_t)
        {
            Again *self = static_cast<Again *>(context);

            if (++self->completed < 3)
            {
                self->io->Read(self->file, self->buffer, 16, Next, self);
            }
        }
    } again{&machine->io(), file, buffer};

    machine->io().Read(file, buffer, 16, Again::Next, &again);
    for (int i = 0; i < 3; i++)
    {
        CompleteWith(queue.Take(), STATUS_SUCCESS, 0);
    }
    EXPECT_EQ(again.completed, 3);
    EXPECT_EQ(queue.Take(), nullptr);
}

// Calls `step` in a loop until the object is destroyed.
class Repeater
{
  public:
    Repeater(Machine &machine, std::function<void()> step)
        : thread_(
              [this, &machine, step]
              {
                  Machine::Scope scope(machine);

                  while (!stop_)
                  {
                      step();
                      std::this_thread::yield();
                  }
              })
    {
    }

    ~Repeater()
    {
        stop_ = true;
        thread_.join();
    }

  private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

struct CompletionCounter
{
    Machine &machine;
    std::atomic<int> count{0};

    static void Count(void *context, NTSTATUS, uint64_t)
    {
        CompletionCounter *self = static_cast<CompletionCounter *>(context);

        self->count++;
        self->machine.scheduler().Wake();
    }
};

TEST(IoStressTest, EveryRequestCompletesOnceWhileOthersCompleteAndCancel)
{
    constexpr int kReads = 2000;

    TestMachine machine(RealTime());
    TestDriver driver;
    PendingQueue queue;
    CompletionCounter completed{*machine};
    nt::File *file;
    char buffer[8];

    driver.dispatch[IRP_MJ_READ] = [&queue](PDEVICE_OBJECT, PIRP irp) { return queue.Pend(irp); };
    driver.Load(*machine);
    machine->io().Open(u"\\\\.\\Test", &file);
    {
        Repeater completer(*machine,
                           [&queue]
                           {
                               if (PIRP irp = queue.Take())
                               {
                                   CompleteWith(irp, STATUS_SUCCESS, 1);
                               }
                           });
        Repeater canceller(*machine, [&] { machine->io().CancelAll(file); });

        for (int i = 0; i < kReads; i++)
        {
            machine->io().Read(file, buffer, sizeof(buffer), CompletionCounter::Count, &completed);
        }
        machine->scheduler().WaitUntil([&completed] { return completed.count >= kReads; });
    }
    machine->io().Close(file);
    EXPECT_EQ(completed.count, kReads);
    machine->io().UnloadDriver(driver.object);
}

TEST(ExclusiveDeviceTest, SecondOpenFails)
{
    TestMachine machine;
    TestDriver driver;
    nt::File *first;
    nt::File *second;

    driver.exclusive = true;
    driver.Load(*machine);
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &first), STATUS_SUCCESS);
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &second), STATUS_ACCESS_DENIED);
    machine->io().Close(first);
    EXPECT_EQ(machine->io().Open(u"\\\\.\\Test", &second), STATUS_SUCCESS);
    machine->io().Close(second);
    machine->io().UnloadDriver(driver.object);
}

// Sends one read to a driver whose dispatch routine misbehaves.
void ReadThrough(const TestDriver::Dispatch &dispatch)
{
    TestMachine machine;
    TestDriver driver;
    nt::File *file;
    char buffer[8];

    driver.dispatch[IRP_MJ_READ] = dispatch;
    driver.Load(*machine);
    machine->io().Open(u"\\\\.\\Test", &file);
    machine->io().Read(file, buffer, sizeof(buffer), nullptr, nullptr);
    machine->io().Close(file);
}

VOID NeverCalled(PDEVICE_OBJECT, PIRP) {}

TEST(IoDeathTest, DoubleCompletionIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         CompleteWith(irp, STATUS_SUCCESS);
                         return CompleteWith(irp, STATUS_SUCCESS);
                     }),
                 "BUGCHECK IRP_COMPLETED_TWICE: IoCompleteRequest was called for IRP_MJ_READ");
}

// Sends a read, and misuses the request after its completion.
void MisuseCompletedRequest(const std::function<void(PIRP)> &misuse)
{
    TestMachine machine;
    TestDriver driver;
    nt::File *file;
    PIRP kept = nullptr;
    char buffer[8];

    driver.dispatch[IRP_MJ_READ] = [&kept](PDEVICE_OBJECT, PIRP irp)
    {
        kept = irp;
        return CompleteWith(irp, STATUS_SUCCESS);
    };
    driver.Load(*machine);
    machine->io().Open(u"\\\\.\\Test", &file);
    machine->io().Read(file, buffer, sizeof(buffer), nullptr, nullptr);
    misuse(kept);
    machine->io().Close(file);
    machine->io().UnloadDriver(driver.object);
}

TEST(IoDeathTest, CompletionOfAFinishedRequestIsFound)
{
    EXPECT_DEATH(MisuseCompletedRequest([](PIRP irp) { IoCompleteRequest(irp, IO_NO_INCREMENT); }),
                 "BUGCHECK IRP_COMPLETED_TWICE");
}

TEST(IoDeathTest, WritingToAFinishedRequestIsFound)
{
    EXPECT_DEATH(MisuseCompletedRequest([](PIRP irp) { irp->IoStatus.Information = 1; }),
                 RULE_OR_SANITIZER("IRP_USED_AFTER_COMPLETION"));
}

TEST(IoDeathTest, CompletionWithACancelRoutineIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         IoSetCancelRoutine(irp, NeverCalled);
                         return CompleteWith(irp, STATUS_SUCCESS);
                     }),
                 "BUGCHECK IRP_COMPLETED_CANCELABLE");
}

TEST(IoDeathTest, CompletionWithPendingIsFound)
{
    EXPECT_DEATH(ReadThrough([](PDEVICE_OBJECT, PIRP irp) { return CompleteWith(irp, STATUS_PENDING); }),
                 "BUGCHECK IRP_COMPLETED_PENDING");
}

TEST(IoDeathTest, CompletionWithTooMuchInformationIsFound)
{
    EXPECT_DEATH(ReadThrough([](PDEVICE_OBJECT, PIRP irp) { return CompleteWith(irp, STATUS_SUCCESS, 9); }),
                 "BUGCHECK IRP_INFORMATION_TOO_LARGE: .*8 bytes is completed with information 9");
}

TEST(IoDeathTest, CompletionWithALockHeldIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         KSPIN_LOCK lock = 0;

                         KeAcquireSpinLockRaiseToDpc(&lock);
                         return CompleteWith(irp, STATUS_SUCCESS);
                     }),
                 "BUGCHECK LOCK_HELD_OVER_CALL: IoCompleteRequest");
}

TEST(IoDeathTest, PendingWithoutMarkIsFound)
{
    EXPECT_DEATH(ReadThrough([](PDEVICE_OBJECT, PIRP) { return STATUS_PENDING; }),
                 "BUGCHECK IRP_PENDING_NOT_MARKED: IRP_MJ_READ");
}

TEST(IoDeathTest, MarkWithoutPendingIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         IoMarkIrpPending(irp);
                         return CompleteWith(irp, STATUS_SUCCESS);
                     }),
                 "BUGCHECK IRP_MARKED_NOT_PENDING");
}

TEST(IoDeathTest, ReturnWithoutCompletionIsFound)
{
    EXPECT_DEATH(ReadThrough([](PDEVICE_OBJECT, PIRP) { return STATUS_SUCCESS; }), "BUGCHECK IRP_NOT_COMPLETED");
}

TEST(IoDeathTest, ReturnOfAnotherStatusIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         CompleteWith(irp, STATUS_INVALID_PARAMETER);
                         return STATUS_SUCCESS;
                     }),
                 "BUGCHECK IRP_STATUS_MISMATCH: .*returned 0x00000000 .*with 0xC000000D");
}

TEST(IoDeathTest, DispatchThatReturnsAtDispatchLevelIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         KfRaiseIrql(DISPATCH_LEVEL);
                         return CompleteWith(irp, STATUS_SUCCESS);
                     }),
                 "BUGCHECK IRQL_CHANGED_BY_CALL: IRP_MJ_READ");
}

TEST(IoDeathTest, RequestLeftAfterCleanupIsFound)
{
    EXPECT_DEATH(ReadThrough(
                     [](PDEVICE_OBJECT, PIRP irp)
                     {
                         IoMarkIrpPending(irp);
                         return STATUS_PENDING;
                     }),
                 "BUGCHECK IRP_LEFT_AFTER_CLEANUP: 1 request");
}

TEST(IoDeathTest, CancelRoutineThatKeepsTheCancelLockIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            TestDriver driver;
            nt::File *file;
            char buffer[8];

            driver.dispatch[IRP_MJ_READ] = [](PDEVICE_OBJECT, PIRP irp)
            {
                IoMarkIrpPending(irp);
                IoSetCancelRoutine(irp, NeverCalled);
                return STATUS_PENDING;
            };
            driver.Load(*machine);
            machine->io().Open(u"\\\\.\\Test", &file);
            machine->io().Read(file, buffer, sizeof(buffer), nullptr, nullptr);
            machine->io().CancelAll(file);
        },
        "BUGCHECK LOCK_HELD_AT_RETURN: a cancel routine");
}

TEST(IoDeathTest, RequestAtDispatchLevelIsFound)
{
    EXPECT_DEATH(
        {
            TestMachine machine;
            nt::File *file;
            nt::IrqlScope irql(DISPATCH_LEVEL);

            machine->io().Open(u"\\\\.\\Test", &file);
        },
        "BUGCHECK IRQL_WRONG");
}

} // namespace
} // namespace sim::test

// A device that passes its reads to an IO_QUEUE, so that the queue gets real IRPs.
#pragma once

#include "io_queue.h"
#include "kext_test.h"
#include "support/async_read.h"
#include "support/records.h"

#include "nt/io_manager.h"

#include <deque>
#include <memory>
#include <utility>

namespace kext_test
{

class QueueDevice
{
  public:
    using Read = AsyncRead;

    // `waits`: reads wait in the thread that issues them, as those of a base client.
    QueueDevice(sim::Machine &machine, MEMORY *memory, bool waits = false) : machine_(machine)
    {
        EXPECT_EQ(StatisticsInitialize(&statistics_, memory), STATUS_SUCCESS);
        EXPECT_EQ(LogInitialize(&log_, memory), STATUS_SUCCESS);
        EXPECT_EQ(machine_.io().LoadDriver(Entry, u"QueueTest", &driver_), STATUS_SUCCESS);
        extension_ = static_cast<Extension *>(driver_->DeviceObject->DeviceExtension);
        queue_ = &extension_->queue;
        EXPECT_EQ(IoQueueInitialize(queue_, memory, &statistics_, &log_), STATUS_SUCCESS);
        queue_->BaseReadsPend = !waits;
        EXPECT_EQ(machine_.io().Open(u"\\\\.\\QueueTest", &file_), STATUS_SUCCESS);
        IoQueueAttach(queue_);
    }

    ~QueueDevice()
    {
        machine_.io().Close(file_);
        UninitializeQueue();
        LogUninitialize(&log_);
        StatisticsUninitialize(&statistics_);
        EXPECT_EQ(machine_.io().UnloadDriver(driver_), STATUS_SUCCESS);
    }

    QueueDevice(const QueueDevice &) = delete;
    QueueDevice &operator=(const QueueDevice &) = delete;

    void UninitializeQueue()
    {
        if (queue_->Lanes.Table != nullptr)
        {
            IoQueueUninitialize(queue_);
        }
    }

    // The read lives as long as the device.
    Read *StartRead(uint32_t length)
    {
        reads_.emplace_back();
        Read *read = &reads_.back();
        StartRead(read, length);
        return read;
    }

    void StartRead(Read *read, uint32_t length) { read->Start(machine_.io(), file_, length); }

    // Starts a read that is cancelled before it reaches the queue.
    Read *StartCancelledRead(uint32_t length)
    {
        extension_->cancel_next = true;
        return StartRead(length);
    }

    // Reads with this buffer size until the queue is empty.
    std::vector<uint8_t> ReadAll(uint32_t length)
    {
        std::vector<uint8_t> stream;

        while (IoQueueBytes(queue_) != 0)
        {
            Read *read = StartRead(length);

            EXPECT_TRUE(read->done);
            EXPECT_EQ(read->status, STATUS_SUCCESS);
            EXPECT_GT(read->information, 0u);
            const std::vector<uint8_t> data = read->data();
            stream.insert(stream.end(), data.begin(), data.end());
        }
        return stream;
    }

    uint64_t Statistic(STATISTIC statistic) const
    {
        return static_cast<uint64_t>(StatisticsRead(&statistics_, statistic));
    }

    IO_QUEUE *queue() { return queue_; }
    IRP *last_irp() { return extension_->last_irp; }
    STATISTICS *statistics() { return &statistics_; }
    LOG *log() { return &log_; }
    sim::nt::File *file() { return file_; }

  private:
    struct Extension
    {
        IO_QUEUE queue;
        IRP *last_irp; // of a read
        bool cancel_next;
    };

    static NTSTATUS NTAPI Complete(PDEVICE_OBJECT device, PIRP irp)
    {
        IO_QUEUE *queue = &static_cast<Extension *>(device->DeviceExtension)->queue;

        // A test may have uninitialized the queue of an open device.
        if (IoGetCurrentIrpStackLocation(irp)->MajorFunction == IRP_MJ_CLEANUP && queue->Lanes.Table != nullptr)
        {
            IoQueueDetach(queue);
        }
        irp->IoStatus.Status = STATUS_SUCCESS;
        irp->IoStatus.Information = 0;
        IoCompleteRequest(irp, IO_NO_INCREMENT);
        return STATUS_SUCCESS;
    }

    static NTSTATUS NTAPI DispatchRead(PDEVICE_OBJECT device, PIRP irp)
    {
        auto *extension = static_cast<Extension *>(device->DeviceExtension);

        extension->last_irp = irp;
        if (std::exchange(extension->cancel_next, false))
        {
            irp->Cancel = TRUE;
        }

        WAITING_READ *waiting;
        const NTSTATUS status = IoQueueRead(&extension->queue, irp, &waiting);

        return waiting != nullptr ? IoQueueAwaitRead(&extension->queue, waiting) : status;
    }

    static VOID NTAPI Unload(PDRIVER_OBJECT driver)
    {
        UNICODE_STRING link;

        RtlInitUnicodeString(&link, reinterpret_cast<PCWSTR>(u"\\DosDevices\\QueueTest"));
        IoDeleteSymbolicLink(&link);
        IoDeleteDevice(driver->DeviceObject);
    }

    static NTSTATUS NTAPI Entry(PDRIVER_OBJECT driver, PUNICODE_STRING)
    {
        // A fault plan must not fail the calls of this test driver.
        sim::nt::thread_state.driver_caller = nullptr;

        UNICODE_STRING name;
        UNICODE_STRING link;
        PDEVICE_OBJECT device;

        RtlInitUnicodeString(&name, reinterpret_cast<PCWSTR>(u"\\Device\\QueueTest"));
        RtlInitUnicodeString(&link, reinterpret_cast<PCWSTR>(u"\\DosDevices\\QueueTest"));
        EXPECT_EQ(IoCreateDevice(driver, sizeof(Extension), &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device),
                  STATUS_SUCCESS);
        EXPECT_EQ(IoCreateSymbolicLink(&link, &name), STATUS_SUCCESS);
        driver->MajorFunction[IRP_MJ_CREATE] = Complete;
        driver->MajorFunction[IRP_MJ_CLEANUP] = Complete;
        driver->MajorFunction[IRP_MJ_CLOSE] = Complete;
        driver->MajorFunction[IRP_MJ_READ] = DispatchRead;
        driver->DriverUnload = Unload;
        device->Flags |= DO_DIRECT_IO;
        device->Flags &= ~static_cast<ULONG>(DO_DEVICE_INITIALIZING);
        return STATUS_SUCCESS;
    }

    sim::Machine &machine_;
    STATISTICS statistics_;
    LOG log_;
    PDRIVER_OBJECT driver_ = nullptr;
    Extension *extension_ = nullptr;
    IO_QUEUE *queue_ = nullptr;
    sim::nt::File *file_ = nullptr;
    std::deque<Read> reads_;
};

} // namespace kext_test

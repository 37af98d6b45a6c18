// A machine whose deferred work runs on request, and a small driver whose routines a test defines.
#pragma once

#include <ntddk.h>

#include <wdmsec.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "machine.h"
#include "nt/clock.h"
#include "nt/fault_injection.h"
#include "nt/io_manager.h"
#include "nt/irql.h"
#include "nt/pool.h"
#include "nt/scheduler.h"

namespace sim::test
{

constexpr ULONG kTag = 'tseT';

// With the address sanitizer the access itself ends the process, before the machine's own check.
#define RULE_OR_SANITIZER(rule) "BUGCHECK " rule "|AddressSanitizer"

inline MachineOptions Deterministic()
{
    MachineOptions options;

    options.virtual_clock = true;
    options.worker = false;
    return options;
}

inline MachineOptions RealTime()
{
    return MachineOptions{};
}

inline MachineOptions WithoutVerifier()
{
    MachineOptions options = Deterministic();

    options.verifier = false;
    return options;
}

// A machine that is the thread's current machine while it lives.
class TestMachine
{
  public:
    explicit TestMachine(const MachineOptions &options = Deterministic()) : machine_(options), scope_(machine_) {}

    Machine *operator->() { return &machine_; }
    Machine &operator*() { return machine_; }

  private:
    Machine machine_;
    Machine::Scope scope_;
};

inline LARGE_INTEGER Relative(std::chrono::nanoseconds time)
{
    LARGE_INTEGER due;

    due.QuadPart = -(time.count() / 100);
    return due;
}

inline UNICODE_STRING Unicode(const char16_t *text)
{
    UNICODE_STRING string;

    RtlInitUnicodeString(&string, reinterpret_cast<PCWSTR>(text));
    return string;
}

inline NTSTATUS CompleteWith(PIRP irp, NTSTATUS status, ULONG_PTR information = 0)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

// Creates \Device\Test with the link \??\Test; create, cleanup and close succeed.
class TestDriver
{
  public:
    using Dispatch = std::function<NTSTATUS(PDEVICE_OBJECT, PIRP)>;

    std::map<UCHAR, Dispatch> dispatch;
    std::function<NTSTATUS(PDRIVER_OBJECT, PUNICODE_STRING)> entry; // runs after the device is created
    std::function<void()> unload;                                   // runs before the device is deleted
    bool deletes_device = true;
    bool deletes_link = true;
    bool exclusive = false;
    ULONG device_flags = DO_DIRECT_IO;
    const char16_t *device_name = u"\\Device\\Test";
    const char16_t *link_name = u"\\DosDevices\\Test";

    PDEVICE_OBJECT device = nullptr;
    PDRIVER_OBJECT object = nullptr;

    NTSTATUS Load(Machine &machine, const std::u16string &service_name = u"Test")
    {
        loading_ = this;
        return machine.io().LoadDriver(DriverEntry, service_name, &object);
    }

  private:
    static NTSTATUS DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING registry_path)
    {
        TestDriver *self = loading_;

        driver->DriverUnload = Unload;
        for (UCHAR major :
             {IRP_MJ_CREATE, IRP_MJ_CLOSE, IRP_MJ_CLEANUP, IRP_MJ_READ, IRP_MJ_WRITE, IRP_MJ_DEVICE_CONTROL})
        {
            driver->MajorFunction[major] = DispatchAny;
        }

        NTSTATUS status = self->MakeDevice(driver);

        if (NT_SUCCESS(status) && self->entry)
        {
            status = self->entry(driver, registry_path);
            if (!NT_SUCCESS(status))
            {
                self->RemoveDevice();
            }
        }
        return status;
    }

    NTSTATUS MakeDevice(PDRIVER_OBJECT driver)
    {
        UNICODE_STRING name = Unicode(device_name);
        UNICODE_STRING link = Unicode(link_name);
        NTSTATUS status = IoCreateDeviceSecure(driver, sizeof(TestDriver *), &name, FILE_DEVICE_NETWORK, 0, exclusive,
                                               &SDDL_DEVOBJ_SYS_ALL_ADM_ALL, nullptr, &device);

        if (!NT_SUCCESS(status))
        {
            return status;
        }
        *static_cast<TestDriver **>(device->DeviceExtension) = this;
        device->Flags |= device_flags;
        return IoCreateSymbolicLink(&link, &name);
    }

    void RemoveDevice()
    {
        UNICODE_STRING link = Unicode(link_name);

        if (deletes_link)
        {
            IoDeleteSymbolicLink(&link);
        }
        if (deletes_device)
        {
            IoDeleteDevice(device);
        }
    }

    static TestDriver *Of(PDEVICE_OBJECT device) { return *static_cast<TestDriver **>(device->DeviceExtension); }

    static VOID Unload(PDRIVER_OBJECT driver)
    {
        TestDriver *self = Of(driver->DeviceObject);

        if (self->unload)
        {
            self->unload();
        }
        self->RemoveDevice();
    }

    static NTSTATUS DispatchAny(PDEVICE_OBJECT device, PIRP irp)
    {
        TestDriver *self = Of(device);
        UCHAR major = IoGetCurrentIrpStackLocation(irp)->MajorFunction;
        auto found = self->dispatch.find(major);

        return found == self->dispatch.end() ? CompleteWith(irp, STATUS_SUCCESS) : found->second(device, irp);
    }

    static inline thread_local TestDriver *loading_ = nullptr;
};

// Uses about this many bytes of stack, then calls the kernel.
__attribute__((noinline)) inline void AllocateBelow(size_t bytes)
{
    volatile char *const frame = static_cast<volatile char *>(__builtin_alloca(bytes));
    void *block;

    frame[0] = 1;
    block = ExAllocatePoolWithTag(NonPagedPoolNx, 16, kTag);
    ExFreePoolWithTag(block, kTag);
    frame[bytes - 1] = 1;
}

// The result of a request.
struct Outcome
{
    int calls = 0;
    NTSTATUS status = STATUS_SUCCESS;
    uint64_t information = 0;

    static void Record(void *context, NTSTATUS status, uint64_t information)
    {
        Outcome *outcome = static_cast<Outcome *>(context);

        outcome->calls++;
        outcome->status = status;
        outcome->information = information;
    }
};

} // namespace sim::test

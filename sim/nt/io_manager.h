// What user mode sees of a machine: it loads drivers, opens devices, and reads, writes and controls them.
//
// Concurrency: everything may be called from any thread, at PASSIVE_LEVEL. Dispatch routines run on the calling thread.
// No lock is held while the driver runs or a completion is called.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nt/io_result.h"

namespace sim
{
class Machine;
}

namespace sim::nt
{

class File;
class IoState;
struct Request;

class IoManager
{
  public:
    explicit IoManager(Machine &machine);
    ~IoManager(); // bugchecks on drivers that are still loaded

    IoManager(const IoManager &) = delete;
    IoManager &operator=(const IoManager &) = delete;

    // Calls DriverEntry; the result is its own. After a failure nothing of the driver may be left, as after an unload.
    NTSTATUS LoadDriver(PDRIVER_INITIALIZE entry, const std::u16string &service_name, PDRIVER_OBJECT *driver);

    // As `sc stop`: calls DriverUnload and checks that nothing is left. With handles open no new one can be had, and
    // the driver is unloaded when the last is closed: STATUS_PENDING. A driver without DriverUnload:
    // STATUS_INVALID_DEVICE_REQUEST.
    NTSTATUS UnloadDriver(PDRIVER_OBJECT driver);

    // name: "\\\\.\\Name" or "\\Device\\Name". Both cases of letters are the same.
    NTSTATUS Open(const std::u16string &name, File **file);

    // The returned pointer names the request until it completes, for Cancel. The buffers must live until then.
    Request *Read(File *file, void *buffer, uint32_t length, IoCompletion completion, void *context);
    Request *Write(File *file, const void *buffer, uint32_t length, IoCompletion completion, void *context);
    Request *DeviceControl(File *file, uint32_t code, const void *in, uint32_t in_length, void *out,
                           uint32_t out_length, IoCompletion completion, void *context);

    // The same, and wait for the end.
    IoResult ReadAndWait(File *file, void *buffer, uint32_t length);
    IoResult WriteAndWait(File *file, const void *buffer, uint32_t length);
    IoResult DeviceControlAndWait(File *file, uint32_t code, const void *in, uint32_t in_length, void *out,
                                  uint32_t out_length);

    // CancelIoEx for all requests of the handle, and for one. False: it has completed already.
    void CancelAll(File *file);
    bool Cancel(File *file, Request *request);

    // IRP_MJ_CLEANUP, waits for outstanding requests, IRP_MJ_CLOSE; `file` is gone afterwards.
    void Close(File *file);

    // Requests of the handle that have not completed.
    uint32_t outstanding(File *file) const;

    // How a device was made, for tests. Empty: none given. Bugchecks when there is no such device.
    std::u16string SecurityDescriptor(const std::u16string &name) const;

    std::vector<std::u16string> DeviceNames() const;

    // Of kernel functions.
    IoState &state() { return *state_; }

  private:
    std::unique_ptr<IoState> state_;
};

} // namespace sim::nt

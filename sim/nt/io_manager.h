// The I/O manager as user mode sees it: load drivers, open devices, read, write and control them.
//
// Concurrency: every function may be called from any thread, at PASSIVE_LEVEL.
// Dispatch routines run on the calling thread.
// A terminated thread of a client throws ThreadTerminated where it enters or leaves a request (thread_control.h).
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
class ThreadControl;

class IoManager
{
  public:
    explicit IoManager(Machine &machine);
    ~IoManager(); // bugchecks on drivers that are still loaded

    IoManager(const IoManager &) = delete;
    IoManager &operator=(const IoManager &) = delete;

    // Calls DriverEntry and returns its result. After a failure the driver may leave nothing, as after an unload.
    NTSTATUS LoadDriver(PDRIVER_INITIALIZE entry, const std::u16string &service_name, PDRIVER_OBJECT *driver);

    // Works as `sc stop`: calls DriverUnload and checks that the driver leaves nothing.
    // Returns STATUS_PENDING while handles are open: none can be opened then, and closing the last unloads the driver.
    // Returns STATUS_INVALID_DEVICE_REQUEST for a driver without DriverUnload.
    NTSTATUS UnloadDriver(PDRIVER_OBJECT driver);

    // `name` is "\\\\.\\Name" or "\\Device\\Name". The case of letters does not matter.
    // A handle without FILE_READ_DATA or FILE_WRITE_DATA cannot read or write, nor make requests whose code needs it.
    NTSTATUS Open(const std::u16string &name, File **file, ACCESS_MASK access = FILE_READ_DATA | FILE_WRITE_DATA);

    // The buffers must live until the request completes. `context` names the request for Cancel, as an OVERLAPPED does.
    // A driver that waits in its dispatch routine keeps the calling thread here. Any other thread may cancel meanwhile.
    void Read(File *file, void *buffer, uint32_t length, IoCompletion completion, void *context);
    void Write(File *file, const void *buffer, uint32_t length, IoCompletion completion, void *context);
    void DeviceControl(File *file, uint32_t code, const void *in, uint32_t in_length, void *out, uint32_t out_length,
                       IoCompletion completion, void *context);

    // These make the request and wait for its completion.
    IoResult ReadAndWait(File *file, void *buffer, uint32_t length);
    IoResult WriteAndWait(File *file, const void *buffer, uint32_t length);
    IoResult DeviceControlAndWait(File *file, uint32_t code, const void *in, uint32_t in_length, void *out,
                                  uint32_t out_length);

    // CancelIoEx for all requests of the handle, or for one. Cancel returns false if the request has completed already.
    // A request whose dispatch routine still runs is cancelled too. With `issuer`: only the requests of that thread.
    void CancelAll(File *file, const ThreadControl *issuer = nullptr);
    bool Cancel(File *file, const void *context);

    // Sends IRP_MJ_CLEANUP, waits for outstanding requests and sends IRP_MJ_CLOSE. `file` is then no longer valid.
    void Close(File *file);

    // The number of the handle's requests that have not completed.
    uint32_t outstanding(File *file) const;

    // For tests: the security descriptor that a device was created with; empty if it was created without one.
    // Bugchecks if there is no such device.
    std::u16string SecurityDescriptor(const std::u16string &name) const;

    std::vector<std::u16string> DeviceNames() const;

    // For the kernel functions.
    IoState &state() { return *state_; }

  private:
    std::unique_ptr<IoState> state_;
};

} // namespace sim::nt

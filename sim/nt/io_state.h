// The state of the I/O manager.
#pragma once

#include <ntddk.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "nt/io_objects.h"
#include "nt/io_result.h"
#include "nt/object_directory.h"
#include "nt/request.h"

namespace sim
{
class Machine;
}

namespace sim::nt
{

class IoState
{
  public:
    explicit IoState(Machine &machine);
    ~IoState();

    IoState(const IoState &) = delete;
    IoState &operator=(const IoState &) = delete;

    // The I/O state of the calling thread's machine.
    static IoState &Current();

    // Drivers (driver.cc).
    NTSTATUS LoadDriver(PDRIVER_INITIALIZE entry, const std::u16string &service_name, PDRIVER_OBJECT *driver);
    NTSTATUS UnloadDriver(Driver *driver);

    // Devices and links (device.cc).
    NTSTATUS CreateDevice(Driver *driver, ULONG extension_size, std::u16string name, DEVICE_TYPE type,
                          ULONG characteristics, bool exclusive, std::u16string security_descriptor,
                          PDEVICE_OBJECT *device);
    void DeleteDevice(Device *device);
    void ReferenceDevice(Device *device);
    void DereferenceDevice(Device *device);
    NTSTATUS CreateLink(const std::u16string &name, const std::u16string &target);
    NTSTATUS DeleteLink(const std::u16string &name);
    std::u16string SecurityDescriptor(const std::u16string &name);
    std::vector<std::u16string> DeviceNames();

    // Files (file.cc).
    NTSTATUS Open(const std::u16string &name, ACCESS_MASK access, File **file);
    void Close(File *file);
    uint32_t Outstanding(File *file);

    // Requests (dispatch.cc).
    void Submit(File *file, const RequestSpec &spec);
    IoResult SubmitAndWait(File *file, RequestSpec spec);
    void Complete(Request *request);
    bool Cancel(Request *request);
    bool CancelWhere(File *file, const std::function<bool(const Request &)> &chosen);
    PKSPIN_LOCK cancel_lock() { return &cancel_lock_; }

  private:
    Driver *FindDriverLocked(const std::u16string &service_name);
    void FinishInitialization(Driver *driver);
    NTSTATUS Unload(Driver *driver);
    void RemoveDriver(Driver *driver, const std::string &event);
    void CheckDevicesLeft(Driver *driver, const std::string &event);
    void CheckMachineLeft(const std::string &event);

    void FreeDeviceIfUnusedLocked(Device *device);

    NTSTATUS ReserveHandle(const std::u16string &name, std::unique_ptr<File> &file);
    void ReleaseHandle(Device *device);

    bool Prepare(Request *request, File *file, const RequestSpec &spec);
    void List(Request *request);
    bool PrepareTransfer(Request *request);
    bool PrepareControl(Request *request);
    bool MakeSystemBuffer(Request *request, uint32_t length);
    void DescribeByMdl(Request *request, void *buffer, uint32_t length, bool device_writes);
    NTSTATUS CallDispatch(Request *request);
    void CheckDispatched(Request *request, NTSTATUS status);
    void CheckCompletion(Request *request);
    void Finish(Request *request, NTSTATUS status, uint64_t information);
    void ReturnData(Request *request, NTSTATUS status, uint64_t information);
    void Unlist(Request *request);

    Machine &machine_;
    RequestPool requests_;
    KSPIN_LOCK cancel_lock_ = 0;
    std::mutex mutex_; // guards the members below
    std::vector<std::unique_ptr<Driver>> drivers_;
    std::unordered_set<Device *> devices_;
    ObjectDirectory directory_;
};

// Keeps a device from being freed.
void ReferenceDevice(PDEVICE_OBJECT device);
void DereferenceDevice(PDEVICE_OBJECT device);

} // namespace sim::nt

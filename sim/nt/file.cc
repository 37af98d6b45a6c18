// Handles: opening and closing.

#include <ntddk.h>

#include <chrono>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/io_state.h"
#include "nt/irql.h"
#include "nt/scheduler.h"

namespace sim::nt
{

namespace
{

constexpr CSHORT kFileObjectType = 5;

// The longest time that requests of a handle may outlive its IRP_MJ_CLEANUP.
// On a machine without a worker, only other threads can complete these requests.
constexpr std::chrono::seconds kCleanupLimit(30);
constexpr std::chrono::seconds kCleanupLimitWithoutWorker(1);

RequestSpec RequestOf(UCHAR major)
{
    RequestSpec spec;

    spec.major = major;
    return spec;
}

std::unique_ptr<File> MakeFile(Device *device, std::u16string rest)
{
    auto file = std::make_unique<File>();

    *static_cast<FILE_OBJECT *>(file.get()) = {};
    file->Type = kFileObjectType;
    file->Size = sizeof(FILE_OBJECT);
    file->DeviceObject = device;
    file->name_buffer = std::move(rest);
    file->FileName = ToUnicodeString(file->name_buffer);
    InitializeListHead(&file->requests);
    return file;
}

} // namespace

NTSTATUS IoState::Open(const std::u16string &name, ACCESS_MASK access, File **opened)
{
    Machine::Scope scope(machine_);
    std::unique_ptr<File> file;

    RequireIrql(PASSIVE_LEVEL, "IoManager::Open");
    *opened = nullptr;

    NTSTATUS status = ReserveHandle(name, file);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    file->access = access;
    status = SubmitAndWait(file.get(), RequestOf(IRP_MJ_CREATE)).status;
    if (!NT_SUCCESS(status))
    {
        ReleaseHandle(static_cast<Device *>(file->DeviceObject));
        return status;
    }
    *opened = file.release();
    return status;
}

NTSTATUS IoState::ReserveHandle(const std::u16string &name, std::unique_ptr<File> &file)
{
    std::lock_guard<std::mutex> lock(mutex_);
    ObjectDirectory::Resolved resolved = directory_.Resolve(name);
    Device *device = resolved.device;

    if (device == nullptr)
    {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }

    Driver *driver = static_cast<Driver *>(device->DriverObject);

    if (driver->unload_pending || (device->Flags & DO_DEVICE_INITIALIZING) != 0)
    {
        return STATUS_NO_SUCH_DEVICE;
    }
    if (device->exclusive && device->handles != 0)
    {
        return STATUS_ACCESS_DENIED;
    }
    device->handles++;
    device->references++;
    driver->handles++;
    file = MakeFile(device, std::move(resolved.rest));
    return STATUS_SUCCESS;
}

// Closing the last handle of a driver that waits for its unload also unloads the driver.
void IoState::ReleaseHandle(Device *device)
{
    Driver *driver = static_cast<Driver *>(device->DriverObject);
    bool unload;

    {
        std::lock_guard<std::mutex> lock(mutex_);

        device->handles--;
        device->references--;
        driver->handles--;
        unload = driver->unload_pending && driver->handles == 0;
        FreeDeviceIfUnusedLocked(device);
    }
    if (unload)
    {
        Unload(driver);
    }
}

void IoState::Close(File *closed)
{
    Machine::Scope scope(machine_);
    std::unique_ptr<File> file(closed);
    std::chrono::seconds limit = machine_.options().worker ? kCleanupLimit : kCleanupLimitWithoutWorker;

    RequireIrql(PASSIVE_LEVEL, "IoManager::Close");
    SubmitAndWait(file.get(), RequestOf(IRP_MJ_CLEANUP));
    {
        std::lock_guard<std::mutex> lock(file->mutex);

        file->waited_for = true;
    }
    if (!machine_.scheduler().WaitUntil([this, &file] { return Outstanding(file.get()) == 0; }, limit))
    {
        Bugcheck("IRP_LEFT_AFTER_CLEANUP", "%u request(s) were not completed after the handle was closed",
                 Outstanding(file.get()));
    }
    SubmitAndWait(file.get(), RequestOf(IRP_MJ_CLOSE));
    ReleaseHandle(static_cast<Device *>(file->DeviceObject));
}

uint32_t IoState::Outstanding(File *file)
{
    std::lock_guard<std::mutex> lock(file->mutex);

    return file->outstanding;
}

} // namespace sim::nt

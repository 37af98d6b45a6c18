// Device objects and symbolic links.

#include <ntddk.h>

#include <wdmsec.h>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/fault_injection.h"
#include "nt/io_state.h"
#include "nt/irql.h"
#include "nt/pool.h"

namespace sim::nt
{

namespace
{

constexpr CSHORT kDeviceObjectType = 3;
constexpr ULONG kExtensionTag = 'iveD';

} // namespace

NTSTATUS IoState::CreateDevice(Driver *driver, ULONG extension_size, std::u16string name, DEVICE_TYPE type,
                               ULONG characteristics, bool exclusive, std::u16string security_descriptor,
                               PDEVICE_OBJECT *created)
{
    auto device = std::make_unique<Device>();

    *static_cast<DEVICE_OBJECT *>(device.get()) = {};
    if (extension_size != 0)
    {
        device->DeviceExtension = machine_.pool().Allocate(extension_size, kExtensionTag, true);
        if (device->DeviceExtension == nullptr)
        {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    device->Type = kDeviceObjectType;
    device->Size = static_cast<USHORT>(sizeof(DEVICE_OBJECT) + extension_size);
    device->DriverObject = driver;
    device->Flags = DO_DEVICE_INITIALIZING | (exclusive ? DO_EXCLUSIVE : 0);
    device->Characteristics = characteristics;
    device->DeviceType = type;
    device->StackSize = 1;
    device->name = std::move(name);
    device->security_descriptor = std::move(security_descriptor);
    device->exclusive = exclusive;

    std::lock_guard<std::mutex> lock(mutex_);

    if (!device->name.empty() && !directory_.AddDevice(device->name, device.get()))
    {
        machine_.pool().Free(device->DeviceExtension, kExtensionTag);
        return STATUS_OBJECT_NAME_COLLISION;
    }
    device->NextDevice = driver->DeviceObject;
    driver->DeviceObject = device.get();
    *created = device.get();
    devices_.insert(device.release());
    return STATUS_SUCCESS;
}

void IoState::DeleteDevice(Device *device)
{
    std::lock_guard<std::mutex> lock(mutex_);

    if (devices_.count(device) == 0 || device->deleted)
    {
        Bugcheck("DEVICE_DELETED_TWICE", "IoDeleteDevice was called for %p, which is no longer a device",
                 static_cast<void *>(device));
    }
    device->deleted = true;
    if (!device->name.empty())
    {
        directory_.RemoveDevice(device->name);
    }
    for (PDEVICE_OBJECT *link = &device->DriverObject->DeviceObject; *link != nullptr; link = &(*link)->NextDevice)
    {
        if (*link == device)
        {
            *link = device->NextDevice;
            break;
        }
    }
    FreeDeviceIfUnusedLocked(device);
}

void IoState::ReferenceDevice(Device *device)
{
    std::lock_guard<std::mutex> lock(mutex_);

    device->references++;
}

void IoState::DereferenceDevice(Device *device)
{
    std::lock_guard<std::mutex> lock(mutex_);

    device->references--;
    FreeDeviceIfUnusedLocked(device);
}

void IoState::FreeDeviceIfUnusedLocked(Device *device)
{
    if (!device->deleted || device->references != 0)
    {
        return;
    }
    if (device->DeviceExtension != nullptr)
    {
        machine_.pool().Free(device->DeviceExtension, kExtensionTag);
    }
    devices_.erase(device);
    delete device;
}

NTSTATUS IoState::CreateLink(const std::u16string &name, const std::u16string &target)
{
    std::lock_guard<std::mutex> lock(mutex_);

    return directory_.AddLink(name, target) ? STATUS_SUCCESS : STATUS_OBJECT_NAME_COLLISION;
}

NTSTATUS IoState::DeleteLink(const std::u16string &name)
{
    std::lock_guard<std::mutex> lock(mutex_);

    return directory_.RemoveLink(name) ? STATUS_SUCCESS : STATUS_OBJECT_NAME_NOT_FOUND;
}

std::u16string IoState::SecurityDescriptor(const std::u16string &name)
{
    std::lock_guard<std::mutex> lock(mutex_);
    Device *device = directory_.Resolve(name).device;

    if (device == nullptr)
    {
        Bugcheck("NO_SUCH_DEVICE", "there is no device %s", ToAscii(name).c_str());
    }
    return device->security_descriptor;
}

std::vector<std::u16string> IoState::DeviceNames()
{
    std::lock_guard<std::mutex> lock(mutex_);

    return directory_.DeviceNames();
}

void ReferenceDevice(PDEVICE_OBJECT device)
{
    IoState::Current().ReferenceDevice(static_cast<Device *>(device));
}

void DereferenceDevice(PDEVICE_OBJECT device)
{
    IoState::Current().DereferenceDevice(static_cast<Device *>(device));
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

namespace
{

WCHAR system_all[] = L"D:P(A;;GA;;;SY)";
WCHAR system_and_administrators_all[] = L"D:P(A;;GA;;;SY)(A;;GA;;;BA)";

} // namespace

extern "C" const UNICODE_STRING SDDL_DEVOBJ_SYS_ALL = RTL_CONSTANT_STRING(system_all);
extern "C" const UNICODE_STRING SDDL_DEVOBJ_SYS_ALL_ADM_ALL = RTL_CONSTANT_STRING(system_and_administrators_all);

extern "C" NTSTATUS IoCreateDevice(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize, PUNICODE_STRING DeviceName,
                                   DEVICE_TYPE DeviceType, ULONG DeviceCharacteristics, BOOLEAN Exclusive,
                                   PDEVICE_OBJECT *DeviceObject)
{
    RequireIrqlAtMost(APC_LEVEL, "IoCreateDevice");
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return IoState::Current().CreateDevice(static_cast<Driver *>(DriverObject), DeviceExtensionSize,
                                           ToString(DeviceName), DeviceType, DeviceCharacteristics, Exclusive != FALSE,
                                           {}, DeviceObject);
}

extern "C" NTSTATUS IoCreateDeviceSecure(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize,
                                         PUNICODE_STRING DeviceName, DEVICE_TYPE DeviceType,
                                         ULONG DeviceCharacteristics, BOOLEAN Exclusive,
                                         PCUNICODE_STRING DefaultSDDLString, const GUID *, PDEVICE_OBJECT *DeviceObject)
{
    RequireIrql(PASSIVE_LEVEL, "IoCreateDeviceSecure");
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return IoState::Current().CreateDevice(static_cast<Driver *>(DriverObject), DeviceExtensionSize,
                                           ToString(DeviceName), DeviceType, DeviceCharacteristics, Exclusive != FALSE,
                                           ToString(DefaultSDDLString), DeviceObject);
}

extern "C" VOID IoDeleteDevice(PDEVICE_OBJECT DeviceObject)
{
    RequireIrqlAtMost(APC_LEVEL, "IoDeleteDevice");
    IoState::Current().DeleteDevice(static_cast<Device *>(DeviceObject));
}

extern "C" NTSTATUS IoCreateSymbolicLink(PUNICODE_STRING SymbolicLinkName, PUNICODE_STRING DeviceName)
{
    RequireIrql(PASSIVE_LEVEL, "IoCreateSymbolicLink");
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return IoState::Current().CreateLink(ToString(SymbolicLinkName), ToString(DeviceName));
}

extern "C" NTSTATUS IoDeleteSymbolicLink(PUNICODE_STRING SymbolicLinkName)
{
    RequireIrql(PASSIVE_LEVEL, "IoDeleteSymbolicLink");
    return IoState::Current().DeleteLink(ToString(SymbolicLinkName));
}

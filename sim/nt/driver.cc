// Loading and unloading of drivers.

#include <ntddk.h>

#include <algorithm>

#include "machine.h"
#include "ndis/net_buffers.h"
#include "net/unicast_addresses.h"
#include "nt/bugcheck.h"
#include "nt/callback_object.h"
#include "nt/driver_call.h"
#include "nt/error_log.h"
#include "nt/io_state.h"
#include "nt/irql.h"
#include "nt/pool.h"
#include "nt/processes.h"
#include "nt/registry.h"
#include "nt/scheduler.h"
#include "wfp/engine.h"

namespace sim::nt
{

namespace
{

constexpr CSHORT kDriverObjectType = 4;

NTSTATUS InvalidDeviceRequest(PDEVICE_OBJECT, PIRP irp)
{
    irp->IoStatus.Status = STATUS_INVALID_DEVICE_REQUEST;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_INVALID_DEVICE_REQUEST;
}

std::unique_ptr<Driver> MakeDriver(PDRIVER_INITIALIZE entry, const std::u16string &service_name)
{
    auto driver = std::make_unique<Driver>();

    *static_cast<DRIVER_OBJECT *>(driver.get()) = {};
    driver->service_name = service_name;
    driver->object_name = u"\\Driver\\" + service_name;
    driver->Type = kDriverObjectType;
    driver->Size = sizeof(DRIVER_OBJECT);
    driver->DriverExtension = &driver->extension;
    driver->extension.DriverObject = driver.get();
    driver->extension.ServiceKeyName = ToUnicodeString(driver->service_name);
    driver->DriverName = ToUnicodeString(driver->object_name);
    driver->DriverInit = entry;
    std::fill(std::begin(driver->MajorFunction), std::end(driver->MajorFunction), InvalidDeviceRequest);
    return driver;
}

// The driver may use the registry path only while its entry runs.
NTSTATUS CallEntry(Driver *driver)
{
    std::u16string path = Registry::ServiceKey(driver->service_name);
    UNICODE_STRING registry_path = ToUnicodeString(path);
    DriverCall call("DriverEntry");

    return driver->DriverInit(driver, &registry_path);
}

std::string Describe(const char *event, const Driver *driver)
{
    return "driver " + ToAscii(driver->service_name) + " " + event;
}

void RequireNone(const char *rule, const std::string &event, const char *what, const std::string &left)
{
    if (!left.empty())
    {
        Bugcheck(rule, "%s with %s left:\n%s", event.c_str(), what, left.c_str());
    }
}

std::string Lines(const std::vector<std::u16string> &names)
{
    std::string lines;

    for (const std::u16string &name : names)
    {
        lines += "    " + (name.empty() ? "(without a name)" : ToAscii(name)) + "\n";
    }
    return lines;
}

} // namespace

IoState::IoState(Machine &machine) : machine_(machine), requests_(machine.options().verifier) {}

IoState::~IoState()
{
    if (!drivers_.empty())
    {
        Bugcheck("DRIVER_STILL_LOADED", "the machine ends while driver %s is loaded",
                 ToAscii(drivers_.front()->service_name).c_str());
    }
}

NTSTATUS IoState::LoadDriver(PDRIVER_INITIALIZE entry, const std::u16string &service_name, PDRIVER_OBJECT *loaded)
{
    Machine::Scope scope(machine_);
    Driver *driver;

    RequireIrql(PASSIVE_LEVEL, "IoManager::LoadDriver");
    *loaded = nullptr;
    {
        std::lock_guard<std::mutex> lock(mutex_);

        if (FindDriverLocked(service_name) != nullptr)
        {
            return STATUS_OBJECT_NAME_COLLISION;
        }
        drivers_.push_back(MakeDriver(entry, service_name));
        driver = drivers_.back().get();
    }

    machine_.registry().AddKey(Registry::ServiceKey(service_name));

    NTSTATUS status = CallEntry(driver);

    if (!NT_SUCCESS(status))
    {
        RemoveDriver(driver, Describe("failed to load", driver));
        return status;
    }
    FinishInitialization(driver);
    *loaded = driver;
    return status;
}

NTSTATUS IoState::UnloadDriver(Driver *driver)
{
    Machine::Scope scope(machine_);

    RequireIrql(PASSIVE_LEVEL, "IoManager::UnloadDriver");
    if (driver->DriverUnload == nullptr)
    {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    {
        std::lock_guard<std::mutex> lock(mutex_);

        if (driver->unload_pending)
        {
            return STATUS_PENDING;
        }
        driver->unload_pending = true;
        if (driver->handles != 0)
        {
            return STATUS_PENDING;
        }
    }
    return Unload(driver);
}

Driver *IoState::FindDriverLocked(const std::u16string &service_name)
{
    auto found = std::find_if(drivers_.begin(), drivers_.end(), [&service_name](const std::unique_ptr<Driver> &driver)
                              { return driver->service_name == service_name; });

    return found == drivers_.end() ? nullptr : found->get();
}

// The devices can be opened once DO_DEVICE_INITIALIZING is cleared.
void IoState::FinishInitialization(Driver *driver)
{
    std::lock_guard<std::mutex> lock(mutex_);

    for (PDEVICE_OBJECT device = driver->DeviceObject; device != nullptr; device = device->NextDevice)
    {
        device->Flags &= ~DO_DEVICE_INITIALIZING;
    }
}

NTSTATUS IoState::Unload(Driver *driver)
{
    {
        DriverCall call("DriverUnload");

        driver->DriverUnload(driver);
    }
    RemoveDriver(driver, Describe("was unloaded", driver));
    return STATUS_SUCCESS;
}

void IoState::RemoveDriver(Driver *driver, const std::string &event)
{
    bool is_last;

    {
        std::lock_guard<std::mutex> lock(mutex_);

        is_last = drivers_.size() == 1;
    }
    CheckDevicesLeft(driver, event);
    if (is_last)
    {
        CheckMachineLeft(event);
    }

    std::lock_guard<std::mutex> lock(mutex_);

    drivers_.erase(std::find_if(drivers_.begin(), drivers_.end(), [driver](const std::unique_ptr<Driver> &candidate)
                                { return candidate.get() == driver; }));
}

void IoState::CheckDevicesLeft(Driver *driver, const std::string &event)
{
    std::vector<std::u16string> names;
    std::lock_guard<std::mutex> lock(mutex_);

    for (PDEVICE_OBJECT device = driver->DeviceObject; device != nullptr; device = device->NextDevice)
    {
        names.push_back(static_cast<Device *>(device)->name);
    }
    RequireNone("DEVICE_NOT_DELETED", event, "devices", Lines(names));
}

// Checks what has no owner recorded: once no driver is loaded, none of it may be left.
void IoState::CheckMachineLeft(const std::string &event)
{
    RequireNone("DRIVER_WORK_LEFT", event, "timers, DPCs or work items", machine_.scheduler().DriverWorkLeft());
    {
        std::lock_guard<std::mutex> lock(mutex_);

        RequireNone("SYMBOLIC_LINK_NOT_DELETED", event, "symbolic links", Lines(directory_.LinkNames()));
    }
    RequireNone("REGISTRY_KEY_NOT_CLOSED", event, "open keys of the registry", machine_.registry().Left());
    RequireNone("ERROR_LOG_ENTRY_LEFT", event, "entries of the event log", machine_.error_log().Left());
    RequireNone("CALLBACK_LEFT", event, "a callback object", machine_.power_state().Left());
    RequireNone("PROCESS_LEFT", event, "references to processes", machine_.processes().Left());
    RequireNone("ADDRESS_TABLE_LEFT", event, "the table of addresses", machine_.addresses().Left());
    machine_.wfp().CheckUnloaded();
    RequireNone("NET_BUFFER_POOL_LEFT", event, "net buffer list pools", machine_.net_buffers().DriverPoolsLeft());
    machine_.pool().CheckIntegrity();
    machine_.pool().CheckEmpty(event);
}

} // namespace sim::nt

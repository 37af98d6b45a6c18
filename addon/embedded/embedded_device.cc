#include "embedded_device.h"

extern "C"
{
#include "driver.h"
}

namespace netverdict
{

namespace
{

sim::MachineOptions MachineOptionsOf(const EmbeddedDeviceOptions &options)
{
    sim::MachineOptions machine;
    machine.virtual_clock = options.virtual_clock;
    machine.verifier = options.verifier;
    return machine;
}

} // namespace

EmbeddedDevice::EmbeddedDevice(const EmbeddedDeviceOptions &options) : machine_(MachineOptionsOf(options)) {}

NTSTATUS EmbeddedDevice::Open(const EmbeddedDeviceOptions &options, std::unique_ptr<EmbeddedDevice> *device)
{
    std::unique_ptr<EmbeddedDevice> opened(new EmbeddedDevice(options));
    sim::Machine::Scope scope(opened->machine_);
    NTSTATUS status = opened->machine_.io().LoadDriver(DriverEntry, u"NetVerdict", &opened->driver_);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = opened->machine_.io().Open(u"\\\\.\\NetVerdict", &opened->file_);
    if (NT_SUCCESS(status))
    {
        *device = std::move(opened);
    }
    return status;
}

EmbeddedDevice::~EmbeddedDevice()
{
    sim::Machine::Scope scope(machine_);
    CloseHandle();
    if (driver_ != nullptr)
    {
        machine_.io().UnloadDriver(driver_);
    }
}

void EmbeddedDevice::Read(void *buffer, uint32_t length, Completion completion, void *context)
{
    sim::Machine::Scope scope(machine_);
    machine_.io().Read(file_, buffer, length, completion, context);
}

IoResult EmbeddedDevice::Write(const void *bytes, uint32_t length)
{
    sim::Machine::Scope scope(machine_);
    const sim::nt::IoResult result = machine_.io().WriteAndWait(file_, bytes, length);
    return {result.status, result.information};
}

IoResult EmbeddedDevice::Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                                 uint32_t output_length)
{
    sim::Machine::Scope scope(machine_);
    const sim::nt::IoResult result =
        machine_.io().DeviceControlAndWait(file_, code, input, input_length, output, output_length);
    return {result.status, result.information};
}

void EmbeddedDevice::CancelReads()
{
    sim::Machine::Scope scope(machine_);
    machine_.io().CancelAll(file_);
}

void EmbeddedDevice::CloseHandle()
{
    if (file_ != nullptr)
    {
        sim::Machine::Scope scope(machine_);
        machine_.io().Close(file_);
        file_ = nullptr;
    }
}

} // namespace netverdict

#include "embedded_device.h"

#include <utility>

namespace netverdict
{

NTSTATUS EmbeddedDevice::Open(std::shared_ptr<EmbeddedComputer> computer, std::shared_ptr<EmbeddedDevice> *device)
{
    std::shared_ptr<EmbeddedDevice> opened(new EmbeddedDevice(std::move(computer)));
    sim::Machine::Scope scope(opened->machine_);
    const NTSTATUS status = opened->machine_.io().Open(u"\\\\.\\NetVerdict", &opened->file_);
    if (NT_SUCCESS(status))
    {
        *device = std::move(opened);
    }
    return status;
}

EmbeddedDevice::~EmbeddedDevice()
{
    if (file_ != nullptr)
    {
        sim::Machine::Scope scope(machine_);
        machine_.io().Close(file_);
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

} // namespace netverdict

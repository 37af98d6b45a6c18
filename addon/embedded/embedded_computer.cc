#include "embedded_computer.h"

#include <utility>

#include "nt/io_manager.h"

extern "C"
{
#include "driver.h"
}

namespace netverdict
{

namespace
{

sim::MachineOptions MachineOptionsOf(const EmbeddedComputerOptions &options)
{
    sim::MachineOptions machine;
    machine.virtual_clock = options.virtual_clock;
    machine.verifier = options.verifier;
    return machine;
}

} // namespace

EmbeddedComputer::EmbeddedComputer(const EmbeddedComputerOptions &options) : machine_(MachineOptionsOf(options)) {}

NTSTATUS EmbeddedComputer::Start(const EmbeddedComputerOptions &options, std::shared_ptr<EmbeddedComputer> *computer)
{
    std::shared_ptr<EmbeddedComputer> started(new EmbeddedComputer(options));
    sim::Machine::Scope scope(started->machine_);
    const NTSTATUS status = started->machine_.io().LoadDriver(DriverEntry, u"NetVerdict", &started->driver_);
    if (NT_SUCCESS(status))
    {
        *computer = std::move(started);
    }
    return status;
}

EmbeddedComputer::~EmbeddedComputer()
{
    if (driver_ != nullptr)
    {
        sim::Machine::Scope scope(machine_);
        machine_.io().UnloadDriver(driver_);
    }
}

} // namespace netverdict

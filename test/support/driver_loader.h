// Loads and unloads the driver on a simulated machine.
#pragma once

#include "context.h"
#include "driver.h"

#include "machine.h"

#include <string>

namespace kext_test
{

// At its end the driver is unloaded. The machine then checks that nothing is left.
class DriverLoader
{
  public:
    explicit DriverLoader(sim::Machine &machine) : machine_(machine) {}
    ~DriverLoader() { Unload(); }

    DriverLoader(const DriverLoader &) = delete;
    DriverLoader &operator=(const DriverLoader &) = delete;

    NTSTATUS Load(const std::u16string &service = u"NetVerdict");

    // Does nothing where no driver is loaded. Fails the test unless the driver is gone at once.
    void Unload();

    // An open handle keeps the driver: STATUS_PENDING.
    NTSTATUS BeginUnload();

    DRIVER_CONTEXT *context() { return ContextOfDevice(driver_->DeviceObject); }

  private:
    sim::Machine &machine_;
    PDRIVER_OBJECT driver_ = nullptr;
};

} // namespace kext_test

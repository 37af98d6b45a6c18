// The driver's client on an embedded computer: a handle of the driver's device.
#pragma once

#include <memory>
#include <utility>

#include <ntddk.h>

#include "../device.h"
#include "embedded_computer.h"
#include "nt/io_manager.h"

namespace netverdict
{

class EmbeddedDevice final : public Device
{
  public:
    // Returns the status of the driver or the I/O manager if the device does not open. The device keeps the computer.
    static NTSTATUS Open(std::shared_ptr<EmbeddedComputer> computer, std::shared_ptr<EmbeddedDevice> *device);

    // Closes the handle. Before this returns, the driver decides by the fail policy on everything that it holds.
    ~EmbeddedDevice() override;

    EmbeddedDevice(const EmbeddedDevice &) = delete;
    EmbeddedDevice &operator=(const EmbeddedDevice &) = delete;

    void Read(void *buffer, uint32_t length, Completion completion, void *context) override;
    IoResult Write(const void *bytes, uint32_t length) override;
    IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                     uint32_t output_length) override;
    void CancelReads() override;

    // In builds for tests: makes an object between each device and its user.
    // That object sees every call from the first one until just before the handle is closed.
    using Wrapper = std::shared_ptr<Device> (*)(std::shared_ptr<EmbeddedDevice> device);
    static inline Wrapper wrapper = nullptr;

    sim::Machine &machine() { return machine_; }

  private:
    explicit EmbeddedDevice(std::shared_ptr<EmbeddedComputer> computer)
        : computer_(std::move(computer)), machine_(computer_->machine())
    {
    }

    const std::shared_ptr<EmbeddedComputer> computer_;
    sim::Machine &machine_;
    sim::nt::File *file_ = nullptr;
};

} // namespace netverdict

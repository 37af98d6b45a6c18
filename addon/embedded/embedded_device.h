// A handle of the driver's device on an embedded computer: the driver's client.
#pragma once

#include <future>
#include <memory>

#include <ntddk.h>

#include "../device.h"
#include "embedded_computer.h"
#include "nt/io_manager.h"

namespace netverdict
{

class EmbeddedDevice final : public Device
{
  public:
    // The driver's or the I/O manager's status when the device cannot be had. The computer must outlive it.
    static NTSTATUS Open(EmbeddedComputer &computer, std::unique_ptr<EmbeddedDevice> *device);

    // Closes the handle: the driver decides what it holds by the fail policy before this returns.
    ~EmbeddedDevice() override;

    EmbeddedDevice(const EmbeddedDevice &) = delete;
    EmbeddedDevice &operator=(const EmbeddedDevice &) = delete;

    void Read(void *buffer, uint32_t length, Completion completion, void *context) override;
    IoResult Write(const void *bytes, uint32_t length) override;
    IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                     uint32_t output_length) override;
    void CancelReads() override;

    // In builds for tests: makes what stands between each device and its user, which it gets to see from the first call
    // until just before the handle is closed.
    using Wrapper = std::unique_ptr<Device> (*)(EmbeddedDevice &device);
    static inline Wrapper wrapper = nullptr;

    // Ready once the handle is closed and the computer is not needed any more. Once.
    std::future<void> closed() { return closed_.get_future(); }

    sim::Machine &machine() { return machine_; }

  private:
    explicit EmbeddedDevice(sim::Machine &machine) : machine_(machine) {}

    sim::Machine &machine_;
    sim::nt::File *file_ = nullptr;
    std::promise<void> closed_;
};

} // namespace netverdict

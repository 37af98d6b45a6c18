// The driver's core in this process: a simulated computer of its own, with the driver loaded and its device open.
#pragma once

#include <memory>
#include <string>

#include <ntddk.h>

#include "../device.h"
#include "machine.h"
#include "nt/io_manager.h"

namespace netverdict
{

struct EmbeddedDeviceOptions
{
    bool virtual_clock = false;
    bool verifier = true;
};

class EmbeddedDevice final : public Device
{
  public:
    // The driver's or the I/O manager's status when the device cannot be had.
    static NTSTATUS Open(const EmbeddedDeviceOptions &options, std::unique_ptr<EmbeddedDevice> *device);

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

    // Closes the handle: the driver decides what it holds by the fail policy before this returns. Once.
    void CloseHandle();

    sim::Machine &machine() { return machine_; }

  private:
    explicit EmbeddedDevice(const EmbeddedDeviceOptions &options);

    sim::Machine machine_;
    PDRIVER_OBJECT driver_ = nullptr;
    sim::nt::File *file_ = nullptr;
};

} // namespace netverdict

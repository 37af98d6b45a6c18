// The installed driver's device: overlapped reads over a completion port, whose thread it owns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "../device.h"

namespace netverdict
{

class Win32Device final : public Device
{
  public:
    // Opens `\\.\name` for this process alone. Returns the status if that fails.
    static int32_t Open(const std::u16string &path, std::unique_ptr<Win32Device> *device);

    // No read may be left. The driver decides by the fail policy on everything that it holds.
    ~Win32Device() override;

    Win32Device(const Win32Device &) = delete;
    Win32Device &operator=(const Win32Device &) = delete;

    // One thread calls Read.
    void Read(void *buffer, uint32_t length, Completion completion, void *context) override;

    // One thread at a time may call Write or Control.
    IoResult Write(const void *bytes, uint32_t length) override;
    IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                     uint32_t output_length) override;
    void CancelReads() override;

  private:
    struct State; // keeps the types of Windows' headers out of this one

    explicit Win32Device(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
};

} // namespace netverdict

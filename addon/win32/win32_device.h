// The installed driver's device: overlapped reads over a completion port, with a thread of its own.
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
    // Opens `\\.\name` for this process alone; the status otherwise.
    static int32_t Open(const std::u16string &path, std::unique_ptr<Win32Device> *device);

    // Once no read is left. The driver decides what it holds by the fail policy.
    ~Win32Device() override;

    Win32Device(const Win32Device &) = delete;
    Win32Device &operator=(const Win32Device &) = delete;

    void Read(void *buffer, uint32_t length, Completion completion, void *context) override;

    // From one thread at a time, as the next.
    IoResult Write(const void *bytes, uint32_t length) override;
    IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                     uint32_t output_length) override;
    void CancelReads() override;

  private:
    struct State; // what needs Windows' own headers

    explicit Win32Device(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
};

} // namespace netverdict

// A device for the addon: reads that wait, writes and controls that do not. Each backend implements it.
#pragma once

#include <cstdint>

namespace netverdict
{

struct IoResult
{
    int32_t status = 0; // NTSTATUS
    uint64_t information = 0;
};

class Device
{
  public:
    // Called once for each read, on any thread. It may be called before Read returns.
    using Completion = void (*)(void *context, int32_t status, uint64_t information);

    virtual ~Device() = default;

    // Reads the next bytes of the info stream. `buffer` must live until the completion.
    // The driver may keep the calling thread until it has bytes.
    virtual void Read(void *buffer, uint32_t length, Completion completion, void *context) = 0;

    // Writes whole command records. It never waits for the driver.
    virtual IoResult Write(const void *bytes, uint32_t length) = 0;

    virtual IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                             uint32_t output_length) = 0;

    // Completes every pending read with STATUS_CANCELLED, or with the bytes that it has.
    // Also ends a read that keeps its thread, as far as the driver allows it.
    virtual void CancelReads() = 0;
};

} // namespace netverdict

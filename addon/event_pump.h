// Keeps reads in flight on a device, and gives their bytes to one consumer in the order of the reads.
//
// Concurrency: completions come on any thread, and wake the consumer at once.
// The pump's thread posts reads again as the consumer frees their buffers.
// It stops while `high_water` bytes wait: the driver's bounded queue fills then, and the driver counts lost events.
// A read that fails for lack of memory took nothing from the driver's queue. It is issued again a little later.
// Only the consumer's thread calls Start, Front, Pop and end. No lock is held during a callback.
//
// A driver may keep the thread within a read until it has something to give. Stop ends such a read:
// first by cancelling it, then by the Shutdown command. If neither ends it, the thread is left behind.
// All that the thread and the completions touch is owned by the thread too.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "device.h"

namespace netverdict
{

struct EventPumpOptions
{
    uint32_t buffers = 4;
    uint32_t buffer_size = 65536;  // bytes
    uint64_t high_water = 1 << 20; // bytes
    // If every read fails for lack of memory for this long, the stream ends.
    std::chrono::milliseconds patience{5000};
    // If a cancelled read keeps the thread for this long, Stop writes a Shutdown command.
    std::chrono::milliseconds cancel_patience{250};
    // If reads have not ended after this time, Stop leaves them behind.
    std::chrono::milliseconds stop_patience{800};
};

class EventPump
{
  public:
    struct Bytes
    {
        const uint8_t *data;
        size_t length;
    };

    // Throws if there is no memory or no thread.
    // After Front had nothing to give, `readable` is called once, on any thread, when there is something.
    EventPump(std::shared_ptr<Device> device, const EventPumpOptions &options, std::function<void()> readable);
    ~EventPump();

    EventPump(const EventPump &) = delete;
    EventPump &operator=(const EventPump &) = delete;

    // Begins to read.
    void Start();

    // Returns the oldest bytes that were read, valid until Pop. Returns nothing if there are none.
    std::optional<Bytes> Front();
    void Pop();

    // The status of the read that ended the stream, once Front has given everything before it.
    std::optional<int32_t> end() const;

    // Ends all reads and waits for their completions, but not for longer than `stop_patience`.
    // After that `readable` is not called. The device is kept only by reads that were left behind.
    // Front still gives the bytes that were read. Nothing else may write to the device at the same time.
    void Stop();

  private:
    class Reader;

    std::shared_ptr<Reader> reader_;
    std::thread thread_;
};

} // namespace netverdict

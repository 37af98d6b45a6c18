// Keeps reads in flight on a device, and gives their bytes to one consumer in the order of the reads.
//
// Concurrency: completions come on any thread, and wake the consumer at once.
// The pump's thread posts reads again as the consumer frees their buffers.
// A device's read may wait in the pump's thread. Stop cancels it there, as often as needed.
// It stops while `high_water` bytes wait: the driver's bounded queue fills then, and the driver counts lost events.
// A read that fails for lack of memory took nothing from the driver's queue. It is issued again a little later.
// Only the consumer's thread calls Front, Pop and end. No lock is held during a callback.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

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
    EventPump(Device &device, const EventPumpOptions &options, std::function<void()> readable);
    ~EventPump();

    EventPump(const EventPump &) = delete;
    EventPump &operator=(const EventPump &) = delete;

    // Returns the oldest bytes that were read, valid until Pop. Returns nothing if there are none.
    std::optional<Bytes> Front();
    void Pop();

    // The status of the read that ended the stream, once Front has given everything before it.
    std::optional<int32_t> end() const;

    // Ends all reads and waits for their completions. Front still gives the bytes that were read.
    void Stop();

  private:
    enum class State : uint8_t
    {
        kFree,
        kPosted,
        kFilled
    };

    struct Buffer
    {
        EventPump *pump = nullptr;
        std::unique_ptr<uint8_t[]> bytes;
        uint64_t length = 0;
        int32_t status = 0;
        State state = State::kFree;
    };

    using Clock = std::chrono::steady_clock;

    static void OnRead(void *context, int32_t status, uint64_t information);

    void PostReads();
    bool AwaitTurn(std::unique_lock<std::mutex> &lock); // false: no read is to be posted
    bool MayPost() const;
    bool MayTryAgain(int32_t status);
    Buffer &BufferOf(uint64_t sequence);
    void PopLocked(Buffer &buffer);

    Device &device_;
    const EventPumpOptions options_;
    const std::function<void()> readable_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Buffer> buffers_;
    uint64_t posted_ = 0; // sequence number of the next read to post
    uint64_t taken_ = 0;  // sequence number of the next read to give out
    uint32_t outstanding_ = 0;
    uint64_t waiting_bytes_ = 0;
    std::optional<Clock::time_point> out_of_memory_since_;
    Clock::time_point pause_until_{}; // while there is no memory, no read is posted before this time
    bool failed_ = false;
    bool stopping_ = false;
    bool posting_ = true; // the thread runs, and may be inside a read that waits
    bool armed_ = true;
    std::optional<int32_t> end_;

    std::thread thread_;
};

} // namespace netverdict

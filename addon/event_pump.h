// Keeps reads in flight on a device and hands their bytes, in the order in which the reads were issued, to one
// consumer.
//
// Concurrency: completions come on any thread and tell the consumer at once. A thread of the pump's own posts reads
// again as the consumer frees their buffers, and stops while `high_water` bytes wait: then the driver's bounded queue
// fills, and the driver counts what is lost. A read that there is no memory for is issued again a little later: it took
// nothing from the driver's queue. Front, Pop and end are for the consumer's thread. No lock is held over a
// call out.
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
    // So long reads may go without memory, all of them, before that ends the stream.
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

    // Throws where there is no memory or no thread. `readable` is called on any thread, once after each time that Front
    // had nothing to give.
    EventPump(Device &device, const EventPumpOptions &options, std::function<void()> readable);
    ~EventPump();

    EventPump(const EventPump &) = delete;
    EventPump &operator=(const EventPump &) = delete;

    // The oldest bytes that were read, valid until Pop; nothing when there are none now or any more.
    std::optional<Bytes> Front();
    void Pop();

    // Why there will be no more, once Front has given everything: the status of the read that failed.
    std::optional<int32_t> end() const;

    // Ends all reads and waits for their completions. What was read stays to be taken.
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
    uint64_t posted_ = 0; // sequence numbers: of the next read to post,
    uint64_t taken_ = 0;  // and of the next one to give out
    uint32_t outstanding_ = 0;
    uint64_t waiting_bytes_ = 0;
    std::optional<Clock::time_point> out_of_memory_since_;
    Clock::time_point pause_until_{}; // no read is posted before, while there is no memory
    bool failed_ = false;
    bool stopping_ = false;
    bool armed_ = true;
    std::optional<int32_t> end_;

    std::thread thread_;
};

} // namespace netverdict

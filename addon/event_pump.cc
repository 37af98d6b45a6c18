#include "event_pump.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "keep_loaded.h"
#include "status.h"

namespace netverdict
{
namespace
{

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPause{10};

// A read that is issued just after it was to be cancelled is cancelled the next time.
constexpr milliseconds kCancelPeriod{20};

constexpr uint8_t kShutdownCommand = 0;

} // namespace

// What the pump shares with its thread and with the completions.
class EventPump::Reader : public std::enable_shared_from_this<Reader>
{
  public:
    Reader(std::shared_ptr<Device> device, const EventPumpOptions &options, std::function<void()> readable)
        : device_(std::move(device)), options_(options), readable_(std::move(readable)), buffers_(options.buffers)
    {
        for (Buffer &buffer : buffers_)
        {
            buffer.reader = this;
            buffer.bytes.reset(new uint8_t[options_.buffer_size]);
        }
    }

    void Start()
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        started_ = true;
        changed_.notify_all();
    }

    std::optional<Bytes> Front();
    void Pop();
    std::optional<int32_t> end() const;

    // Runs on the pump's thread, until the pump stops and all reads have ended.
    void Run();

    // Returns false if reads did not end in time.
    bool EndReads();

    // No read is left, so the device is not needed.
    void ReleaseDevice() { device_.reset(); }

  private:
    enum class State : uint8_t
    {
        kFree,
        kPosted,
        kFilled
    };

    struct Buffer
    {
        Reader *reader = nullptr;
        std::unique_ptr<uint8_t[]> bytes;
        uint64_t length = 0;
        int32_t status = 0;
        State state = State::kFree;
    };

    // A thread that writes the Shutdown command.
    struct Shutdown
    {
        std::thread thread;
        bool is_written = false; // under mutex_
    };

    static void OnRead(void *context, int32_t status, uint64_t information);

    void PostReads(std::unique_lock<std::mutex> &lock);
    void CancelReads(std::unique_lock<std::mutex> &lock);
    void WriteShutdown(std::shared_ptr<Shutdown> *shutdown);
    void EndShutdown(std::unique_lock<std::mutex> &lock, Shutdown *shutdown, Clock::time_point limit);
    bool MayPost() const;
    bool MayTryAgain(int32_t status);
    Buffer &BufferOf(uint64_t sequence);
    void PopLocked(Buffer &buffer);

    std::shared_ptr<Device> device_; // reset once no thread reads
    const EventPumpOptions options_;
    const std::function<void()> readable_;

    mutable std::mutex mutex_; // of all that follows
    std::condition_variable changed_;
    std::vector<Buffer> buffers_;
    uint64_t posted_ = 0; // sequence number of the next read to post
    uint64_t taken_ = 0;  // sequence number of the next read to give out
    uint32_t outstanding_ = 0;
    uint32_t notifying_ = 0; // calls of readable_ at this moment
    uint64_t waiting_bytes_ = 0;
    std::optional<Clock::time_point> out_of_memory_since_;
    Clock::time_point pause_until_{}; // while there is no memory, no read is posted before this time
    bool started_ = false;
    bool in_read_ = false; // the thread is within a read
    bool failed_ = false;
    bool stopping_ = false;
    bool left_behind_ = false; // readable_ is not called
    bool armed_ = true;
    std::optional<int32_t> end_;
};

// ---- The consumer

std::optional<EventPump::Bytes> EventPump::Reader::Front()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    for (;;)
    {
        Buffer &buffer = BufferOf(taken_);

        if (posted_ == taken_ || buffer.state != State::kFilled)
        {
            armed_ = true;
            return std::nullopt;
        }
        if (buffer.status < 0)
        {
            end_ = buffer.status;
            return std::nullopt;
        }
        if (buffer.length > 0)
        {
            return Bytes{buffer.bytes.get(), static_cast<size_t>(buffer.length)};
        }
        PopLocked(buffer);
    }
}

void EventPump::Reader::Pop()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    PopLocked(BufferOf(taken_));
}

void EventPump::Reader::PopLocked(Buffer &buffer)
{
    buffer.state = State::kFree;
    waiting_bytes_ -= buffer.length;
    ++taken_;
    // A wake-up costs more than a read, so the thread wakes up for half of the buffers at once.
    if (posted_ - taken_ <= buffers_.size() / 2)
    {
        changed_.notify_one();
    }
}

std::optional<int32_t> EventPump::Reader::end() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    return end_;
}

// ---- Reading

EventPump::Reader::Buffer &EventPump::Reader::BufferOf(uint64_t sequence)
{
    return buffers_[sequence % buffers_.size()];
}

bool EventPump::Reader::MayPost() const
{
    return started_ && posted_ - taken_ < buffers_.size() && waiting_bytes_ < options_.high_water;
}

bool EventPump::Reader::MayTryAgain(int32_t status)
{
    if (status != kStatusInsufficientResources)
    {
        out_of_memory_since_.reset();
        return false;
    }

    const Clock::time_point now = Clock::now();

    pause_until_ = now + kPause;
    out_of_memory_since_ = out_of_memory_since_.value_or(now);
    return now - *out_of_memory_since_ < options_.patience;
}

void EventPump::Reader::Run()
{
    std::unique_lock<std::mutex> lock(mutex_);

    PostReads(lock);
    changed_.wait(lock, [this] { return outstanding_ == 0; });
}

void EventPump::Reader::PostReads(std::unique_lock<std::mutex> &lock)
{
    for (;;)
    {
        changed_.wait(lock, [this] { return stopping_ || failed_ || MayPost(); });
        if (stopping_ || failed_)
        {
            return;
        }
        if (out_of_memory_since_ && changed_.wait_until(lock, pause_until_, [this] { return stopping_ || failed_; }))
        {
            return;
        }

        Buffer &buffer = BufferOf(posted_);

        buffer.state = State::kPosted;
        ++posted_;
        ++outstanding_;
        in_read_ = true;
        lock.unlock();
        device_->Read(buffer.bytes.get(), options_.buffer_size, &OnRead, &buffer);
        lock.lock();
        in_read_ = false;
    }
}

void EventPump::Reader::OnRead(void *context, int32_t status, uint64_t information)
{
    Buffer &buffer = *static_cast<Buffer *>(context);
    Reader &reader = *buffer.reader;
    bool notify = false;

    {
        const std::lock_guard<std::mutex> lock(reader.mutex_);

        buffer.status = reader.MayTryAgain(status) ? 0 : status;
        buffer.length = status < 0 ? 0 : information;
        buffer.state = State::kFilled;
        reader.waiting_bytes_ += buffer.length;
        if (buffer.status < 0)
        {
            reader.failed_ = true;
            reader.changed_.notify_all();
        }
        if (reader.armed_ && !reader.left_behind_ && reader.BufferOf(reader.taken_).state == State::kFilled)
        {
            reader.armed_ = false;
            ++reader.notifying_;
            notify = true;
        }
    }
    if (notify)
    {
        reader.readable_();
    }

    const std::lock_guard<std::mutex> lock(reader.mutex_);

    reader.notifying_ -= notify ? 1 : 0;
    --reader.outstanding_;
    if (reader.stopping_ || reader.failed_)
    {
        reader.changed_.notify_all();
    }
}

// ---- Ending the reads

bool EventPump::Reader::EndReads()
{
    const Clock::time_point start = Clock::now();
    const Clock::time_point limit = start + options_.stop_patience;
    std::shared_ptr<Shutdown> shutdown;
    std::unique_lock<std::mutex> lock(mutex_);

    stopping_ = true;
    changed_.notify_all();
    while (outstanding_ != 0 && Clock::now() < limit)
    {
        if (in_read_ && shutdown == nullptr && Clock::now() - start >= options_.cancel_patience)
        {
            WriteShutdown(&shutdown);
        }
        CancelReads(lock);
        changed_.wait_for(lock, kCancelPeriod, [this] { return outstanding_ == 0; });
    }
    if (shutdown != nullptr)
    {
        EndShutdown(lock, shutdown.get(), limit);
    }
    left_behind_ = outstanding_ != 0;
    changed_.wait(lock, [this] { return notifying_ == 0; });
    return !left_behind_;
}

void EventPump::Reader::CancelReads(std::unique_lock<std::mutex> &lock)
{
    lock.unlock();
    device_->CancelReads();
    lock.lock();
}

// The driver may keep the writing thread too, so that thread owns all that it touches.
void EventPump::Reader::WriteShutdown(std::shared_ptr<Shutdown> *shutdown)
{
    auto made = std::make_shared<Shutdown>();

    try
    {
        made->thread = std::thread(
            [self = shared_from_this(), device = device_, made]
            {
                device->Write(&kShutdownCommand, sizeof(kShutdownCommand));

                const std::lock_guard<std::mutex> lock(self->mutex_);

                made->is_written = true;
                self->changed_.notify_all();
            });
        *shutdown = std::move(made);
    }
    catch (const std::system_error &) // without a thread, cancelling is all that is left
    {
    }
}

void EventPump::Reader::EndShutdown(std::unique_lock<std::mutex> &lock, Shutdown *shutdown, Clock::time_point limit)
{
    const bool is_written = changed_.wait_until(lock, limit, [shutdown] { return shutdown->is_written; });

    lock.unlock();
    if (is_written)
    {
        shutdown->thread.join();
    }
    else
    {
        KeepModuleLoaded();
        shutdown->thread.detach();
    }
    lock.lock();
}

// ---- The pump

EventPump::EventPump(std::shared_ptr<Device> device, const EventPumpOptions &options, std::function<void()> readable)
    : reader_(std::make_shared<Reader>(std::move(device), options, std::move(readable)))
{
    thread_ = std::thread([reader = reader_] { reader->Run(); });
}

EventPump::~EventPump()
{
    Stop();
}

void EventPump::Start()
{
    reader_->Start();
}

std::optional<EventPump::Bytes> EventPump::Front()
{
    return reader_->Front();
}

void EventPump::Pop()
{
    reader_->Pop();
}

std::optional<int32_t> EventPump::end() const
{
    return reader_->end();
}

void EventPump::Stop()
{
    if (!thread_.joinable())
    {
        return;
    }
    if (reader_->EndReads())
    {
        thread_.join();
        reader_->ReleaseDevice();
    }
    else
    {
        KeepModuleLoaded();
        thread_.detach();
    }
}

} // namespace netverdict

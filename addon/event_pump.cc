#include "event_pump.h"

#include <utility>

#include "status.h"

namespace netverdict
{
namespace
{

constexpr std::chrono::milliseconds kPause{10};

} // namespace

EventPump::EventPump(Device &device, const EventPumpOptions &options, std::function<void()> readable)
    : device_(device), options_(options), readable_(std::move(readable)), buffers_(options.buffers)
{
    for (Buffer &buffer : buffers_)
    {
        buffer.pump = this;
        buffer.bytes.reset(new uint8_t[options_.buffer_size]);
    }
    thread_ = std::thread([this] { PostReads(); });
}

EventPump::~EventPump()
{
    Stop();
}

std::optional<EventPump::Bytes> EventPump::Front()
{
    std::lock_guard<std::mutex> lock(mutex_);
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

void EventPump::Pop()
{
    std::lock_guard<std::mutex> lock(mutex_);
    PopLocked(BufferOf(taken_));
}

void EventPump::PopLocked(Buffer &buffer)
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

std::optional<int32_t> EventPump::end() const
{
    std::lock_guard<std::mutex> lock(mutex_);
    return end_;
}

void EventPump::Stop()
{
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    if (!thread_.joinable())
    {
        return;
    }
    // A cancel ends no read that the thread is only about to issue.
    do
    {
        lock.unlock();
        device_.CancelReads();
        lock.lock();
    } while (!changed_.wait_for(lock, kPause, [this] { return !posting_; }));
    lock.unlock();
    thread_.join();
    device_.CancelReads();
    lock.lock();
    changed_.wait(lock, [this] { return outstanding_ == 0; });
}

EventPump::Buffer &EventPump::BufferOf(uint64_t sequence)
{
    return buffers_[sequence % buffers_.size()];
}

bool EventPump::MayPost() const
{
    return posted_ - taken_ < buffers_.size() && waiting_bytes_ < options_.high_water;
}

bool EventPump::MayTryAgain(int32_t status)
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

void EventPump::PostReads()
{
    std::unique_lock<std::mutex> lock(mutex_);
    while (AwaitTurn(lock))
    {
        Buffer &buffer = BufferOf(posted_);
        buffer.state = State::kPosted;
        ++posted_;
        ++outstanding_;
        lock.unlock();
        device_.Read(buffer.bytes.get(), options_.buffer_size, &OnRead, &buffer);
        lock.lock();
    }
    posting_ = false;
    changed_.notify_all();
}

bool EventPump::AwaitTurn(std::unique_lock<std::mutex> &lock)
{
    const auto is_over = [this] { return stopping_ || failed_; };

    changed_.wait(lock, [&] { return is_over() || MayPost(); });
    if (!is_over() && out_of_memory_since_)
    {
        changed_.wait_until(lock, pause_until_, is_over);
    }
    return !is_over();
}

void EventPump::OnRead(void *context, int32_t status, uint64_t information)
{
    Buffer &buffer = *static_cast<Buffer *>(context);
    EventPump &pump = *buffer.pump;
    bool notify = false;
    {
        std::lock_guard<std::mutex> lock(pump.mutex_);
        buffer.status = pump.MayTryAgain(status) ? 0 : status;
        buffer.length = status < 0 ? 0 : information;
        buffer.state = State::kFilled;
        pump.waiting_bytes_ += buffer.length;
        if (buffer.status < 0)
        {
            pump.failed_ = true;
            pump.changed_.notify_all();
        }
        if (pump.armed_ && pump.BufferOf(pump.taken_).state == State::kFilled)
        {
            pump.armed_ = false;
            notify = true;
        }
    }
    if (notify)
    {
        pump.readable_();
    }
    std::lock_guard<std::mutex> lock(pump.mutex_);
    if (--pump.outstanding_ == 0 && pump.stopping_)
    {
        pump.changed_.notify_all();
    }
}

} // namespace netverdict

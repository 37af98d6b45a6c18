#include "event_queue.h"

#include <cstring>

#include "control_device.h"

namespace sim::wine
{

void EventQueue::Begin()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    events_.clear();
    ended_ = false;
    ++session_;
}

uint64_t EventQueue::session() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    return session_;
}

void EventQueue::End()
{
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        events_.clear();
        ended_ = true;
    }
    ControlDeviceNotify();
}

void EventQueue::Push(ControlEvent kind, uint64_t tag, const Writer &body)
{
    Writer event;

    event.Put(static_cast<uint32_t>(sizeof(uint8_t) + sizeof(tag) + body.bytes().size()))
        .Put(static_cast<uint8_t>(kind))
        .Put(tag)
        .PutBytes(body.bytes().data(), body.bytes().size());
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        if (ended_)
        {
            return;
        }
        events_.push_back(event.bytes());
    }
    ControlDeviceNotify();
}

bool EventQueue::IsReadable(uint64_t session) const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    return ended_ || session != session_ || !events_.empty();
}

int64_t EventQueue::Take(uint64_t session, uint8_t *buffer, size_t capacity)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t taken = 0;

    if (ended_ || session != session_)
    {
        return -1;
    }
    while (!events_.empty() && events_.front().size() <= capacity - taken)
    {
        std::memcpy(buffer + taken, events_.front().data(), events_.front().size());
        taken += events_.front().size();
        events_.pop_front();
    }
    return static_cast<int64_t>(taken);
}

} // namespace sim::wine

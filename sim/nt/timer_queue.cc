#include "nt/timer_queue.h"

namespace sim::nt
{

uint64_t TimerQueue::Insert(uint64_t due, Timer timer)
{
    uint64_t id = ++last_id_;

    if (timer.kernel != nullptr)
    {
        kernel_[timer.kernel] = id;
    }
    due_[id] = due;
    ordered_.emplace(Key{due, id}, std::move(timer));
    return id;
}

bool TimerQueue::Remove(uint64_t id)
{
    auto due = due_.find(id);

    if (due == due_.end())
    {
        return false;
    }

    auto found = ordered_.find(Key{due->second, id});

    if (found->second.kernel != nullptr)
    {
        kernel_.erase(found->second.kernel);
    }
    ordered_.erase(found);
    due_.erase(due);
    return true;
}

bool TimerQueue::Remove(PKTIMER timer)
{
    auto found = kernel_.find(timer);

    return found != kernel_.end() && Remove(found->second);
}

std::pair<uint64_t, TimerQueue::Timer> TimerQueue::TakeNext()
{
    auto first = ordered_.begin();
    std::pair<uint64_t, Timer> next{first->first.first, std::move(first->second)};

    Remove(first->first.second);
    return next;
}

} // namespace sim::nt

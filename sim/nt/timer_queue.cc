#include "nt/timer_queue.h"

#include <algorithm>

namespace sim::nt
{

uint64_t TimerQueue::Insert(uint64_t due, Timer timer)
{
    uint64_t id = ++last_id_;
    Window window{due, due + timer.tolerance};

    if (timer.kernel != nullptr)
    {
        kernel_[timer.kernel] = id;
    }
    Add(id, window, std::move(timer));
    return id;
}

void TimerQueue::Add(uint64_t id, Window window, Timer timer)
{
    windows_[id] = window;
    latest_.insert(Key{window.second, id});
    ordered_.emplace(Key{window.first, id}, std::move(timer));
}

TimerQueue::Timer TimerQueue::Take(uint64_t id)
{
    auto window = windows_.find(id);
    auto found = ordered_.find(Key{window->second.first, id});
    Timer timer = std::move(found->second);

    ordered_.erase(found);
    latest_.erase(Key{window->second.second, id});
    windows_.erase(window);
    return timer;
}

bool TimerQueue::Remove(uint64_t id)
{
    if (windows_.find(id) == windows_.end())
    {
        return false;
    }

    Timer timer = Take(id);

    if (timer.kernel != nullptr)
    {
        kernel_.erase(timer.kernel);
    }
    return true;
}

bool TimerQueue::Remove(PKTIMER timer)
{
    auto found = kernel_.find(timer);

    return found != kernel_.end() && Remove(found->second);
}

std::pair<uint64_t, TimerQueue::Timer> TimerQueue::TakeNext()
{
    const Key first = ordered_.begin()->first;
    std::pair<uint64_t, Timer> next{first.first, Take(first.second)};

    if (next.second.kernel != nullptr)
    {
        kernel_.erase(next.second.kernel);
    }
    return next;
}

void TimerQueue::Sleep(uint64_t ticks, uint64_t now, bool all)
{
    std::vector<uint64_t> moved;

    for (const auto &[key, timer] : ordered_)
    {
        if (all || timer.counts_sleep)
        {
            moved.push_back(key.second);
        }
    }
    for (uint64_t id : moved)
    {
        const auto nearer = [ticks, now](uint64_t time) { return std::max(time, now + ticks) - ticks; };
        const Window window = windows_[id];

        Add(id, Window{nearer(window.first), nearer(window.second)}, Take(id));
    }
}

std::vector<std::pair<uint64_t, uint64_t>> TimerQueue::KernelWindows() const
{
    std::vector<std::pair<uint64_t, uint64_t>> windows;

    for (const auto &[timer, id] : kernel_)
    {
        windows.push_back(windows_.at(id));
    }
    return windows;
}

} // namespace sim::nt

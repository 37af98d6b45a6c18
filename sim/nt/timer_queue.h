// Timers ordered by due time; timers due at the same time stay in the order they were set. Not thread-safe.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

namespace sim::nt
{

class TimerQueue
{
  public:
    using Work = std::function<void()>;

    static constexpr uint64_t kNever = UINT64_MAX;

    // A timer of a driver (`kernel` is set), or of the simulation itself (`work` and `level` are set).
    struct Timer
    {
        PKTIMER kernel = nullptr;
        KIRQL level = PASSIVE_LEVEL;
        Work work;
    };

    // Returns the id of the timer, never 0.
    uint64_t Insert(uint64_t due, Timer timer);

    // Returns false if the timer is not in the queue.
    bool Remove(uint64_t id);
    bool Remove(PKTIMER timer);

    // Returns kNever when there is no timer.
    uint64_t next_due() const { return ordered_.empty() ? kNever : ordered_.begin()->first.first; }

    // Removes and returns the next timer, with its due time. The queue must not be empty.
    std::pair<uint64_t, Timer> TakeNext();

    // The timers of drivers, by address.
    const std::map<PKTIMER, uint64_t> &kernel_timers() const { return kernel_; }

  private:
    using Key = std::pair<uint64_t, uint64_t>; // due, id

    std::map<Key, Timer> ordered_;
    std::unordered_map<uint64_t, uint64_t> due_; // by id
    std::map<PKTIMER, uint64_t> kernel_;         // ids
    uint64_t last_id_ = 0;
};

} // namespace sim::nt

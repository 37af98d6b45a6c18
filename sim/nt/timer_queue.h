// Timers ordered by due time; timers due at the same time stay in the order they were set. Not thread-safe.
//
// A timer with a tolerance may fire late by so much. It waits for the latest time that all timers allow.
// So timers fire together where their tolerances let them, and each as late as it may.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

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
        uint64_t tolerance = 0;
        bool counts_sleep = false;
    };

    // Returns the id of the timer, never 0.
    uint64_t Insert(uint64_t due, Timer timer);

    // Returns false if the timer is not in the queue.
    bool Remove(uint64_t id);
    bool Remove(PKTIMER timer);

    // The time at which the timers that are due then have to fire. Returns kNever when there is no timer.
    uint64_t next_wake() const { return latest_.empty() ? kNever : latest_.begin()->first; }

    // Returns kNever when there is no timer.
    uint64_t next_due() const { return ordered_.empty() ? kNever : ordered_.begin()->first.first; }

    // Removes and returns the next timer, with its due time. The queue must not be empty.
    std::pair<uint64_t, Timer> TakeNext();

    // Brings the timers that count sleep nearer, or all timers. None is due before `now`.
    void Sleep(uint64_t ticks, uint64_t now, bool all);

    // The timers of drivers, by address.
    const std::map<PKTIMER, uint64_t> &kernel_timers() const { return kernel_; }

    // The times between which a timer of a driver fires, one pair for each.
    std::vector<std::pair<uint64_t, uint64_t>> KernelWindows() const;

  private:
    using Key = std::pair<uint64_t, uint64_t>; // due, id

    // When a timer is due, and when it has to fire.
    using Window = std::pair<uint64_t, uint64_t>;

    void Add(uint64_t id, Window window, Timer timer);
    Timer Take(uint64_t id);

    std::map<Key, Timer> ordered_;
    std::set<Key> latest_; // the ends of the windows, with the ids
    std::unordered_map<uint64_t, Window> windows_;
    std::map<PKTIMER, uint64_t> kernel_; // ids
    uint64_t last_id_ = 0;
};

} // namespace sim::nt

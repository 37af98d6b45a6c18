// The holds that wait for a decision, in the order in which the stack loses patience with them.
//
// Concurrency: everything may be called from any thread. Expired holds are told with no lock held.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>

namespace sim
{
class Machine;
}

namespace sim::net
{

class Core;
class Hold;

class Deadlines
{
  public:
    // As long as Windows' own connect time.
    static constexpr std::chrono::seconds kPatience{21};

    explicit Deadlines(Machine &machine) : machine_(machine) {}

    Deadlines(const Deadlines &) = delete;
    Deadlines &operator=(const Deadlines &) = delete;

    void Add(Hold *hold, const std::weak_ptr<Core> &core);
    void Remove(Hold *hold);

    // Nothing expires any more.
    void End();

  private:
    void ArmLocked(const std::weak_ptr<Core> &core, uint64_t now);
    void Expire(const std::weak_ptr<Core> &core);
    void RemoveLocked(Hold *hold);

    Machine &machine_;
    std::mutex mutex_;
    Hold *first_ = nullptr;
    Hold *last_ = nullptr;
    uint64_t timer_ = 0; // of the scheduler; 0: not armed
    bool ended_ = false;
};

} // namespace sim::net

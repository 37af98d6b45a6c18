// The holds that wait for a decision, ordered by their deadline.
//
// Concurrency: any thread may call it. Holds expire with no lock held.
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

class Hold;

class Deadlines : public std::enable_shared_from_this<Deadlines>
{
  public:
    // As long as Windows tries to connect.
    static constexpr std::chrono::seconds kPatience{21};

    explicit Deadlines(Machine &machine) : machine_(machine) {}

    Deadlines(const Deadlines &) = delete;
    Deadlines &operator=(const Deadlines &) = delete;

    void Add(Hold *hold);
    void Remove(Hold *hold);

    // Nothing expires from here on.
    void End();

  private:
    void ArmLocked(uint64_t now);
    void Expire();
    void RemoveLocked(Hold *hold);

    Machine &machine_;
    std::mutex mutex_;
    Hold *first_ = nullptr;
    Hold *last_ = nullptr;
    uint64_t timer_ = 0; // id of the scheduler's timer; 0: not armed
    bool ended_ = false;
};

} // namespace sim::net

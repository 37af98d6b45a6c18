// The processes of a machine, and the references that drivers hold on them.
//
// Concurrency: every function may be called from any thread.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <list>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace sim
{
class Machine;
}

namespace sim::nt
{

class Processes
{
  public:
    explicit Processes(Machine &machine) : machine_(machine) {}

    Processes(const Processes &) = delete;
    Processes &operator=(const Processes &) = delete;

    // A process with this id starts now, unless one runs. No process has the id 0.
    void Start(uint64_t id);
    // The process ends. Another one may get its id.
    void End(uint64_t id);

    // Refers to the process that runs with this id. Returns null if none does.
    PEPROCESS Refer(uint64_t id);
    // Returns false if the object is no process to which a reference is held.
    bool Dereference(void *object);

    // `process` is referred to.
    static uint64_t CreateTime(PEPROCESS process);

    // Describes the references that drivers hold; empty when there are none.
    std::string Left() const;

  private:
    struct Process
    {
        uint64_t create_time;
        uint32_t references = 0;
    };

    bool Runs(uint64_t id) const;

    Machine &machine_;
    mutable std::shared_mutex mutex_; // guards the members below
    std::list<Process> processes_;    // those that ended too, because drivers may refer to them
    std::unordered_map<uint64_t, Process *> running_;
    std::unordered_set<void *> referred_;
};

} // namespace sim::nt

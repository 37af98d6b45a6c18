// One simulated computer: the kernel, the network stack and the filter engine that a driver runs on.
// Several machines may live in one process.
//
// Concurrency: several threads may use every part at once.
// A thread that calls a kernel function must have a machine (Machine::Scope). A machine's worker thread always has one.
// One thread makes and destroys a machine, while no other uses it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "nt/thread_state.h"

namespace sim
{

namespace nt
{
class CallbackObject;
class Clock;
class DebugPort;
class ErrorLog;
class FaultInjection;
class IoManager;
class Pool;
class Processes;
class Registry;
class Scheduler;
} // namespace nt
namespace ndis
{
class NetBuffers;
}
namespace wfp
{
class Engine;
}
namespace net
{
class Stack;
class UnicastAddresses;
} // namespace net

struct MachineOptions
{
    bool virtual_clock = false; // time passes only in Clock::Advance and in kernel waits
    bool worker = true;         // false: deferred work runs only in Run, in Clock::Advance and in kernel waits
    uint32_t processors = 2;
    bool verifier = true; // pool guards, quarantine, call stacks of allocations; the cheap checks are always on
    uint32_t windows_build = 26100;           // Windows 11 24H2
    std::set<std::string> missing_routines{}; // MmGetSystemRoutineAddress does not find them, as on an older system
};

enum class SleepKind
{
    kStandby,      // S1 to S4: the system notifies drivers through \Callback\PowerState
    kModernStandby // the system stays in S0 and does not notify
};

class Machine
{
  public:
    explicit Machine(const MachineOptions &options = {});
    ~Machine(); // bugchecks if a driver or pool memory is left

    Machine(const Machine &) = delete;
    Machine &operator=(const Machine &) = delete;

    // Returns the calling thread's machine. A thread without one gets OfForeignThread's.
    static Machine &Current()
    {
        Machine *machine = nt::thread_state.machine;

        return machine == nullptr ? OfForeignThread() : *machine;
    }

    // Makes it the calling thread's machine. Scopes nest.
    class Scope
    {
      public:
        explicit Scope(Machine &machine) : previous_(nt::thread_state.machine) { nt::thread_state.machine = &machine; }
        ~Scope() { nt::thread_state.machine = previous_; }

        Scope(const Scope &) = delete;
        Scope &operator=(const Scope &) = delete;

      private:
        Machine *previous_;
    };

    const MachineOptions &options() const { return options_; }
    nt::Pool &pool() { return *pool_; }
    nt::Clock &clock() { return *clock_; }
    nt::Scheduler &scheduler() { return *scheduler_; }
    nt::IoManager &io() { return *io_; }
    nt::FaultInjection &faults() { return *faults_; }
    nt::DebugPort &debug() { return *debug_; }
    nt::Registry &registry() { return *registry_; }
    nt::ErrorLog &error_log() { return *error_log_; }
    nt::CallbackObject &power_state() { return *power_state_; } // \Callback\PowerState
    nt::Processes &processes() { return *processes_; }
    ndis::NetBuffers &net_buffers() { return *net_buffers_; }
    wfp::Engine &wfp() { return *wfp_; }
    net::Stack &net() { return *net_; }
    net::UnicastAddresses &addresses() { return *addresses_; }

    // With a worker: waits until it is idle.
    // Without a worker: runs deferred work and due timers on the calling thread until none is left.
    void Run();

    // Sleeps: interrupt time and system time move, unbiased time does not, and no timer fires. Virtual clock only.
    // Relative timers do not count the sleep, as those of user mode since Windows 8 (page "SetWaitableTimer function").
    // The pages of kernel timers do not say that: with `timers_count_it` timers that expired fire at the end.
    void Sleep(std::chrono::nanoseconds duration, SleepKind kind, bool timers_count_it = false);

    // Replaces the network stack, and forgets its flows. The filter engine and the driver stay.
    // Only the thread that uses the network may call it.
    void RestartNetwork();

  private:
    // Returns the machine of a foreign thread, such as a driver's thread under Wine.
    // Bugchecks in a build that may have several machines.
    static Machine &OfForeignThread();

    const MachineOptions options_;
    std::unique_ptr<nt::FaultInjection> faults_;
    std::unique_ptr<nt::DebugPort> debug_;
    std::unique_ptr<nt::Pool> pool_;
    std::unique_ptr<nt::Clock> clock_;
    std::unique_ptr<nt::Scheduler> scheduler_;
    std::unique_ptr<nt::IoManager> io_;
    std::unique_ptr<nt::Registry> registry_;
    std::unique_ptr<nt::ErrorLog> error_log_;
    std::unique_ptr<nt::CallbackObject> power_state_;
    std::unique_ptr<nt::Processes> processes_;
    std::unique_ptr<ndis::NetBuffers> net_buffers_;
    std::unique_ptr<wfp::Engine> wfp_;
    std::unique_ptr<net::Stack> net_;
    std::unique_ptr<net::UnicastAddresses> addresses_;
    std::vector<std::unique_ptr<net::Stack>> former_networks_; // the driver may still hold their packets
};

} // namespace sim

// One simulated computer: the kernel, the network stack and the filter engine that a driver runs on. Several may live
// in one process.
//
// Concurrency: every part may be used from several threads at once. A thread that calls a kernel function must have a
// machine (Machine::Scope); a machine's own worker thread has it always. Making and destroying a machine is for one
// thread, while no other uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "nt/thread_state.h"

namespace sim
{

namespace nt
{
class CallbackObject;
class Clock;
class DebugPort;
class FaultInjection;
class IoManager;
class Pool;
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
}

struct MachineOptions
{
    bool virtual_clock = false; // time passes in Clock::Advance, and where a thread of the kernel waits
    bool worker = true;         // false: deferred work runs only in Run, in Clock::Advance and in kernel waits
    uint32_t processors = 2;
    bool verifier = true; // pool guards and quarantine, call stacks of allocations; the cheap checks are always on
};

class Machine
{
  public:
    explicit Machine(const MachineOptions &options = {});
    ~Machine(); // bugchecks on what is left: drivers, pool memory

    Machine(const Machine &) = delete;
    Machine &operator=(const Machine &) = delete;

    // The calling thread's machine; for a thread that has none, OfForeignThread.
    static Machine &Current()
    {
        Machine *machine = nt::thread_state.machine;

        return machine == nullptr ? OfForeignThread() : *machine;
    }

    // Makes it the calling thread's machine. Nests.
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
    nt::CallbackObject &power_state() { return *power_state_; } // \Callback\PowerState
    ndis::NetBuffers &net_buffers() { return *net_buffers_; }
    wfp::Engine &wfp() { return *wfp_; }
    net::Stack &net() { return *net_; }

    // Runs deferred work and due timers on the calling thread until none is left (worker == false), or waits until the
    // worker is idle.
    void Run();

    // Another network stack in place of the present one, whose flows are forgotten; the filter engine and the driver
    // stay. For the one thread that uses the network.
    void RestartNetwork();

  private:
    // The machine that a thread of somebody else's, such as a driver's under Wine, calls the kernel of. Bugchecks where
    // there can be several machines.
    static Machine &OfForeignThread();

    const MachineOptions options_;
    std::unique_ptr<nt::FaultInjection> faults_;
    std::unique_ptr<nt::DebugPort> debug_;
    std::unique_ptr<nt::Pool> pool_;
    std::unique_ptr<nt::Clock> clock_;
    std::unique_ptr<nt::Scheduler> scheduler_;
    std::unique_ptr<nt::IoManager> io_;
    std::unique_ptr<nt::CallbackObject> power_state_;
    std::unique_ptr<ndis::NetBuffers> net_buffers_;
    std::unique_ptr<wfp::Engine> wfp_;
    std::unique_ptr<net::Stack> net_;
    std::vector<std::unique_ptr<net::Stack>> former_networks_; // the driver may still hold packets of theirs
};

} // namespace sim

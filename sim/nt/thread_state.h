// The kernel's state of each thread. Every kernel function reads it, so reading must be nearly free.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <functional>

// Initial-exec avoids the call that finds thread-local storage; musl cannot load a shared library with it.
#if defined(__GLIBC__)
#define SIM_THREAD_LOCAL __thread __attribute__((tls_model("initial-exec")))
#else
#define SIM_THREAD_LOCAL __thread
#endif

namespace sim
{
class Machine;
}

namespace sim::nt
{

class ThreadControl;

struct ThreadState
{
    Machine *machine;
    const void *driver_caller; // the stack frame that called the driver last; nullptr: the driver does not run
    ThreadControl *control;    // of a thread of user mode; nullptr: nobody can terminate the thread
    const std::function<void()> *while_waiting; // WhileWaiting's; nullptr: none
    uint32_t ordinal;                           // number of the thread, from 1; 0: none yet
    uint32_t spins;                             // how often it has waited for another processor
    uint16_t locks_held;
    uint16_t critical_regions;
    KIRQL irql;
};

extern SIM_THREAD_LOCAL ThreadState thread_state;

} // namespace sim::nt

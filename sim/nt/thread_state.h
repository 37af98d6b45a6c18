// What the kernel keeps for each thread. Reading it must cost next to nothing: every kernel function does.
#pragma once

#include <ntddk.h>

#include <cstdint>

// Initial-exec spares the call to find thread-local storage. musl cannot load a shared library that asks for it.
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

struct ThreadState
{
    Machine *machine;
    const void *driver_caller; // the stack frame that called the driver last; nullptr: it does not run
    uint32_t ordinal;          // counts threads from 1; 0: not numbered yet
    uint32_t spins;            // how often it has waited for another processor
    uint16_t locks_held;
    uint16_t critical_regions;
    KIRQL irql;
};

extern SIM_THREAD_LOCAL ThreadState thread_state;

} // namespace sim::nt

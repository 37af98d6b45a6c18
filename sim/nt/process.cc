// Processors, processes and threads.

#include <ntddk.h>

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

#include <atomic>

#include "machine.h"
#include "nt/thread_state.h"

using namespace sim;
using namespace sim::nt;

namespace
{

std::atomic<uint32_t> last_ordinal{0};

uint32_t ThreadOrdinal()
{
    if (thread_state.ordinal == 0)
    {
        thread_state.ordinal = last_ordinal.fetch_add(1, std::memory_order_relaxed) + 1;
    }
    return thread_state.ordinal;
}

HANDLE ToId(uint64_t number)
{
    return reinterpret_cast<HANDLE>(static_cast<uintptr_t>(number));
}

} // namespace

// Threads are distributed over the processors in the order of their first call, and stay there.
extern "C" ULONG KeGetCurrentProcessorNumberEx(PPROCESSOR_NUMBER ProcNumber)
{
    ULONG number = ThreadOrdinal() % Machine::Current().options().processors;

    if (ProcNumber != nullptr)
    {
        *ProcNumber = {0, static_cast<UCHAR>(number), 0};
    }
    return number;
}

extern "C" ULONG KeQueryActiveProcessorCountEx(USHORT)
{
    return Machine::Current().options().processors;
}

extern "C" ULONG KeQueryMaximumProcessorCountEx(USHORT)
{
    return Machine::Current().options().processors;
}

extern "C" HANDLE PsGetCurrentProcessId(VOID)
{
    return ToId(static_cast<uint64_t>(getpid()));
}

extern "C" HANDLE PsGetCurrentThreadId(VOID)
{
    return ToId(ThreadOrdinal());
}

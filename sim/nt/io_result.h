// How an I/O request reports its end to user mode.
#pragma once

#include <ntddk.h>

#include <cstdint>

namespace sim::nt
{

struct IoResult
{
    NTSTATUS status = STATUS_SUCCESS;
    uint64_t information = 0;
};

// Called once for each request, on any thread, at IRQL <= DISPATCH_LEVEL.
// It may be called before the function that made the request returns.
using IoCompletion = void (*)(void *context, NTSTATUS status, uint64_t information);

} // namespace sim::nt

// Rundown protection: one thread waits until all threads that were inside have left.
//
// Entry and exit cost one uncontended interlocked operation each, on a padded counter of the processor.
// A thread leaves by the slot through which it entered, so no counter falls below the number of threads inside.
// A waiter that once sees a slot at zero knows that all earlier entries through this slot have left.
// The rundown turns nobody away: the owner clears a flag before it waits, and threads read the flag after they enter.
// test/models/rundown.pml is a model of this protocol.

#pragma once

#include "memory.h"

EXTERN_C_START

typedef struct _RUNDOWN_SLOT
{
    volatile LONG64 Inside;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(LONG64)];
} RUNDOWN_SLOT;

static_assert(sizeof(RUNDOWN_SLOT) == PLATFORM_CACHE_LINE, "processors must not share a line");

typedef struct _RUNDOWN
{
    MEMORY *Memory;
    RUNDOWN_SLOT *Slots;
    UINT32 SlotCount;
    volatile LONG Waiting; ///< RundownWait is looking for zeros: each exit signals Left
    KEVENT Left;
} RUNDOWN;

/// Allocates the counters. Fails with STATUS_INSUFFICIENT_RESOURCES and leaves nothing behind.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS RundownInitialize(_Out_ RUNDOWN *rundown, _Inout_ MEMORY *memory);

/// Frees the counters. No thread is inside, and none enters later.
_IRQL_requires_(PASSIVE_LEVEL)
VOID RundownUninitialize(_Inout_ RUNDOWN *rundown);

/// Enters without waiting. Pass the returned slot to RundownLeave. A full memory barrier.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
RUNDOWN_SLOT *RundownEnter(_Inout_ RUNDOWN *rundown);

/// Leaves. The caller may run on another processor than at entry.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RundownLeave(_Inout_ RUNDOWN *rundown, _Inout_ RUNDOWN_SLOT *slot);

/// Waits until all threads that were inside at the call have left. One caller at a time, which is not inside.
_IRQL_requires_(PASSIVE_LEVEL)
VOID RundownWait(_Inout_ RUNDOWN *rundown);

EXTERN_C_END

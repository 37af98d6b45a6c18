// Who is inside: lets one thread wait until everybody who was inside has left, at the price of one uncontended
// interlocked operation on entry and one on exit.
//
// One padded counter per processor. Whoever enters remembers the slot and leaves by the same one, so no counter is ever
// below the true number inside it. A waiter that has seen a slot at zero once knows that all who had entered through it
// before the wait are gone. The rundown itself turns nobody away: who may enter is said by a flag that the owner clears
// before it waits and that those who entered read afterwards. test/models/rundown.pml is a model of it.

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
    volatile LONG Waiting; ///< RundownWait looks for zeros: whoever leaves signals Left
    KEVENT Left;
} RUNDOWN;

/// Allocates the counters. STATUS_INSUFFICIENT_RESOURCES, after which RundownUninitialize is allowed and nothing else.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS RundownInitialize(_Out_ RUNDOWN *rundown, _Inout_ MEMORY *memory);

/// Nobody may be inside, nor come.
_IRQL_requires_(PASSIVE_LEVEL)
VOID RundownUninitialize(_Inout_ RUNDOWN *rundown);

/// Enters; never waits. Returns the slot to leave by. A full memory barrier.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
RUNDOWN_SLOT *RundownEnter(_Inout_ RUNDOWN *rundown);

/// Leaves, on any processor.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID RundownLeave(_Inout_ RUNDOWN *rundown, _Inout_ RUNDOWN_SLOT *slot);

/// Returns when everybody who was inside at the time of the call has left. One caller at a time, itself not inside.
_IRQL_requires_(PASSIVE_LEVEL)
VOID RundownWait(_Inout_ RUNDOWN *rundown);

EXTERN_C_END

#include "rundown.h"

_Use_decl_annotations_
NTSTATUS RundownInitialize(RUNDOWN *rundown, MEMORY *memory)
{
    RtlZeroMemory(rundown, sizeof(*rundown));
    rundown->Memory = memory;
    KeInitializeEvent(&rundown->Left, NotificationEvent, FALSE);

    rundown->SlotCount = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    if (rundown->SlotCount == 0)
    {
        rundown->SlotCount = 1;
    }
    rundown->Slots = (RUNDOWN_SLOT *)MemoryAllocateCacheAligned(memory, rundown->SlotCount * sizeof(RUNDOWN_SLOT));
    return rundown->Slots != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID RundownUninitialize(RUNDOWN *rundown)
{
    MemoryFree(rundown->Memory, rundown->Slots);
    rundown->Slots = NULL;
}

_Use_decl_annotations_
RUNDOWN_SLOT *RundownEnter(RUNDOWN *rundown)
{
    RUNDOWN_SLOT *slot = &rundown->Slots[KeGetCurrentProcessorNumberEx(NULL) % rundown->SlotCount];

    InterlockedIncrement64(&slot->Inside);
    return slot;
}

_Use_decl_annotations_
VOID RundownLeave(RUNDOWN *rundown, RUNDOWN_SLOT *slot)
{
    InterlockedDecrement64(&slot->Inside);
    if (ReadNoFence(&rundown->Waiting) != 0)
    {
        KeSetEvent(&rundown->Left, IO_NETWORK_INCREMENT, FALSE);
    }
}

static VOID RundownWaitForSlot(RUNDOWN *rundown, RUNDOWN_SLOT *slot)
{
    for (;;)
    {
        KeClearEvent(&rundown->Left);
        // The full barrier orders this read after the clearing: a later exit sets the event again.
        if (InterlockedCompareExchange64(&slot->Inside, 0, 0) == 0)
        {
            return;
        }
        KeWaitForSingleObject(&rundown->Left, Executive, KernelMode, FALSE, NULL);
    }
}

_Use_decl_annotations_
VOID RundownWait(RUNDOWN *rundown)
{
    UINT32 slot;

    InterlockedExchange(&rundown->Waiting, 1);
    for (slot = 0; slot < rundown->SlotCount; slot++)
    {
        RundownWaitForSlot(rundown, &rundown->Slots[slot]);
    }
    InterlockedExchange(&rundown->Waiting, 0);
}

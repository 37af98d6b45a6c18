// Work items of drivers.

#include <ntddk.h>

#include <atomic>
#include <new>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/io_state.h"
#include "nt/irql.h"
#include "nt/pool.h"
#include "nt/scheduler.h"

using namespace sim;
using namespace sim::nt;

struct _IO_WORKITEM
{
    PDEVICE_OBJECT device;
    std::atomic<bool> queued;
};

namespace
{

constexpr ULONG kWorkItemTag = 'tIoW';

// Marks the item as queued and references its device until `call` has run.
// Inside `call` the item may be freed or queued again.
void QueueItem(PIO_WORKITEM item, Scheduler::Work call)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoQueueWorkItem");

    PDEVICE_OBJECT device = item->device;

    if (item->queued.exchange(true))
    {
        Bugcheck("WORK_ITEM_QUEUED_TWICE", "work item %p is queued while it is queued", static_cast<void *>(item));
    }
    ReferenceDevice(device);
    Machine::Current().scheduler().QueueWorkItem(item,
                                                 [item, device, call = std::move(call)]
                                                 {
                                                     item->queued.store(false);
                                                     call();
                                                     DereferenceDevice(device);
                                                 });
}

} // namespace

extern "C" PIO_WORKITEM IoAllocateWorkItem(PDEVICE_OBJECT DeviceObject)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoAllocateWorkItem");

    void *memory = Machine::Current().pool().Allocate(sizeof(IO_WORKITEM), kWorkItemTag);

    return memory == nullptr ? nullptr : new (memory) IO_WORKITEM{DeviceObject, {false}};
}

extern "C" VOID IoFreeWorkItem(PIO_WORKITEM IoWorkItem)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoFreeWorkItem");
    if (IoWorkItem->queued.load())
    {
        Bugcheck("WORK_ITEM_FREED_QUEUED", "work item %p is freed while it is queued", static_cast<void *>(IoWorkItem));
    }
    Machine::Current().pool().Free(IoWorkItem, kWorkItemTag);
}

extern "C" VOID IoQueueWorkItem(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE WorkerRoutine, WORK_QUEUE_TYPE,
                                PVOID Context)
{
    QueueItem(IoWorkItem, [IoWorkItem, WorkerRoutine, Context] { WorkerRoutine(IoWorkItem->device, Context); });
}

extern "C" VOID IoQueueWorkItemEx(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE_EX WorkerRoutine, WORK_QUEUE_TYPE,
                                  PVOID Context)
{
    QueueItem(IoWorkItem,
              [IoWorkItem, WorkerRoutine, Context] { WorkerRoutine(IoWorkItem->device, Context, IoWorkItem); });
}

#include "net_buffer_lists.h"

#include "classify_frame.h"
#include "machine.h"
#include "nt/bugcheck.h"
#include "origin_tracker.h"

namespace sim::wfp
{

NetBufferLists::NetBufferLists(Machine &machine, bool track) : machine_(machine), track_(track) {}

NTSTATUS NetBufferLists::Allocate(ClassifyFrame *frame, NDIS_HANDLE pool, USHORT context_size, USHORT context_back_fill,
                                  MDL *mdl, ULONG offset, SIZE_T length, NET_BUFFER_LIST **made)
{
    NET_BUFFER_LIST *net_buffer_list =
        machine_.net_buffers().Allocate(pool, context_size, context_back_fill, mdl, offset, length);

    if (net_buffer_list == nullptr)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Made(frame, net_buffer_list, kListOfDriver);
    *made = net_buffer_list;
    return STATUS_SUCCESS;
}

NTSTATUS NetBufferLists::Clone(ClassifyFrame *frame, NET_BUFFER_LIST *original, NDIS_HANDLE pool,
                               NET_BUFFER_LIST **made)
{
    NET_BUFFER_LIST *clone = nullptr;

    {
        const std::lock_guard<std::mutex> lock(mutex_);
        clone = machine_.net_buffers().Clone(original, pool);
    }
    if (clone == nullptr)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    StateOf(clone).injectors = StateOf(original).injectors;
    StateOf(clone).injection_context = StateOf(original).injection_context;
    StateOf(clone).security = StateOf(original).security;
    Made(frame, clone, kListOfDriver | kListIsClone);
    *made = clone;
    return STATUS_SUCCESS;
}

void NetBufferLists::Made(ClassifyFrame *frame, NET_BUFFER_LIST *net_buffer_list, uint32_t flags)
{
    StateOf(net_buffer_list).flags = flags;
    StateOf(net_buffer_list).origin = OriginTracker::CopyAllocated(frame);
    count_.fetch_add(1);
    if (track_)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        live_.insert(net_buffer_list);
    }
}

void NetBufferLists::RequireLive(NET_BUFFER_LIST *net_buffer_list, const char *function)
{
    if (track_)
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        if (live_.count(net_buffer_list) == 0)
        {
            Bugcheck("WFP_NBL_NOT_ALLOCATED", "%s: %p was freed before, or is not the driver's", function,
                     static_cast<void *>(net_buffer_list));
        }
    }
    if ((StateOf(net_buffer_list).flags & kListOfDriver) == 0)
    {
        Bugcheck("WFP_NBL_NOT_ALLOCATED", "%s: %p is not the driver's", function, static_cast<void *>(net_buffer_list));
    }
}

void NetBufferLists::Free(NET_BUFFER_LIST *net_buffer_list, const char *function, bool clone)
{
    RequireLive(net_buffer_list, function);

    const ListState state = StateOf(net_buffer_list);

    if ((state.flags & kListInjected) != 0)
    {
        Bugcheck("WFP_NBL_FREED_WHILE_INJECTED", "%s: %p has been injected and is not completed", function,
                 static_cast<void *>(net_buffer_list));
    }
    if (((state.flags & kListIsClone) != 0) != clone)
    {
        Bugcheck("WFP_NBL_WRONG_FREE", "%s: %p is %s", function, static_cast<void *>(net_buffer_list),
                 clone ? "no clone" : "a clone");
    }
    if (state.references != 0)
    {
        Bugcheck("WFP_NBL_REFERENCED", "%s: %p is still referenced", function, static_cast<void *>(net_buffer_list));
    }
    if (track_)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        live_.erase(net_buffer_list);
    }
    count_.fetch_sub(1);

    if (clone)
    {
        NET_BUFFER_LIST *original = net_buffer_list->ParentNetBufferList;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            machine_.net_buffers().FreeClone(net_buffer_list);
        }
        ReleaseIfUnreferenced(original);
    }
    else
    {
        machine_.net_buffers().Free(net_buffer_list);
    }
    OriginTracker::CopyFreed(state.origin);
}

void NetBufferLists::Reference(NET_BUFFER_LIST *net_buffer_list)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    ++StateOf(net_buffer_list).references;
}

void NetBufferLists::Dereference(NET_BUFFER_LIST *net_buffer_list)
{
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        if (StateOf(net_buffer_list).references == 0)
        {
            Bugcheck("WFP_NBL_DEREFERENCED", "FwpsDereferenceNetBufferList0: %p is not referenced",
                     static_cast<void *>(net_buffer_list));
        }
        --StateOf(net_buffer_list).references;
    }
    ReleaseIfUnreferenced(net_buffer_list);
}

bool NetBufferLists::IsReferenced(const NET_BUFFER_LIST *chain)
{
    for (const NET_BUFFER_LIST *list = chain; list != nullptr; list = list->Next)
    {
        if (list->ChildRefCount != 0 || StateOf(list).references != 0)
        {
            return true;
        }
    }
    return false;
}

void NetBufferLists::ReleaseWhenUnreferenced(NET_BUFFER_LIST *net_buffer_list, std::function<void()> release)
{
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        waiting_[net_buffer_list] = std::move(release);
    }
    ReleaseIfUnreferenced(net_buffer_list);
}

void NetBufferLists::ReleaseIfUnreferenced(NET_BUFFER_LIST *net_buffer_list)
{
    std::function<void()> release;

    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto waiting = waiting_.find(net_buffer_list);

        if (waiting == waiting_.end() || net_buffer_list->ChildRefCount != 0 ||
            StateOf(net_buffer_list).references != 0)
        {
            return;
        }
        release = std::move(waiting->second);
        waiting_.erase(waiting);
    }
    release();
}

void NetBufferLists::CheckUnloaded() const
{
    if (count_.load() != 0)
    {
        Bugcheck("WFP_NBL_LEAKED", "%llu net buffer lists of the driver are still allocated",
                 static_cast<unsigned long long>(count_.load()));
    }

    const std::lock_guard<std::mutex> lock(mutex_);

    if (!waiting_.empty())
    {
        Bugcheck("WFP_NBL_REFERENCED", "%zu net buffer lists of the stack are still referenced", waiting_.size());
    }
}

} // namespace sim::wfp

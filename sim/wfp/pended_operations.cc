#include "pended_operations.h"

#include "handles.h"
#include "list_state.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"

namespace sim::wfp
{
namespace
{

// The engine continues with the packet that the driver injects next.
void RequireInjectableNext(const NET_BUFFER_LIST *list)
{
    const uint32_t flags = StateOf(list).flags;

    if ((flags & kListOfDriver) == 0 || (flags & kListInjected) != 0)
    {
        Bugcheck("WFP_COMPLETED_WITH_WRONG_LIST", "%p is no list that the driver can inject after the completion",
                 static_cast<const void *>(list));
    }
}

} // namespace

std::shared_ptr<PendedOperation> PendedOperations::Add(OperationCompletion on_complete)
{
    auto operation = std::make_shared<PendedOperation>();
    const std::lock_guard<std::mutex> lock(mutex_);

    operation->id = ++last_id_;
    operation->on_complete = std::move(on_complete);
    operations_.emplace(operation->id, operation);
    return operation;
}

void PendedOperations::Complete(HANDLE context, NET_BUFFER_LIST *net_buffer_list)
{
    const uint64_t id = HandleNumber(HandleKind::kOperation, context);
    std::shared_ptr<PendedOperation> operation;

    if (net_buffer_list != nullptr)
    {
        RequireInjectableNext(net_buffer_list);
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = operations_.find(id);

        if (found == operations_.end())
        {
            if (id != 0 && id <= last_id_)
            {
                Bugcheck("WFP_OPERATION_COMPLETED_TWICE", "pended operation %llu was completed before",
                         static_cast<unsigned long long>(id));
            }
            Bugcheck("WFP_INVALID_HANDLE", "FwpsCompleteOperation0: %p is no completion context", context);
        }
        operation = found->second;
        operations_.erase(found);
        operation->completed = true;
        if (operation->in_classify)
        {
            return;
        }
    }
    const nt::KernelCall completion;

    operation->on_complete(net_buffer_list);
}

bool PendedOperations::LeaveClassify(PendedOperation &operation)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    operation.in_classify = false;
    return operation.completed;
}

uint64_t PendedOperations::now() const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return operations_.size();
}

uint64_t PendedOperations::total() const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_id_;
}

void PendedOperations::CheckUnloaded() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (!operations_.empty())
    {
        Bugcheck("WFP_OPERATION_NEVER_COMPLETED", "%zu pended operations are left, one of them %llu",
                 operations_.size(), static_cast<unsigned long long>(operations_.begin()->first));
    }
}

} // namespace sim::wfp

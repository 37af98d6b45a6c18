#include "nt/processes.h"

#include "machine.h"
#include "nt/clock.h"
#include "nt/irql.h"

namespace sim::nt
{

bool Processes::Runs(uint64_t id) const
{
    const std::shared_lock<std::shared_mutex> lock(mutex_);

    return running_.count(id) != 0;
}

void Processes::Start(uint64_t id)
{
    if (id == 0 || Runs(id))
    {
        return;
    }

    const std::lock_guard<std::shared_mutex> lock(mutex_);

    if (running_.count(id) == 0)
    {
        processes_.push_back({machine_.clock().SystemTime()});
        running_[id] = &processes_.back();
    }
}

void Processes::End(uint64_t id)
{
    const std::lock_guard<std::shared_mutex> lock(mutex_);

    running_.erase(id);
}

PEPROCESS Processes::Refer(uint64_t id)
{
    const std::lock_guard<std::shared_mutex> lock(mutex_);
    const auto found = running_.find(id);

    if (found == running_.end())
    {
        return nullptr;
    }
    found->second->references++;
    referred_.insert(found->second);
    return reinterpret_cast<PEPROCESS>(found->second);
}

bool Processes::Dereference(void *object)
{
    const std::lock_guard<std::shared_mutex> lock(mutex_);

    if (referred_.count(object) == 0)
    {
        return false;
    }
    if (--static_cast<Process *>(object)->references == 0)
    {
        referred_.erase(object);
    }
    return true;
}

uint64_t Processes::CreateTime(PEPROCESS process)
{
    return reinterpret_cast<const Process *>(process)->create_time;
}

std::string Processes::Left() const
{
    const std::shared_lock<std::shared_mutex> lock(mutex_);

    return referred_.empty() ? std::string() : "    " + std::to_string(referred_.size()) + " processes\n";
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

extern "C" NTSTATUS PsLookupProcessByProcessId(HANDLE ProcessId, PEPROCESS *Process)
{
    RequireIrqlAtMost(APC_LEVEL, "PsLookupProcessByProcessId");

    PEPROCESS process = Machine::Current().processes().Refer(reinterpret_cast<uintptr_t>(ProcessId));

    if (process == nullptr)
    {
        return STATUS_INVALID_CID;
    }
    *Process = process;
    return STATUS_SUCCESS;
}

extern "C" LONGLONG PsGetProcessCreateTimeQuadPart(PEPROCESS Process)
{
    return static_cast<LONGLONG>(Processes::CreateTime(Process));
}

#include "injections.h"

#include "classify_frame.h"
#include "handles.h"
#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/irql.h"
#include "nt/scheduler.h"
#include "origin_tracker.h"

#include <algorithm>
#include <chrono>

namespace sim::wfp
{
namespace
{

constexpr std::chrono::seconds kDestroyLimit{60};
constexpr UINT32 kKnownTypes = FWPS_INJECTION_TYPE_STREAM | FWPS_INJECTION_TYPE_TRANSPORT |
                               FWPS_INJECTION_TYPE_NETWORK | FWPS_INJECTION_TYPE_FORWARD;
constexpr size_t kPointerAlignment = sizeof(void *);
constexpr ULONG kIpv4MinimumHeader = 20;
constexpr ULONG kIpv6Header = 40;

void RequireInjectable(const NET_BUFFER_LIST *list)
{
    if ((StateOf(list).flags & kListOfDriver) == 0)
    {
        Bugcheck("WFP_NBL_NOT_ALLOCATED", "%p was injected, but is not the driver's own list",
                 static_cast<const void *>(list));
    }
    if ((StateOf(list).flags & kListInjected) != 0)
    {
        Bugcheck("WFP_NBL_INJECTED_TWICE", "%p was injected again before its completion",
                 static_cast<const void *>(list));
    }
    if (list->FirstNetBuffer == nullptr || list->FirstNetBuffer->DataLength == 0)
    {
        Bugcheck("WFP_NBL_EMPTY", "%p was injected without data", static_cast<const void *>(list));
    }
}

// The network stack reads the header in place.
void RequireContiguousIpHeader(const NET_BUFFER &net_buffer)
{
    MDL *mdl = net_buffer.CurrentMdl;
    const auto *header = static_cast<const uint8_t *>(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority)) +
                         net_buffer.CurrentMdlOffset;
    const ULONG contiguous = MmGetMdlByteCount(mdl) - net_buffer.CurrentMdlOffset;
    const ULONG minimum = contiguous > 0 && (header[0] >> 4) == 6 ? kIpv6Header : kIpv4MinimumHeader;

    if (contiguous < std::min(minimum, net_buffer.DataLength))
    {
        Bugcheck("WFP_IP_HEADER_SPLIT", "the IP header of an injected packet goes over %u bytes of its first MDL",
                 contiguous);
    }
    if (reinterpret_cast<uintptr_t>(header) % kPointerAlignment != 0)
    {
        Bugcheck("WFP_IP_HEADER_MISALIGNED", "the IP header of an injected packet lies at %p",
                 static_cast<const void *>(header));
    }
}

} // namespace

struct Injections::Pending
{
    Injection injection;
    std::shared_ptr<Handle> handle;
    HANDLE injection_context = nullptr;
    FWPS_INJECT_COMPLETE0 complete = nullptr;
    HANDLE completion_context = nullptr;
    NTSTATUS forced_status = STATUS_SUCCESS;
    std::vector<uint8_t> control_data; // a copy made at the call
};

Injections::Injections(Machine &machine) : machine_(machine) {}

NTSTATUS Injections::CreateHandle(ADDRESS_FAMILY family, UINT32 types, HANDLE *handle)
{
    if (handle == nullptr || (types & ~kKnownTypes) != 0 ||
        (family != AF_UNSPEC && family != AF_INET && family != AF_INET6))
    {
        return STATUS_INVALID_PARAMETER;
    }

    const std::lock_guard<std::mutex> lock(mutex_);
    const auto made = std::make_shared<Handle>();

    do
    {
        last_number_ = (last_number_ + 1) & kInjectorMask;
    } while (last_number_ == 0 || handles_.count(last_number_) != 0);
    made->number = last_number_;
    made->family = family;
    made->types = types;
    handles_.emplace(made->number, made);
    *handle = MakeHandle(HandleKind::kInjection, made->number);
    return STATUS_SUCCESS;
}

NTSTATUS Injections::DestroyHandle(HANDLE handle)
{
    std::shared_ptr<Handle> closing;

    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto found = handles_.find(HandleNumber(HandleKind::kInjection, handle));

        if (found == handles_.end())
        {
            return STATUS_INVALID_HANDLE;
        }
        closing = found->second;
        if (closing->closing)
        {
            return STATUS_FWP_INJECT_HANDLE_CLOSING;
        }
        closing->closing = true;
    }

    if (!machine_.scheduler().WaitUntil([&] { return closing->in_flight.load() == 0; }, kDestroyLimit))
    {
        Bugcheck("WFP_INJECTION_NEVER_COMPLETED", "%llu injections of a handle that is being destroyed do not complete",
                 static_cast<unsigned long long>(closing->in_flight.load()));
    }

    const std::lock_guard<std::mutex> lock(mutex_);
    handles_.erase(closing->number);
    return STATUS_SUCCESS;
}

FWPS_PACKET_INJECTION_STATE Injections::Query(HANDLE handle, const NET_BUFFER_LIST *net_buffer_list, HANDLE *context)
{
    const uint64_t number = HandleNumber(HandleKind::kInjection, handle);

    if (number == 0)
    {
        Bugcheck("WFP_INVALID_HANDLE", "FwpsQueryPacketInjectionState0: %p is no injection handle", handle);
    }

    const ListState &state = StateOf(net_buffer_list);

    if (state.injectors == 0)
    {
        return FWPS_PACKET_NOT_INJECTED;
    }
    if ((state.injectors & kInjectorMask) == number)
    {
        if (context != nullptr)
        {
            *context = state.injection_context;
        }
        return FWPS_PACKET_INJECTED_BY_SELF;
    }
    for (uint64_t earlier = state.injectors >> kInjectorBits; earlier != 0; earlier >>= kInjectorBits)
    {
        if ((earlier & kInjectorMask) == number)
        {
            return FWPS_PACKET_PREVIOUSLY_INJECTED_BY_SELF;
        }
    }
    return FWPS_PACKET_INJECTED_BY_OTHER;
}

NTSTATUS Injections::Enter(HANDLE handle, UINT32 type, ADDRESS_FAMILY family, uint64_t count,
                           std::shared_ptr<Handle> *entered)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = handles_.find(HandleNumber(HandleKind::kInjection, handle));

    if (found == handles_.end())
    {
        return STATUS_FWP_INJECT_HANDLE_STALE;
    }

    const std::shared_ptr<Handle> &candidate = found->second;

    if (candidate->closing)
    {
        return STATUS_FWP_INJECT_HANDLE_CLOSING;
    }
    if ((candidate->types & type) == 0 ||
        (candidate->family != AF_UNSPEC && family != AF_UNSPEC && candidate->family != family))
    {
        return STATUS_INVALID_PARAMETER;
    }
    candidate->in_flight.fetch_add(count);
    *entered = candidate;
    return STATUS_SUCCESS;
}

NTSTATUS Injections::Inject(HANDLE handle, HANDLE injection_context, UINT32 type, const Injection &injection,
                            NET_BUFFER_LIST *chain, FWPS_INJECT_COMPLETE0 complete, HANDLE completion_context)
{
    const InjectionBehavior how = BehaviorOf(injection.kind);
    std::vector<NET_BUFFER_LIST *> lists;

    if (chain == nullptr || complete == nullptr)
    {
        return STATUS_INVALID_PARAMETER;
    }
    for (NET_BUFFER_LIST *list = chain; list != nullptr; list = list->Next)
    {
        RequireInjectable(list);
        if (injection.kind == Injection::kNetworkSend)
        {
            RequireContiguousIpHeader(*list->FirstNetBuffer);
        }
        lists.push_back(list);
    }
    if (how.mode == InjectionBehavior::kFail)
    {
        return how.status;
    }

    std::shared_ptr<Handle> entered;
    const NTSTATUS status = Enter(handle, type, injection.family, lists.size(), &entered);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    now_.fetch_add(lists.size());
    total_.fetch_add(lists.size());

    for (NET_BUFFER_LIST *list : lists)
    {
        const auto pending = std::make_shared<Pending>();

        pending->injection = injection;
        pending->injection.net_buffer_list = list;
        pending->injection.origin = StateOf(list).origin;
        if (pending->injection.family == AF_UNSPEC)
        {
            pending->injection.family = entered->family;
        }
        pending->handle = entered;
        pending->injection_context = injection_context;
        pending->complete = complete;
        pending->completion_context = completion_context;
        pending->forced_status = how.status;
        if (injection.control_data != nullptr)
        {
            const auto *bytes = reinterpret_cast<const uint8_t *>(injection.control_data);
            pending->control_data.assign(bytes, bytes + injection.control_data_length);
        }
        list->Next = nullptr;
        StateOf(list).flags |= kListInjected;

        if (how.mode == InjectionBehavior::kInline)
        {
            FinishInline(*pending);
        }
        else
        {
            machine_.scheduler().Queue(DISPATCH_LEVEL, [this, pending] { Finish(*pending); });
        }
    }
    return STATUS_SUCCESS;
}

void Injections::FinishInline(Pending &pending)
{
    const nt::IrqlScope at_dispatch(DISPATCH_LEVEL);
    ClassifyFrame *frame = ClassifyFrame::Top();
    const KIRQL irql_of_frame = frame != nullptr ? frame->irql : PASSIVE_LEVEL;

    if (frame != nullptr)
    {
        frame->irql = DISPATCH_LEVEL;
    }
    Finish(pending);
    if (frame != nullptr)
    {
        frame->irql = irql_of_frame;
    }
}

void Injections::Finish(Pending &pending)
{
    const Injection &injection = pending.injection;
    NET_BUFFER_LIST *list = injection.net_buffer_list;
    ListState &state = StateOf(list);
    InjectionTarget *target = target_.load();
    NTSTATUS status = STATUS_SUCCESS;

    if (injection.control_data != nullptr &&
        std::memcmp(injection.control_data, pending.control_data.data(), pending.control_data.size()) != 0)
    {
        Bugcheck("WFP_SEND_PARAMETERS_CHANGED", "control data changed between an injection and its completion");
    }

    state.injectors = (state.injectors << kInjectorBits) | pending.handle->number;
    state.injection_context = pending.injection_context;
    OriginTracker::CopyInjected(injection.origin);
    if (watcher_)
    {
        watcher_(injection);
    }
    if (target != nullptr)
    {
        const nt::KernelCall delivery;

        status = target->Deliver(injection);
    }
    list->Status = NT_SUCCESS(pending.forced_status) ? status : pending.forced_status;
    state.flags &= ~static_cast<uint32_t>(kListInjected);
    {
        const nt::DriverCall call("FWPS_INJECT_COMPLETE0");
        pending.complete(pending.completion_context, list, TRUE);
    }
    now_.fetch_sub(1);
    if (pending.handle->in_flight.fetch_sub(1) == 1)
    {
        machine_.scheduler().Wake();
    }
}

void Injections::SetBehavior(const InjectionBehavior &behavior)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    behavior_ = behavior;
}

InjectionBehavior Injections::BehaviorOf(Injection::Kind kind) const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return (behavior_.kinds & (1u << kind)) != 0 ? behavior_ : InjectionBehavior();
}

void Injections::CheckUnloaded() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (!handles_.empty())
    {
        Bugcheck("WFP_INJECTION_HANDLE_LEAKED", "%zu injection handles are left, one with %llu injections in flight",
                 handles_.size(), static_cast<unsigned long long>(handles_.begin()->second->in_flight.load()));
    }
}

} // namespace sim::wfp

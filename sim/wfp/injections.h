// Injection handles, and the packets that the driver injects into the stack.
//
// Concurrency: every function may be called from any thread. One mutex guards the handles.
// The mutex is released while deliveries and completions run.
// A handle counts its injections in flight; destroying it waits for them.
#pragma once

#include "engine.h"
#include "net_buffer_lists.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace sim::wfp
{

class Injections
{
  public:
    explicit Injections(Machine &machine);

    NTSTATUS CreateHandle(ADDRESS_FAMILY family, UINT32 types, HANDLE *handle);
    NTSTATUS DestroyHandle(HANDLE handle);

    static FWPS_PACKET_INJECTION_STATE Query(HANDLE handle, const NET_BUFFER_LIST *net_buffer_list, HANDLE *context);

    // Injects and completes each list of the chain separately. `injection` has all members but the list and its origin.
    NTSTATUS Inject(HANDLE handle, HANDLE injection_context, UINT32 type, const Injection &injection,
                    NET_BUFFER_LIST *chain, FWPS_INJECT_COMPLETE0 complete, HANDLE completion_context);

    void SetTarget(InjectionTarget *target) { target_.store(target); }
    void SetWatcher(InjectionWatcher watcher) { watcher_ = std::move(watcher); }
    void SetBehavior(const InjectionBehavior &behavior);

    uint64_t now() const { return now_.load(); }
    uint64_t total() const { return total_.load(); }
    void CheckUnloaded() const;

  private:
    struct Handle
    {
        uint64_t number = 0;
        ADDRESS_FAMILY family = AF_UNSPEC;
        UINT32 types = 0;
        bool closing = false; // guarded by mutex_
        std::atomic<uint64_t> in_flight{0};
    };

    struct Pending;

    InjectionBehavior BehaviorOf(Injection::Kind kind) const;
    NTSTATUS Enter(HANDLE handle, UINT32 type, ADDRESS_FAMILY family, uint64_t count, std::shared_ptr<Handle> *entered);
    void FinishInline(Pending &pending);
    void Finish(Pending &pending);

    Machine &machine_;
    std::atomic<InjectionTarget *> target_{nullptr};
    InjectionWatcher watcher_;
    std::atomic<uint64_t> now_{0};
    std::atomic<uint64_t> total_{0};

    mutable std::mutex mutex_;
    std::map<uint64_t, std::shared_ptr<Handle>> handles_;
    uint64_t last_number_ = 0;
    InjectionBehavior behavior_;
};

} // namespace sim::wfp

// Net buffer lists that the driver allocates through the filter engine, and its references to other lists.
//
// Concurrency: functions may be called from any thread, for one list by one thread at a time.
// Origin and release callbacks run without a lock.
#pragma once

#include "engine.h"
#include "list_state.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

namespace sim::wfp
{

struct ClassifyFrame;

class NetBufferLists
{
  public:
    NetBufferLists(Machine &machine, bool track);

    // `frame` is the classify that the thread is inside of, or nullptr.
    NTSTATUS Allocate(ClassifyFrame *frame, NDIS_HANDLE pool, USHORT context_size, USHORT context_back_fill, MDL *mdl,
                      ULONG offset, SIZE_T length, NET_BUFFER_LIST **made);
    NTSTATUS Clone(ClassifyFrame *frame, NET_BUFFER_LIST *original, NDIS_HANDLE pool, NET_BUFFER_LIST **made);
    void Free(NET_BUFFER_LIST *net_buffer_list, const char *function, bool clone);

    void Reference(NET_BUFFER_LIST *net_buffer_list);
    void Dereference(NET_BUFFER_LIST *net_buffer_list);

    static bool IsReferenced(const NET_BUFFER_LIST *chain);
    void ReleaseWhenUnreferenced(NET_BUFFER_LIST *net_buffer_list, std::function<void()> release);

    uint64_t now() const { return count_.load(); }
    void CheckUnloaded() const;

  private:
    void Made(ClassifyFrame *frame, NET_BUFFER_LIST *net_buffer_list, uint32_t flags);
    void RequireLive(NET_BUFFER_LIST *net_buffer_list, const char *function);
    void ReleaseIfUnreferenced(NET_BUFFER_LIST *net_buffer_list);

    Machine &machine_;
    const bool track_; // knows every live list: a stale pointer is found before it is read
    std::atomic<uint64_t> count_{0};

    mutable std::mutex mutex_;
    std::unordered_set<const NET_BUFFER_LIST *> live_; // only if track_ is set
    std::unordered_map<const NET_BUFFER_LIST *, std::function<void()>> waiting_;
};

} // namespace sim::wfp

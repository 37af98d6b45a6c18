#include "ndis/net_buffers.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <vector>

#include "machine.h"
#include "ndis/net_buffer_objects.h"
#include "nt/bugcheck.h"
#include "nt/fault_injection.h"
#include "nt/freed_pattern.h"
#include "nt/pool_tags.h"
#include "nt/sanitizer.h"

namespace sim::ndis
{

namespace
{

constexpr uint32_t kStackTag = 'kStN';
constexpr size_t kDataAlignment = 16;
constexpr size_t kRestingLists = 256; // with the verifier: freed lists that are kept
constexpr size_t kReadyLists = 1024;  // without it: freed lists of a pool that are ready for reuse

size_t Aligned(size_t bytes)
{
    return (bytes + kDataAlignment - 1) & ~(kDataAlignment - 1);
}

void InitializeBuffer(NetBufferObject *buffer, NDIS_HANDLE pool, bool in_list_object)
{
    std::memset(static_cast<void *>(buffer), 0, sizeof(*buffer));
    buffer->NdisPoolHandle = pool;
    buffer->in_list_object = in_list_object;
}

void SetData(NET_BUFFER *buffer, MDL *mdl, uint32_t offset, size_t length)
{
    buffer->MdlChain = mdl;
    buffer->stDataLength = length;
    SetDataStart(buffer, offset);
}

void FreeMdlChain(MDL *mdl)
{
    while (mdl != nullptr)
    {
        MDL *next = mdl->Next;

        std::free(mdl);
        mdl = next;
    }
}

// Creates an MDL for a part of another one.
MDL *MakePartialMdl(MDL *source, uint32_t offset, uint32_t length)
{
    void *address = MmGetSystemAddressForMdlSafe(source, NormalPagePriority);

    if (address == nullptr)
    {
        return nullptr;
    }

    char *start = static_cast<char *>(address) + offset;
    size_t pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(start, length);
    MDL *mdl = static_cast<MDL *>(std::malloc(sizeof(MDL) + pages * sizeof(PFN_NUMBER)));

    if (mdl != nullptr)
    {
        MmInitializeMdl(mdl, start, length);
        mdl->MdlFlags = MDL_PARTIAL | MDL_PARENT_MAPPED_SYSTEM_VA | MDL_MAPPED_TO_SYSTEM_VA;
        mdl->MappedSystemVa = start;
    }
    return mdl;
}

// Creates MDLs for the data of a buffer. Returns false if there is no memory.
bool CloneData(const NET_BUFFER *original, MDL **chain)
{
    size_t rest = original->stDataLength;
    uint32_t offset = original->CurrentMdlOffset;

    for (MDL *mdl = original->CurrentMdl; rest != 0; mdl = mdl->Next)
    {
        uint32_t piece = static_cast<uint32_t>(std::min<size_t>(rest, mdl->ByteCount - offset));

        if (piece != 0)
        {
            *chain = MakePartialMdl(mdl, offset, piece);
            if (*chain == nullptr)
            {
                return false;
            }
            chain = &(*chain)->Next;
        }
        rest -= piece;
        offset = 0;
    }
    return true;
}

} // namespace

struct NetBufferPool
{
    PoolOwner owner;
    uint32_t tag;
    uint16_t context_size;
    bool with_net_buffer;
    std::atomic<int64_t> allocated{0};
    std::mutex mutex;
    std::vector<NetBufferListObject *> ready; // guarded by mutex
};

class NetBuffersState
{
  public:
    explicit NetBuffersState(Machine &machine) : faults_(machine.faults()), verifier_(machine.options().verifier) {}

    ~NetBuffersState()
    {
        while (!resting_.empty())
        {
            ReleaseOldestLocked();
        }
        for (const std::unique_ptr<NetBufferPool> &pool : pools_)
        {
            FreeReady(*pool);
        }
    }

    NetBufferPool *CreatePool(PoolOwner owner, uint32_t tag, uint16_t context_size, bool with_net_buffer)
    {
        if (MayNot(owner))
        {
            return nullptr;
        }

        auto pool = std::make_unique<NetBufferPool>();

        pool->owner = owner;
        pool->tag = tag;
        pool->context_size = context_size;
        pool->with_net_buffer = with_net_buffer;

        std::lock_guard<std::mutex> lock(mutex_);

        pools_.push_back(std::move(pool));
        return pools_.back().get();
    }

    void DestroyPool(NetBufferPool *pool)
    {
        std::lock_guard<std::mutex> lock(mutex_);
        auto found = std::find_if(pools_.begin(), pools_.end(),
                                  [pool](const std::unique_ptr<NetBufferPool> &other) { return other.get() == pool; });

        if (found == pools_.end())
        {
            Bugcheck("NET_BUFFER_POOL_FREED_TWICE", "%p is freed, but is not a net buffer list pool",
                     static_cast<void *>(pool));
        }
        if (pool->allocated.load() != 0)
        {
            Bugcheck("NET_BUFFER_POOL_IN_USE", "net buffer list pool %s is freed with %lld list(s) allocated",
                     nt::TagName(pool->tag).c_str(), static_cast<long long>(pool->allocated.load()));
        }
        FreeReady(*pool);
        pools_.erase(found);
    }

    // Returns whether an allocation for this owner must fail. Allocations of the network stack never fail.
    bool MayNot(PoolOwner owner) { return owner == PoolOwner::kDriver && faults_.ShouldFail(); }

    NetBufferListObject *AllocateList(NetBufferPool *pool)
    {
        NetBufferListObject *list = nullptr;

        {
            std::lock_guard<std::mutex> lock(pool->mutex);

            if (!pool->ready.empty())
            {
                list = pool->ready.back();
                pool->ready.pop_back();
            }
        }
        if (list == nullptr)
        {
            list = static_cast<NetBufferListObject *>(AllocateMemory(sizeof(NetBufferListObject)));
        }
        if (list != nullptr)
        {
            InitializeList(list, pool);
        }
        return list;
    }

    void InitializeList(NetBufferListObject *list, NetBufferPool *pool)
    {
        std::memset(static_cast<void *>(list), 0, sizeof(*list));
        InitializeBuffer(&list->first, pool, true);
        list->mark = NetBufferListObject::Mark::kLive;
        list->pool = pool;
        list->NdisPoolHandle = pool;
        list->FirstNetBuffer = &list->first;
        pool->allocated.fetch_add(1, std::memory_order_relaxed);
    }

    // The C library of every 64-bit host aligns to 16 bytes.
    static void *AllocateMemory(size_t bytes) { return std::malloc(bytes); }

    bool AddContext(NetBufferListObject *list, uint16_t size, uint16_t back_fill)
    {
        if (size == 0 && back_fill == 0)
        {
            return true;
        }

        auto *context = static_cast<NET_BUFFER_LIST_CONTEXT *>(
            AllocateMemory(sizeof(NET_BUFFER_LIST_CONTEXT) + Aligned(size) + Aligned(back_fill)));

        if (context == nullptr)
        {
            return false;
        }
        context->Next = nullptr;
        context->Size = size;
        context->Offset = static_cast<USHORT>(Aligned(back_fill));
        list->Context = context;
        return true;
    }

    void FreeList(NetBufferListObject *list)
    {
        NetBufferPool *pool = list->pool;

        std::free(list->Context);
        list->mark = NetBufferListObject::Mark::kFreed;
        if (verifier_)
        {
            Rest(list);
        }
        else if (list->is_packet || !KeepReady(pool, list))
        {
            std::free(list);
        }
        pool->allocated.fetch_sub(1, std::memory_order_relaxed);
    }

    int64_t allocated(PoolOwner owner)
    {
        int64_t sum = 0;
        std::lock_guard<std::mutex> lock(mutex_);

        for (const std::unique_ptr<NetBufferPool> &pool : pools_)
        {
            sum += pool->owner == owner ? pool->allocated.load() : 0;
        }
        return sum;
    }

    std::string DriverPoolsLeft()
    {
        std::string left;
        std::lock_guard<std::mutex> lock(mutex_);

        for (const std::unique_ptr<NetBufferPool> &pool : pools_)
        {
            if (pool->owner == PoolOwner::kDriver)
            {
                left += "    pool " + nt::TagName(pool->tag) + " with " + std::to_string(pool->allocated.load()) +
                        " list(s)\n";
            }
        }
        return left;
    }

  private:
    static bool KeepReady(NetBufferPool *pool, NetBufferListObject *list)
    {
        std::lock_guard<std::mutex> lock(pool->mutex);

        if (pool->ready.size() >= kReadyLists)
        {
            return false;
        }
        pool->ready.push_back(list);
        return true;
    }

    static void FreeReady(NetBufferPool &pool)
    {
        for (NetBufferListObject *list : pool.ready)
        {
            std::free(list);
        }
        pool.ready.clear();
    }

    // The mark stays readable, so a double free is found. A pattern fills the rest.
    void Rest(NetBufferListObject *list)
    {
        std::lock_guard<std::mutex> lock(mutex_);

        nt::FillFreed(static_cast<NET_BUFFER_LIST *>(list), sizeof(NET_BUFFER_LIST));
        nt::FillFreed(static_cast<NET_BUFFER *>(&list->first), sizeof(NET_BUFFER));
        nt::ForbidAccess(static_cast<NET_BUFFER_LIST *>(list), sizeof(NET_BUFFER_LIST));
        nt::ForbidAccess(static_cast<NET_BUFFER *>(&list->first), sizeof(NET_BUFFER));
        resting_.push_back(list);
        if (resting_.size() > kRestingLists)
        {
            ReleaseOldestLocked();
        }
    }

    void ReleaseOldestLocked()
    {
        NetBufferListObject *list = resting_.front();

        nt::AllowAccess(static_cast<NET_BUFFER_LIST *>(list), sizeof(NET_BUFFER_LIST));
        nt::AllowAccess(static_cast<NET_BUFFER *>(&list->first), sizeof(NET_BUFFER));
        RequireFreedPattern(static_cast<NET_BUFFER_LIST *>(list), sizeof(NET_BUFFER_LIST), list);
        RequireFreedPattern(static_cast<NET_BUFFER *>(&list->first), sizeof(NET_BUFFER), list);
        std::free(list);
        resting_.pop_front();
    }

    static void RequireFreedPattern(const void *address, size_t bytes, const NetBufferListObject *list)
    {
        if (!nt::IsFreedPattern(address, bytes))
        {
            Bugcheck("NET_BUFFER_USE_AFTER_FREE", "net buffer list %p was written after it was freed",
                     static_cast<const void *>(list));
        }
    }

    nt::FaultInjection &faults_;
    const bool verifier_;
    std::mutex mutex_; // guards the members below
    std::vector<std::unique_ptr<NetBufferPool>> pools_;
    std::deque<NetBufferListObject *> resting_;
};

NetBuffers::NetBuffers(Machine &machine)
    : state_(std::make_unique<NetBuffersState>(machine)),
      stack_pool_(state_->CreatePool(PoolOwner::kStack, kStackTag, 0, true))
{
}

NetBuffers::~NetBuffers() = default;

NDIS_HANDLE NetBuffers::CreatePool(PoolOwner owner, uint32_t tag, uint16_t context_size, bool with_net_buffer)
{
    return state_->CreatePool(owner, tag, context_size, with_net_buffer);
}

void NetBuffers::DestroyPool(NDIS_HANDLE pool)
{
    state_->DestroyPool(static_cast<NetBufferPool *>(pool));
}

NET_BUFFER_LIST *NetBuffers::Allocate(NDIS_HANDLE handle, uint16_t context_size, uint16_t context_back_fill, MDL *mdl,
                                      uint32_t offset, size_t length)
{
    NetBufferPool *pool = static_cast<NetBufferPool *>(handle);

    if (!pool->with_net_buffer)
    {
        Bugcheck("NET_BUFFER_POOL_KIND", "a list with a net buffer is allocated from pool %s, made without net buffers",
                 nt::TagName(pool->tag).c_str());
    }
    if (state_->MayNot(pool->owner))
    {
        return nullptr;
    }

    NetBufferListObject *list = state_->AllocateList(pool);

    if (list == nullptr)
    {
        return nullptr;
    }
    if (!state_->AddContext(list, context_size == 0 ? pool->context_size : context_size, context_back_fill))
    {
        state_->FreeList(list);
        return nullptr;
    }
    SetData(&list->first, mdl, offset, length);
    return list;
}

NET_BUFFER_LIST *NetBuffers::AllocatePacket(uint32_t headroom, uint32_t length, uint8_t **data)
{
    // The list, its MDL with room for the page numbers, and the bytes, in this order.
    size_t bytes = size_t{headroom} + length;
    size_t mdl_bytes = Aligned(sizeof(MDL) + (bytes / PAGE_SIZE + 2) * sizeof(PFN_NUMBER));
    size_t list_bytes = Aligned(sizeof(NetBufferListObject));
    char *memory = static_cast<char *>(NetBuffersState::AllocateMemory(list_bytes + mdl_bytes + bytes));

    if (memory == nullptr)
    {
        return nullptr;
    }

    NetBufferListObject *list = reinterpret_cast<NetBufferListObject *>(memory);
    MDL *mdl = reinterpret_cast<MDL *>(memory + list_bytes);

    state_->InitializeList(list, static_cast<NetBufferPool *>(stack_pool_));
    list->is_packet = true;
    MmInitializeMdl(mdl, memory + list_bytes + mdl_bytes, bytes);
    MmBuildMdlForNonPagedPool(mdl);
    SetData(&list->first, mdl, headroom, length);
    *data = reinterpret_cast<uint8_t *>(memory + list_bytes + mdl_bytes + headroom);
    return list;
}

NET_BUFFER *NetBuffers::AddNetBuffer(NET_BUFFER_LIST *net_buffer_list, MDL *mdl, uint32_t offset, size_t length)
{
    NET_BUFFER **link = &net_buffer_list->FirstNetBuffer;
    NetBufferPool *pool = ObjectOf(net_buffer_list)->pool;

    if (state_->MayNot(pool->owner))
    {
        return nullptr;
    }

    auto *buffer = static_cast<NetBufferObject *>(NetBuffersState::AllocateMemory(sizeof(NetBufferObject)));

    if (buffer == nullptr)
    {
        return nullptr;
    }
    InitializeBuffer(buffer, pool, false);
    SetData(buffer, mdl, offset, length);
    while (*link != nullptr)
    {
        link = &(*link)->Next;
    }
    *link = buffer;
    return buffer;
}

void NetBuffers::Free(NET_BUFFER_LIST *net_buffer_list)
{
    NetBufferListObject *list = ObjectOf(net_buffer_list);

    if (list->mark != NetBufferListObject::Mark::kLive)
    {
        Bugcheck("NET_BUFFER_LIST_FREED_TWICE", "net buffer list %p is freed, but is not allocated",
                 static_cast<void *>(list));
    }
    if (list->ChildRefCount != 0)
    {
        Bugcheck("NET_BUFFER_LIST_HAS_CLONES", "net buffer list %p is freed with %d clone(s)",
                 static_cast<void *>(list), list->ChildRefCount);
    }
    for (NET_BUFFER *buffer = list->FirstNetBuffer; buffer != nullptr;)
    {
        NET_BUFFER *next = buffer->Next;
        NetBufferObject *object = ObjectOf(buffer);

        if ((list->pool->owner == PoolOwner::kStack && HasRetreatMdl(buffer)) || !FreeRetreatMdl(buffer))
        {
            Bugcheck("NET_BUFFER_RETREAT_LEFT", "net buffer %p is freed with memory that a retreat allocated",
                     static_cast<void *>(buffer));
        }
        FreeMdlChain(object->cloned_mdls);
        if (!object->in_list_object)
        {
            std::free(object);
        }
        buffer = next;
    }
    state_->FreeList(list);
}

NET_BUFFER_LIST *NetBuffers::Clone(NET_BUFFER_LIST *original, NDIS_HANDLE handle)
{
    NetBufferPool *pool = handle == nullptr ? ObjectOf(original)->pool : static_cast<NetBufferPool *>(handle);
    NetBufferListObject *clone = ObjectOf(Allocate(pool, 0, 0, nullptr, 0, 0));
    NET_BUFFER *buffer = clone == nullptr ? nullptr : &clone->first;

    for (NET_BUFFER *source = original->FirstNetBuffer; source != nullptr && buffer != nullptr; source = source->Next)
    {
        NetBufferObject *object = ObjectOf(buffer);

        if (!CloneData(source, &object->cloned_mdls))
        {
            break;
        }
        SetData(buffer, object->cloned_mdls, 0, source->stDataLength);
        if (source->Next == nullptr)
        {
            clone->is_clone = true;
            clone->ParentNetBufferList = original;
            InterlockedIncrement(&original->ChildRefCount);
            return clone;
        }
        buffer = AddNetBuffer(clone, nullptr, 0, 0);
    }
    if (clone != nullptr)
    {
        Free(clone);
    }
    return nullptr;
}

void NetBuffers::FreeClone(NET_BUFFER_LIST *clone)
{
    NET_BUFFER_LIST *original = clone->ParentNetBufferList;

    if (ObjectOf(clone)->mark != NetBufferListObject::Mark::kLive || !ObjectOf(clone)->is_clone)
    {
        Bugcheck("NET_BUFFER_LIST_NOT_A_CLONE", "net buffer list %p is freed as a clone", static_cast<void *>(clone));
    }
    Free(clone);
    InterlockedDecrement(&original->ChildRefCount);
}

int64_t NetBuffers::allocated(PoolOwner owner) const
{
    return state_->allocated(owner);
}

std::string NetBuffers::DriverPoolsLeft() const
{
    return state_->DriverPoolsLeft();
}

} // namespace sim::ndis

// Net buffer lists of a machine: pools, lists, and the moves of a buffer's data start.
//
// Concurrency: any thread may use a pool; one thread at a time uses a list and its buffers, as on Windows.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <cstdint>
#include <memory>
#include <string>

namespace sim
{
class Machine;
}

namespace sim::ndis
{

class NetBuffersState;

// The simulation's state of a net buffer list. Zeroed when the list is allocated.
struct NetBufferListExtension
{
    void *wfp[6]; // for the filter engine
    void *net[2]; // for the network stack
};

// The start of every net buffer list of a machine; ExtendedNetBuffer is the start of every net buffer.
struct ExtendedNetBufferList : NET_BUFFER_LIST
{
    NetBufferListExtension extension;
};

struct ExtendedNetBuffer : NET_BUFFER
{
    int64_t retreat_balance;
};

inline NetBufferListExtension &ExtensionOf(NET_BUFFER_LIST *net_buffer_list)
{
    return static_cast<ExtendedNetBufferList *>(net_buffer_list)->extension;
}

inline const NetBufferListExtension &ExtensionOf(const NET_BUFFER_LIST *net_buffer_list)
{
    return static_cast<const ExtendedNetBufferList *>(net_buffer_list)->extension;
}

// The bytes of all retreats since the buffer was created, minus the bytes of all advances.
inline int64_t RetreatBalance(const NET_BUFFER *net_buffer)
{
    return static_cast<const ExtendedNetBuffer *>(net_buffer)->retreat_balance;
}

// The sum over all buffers of all lists of a chain.
inline int64_t RetreatBalance(const NET_BUFFER_LIST *chain)
{
    int64_t sum = 0;

    for (const NET_BUFFER_LIST *list = chain; list != nullptr; list = list->Next)
    {
        for (const NET_BUFFER *buffer = list->FirstNetBuffer; buffer != nullptr; buffer = buffer->Next)
        {
            sum += RetreatBalance(buffer);
        }
    }
    return sum;
}

enum class PoolOwner : uint8_t
{
    kDriver, // must be freed before the driver is gone
    kStack
};

class NetBuffers
{
  public:
    explicit NetBuffers(Machine &machine);
    ~NetBuffers();

    NetBuffers(const NetBuffers &) = delete;
    NetBuffers &operator=(const NetBuffers &) = delete;

    // Returns nullptr when there is no memory. DestroyPool bugchecks if lists of the pool are still allocated.
    NDIS_HANDLE CreatePool(PoolOwner owner, uint32_t tag, uint16_t context_size, bool with_net_buffer);
    void DestroyPool(NDIS_HANDLE pool);

    // The pool of the network stack's lists.
    NDIS_HANDLE stack_pool() const { return stack_pool_; }

    // Allocates a list with one net buffer over `mdl`: its data is `length` bytes from `offset` on.
    // `mdl` may be null if both are 0. The MDLs still belong to the caller.
    // `context_size` is the size of the list's context data. It and `context_back_fill` are at most 0xFFF0.
    // Returns nullptr when there is no memory.
    NET_BUFFER_LIST *Allocate(NDIS_HANDLE pool, uint16_t context_size, uint16_t context_back_fill, MDL *mdl,
                              uint32_t offset, size_t length);

    // Allocates a list of the stack in one piece with its net buffer, its headroom and `length` contiguous bytes.
    // `*data` points to the bytes, whose content is unspecified; they live as long as the list. It is not pool memory.
    NET_BUFFER_LIST *AllocatePacket(uint32_t headroom, uint32_t length, uint8_t **data);

    // Adds a net buffer at the end of the list.
    NET_BUFFER *AddNetBuffer(NET_BUFFER_LIST *net_buffer_list, MDL *mdl, uint32_t offset, size_t length);

    // Frees the list with its net buffers. A list of the stack may not have MDLs of a retreat then.
    void Free(NET_BUFFER_LIST *net_buffer_list);

    // Allocates a list whose net buffers describe the same bytes by new MDLs. A null `pool` is the original's pool.
    // The original's ChildRefCount counts the clone, and the original must live until FreeClone frees the clone.
    NET_BUFFER_LIST *Clone(NET_BUFFER_LIST *original, NDIS_HANDLE pool);
    void FreeClone(NET_BUFFER_LIST *clone);

    // The number of lists that are allocated now.
    int64_t allocated(PoolOwner owner) const;

    // Lists each pool of the driver with the number of its lists, one per line; empty when there are none.
    std::string DriverPoolsLeft() const;

  private:
    std::unique_ptr<NetBuffersState> state_;
    NDIS_HANDLE stack_pool_;
};

} // namespace sim::ndis

// Net buffer lists of a machine: pools, lists, and the moving of a buffer's data start.
//
// Concurrency: pools may be used from any thread; one list and its buffers by one thread at a time, as on Windows.
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

// What the simulation keeps with every net buffer list. Zeroed when the list is allocated.
struct NetBufferListExtension
{
    void *wfp[6]; // of the filter engine
    void *net[2]; // of the network stack
};

// How every net buffer list and net buffer of a machine begins.
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

// Bytes that the data start was retreated by since the buffer was made, less those that it was advanced by.
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

    // nullptr when there is no memory. DestroyPool bugchecks when lists of it are allocated.
    NDIS_HANDLE CreatePool(PoolOwner owner, uint32_t tag, uint16_t context_size, bool with_net_buffer);
    void DestroyPool(NDIS_HANDLE pool);

    // A pool for the network stack's own lists.
    NDIS_HANDLE stack_pool() const { return stack_pool_; }

    // A list with one net buffer over `mdl`, of which `length` bytes from `offset` on are data. mdl may be null when
    // both are 0. The MDLs stay the caller's. context_size: of the list's context data, up to 0xFFF0, as
    // context_back_fill. nullptr when there is no memory.
    NET_BUFFER_LIST *Allocate(NDIS_HANDLE pool, uint16_t context_size, uint16_t context_back_fill, MDL *mdl,
                              uint32_t offset, size_t length);

    // A list of the stack's with one net buffer over `length` contiguous bytes of its own, with `headroom` bytes of
    // unused space before them; in one piece, and not from pool memory. The bytes are at *data, unspecified, and live
    // as long as the list does.
    NET_BUFFER_LIST *AllocatePacket(uint32_t headroom, uint32_t length, uint8_t **data);

    // One more net buffer at the end of the list.
    NET_BUFFER *AddNetBuffer(NET_BUFFER_LIST *net_buffer_list, MDL *mdl, uint32_t offset, size_t length);

    // Frees the list with its net buffers. Of a list of the stack's, MDLs that a retreat allocated must be gone.
    void Free(NET_BUFFER_LIST *net_buffer_list);

    // A list whose net buffers describe the same bytes by MDLs of their own. The original's ChildRefCount counts it and
    // the original must stay until the clone is freed by FreeClone. pool null: the original's pool.
    NET_BUFFER_LIST *Clone(NET_BUFFER_LIST *original, NDIS_HANDLE pool);
    void FreeClone(NET_BUFFER_LIST *clone);

    // Lists that are allocated now.
    int64_t allocated(PoolOwner owner) const;

    // One line for each pool of the driver's, with the number of its lists; empty when there are none.
    std::string DriverPoolsLeft() const;

  private:
    std::unique_ptr<NetBuffersState> state_;
    NDIS_HANDLE stack_pool_;
};

} // namespace sim::ndis

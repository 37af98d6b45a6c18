// Net buffer lists and net buffers with the members that the simulation adds.
#pragma once

#include <cstdint>

#include "ndis/net_buffers.h"

namespace sim::ndis
{

struct NetBufferPool;

struct NetBufferObject : ExtendedNetBuffer
{
    bool in_list_object; // the first net buffer of its list, freed with the list
    MDL *cloned_mdls;    // allocated for a clone; chained by Next
};

struct NetBufferListObject : ExtendedNetBufferList
{
    enum class Mark : uint64_t
    {
        kLive = 0x4556494C4C424E,
        kFreed = 0x44454552464C424E
    };

    Mark mark;
    NetBufferPool *pool;
    bool is_clone;
    bool is_packet; // one allocation with its data; not reused
    NetBufferObject first;
};

inline NetBufferListObject *ObjectOf(NET_BUFFER_LIST *net_buffer_list)
{
    return static_cast<NetBufferListObject *>(net_buffer_list);
}

inline NetBufferObject *ObjectOf(NET_BUFFER *net_buffer)
{
    return static_cast<NetBufferObject *>(net_buffer);
}

// Sets CurrentMdl, CurrentMdlOffset and DataOffset to `offset` bytes from the start of the MDL chain.
void SetDataStart(NET_BUFFER *net_buffer, uint32_t offset);

// NdisRetreatNetBufferDataStart and NdisGetDataBuffer for the simulation itself.
NDIS_STATUS RetreatDataStart(NET_BUFFER *net_buffer, ULONG bytes, ULONG back_fill,
                             NET_BUFFER_ALLOCATE_MDL_HANDLER allocate);
void *DataBuffer(NET_BUFFER *net_buffer, ULONG bytes, void *storage, ULONG align_multiple, ULONG align_offset);

// Frees the MDL at the front that a retreat of the simulation allocated, if there is one.
// Returns false if the driver's own function allocated it, because only the driver can free it then.
bool FreeRetreatMdl(NET_BUFFER *net_buffer);

// Returns true if a retreat put an MDL at the front that is still there.
bool HasRetreatMdl(const NET_BUFFER *net_buffer);

} // namespace sim::ndis

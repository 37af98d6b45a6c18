// Net buffer lists and net buffers with everything that the simulation adds to them.
#pragma once

#include <cstdint>

#include "ndis/net_buffers.h"

namespace sim::ndis
{

struct NetBufferPool;

struct NetBufferObject : ExtendedNetBuffer
{
    bool in_list_object; // it is the first one of its list: freed with it
    MDL *cloned_mdls;    // of its own, made for a clone; chained by Next
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
    bool is_packet; // in one piece with its data: not reused
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

// Points the data start of a buffer, CurrentMdl and CurrentMdlOffset, at `offset` bytes from the start of its MDL
// chain.
void SetDataStart(NET_BUFFER *net_buffer, uint32_t offset);

// NdisRetreatNetBufferDataStart and NdisGetDataBuffer, for the simulation itself.
NDIS_STATUS RetreatDataStart(NET_BUFFER *net_buffer, ULONG bytes, ULONG back_fill,
                             NET_BUFFER_ALLOCATE_MDL_HANDLER allocate);
void *DataBuffer(NET_BUFFER *net_buffer, ULONG bytes, void *storage, ULONG align_multiple, ULONG align_offset);

// Gives back the MDL at the front that a retreat allocated by its own means, if there is one. False: the driver's own
// function allocated one, and only that can free it.
bool FreeRetreatMdl(NET_BUFFER *net_buffer);

// Whether a retreat put an MDL at the front that is still there.
bool HasRetreatMdl(const NET_BUFFER *net_buffer);

} // namespace sim::ndis

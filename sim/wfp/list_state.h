// What the filter engine keeps with a net buffer list, in the list's extension.
#pragma once

#include "ndis/net_buffers.h"

#include <cstdint>
#include <cstring>

namespace sim::wfp
{

class PacketOrigin;

enum ListFlags : uint32_t
{
    kListOfDriver = 0x1, // made by FwpsAllocate…
    kListIsClone = 0x2,
    kListInjected = 0x4 // between the inject call and its completion
};

struct ListState
{
    uint64_t injectors;       // handle numbers, 16 bits each, the latest lowest
    HANDLE injection_context; // of the latest
    PacketOrigin *origin;
    uint32_t flags;
    uint32_t references; // FwpsReferenceNetBufferList0
    uint64_t unused[2];
};

static_assert(sizeof(ListState) == sizeof(ndis::NetBufferListExtension::wfp), "the state fills the extension");

inline ListState &StateOf(NET_BUFFER_LIST *net_buffer_list)
{
    return *reinterpret_cast<ListState *>(ndis::ExtensionOf(net_buffer_list).wfp);
}

inline const ListState &StateOf(const NET_BUFFER_LIST *net_buffer_list)
{
    return *reinterpret_cast<const ListState *>(ndis::ExtensionOf(net_buffer_list).wfp);
}

constexpr unsigned kInjectorBits = 16;
constexpr uint64_t kInjectorMask = (uint64_t{1} << kInjectorBits) - 1;

} // namespace sim::wfp

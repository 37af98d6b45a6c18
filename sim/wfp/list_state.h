// The filter engine's state of a net buffer list, in the list's extension.
#pragma once

#include "ndis/net_buffers.h"

#include <cstdint>
#include <cstring>

namespace sim::wfp
{

class PacketOrigin;

enum ListFlags : uint32_t
{
    kListOfDriver = 0x1, // allocated by FwpsAllocate…
    kListIsClone = 0x2,
    kListInjected = 0x4 // from the inject call to its completion
};

struct ListState
{
    uint64_t injectors;       // numbers of the handles, 16 bits each, the latest in the lowest bits
    HANDLE injection_context; // of the latest injection
    PacketOrigin *origin;
    uint32_t flags;
    uint32_t references; // taken by FwpsReferenceNetBufferList0
    uint32_t security;   // FWPS_PACKET_LIST_IPSEC_INFORMATION0::flags, as the packet was received
    uint32_t unused[3];
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

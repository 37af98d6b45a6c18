// Moves the data start of a net buffer, and reads its data.

#include <ntddk.h>

#include <ndis.h>

#include <algorithm>
#include <cstring>

#include "machine.h"
#include "ndis/net_buffer_objects.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/fault_injection.h"
#include "nt/irql.h"
#include "nt/pool.h"

namespace sim::ndis
{

namespace
{

constexpr ULONG kRetreatTag = 'tRdN';

// The allocation of a retreat: the MDL, followed by the memory that it describes.
struct RetreatMdl
{
    MDL mdl;
    PFN_NUMBER pages[2 + 0x10000 / PAGE_SIZE]; // room for the pages of the longest packet
};

// MdlFlags of an MDL that a retreat put in front; kOwnMemoryFlag only if the memory is the simulation's.
constexpr CSHORT kRetreatFlag = MDL_NETWORK_HEADER;
constexpr CSHORT kOwnMemoryFlag = MDL_ALLOCATED_FIXED_SIZE;

MDL *AllocateRetreatMdl(ULONG bytes)
{
    void *memory = Machine::Current().pool().Allocate(sizeof(RetreatMdl) + bytes, kRetreatTag);

    if (memory == nullptr)
    {
        return nullptr;
    }

    RetreatMdl *retreat = static_cast<RetreatMdl *>(memory);

    MmInitializeMdl(&retreat->mdl, retreat + 1, bytes);
    MmBuildMdlForNonPagedPool(&retreat->mdl);
    retreat->mdl.MdlFlags |= kOwnMemoryFlag;
    return &retreat->mdl;
}

void FreeMdl(MDL *mdl, NET_BUFFER_FREE_MDL_HANDLER handler)
{
    mdl->MdlFlags &= ~kRetreatFlag;
    if (handler != nullptr)
    {
        handler(mdl);
    }
    else
    {
        Machine::Current().pool().Free(mdl, kRetreatTag);
    }
}

// Copies `length` bytes from the data start. Returns false if an MDL cannot be mapped.
bool CopyData(NET_BUFFER *net_buffer, char *destination, ULONG length)
{
    ULONG offset = net_buffer->CurrentMdlOffset;

    for (MDL *mdl = net_buffer->CurrentMdl; length != 0; mdl = mdl->Next)
    {
        ULONG piece = std::min(length, mdl->ByteCount - offset);

        if (piece != 0)
        {
            void *address = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

            if (address == nullptr)
            {
                return false;
            }
            std::memcpy(destination, static_cast<char *>(address) + offset, piece);
        }
        destination += piece;
        length -= piece;
        offset = 0;
    }
    return true;
}

bool IsAligned(const void *address, ULONG multiple, ULONG offset)
{
    return multiple <= 1 || reinterpret_cast<uintptr_t>(address) % multiple == offset % multiple;
}

// Every function of NDIS in this file calls this first.
void Enter(const char *function)
{
    nt::RequireIrqlAtMost(DISPATCH_LEVEL, function);
    nt::RequireStack(function);
    nt::RequireNoLocksHeld(function);
}

// On Windows the data of a packet may be unmapped, and may have no room before it.
bool FaultInjected()
{
    return Machine::Current().faults().ShouldFailAccess();
}

} // namespace

void SetDataStart(NET_BUFFER *net_buffer, uint32_t offset)
{
    MDL *mdl = net_buffer->MdlChain;
    uint32_t rest = offset;

    while (mdl != nullptr && rest >= mdl->ByteCount && mdl->Next != nullptr)
    {
        rest -= mdl->ByteCount;
        mdl = mdl->Next;
    }
    net_buffer->DataOffset = offset;
    net_buffer->CurrentMdl = mdl;
    net_buffer->CurrentMdlOffset = rest;
}

bool HasRetreatMdl(const NET_BUFFER *net_buffer)
{
    return net_buffer->MdlChain != nullptr && (net_buffer->MdlChain->MdlFlags & kRetreatFlag) != 0;
}

bool FreeRetreatMdl(NET_BUFFER *net_buffer)
{
    while (HasRetreatMdl(net_buffer))
    {
        MDL *mdl = net_buffer->MdlChain;

        if ((mdl->MdlFlags & kOwnMemoryFlag) == 0)
        {
            return false;
        }
        net_buffer->MdlChain = mdl->Next;
        FreeMdl(mdl, nullptr);
    }
    return true;
}

NDIS_STATUS RetreatDataStart(NET_BUFFER *net_buffer, ULONG bytes, ULONG back_fill,
                             NET_BUFFER_ALLOCATE_MDL_HANDLER allocate)
{
    ULONG offset = net_buffer->DataOffset;

    if (offset < bytes)
    {
        ULONG new_bytes = bytes + back_fill;
        MDL *mdl = allocate != nullptr ? allocate(&new_bytes) : AllocateRetreatMdl(new_bytes);

        if (mdl == nullptr)
        {
            return NDIS_STATUS_RESOURCES;
        }
        mdl->MdlFlags |= kRetreatFlag;
        mdl->Next = net_buffer->MdlChain;
        net_buffer->MdlChain = mdl;
        offset += mdl->ByteCount;
    }
    SetDataStart(net_buffer, offset - bytes);
    net_buffer->DataLength += bytes;
    ObjectOf(net_buffer)->retreat_balance += bytes;
    return NDIS_STATUS_SUCCESS;
}

void *DataBuffer(NET_BUFFER *net_buffer, ULONG bytes, void *storage, ULONG align_multiple, ULONG align_offset)
{
    if (bytes == 0 || net_buffer->DataLength < bytes)
    {
        return nullptr;
    }
    if (net_buffer->CurrentMdl->ByteCount - net_buffer->CurrentMdlOffset >= bytes)
    {
        char *address = static_cast<char *>(MmGetSystemAddressForMdlSafe(net_buffer->CurrentMdl, NormalPagePriority));

        if (address == nullptr)
        {
            return nullptr;
        }
        address += net_buffer->CurrentMdlOffset;
        if (IsAligned(address, align_multiple, align_offset))
        {
            return address;
        }
    }
    if (storage == nullptr || !CopyData(net_buffer, static_cast<char *>(storage), bytes))
    {
        return nullptr;
    }
    return storage;
}

} // namespace sim::ndis

using namespace sim;
using namespace sim::ndis;

extern "C" NDIS_STATUS NdisRetreatNetBufferDataStart(PNET_BUFFER NetBuffer, ULONG DataOffsetDelta, ULONG DataBackFill,
                                                     NET_BUFFER_ALLOCATE_MDL_HANDLER AllocateMdlHandler)
{
    Enter("NdisRetreatNetBufferDataStart");
    return FaultInjected() ? NDIS_STATUS_RESOURCES
                           : RetreatDataStart(NetBuffer, DataOffsetDelta, DataBackFill, AllocateMdlHandler);
}

extern "C" VOID NdisAdvanceNetBufferDataStart(PNET_BUFFER NetBuffer, ULONG DataOffsetDelta, BOOLEAN FreeMdl,
                                              NET_BUFFER_FREE_MDL_HANDLER FreeMdlHandler)
{
    Enter("NdisAdvanceNetBufferDataStart");
    if (DataOffsetDelta > NetBuffer->DataLength)
    {
        Bugcheck("NET_BUFFER_ADVANCED_TOO_FAR", "net buffer %p with %u bytes of data is advanced by %u",
                 static_cast<void *>(NetBuffer), NetBuffer->DataLength, DataOffsetDelta);
    }
    SetDataStart(NetBuffer, NetBuffer->DataOffset + DataOffsetDelta);
    NetBuffer->DataLength -= DataOffsetDelta;
    ObjectOf(NetBuffer)->retreat_balance -= DataOffsetDelta;
    while (FreeMdl && HasRetreatMdl(NetBuffer) && NetBuffer->DataOffset >= NetBuffer->MdlChain->ByteCount)
    {
        MDL *mdl = NetBuffer->MdlChain;
        ULONG offset = NetBuffer->DataOffset - mdl->ByteCount;

        NetBuffer->MdlChain = mdl->Next;
        ndis::FreeMdl(mdl, FreeMdlHandler);
        SetDataStart(NetBuffer, offset);
    }
}

extern "C" PVOID NdisGetDataBuffer(PNET_BUFFER NetBuffer, ULONG BytesNeeded, PVOID Storage, ULONG AlignMultiple,
                                   ULONG AlignOffset)
{
    Enter("NdisGetDataBuffer");
    return FaultInjected() ? nullptr : DataBuffer(NetBuffer, BytesNeeded, Storage, AlignMultiple, AlignOffset);
}

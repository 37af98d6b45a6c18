// MmBuildMdlForNonPagedPool does nothing in Wine 8, so the driver's MDLs describe no pages.
// These wrappers complete the MDLs where they enter the simulation.

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

extern "C" NTSTATUS NTAPI AllocateNetBufferListOfDriver(NDIS_HANDLE pool, USHORT context_size, USHORT context_back_fill,
                                                        MDL *mdl_chain, ULONG data_offset, SIZE_T data_length,
                                                        NET_BUFFER_LIST **net_buffer_list)
{
    for (MDL *mdl = mdl_chain; mdl != nullptr; mdl = mdl->Next)
    {
        MmBuildMdlForNonPagedPool(mdl);
    }
    return FwpsAllocateNetBufferAndNetBufferList0(pool, context_size, context_back_fill, mdl_chain, data_offset,
                                                  data_length, net_buffer_list);
}

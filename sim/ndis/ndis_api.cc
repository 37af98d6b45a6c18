// The NDIS functions that a driver without a miniport calls.

#include <ntddk.h>

#include <ndis.h>

#include <algorithm>

#include "machine.h"
#include "ndis/net_buffers.h"
#include "nt/bugcheck.h"
#include "nt/irql.h"
#include "nt/pool.h"

using namespace sim;
using namespace sim::ndis;

extern "C" NDIS_HANDLE NdisAllocateNetBufferListPool(NDIS_HANDLE, const NET_BUFFER_LIST_POOL_PARAMETERS *Parameters)
{
    nt::RequireIrql(PASSIVE_LEVEL, "NdisAllocateNetBufferListPool");
    nt::RequireNoLocksHeld("NdisAllocateNetBufferListPool");
    if (Parameters->Header.Type != NDIS_OBJECT_TYPE_DEFAULT ||
        Parameters->Header.Revision != NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1 ||
        Parameters->Header.Size < NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1)
    {
        return nullptr;
    }
    if (Parameters->PoolTag == 0)
    {
        Bugcheck("POOL_NO_TAG", "NdisAllocateNetBufferListPool was called without a tag");
    }
    return Machine::Current().net_buffers().CreatePool(PoolOwner::kDriver, Parameters->PoolTag, Parameters->ContextSize,
                                                       Parameters->fAllocateNetBuffer != 0);
}

extern "C" VOID NdisFreeNetBufferListPool(NDIS_HANDLE PoolHandle)
{
    nt::RequireIrql(PASSIVE_LEVEL, "NdisFreeNetBufferListPool");
    nt::RequireNoLocksHeld("NdisFreeNetBufferListPool");
    Machine::Current().net_buffers().DestroyPool(PoolHandle);
}

extern "C" PNDIS_GENERIC_OBJECT NdisAllocateGenericObject(PDRIVER_OBJECT DriverObject, ULONG Tag, USHORT Size)
{
    nt::RequireIrqlAtMost(DISPATCH_LEVEL, "NdisAllocateGenericObject");
    nt::RequireNoLocksHeld("NdisAllocateGenericObject");

    size_t bytes = sizeof(NDIS_GENERIC_OBJECT) + Size;
    auto *object = static_cast<PNDIS_GENERIC_OBJECT>(Machine::Current().pool().Allocate(bytes, Tag, true));

    if (object != nullptr)
    {
        object->Header = {NDIS_OBJECT_TYPE_DEFAULT, 1, static_cast<USHORT>(std::min<size_t>(bytes, MAXUSHORT))};
        object->DriverObject = DriverObject;
    }
    return object;
}

extern "C" VOID NdisFreeGenericObject(PNDIS_GENERIC_OBJECT NdisObject)
{
    nt::RequireIrqlAtMost(DISPATCH_LEVEL, "NdisFreeGenericObject");
    nt::RequireNoLocksHeld("NdisFreeGenericObject");
    Machine::Current().pool().Free(NdisObject, 0);
}

#include "owner_shares.h"

// What makes an owner. It is hashed with the owner's name, so that a process is never the owner that a network is.
typedef enum _OWNER_KIND
{
    OwnerProcess,
    OwnerImage,
    OwnerNetworkV4,
    OwnerNetworkV6
} OWNER_KIND;

static_assert(OWNER_SHARES_COUNTERS <= 0x10000, "an owner has 16 bits");

_Use_decl_annotations_
NTSTATUS OwnerSharesInitialize(OWNER_SHARES *shares, MEMORY *memory)
{
    RtlZeroMemory(shares, sizeof(*shares));
    shares->Memory = memory;
    SipHashKeyInitialize(&shares->HashKey);
    shares->Counters = (volatile LONG *)MemoryAllocateCacheAligned(memory, (SIZE_T)OwnerSharesBytes());
    return shares->Counters != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID OwnerSharesUninitialize(OWNER_SHARES *shares)
{
    MemoryFree(shares->Memory, (PVOID)shares->Counters);
}

static UINT16 OwnerSharesHash(const OWNER_SHARES *shares, OWNER_KIND kind, UINT64 name)
{
    UINT64 words[2];

    words[0] = kind;
    words[1] = name;
    return (UINT16)(SipHash13OfWords(&shares->HashKey, words, RTL_NUMBER_OF(words)) % OWNER_SHARES_COUNTERS);
}

_Use_decl_annotations_
UINT16 OwnerSharesOfProcess(const OWNER_SHARES *shares, UINT64 processId)
{
    return OwnerSharesHash(shares, OwnerProcess, processId);
}

_Use_decl_annotations_
UINT16 OwnerSharesOfImage(const OWNER_SHARES *shares, const VOID *path, UINT32 bytes)
{
    return OwnerSharesHash(shares, OwnerImage, SipHash13(&shares->HashKey, path, bytes));
}

_Use_decl_annotations_
UINT16 OwnerSharesOfRemote(const OWNER_SHARES *shares, const CONNECTION_KEY *key)
{
    BOOLEAN isV4 = key->IpVersion == 4;
    UINT64 network = 0;

    RtlCopyMemory(&network, key->RemoteAddress, isV4 ? 3 : 6);
    return OwnerSharesHash(shares, isV4 ? OwnerNetworkV4 : OwnerNetworkV6, network);
}

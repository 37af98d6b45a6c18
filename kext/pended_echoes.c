#include "pended_echoes.h"

#define PENDED_ECHOES_SETS          64u
#define PENDED_ECHOES_PAIRS_PER_SET 15u

_Use_decl_annotations_
VOID PendedEchoesInitialize(PENDED_ECHOES *echoes, MEMORY *memory)
{
    SipHashKeyInitialize(&echoes->HashKey);
    RecentSetInitialize(&echoes->Identifiers, memory, PENDED_ECHOES_SETS, PENDED_ECHOES_PAIRS_PER_SET);
}

_Use_decl_annotations_
VOID PendedEchoesUninitialize(PENDED_ECHOES *echoes)
{
    RecentSetUninitialize(&echoes->Identifiers);
}

static UINT64 PendedEchoesHash(const PENDED_ECHOES *echoes, UINT64 endpointHandle, const CONNECTION_KEY *key)
{
    UINT64 words[1 + sizeof(*key) / sizeof(UINT64)];
    CONNECTION_KEY nameless = *key;

    nameless.RemotePort = 0;
    words[0] = endpointHandle;
    RtlCopyMemory(words + 1, &nameless, sizeof(nameless));
    return SipHash13OfWords(&echoes->HashKey, words, RTL_NUMBER_OF(words));
}

_Use_decl_annotations_
VOID PendedEchoesNote(PENDED_ECHOES *echoes, UINT64 endpointHandle, const CONNECTION_KEY *key)
{
    UINT64 hash = PendedEchoesHash(echoes, endpointHandle, key);
    UINT64 before;

    RecentSetAllocate(&echoes->Identifiers);
    (VOID) RecentSetTake(&echoes->Identifiers, hash, &before);
    RecentSetAdd(&echoes->Identifiers, hash, key->RemotePort);
}

_Use_decl_annotations_
BOOLEAN PendedEchoesFind(PENDED_ECHOES *echoes, UINT64 endpointHandle, CONNECTION_KEY *key)
{
    UINT64 identifier;

    if (endpointHandle == 0 ||
        !RecentSetFind(&echoes->Identifiers, PendedEchoesHash(echoes, endpointHandle, key), &identifier))
    {
        return FALSE;
    }
    key->RemotePort = (UINT16)identifier;
    return TRUE;
}

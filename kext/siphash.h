// SipHash-1-3: a keyed hash for tables whose keys a remote party chooses.
// Keys that collide cannot be found without the secret key. The secret key of a table never leaves the kext.
//
// SipHash-c-d by Aumasson and Bernstein ("SipHash: a fast short-input PRF", 2012), with c = 1 and d = 3.

#pragma once

#include "platform.h"

EXTERN_C_START

typedef struct _SIPHASH_KEY
{
    UINT64 Words[2];
} SIPHASH_KEY;

typedef struct _SIPHASH_STATE
{
    UINT64 V0;
    UINT64 V1;
    UINT64 V2;
    UINT64 V3;
} SIPHASH_STATE;

/// Makes a fresh secret key from what this machine alone knows at this moment (counters, clocks, addresses).
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SipHashKeyInitialize(_Out_ SIPHASH_KEY *key);

/// Hashes `length` bytes. No alignment is needed. Any IRQL.
UINT64 SipHash13(_In_ const SIPHASH_KEY *key, _In_reads_bytes_(length) const VOID *data, _In_ SIZE_T length);

FORCEINLINE UINT64 SipHashRotate(_In_ UINT64 value, _In_ UINT32 bits)
{
    return (value << bits) | (value >> (64 - bits));
}

FORCEINLINE VOID SipHashStart(_Out_ SIPHASH_STATE *state, _In_ const SIPHASH_KEY *key)
{
    state->V0 = key->Words[0] ^ 0x736f6d6570736575ULL;
    state->V1 = key->Words[1] ^ 0x646f72616e646f6dULL;
    state->V2 = key->Words[0] ^ 0x6c7967656e657261ULL;
    state->V3 = key->Words[1] ^ 0x7465646279746573ULL;
}

FORCEINLINE VOID SipHashRound(_Inout_ SIPHASH_STATE *state)
{
    state->V0 += state->V1;
    state->V1 = SipHashRotate(state->V1, 13) ^ state->V0;
    state->V0 = SipHashRotate(state->V0, 32);
    state->V2 += state->V3;
    state->V3 = SipHashRotate(state->V3, 16) ^ state->V2;
    state->V0 += state->V3;
    state->V3 = SipHashRotate(state->V3, 21) ^ state->V0;
    state->V2 += state->V1;
    state->V1 = SipHashRotate(state->V1, 17) ^ state->V2;
    state->V2 = SipHashRotate(state->V2, 32);
}

FORCEINLINE VOID SipHashAbsorb(_Inout_ SIPHASH_STATE *state, _In_ UINT64 word)
{
    state->V3 ^= word;
    SipHashRound(state);
    state->V0 ^= word;
}

FORCEINLINE UINT64 SipHashFinish(_Inout_ SIPHASH_STATE *state)
{
    state->V2 ^= 0xFF;
    SipHashRound(state);
    SipHashRound(state);
    SipHashRound(state);
    return state->V0 ^ state->V1 ^ state->V2 ^ state->V3;
}

/// SipHash13 of `count` words. Unrolled where `count` is a constant of at most 5. Any IRQL.
FORCEINLINE UINT64 SipHash13OfWords(_In_ const SIPHASH_KEY *key, _In_reads_(count) const UINT64 *words,
                                    _In_ UINT32 count)
{
    SIPHASH_STATE state;
    UINT32 i;

    SipHashStart(&state, key);
    for (i = 0; i < count; i++)
    {
        SipHashAbsorb(&state, words[i]);
    }
    SipHashAbsorb(&state, (UINT64)count * sizeof(UINT64) << 56);
    return SipHashFinish(&state);
}

EXTERN_C_END

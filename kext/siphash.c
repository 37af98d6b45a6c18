// SipHash-c-d by Aumasson and Bernstein ("SipHash: a fast short-input PRF", 2012), with c = 1 and d = 3.

#include "siphash.h"

typedef struct _SIPHASH_STATE
{
    UINT64 V0;
    UINT64 V1;
    UINT64 V2;
    UINT64 V3;
} SIPHASH_STATE;

FORCEINLINE UINT64 Rotate(UINT64 value, UINT32 bits)
{
    return (value << bits) | (value >> (64 - bits));
}

FORCEINLINE UINT64 LoadWord(const UINT8 *bytes)
{
    UINT64 word;

    RtlCopyMemory(&word, bytes, sizeof(word));
    return word;
}

FORCEINLINE VOID Start(SIPHASH_STATE *state, const SIPHASH_KEY *key)
{
    state->V0 = key->Words[0] ^ 0x736f6d6570736575ULL;
    state->V1 = key->Words[1] ^ 0x646f72616e646f6dULL;
    state->V2 = key->Words[0] ^ 0x6c7967656e657261ULL;
    state->V3 = key->Words[1] ^ 0x7465646279746573ULL;
}

FORCEINLINE VOID Round(SIPHASH_STATE *state)
{
    state->V0 += state->V1;
    state->V1 = Rotate(state->V1, 13) ^ state->V0;
    state->V0 = Rotate(state->V0, 32);
    state->V2 += state->V3;
    state->V3 = Rotate(state->V3, 16) ^ state->V2;
    state->V0 += state->V3;
    state->V3 = Rotate(state->V3, 21) ^ state->V0;
    state->V2 += state->V1;
    state->V1 = Rotate(state->V1, 17) ^ state->V2;
    state->V2 = Rotate(state->V2, 32);
}

FORCEINLINE VOID Absorb(SIPHASH_STATE *state, UINT64 word)
{
    state->V3 ^= word;
    Round(state);
    state->V0 ^= word;
}

FORCEINLINE UINT64 Finish(SIPHASH_STATE *state)
{
    state->V2 ^= 0xFF;
    Round(state);
    Round(state);
    Round(state);
    return state->V0 ^ state->V1 ^ state->V2 ^ state->V3;
}

_Use_decl_annotations_
UINT64 SipHash13(const SIPHASH_KEY *key, const VOID *data, SIZE_T length)
{
    const UINT8 *bytes = (const UINT8 *)data;
    UINT64 last = (UINT64)length << 56;
    SIPHASH_STATE state;
    SIZE_T left;
    SIZE_T i;

    Start(&state, key);
    for (left = length; left >= sizeof(UINT64); left -= sizeof(UINT64))
    {
        Absorb(&state, LoadWord(bytes));
        bytes += sizeof(UINT64);
    }
    for (i = 0; i < left; i++)
    {
        last |= (UINT64)bytes[i] << (8 * i);
    }
    Absorb(&state, last);
    return Finish(&state);
}

_Use_decl_annotations_
UINT64 SipHash13Of40(const SIPHASH_KEY *key, const VOID *data)
{
    const UINT8 *bytes = (const UINT8 *)data;
    SIPHASH_STATE state;

    Start(&state, key);
    Absorb(&state, LoadWord(bytes));
    Absorb(&state, LoadWord(bytes + 8));
    Absorb(&state, LoadWord(bytes + 16));
    Absorb(&state, LoadWord(bytes + 24));
    Absorb(&state, LoadWord(bytes + 32));
    Absorb(&state, 40ULL << 56);
    return Finish(&state);
}

typedef struct _SIPHASH_SEED
{
    LARGE_INTEGER Counter;
    LARGE_INTEGER SystemTime;
    UINT64 InterruptTime;
    const VOID *StackAddress;
    const VOID *TargetAddress;
} SIPHASH_SEED;

// Kernel-mode BCrypt is not on every host that loads the kext, so the key is mixed from what a remote party can only
// guess: fine-grained counters and addresses.
_Use_decl_annotations_
VOID SipHashKeyInitialize(SIPHASH_KEY *key)
{
    SIPHASH_SEED seed;
    UINT32 i;

    RtlZeroMemory(&seed, sizeof(seed));
    seed.Counter = KeQueryPerformanceCounter(NULL);
    KeQuerySystemTime(&seed.SystemTime);
    seed.InterruptTime = KeQueryInterruptTime();
    seed.StackAddress = &seed;
    seed.TargetAddress = key;

    for (i = 0; i < RTL_NUMBER_OF(key->Words); i++)
    {
        // Word by word, with the clock read anew, so that the second depends on the first and on the time between.
        const SIPHASH_KEY mixing = {{(UINT64)(ULONG_PTR)key ^ i, (UINT64)KeQueryPerformanceCounter(NULL).QuadPart}};

        key->Words[i] = SipHash13(&mixing, &seed, sizeof(seed));
        seed.SystemTime.QuadPart ^= (LONGLONG)key->Words[i];
    }
    RtlZeroMemory(&seed, sizeof(seed));
}

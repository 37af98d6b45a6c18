#include "siphash.h"

_Use_decl_annotations_
UINT64 SipHash13(const SIPHASH_KEY *key, const VOID *data, SIZE_T length)
{
    const UINT8 *bytes = (const UINT8 *)data;
    UINT64 last = (UINT64)length << 56;
    SIPHASH_STATE state;
    SIZE_T left;
    SIZE_T i;

    SipHashStart(&state, key);
    for (left = length; left >= sizeof(UINT64); left -= sizeof(UINT64))
    {
        UINT64 word;

        RtlCopyMemory(&word, bytes, sizeof(word));
        SipHashAbsorb(&state, word);
        bytes += sizeof(UINT64);
    }
    for (i = 0; i < left; i++)
    {
        last |= (UINT64)bytes[i] << (8 * i);
    }
    SipHashAbsorb(&state, last);
    return SipHashFinish(&state);
}

typedef struct _SIPHASH_SEED
{
    LARGE_INTEGER Counter;
    LARGE_INTEGER SystemTime;
    UINT64 InterruptTime;
    const VOID *StackAddress;
    const VOID *TargetAddress;
} SIPHASH_SEED;

// Kernel-mode BCrypt is not on every host that loads the kext.
// So the key is mixed from what a remote party can only guess: fine-grained counters and addresses.
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
        // Each word reads the clock anew, so the second word depends on the first and on the time between.
        SIPHASH_KEY mixing;

        mixing.Words[0] = (UINT64)(ULONG_PTR)key ^ i;
        mixing.Words[1] = (UINT64)KeQueryPerformanceCounter(NULL).QuadPart;
        key->Words[i] = SipHash13(&mixing, &seed, sizeof(seed));
        seed.SystemTime.QuadPart ^= (LONGLONG)key->Words[i];
    }
    RtlZeroMemory(&seed, sizeof(seed));
}

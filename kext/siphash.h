// SipHash-1-3: a keyed hash for tables whose keys a remote party chooses. Without the key it cannot be told which keys
// collide. The key of a table never leaves the kext.

#pragma once

#include "platform.h"

EXTERN_C_START

typedef struct _SIPHASH_KEY
{
    UINT64 Words[2];
} SIPHASH_KEY;

/// Makes a fresh secret key from what this machine alone knows at this moment (counters, clocks, addresses).
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SipHashKeyInitialize(_Out_ SIPHASH_KEY *key);

/// Hashes `length` bytes. No alignment is needed. Any IRQL.
UINT64 SipHash13(_In_ const SIPHASH_KEY *key, _In_reads_bytes_(length) const VOID *data, _In_ SIZE_T length);

/// SipHash13 of exactly 40 bytes (the size of a connection key), unrolled. Any IRQL.
UINT64 SipHash13Of40(_In_ const SIPHASH_KEY *key, _In_reads_bytes_(40) const VOID *data);

EXTERN_C_END

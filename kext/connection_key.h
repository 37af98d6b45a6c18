// The key of a connection: what tells one connection from every other.

#pragma once

#include "platform.h"

EXTERN_C_START

/// One connection, from this machine's view. Addresses are in network order (IPv4 uses the first 4 bytes, the rest is
/// zero), ports in host order and 0 for protocols without ports. Unused bytes are zero.
typedef struct _CONNECTION_KEY
{
    UINT8 LocalAddress[16];
    UINT8 RemoteAddress[16];
    UINT16 LocalPort;
    UINT16 RemotePort;
    UINT8 Protocol;
    UINT8 IpVersion; ///< 4 or 6
    UINT8 Reserved[2];
} CONNECTION_KEY;

static_assert(sizeof(CONNECTION_KEY) == 40, "the key is compared as five 8-byte words");

/// TRUE if the two keys are the same. Any IRQL.
FORCEINLINE BOOLEAN ConnectionKeysEqual(_In_ const CONNECTION_KEY *left, _In_ const CONNECTION_KEY *right)
{
    UINT64 a[5];
    UINT64 b[5];

    RtlCopyMemory(a, left, sizeof(a));
    RtlCopyMemory(b, right, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4])) == 0;
}

EXTERN_C_END

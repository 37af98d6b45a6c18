// The key of a connection: the fields that identify it.

#pragma once

#include "protocol.h"

EXTERN_C_START

// A connection is forgotten CONNECTION_ENDED_SECONDS after its end, or after CONNECTION_IDLE_SECONDS without a packet.
#ifndef CONNECTION_ENDED_SECONDS
#define CONNECTION_ENDED_SECONDS 60
#define CONNECTION_IDLE_SECONDS  600
#endif

// The same in milliseconds, until the first second in which a connection may be forgotten.
#define CONNECTION_ENDED_MS ((CONNECTION_ENDED_SECONDS + 1u) * 1000u)
#define CONNECTION_IDLE_MS  ((CONNECTION_IDLE_SECONDS + 1u) * 1000u)

// How much longer it may take until a connection is forgotten.
#define CONNECTION_CLEAN_TOLERANCE_MS 5000u

/// One connection, from this machine's view. Unused bytes are zero.
/// Addresses are in network order. IPv4 uses the first 4 bytes of an address.
/// Ports are in host order, and 0 for protocols without ports. For ICMP see IcmpSetKey.
/// The scope tells apart what may have the same addresses: see scope_table.h.
typedef struct _CONNECTION_KEY
{
    UINT8 LocalAddress[16];
    UINT8 RemoteAddress[16];
    UINT16 LocalPort;
    UINT16 RemotePort;
    UINT8 Protocol;
    UINT8 Scope;
    UINT8 IpVersion; ///< 4 or 6
    UINT8 Reserved;
} CONNECTION_KEY;

static_assert(sizeof(CONNECTION_KEY) == 40, "the key is compared as five 8-byte words");

// The scopes of a key. SCOPE_DEFAULT is the default compartment, without a link.
// A key with SCOPE_NONE cannot be told apart from others, so it never enters the connection table.
#define SCOPE_DEFAULT 0u
#define SCOPE_NONE    255u

/// TRUE if the two keys are the same. Any IRQL.
FORCEINLINE BOOLEAN ConnectionKeysEqual(_In_ const CONNECTION_KEY *left, _In_ const CONNECTION_KEY *right)
{
    UINT64 a[5];
    UINT64 b[5];

    RtlCopyMemory(a, left, sizeof(a));
    RtlCopyMemory(b, right, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4])) == 0;
}

/// TRUE if the connection has ports. The ports of other keys identify it inside the driver only.
FORCEINLINE BOOLEAN ConnectionKeyHasPorts(_In_ const CONNECTION_KEY *key)
{
    return key->Protocol == PROTOCOL_TCP || key->Protocol == PROTOCOL_UDP;
}

// A packed key has the layout that shard_map.h needs: two words for IPv4, five words for IPv6.
// The last word of a packed key holds both ports, the protocol and the scope.
#define CONNECTION_KEY_WORDS_V4  2u
#define CONNECTION_KEY_WORDS_V6  5u
#define CONNECTION_KEY_LAST_MASK 0x0000FFFFFFFFFFFFULL

/// Packs the key into `words`, of which IPv4 takes the first two. Any IRQL.
FORCEINLINE VOID ConnectionKeyPack(_In_ const CONNECTION_KEY *key, _Out_writes_(5) UINT64 *words)
{
    UINT64 last;

    RtlCopyMemory(&last, &key->LocalPort, sizeof(last));
    last &= CONNECTION_KEY_LAST_MASK;
    if (key->IpVersion == 4)
    {
        UINT32 local;
        UINT32 remote;

        RtlCopyMemory(&local, key->LocalAddress, sizeof(local));
        RtlCopyMemory(&remote, key->RemoteAddress, sizeof(remote));
        words[0] = local | (UINT64)remote << 32;
        words[CONNECTION_KEY_WORDS_V4 - 1] = last;
        return;
    }
    RtlCopyMemory(words, key->LocalAddress, sizeof(key->LocalAddress) + sizeof(key->RemoteAddress));
    words[CONNECTION_KEY_WORDS_V6 - 1] = last;
}

/// Unpacks the key at the start of a cell. Any IRQL.
FORCEINLINE VOID ConnectionKeyUnpack(_In_ const UINT64 *words, _In_ UINT32 keyWords, _Out_ CONNECTION_KEY *key)
{
    const UINT8 *bytes = (const UINT8 *)words;
    UINT64 last = words[keyWords - 1] & CONNECTION_KEY_LAST_MASK;
    UINT32 addressLength = keyWords == CONNECTION_KEY_WORDS_V4 ? 4 : 16;

    RtlZeroMemory(key, sizeof(*key));
    RtlCopyMemory(key->LocalAddress, bytes, addressLength);
    RtlCopyMemory(key->RemoteAddress, bytes + addressLength, addressLength);
    RtlCopyMemory(&key->LocalPort, &last, sizeof(last));
    key->IpVersion = keyWords == CONNECTION_KEY_WORDS_V4 ? 4 : 6;
}

static_assert(FIELD_OFFSET(CONNECTION_KEY, RemoteAddress) == 16 && FIELD_OFFSET(CONNECTION_KEY, LocalPort) == 32 &&
                  FIELD_OFFSET(CONNECTION_KEY, Protocol) == 36 && FIELD_OFFSET(CONNECTION_KEY, Scope) == 37,
              "an IPv6 key is packed as it lies");

EXTERN_C_END

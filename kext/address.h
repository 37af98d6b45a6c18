// Kinds of IP addresses that are treated in a way of their own.
//
// Addresses are in network order. IPv4 uses the first 4 bytes.

#pragma once

#include "platform.h"

EXTERN_C_START

/// 224.0.0.0/4 or ff00::/8 (RFC 5771, RFC 4291). Any IRQL.
FORCEINLINE BOOLEAN AddressIsMulticast(_In_ UINT8 ipVersion, _In_reads_(16) const UINT8 *address)
{
    return ipVersion == 6 ? address[0] == 0xFF : (address[0] & 0xF0) == 0xE0;
}

/// 169.254.0.0/16 or fe80::/10 (RFC 3927, RFC 4291). Any IRQL.
FORCEINLINE BOOLEAN AddressIsLinkLocal(_In_ UINT8 ipVersion, _In_reads_(16) const UINT8 *address)
{
    return ipVersion == 6 ? address[0] == 0xFE && (address[1] & 0xC0) == 0x80 : address[0] == 169 && address[1] == 254;
}

/// 0.0.0.0 or ::. Any IRQL.
FORCEINLINE BOOLEAN AddressIsUnspecified(_In_reads_(16) const UINT8 *address)
{
    UINT64 halves[2];

    RtlCopyMemory(halves, address, sizeof(halves));
    return (halves[0] | halves[1]) == 0;
}

/// 255.255.255.255 (RFC 919). Any IRQL.
FORCEINLINE BOOLEAN AddressIsLimitedBroadcast(_In_ UINT8 ipVersion, _In_reads_(16) const UINT8 *address)
{
    UINT32 bits;

    RtlCopyMemory(&bits, address, sizeof(bits));
    return ipVersion == 4 && bits == 0xFFFFFFFFu;
}

/// Multicast, or the broadcast that every subnet has. Any IRQL.
FORCEINLINE BOOLEAN AddressIsOfMany(_In_ UINT8 ipVersion, _In_reads_(16) const UINT8 *address)
{
    return AddressIsMulticast(ipVersion, address) || AddressIsLimitedBroadcast(ipVersion, address);
}

EXTERN_C_END

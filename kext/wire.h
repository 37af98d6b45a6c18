// Fields of the wire format that differ with the IP version: encodes and decodes them for both versions alike.
//
// Each function works at the given place and returns the place behind what it has written or read. The caller has
// checked that there is room. Pure: no state, any IRQL.

#pragma once

#include "connection_key.h"
#include "protocol.h"

EXTERN_C_START

// Lengths in bytes, by IP version.
#define WIRE_LONGEST_CONNECTION (5u + 59u) ///< ConnectionV6 without its payload: the longest record of a connection
#define WIRE_BANDWIDTH_ENTRY_V4 28u
#define WIRE_BANDWIDTH_ENTRY_V6 52u
#define WIRE_UPDATE_V4          15u
#define WIRE_UPDATE_V6          39u

/// Writes `length` bytes of a field. Integers lie on the wire as they do in memory.
FORCEINLINE UINT8 *WirePut(_Out_writes_bytes_(length) UINT8 *wire, _In_reads_bytes_(length) const VOID *field,
                           _In_ UINT32 length)
{
    RtlCopyMemory(wire, field, length);
    return wire + length;
}

/// Reads `length` bytes into a field.
FORCEINLINE const UINT8 *WireGet(_In_reads_bytes_(length) const UINT8 *wire, _Out_writes_bytes_(length) VOID *field,
                                 _In_ UINT32 length)
{
    RtlCopyMemory(field, wire, length);
    return wire + length;
}

/// Writes the body of a ConnectionEnd, which is also a part of Connection: process id, direction, protocol, both
/// addresses, both ports.
UINT8 *WirePutConnection(_Out_writes_bytes_(46) UINT8 *wire, _In_ const CONNECTION_KEY *key, _In_ UINT64 processId,
                         _In_ UINT8 direction);

/// Writes local address, local port, remote address and remote port: the start of a bandwidth entry.
UINT8 *WirePutEndpoints(_Out_writes_bytes_(36) UINT8 *wire, _In_ const CONNECTION_KEY *key);

/// Reads what WirePutEndpoints writes, and so the middle of an Update command. `key` says the IP version and is zero
/// where an address goes.
const UINT8 *WireGetEndpoints(_In_reads_bytes_(36) const UINT8 *wire, _Inout_ CONNECTION_KEY *key);

EXTERN_C_END

// Encodes and decodes the fields of the wire format that differ with the IP version.
//
// Each function works at the given place and returns the place behind what it has written or read.
// The caller has checked that there is room. The functions are pure: no state, any IRQL.

#pragma once

#include "connection_key.h"
#include "protocol.h"

EXTERN_C_START

// Lengths in bytes, by IP version.
#define WIRE_LONGEST_CONNECTION  (5u + 59u) ///< ConnectionV6 without its payload: the longest record of a connection
#define WIRE_CONNECTION_END_V6   46u        ///< the body of a ConnectionEnd, as WirePutConnection writes it
#define WIRE_CONNECTION_ENTRY_V6 97u        ///< the longest entry of GetConnections
#define WIRE_BANDWIDTH_ENTRY_V4  28u
#define WIRE_BANDWIDTH_ENTRY_V6  52u
#define WIRE_UPDATE_V4           15u
#define WIRE_UPDATE_V6           39u

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

/// Writes process id, direction, protocol, both addresses, both ports: the body of a ConnectionEnd.
/// A Connection record contains the same fields.
UINT8 *WirePutConnection(_Out_writes_bytes_(46) UINT8 *wire, _In_ const CONNECTION_KEY *key, _In_ UINT64 processId,
                         _In_ UINT8 direction);

/// Writes local address, local port, remote address and remote port: the start of a bandwidth entry.
UINT8 *WirePutEndpoints(_Out_writes_bytes_(36) UINT8 *wire, _In_ const CONNECTION_KEY *key);

/// Reads what WirePutEndpoints writes. The middle of an Update command has the same fields.
/// `key` has the IP version, and zeros where the addresses go.
const UINT8 *WireGetEndpoints(_In_reads_bytes_(36) const UINT8 *wire, _Inout_ CONNECTION_KEY *key);

EXTERN_C_END

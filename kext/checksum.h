// Internet checksums (RFC 1071) and their incremental update (RFC 1624, equation 3). Pure functions; any IRQL.
//
// A checksum is a UINT16 whose two bytes are those of the packet: ChecksumLoad and ChecksumStore do not swap them.

#pragma once

#include "ip_header.h"

EXTERN_C_START

/// Reads a checksum field.
FORCEINLINE UINT16 ChecksumLoad(_In_reads_bytes_(2) const UINT8 *bytes)
{
    UINT16 value;

    RtlCopyMemory(&value, bytes, sizeof(value));
    return value;
}

/// Writes a checksum field.
FORCEINLINE VOID ChecksumStore(_Out_writes_bytes_(2) UINT8 *bytes, _In_ UINT16 value)
{
    RtlCopyMemory(bytes, &value, sizeof(value));
}

/// Adds bytes to a running sum, which starts as 0. Every block but the last has an even length.
UINT64 ChecksumAdd(_In_ UINT64 sum, _In_reads_bytes_(length) const VOID *data, _In_ SIZE_T length);

/// Folds a running sum into a checksum.
UINT16 ChecksumFinish(_In_ UINT64 sum);

/// Computes every checksum of a whole packet: the IPv4 header's, then that of TCP, UDP, ICMP or ICMPv6.
///
/// A UDP checksum of 0 stays 0 on IPv4 (RFC 768: the sender computed none) and is computed on IPv6.
/// A UDP checksum computed as 0 is stored as 0xFFFF.
/// A fragment gets only its IPv4 header checksum, because the transport checksum covers the whole datagram.
/// A packet with further stops in an IPv6 routing header stays unchanged: its checksum covers the last stop.
///
/// STATUS_INVALID_PARAMETER, with the packet unchanged: it is malformed or too short for its checksum.
_Must_inspect_result_
NTSTATUS ChecksumPacket(_Inout_updates_bytes_(length) UINT8 *packet, _In_ UINT32 length);

/// Computes the checksum of an IPv4 header of `length` bytes.
VOID ChecksumIpv4Header(_Inout_updates_bytes_(length) UINT8 *header, _In_ UINT32 length);

/// Computes the checksum of a TCP or UDP segment and its pseudo header.
/// Addresses have 16 bytes; IPv4 addresses are padded with zeros. STATUS_INVALID_PARAMETER: too short for its checksum.
_Must_inspect_result_
NTSTATUS ChecksumTransport(_In_ UINT8 protocol, _In_reads_(16) const UINT8 *source,
                           _In_reads_(16) const UINT8 *destination, _Inout_updates_bytes_(length) UINT8 *transport,
                           _In_ UINT32 length);

/// Returns the offset of the checksum in a TCP or UDP header.
UINT32 ChecksumTransportOffset(_In_ UINT8 protocol);

/// Returns the checksum after `length` bytes at an even offset have changed. `length` is even.
UINT16 ChecksumUpdateBytes(_In_ UINT16 checksum, _In_reads_bytes_(length) const UINT8 *oldBytes,
                           _In_reads_bytes_(length) const UINT8 *newBytes, _In_ SIZE_T length);

/// Returns an updated UDP checksum for the packet: on IPv4 `before` 0 stays 0, and a computed 0 becomes 0xFFFF.
UINT16 ChecksumUpdateUdp(_In_ UINT8 ipVersion, _In_ UINT16 before, _In_ UINT16 updated);

EXTERN_C_END

// Internet checksums (RFC 1071) and their incremental update (RFC 1624, equation 3). Pure: no state, any IRQL.
//
// A UINT16 here, checksum or field, is two bytes as they lie in the packet, loaded without swapping.

#pragma once

#include "ip_header.h"

EXTERN_C_START

/// Adds bytes to a running sum. Every block but the last has an even length. Start with 0.
UINT64 ChecksumAdd(_In_ UINT64 sum, _In_reads_bytes_(length) const VOID *data, _In_ SIZE_T length);

/// Folds a running sum into the checksum.
UINT16 ChecksumFinish(_In_ UINT64 sum);

/// Computes every checksum of a whole packet anew: IPv4 header, then TCP, UDP, ICMP or ICMPv6. A UDP checksum of 0
/// stays 0 on IPv4 (RFC 768: none was computed) and is computed on IPv6; a computed 0 is stored as 0xFFFF. In a
/// fragment only the IPv4 header is done (a part has no transport checksum of its own), and nothing in a packet with
/// further stops in an IPv6 routing header (its checksum covers the last stop). STATUS_INVALID_PARAMETER, with the
/// packet unchanged: malformed, or too short for its checksum.
_Must_inspect_result_
NTSTATUS ChecksumPacket(_Inout_updates_bytes_(length) UINT8 *packet, _In_ UINT32 length);

/// Computes the checksum of a TCP or UDP header and what follows it, over the pseudo header too. The addresses are 16
/// bytes, IPv4 ones filled up with zeros. STATUS_INVALID_PARAMETER: too short for its checksum.
_Must_inspect_result_
NTSTATUS ChecksumTransport(_In_ UINT8 protocol, _In_reads_(16) const UINT8 *source,
                           _In_reads_(16) const UINT8 *destination, _Inout_updates_bytes_(length) UINT8 *transport,
                           _In_ UINT32 length);

/// Where TCP and UDP have their checksum in the header.
UINT32 ChecksumTransportOffset(_In_ UINT8 protocol);

/// The checksum after `length` bytes (even), at an even offset, changed: an address, for instance.
UINT16 ChecksumUpdateBytes(_In_ UINT16 checksum, _In_reads_bytes_(length) const UINT8 *oldBytes,
                           _In_reads_bytes_(length) const UINT8 *newBytes, _In_ SIZE_T length);

/// What an updated UDP checksum is stored as: `before` 0 stays 0 (none was computed), and 0 becomes 0xFFFF.
UINT16 ChecksumUpdateUdp(_In_ UINT8 ipVersion, _In_ UINT16 before, _In_ UINT16 updated);

EXTERN_C_END

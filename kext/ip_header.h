// Parses and writes IP headers. Pure functions without state; any IRQL.
//
// Covers IPv4 with options (RFC 791), IPv6 with extension headers (RFC 8200), and the ports of TCP and UDP.
// Every read is checked against the bytes that are there.

#pragma once

#include "connection_table.h"

EXTERN_C_START

// Bytes that suffice for the headers of every ordinary packet.
// A caller offers this many first, and more on STATUS_BUFFER_TOO_SMALL.
#define IP_HEADER_USUAL_LENGTH 128

// Most extension headers of one IPv6 packet. A longer chain is malformed.
#define IP_HEADER_MAX_EXTENSIONS 16

typedef struct _IP_HEADER
{
    UINT8 IpVersion;              ///< 4 or 6
    UINT8 Protocol;               ///< IANA number of the header that follows all IP headers
    UINT8 SourceAddress[16];      ///< network order; IPv4 uses the first 4 bytes, the others are zero
    UINT8 DestinationAddress[16]; ///< as SourceAddress
    UINT16 SourcePort;            ///< host order; 0 without ports and in later fragments
    UINT16 DestinationPort;       ///< the same
    UINT8 HopLimit;               ///< IPv4: time to live
    BOOLEAN TcpReset;             ///< a TCP segment with RST
    UINT32 HeaderLength;          ///< length of all IP headers: offset of the transport header
    UINT32 TotalLength;           ///< packet length by the IP header; never beyond the packet
    BOOLEAN Fragment;             ///< part of a fragmented datagram; an atomic fragment (RFC 6946) is not
    BOOLEAN FirstFragment;        ///< the fragment with the transport header
    BOOLEAN MoreFragments;        ///< later fragments follow
    BOOLEAN SourceRouted;         ///< an IPv6 routing header names further stops after this destination
    UINT32 FragmentOffset;        ///< bytes, a multiple of 8
    UINT32 FragmentLength;        ///< bytes of the datagram in this fragment, its further IPv6 headers included
    UINT32 FragmentIdentification;
} IP_HEADER;

/// Parses a packet of `packetLength` bytes, of which the first `available` are at `packet`.
///
/// STATUS_BUFFER_TOO_SMALL: the headers reach beyond `available` but not beyond the packet. Call again with more bytes.
/// STATUS_INVALID_PARAMETER: no IP packet, or a malformed one. These packets are malformed:
/// - a length field contradicts the packet, or the chain of headers does not end within it;
/// - TCP or UDP lacks a whole fixed header, in a first fragment too (RFC 1858, RFC 7112);
/// - a fragment is empty, reaches beyond 65535 bytes, or is not the last and no multiple of 8 bytes long.
///
/// Large send offload leaves a length field of 0, which stands for the packet's length.
_Must_inspect_result_
NTSTATUS IpHeaderParse(_In_reads_bytes_(available) const UINT8 *packet, _In_ UINT32 available, _In_ UINT32 packetLength,
                       _Out_ IP_HEADER *header);

/// Parses the start of a packet that an ICMP error quotes. A part of the packet is missing, so no length is checked.
/// STATUS_INVALID_PARAMETER: its addresses, its protocol or its ports are not among the `length` bytes.
_Must_inspect_result_
NTSTATUS IpHeaderParseQuoted(_In_reads_bytes_(length) const UINT8 *packet, _In_ UINT32 length, _Out_ IP_HEADER *header);

/// Writes the key of the connection to which a packet in `direction` (DIRECTION) belongs.
VOID IpHeaderToKey(_In_ const IP_HEADER *header, _In_ UINT8 direction, _Out_ CONNECTION_KEY *key);

/// Returns the length of the header that IpHeaderWritePlain writes, in bytes.
UINT32 IpHeaderPlainLength(_In_ UINT8 ipVersion);

/// Writes an IP header without options or extensions in front of an outbound transport segment of `key`.
/// The caller computes the IPv4 checksum. STATUS_INVALID_PARAMETER: the packet is too long for IP.
_Must_inspect_result_
NTSTATUS IpHeaderWritePlain(_Inout_updates_bytes_(packetLength) UINT8 *packet, _In_ UINT32 packetLength,
                            _In_ const CONNECTION_KEY *key);

/// Makes the IP headers of a received packet right for an injection: its length, and no fragment bits.
/// The stack leaves a reassembled datagram the headers of its first fragment, and an IPsec packet its AH or ESP header.
/// `*headerLength` bytes precede the transport header, whose protocol is `protocol`. The function updates both lengths.
/// It removes AH, ESP and the Fragment header; with these or with `plain`, it removes all IPv6 extension headers.
/// The caller computes the IPv4 checksum. STATUS_INVALID_PARAMETER: the packet is too long for IP, or its header for
/// it.
_Must_inspect_result_
NTSTATUS IpHeaderRebuild(_Inout_updates_bytes_(*packetLength) UINT8 *packet, _Inout_ UINT32 *packetLength,
                         _Inout_ UINT32 *headerLength, _In_ UINT8 protocol, _In_ BOOLEAN plain);

EXTERN_C_END

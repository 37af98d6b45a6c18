// Reads the headers of an IP packet: IPv4 with options (RFC 791), IPv6 with its chain of extension headers (RFC 8200),
// and the ports of TCP and UDP; and writes plain IP headers. Every read is checked against the bytes there are. Pure:
// no state, any IRQL.

#pragma once

#include "connection_table.h"

EXTERN_C_START

// Bytes that are enough for every packet without malice: a caller may offer this many and fetch more on
// STATUS_BUFFER_TOO_SMALL.
#define IP_HEADER_USUAL_LENGTH 128

// Extension headers that one IPv6 packet may have; a longer chain is malformed.
#define IP_HEADER_MAX_EXTENSIONS 16

typedef struct _IP_HEADER
{
    UINT8 IpVersion;              ///< 4 or 6
    UINT8 Protocol;               ///< IANA number of what follows all IP headers
    UINT8 SourceAddress[16];      ///< network order; IPv4 uses the first 4 bytes, the rest is zero
    UINT8 DestinationAddress[16]; ///< the same
    UINT16 SourcePort;            ///< host order; 0 without ports, and in fragments that are not the first
    UINT16 DestinationPort;       ///< the same
    UINT32 HeaderLength;          ///< all IP headers: offset of the transport header
    UINT32 TotalLength;           ///< of the packet as the IP header tells; never more than the packet has
    BOOLEAN Fragment;             ///< one part of a datagram that was cut (an atomic fragment, RFC 6946, is none)
    BOOLEAN FirstFragment;        ///< the part with the transport header
    BOOLEAN MoreFragments;        ///< others follow
    BOOLEAN SourceRouted;         ///< an IPv6 routing header names further stops: the destination is not the last one
    UINT32 FragmentOffset;        ///< bytes, a multiple of 8
    UINT32 FragmentLength;        ///< bytes of the datagram that it carries, the rest of the IPv6 headers included
    UINT32 FragmentIdentification;
} IP_HEADER;

/// Parses the packet whose first `available` bytes are at `packet` and which is `packetLength` bytes long.
/// STATUS_BUFFER_TOO_SMALL: the headers reach beyond `available` but not beyond the packet: try again with more.
/// STATUS_INVALID_PARAMETER: malformed, or no IP packet: a length that contradicts the packet, a chain that does not
/// end within it, TCP or UDP without a whole fixed header (in a first fragment too: RFC 1858, RFC 7112), a fragment
/// that reaches beyond 65535 bytes, is empty, or is not the last and no multiple of 8 bytes long. A length field of 0,
/// as large send offload leaves it, stands for the packet's own length.
_Must_inspect_result_
NTSTATUS IpHeaderParse(_In_reads_bytes_(available) const UINT8 *packet, _In_ UINT32 available, _In_ UINT32 packetLength,
                       _Out_ IP_HEADER *header);

/// The connection that the packet belongs to, for a packet that travels in `direction` (DIRECTION).
VOID IpHeaderToKey(_In_ const IP_HEADER *header, _In_ UINT8 direction, _Out_ CONNECTION_KEY *key);

/// Bytes of the header that IpHeaderWritePlain writes.
UINT32 IpHeaderPlainLength(_In_ UINT8 ipVersion);

/// Writes an IP header without options or extensions in front of a whole transport segment that this machine sends to
/// the other end of `key`. The IPv4 checksum is left to be computed. STATUS_INVALID_PARAMETER: too many bytes.
_Must_inspect_result_
NTSTATUS IpHeaderWritePlain(_Inout_updates_bytes_(packetLength) UINT8 *packet, _In_ UINT32 packetLength,
                            _In_ const CONNECTION_KEY *key);

EXTERN_C_END

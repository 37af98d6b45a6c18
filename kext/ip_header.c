#include "ip_header.h"

#define IPV4_FIXED_LENGTH 20u
#define IPV6_FIXED_LENGTH 40u
#define TCP_FIXED_LENGTH  20u
#define UDP_FIXED_LENGTH  8u
#define TCP_FLAGS_OFFSET  13u
#define TCP_FLAG_RST      0x04u

// An ICMP error quotes at least so many bytes behind the IP headers (RFC 792).
#define QUOTED_LENGTH 8u

#define IP_MAX_DATAGRAM 65535u

// Without fragmentation the identification field has no meaning (RFC 6864).
#define IPV4_DONT_FRAGMENT 0x40u

#define IP_HOP_LIMIT 128u

#define IPV4_FLAG_MORE_FRAGMENTS 0x2000u
#define IPV4_FRAGMENT_OFFSET     0x1FFFu
#define IPV6_FLAG_MORE_FRAGMENTS 0x0001u
#define IPV6_FRAGMENT_OFFSET     0xFFF8u

// Extension headers, by IANA number. IPv4 has only the authentication header (AH).
#define IPV6_HOP_BY_HOP   0
#define IPV6_ROUTING      43
#define IPV6_FRAGMENT     44
#define IP_AUTHENTICATION 51
#define IPV6_DESTINATION  60

// A packet, and how much of it may be read.
typedef struct _IP_VIEW
{
    const UINT8 *Packet;
    UINT32 Available;
    UINT32 Length;
    BOOLEAN Quoted; // the end of the packet is missing
} IP_VIEW;

static UINT16 IpHeaderUint16(const UINT8 *bytes)
{
    return (UINT16)((UINT32)bytes[0] << 8 | bytes[1]);
}

static UINT32 IpHeaderUint32(const UINT8 *bytes)
{
    return (UINT32)bytes[0] << 24 | (UINT32)bytes[1] << 16 | (UINT32)bytes[2] << 8 | bytes[3];
}

static VOID IpHeaderStoreUint16(UINT8 *bytes, UINT32 value)
{
    bytes[0] = (UINT8)(value >> 8);
    bytes[1] = (UINT8)value;
}

// Checks that `length` bytes at `offset` may be read.
static NTSTATUS IpHeaderRequire(const IP_VIEW *view, UINT32 offset, UINT32 length)
{
    if (offset > view->Length || length > view->Length - offset)
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (offset > view->Available || length > view->Available - offset)
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS IpHeaderSetTotalLength(IP_VIEW *view, UINT32 totalLength, UINT32 leastLength, IP_HEADER *header)
{
    if (totalLength < leastLength || (totalLength > view->Length && !view->Quoted))
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (!view->Quoted)
    {
        view->Length = totalLength;
    }
    header->TotalLength = totalLength;
    return STATUS_SUCCESS;
}

static NTSTATUS IpHeaderParsePorts(const IP_VIEW *view, IP_HEADER *header)
{
    const UINT8 *transport = view->Packet + header->HeaderLength;
    BOOLEAN isTcp = header->Protocol == PROTOCOL_TCP;
    UINT32 fixedLength = isTcp ? TCP_FIXED_LENGTH : UDP_FIXED_LENGTH;
    NTSTATUS status;

    // A later fragment has no transport header.
    if ((!isTcp && header->Protocol != PROTOCOL_UDP) || header->FragmentOffset != 0)
    {
        return STATUS_SUCCESS;
    }
    status = IpHeaderRequire(view, header->HeaderLength, view->Quoted ? QUOTED_LENGTH : fixedLength);
    if (NT_SUCCESS(status))
    {
        header->SourcePort = IpHeaderUint16(transport);
        header->DestinationPort = IpHeaderUint16(transport + 2);
        header->TcpReset = isTcp && !view->Quoted && (transport[TCP_FLAGS_OFFSET] & TCP_FLAG_RST) != 0;
    }
    return status;
}

static NTSTATUS IpHeaderSetFragment(const IP_VIEW *view, UINT32 offset, BOOLEAN more, UINT32 identification,
                                    IP_HEADER *header)
{
    UINT32 dataLength = view->Length - header->HeaderLength;

    header->FragmentOffset = offset;
    header->MoreFragments = more;
    header->FragmentIdentification = identification;
    header->Fragment = more || offset != 0;
    header->FirstFragment = header->Fragment && offset == 0;
    header->FragmentLength = dataLength;
    if (header->Fragment && !view->Quoted &&
        (dataLength == 0 || (more && dataLength % 8u != 0) || offset + dataLength > IP_MAX_DATAGRAM))
    {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

static BOOLEAN IpHeaderIsExtension(UINT8 protocol)
{
    return protocol == IPV6_HOP_BY_HOP || protocol == IPV6_ROUTING || protocol == IPV6_FRAGMENT ||
           protocol == IP_AUTHENTICATION || protocol == IPV6_DESTINATION;
}

// The field counts 8 bytes beyond the first 8 (RFC 8200); in AH it counts 4 bytes beyond the first 8 (RFC 4302).
static UINT32 IpHeaderExtensionLength(UINT8 type, UINT8 lengthField)
{
    if (type == IPV6_FRAGMENT)
    {
        return 8;
    }
    return type == IP_AUTHENTICATION ? (lengthField + 2u) * 4u : (lengthField + 1u) * 8u;
}

// Parses the extension header at HeaderLength, whose type is Protocol, and moves both behind it.
static NTSTATUS IpHeaderParseExtension(const IP_VIEW *view, BOOLEAN isFirst, IP_HEADER *header)
{
    const UINT8 *extension = view->Packet + header->HeaderLength;
    UINT8 type = header->Protocol;
    UINT32 length;
    NTSTATUS status;

    // Every extension header has at least 8 bytes. Hop-by-hop options are valid only as the first one.
    status = IpHeaderRequire(view, header->HeaderLength, 8);
    if (!NT_SUCCESS(status) || (type == IPV6_HOP_BY_HOP && !isFirst))
    {
        return NT_SUCCESS(status) ? STATUS_INVALID_PARAMETER : status;
    }
    length = IpHeaderExtensionLength(type, extension[1]);
    status = IpHeaderRequire(view, header->HeaderLength, length);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    header->Protocol = extension[0];
    header->HeaderLength += length;
    if (type == IPV6_ROUTING && extension[3] != 0)
    {
        header->SourceRouted = TRUE;
    }
    if (type == IPV6_FRAGMENT)
    {
        UINT32 fragment = IpHeaderUint16(extension + 2);

        return IpHeaderSetFragment(view, fragment & IPV6_FRAGMENT_OFFSET, (fragment & IPV6_FLAG_MORE_FRAGMENTS) != 0,
                                   IpHeaderUint32(extension + 4), header);
    }
    return STATUS_SUCCESS;
}

// Parses the ports, also behind an AH header. A packet quoted by an ICMP error may end before them.
static NTSTATUS IpHeaderParsePayloadV4(const IP_VIEW *view, IP_HEADER *header)
{
    IP_HEADER inner;
    NTSTATUS status;

    if (header->Protocol != IP_AUTHENTICATION || header->Fragment)
    {
        return IpHeaderParsePorts(view, header);
    }
    inner = *header;
    status = IpHeaderParseExtension(view, TRUE, &inner);
    if (NT_SUCCESS(status))
    {
        status = IpHeaderParsePorts(view, &inner);
    }
    if (NT_SUCCESS(status))
    {
        *header = inner;
    }
    return view->Quoted ? STATUS_SUCCESS : status;
}

static NTSTATUS IpHeaderParseV4(IP_VIEW *view, IP_HEADER *header)
{
    const UINT8 *packet = view->Packet;
    UINT32 totalLength;
    UINT32 fragment;
    NTSTATUS status;

    status = IpHeaderRequire(view, 0, IPV4_FIXED_LENGTH);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    header->IpVersion = 4;
    header->HeaderLength = (packet[0] & 0x0Fu) * 4u;
    header->HopLimit = packet[8];
    header->Protocol = packet[9];
    RtlCopyMemory(header->SourceAddress, packet + 12, 4);
    RtlCopyMemory(header->DestinationAddress, packet + 16, 4);
    if (header->HeaderLength < IPV4_FIXED_LENGTH)
    {
        return STATUS_INVALID_PARAMETER;
    }

    totalLength = IpHeaderUint16(packet + 2);
    status = IpHeaderSetTotalLength(view, totalLength != 0 ? totalLength : view->Length, header->HeaderLength, header);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = IpHeaderRequire(view, 0, header->HeaderLength);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    fragment = IpHeaderUint16(packet + 6);
    status = IpHeaderSetFragment(view, (fragment & IPV4_FRAGMENT_OFFSET) * 8u,
                                 (fragment & IPV4_FLAG_MORE_FRAGMENTS) != 0, IpHeaderUint16(packet + 4), header);
    return NT_SUCCESS(status) ? IpHeaderParsePayloadV4(view, header) : status;
}

static NTSTATUS IpHeaderParseV6(IP_VIEW *view, IP_HEADER *header)
{
    const UINT8 *packet = view->Packet;
    BOOLEAN fragmentSeen = FALSE;
    UINT32 payloadLength;
    UINT32 extensions;
    NTSTATUS status;

    status = IpHeaderRequire(view, 0, IPV6_FIXED_LENGTH);
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    header->IpVersion = 6;
    header->HeaderLength = IPV6_FIXED_LENGTH;
    header->Protocol = packet[6];
    header->HopLimit = packet[7];
    RtlCopyMemory(header->SourceAddress, packet + 8, 16);
    RtlCopyMemory(header->DestinationAddress, packet + 24, 16);

    payloadLength = IpHeaderUint16(packet + 4);
    status = IpHeaderSetTotalLength(view, payloadLength != 0 ? IPV6_FIXED_LENGTH + payloadLength : view->Length,
                                    IPV6_FIXED_LENGTH, header);
    for (extensions = 0; NT_SUCCESS(status) && IpHeaderIsExtension(header->Protocol); extensions++)
    {
        if (extensions == IP_HEADER_MAX_EXTENSIONS || (header->Protocol == IPV6_FRAGMENT && fragmentSeen))
        {
            return STATUS_INVALID_PARAMETER;
        }
        fragmentSeen = fragmentSeen || header->Protocol == IPV6_FRAGMENT;
        status = IpHeaderParseExtension(view, extensions == 0, header);
        if (NT_SUCCESS(status) && header->FragmentOffset != 0)
        {
            // The data of a later fragment is the middle of the datagram, whatever protocol number precedes it.
            return STATUS_SUCCESS;
        }
    }
    return NT_SUCCESS(status) ? IpHeaderParsePorts(view, header) : status;
}

static NTSTATUS IpHeaderParseView(IP_VIEW *view, IP_HEADER *header)
{
    NTSTATUS status = IpHeaderRequire(view, 0, 1);

    RtlZeroMemory(header, sizeof(*header));
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    switch (view->Packet[0] >> 4)
    {
    case 4:
        return IpHeaderParseV4(view, header);
    case 6:
        return IpHeaderParseV6(view, header);
    default:
        return STATUS_INVALID_PARAMETER;
    }
}

_Use_decl_annotations_
NTSTATUS IpHeaderParse(const UINT8 *packet, UINT32 available, UINT32 packetLength, IP_HEADER *header)
{
    IP_VIEW view;

    view.Packet = packet;
    view.Available = available < packetLength ? available : packetLength;
    view.Length = packetLength;
    view.Quoted = FALSE;
    return IpHeaderParseView(&view, header);
}

_Use_decl_annotations_
NTSTATUS IpHeaderParseQuoted(const UINT8 *packet, UINT32 length, IP_HEADER *header)
{
    IP_VIEW view;

    view.Packet = packet;
    view.Available = length;
    view.Length = length;
    view.Quoted = TRUE;
    return IpHeaderParseView(&view, header);
}

_Use_decl_annotations_
VOID IpHeaderToKey(const IP_HEADER *header, UINT8 direction, CONNECTION_KEY *key)
{
    BOOLEAN outbound = direction == DirectionOutbound;

    RtlZeroMemory(key, sizeof(*key));
    RtlCopyMemory(key->LocalAddress, outbound ? header->SourceAddress : header->DestinationAddress, 16);
    RtlCopyMemory(key->RemoteAddress, outbound ? header->DestinationAddress : header->SourceAddress, 16);
    key->LocalPort = outbound ? header->SourcePort : header->DestinationPort;
    key->RemotePort = outbound ? header->DestinationPort : header->SourcePort;
    key->Protocol = header->Protocol;
    key->IpVersion = header->IpVersion;
}

_Use_decl_annotations_
UINT32 IpHeaderPlainLength(UINT8 ipVersion)
{
    return ipVersion == 6 ? IPV6_FIXED_LENGTH : IPV4_FIXED_LENGTH;
}

static VOID IpHeaderWritePlainV4(UINT8 *packet, UINT32 packetLength, const CONNECTION_KEY *key)
{
    packet[0] = 4u << 4 | IPV4_FIXED_LENGTH / 4u;
    IpHeaderStoreUint16(packet + 2, packetLength);
    packet[6] = IPV4_DONT_FRAGMENT;
    packet[8] = IP_HOP_LIMIT;
    packet[9] = key->Protocol;
    RtlCopyMemory(packet + 12, key->LocalAddress, 4);
    RtlCopyMemory(packet + 16, key->RemoteAddress, 4);
}

static VOID IpHeaderWritePlainV6(UINT8 *packet, UINT32 packetLength, const CONNECTION_KEY *key)
{
    packet[0] = 6u << 4;
    IpHeaderStoreUint16(packet + 4, packetLength - IPV6_FIXED_LENGTH);
    packet[6] = key->Protocol;
    packet[7] = IP_HOP_LIMIT;
    RtlCopyMemory(packet + 8, key->LocalAddress, 16);
    RtlCopyMemory(packet + 24, key->RemoteAddress, 16);
}

_Use_decl_annotations_
NTSTATUS IpHeaderWritePlain(UINT8 *packet, UINT32 packetLength, const CONNECTION_KEY *key)
{
    UINT32 headerLength = IpHeaderPlainLength(key->IpVersion);

    if (packetLength < headerLength || packetLength > IP_MAX_DATAGRAM + (key->IpVersion == 6 ? headerLength : 0))
    {
        return STATUS_INVALID_PARAMETER;
    }
    RtlZeroMemory(packet, headerLength);
    if (key->IpVersion == 6)
    {
        IpHeaderWritePlainV6(packet, packetLength, key);
    }
    else
    {
        IpHeaderWritePlainV4(packet, packetLength, key);
    }
    return STATUS_SUCCESS;
}

static BOOLEAN IpHeaderHasFragmentHeader(const UINT8 *packet, UINT32 headerLength)
{
    UINT32 offset = IPV6_FIXED_LENGTH;
    UINT8 type = packet[6];

    while (IpHeaderIsExtension(type) && type != IPV6_FRAGMENT && offset + 8 <= headerLength)
    {
        UINT32 length = IpHeaderExtensionLength(type, packet[offset + 1]);

        type = packet[offset];
        offset += length;
    }
    return type == IPV6_FRAGMENT;
}

// Returns how many bytes of the IP headers stay, from the first on.
static UINT32 IpHeaderKeptLength(const UINT8 *packet, UINT32 headerLength, BOOLEAN plain)
{
    if (packet[0] >> 4 == 4)
    {
        return (packet[0] & 0x0Fu) * 4u;
    }
    return plain || IpHeaderHasFragmentHeader(packet, headerLength) ? IPV6_FIXED_LENGTH : headerLength;
}

static VOID IpHeaderWriteReceived(UINT8 *packet, UINT32 packetLength, UINT32 headerLength, UINT8 protocol)
{
    if (packet[0] >> 4 == 4)
    {
        IpHeaderStoreUint16(packet + 2, packetLength);
        packet[6] &= (UINT8) ~((IPV4_FLAG_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) >> 8);
        packet[7] = 0;
        packet[9] = protocol;
        return;
    }
    IpHeaderStoreUint16(packet + 4, packetLength - IPV6_FIXED_LENGTH);
    if (headerLength == IPV6_FIXED_LENGTH)
    {
        packet[6] = protocol;
    }
}

_Use_decl_annotations_
NTSTATUS IpHeaderRebuild(UINT8 *packet, UINT32 *packetLength, UINT32 *headerLength, UINT8 protocol, BOOLEAN plain)
{
    UINT32 least = packet[0] >> 4 == 6 ? IPV6_FIXED_LENGTH : IPV4_FIXED_LENGTH;
    UINT32 length = *packetLength;
    UINT32 kept;

    if (*headerLength < least || *headerLength > length)
    {
        return STATUS_INVALID_PARAMETER;
    }
    kept = IpHeaderKeptLength(packet, *headerLength, plain);
    if (kept < least || kept > *headerLength)
    {
        return STATUS_INVALID_PARAMETER;
    }
    length -= *headerLength - kept;
    if (length > IP_MAX_DATAGRAM + (least == IPV6_FIXED_LENGTH ? IPV6_FIXED_LENGTH : 0))
    {
        return STATUS_INVALID_PARAMETER;
    }
    RtlMoveMemory(packet + kept, packet + *headerLength, length - kept);
    *packetLength = length;
    *headerLength = kept;
    IpHeaderWriteReceived(packet, length, kept, protocol);
    return STATUS_SUCCESS;
}

#include "checksum.h"

#define IPV4_CHECKSUM_OFFSET   10u
#define TCP_CHECKSUM_OFFSET    16u
#define UDP_LENGTH_OFFSET      4u
#define UDP_CHECKSUM_OFFSET    6u
#define ICMP_CHECKSUM_OFFSET   2u
#define UDP_LEAST_LENGTH       8u
#define CHECKSUM_FIELD_LENGTH  2u
#define CHECKSUM_NOT_COMPUTED  0u
#define CHECKSUM_COMPUTED_ZERO 0xFFFFu

// The sum is independent of the byte order if all words are loaded the same way (RFC 1071, section 2 (B)).
// 32-bit words in a 64-bit sum give the same checksum and cannot overflow within a packet.
_Use_decl_annotations_
UINT64 ChecksumAdd(UINT64 sum, const VOID *data, SIZE_T length)
{
    const UINT8 *bytes = (const UINT8 *)data;

    for (; length >= sizeof(UINT32); length -= sizeof(UINT32))
    {
        UINT32 word;

        RtlCopyMemory(&word, bytes, sizeof(word));
        sum += word;
        bytes += sizeof(word);
    }
    if (length >= sizeof(UINT16))
    {
        sum += ChecksumLoad(bytes);
        bytes += sizeof(UINT16);
        length -= sizeof(UINT16);
    }
    if (length != 0)
    {
        UINT8 padded[2] = {0, 0};

        padded[0] = bytes[0];
        sum += ChecksumLoad(padded);
    }
    return sum;
}

_Use_decl_annotations_
UINT16 ChecksumFinish(UINT64 sum)
{
    while (sum > 0xFFFF)
    {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return (UINT16)~sum;
}

// The pseudo headers of IPv4 (RFC 793, RFC 768) and IPv6 (RFC 8200, section 8.1) have the same sum.
// The zeros behind an IPv4 address add nothing.
static UINT64 ChecksumAddPseudoHeader(UINT8 protocol, const UINT8 *source, const UINT8 *destination,
                                      UINT32 transportLength)
{
    UINT8 tail[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    UINT64 sum;

    tail[0] = (UINT8)(transportLength >> 24);
    tail[1] = (UINT8)(transportLength >> 16);
    tail[2] = (UINT8)(transportLength >> 8);
    tail[3] = (UINT8)transportLength;
    tail[7] = protocol;
    sum = ChecksumAdd(0, source, 16);
    sum = ChecksumAdd(sum, destination, 16);
    return ChecksumAdd(sum, tail, sizeof(tail));
}

static VOID ChecksumStoreSum(UINT64 sum, UINT8 *transport, UINT32 length, UINT32 fieldOffset)
{
    ChecksumStore(transport + fieldOffset, 0);
    ChecksumStore(transport + fieldOffset, ChecksumFinish(ChecksumAdd(sum, transport, length)));
}

_Use_decl_annotations_
UINT32 ChecksumTransportOffset(UINT8 protocol)
{
    return protocol == PROTOCOL_TCP ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET;
}

_Use_decl_annotations_
NTSTATUS ChecksumTransport(UINT8 protocol, const UINT8 *source, const UINT8 *destination, UINT8 *transport,
                           UINT32 length)
{
    UINT32 offset = ChecksumTransportOffset(protocol);

    if (length < offset + CHECKSUM_FIELD_LENGTH)
    {
        return STATUS_INVALID_PARAMETER;
    }
    ChecksumStoreSum(ChecksumAddPseudoHeader(protocol, source, destination, length), transport, length, offset);
    if (protocol == PROTOCOL_UDP && ChecksumLoad(transport + offset) == 0)
    {
        ChecksumStore(transport + offset, CHECKSUM_COMPUTED_ZERO);
    }
    return STATUS_SUCCESS;
}

// The length field may be less than the data. 0 stands for all of it (RFC 2675, and large send offload).
static UINT32 ChecksumUdpLength(const UINT8 *udp, UINT32 available)
{
    UINT32 length = (UINT32)udp[UDP_LENGTH_OFFSET] << 8 | udp[UDP_LENGTH_OFFSET + 1];

    return length != 0 ? length : available;
}

static BOOLEAN ChecksumIsIcmp(const IP_HEADER *header)
{
    return header->Protocol == (header->IpVersion == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
}

static NTSTATUS ChecksumCheckLength(const IP_HEADER *header, const UINT8 *transport, UINT32 length)
{
    // The parser guarantees whole fixed headers of TCP and UDP.
    if (header->Protocol == PROTOCOL_UDP)
    {
        UINT32 udpLength = ChecksumUdpLength(transport, length);

        return udpLength >= UDP_LEAST_LENGTH && udpLength <= length ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    }
    if (ChecksumIsIcmp(header) && length < ICMP_CHECKSUM_OFFSET + CHECKSUM_FIELD_LENGTH)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

static VOID ChecksumStoreIcmp(const IP_HEADER *header, UINT8 *icmp, UINT32 length)
{
    UINT64 sum = 0;

    // ICMPv6 covers a pseudo header (RFC 4443, section 2.3); ICMP does not.
    if (header->IpVersion == 6)
    {
        sum = ChecksumAddPseudoHeader(header->Protocol, header->SourceAddress, header->DestinationAddress, length);
    }
    ChecksumStoreSum(sum, icmp, length, ICMP_CHECKSUM_OFFSET);
}

static BOOLEAN ChecksumIsUncomputedUdp(const IP_HEADER *header, const UINT8 *transport)
{
    return header->Protocol == PROTOCOL_UDP && header->IpVersion == 4 &&
           ChecksumLoad(transport + UDP_CHECKSUM_OFFSET) == CHECKSUM_NOT_COMPUTED;
}

// Expects a length that ChecksumCheckLength accepted.
static VOID ChecksumStoreTransport(const IP_HEADER *header, UINT8 *transport, UINT32 length)
{
    if (ChecksumIsIcmp(header))
    {
        ChecksumStoreIcmp(header, transport, length);
    }
    else if ((header->Protocol == PROTOCOL_TCP || header->Protocol == PROTOCOL_UDP) &&
             !ChecksumIsUncomputedUdp(header, transport))
    {
        (VOID) ChecksumTransport(header->Protocol, header->SourceAddress, header->DestinationAddress, transport,
                                 header->Protocol == PROTOCOL_UDP ? ChecksumUdpLength(transport, length) : length);
    }
}

_Use_decl_annotations_
VOID ChecksumIpv4Header(UINT8 *header, UINT32 length)
{
    ChecksumStoreSum(0, header, length, IPV4_CHECKSUM_OFFSET);
}

_Use_decl_annotations_
NTSTATUS ChecksumPacket(UINT8 *packet, UINT32 length)
{
    IP_HEADER header;
    UINT8 *transport;
    UINT32 transportLength;
    NTSTATUS status;

    status = IpHeaderParse(packet, length, length, &header);
    if (!NT_SUCCESS(status))
    {
        return STATUS_INVALID_PARAMETER;
    }

    transport = packet + header.HeaderLength;
    transportLength = header.TotalLength - header.HeaderLength;
    if (!header.Fragment && !header.SourceRouted)
    {
        status = ChecksumCheckLength(&header, transport, transportLength);
        if (!NT_SUCCESS(status))
        {
            return status;
        }
        ChecksumStoreTransport(&header, transport, transportLength);
    }
    if (header.IpVersion == 4)
    {
        ChecksumIpv4Header(packet, (packet[0] & 0x0Fu) * 4u); // without an AH header
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
UINT16 ChecksumUpdateBytes(UINT16 checksum, const UINT8 *oldBytes, const UINT8 *newBytes, SIZE_T length)
{
    UINT64 sum = (UINT16)~checksum;
    SIZE_T i;

    for (i = 0; i + sizeof(UINT16) <= length; i += sizeof(UINT16))
    {
        sum += (UINT16)~ChecksumLoad(oldBytes + i);
        sum += ChecksumLoad(newBytes + i);
    }
    return ChecksumFinish(sum);
}

_Use_decl_annotations_
UINT16 ChecksumUpdateUdp(UINT8 ipVersion, UINT16 before, UINT16 updated)
{
    if (ipVersion == 4 && before == CHECKSUM_NOT_COMPUTED)
    {
        return CHECKSUM_NOT_COMPUTED;
    }
    return updated == 0 ? CHECKSUM_COMPUTED_ZERO : updated;
}

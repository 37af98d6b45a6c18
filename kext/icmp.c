#include "icmp.h"

#define ICMP_ECHO_REPLY     0u
#define ICMP_UNREACHABLE    3u
#define ICMP_SOURCE_QUENCH  4u
#define ICMP_REDIRECT       5u
#define ICMP_ECHO_REQUEST   8u
#define ICMP_TIME_EXCEEDED  11u
#define ICMP_BAD_PARAMETER  12u
#define ICMPV6_FIRST_INFO   128u // types below report errors (RFC 4443, section 2.1)
#define ICMPV6_ECHO_REQUEST 128u
#define ICMPV6_ECHO_REPLY   129u

static BOOLEAN IcmpIsError(UINT8 ipVersion, UINT8 type)
{
    if (ipVersion == 6)
    {
        return type < ICMPV6_FIRST_INFO;
    }
    return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
           type == ICMP_TIME_EXCEEDED || type == ICMP_BAD_PARAMETER;
}

static BOOLEAN IcmpIsEchoRequest(UINT8 ipVersion, UINT8 type)
{
    return type == (ipVersion == 6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST);
}

static BOOLEAN IcmpIsEchoReply(UINT8 ipVersion, UINT8 type)
{
    return type == (ipVersion == 6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY);
}

_Use_decl_annotations_
BOOLEAN IcmpIsEcho(UINT8 ipVersion, UINT8 type)
{
    return IcmpIsEchoRequest(ipVersion, type) || IcmpIsEchoReply(ipVersion, type);
}

static VOID IcmpParseHeader(const UINT8 *bytes, UINT32 length, UINT8 ipVersion, ICMP_MESSAGE *message)
{
    message->Type = ICMP_TYPE_NONE;
    if (length < ICMP_HEADER_LENGTH)
    {
        return;
    }
    message->Type = bytes[0];
    message->Code = bytes[1];
    message->EchoReply = IcmpIsEchoReply(ipVersion, message->Type);
    message->Error = IcmpIsError(ipVersion, message->Type);
    if (IcmpIsEcho(ipVersion, message->Type))
    {
        message->Identifier = (UINT16)((UINT32)bytes[ICMP_IDENTIFIER_OFFSET] << 8 | bytes[ICMP_IDENTIFIER_OFFSET + 1]);
    }
}

// A received error quotes a packet that this machine sent, and a sent error one that it received.
static VOID IcmpParseQuoted(const UINT8 *bytes, UINT32 length, UINT8 direction, ICMP_MESSAGE *message)
{
    UINT8 quotedDirection = direction == DirectionInbound ? DirectionOutbound : DirectionInbound;
    ICMP_MESSAGE quoted;
    IP_HEADER header;

    if (!NT_SUCCESS(IpHeaderParseQuoted(bytes, length, &header)))
    {
        return;
    }
    IpHeaderToKey(&header, quotedDirection, &message->Quoted);
    if (IcmpIs(header.IpVersion, header.Protocol))
    {
        RtlZeroMemory(&quoted, sizeof(quoted));
        IcmpParseHeader(bytes + header.HeaderLength, length - header.HeaderLength, header.IpVersion, &quoted);
        IcmpSetKey(&quoted, quotedDirection, &message->Quoted);
    }
    message->Quotes = TRUE;
}

_Use_decl_annotations_
VOID IcmpParse(const UINT8 *bytes, UINT32 length, UINT8 ipVersion, UINT8 direction, ICMP_MESSAGE *message)
{
    RtlZeroMemory(message, sizeof(*message));
    IcmpParseHeader(bytes, length, ipVersion, message);
    if (message->Error && length > ICMP_HEADER_LENGTH)
    {
        IcmpParseQuoted(bytes + ICMP_HEADER_LENGTH, length - ICMP_HEADER_LENGTH, direction, message);
    }
}

_Use_decl_annotations_
VOID IcmpSetKey(const ICMP_MESSAGE *message, UINT8 direction, CONNECTION_KEY *key)
{
    UINT8 request = key->IpVersion == 6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO_REQUEST;
    UINT8 reply = key->IpVersion == 6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY;
    UINT8 type = message->Type;

    if (direction == DirectionInbound && (type == request || type == reply))
    {
        type = type == request ? reply : request;
    }
    key->LocalPort = (UINT16)((UINT32)type << 8 | message->Code);
    key->RemotePort = message->Identifier;
}

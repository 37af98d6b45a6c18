// ICMP and ICMPv6 messages: which conversation they belong to, and what an error quotes (RFC 792, RFC 4443).
//
// Pure functions: no state, no locks.

#pragma once

#include "ip_header.h"

EXTERN_C_START

#define ICMP_HEADER_LENGTH     8u
#define ICMP_IDENTIFIER_OFFSET 4u ///< of an echo

// The bytes of a message that IcmpParse reads at most: its header, and the headers of the packet that it quotes.
#define ICMP_USUAL_LENGTH (ICMP_HEADER_LENGTH + IP_HEADER_USUAL_LENGTH)

#define ICMPV6_MLD_QUERY      130u
#define ICMPV6_MLD_DONE       132u
#define ICMPV6_ROUTER_SOLICIT 133u
#define ICMPV6_REDIRECT       137u
#define ICMPV6_MLD_REPORT_V2  143u

// No message of the wire: the packet is too short to have a type.
#define ICMP_TYPE_NONE 0xFFu

typedef struct _ICMP_MESSAGE
{
    UINT8 Type; ///< or ICMP_TYPE_NONE
    UINT8 Code;
    UINT16 Identifier; ///< of an echo, host order; else 0
    BOOLEAN EchoReply;
    BOOLEAN Error;         ///< it reports an error of a packet
    BOOLEAN Quotes;        ///< an error, and Quoted is set
    CONNECTION_KEY Quoted; ///< the connection of the quoted packet, from this machine's view
} ICMP_MESSAGE;

/// TRUE for ICMP over IPv4 and ICMPv6 over IPv6.
FORCEINLINE BOOLEAN IcmpIs(_In_ UINT8 ipVersion, _In_ UINT8 protocol)
{
    return protocol == (ipVersion == 6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP);
}

/// TRUE for the type of an echo request or reply.
BOOLEAN IcmpIsEcho(_In_ UINT8 ipVersion, _In_ UINT8 type);

/// Reads the message of a packet in `direction` (DIRECTION). `length` may be less than the message has, and 0.
VOID IcmpParse(_In_reads_bytes_(length) const UINT8 *bytes, _In_ UINT32 length, _In_ UINT8 ipVersion,
               _In_ UINT8 direction, _Out_ ICMP_MESSAGE *message);

/// Completes the key of the message's conversation: LocalPort is type and code, RemotePort an echo's identifier.
///
/// An echo's key has the type that this machine sends, so a reply has the key of its request.
/// The echoes that this machine asks for and those that it answers have different keys.
VOID IcmpSetKey(_In_ const ICMP_MESSAGE *message, _In_ UINT8 direction, _Inout_ CONNECTION_KEY *key);

EXTERN_C_END

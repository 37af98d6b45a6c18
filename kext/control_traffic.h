// Control traffic: what a machine needs to have a network at all. It is permitted without a question.
//
// - ICMPv6 neighbour and router discovery (types 133 to 137) with hop limit 255: it comes from the link (RFC 4861).
// - Multicast listener discovery (types 130 to 132 and 143) with hop limit 1, from a link-local or unspecified address
//   (RFC 2710, RFC 3810).
// - IGMP with a time to live of 1 to a multicast address (RFC 3376).
// - DHCP and DHCPv6 of this machine as a client: its requests to all servers, their answers for a minute, and its
//   requests to a server that has answered before (RFC 2131, RFC 8415).
//
// The authorizing layers do not know hop limits. A packet that fails there has its question at the packet layer.
// Lock is a leaf, around the times and the servers only. Only DHCP takes it.

#pragma once

#include "clock.h"
#include "connection_key.h"

EXTERN_C_START

// How long the answers to a request are permitted.
#define CONTROL_ANSWER_SECONDS 60u

// How many servers are remembered for each IP version. The one that answered first makes room.
#define CONTROL_SERVER_COUNT 8u

// The hop limit is not known at this layer.
#define CONTROL_ANY_HOP_LIMIT 256u

typedef struct _CONTROL_SERVERS
{
    UINT32 Asked; ///< ClockSeconds of the last request; valid once HasAsked
    BOOLEAN HasAsked;
    UINT32 Next;
    UINT8 Addresses[CONTROL_SERVER_COUNT][16]; ///< network order; all zero: none
} CONTROL_SERVERS;

typedef struct _CONTROL_TRAFFIC
{
    const CLOCK *Clock;
    KSPIN_LOCK Lock;
    CONTROL_SERVERS Servers[2]; ///< IPv4, IPv6
} CONTROL_TRAFFIC;

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ControlTrafficInitialize(_Out_ CONTROL_TRAFFIC *control, _In_ const CLOCK *clock);

/// TRUE if a packet in `direction` (DIRECTION) is control traffic. Notes DHCP requests and answers.
/// `icmpType` is of ICMPv6 only. `hopLimit`: of the packet, or CONTROL_ANY_HOP_LIMIT.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN ControlTrafficPermits(_Inout_ CONTROL_TRAFFIC *control, _In_ const CONNECTION_KEY *key, _In_ UINT8 direction,
                              _In_ UINT8 icmpType, _In_ UINT32 hopLimit);

EXTERN_C_END

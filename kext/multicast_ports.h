// The local UDP ports from which this machine sent to a multicast or broadcast address a moment ago.
//
// The stack then lets a datagram from any address in to such a port, without asking ALE_AUTH_RECV_ACCEPT (WDK page
// "ALE Multicast/Broadcast Traffic"). So the packet layer asks about it.
//
// A page of times for 256 ports is allocated when the first of them sends. It stays until the end.
// Without memory for a page, every port counts as one that sent.

#pragma once

#include "clock.h"
#include "memory.h"

EXTERN_C_START

// How long the stack lets answers in.
#define MULTICAST_PORTS_ANSWER_MS 4000u

#define MULTICAST_PORTS_PAGE_COUNT 256

typedef struct _MULTICAST_PORTS
{
    MEMORY *Memory;
    const CLOCK *Clock;
    volatile LONG64 Pages[2][MULTICAST_PORTS_PAGE_COUNT]; ///< IPv4, IPv6: addresses, or 0
    volatile LONG AnyPort;                                ///< the time from which every port counts; 0: none
} MULTICAST_PORTS;

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MulticastPortsInitialize(_Out_ MULTICAST_PORTS *ports, _Inout_ MEMORY *memory, _In_ const CLOCK *clock);

/// Frees everything. Nobody else may be using the ports.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MulticastPortsUninitialize(_Inout_ MULTICAST_PORTS *ports);

/// Notes that this machine sends from `port` to a multicast or broadcast address now. O(1), without a lock.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID MulticastPortsNote(_Inout_ MULTICAST_PORTS *ports, _In_ UINT8 ipVersion, _In_ UINT16 port);

/// TRUE if the stack may let a datagram in to `port` without asking. O(1), without a lock. Any IRQL.
BOOLEAN MulticastPortsTakeAnswers(_In_ const MULTICAST_PORTS *ports, _In_ UINT8 ipVersion, _In_ UINT16 port);

EXTERN_C_END

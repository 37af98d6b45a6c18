// The IP packet layers: every packet, in both directions.
//
// A packet of a connection with a permanent verdict costs one entry into the rundown, one parse and one lookup: no
// allocation and no contended lock. An action applies to a whole chain of net buffer lists. Where the decisions on its
// packets differ, the permitted ones are copied and injected, and the chain is absorbed.

#pragma once

#include "classify.h"

EXTERN_C_START

/// OUTBOUND_IPPACKET and INBOUND_IPPACKET.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketClassify(_Inout_ CLASSIFY *classify);

EXTERN_C_END

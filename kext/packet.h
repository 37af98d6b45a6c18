// The IP packet layers: every packet, in both directions.
//
// A packet of a connection with a permanent verdict costs one entry into the rundown, one parse and one lookup.
// Such a packet needs no allocation and no contended lock.
// A classify's action applies to a whole chain of net buffer lists.
// If only some packets of a chain are permitted, these are copied and injected, and the chain is absorbed.

#pragma once

#include "classify.h"

EXTERN_C_START

/// OUTBOUND_IPPACKET and INBOUND_IPPACKET.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID PacketClassify(_Inout_ CLASSIFY *classify);

EXTERN_C_END

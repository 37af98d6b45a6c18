// The IP packet layers: every packet, in both directions.
//
// A packet of a connection with a permanent verdict costs one entry into the rundown, one parse and one lookup: no
// allocation and no contended lock. An action applies to a whole chain of net buffer lists; where the decisions on its
// packets differ, the permitted ones are copied and injected and the chain is absorbed.

#pragma once

#include "platform.h"

EXTERN_C_START

/// OUTBOUND_IPPACKET and INBOUND_IPPACKET, of both IP versions.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI PacketClassify(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                          _Inout_opt_ void *layerData, _In_opt_ const void *classifyContext,
                          _In_ const FWPS_FILTER1 *filter, _In_ UINT64 flowContext,
                          _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

EXTERN_C_END

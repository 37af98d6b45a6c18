// The layers that the driver filters: one constant row per layer, and nothing but data.
//
// A row has what the filter engine needs for its layer: keys, name, action and flags.
// A row also has the index of each classify value that the handlers read at its layer.
// The table of handlers is in callouts.c, in the same order.

#pragma once

#include "protocol.h"

EXTERN_C_START

// The layers, by Windows' names. Each layer has two rows: 2 * LAYER_KIND for IPv4, and the next row for IPv6.
typedef enum _LAYER_KIND
{
    LAYER_ALE_AUTH_CONNECT,
    LAYER_ALE_AUTH_RECV_ACCEPT,
    LAYER_ALE_FLOW_ESTABLISHED,
    LAYER_ALE_ENDPOINT_CLOSURE,
    LAYER_ALE_RESOURCE_ASSIGNMENT,
    LAYER_ALE_RESOURCE_RELEASE,
    LAYER_STREAM,
    LAYER_DATAGRAM_DATA,
    LAYER_OUTBOUND_IPPACKET,
    LAYER_INBOUND_IPPACKET,
    LAYER_KIND_COUNT
} LAYER_KIND;

#define LAYER_COUNT (2 * LAYER_KIND_COUNT)

// The index that marks a field that no handler reads at a layer. No layer has as many values.
#define LAYER_NO_FIELD 0xFFu

/// The index of each field in FWPS_INCOMING_VALUES0.incomingValue, or LAYER_NO_FIELD.
typedef struct _LAYER_FIELDS
{
    UINT8 LocalAddress;
    UINT8 RemoteAddress;
    UINT8 LocalPort;
    UINT8 RemotePort;
    UINT8 Protocol;
    UINT8 Flags;
    UINT8 InterfaceIndex;
    UINT8 SubInterfaceIndex;
    UINT8 Direction;
    UINT8 AddressType;    ///< NL_ADDRESS_TYPE of the destination
    UINT8 LocalInterface; ///< LUID of the local address's interface
    UINT8 Compartment;    ///< where the metadata have none
} LAYER_FIELDS;

typedef struct _LAYER
{
    const GUID *Key; ///< Windows' key of the layer
    const WCHAR *Name;
    GUID CalloutKey;
    FWP_ACTION_TYPE Action; ///< of the filter
    UINT32 CalloutFlags;
    BOOLEAN Resettable; ///< a new filter here makes the filter engine authorize the layer's flows again
    UINT8 Direction;    ///< DIRECTION of what a deciding callout decides on
    UINT8 IpVersion;    ///< 4 or 6
    LAYER_FIELDS Fields;
} LAYER;

extern const LAYER Layers[LAYER_COUNT];

EXTERN_C_END

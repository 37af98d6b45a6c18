// Holds the keys of the layers.
#include <initguid.h>

#include "layers.h"

// A callout without one of these flags switches that offload off for all traffic that its filter sees.
// An inspection callout reads addresses and lengths, which offloads and coalescing leave right.
#define INSPECTION_FLAGS                                                                                               \
    (FWP_CALLOUT_FLAG_ALLOW_OFFLOAD | FWP_CALLOUT_FLAG_ALLOW_RSC | PLATFORM_CALLOUT_FLAG_ALLOW_USO |                   \
     PLATFORM_CALLOUT_FLAG_ALLOW_URO)

// Without this flag the bytes of a connection that is older than the filter would not be counted.
#define STREAM_FLAGS (INSPECTION_FLAGS | FWP_CALLOUT_FLAG_ALLOW_MID_STREAM_INSPECTION)

// A deciding callout has no flags, because it injects copies, and the stack takes an injected packet as it is.
// An injected segment that is larger than the path's MTU would be lost.
// An injected segment whose checksum was left to the adapter would be lost too.
#define DECISION_FLAGS 0

// What a callout does, as members of LAYER: Action, CalloutFlags, Resettable, Direction.
#define AUTHORIZES(direction) FWP_ACTION_CALLOUT_TERMINATING, DECISION_FLAGS, TRUE, direction
#define FILTERS(direction)    FWP_ACTION_CALLOUT_TERMINATING, DECISION_FLAGS, FALSE, direction
#define INSPECTS              FWP_ACTION_CALLOUT_INSPECTION, INSPECTION_FLAGS, FALSE, DirectionOutbound
#define INSPECTS_STREAMS      FWP_ACTION_CALLOUT_INSPECTION, STREAM_FLAGS, FALSE, DirectionOutbound

#define NONE              LAYER_NO_FIELD
#define AT(layer, field)  FWPS_FIELD_##layer##_##field
#define ADDRESSES(layer)  AT(layer, IP_LOCAL_ADDRESS), AT(layer, IP_REMOTE_ADDRESS)
#define PORTS(layer)      AT(layer, IP_LOCAL_PORT), AT(layer, IP_REMOTE_PORT)
#define INTERFACES(layer) AT(layer, INTERFACE_INDEX), AT(layer, SUB_INTERFACE_INDEX)

// The fields that the handlers read, in the order of LAYER_FIELDS.
#define AUTHORIZATION_FIELDS(layer, type)                                                                              \
    {ADDRESSES(layer),                                                                                                 \
     PORTS(layer),                                                                                                     \
     AT(layer, IP_PROTOCOL),                                                                                           \
     AT(layer, FLAGS),                                                                                                 \
     INTERFACES(layer),                                                                                                \
     NONE,                                                                                                             \
     AT(layer, type),                                                                                                  \
     AT(layer, IP_LOCAL_INTERFACE),                                                                                    \
     NONE}
#define CONNECT_FIELDS(layer) AUTHORIZATION_FIELDS(layer, IP_DESTINATION_ADDRESS_TYPE)
#define ACCEPT_FIELDS(layer)  AUTHORIZATION_FIELDS(layer, IP_LOCAL_ADDRESS_TYPE)
#define FLOW_FIELDS(layer)                                                                                             \
    {ADDRESSES(layer),                                                                                                 \
     PORTS(layer),                                                                                                     \
     AT(layer, IP_PROTOCOL),                                                                                           \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     AT(layer, IP_LOCAL_INTERFACE),                                                                                    \
     NONE}
#define PORT_FIELDS(layer)                                                                                             \
    {AT(layer, IP_LOCAL_ADDRESS),                                                                                      \
     NONE,                                                                                                             \
     AT(layer, IP_LOCAL_PORT),                                                                                         \
     NONE,                                                                                                             \
     AT(layer, IP_PROTOCOL),                                                                                           \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     NONE,                                                                                                             \
     AT(layer, IP_LOCAL_INTERFACE),                                                                                    \
     NONE}
#define STREAM_FIELDS(layer)                                                                                           \
    {ADDRESSES(layer), PORTS(layer), NONE, NONE, NONE, NONE, NONE, NONE, NONE, AT(layer, COMPARTMENT_ID)}
#define DATAGRAM_FIELDS(layer)                                                                                         \
    {ADDRESSES(layer),                                                                                                 \
     PORTS(layer),                                                                                                     \
     AT(layer, IP_PROTOCOL),                                                                                           \
     AT(layer, FLAGS),                                                                                                 \
     INTERFACES(layer),                                                                                                \
     AT(layer, DIRECTION),                                                                                             \
     NONE,                                                                                                             \
     AT(layer, IP_LOCAL_INTERFACE),                                                                                    \
     NONE}
#define PACKET_FIELDS(layer, type)                                                                                     \
    {NONE, NONE, NONE, NONE, NONE, AT(layer, FLAGS), INTERFACES(layer), NONE, type, AT(layer, IP_LOCAL_INTERFACE), NONE}
#define SENT_FIELDS(layer)     PACKET_FIELDS(layer, NONE)
#define RECEIVED_FIELDS(layer) PACKET_FIELDS(layer, AT(layer, IP_LOCAL_ADDRESS_TYPE))

// clang-format off
#define KEY(data1, data2, data3, ...) {data1, data2, data3, {__VA_ARGS__}}

// The two rows of a layer: IPv4, then IPv6.
#define ROWS(layer, name, does, fields, key4, key6)                                                                    \
    [2 * LAYER_##layer] = {&FWPM_LAYER_##layer##_V4, L"netverdict: IPv4 " name, key4, does, 4, fields(layer##_V4)},    \
    [2 * LAYER_##layer + 1] = {&FWPM_LAYER_##layer##_V6, L"netverdict: IPv6 " name, key6, does, 6, fields(layer##_V6)}

const LAYER Layers[LAYER_COUNT] = {
    ROWS(ALE_AUTH_CONNECT, L"outbound connections", AUTHORIZES(DirectionOutbound), CONNECT_FIELDS,
         KEY(0xd17908a0, 0x30b4, 0x4047, 0xbb, 0x80, 0x77, 0xb6, 0x46, 0x4d, 0xa9, 0xce),
         KEY(0x9f48a51f, 0x5c25, 0x403c, 0x80, 0xa0, 0x6e, 0x37, 0x51, 0x63, 0x56, 0xb0)),
    ROWS(ALE_AUTH_RECV_ACCEPT, L"inbound connections", AUTHORIZES(DirectionInbound), ACCEPT_FIELDS,
         KEY(0xf9ee46e6, 0x61bc, 0x4b0d, 0xa2, 0x61, 0x07, 0xbe, 0x89, 0x06, 0xb1, 0x13),
         KEY(0xd7f2e5c1, 0xbd51, 0x45a0, 0xac, 0xd1, 0x2a, 0x95, 0x59, 0x8f, 0x62, 0x96)),
    ROWS(ALE_FLOW_ESTABLISHED, L"established flows", INSPECTS, FLOW_FIELDS,
         KEY(0x00a59fd7, 0xcd75, 0x43c6, 0x9b, 0xe7, 0x30, 0x69, 0x96, 0x8e, 0x46, 0x3b),
         KEY(0x3a2ebbd3, 0xd88b, 0x4754, 0xb9, 0x9c, 0xba, 0x48, 0x7d, 0x33, 0xa2, 0x55)),
    ROWS(ALE_ENDPOINT_CLOSURE, L"closed endpoints", INSPECTS, FLOW_FIELDS,
         KEY(0xf78ebbec, 0x3229, 0x437d, 0xa8, 0xfa, 0x43, 0xaf, 0xa9, 0xe6, 0x2c, 0x19),
         KEY(0xba287f0d, 0x9fa3, 0x4534, 0x9c, 0x29, 0xfc, 0x6d, 0xf0, 0x69, 0x96, 0x05)),
    ROWS(ALE_RESOURCE_ASSIGNMENT, L"bound ports", INSPECTS, PORT_FIELDS,
         KEY(0x45b56a3d, 0x90f3, 0x48ac, 0x95, 0x92, 0xf8, 0x36, 0xe6, 0x15, 0x19, 0x07),
         KEY(0xafc02513, 0x2d37, 0x4b84, 0x94, 0x67, 0xfc, 0xfd, 0xb3, 0x92, 0x59, 0x57)),
    ROWS(ALE_RESOURCE_RELEASE, L"released ports", INSPECTS, PORT_FIELDS,
         KEY(0xbe6bd160, 0x9813, 0x4eca, 0xb4, 0x6e, 0xa2, 0x42, 0x28, 0x46, 0x90, 0x05),
         KEY(0xd22676e9, 0x7d5a, 0x47dc, 0xa7, 0x6e, 0x39, 0x41, 0x1c, 0x28, 0x95, 0x6e)),
    ROWS(STREAM, L"TCP bandwidth", INSPECTS_STREAMS, STREAM_FIELDS,
         KEY(0x0ba1f390, 0x5088, 0x4f72, 0xb4, 0xf6, 0x7c, 0xd4, 0x90, 0xd5, 0x7c, 0x73),
         KEY(0x57a869e3, 0xa2ff, 0x4364, 0xa0, 0x4a, 0xa1, 0x22, 0x71, 0x02, 0xc0, 0x66)),
    ROWS(DATAGRAM_DATA, L"UDP bandwidth", INSPECTS, DATAGRAM_FIELDS,
         KEY(0x702dd50c, 0xd27e, 0x4a74, 0xb9, 0x9a, 0x3e, 0x0d, 0x31, 0xdc, 0xeb, 0xfb),
         KEY(0xa0219e57, 0x898a, 0x4b18, 0xad, 0x98, 0x5f, 0x66, 0x6d, 0x71, 0x26, 0x4b)),
    ROWS(OUTBOUND_IPPACKET, L"outbound packets", FILTERS(DirectionOutbound), SENT_FIELDS,
         KEY(0x3bd600d9, 0xf1ce, 0x4c56, 0xb4, 0x1a, 0x30, 0xde, 0x45, 0x20, 0x54, 0x23),
         KEY(0xcbf2dc89, 0x9390, 0x44cc, 0xaf, 0x4a, 0x58, 0x50, 0xc0, 0xc9, 0x4d, 0x7b)),
    ROWS(INBOUND_IPPACKET, L"inbound packets", FILTERS(DirectionInbound), RECEIVED_FIELDS,
         KEY(0x67907dbd, 0xfea1, 0x47c3, 0x9c, 0x5a, 0x6d, 0xa2, 0xfb, 0xda, 0x5b, 0xba),
         KEY(0xd944ab03, 0x7b44, 0x4634, 0x9f, 0x5c, 0x6d, 0xcb, 0x6d, 0xd5, 0x67, 0x17)),
};
// clang-format on

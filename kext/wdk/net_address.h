/*
 * Addresses, protocols and interface numbers as the network headers of Windows name them (ws2def.h, ws2ipdef.h,
 * ifdef.h).
 */
#pragma once

#include "abi.h"

ABI_C_BEGIN

typedef UINT16 ADDRESS_FAMILY;

#ifndef AF_UNSPEC
#define AF_UNSPEC 0
#endif
#ifndef AF_INET
#define AF_INET 2
#endif
#ifndef AF_INET6
#define AF_INET6 23
#endif

typedef enum _IPPROTO
{
    IPPROTO_HOPOPTS = 0,
    IPPROTO_ICMP = 1,
    IPPROTO_IGMP = 2,
    IPPROTO_IPV4 = 4,
    IPPROTO_TCP = 6,
    IPPROTO_UDP = 17,
    IPPROTO_IPV6 = 41,
    IPPROTO_ROUTING = 43,
    IPPROTO_FRAGMENT = 44,
    IPPROTO_ESP = 50,
    IPPROTO_AH = 51,
    IPPROTO_ICMPV6 = 58,
    IPPROTO_NONE = 59,
    IPPROTO_DSTOPTS = 60,
    IPPROTO_RAW = 255,
    IPPROTO_MAX = 256
} IPPROTO, *PIPROTO;

typedef UINT32 NET_IFINDEX, *PNET_IFINDEX;
typedef NET_IFINDEX IF_INDEX, *PIF_INDEX;
typedef UINT32 NET_IF_COMPARTMENT_ID, *PNET_IF_COMPARTMENT_ID;
typedef UINT32 COMPARTMENT_ID, *PCOMPARTMENT_ID;

#define IFI_UNSPECIFIED                   ((NET_IFINDEX)0)
#define NET_IF_COMPARTMENT_ID_UNSPECIFIED ((NET_IF_COMPARTMENT_ID)0)
#define NET_IF_COMPARTMENT_ID_PRIMARY     ((NET_IF_COMPARTMENT_ID)1)
#define UNSPECIFIED_COMPARTMENT_ID        NET_IF_COMPARTMENT_ID_UNSPECIFIED
#define DEFAULT_COMPARTMENT_ID            NET_IF_COMPARTMENT_ID_PRIMARY

typedef struct _SCOPE_ID
{
    union
    {
        struct
        {
            UINT32 Zone : 28;
            UINT32 Level : 4;
        };
        UINT32 Value;
    };
} SCOPE_ID, *PSCOPE_ID;

typedef struct sockaddr
{
    ADDRESS_FAMILY sa_family;
    CHAR sa_data[14];
} SOCKADDR, *PSOCKADDR;

typedef struct in_addr
{
    union
    {
        struct
        {
            UCHAR s_b1, s_b2, s_b3, s_b4;
        } S_un_b;
        UINT32 S_addr;
    } S_un;
} IN_ADDR, *PIN_ADDR;

typedef struct in6_addr
{
    union
    {
        UCHAR Byte[16];
        UINT16 Word[8];
    } u;
} IN6_ADDR, *PIN6_ADDR;

typedef struct sockaddr_in
{
    ADDRESS_FAMILY sin_family;
    UINT16 sin_port;
    IN_ADDR sin_addr;
    CHAR sin_zero[8];
} SOCKADDR_IN, *PSOCKADDR_IN;

typedef struct sockaddr_in6
{
    ADDRESS_FAMILY sin6_family;
    UINT16 sin6_port;
    UINT32 sin6_flowinfo;
    IN6_ADDR sin6_addr;
    union
    {
        UINT32 sin6_scope_id;
        SCOPE_ID sin6_scope_struct;
    };
} SOCKADDR_IN6, *PSOCKADDR_IN6;

typedef union _SOCKADDR_INET
{
    SOCKADDR_IN Ipv4;
    SOCKADDR_IN6 Ipv6;
    ADDRESS_FAMILY si_family;
} SOCKADDR_INET, *PSOCKADDR_INET;

typedef struct _IP_ADDRESS_PREFIX
{
    SOCKADDR_INET Prefix;
    UINT8 PrefixLength;
} IP_ADDRESS_PREFIX, *PIP_ADDRESS_PREFIX;

typedef struct _WSACMSGHDR
{
    SIZE_T cmsg_len;
    INT32 cmsg_level;
    INT32 cmsg_type;
} WSACMSGHDR, *PWSACMSGHDR;

ABI_ASSERT_SIZE(SCOPE_ID, 4);
ABI_ASSERT_SIZE(SOCKADDR, 16);
ABI_ASSERT_SIZE(IN_ADDR, 4);
ABI_ASSERT_SIZE(IN6_ADDR, 16);
ABI_ASSERT_SIZE(SOCKADDR_IN, 16);
ABI_ASSERT_SIZE(SOCKADDR_IN6, 28);
ABI_ASSERT_SIZE(SOCKADDR_INET, 28);
ABI_ASSERT_SIZE(IP_ADDRESS_PREFIX, 32);
ABI_ASSERT_SIZE(WSACMSGHDR, 16);

ABI_C_END

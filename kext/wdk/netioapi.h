/*
 * The table of the machine's unicast addresses, and the notification of its changes (netioapi.h).
 */
#pragma once

#include "net_address.h"

ABI_C_BEGIN

typedef union _NET_LUID_LH
{
    UINT64 Value;
    struct
    {
        UINT64 Reserved : 24;
        UINT64 NetLuidIndex : 24;
        UINT64 IfType : 16;
    } Info;
} NET_LUID_LH, *PNET_LUID_LH;

typedef NET_LUID_LH NET_LUID, *PNET_LUID;

typedef enum _NL_PREFIX_ORIGIN
{
    IpPrefixOriginOther = 0
} NL_PREFIX_ORIGIN;

typedef enum _NL_SUFFIX_ORIGIN
{
    NlsoOther = 0
} NL_SUFFIX_ORIGIN;

typedef enum _NL_DAD_STATE
{
    IpDadStateInvalid = 0,
    IpDadStatePreferred = 4
} NL_DAD_STATE;

typedef enum _MIB_NOTIFICATION_TYPE
{
    MibParameterNotification,
    MibAddInstance,
    MibDeleteInstance,
    MibInitialNotification
} MIB_NOTIFICATION_TYPE, *PMIB_NOTIFICATION_TYPE;

typedef struct _MIB_UNICASTIPADDRESS_ROW
{
    SOCKADDR_INET Address;
    NET_LUID InterfaceLuid;
    NET_IFINDEX InterfaceIndex;
    NL_PREFIX_ORIGIN PrefixOrigin;
    NL_SUFFIX_ORIGIN SuffixOrigin;
    ULONG ValidLifetime;
    ULONG PreferredLifetime;
    UINT8 OnLinkPrefixLength;
    BOOLEAN SkipAsSource;
    NL_DAD_STATE DadState;
    SCOPE_ID ScopeId;
    LARGE_INTEGER CreationTimeStamp;
} MIB_UNICASTIPADDRESS_ROW, *PMIB_UNICASTIPADDRESS_ROW;

typedef struct _MIB_UNICASTIPADDRESS_TABLE
{
    ULONG NumEntries;
    MIB_UNICASTIPADDRESS_ROW Table[1];
} MIB_UNICASTIPADDRESS_TABLE, *PMIB_UNICASTIPADDRESS_TABLE;

typedef VOID(NTAPI *PUNICAST_IPADDRESS_CHANGE_CALLBACK)(PVOID CallerContext, PMIB_UNICASTIPADDRESS_ROW Row,
                                                        MIB_NOTIFICATION_TYPE NotificationType);

NTSTATUS NTAPI GetUnicastIpAddressTable(ADDRESS_FAMILY Family, PMIB_UNICASTIPADDRESS_TABLE *Table);
VOID NTAPI FreeMibTable(PVOID Memory);
NTSTATUS NTAPI NotifyUnicastIpAddressChange(ADDRESS_FAMILY Family, PUNICAST_IPADDRESS_CHANGE_CALLBACK Callback,
                                            PVOID CallerContext, BOOLEAN InitialNotification,
                                            HANDLE *NotificationHandle);
NTSTATUS NTAPI CancelMibChangeNotify2(HANDLE NotificationHandle);

ABI_ASSERT_SIZE(NET_LUID_LH, 8);
ABI_ASSERT_SIZE(MIB_UNICASTIPADDRESS_ROW, 80);
ABI_ASSERT_SIZE(MIB_UNICASTIPADDRESS_TABLE, 88);

ABI_C_END

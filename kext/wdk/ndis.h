/*
 * The NDIS 6 net buffer interface, as far as a WFP callout driver needs it.
 */
#pragma once

#include "abi.h"
#include "net_address.h"

ABI_C_BEGIN

typedef PVOID NDIS_HANDLE, *PNDIS_HANDLE;
typedef INT32 NDIS_STATUS, *PNDIS_STATUS;

#define NDIS_STATUS_SUCCESS   ((NDIS_STATUS)0x00000000)
#define NDIS_STATUS_RESOURCES ((NDIS_STATUS)0xC000009A)
#define NDIS_STATUS_FAILURE   ((NDIS_STATUS)0xC0000001)

#define NDIS_OBJECT_TYPE_DEFAULT 0x80

typedef struct _NDIS_OBJECT_HEADER
{
    UCHAR Type;
    UCHAR Revision;
    USHORT Size;
} NDIS_OBJECT_HEADER, *PNDIS_OBJECT_HEADER;

typedef struct _NDIS_GENERIC_OBJECT
{
    NDIS_OBJECT_HEADER Header;
    PVOID Caller;
    PVOID CallersCaller;
    PDRIVER_OBJECT DriverObject;
} NDIS_GENERIC_OBJECT, *PNDIS_GENERIC_OBJECT;

/* What one NetBufferListInfo entry means; the array grows with the NDIS version. */
typedef enum _NDIS_NET_BUFFER_LIST_INFO
{
    TcpIpChecksumNetBufferListInfo = 0,
    TcpOffloadBytesTransferred = TcpIpChecksumNetBufferListInfo,
    IPsecOffloadV1NetBufferListInfo = 1,
    IPsecOffloadV2NetBufferListInfo = IPsecOffloadV1NetBufferListInfo,
    TcpLargeSendNetBufferListInfo = 2,
    TcpReceiveNoPush = TcpLargeSendNetBufferListInfo,
    ClassificationHandleNetBufferListInfo = 3,
    Ieee8021QNetBufferListInfo = 4,
    NetBufferListCancelId = 5,
    MediaSpecificInformation = 6,
    NetBufferListFrameType = 7,
    NetBufferListProtocolId = NetBufferListFrameType,
    NetBufferListHashValue = 8,
    NetBufferListHashInfo = 9,
    WfpNetBufferListInfo = 10,
    MaxNetBufferListInfo = 28
} NDIS_NET_BUFFER_LIST_INFO;

typedef struct _NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO
{
    union
    {
        struct
        {
            UINT32 IsIPv4 : 1;
            UINT32 IsIPv6 : 1;
            UINT32 TcpChecksum : 1;
            UINT32 UdpChecksum : 1;
            UINT32 IpHeaderChecksum : 1;
            UINT32 Reserved : 11;
            UINT32 TcpHeaderOffset : 10;
        } Transmit;
        struct
        {
            UINT32 TcpChecksumFailed : 1;
            UINT32 UdpChecksumFailed : 1;
            UINT32 IpChecksumFailed : 1;
            UINT32 TcpChecksumSucceeded : 1;
            UINT32 UdpChecksumSucceeded : 1;
            UINT32 IpChecksumSucceeded : 1;
            UINT32 Loopback : 1;
        } Receive;
        PVOID Value;
    };
} NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO, *PNDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO;

typedef struct _NET_BUFFER NET_BUFFER, *PNET_BUFFER;
typedef struct _NET_BUFFER_LIST NET_BUFFER_LIST, *PNET_BUFFER_LIST;
typedef struct _NET_BUFFER_LIST_CONTEXT NET_BUFFER_LIST_CONTEXT, *PNET_BUFFER_LIST_CONTEXT;

typedef struct _NET_BUFFER_DATA
{
    PNET_BUFFER Next;
    PMDL CurrentMdl;
    UINT32 CurrentMdlOffset;
    union
    {
        UINT32 DataLength;
        SIZE_T stDataLength;
    };
    PMDL MdlChain;
    UINT32 DataOffset;
} NET_BUFFER_DATA, *PNET_BUFFER_DATA;

typedef union _NET_BUFFER_HEADER
{
    NET_BUFFER_DATA NetBufferData;
} NET_BUFFER_HEADER, *PNET_BUFFER_HEADER;

struct _NET_BUFFER
{
    union
    {
        struct
        {
            PNET_BUFFER Next;
            PMDL CurrentMdl;
            UINT32 CurrentMdlOffset;
            union
            {
                UINT32 DataLength;
                SIZE_T stDataLength;
            };
            PMDL MdlChain;
            UINT32 DataOffset;
        };
        NET_BUFFER_HEADER NetBufferHeader;
    };
    UINT16 ChecksumBias;
    UINT16 Reserved;
    NDIS_HANDLE NdisPoolHandle;
    PVOID NdisReserved[2] __attribute__((aligned(16)));
    PVOID ProtocolReserved[6] __attribute__((aligned(16)));
    PVOID MiniportReserved[4];
    INT64 DataPhysicalAddress;
    PVOID SharedMemoryInfo;
};

struct _NET_BUFFER_LIST_CONTEXT
{
    PNET_BUFFER_LIST_CONTEXT Next;
    USHORT Size;
    USHORT Offset;
    UCHAR ContextData[] __attribute__((aligned(16)));
};

typedef struct _NET_BUFFER_LIST_DATA
{
    PNET_BUFFER_LIST Next;
    PNET_BUFFER FirstNetBuffer;
} NET_BUFFER_LIST_DATA, *PNET_BUFFER_LIST_DATA;

typedef union _NET_BUFFER_LIST_HEADER
{
    NET_BUFFER_LIST_DATA NetBufferListData;
} NET_BUFFER_LIST_HEADER, *PNET_BUFFER_LIST_HEADER;

/* Only NDIS allocates one: its size depends on the running NDIS version. */
struct _NET_BUFFER_LIST
{
    union
    {
        struct
        {
            PNET_BUFFER_LIST Next;
            PNET_BUFFER FirstNetBuffer;
        };
        NET_BUFFER_LIST_HEADER NetBufferListHeader;
    };
    PNET_BUFFER_LIST_CONTEXT Context;
    PNET_BUFFER_LIST ParentNetBufferList;
    NDIS_HANDLE NdisPoolHandle;
    PVOID NdisReserved[2] __attribute__((aligned(16)));
    PVOID ProtocolReserved[4] __attribute__((aligned(16)));
    PVOID MiniportReserved[2];
    PVOID Scratch;
    NDIS_HANDLE SourceHandle;
    UINT32 NblFlags;
    INT32 ChildRefCount;
    UINT32 Flags;
    NDIS_STATUS Status;
    PVOID NetBufferListInfo[MaxNetBufferListInfo];
};

typedef struct _NET_BUFFER_LIST_POOL_PARAMETERS
{
    NDIS_OBJECT_HEADER Header;
    UCHAR ProtocolId;
    BOOLEAN fAllocateNetBuffer;
    USHORT ContextSize;
    UINT32 PoolTag;
    UINT32 DataSize;
} NET_BUFFER_LIST_POOL_PARAMETERS, *PNET_BUFFER_LIST_POOL_PARAMETERS;

#define NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1             1
#define NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1 16

#define NDIS_PROTOCOL_ID_DEFAULT 0x00
#define NDIS_PROTOCOL_ID_TCP_IP  0x02

#define NET_BUFFER_NEXT_NB(_NB)            ((_NB)->Next)
#define NET_BUFFER_FIRST_MDL(_NB)          ((_NB)->MdlChain)
#define NET_BUFFER_DATA_LENGTH(_NB)        ((_NB)->DataLength)
#define NET_BUFFER_DATA_OFFSET(_NB)        ((_NB)->DataOffset)
#define NET_BUFFER_CURRENT_MDL(_NB)        ((_NB)->CurrentMdl)
#define NET_BUFFER_CURRENT_MDL_OFFSET(_NB) ((_NB)->CurrentMdlOffset)
#define NET_BUFFER_PROTOCOL_RESERVED(_NB)  ((_NB)->ProtocolReserved)
#define NET_BUFFER_MINIPORT_RESERVED(_NB)  ((_NB)->MiniportReserved)
#define NET_BUFFER_CHECKSUM_BIAS(_NB)      ((_NB)->ChecksumBias)

#define NET_BUFFER_LIST_NEXT_NBL(_NBL)           ((_NBL)->Next)
#define NET_BUFFER_LIST_FIRST_NB(_NBL)           ((_NBL)->FirstNetBuffer)
#define NET_BUFFER_LIST_FLAGS(_NBL)              ((_NBL)->Flags)
#define NET_BUFFER_LIST_NBL_FLAGS(_NBL)          ((_NBL)->NblFlags)
#define NET_BUFFER_LIST_PROTOCOL_RESERVED(_NBL)  ((_NBL)->ProtocolReserved)
#define NET_BUFFER_LIST_MINIPORT_RESERVED(_NBL)  ((_NBL)->MiniportReserved)
#define NET_BUFFER_LIST_CONTEXT_DATA_START(_NBL) ((PUCHAR)(((_NBL)->Context) + 1) + ((_NBL)->Context)->Offset)
#define NET_BUFFER_LIST_CONTEXT_DATA_SIZE(_NBL)  (((_NBL)->Context)->Size)
#define NET_BUFFER_LIST_INFO(_NBL, _Id)          ((_NBL)->NetBufferListInfo[(_Id)])
#define NET_BUFFER_LIST_STATUS(_NBL)             ((_NBL)->Status)

typedef PMDL(NTAPI *NET_BUFFER_ALLOCATE_MDL_HANDLER)(PULONG BufferSize);
typedef VOID(NTAPI *NET_BUFFER_FREE_MDL_HANDLER)(PMDL Mdl);

NDIS_HANDLE NTAPI NdisAllocateNetBufferListPool(NDIS_HANDLE NdisHandle,
                                                const NET_BUFFER_LIST_POOL_PARAMETERS *Parameters);
VOID NTAPI NdisFreeNetBufferListPool(NDIS_HANDLE PoolHandle);
PVOID NTAPI NdisGetDataBuffer(PNET_BUFFER NetBuffer, ULONG BytesNeeded, PVOID Storage, ULONG AlignMultiple,
                              ULONG AlignOffset);
NDIS_STATUS NTAPI NdisRetreatNetBufferDataStart(PNET_BUFFER NetBuffer, ULONG DataOffsetDelta, ULONG DataBackFill,
                                                NET_BUFFER_ALLOCATE_MDL_HANDLER AllocateMdlHandler);
VOID NTAPI NdisAdvanceNetBufferDataStart(PNET_BUFFER NetBuffer, ULONG DataOffsetDelta, BOOLEAN FreeMdl,
                                         NET_BUFFER_FREE_MDL_HANDLER FreeMdlHandler);
PNDIS_GENERIC_OBJECT NTAPI NdisAllocateGenericObject(PDRIVER_OBJECT DriverObject, ULONG Tag, USHORT Size);
VOID NTAPI NdisFreeGenericObject(PNDIS_GENERIC_OBJECT NdisObject);

ABI_ASSERT_SIZE(MDL, 48);
ABI_ASSERT_SIZE(NDIS_OBJECT_HEADER, 4);
ABI_ASSERT_SIZE(NDIS_GENERIC_OBJECT, 32);
ABI_ASSERT_SIZE(NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO, 8);
ABI_ASSERT_SIZE(NET_BUFFER_DATA, 48);
ABI_ASSERT_SIZE(NET_BUFFER_HEADER, 48);
ABI_ASSERT_SIZE(NET_BUFFER_LIST_CONTEXT, 16);
ABI_ASSERT_SIZE(NET_BUFFER_LIST_DATA, 16);
ABI_ASSERT_SIZE(NET_BUFFER_LIST_HEADER, 16);
ABI_ASSERT_SIZE(NET_BUFFER_LIST_POOL_PARAMETERS, 16);

ABI_ASSERT_SIZE(NET_BUFFER, 176);
ABI_ASSERT_OFFSET(NET_BUFFER, Next, 0);
ABI_ASSERT_OFFSET(NET_BUFFER, CurrentMdl, 8);
ABI_ASSERT_OFFSET(NET_BUFFER, CurrentMdlOffset, 16);
ABI_ASSERT_OFFSET(NET_BUFFER, DataLength, 24);
ABI_ASSERT_OFFSET(NET_BUFFER, MdlChain, 32);
ABI_ASSERT_OFFSET(NET_BUFFER, DataOffset, 40);
ABI_ASSERT_OFFSET(NET_BUFFER, ChecksumBias, 48);
ABI_ASSERT_OFFSET(NET_BUFFER, NdisPoolHandle, 56);
ABI_ASSERT_OFFSET(NET_BUFFER, NdisReserved, 64);
ABI_ASSERT_OFFSET(NET_BUFFER, ProtocolReserved, 80);
ABI_ASSERT_OFFSET(NET_BUFFER, MiniportReserved, 128);
ABI_ASSERT_OFFSET(NET_BUFFER, DataPhysicalAddress, 160);

ABI_ASSERT_SIZE(NET_BUFFER_LIST, 368);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, Next, 0);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, FirstNetBuffer, 8);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, Context, 16);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, ParentNetBufferList, 24);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, NdisPoolHandle, 32);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, NdisReserved, 48);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, ProtocolReserved, 64);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, MiniportReserved, 96);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, Scratch, 112);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, SourceHandle, 120);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, NblFlags, 128);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, ChildRefCount, 132);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, Flags, 136);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, Status, 140);
ABI_ASSERT_OFFSET(NET_BUFFER_LIST, NetBufferListInfo, 144);

ABI_C_END

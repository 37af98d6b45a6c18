/*
 * The filter engine's kernel-mode classify interface: what a callout is called with, and what it may call. Functions
 * are declared in the groups "callouts", "pended operations", "injection" and "net buffer lists".
 */
#pragma once

#include "abi.h"
#include "fwp_status.h"
#include "fwps_fields.h"
#include "fwptypes.h"
#include "ndis.h"
#include "net_address.h"

ABI_C_BEGIN

#define FWPS_RIGHT_ACTION_WRITE 0x00000001

#define FWPS_CLASSIFY_OUT_FLAG_ABSORB               0x00000001
#define FWPS_CLASSIFY_OUT_FLAG_BUFFER_LIMIT_REACHED 0x00000002
#define FWPS_CLASSIFY_OUT_FLAG_NO_MORE_DATA         0x00000004

#define FWPS_FILTER_FLAG_CLEAR_ACTION_RIGHT             0x0001
#define FWPS_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED 0x0002

#define FWPS_METADATA_FIELD_DISCARD_REASON                   0x00000001
#define FWPS_METADATA_FIELD_FLOW_HANDLE                      0x00000002
#define FWPS_METADATA_FIELD_IP_HEADER_SIZE                   0x00000004
#define FWPS_METADATA_FIELD_PROCESS_PATH                     0x00000008
#define FWPS_METADATA_FIELD_TOKEN                            0x00000010
#define FWPS_METADATA_FIELD_PROCESS_ID                       0x00000020
#define FWPS_METADATA_FIELD_SYSTEM_FLAGS                     0x00000040
#define FWPS_METADATA_FIELD_RESERVED                         0x00000080
#define FWPS_METADATA_FIELD_SOURCE_INTERFACE_INDEX           0x00000100
#define FWPS_METADATA_FIELD_DESTINATION_INTERFACE_INDEX      0x00000200
#define FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE            0x00000400
#define FWPS_METADATA_FIELD_COMPARTMENT_ID                   0x00000800
#define FWPS_METADATA_FIELD_FRAGMENT_DATA                    0x00001000
#define FWPS_METADATA_FIELD_PATH_MTU                         0x00002000
#define FWPS_METADATA_FIELD_COMPLETION_HANDLE                0x00004000
#define FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE        0x00008000
#define FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA           0x00010000
#define FWPS_METADATA_FIELD_REMOTE_SCOPE_ID                  0x00020000
#define FWPS_METADATA_FIELD_PACKET_DIRECTION                 0x00040000
#define FWPS_METADATA_FIELD_PACKET_SYSTEM_CRITICAL           0x00080000
#define FWPS_METADATA_FIELD_FORWARD_LAYER_OUTBOUND_PASS_THRU 0x00100000
#define FWPS_METADATA_FIELD_FORWARD_LAYER_INBOUND_PASS_THRU  0x00200000
#define FWPS_METADATA_FIELD_ALE_CLASSIFY_REQUIRED            0x00400000
#define FWPS_METADATA_FIELD_TRANSPORT_HEADER_INCLUDE_HEADER  0x00800000
#define FWPS_METADATA_FIELD_DESTINATION_PREFIX               0x01000000
#define FWPS_METADATA_FIELD_ETHER_FRAME_LENGTH               0x02000000
#define FWPS_METADATA_FIELD_PARENT_ENDPOINT_HANDLE           0x04000000
#define FWPS_METADATA_FIELD_ICMP_ID_AND_SEQUENCE             0x08000000
#define FWPS_METADATA_FIELD_LOCAL_REDIRECT_TARGET_PID        0x10000000
#define FWPS_METADATA_FIELD_ORIGINAL_DESTINATION             0x20000000
#define FWPS_METADATA_FIELD_REDIRECT_RECORD_HANDLE           0x40000000
#define FWPS_METADATA_FIELD_SUB_PROCESS_TAG                  0x80000000

#define FWPS_IS_METADATA_FIELD_PRESENT(metadataValues, metadataField)                                                  \
    (((metadataValues)->currentMetadataValues & (metadataField)) == (metadataField))

#define FWPS_STREAM_FLAG_RECEIVE            0x00000001
#define FWPS_STREAM_FLAG_RECEIVE_EXPEDITED  0x00000002
#define FWPS_STREAM_FLAG_RECEIVE_DISCONNECT 0x00000004
#define FWPS_STREAM_FLAG_RECEIVE_ABORT      0x00000008
#define FWPS_STREAM_FLAG_RECEIVE_PUSH       0x00000010
#define FWPS_STREAM_FLAG_SEND               0x00010000
#define FWPS_STREAM_FLAG_SEND_EXPEDITED     0x00020000
#define FWPS_STREAM_FLAG_SEND_NODELAY       0x00040000
#define FWPS_STREAM_FLAG_SEND_DISCONNECT    0x00080000
#define FWPS_STREAM_FLAG_SEND_ABORT         0x00100000

#define FWPS_INJECTION_TYPE_STREAM    0x00000001
#define FWPS_INJECTION_TYPE_TRANSPORT 0x00000002
#define FWPS_INJECTION_TYPE_NETWORK   0x00000004
#define FWPS_INJECTION_TYPE_FORWARD   0x00000008

typedef enum FWPS_PACKET_INJECTION_STATE_
{
    FWPS_PACKET_NOT_INJECTED = 0,
    FWPS_PACKET_INJECTED_BY_SELF = 1,
    FWPS_PACKET_INJECTED_BY_OTHER = 2,
    FWPS_PACKET_PREVIOUSLY_INJECTED_BY_SELF = 3,
    FWPS_PACKET_INJECTION_STATE_MAX = 4
} FWPS_PACKET_INJECTION_STATE;

typedef enum FWPS_CALLOUT_NOTIFY_TYPE_
{
    FWPS_CALLOUT_NOTIFY_ADD_FILTER = 0,
    FWPS_CALLOUT_NOTIFY_DELETE_FILTER = 1,
    FWPS_CALLOUT_NOTIFY_ADD_FILTER_POST_COMMIT = 2,
    FWPS_CALLOUT_NOTIFY_TYPE_MAX = 3
} FWPS_CALLOUT_NOTIFY_TYPE;

typedef enum FWPS_STREAM_ACTION_TYPE_
{
    FWPS_STREAM_ACTION_NONE = 0,
    FWPS_STREAM_ACTION_NEED_MORE_DATA = 1,
    FWPS_STREAM_ACTION_DROP_CONNECTION = 2,
    FWPS_STREAM_ACTION_DEFER = 3,
    FWPS_STREAM_ACTION_ALLOW_CONNECTION = 4,
    FWPS_STREAM_ACTION_TYPE_MAX = 5
} FWPS_STREAM_ACTION_TYPE;

typedef enum FWPS_DISCARD_MODULE0_
{
    FWPS_DISCARD_MODULE_NETWORK = 0,
    FWPS_DISCARD_MODULE_TRANSPORT = 1,
    FWPS_DISCARD_MODULE_GENERAL = 2,
    FWPS_DISCARD_MODULE_MAX = 3
} FWPS_DISCARD_MODULE0;

typedef struct FWPS_INCOMING_VALUE0_
{
    FWP_VALUE0 value;
} FWPS_INCOMING_VALUE0;

typedef struct FWPS_INCOMING_VALUES0_
{
    UINT16 layerId;
    UINT32 valueCount;
    FWPS_INCOMING_VALUE0 *incomingValue;
} FWPS_INCOMING_VALUES0;

typedef struct FWPS_DISCARD_METADATA0_
{
    FWPS_DISCARD_MODULE0 discardModule;
    UINT32 discardReason;
    UINT64 filterId;
} FWPS_DISCARD_METADATA0;

typedef struct FWPS_INBOUND_FRAGMENT_METADATA0_
{
    UINT32 fragmentIdentification;
    UINT16 fragmentOffset;
    UINT32 fragmentLength;
} FWPS_INBOUND_FRAGMENT_METADATA0;

typedef struct FWPS_INCOMING_METADATA_VALUES0_
{
    UINT32 currentMetadataValues;
    UINT32 flags;
    UINT64 reserved;
    FWPS_DISCARD_METADATA0 discardMetadata;
    UINT64 flowHandle;
    UINT32 ipHeaderSize;
    UINT32 transportHeaderSize;
    FWP_BYTE_BLOB *processPath;
    UINT64 token;
    UINT64 processId;
    UINT32 sourceInterfaceIndex;
    UINT32 destinationInterfaceIndex;
    UINT32 compartmentId;
    FWPS_INBOUND_FRAGMENT_METADATA0 fragmentMetadata;
    UINT32 pathMtu;
    HANDLE completionHandle;
    UINT64 transportEndpointHandle;
    SCOPE_ID remoteScopeId;
    WSACMSGHDR *controlData;
    UINT32 controlDataLength;
    FWP_DIRECTION packetDirection;
    PVOID headerIncludeHeader;
    UINT32 headerIncludeHeaderLength;
    IP_ADDRESS_PREFIX destinationPrefix;
    UINT16 frameLength;
    UINT64 parentEndpointHandle;
    UINT32 icmpIdAndSequence;
    UINT32 localRedirectTargetPID;
    SOCKADDR *originalDestination;
    HANDLE redirectRecords;
    UINT32 currentL2MetadataValues;
    UINT32 l2Flags;
    UINT32 ethernetMacHeaderSize;
    UINT32 wiFiOperationMode;
    UINT32 vSwitchSourcePortId;
    UINT16 vSwitchSourceNicIndex;
    UINT32 vSwitchDestinationPortId;
    HANDLE vSwitchPacketContext;
    PVOID subProcessTag;
    UINT64 reserved1;
} FWPS_INCOMING_METADATA_VALUES0;

typedef struct FWPS_CLASSIFY_OUT0_
{
    FWP_ACTION_TYPE actionType;
    UINT64 outContext;
    UINT64 filterId;
    UINT32 rights;
    UINT32 flags;
    UINT32 reserved;
} FWPS_CLASSIFY_OUT0;

typedef struct FWPS_ACTION0_
{
    FWP_ACTION_TYPE type;
    UINT32 calloutId;
} FWPS_ACTION0;

struct FWPS_FILTER_CONDITION0_;
struct FWPM_PROVIDER_CONTEXT2_;

typedef struct FWPS_FILTER2_
{
    UINT64 filterId;
    FWP_VALUE0 weight;
    UINT16 subLayerWeight;
    UINT16 flags;
    UINT32 numFilterConditions;
    struct FWPS_FILTER_CONDITION0_ *filterCondition;
    FWPS_ACTION0 action;
    UINT64 context;
    struct FWPM_PROVIDER_CONTEXT2_ *providerContext;
} FWPS_FILTER2;

#define FWPS_PACKET_LIST_INFORMATION_QUERY_INBOUND  0x00000001
#define FWPS_PACKET_LIST_INFORMATION_QUERY_OUTBOUND 0x00000002
#define FWPS_PACKET_LIST_INFORMATION_QUERY_IPSEC    0x00000004

typedef struct FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0_
{
    UINT32 isSecure : 1;
    UINT32 isTransportMode : 1;
    UINT32 isTunnelMode : 1;
    UINT32 isTransportModeVerified : 1;
    UINT32 isTunnelModeVerified : 1;
    UINT32 isDeTunneled : 1;
} FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0;

typedef struct FWPS_PACKET_LIST_OUTBOUND_IPSEC_INFORMATION0_
{
    UINT32 isIPsecPolicyMatch : 1;
    UINT32 isTransportPolicyMatch : 1;
    UINT32 isTunnelPolicyMatch : 1;
    UINT32 isTunnelIPinIP : 1;
} FWPS_PACKET_LIST_OUTBOUND_IPSEC_INFORMATION0;

typedef union FWPS_PACKET_LIST_IPSEC_INFORMATION0_
{
    FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 inbound;
    FWPS_PACKET_LIST_OUTBOUND_IPSEC_INFORMATION0 outbound;
    UINT32 flags;
} FWPS_PACKET_LIST_IPSEC_INFORMATION0;

typedef struct FWPS_PACKET_LIST_FWP_INFORMATION0_
{
    UINT32 isReinjected : 1;
} FWPS_PACKET_LIST_FWP_INFORMATION0;

typedef struct FWPS_PACKET_LIST_INFORMATION0_
{
    FWPS_PACKET_LIST_IPSEC_INFORMATION0 ipsecInformation;
    FWPS_PACKET_LIST_FWP_INFORMATION0 fwpInformation;
} FWPS_PACKET_LIST_INFORMATION0;

typedef struct FWPS_STREAM_DATA_OFFSET0_
{
    NET_BUFFER_LIST *netBufferList;
    NET_BUFFER *netBuffer;
    MDL *mdl;
    UINT32 mdlOffset;
    UINT32 netBufferOffset;
    SIZE_T streamDataOffset;
} FWPS_STREAM_DATA_OFFSET0;

typedef struct FWPS_STREAM_DATA0_
{
    UINT32 flags;
    FWPS_STREAM_DATA_OFFSET0 dataOffset;
    SIZE_T dataLength;
    NET_BUFFER_LIST *netBufferListChain;
} FWPS_STREAM_DATA0;

typedef struct FWPS_STREAM_CALLOUT_IO_PACKET0_
{
    FWPS_STREAM_DATA0 *streamData;
    SIZE_T missedBytes;
    UINT32 countBytesRequired;
    SIZE_T countBytesEnforced;
    FWPS_STREAM_ACTION_TYPE streamAction;
} FWPS_STREAM_CALLOUT_IO_PACKET0;

typedef struct FWPS_TRANSPORT_SEND_PARAMS1_
{
    UCHAR *remoteAddress;
    SCOPE_ID remoteScopeId;
    WSACMSGHDR *controlData;
    UINT32 controlDataLength;
    UCHAR *headerIncludeHeader;
    UINT32 headerIncludeHeaderLength;
} FWPS_TRANSPORT_SEND_PARAMS1;

typedef void(NTAPI *FWPS_CALLOUT_CLASSIFY_FN2)(const FWPS_INCOMING_VALUES0 *inFixedValues,
                                               const FWPS_INCOMING_METADATA_VALUES0 *inMetaValues, void *layerData,
                                               const void *classifyContext, const FWPS_FILTER2 *filter,
                                               UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut);

typedef NTSTATUS(NTAPI *FWPS_CALLOUT_NOTIFY_FN2)(FWPS_CALLOUT_NOTIFY_TYPE notifyType, const GUID *filterKey,
                                                 FWPS_FILTER2 *filter);

typedef void(NTAPI *FWPS_CALLOUT_FLOW_DELETE_NOTIFY_FN0)(UINT16 layerId, UINT32 calloutId, UINT64 flowContext);

typedef void(NTAPI *FWPS_INJECT_COMPLETE0)(void *context, NET_BUFFER_LIST *netBufferList, BOOLEAN dispatchLevel);

typedef struct FWPS_CALLOUT2_
{
    GUID calloutKey;
    UINT32 flags;
    FWPS_CALLOUT_CLASSIFY_FN2 classifyFn;
    FWPS_CALLOUT_NOTIFY_FN2 notifyFn;
    FWPS_CALLOUT_FLOW_DELETE_NOTIFY_FN0 flowDeleteFn;
} FWPS_CALLOUT2;

/* Callouts */

NTSTATUS NTAPI FwpsCalloutRegister2(void *deviceObject, const FWPS_CALLOUT2 *callout, UINT32 *calloutId);
NTSTATUS NTAPI FwpsCalloutUnregisterById0(const UINT32 calloutId);

/* Pended operations */

NTSTATUS NTAPI FwpsPendOperation0(HANDLE completionHandle, HANDLE *completionContext);
void NTAPI FwpsCompleteOperation0(HANDLE completionContext, PNET_BUFFER_LIST netBufferList);

/* Flows */

NTSTATUS NTAPI FwpsFlowAbort0(UINT64 flowId);

/* Injection */

NTSTATUS NTAPI FwpsInjectionHandleCreate0(ADDRESS_FAMILY addressFamily, UINT32 flags, HANDLE *injectionHandle);
NTSTATUS NTAPI FwpsInjectionHandleDestroy0(HANDLE injectionHandle);
FWPS_PACKET_INJECTION_STATE NTAPI FwpsQueryPacketInjectionState0(HANDLE injectionHandle,
                                                                 const NET_BUFFER_LIST *netBufferList,
                                                                 HANDLE *injectionContext);
NTSTATUS NTAPI FwpsInjectNetworkSendAsync0(HANDLE injectionHandle, HANDLE injectionContext, UINT32 flags,
                                           COMPARTMENT_ID compartmentId, NET_BUFFER_LIST *netBufferList,
                                           FWPS_INJECT_COMPLETE0 completionFn, HANDLE completionContext);
NTSTATUS NTAPI FwpsInjectNetworkReceiveAsync0(HANDLE injectionHandle, HANDLE injectionContext, UINT32 flags,
                                              COMPARTMENT_ID compartmentId, IF_INDEX interfaceIndex,
                                              IF_INDEX subInterfaceIndex, NET_BUFFER_LIST *netBufferList,
                                              FWPS_INJECT_COMPLETE0 completionFn, HANDLE completionContext);
NTSTATUS NTAPI FwpsInjectTransportSendAsync1(HANDLE injectionHandle, HANDLE injectionContext, UINT64 endpointHandle,
                                             UINT32 flags, FWPS_TRANSPORT_SEND_PARAMS1 *sendArgs,
                                             ADDRESS_FAMILY addressFamily, COMPARTMENT_ID compartmentId,
                                             NET_BUFFER_LIST *netBufferList, FWPS_INJECT_COMPLETE0 completionFn,
                                             HANDLE completionContext);
NTSTATUS NTAPI FwpsInjectTransportReceiveAsync0(HANDLE injectionHandle, HANDLE injectionContext, PVOID reserved,
                                                UINT32 flags, ADDRESS_FAMILY addressFamily,
                                                COMPARTMENT_ID compartmentId, IF_INDEX interfaceIndex,
                                                IF_INDEX subInterfaceIndex, NET_BUFFER_LIST *netBufferList,
                                                FWPS_INJECT_COMPLETE0 completionFn, HANDLE completionContext);

/* Net buffer lists */

NTSTATUS NTAPI FwpsAllocateNetBufferAndNetBufferList0(NDIS_HANDLE poolHandle, USHORT contextSize,
                                                      USHORT contextBackFill, MDL *mdlChain, ULONG dataOffset,
                                                      SIZE_T dataLength, NET_BUFFER_LIST **netBufferList);
void NTAPI FwpsFreeNetBufferList0(NET_BUFFER_LIST *netBufferList);
NTSTATUS NTAPI FwpsAllocateCloneNetBufferList0(NET_BUFFER_LIST *originalNetBufferList,
                                               NDIS_HANDLE netBufferListPoolHandle, NDIS_HANDLE netBufferPoolHandle,
                                               ULONG allocateCloneFlags, NET_BUFFER_LIST **netBufferList);
void NTAPI FwpsFreeCloneNetBufferList0(NET_BUFFER_LIST *netBufferList, ULONG freeCloneFlags);
void NTAPI FwpsReferenceNetBufferList0(NET_BUFFER_LIST *netBufferList, BOOLEAN intendToModify);
void NTAPI FwpsDereferenceNetBufferList0(NET_BUFFER_LIST *netBufferList, BOOLEAN dispatchLevel);
NTSTATUS NTAPI FwpsConstructIpHeaderForTransportPacket0(NET_BUFFER_LIST *netBufferList, ULONG headerIncludeHeaderLength,
                                                        ADDRESS_FAMILY addressFamily, const UCHAR *sourceAddress,
                                                        const UCHAR *remoteAddress, IPPROTO nextProtocol,
                                                        UINT64 endpointHandle, const WSACMSGHDR *controlData,
                                                        ULONG controlDataLength, UINT32 flags, PVOID reserved,
                                                        IF_INDEX interfaceIndex, IF_INDEX subInterfaceIndex);
NTSTATUS NTAPI FwpsGetPacketListSecurityInformation0(const NET_BUFFER_LIST *packetList, UINT32 queryFlags,
                                                     FWPS_PACKET_LIST_INFORMATION0 *packetInformation);

ABI_ASSERT_SIZE(FWPS_INCOMING_VALUE0, 16);
ABI_ASSERT_SIZE(FWPS_INCOMING_VALUES0, 16);
ABI_ASSERT_OFFSET(FWPS_INCOMING_VALUES0, layerId, 0);
ABI_ASSERT_OFFSET(FWPS_INCOMING_VALUES0, valueCount, 4);
ABI_ASSERT_OFFSET(FWPS_INCOMING_VALUES0, incomingValue, 8);

ABI_ASSERT_SIZE(FWPS_INCOMING_METADATA_VALUES0, 280);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, currentMetadataValues, 0);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, flags, 4);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, reserved, 8);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, discardMetadata, 16);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, discardMetadata.discardReason, 20);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, discardMetadata.filterId, 24);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, flowHandle, 32);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, ipHeaderSize, 40);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, transportHeaderSize, 44);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, processPath, 48);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, token, 56);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, processId, 64);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, sourceInterfaceIndex, 72);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, destinationInterfaceIndex, 76);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, compartmentId, 80);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, fragmentMetadata, 84);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, pathMtu, 96);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, completionHandle, 104);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, transportEndpointHandle, 112);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, remoteScopeId, 120);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, controlData, 128);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, controlDataLength, 136);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, packetDirection, 140);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, headerIncludeHeader, 144);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, headerIncludeHeaderLength, 152);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, destinationPrefix, 156);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, frameLength, 188);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, parentEndpointHandle, 192);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, icmpIdAndSequence, 200);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, localRedirectTargetPID, 204);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, originalDestination, 208);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, redirectRecords, 216);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, currentL2MetadataValues, 224);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, l2Flags, 228);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, ethernetMacHeaderSize, 232);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, wiFiOperationMode, 236);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, vSwitchSourcePortId, 240);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, vSwitchSourceNicIndex, 244);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, vSwitchDestinationPortId, 248);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, vSwitchPacketContext, 256);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, subProcessTag, 264);
ABI_ASSERT_OFFSET(FWPS_INCOMING_METADATA_VALUES0, reserved1, 272);

ABI_ASSERT_SIZE(FWPS_DISCARD_METADATA0, 16);
ABI_ASSERT_SIZE(FWPS_INBOUND_FRAGMENT_METADATA0, 12);

ABI_ASSERT_SIZE(FWPS_CLASSIFY_OUT0, 40);
ABI_ASSERT_OFFSET(FWPS_CLASSIFY_OUT0, actionType, 0);
ABI_ASSERT_OFFSET(FWPS_CLASSIFY_OUT0, outContext, 8);
ABI_ASSERT_OFFSET(FWPS_CLASSIFY_OUT0, filterId, 16);
ABI_ASSERT_OFFSET(FWPS_CLASSIFY_OUT0, rights, 24);
ABI_ASSERT_OFFSET(FWPS_CLASSIFY_OUT0, flags, 28);

ABI_ASSERT_SIZE(FWPS_ACTION0, 8);
ABI_ASSERT_SIZE(FWPS_FILTER2, 64);
ABI_ASSERT_OFFSET(FWPS_FILTER2, action, 40);
ABI_ASSERT_OFFSET(FWPS_FILTER2, context, 48);
ABI_ASSERT_OFFSET(FWPS_FILTER2, providerContext, 56);

ABI_ASSERT_SIZE(FWPS_CALLOUT2, 48);
ABI_ASSERT_OFFSET(FWPS_CALLOUT2, calloutKey, 0);
ABI_ASSERT_OFFSET(FWPS_CALLOUT2, flags, 16);
ABI_ASSERT_OFFSET(FWPS_CALLOUT2, classifyFn, 24);
ABI_ASSERT_OFFSET(FWPS_CALLOUT2, notifyFn, 32);
ABI_ASSERT_OFFSET(FWPS_CALLOUT2, flowDeleteFn, 40);

ABI_ASSERT_SIZE(FWPS_STREAM_DATA_OFFSET0, 40);

ABI_ASSERT_SIZE(FWPS_STREAM_DATA0, 64);
ABI_ASSERT_OFFSET(FWPS_STREAM_DATA0, flags, 0);
ABI_ASSERT_OFFSET(FWPS_STREAM_DATA0, dataOffset, 8);
ABI_ASSERT_OFFSET(FWPS_STREAM_DATA0, dataLength, 48);
ABI_ASSERT_OFFSET(FWPS_STREAM_DATA0, netBufferListChain, 56);

ABI_ASSERT_SIZE(FWPS_STREAM_CALLOUT_IO_PACKET0, 40);
ABI_ASSERT_OFFSET(FWPS_STREAM_CALLOUT_IO_PACKET0, streamData, 0);
ABI_ASSERT_OFFSET(FWPS_STREAM_CALLOUT_IO_PACKET0, missedBytes, 8);
ABI_ASSERT_OFFSET(FWPS_STREAM_CALLOUT_IO_PACKET0, countBytesRequired, 16);
ABI_ASSERT_OFFSET(FWPS_STREAM_CALLOUT_IO_PACKET0, countBytesEnforced, 24);
ABI_ASSERT_OFFSET(FWPS_STREAM_CALLOUT_IO_PACKET0, streamAction, 32);

ABI_ASSERT_SIZE(FWPS_TRANSPORT_SEND_PARAMS1, 48);
ABI_ASSERT_OFFSET(FWPS_TRANSPORT_SEND_PARAMS1, remoteAddress, 0);
ABI_ASSERT_OFFSET(FWPS_TRANSPORT_SEND_PARAMS1, remoteScopeId, 8);
ABI_ASSERT_OFFSET(FWPS_TRANSPORT_SEND_PARAMS1, controlData, 16);
ABI_ASSERT_OFFSET(FWPS_TRANSPORT_SEND_PARAMS1, controlDataLength, 24);
ABI_ASSERT_OFFSET(FWPS_TRANSPORT_SEND_PARAMS1, headerIncludeHeader, 32);
ABI_ASSERT_OFFSET(FWPS_TRANSPORT_SEND_PARAMS1, headerIncludeHeaderLength, 40);

ABI_C_END

/*
 * Objects of the filter engine's management interface: sessions, sublayers, callouts and filters.
 */
#pragma once

#include "fwptypes.h"

ABI_C_BEGIN

#define FWPM_SESSION_FLAG_DYNAMIC 0x00000001

#define FWPM_TXN_READ_ONLY 0x00000001

#define FWPM_SUBLAYER_FLAG_PERSISTENT 0x00000001

#define FWPM_CALLOUT_FLAG_PERSISTENT            0x00010000
#define FWPM_CALLOUT_FLAG_USES_PROVIDER_CONTEXT 0x00020000
#define FWPM_CALLOUT_FLAG_REGISTERED            0x00040000

#define FWPM_FILTER_FLAG_NONE                           0x00000000
#define FWPM_FILTER_FLAG_PERSISTENT                     0x00000001
#define FWPM_FILTER_FLAG_BOOTTIME                       0x00000002
#define FWPM_FILTER_FLAG_HAS_PROVIDER_CONTEXT           0x00000004
#define FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT             0x00000008
#define FWPM_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED 0x00000010
#define FWPM_FILTER_FLAG_DISABLED                       0x00000020
#define FWPM_FILTER_FLAG_INDEXED                        0x00000040

/* Of the base filtering engine, a service in user mode. */
typedef enum FWPM_SERVICE_STATE_
{
    FWPM_SERVICE_STOPPED,
    FWPM_SERVICE_START_PENDING,
    FWPM_SERVICE_STOP_PENDING,
    FWPM_SERVICE_RUNNING,
    FWPM_SERVICE_STATE_MAX
} FWPM_SERVICE_STATE;

typedef struct FWPM_DISPLAY_DATA0_
{
    wchar_t *name;
    wchar_t *description;
} FWPM_DISPLAY_DATA0;

typedef struct FWPM_SESSION0_
{
    GUID sessionKey;
    FWPM_DISPLAY_DATA0 displayData;
    UINT32 flags;
    UINT32 txnWaitTimeoutInMSec;
    UINT32 processId;
    struct _SID *sid;
    wchar_t *username;
    INT32 kernelMode;
} FWPM_SESSION0;

typedef struct FWPM_PROVIDER0_
{
    GUID providerKey;
    FWPM_DISPLAY_DATA0 displayData;
    UINT32 flags;
    FWP_BYTE_BLOB providerData;
    wchar_t *serviceName;
} FWPM_PROVIDER0;

typedef struct FWPM_SUBLAYER0_
{
    GUID subLayerKey;
    FWPM_DISPLAY_DATA0 displayData;
    UINT32 flags;
    GUID *providerKey;
    FWP_BYTE_BLOB providerData;
    UINT16 weight;
} FWPM_SUBLAYER0;

typedef struct FWPM_CALLOUT0_
{
    GUID calloutKey;
    FWPM_DISPLAY_DATA0 displayData;
    UINT32 flags;
    GUID *providerKey;
    FWP_BYTE_BLOB providerData;
    GUID applicableLayer;
    UINT32 calloutId;
} FWPM_CALLOUT0;

typedef struct FWPM_ACTION0_
{
    FWP_ACTION_TYPE type;
    union
    {
        GUID filterType;
        GUID calloutKey;
    };
} FWPM_ACTION0;

typedef struct FWPM_FILTER_CONDITION0_
{
    GUID fieldKey;
    FWP_MATCH_TYPE matchType;
    FWP_CONDITION_VALUE0 conditionValue;
} FWPM_FILTER_CONDITION0;

typedef struct FWPM_FILTER0_
{
    GUID filterKey;
    FWPM_DISPLAY_DATA0 displayData;
    UINT32 flags;
    GUID *providerKey;
    FWP_BYTE_BLOB providerData;
    GUID layerKey;
    GUID subLayerKey;
    FWP_VALUE0 weight;
    UINT32 numFilterConditions;
    FWPM_FILTER_CONDITION0 *filterCondition;
    FWPM_ACTION0 action;
    union
    {
        UINT64 rawContext;
        GUID providerContextKey;
    };
    GUID *reserved;
    UINT64 filterId;
    FWP_VALUE0 effectiveWeight;
} FWPM_FILTER0;

ABI_ASSERT_SIZE(FWPM_DISPLAY_DATA0, 16);
ABI_ASSERT_SIZE(FWPM_SERVICE_STATE, 4);
ABI_ASSERT(FWPM_SERVICE_RUNNING == 3 && FWPM_SERVICE_STATE_MAX == 4, "values of FWPM_SERVICE_STATE");
ABI_ASSERT_SIZE(FWPM_SESSION0, 72);
ABI_ASSERT_OFFSET(FWPM_SESSION0, displayData, 16);
ABI_ASSERT_OFFSET(FWPM_SESSION0, flags, 32);
ABI_ASSERT_OFFSET(FWPM_SESSION0, txnWaitTimeoutInMSec, 36);
ABI_ASSERT_OFFSET(FWPM_SESSION0, processId, 40);
ABI_ASSERT_OFFSET(FWPM_SESSION0, sid, 48);
ABI_ASSERT_OFFSET(FWPM_SESSION0, username, 56);
ABI_ASSERT_OFFSET(FWPM_SESSION0, kernelMode, 64);
ABI_ASSERT_SIZE(FWPM_PROVIDER0, 64);
ABI_ASSERT_OFFSET(FWPM_PROVIDER0, displayData, 16);
ABI_ASSERT_OFFSET(FWPM_PROVIDER0, flags, 32);
ABI_ASSERT_OFFSET(FWPM_PROVIDER0, providerData, 40);
ABI_ASSERT_OFFSET(FWPM_PROVIDER0, serviceName, 56);
ABI_ASSERT_SIZE(FWPM_SUBLAYER0, 72);
ABI_ASSERT_OFFSET(FWPM_SUBLAYER0, displayData, 16);
ABI_ASSERT_OFFSET(FWPM_SUBLAYER0, flags, 32);
ABI_ASSERT_OFFSET(FWPM_SUBLAYER0, providerKey, 40);
ABI_ASSERT_OFFSET(FWPM_SUBLAYER0, providerData, 48);
ABI_ASSERT_OFFSET(FWPM_SUBLAYER0, weight, 64);
ABI_ASSERT_SIZE(FWPM_CALLOUT0, 88);
ABI_ASSERT_OFFSET(FWPM_CALLOUT0, applicableLayer, 64);
ABI_ASSERT_SIZE(FWPM_ACTION0, 20);
ABI_ASSERT_SIZE(FWPM_FILTER_CONDITION0, 40);
ABI_ASSERT_SIZE(FWPM_FILTER0, 200);
ABI_ASSERT_OFFSET(FWPM_FILTER0, layerKey, 64);
ABI_ASSERT_OFFSET(FWPM_FILTER0, weight, 96);
ABI_ASSERT_OFFSET(FWPM_FILTER0, action, 128);
ABI_ASSERT_OFFSET(FWPM_FILTER0, rawContext, 152);
ABI_ASSERT_OFFSET(FWPM_FILTER0, filterId, 176);

ABI_C_END

// What all classify functions share: reading the values of a layer without trusting their number or type, and writing
// an answer within the rights that the filter engine left. Pure: no state, any IRQL.

#pragma once

#include "connection_table.h"

EXTERN_C_START

/// The value at `index`, or NULL: this system's layer has fewer.
FORCEINLINE const FWP_VALUE0 *ClassifyValue(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index)
{
    return index < values->valueCount ? &values->incomingValue[index].value : NULL;
}

/// The number at `index`; 0 where there is none of this type.
UINT8 ClassifyUint8(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT16 ClassifyUint16(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT32 ClassifyUint32(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);

/// The address at `index` in network order; all zero where there is none.
VOID ClassifyAddress(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index, _In_ UINT8 ipVersion,
                     _Out_writes_all_(16) UINT8 *address);

/// The routing compartment that a packet of this classify is injected into.
COMPARTMENT_ID ClassifyCompartment(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// Whether our answer can change anything: we may write one, or there is a permit, which may be vetoed.
FORCEINLINE BOOLEAN ClassifyMayDecide(_In_ const FWPS_CLASSIFY_OUT0 *out)
{
    return (out->rights & FWPS_RIGHT_ACTION_WRITE) != 0 || out->actionType == FWP_ACTION_PERMIT;
}

/// Permits, and leaves the last word to other products.
FORCEINLINE VOID ClassifyPermit(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    if ((out->rights & FWPS_RIGHT_ACTION_WRITE) != 0)
    {
        out->actionType = FWP_ACTION_PERMIT;
    }
}

/// Permits, and lets no later filter change it.
FORCEINLINE VOID ClassifyPermitFinally(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    ClassifyPermit(out);
    out->rights &= ~(UINT32)FWPS_RIGHT_ACTION_WRITE;
}

/// Blocks, and lets no later filter change it. The originator gets an error.
FORCEINLINE VOID ClassifyBlock(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    out->actionType = FWP_ACTION_BLOCK;
    out->rights &= ~(UINT32)FWPS_RIGHT_ACTION_WRITE;
}

/// Blocks without a trace.
FORCEINLINE VOID ClassifyAbsorb(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    ClassifyBlock(out);
    out->flags |= FWPS_CLASSIFY_OUT_FLAG_ABSORB;
}

/// The answer where nobody is asked: the fail policy.
FORCEINLINE VOID ClassifyWithoutClient(_In_ BOOLEAN failClosed, _Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    if (failClosed)
    {
        ClassifyBlock(out);
    }
    else
    {
        ClassifyPermit(out);
    }
}

/// The answer of an inspection callout.
FORCEINLINE VOID ClassifyContinue(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    if ((out->rights & FWPS_RIGHT_ACTION_WRITE) != 0)
    {
        out->actionType = FWP_ACTION_CONTINUE;
    }
}

EXTERN_C_END

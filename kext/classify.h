// What the handlers of all layers share: the frame of one classify, reading a layer's values without trusting their
// number or type, and writing an answer within the rights that the filter engine left. No state, any IRQL.

#pragma once

#include "connection_table.h"
#include "layers.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;
struct _INJECT_PACKET;

/// One classify, as its handler gets it.
typedef struct _CLASSIFY
{
    struct _DRIVER_CONTEXT *Context;
    const LAYER *Layer;
    const FWPS_INCOMING_VALUES0 *Values;
    const FWPS_INCOMING_METADATA_VALUES0 *Metadata;
    void *LayerData;
    FWPS_CLASSIFY_OUT0 *Out;
    struct _INJECT_PACKET *Injections; ///< the handler's: packets to inject after the classify has left the client
} CLASSIFY;

/// The value at `index`, or NULL: this system's layer has fewer.
FORCEINLINE const FWP_VALUE0 *ClassifyValue(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index)
{
    return index < values->valueCount ? &values->incomingValue[index].value : NULL;
}

/// The number at `index`; 0 where there is none of this type.
UINT8 ClassifyUint8(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT16 ClassifyUint16(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT32 ClassifyUint32(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);

/// Reads the connection's key: 0 for each part that the layer does not have.
VOID ClassifyKey(_In_ const LAYER *layer, _In_ const FWPS_INCOMING_VALUES0 *values, _Out_ CONNECTION_KEY *key);

/// Whether any of these FWP_CONDITION_FLAGs is set.
FORCEINLINE BOOLEAN ClassifyHasFlag(_In_ const CLASSIFY *classify, _In_ UINT32 flags)
{
    return (ClassifyUint32(classify->Values, classify->Layer->Fields.Flags) & flags) != 0;
}

FORCEINLINE BOOLEAN ClassifyIsLoopback(_In_ const CLASSIFY *classify)
{
    return ClassifyHasFlag(classify, FWP_CONDITION_FLAG_IS_LOOPBACK);
}

/// The process id, or 0: this layer does not know it.
UINT64 ClassifyProcessId(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// The routing compartment that a packet of this classify is injected into.
COMPARTMENT_ID ClassifyCompartment(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// Whether an answer can change anything: it may be written, or there is a permit, which may be vetoed.
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

/// Blocks, and lets no later filter change it. The sender gets an error.
FORCEINLINE VOID ClassifyBlock(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    out->actionType = FWP_ACTION_BLOCK;
    out->rights &= ~(UINT32)FWPS_RIGHT_ACTION_WRITE;
}

/// Blocks, and the sender gets no answer.
FORCEINLINE VOID ClassifyAbsorb(_Inout_ FWPS_CLASSIFY_OUT0 *out)
{
    ClassifyBlock(out);
    out->flags |= FWPS_CLASSIFY_OUT_FLAG_ABSORB;
}

/// The answer while no client is attached: the fail policy.
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

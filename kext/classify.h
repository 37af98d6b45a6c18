// Functions that the handlers of all layers share: they read a layer's values and write an answer. No state, any IRQL.
// A function that reads trusts neither the number nor the type of a layer's values.
// A function that answers stays within the rights that the filter engine left.

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
    struct _INJECT_PACKET *Injections; ///< filled by the handler: packets to inject after the classify left the client
} CLASSIFY;

/// Returns the value at `index`. NULL: the layer has fewer values on this system.
FORCEINLINE const FWP_VALUE0 *ClassifyValue(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index)
{
    return index < values->valueCount ? &values->incomingValue[index].value : NULL;
}

/// Returns the number at `index`. 0: the layer has no value of this type there.
UINT8 ClassifyUint8(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT16 ClassifyUint16(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT32 ClassifyUint32(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);
UINT64 ClassifyUint64(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ UINT32 index);

/// Reads the connection's key: 0 for each part that the layer does not have. The scope is not read: see scope.h.
VOID ClassifyKey(_In_ const LAYER *layer, _In_ const FWPS_INCOMING_VALUES0 *values, _Out_ CONNECTION_KEY *key);

/// TRUE if any of these FWP_CONDITION_FLAG bits is set.
FORCEINLINE BOOLEAN ClassifyHasFlag(_In_ const CLASSIFY *classify, _In_ UINT32 flags)
{
    return (ClassifyUint32(classify->Values, classify->Layer->Fields.Flags) & flags) != 0;
}

// A destination that is a broadcast address, as NL_ADDRESS_TYPE numbers it (WDK header nldef.h).
#define CLASSIFY_ADDRESS_BROADCAST 4

/// TRUE if the layer says that the destination is a broadcast address, also a subnet's.
FORCEINLINE BOOLEAN ClassifyIsBroadcast(_In_ const CLASSIFY *classify)
{
    return ClassifyUint8(classify->Values, classify->Layer->Fields.AddressType) == CLASSIFY_ADDRESS_BROADCAST;
}

FORCEINLINE BOOLEAN ClassifyIsLoopback(_In_ const CLASSIFY *classify)
{
    return ClassifyHasFlag(classify, FWP_CONDITION_FLAG_IS_LOOPBACK);
}

/// Returns the process id. 0: this layer does not know it.
UINT64 ClassifyProcessId(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// Returns the flow. 0: this layer does not know it.
UINT64 ClassifyFlowHandle(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// Returns the socket's transport endpoint. 0: this layer does not know it.
UINT64 ClassifyEndpointHandle(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// The routing compartment that a packet of this classify is injected into.
COMPARTMENT_ID ClassifyCompartment(_In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata);

/// TRUE if an answer can change anything: the action may be written, or an earlier permit may be vetoed.
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

#include "classify.h"

static const FWP_VALUE0 *ClassifyValueOfType(const FWPS_INCOMING_VALUES0 *values, UINT32 index, FWP_DATA_TYPE type)
{
    const FWP_VALUE0 *value = ClassifyValue(values, index);

    return value != NULL && value->type == type ? value : NULL;
}

_Use_decl_annotations_
UINT8 ClassifyUint8(const FWPS_INCOMING_VALUES0 *values, UINT32 index)
{
    const FWP_VALUE0 *value = ClassifyValueOfType(values, index, FWP_UINT8);

    return value != NULL ? value->uint8 : 0;
}

_Use_decl_annotations_
UINT16 ClassifyUint16(const FWPS_INCOMING_VALUES0 *values, UINT32 index)
{
    const FWP_VALUE0 *value = ClassifyValueOfType(values, index, FWP_UINT16);

    return value != NULL ? value->uint16 : 0;
}

_Use_decl_annotations_
UINT32 ClassifyUint32(const FWPS_INCOMING_VALUES0 *values, UINT32 index)
{
    const FWP_VALUE0 *value = ClassifyValueOfType(values, index, FWP_UINT32);

    return value != NULL ? value->uint32 : 0;
}

_Use_decl_annotations_
UINT64 ClassifyUint64(const FWPS_INCOMING_VALUES0 *values, UINT32 index)
{
    const FWP_VALUE0 *value = ClassifyValueOfType(values, index, FWP_UINT64);

    return value != NULL && value->uint64 != NULL ? *value->uint64 : 0;
}

static VOID ClassifyStoreNetworkOrder(UINT32 number, UINT8 *bytes)
{
    bytes[0] = (UINT8)(number >> 24);
    bytes[1] = (UINT8)(number >> 16);
    bytes[2] = (UINT8)(number >> 8);
    bytes[3] = (UINT8)number;
}

// Writes the address at `index` in network order. Writes nothing if it has another IP version.
static VOID ClassifyAddress(const FWPS_INCOMING_VALUES0 *values, UINT32 index, UINT8 ipVersion, UINT8 *address)
{
    const FWP_VALUE0 *value = ClassifyValueOfType(values, index, ipVersion == 6 ? FWP_BYTE_ARRAY16_TYPE : FWP_UINT32);

    if (value == NULL)
    {
        return;
    }
    if (ipVersion == 4)
    {
        ClassifyStoreNetworkOrder(value->uint32, address);
    }
    else if (value->byteArray16 != NULL)
    {
        RtlCopyMemory(address, value->byteArray16->byteArray16, 16);
    }
}

_Use_decl_annotations_
VOID ClassifyKey(const LAYER *layer, const FWPS_INCOMING_VALUES0 *values, CONNECTION_KEY *key)
{
    const LAYER_FIELDS *fields = &layer->Fields;

    RtlZeroMemory(key, sizeof(*key));
    key->IpVersion = layer->IpVersion;
    key->Protocol = ClassifyUint8(values, fields->Protocol);
    ClassifyAddress(values, fields->LocalAddress, layer->IpVersion, key->LocalAddress);
    ClassifyAddress(values, fields->RemoteAddress, layer->IpVersion, key->RemoteAddress);
    key->LocalPort = ClassifyUint16(values, fields->LocalPort);
    key->RemotePort = ClassifyUint16(values, fields->RemotePort);
}

_Use_decl_annotations_
UINT64 ClassifyProcessId(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_PROCESS_ID) ? metadata->processId : 0;
}

_Use_decl_annotations_
UINT64 ClassifyFlowHandle(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_FLOW_HANDLE) ? metadata->flowHandle : 0;
}

_Use_decl_annotations_
UINT64 ClassifyEndpointHandle(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE)
               ? metadata->transportEndpointHandle
               : 0;
}

_Use_decl_annotations_
COMPARTMENT_ID ClassifyCompartment(const FWPS_INCOMING_METADATA_VALUES0 *metadata)
{
    return FWPS_IS_METADATA_FIELD_PRESENT(metadata, FWPS_METADATA_FIELD_COMPARTMENT_ID)
               ? (COMPARTMENT_ID)metadata->compartmentId
               : UNSPECIFIED_COMPARTMENT_ID;
}

#include "stream.h"

#include "classify.h"
#include "context.h"

// Both IP versions have their values at the same places.
static_assert((UINT32)FWPS_FIELD_STREAM_V4_IP_LOCAL_ADDRESS == (UINT32)FWPS_FIELD_STREAM_V6_IP_LOCAL_ADDRESS,
              "one code for both IP versions");
static_assert((UINT32)FWPS_FIELD_STREAM_V4_IP_REMOTE_PORT == (UINT32)FWPS_FIELD_STREAM_V6_IP_REMOTE_PORT,
              "one code for both IP versions");
static_assert((UINT32)FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_ADDRESS ==
                  (UINT32)FWPS_FIELD_DATAGRAM_DATA_V6_IP_LOCAL_ADDRESS,
              "one code for both IP versions");
static_assert((UINT32)FWPS_FIELD_DATAGRAM_DATA_V4_DIRECTION == (UINT32)FWPS_FIELD_DATAGRAM_DATA_V6_DIRECTION,
              "one code for both IP versions");

static VOID Count(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, BOOLEAN inbound, UINT64 bytes)
{
    CLIENT_MODE mode;
    RUNDOWN_SLOT *slot;

    if (bytes == 0)
    {
        return;
    }
    slot = ClientEnterClassify(&context->Client, &mode);
    if (slot == NULL)
    {
        return;
    }
    BandwidthCountBytes(&context->Bandwidth, &context->Log, key, inbound ? 0 : bytes, inbound ? bytes : 0);
    ClientLeaveClassify(&context->Client, slot);
}

static VOID StreamKey(const FWPS_INCOMING_VALUES0 *values, CONNECTION_KEY *key)
{
    RtlZeroMemory(key, sizeof(*key));
    key->IpVersion = values->layerId == FWPS_LAYER_STREAM_V6 ? 6 : 4;
    key->Protocol = PROTOCOL_TCP;
    ClassifyAddress(values, FWPS_FIELD_STREAM_V4_IP_LOCAL_ADDRESS, key->IpVersion, key->LocalAddress);
    ClassifyAddress(values, FWPS_FIELD_STREAM_V4_IP_REMOTE_ADDRESS, key->IpVersion, key->RemoteAddress);
    key->LocalPort = ClassifyUint16(values, FWPS_FIELD_STREAM_V4_IP_LOCAL_PORT);
    key->RemotePort = ClassifyUint16(values, FWPS_FIELD_STREAM_V4_IP_REMOTE_PORT);
}

_Use_decl_annotations_
void NTAPI StreamClassify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                          void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter, UINT64 flowContext,
                          FWPS_CLASSIFY_OUT0 *classifyOut)
{
    FWPS_STREAM_CALLOUT_IO_PACKET0 *packet = (FWPS_STREAM_CALLOUT_IO_PACKET0 *)layerData;
    CONNECTION_KEY key;

    UNREFERENCED_PARAMETER(metadata);
    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    ClassifyContinue(classifyOut);
    if (packet == NULL || packet->streamData == NULL)
    {
        return;
    }
    packet->streamAction = FWPS_STREAM_ACTION_NONE;
    StreamKey(values, &key);
    Count(ContextOfFilter(filter), &key, (packet->streamData->flags & FWPS_STREAM_FLAG_RECEIVE) != 0,
          packet->streamData->dataLength);
}

static VOID DatagramKey(const FWPS_INCOMING_VALUES0 *values, CONNECTION_KEY *key)
{
    RtlZeroMemory(key, sizeof(*key));
    key->IpVersion = values->layerId == FWPS_LAYER_DATAGRAM_DATA_V6 ? 6 : 4;
    key->Protocol = PROTOCOL_UDP;
    ClassifyAddress(values, FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_ADDRESS, key->IpVersion, key->LocalAddress);
    ClassifyAddress(values, FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_ADDRESS, key->IpVersion, key->RemoteAddress);
    key->LocalPort = ClassifyUint16(values, FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_PORT);
    key->RemotePort = ClassifyUint16(values, FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_PORT);
}

// Outbound data starts at the transport header, inbound data behind it.
static UINT64 DatagramPayload(const NET_BUFFER_LIST *list, BOOLEAN inbound)
{
    UINT32 headerLength = inbound ? 0 : UDP_HEADER_LENGTH;
    UINT64 bytes = 0;

    for (; list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        const NET_BUFFER *buffer;

        for (buffer = NET_BUFFER_LIST_FIRST_NB(list); buffer != NULL; buffer = NET_BUFFER_NEXT_NB(buffer))
        {
            UINT32 length = NET_BUFFER_DATA_LENGTH(buffer);

            bytes += length > headerLength ? length - headerLength : 0;
        }
    }
    return bytes;
}

_Use_decl_annotations_
void NTAPI DatagramClassify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                            void *layerData, const void *classifyContext, const FWPS_FILTER1 *filter,
                            UINT64 flowContext, FWPS_CLASSIFY_OUT0 *classifyOut)
{
    BOOLEAN inbound = ClassifyUint32(values, FWPS_FIELD_DATAGRAM_DATA_V4_DIRECTION) == FWP_DIRECTION_INBOUND;
    CONNECTION_KEY key;

    UNREFERENCED_PARAMETER(metadata);
    UNREFERENCED_PARAMETER(classifyContext);
    UNREFERENCED_PARAMETER(flowContext);
    ClassifyContinue(classifyOut);
    if (layerData == NULL || ClassifyUint8(values, FWPS_FIELD_DATAGRAM_DATA_V4_IP_PROTOCOL) != PROTOCOL_UDP)
    {
        return;
    }
    DatagramKey(values, &key);
    Count(ContextOfFilter(filter), &key, inbound, DatagramPayload((const NET_BUFFER_LIST *)layerData, inbound));
}

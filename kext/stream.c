#include "stream.h"

#include "context.h"
#include "scope.h"

static VOID StreamCount(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, BOOLEAN inbound, UINT64 bytes)
{
    if (bytes != 0)
    {
        BandwidthCount(&context->Bandwidth, key, inbound, bytes);
    }
}

_Use_decl_annotations_
VOID StreamAnswer(CLASSIFY *classify)
{
    FWPS_STREAM_CALLOUT_IO_PACKET0 *packet = (FWPS_STREAM_CALLOUT_IO_PACKET0 *)classify->LayerData;

    if (packet != NULL && packet->streamData != NULL)
    {
        packet->streamAction = FWPS_STREAM_ACTION_NONE;
    }
}

_Use_decl_annotations_
VOID StreamClassify(CLASSIFY *classify)
{
    const FWPS_STREAM_CALLOUT_IO_PACKET0 *packet = (const FWPS_STREAM_CALLOUT_IO_PACKET0 *)classify->LayerData;
    CONNECTION_KEY key;

    if (packet == NULL || packet->streamData == NULL)
    {
        return;
    }
    ClassifyKey(classify->Layer, classify->Values, &key);
    key.Protocol = PROTOCOL_TCP;
    ScopeSeek(classify, ClassifyFlowHandle(classify->Metadata), &key);
    StreamCount(classify->Context, &key, (packet->streamData->flags & FWPS_STREAM_FLAG_RECEIVE) != 0,
                packet->streamData->dataLength);
}

// Outbound data starts at the transport header. Inbound data starts behind that header.
static UINT64 StreamPayloadOfList(const NET_BUFFER_LIST *list, UINT32 headerLength)
{
    const NET_BUFFER *buffer;
    UINT64 bytes = 0;

    for (buffer = NET_BUFFER_LIST_FIRST_NB(list); buffer != NULL; buffer = NET_BUFFER_NEXT_NB(buffer))
    {
        UINT32 length = NET_BUFFER_DATA_LENGTH(buffer);

        bytes += length > headerLength ? length - headerLength : 0;
    }
    return bytes;
}

// What this driver sends at the network layer comes here for the second time, because sends enter at the top.
static UINT64 StreamDatagramPayload(const CLASSIFY *classify, BOOLEAN inbound)
{
    const INJECTOR *injector = &classify->Context->Injector;
    const NET_BUFFER_LIST *list;
    UINT64 bytes = 0;

    for (list = (const NET_BUFFER_LIST *)classify->LayerData; list != NULL; list = NET_BUFFER_LIST_NEXT_NBL(list))
    {
        if (inbound || !InjectComesFromNetworkLayer(injector, classify->Layer->IpVersion, list))
        {
            bytes += StreamPayloadOfList(list, inbound ? 0 : UDP_HEADER_LENGTH);
        }
    }
    return bytes;
}

_Use_decl_annotations_
VOID StreamClassifyDatagram(CLASSIFY *classify)
{
    BOOLEAN inbound = ClassifyUint32(classify->Values, classify->Layer->Fields.Direction) == FWP_DIRECTION_INBOUND;
    CONNECTION_KEY key;

    ClassifyKey(classify->Layer, classify->Values, &key);
    if (key.Protocol == PROTOCOL_UDP)
    {
        ScopeSet(classify, &key);
        StreamCount(classify->Context, &key, inbound, StreamDatagramPayload(classify, inbound));
    }
}

#include "stream.h"

#include "context.h"

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
    StreamCount(classify->Context, &key, (packet->streamData->flags & FWPS_STREAM_FLAG_RECEIVE) != 0,
                packet->streamData->dataLength);
}

// Outbound data starts at the transport header. Inbound data starts behind that header.
static UINT64 StreamDatagramPayload(const NET_BUFFER_LIST *list, BOOLEAN inbound)
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
VOID StreamClassifyDatagram(CLASSIFY *classify)
{
    BOOLEAN inbound = ClassifyUint32(classify->Values, classify->Layer->Fields.Direction) == FWP_DIRECTION_INBOUND;
    CONNECTION_KEY key;

    ClassifyKey(classify->Layer, classify->Values, &key);
    if (key.Protocol == PROTOCOL_UDP)
    {
        StreamCount(classify->Context, &key, inbound,
                    StreamDatagramPayload((const NET_BUFFER_LIST *)classify->LayerData, inbound));
    }
}

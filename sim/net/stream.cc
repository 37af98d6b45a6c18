#include "net/stream.h"

#include "net/resources.h"

#include <algorithm>
#include <utility>

namespace sim::net
{
namespace
{

constexpr size_t kStreamBuffer = 16 * 1024; // of one buffer of a chain

} // namespace

void IndicatePayload(Resources &resources, const FlowIdentity &flow, Direction direction, Packet &packet,
                     uint32_t offset, uint32_t length)
{
    const wfp::ClassifyResult result =
        IndicateStream(resources.engine(), flow, direction, packet.Describe(offset, length), offset, length, 0);

    packet.referenced = packet.referenced || result.referenced;
    Count(&resources.counts(direction).stream_bytes, length);
}

bool IndicateSentBytes(Resources &resources, const FlowIdentity &flow, const std::vector<uint8_t> &bytes)
{
    std::vector<PacketPtr> buffers;
    NET_BUFFER_LIST *first = nullptr;
    NET_BUFFER_LIST *last = nullptr;

    for (size_t position = 0; position < bytes.size(); position += kStreamBuffer)
    {
        const size_t length = std::min(kStreamBuffer, bytes.size() - position);
        PacketPtr buffer = resources.NewPacket(length);

        if (buffer == nullptr)
        {
            return false;
        }
        std::copy_n(bytes.data() + position, length, buffer->bytes());

        NET_BUFFER_LIST *list = buffer->StartAt(0);

        (first == nullptr ? first : last->Next) = list;
        last = list;
        buffers.push_back(std::move(buffer));
    }

    const wfp::ClassifyResult result =
        IndicateStream(resources.engine(), flow, Direction::kOutbound, first, 0, bytes.size(), 0);

    for (const PacketPtr &buffer : buffers)
    {
        buffer->net_buffer_list()->Next = nullptr;
        buffer->referenced = result.referenced;
    }
    Count(&resources.counts(Direction::kOutbound).stream_bytes, bytes.size());
    return result.action == wfp::ClassifyResult::kPermit;
}

void IndicateDisconnect(wfp::Engine &engine, const FlowIdentity &flow, Direction direction)
{
    IndicateStream(engine, flow, direction, nullptr, 0, 0,
                   direction == Direction::kInbound ? FWPS_STREAM_FLAG_RECEIVE_DISCONNECT
                                                    : FWPS_STREAM_FLAG_SEND_DISCONNECT);
}

} // namespace sim::net

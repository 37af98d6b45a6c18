#include "net/packet.h"

#include "machine.h"
#include "ndis/net_buffers.h"
#include "nt/sanitizer.h"
#include "wfp/engine.h"

#include <new>
#include <utility>

namespace sim::net
{
namespace
{

constexpr std::align_val_t kAlignment{16}; // Windows aligns an IP header at a pointer or better

} // namespace

bool Packet::Parse()
{
    return secured_      ? ParseSecured(buffer_, length_, &info_)
           : reassembled ? ParseReassembled(buffer_, length_, &info_)
                         : ParseIpPacket(buffer_, length_, &info_);
}

bool Packet::Secure()
{
    FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 security{};
    IpPacketInfo info;

    if (!ParseSecured(buffer_, length_, &info))
    {
        return false;
    }
    secured_ = true;
    info_ = info;
    security.isSecure = 1;
    security.isTransportMode = 1;
    security.isTransportModeVerified = 1;
    wfp::Engine::SetSecurity(net_buffer_list_, security);
    return true;
}

NET_BUFFER_LIST *Packet::Describe(uint32_t offset, uint32_t length)
{
    NET_BUFFER *net_buffer = net_buffer_list_->FirstNetBuffer;

    net_buffer_list_->Next = nullptr;
    net_buffer->MdlChain = mdl_;
    net_buffer->CurrentMdl = mdl_;
    net_buffer->CurrentMdlOffset = offset;
    net_buffer->DataOffset = offset;
    net_buffer->DataLength = length;
    return net_buffer_list_;
}

Tuple TupleOf(const Packet &packet, Direction direction)
{
    Tuple tuple = TupleOf(packet.info(), direction);

    tuple.link = packet.link;
    return tuple;
}

void PacketRecycler::operator()(Packet *packet) const
{
    packet->pool_->Recycle(packet);
}

PacketPool::PacketPool(Machine &machine) : machine_(machine) {}

PacketPool::~PacketPool()
{
    free_.Drain([this](Packet *packet) { Destroy(packet); });
}

PacketPtr PacketPool::Get(size_t length)
{
    Packet *packet = length <= kOrdinaryCapacity ? free_.Get() : nullptr;

    if (packet == nullptr)
    {
        packet = Make(length <= kOrdinaryCapacity ? kOrdinaryCapacity : static_cast<uint32_t>(length));
    }
    if (packet == nullptr)
    {
        return nullptr;
    }
    packet->length_ = static_cast<uint32_t>(length);
    nt::AllowAccess(packet->buffer_, packet->capacity_);
    nt::ForbidAccess(packet->buffer_ + length, packet->capacity_ - length);
    return PacketPtr(packet);
}

Packet *PacketPool::Make(uint32_t capacity)
{
    auto *packet = new Packet;
    const size_t pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(nullptr, capacity) + 1;

    packet->pool_ = this;
    packet->capacity_ = capacity;
    packet->buffer_ = static_cast<uint8_t *>(::operator new(capacity, kAlignment));
    packet->mdl_ = static_cast<MDL *>(::operator new(sizeof(MDL) + pages * sizeof(PFN_NUMBER), kAlignment));
    MmInitializeMdl(packet->mdl_, packet->buffer_, capacity);
    MmBuildMdlForNonPagedPool(packet->mdl_);
    if (!AddNetBufferList(packet))
    {
        Destroy(packet);
        return nullptr;
    }
    return packet;
}

bool PacketPool::AddNetBufferList(Packet *packet)
{
    ndis::NetBuffers &net_buffers = machine_.net_buffers();

    packet->net_buffer_list_ = net_buffers.Allocate(net_buffers.stack_pool(), 0, 0, packet->mdl_, 0, packet->capacity_);
    return packet->net_buffer_list_ != nullptr;
}

void PacketPool::Recycle(Packet *packet)
{
    if (packet->referenced)
    {
        machine_.wfp().ReleaseWhenUnreferenced(packet->net_buffer_list_, [this, packet] { PutBack(packet); });
        return;
    }
    PutBack(packet);
}

void PacketPool::PutBack(Packet *packet)
{
    packet->referenced = false;
    packet->link = kEthernetLink;
    packet->loopback = false;
    packet->reassembled = false;
    packet->fragments.clear();
    if (std::exchange(packet->secured_, false))
    {
        wfp::Engine::SetSecurity(packet->net_buffer_list_, {});
    }
    if (packet->injected)
    {
        // The list keeps the injection state, so that the packet needs another list.
        packet->injected = false;
        machine_.net_buffers().Free(packet->net_buffer_list_);
        packet->net_buffer_list_ = nullptr;
        if (!AddNetBufferList(packet))
        {
            Destroy(packet);
            return;
        }
    }
    if (packet->capacity_ != kOrdinaryCapacity || !free_.Put(packet))
    {
        Destroy(packet);
    }
}

void PacketPool::Destroy(Packet *packet)
{
    if (packet->net_buffer_list_ != nullptr)
    {
        machine_.net_buffers().Free(packet->net_buffer_list_);
    }
    nt::AllowAccess(packet->buffer_, packet->capacity_);
    ::operator delete(packet->buffer_, kAlignment);
    ::operator delete(packet->mdl_, kAlignment);
    delete packet;
}

} // namespace sim::net

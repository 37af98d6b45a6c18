#include "support/packet_chain.h"

#include <algorithm>
#include <cstring>

namespace kext_test
{

namespace
{

constexpr ULONG kTag = 'tseT';

} // namespace

PacketChain::PacketChain(sim::Machine &machine, const std::vector<PacketList> &lists, uint32_t start, size_t piece)
    : buffers_(machine.net_buffers())
{
    for (const PacketList &list : lists)
    {
        Append(list, start, piece);
    }
}

PacketChain::~PacketChain()
{
    for (NET_BUFFER_LIST *list : lists_)
    {
        list->Next = nullptr;
        buffers_.Free(list);
    }
    for (PMDL mdl : mdls_)
    {
        IoFreeMdl(mdl);
    }
    for (void *block : blocks_)
    {
        ExFreePoolWithTag(block, kTag);
    }
}

PMDL PacketChain::MakeMdl(const uint8_t *bytes, size_t length)
{
    void *block = ExAllocatePoolWithTag(NonPagedPoolNx, length, kTag);
    PMDL mdl = IoAllocateMdl(block, static_cast<ULONG>(length), FALSE, FALSE, nullptr);

    std::memcpy(block, bytes, length);
    MmBuildMdlForNonPagedPool(mdl);
    blocks_.push_back(block);
    mdls_.push_back(mdl);
    return mdl;
}

PMDL PacketChain::MakeMdlChain(const ByteVector &packet, size_t piece)
{
    const size_t step = piece == 0 ? packet.size() : piece;
    PMDL first = nullptr;
    PMDL *last = &first;

    for (size_t at = 0; at < packet.size(); at += step)
    {
        *last = MakeMdl(packet.data() + at, std::min(step, packet.size() - at));
        last = &(*last)->Next;
    }
    return first;
}

void PacketChain::Append(const PacketList &packets, uint32_t start, size_t piece)
{
    NET_BUFFER_LIST *list = nullptr;

    for (const ByteVector &packet : packets)
    {
        PMDL mdl = MakeMdlChain(packet, piece);

        if (list == nullptr)
        {
            list = buffers_.Allocate(buffers_.stack_pool(), 0, 0, mdl, start, packet.size() - start);
        }
        else
        {
            buffers_.AddNetBuffer(list, mdl, start, packet.size() - start);
        }
    }
    if (!lists_.empty())
    {
        lists_.back()->Next = list;
    }
    lists_.push_back(list);
}

ByteVector BytesOf(NET_BUFFER *buffer)
{
    ByteVector storage(buffer->DataLength);
    const auto *bytes =
        static_cast<const uint8_t *>(NdisGetDataBuffer(buffer, buffer->DataLength, storage.data(), 1, 0));

    return ByteVector(bytes, bytes + buffer->DataLength);
}

} // namespace kext_test

// Packets in chains of net buffer lists, as the network stack passes them to a callout.
#pragma once

#include "support/bytes.h"

#include "machine.h"
#include "ndis/net_buffers.h"

namespace kext_test
{

// The packets of one net buffer list, one net buffer each.
using PacketList = std::vector<ByteVector>;

class PacketChain
{
  public:
    // The data of each net buffer starts `start` bytes into its packet. A `piece` other than 0 scatters each packet
    // over MDLs of that many bytes.
    PacketChain(sim::Machine &machine, const std::vector<PacketList> &lists, uint32_t start = 0, size_t piece = 0);
    ~PacketChain();

    PacketChain(const PacketChain &) = delete;
    PacketChain &operator=(const PacketChain &) = delete;

    NET_BUFFER_LIST *head() { return lists_.front(); }

  private:
    PMDL MakeMdl(const uint8_t *bytes, size_t length);
    PMDL MakeMdlChain(const ByteVector &packet, size_t piece);
    void Append(const PacketList &packets, uint32_t start, size_t piece);

    sim::ndis::NetBuffers &buffers_;
    std::vector<NET_BUFFER_LIST *> lists_;
    std::vector<PMDL> mdls_;
    std::vector<void *> blocks_;
};

ByteVector BytesOf(NET_BUFFER *buffer);

} // namespace kext_test

// A packet on its way through the layers: its bytes in one buffer, and the net buffer list that describes them.
//
// Concurrency: a packet belongs to one thread at a time; the pool may be used from any thread.
#pragma once

#include "net/free_list.h"
#include "net/ip_packet.h"

#include <ntddk.h>

#include <ndis.h>

#include <atomic>
#include <cstdint>
#include <memory>

namespace sim
{
class Machine;
}

namespace sim::net
{

class PacketPool;

class Packet
{
  public:
    Packet(const Packet &) = delete;
    Packet &operator=(const Packet &) = delete;

    uint8_t *bytes() { return buffer_; }
    const uint8_t *bytes() const { return buffer_; }
    uint32_t length() const { return length_; }
    const IpPacketInfo &info() const { return info_; }

    // Reads the headers anew. False where it is not an IP packet.
    bool Parse() { return ParseIpPacket(buffer_, length_, &info_); }

    // The net buffer list, its data being these bytes; what lies before is the retreat space.
    NET_BUFFER_LIST *Describe(uint32_t offset, uint32_t length);
    NET_BUFFER_LIST *StartAt(uint32_t offset) { return Describe(offset, length_ - offset); }
    NET_BUFFER_LIST *net_buffer_list() { return net_buffer_list_; }

    Packet *next_free = nullptr; // of the pool

    bool loopback = false;
    bool reassembled = false;
    bool injected = false;   // the net buffer list carries an injection state
    bool referenced = false; // the driver was seen to hold a reference to it

  private:
    friend class PacketPool;
    friend struct PacketRecycler;

    Packet() = default;
    ~Packet() = default;

    PacketPool *pool_ = nullptr;
    uint8_t *buffer_ = nullptr;
    uint32_t capacity_ = 0;
    uint32_t length_ = 0;
    MDL *mdl_ = nullptr;
    NET_BUFFER_LIST *net_buffer_list_ = nullptr;
    IpPacketInfo info_;
};

struct PacketRecycler
{
    void operator()(Packet *packet) const;
};

using PacketPtr = std::unique_ptr<Packet, PacketRecycler>;

class PacketPool
{
  public:
    explicit PacketPool(Machine &machine);
    ~PacketPool(); // every packet has come back

    PacketPool(const PacketPool &) = delete;
    PacketPool &operator=(const PacketPool &) = delete;

    // A packet of this many bytes, their content undefined. nullptr where there is no memory.
    PacketPtr Get(size_t length);

  private:
    friend struct PacketRecycler;

    static constexpr uint32_t kOrdinaryCapacity = 2048;
    static constexpr size_t kKept = 1024; // in each shard

    Packet *Make(uint32_t capacity);
    bool AddNetBufferList(Packet *packet);
    void Recycle(Packet *packet);
    void PutBack(Packet *packet);
    void Destroy(Packet *packet);

    Machine &machine_;
    FreeList<Packet> free_{kKept};
};

} // namespace sim::net

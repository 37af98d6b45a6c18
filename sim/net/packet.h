// A packet on its way through the layers: one buffer with its bytes, and the net buffer list that describes them.
//
// Concurrency: a packet belongs to one thread at a time. Any thread may use the pool.
#pragma once

#include "net/free_list.h"
#include "net/ip_packet.h"

#include <ntddk.h>

#include <ndis.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

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

    // Reads the headers again. Returns false if it is not an IP packet.
    bool Parse();

    // IPsec has verified or decrypted it in place. Returns false, and changes nothing, if it has no AH or ESP header.
    bool Secure();

    // Returns the net buffer list with these bytes as its data. The bytes before them are its retreat space.
    NET_BUFFER_LIST *Describe(uint32_t offset, uint32_t length);
    NET_BUFFER_LIST *StartAt(uint32_t offset) { return Describe(offset, length_ - offset); }
    NET_BUFFER_LIST *net_buffer_list() { return net_buffer_list_; }

    Packet *next_free = nullptr; // of the pool

    uint8_t link = kEthernetLink; // on which it comes or leaves
    bool loopback = false;
    bool reassembled = false;                    // its IP headers are those of its first fragment
    std::vector<std::vector<uint8_t>> fragments; // of which it was reassembled
    bool injected = false;                       // the net buffer list carries an injection state
    bool referenced = false;                     // the driver held a reference to it after a classify

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
    bool secured_ = false;
    IpPacketInfo info_;
};

// The tuple of the conversation that a packet belongs to. It goes in this direction.
Tuple TupleOf(const Packet &packet, Direction direction);

struct PacketRecycler
{
    void operator()(Packet *packet) const;
};

using PacketPtr = std::unique_ptr<Packet, PacketRecycler>;

class PacketPool
{
  public:
    explicit PacketPool(Machine &machine);
    ~PacketPool(); // every packet must have come back

    PacketPool(const PacketPool &) = delete;
    PacketPool &operator=(const PacketPool &) = delete;

    // Returns a packet of this many bytes with undefined content, or nullptr if there is no memory.
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

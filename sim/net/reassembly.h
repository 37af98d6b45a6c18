// Puts the fragments of datagrams together (RFC 791, RFC 8200 section 4.5).
//
// Concurrency: may be used from any thread.
#pragma once

#include "net/ip_packet.h"
#include "net/packet.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

namespace sim::net
{

class Reassembly
{
  public:
    // Keeps what is in the fragment. The whole datagram where nothing of it is missing any more, else nothing. One
    // whose fragments overlap is discarded (RFC 5722).
    std::vector<uint8_t> Add(const Packet &fragment);

  private:
    static constexpr size_t kMostDatagrams = 256; // the oldest goes

    using Key = std::tuple<uint8_t, uint8_t, uint32_t, Address, Address>;

    struct Datagram
    {
        uint64_t number = 0; // in the order of their beginning
        std::vector<uint8_t> first;
        IpPacketInfo first_info;
        std::map<uint32_t, std::vector<uint8_t>> pieces; // by offset
        size_t received = 0;
        size_t length = 0; // 0 until the last fragment has told it
    };

    static Key KeyOf(const IpPacketInfo &info);
    static bool Overlaps(const Datagram &datagram, size_t start, size_t end);
    static std::vector<uint8_t> Join(const Datagram &datagram);
    Datagram &DatagramOf(const Key &key);

    std::mutex mutex_;
    std::map<Key, Datagram> datagrams_;
    uint64_t last_number_ = 0;
};

} // namespace sim::net

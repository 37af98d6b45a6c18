// Puts the fragments of datagrams together (RFC 791, RFC 8200 section 4.5).
//
// Concurrency: any thread may call it.
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
    struct Whole
    {
        std::vector<uint8_t> bytes; // with the IP headers of the first fragment, as they came: for ParseReassembled
        std::vector<std::vector<uint8_t>> fragments; // in the order of their arrival
    };

    // Keeps the fragment. Returns the datagram if it is complete now, else nothing.
    // A datagram whose fragments overlap is discarded (RFC 5722).
    Whole Add(const Packet &fragment);

  private:
    static constexpr size_t kMostDatagrams = 256; // one more replaces the oldest

    using Key = std::tuple<uint8_t, uint8_t, uint32_t, Address, Address>;

    struct Datagram
    {
        uint64_t number = 0;                             // counts up in the order of their first arrivals
        std::vector<uint8_t> first;                      // the IP headers of the first fragment
        std::map<uint32_t, std::vector<uint8_t>> pieces; // by offset
        std::vector<std::vector<uint8_t>> fragments;
        size_t received = 0;
        size_t length = 0; // 0 until the last fragment arrives
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

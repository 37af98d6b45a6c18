// Makes capture files and frames for tests.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "net/ip_packet.h"

namespace sim::sources
{

using Bytes = std::vector<uint8_t>;

// Writes numbers in a byte order.
class Writer
{
  public:
    explicit Writer(bool big_endian = false) : big_endian_(big_endian) {}

    Writer &U16(uint16_t value) { return Number(value, 2); }
    Writer &U32(uint32_t value) { return Number(value, 4); }
    Writer &U64(uint64_t value) { return Number(value, 8); }
    Writer &Raw(const Bytes &bytes)
    {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    Writer &Padded(const Bytes &bytes)
    {
        Raw(bytes);
        bytes_.resize((bytes_.size() + 3) / 4 * 4);
        return *this;
    }

    const Bytes &bytes() const { return bytes_; }

  private:
    Writer &Number(uint64_t value, unsigned size)
    {
        for (unsigned i = 0; i < size; ++i)
        {
            const unsigned shift = 8 * (big_endian_ ? size - 1 - i : i);
            bytes_.push_back(static_cast<uint8_t>(value >> shift));
        }
        return *this;
    }

    const bool big_endian_;
    Bytes bytes_;
};

// A file that its destructor removes.
class TemporaryFile
{
  public:
    explicit TemporaryFile(const Bytes &content)
    {
        static std::atomic<int> number{0};

        path_ = testing::TempDir() + "netverdict-" + std::to_string(getpid()) + "-" + std::to_string(number++);
        std::ofstream file(path_, std::ios::binary);
        file.write(reinterpret_cast<const char *>(content.data()), static_cast<std::streamsize>(content.size()));
    }
    ~TemporaryFile() { std::remove(path_.c_str()); }

    TemporaryFile(const TemporaryFile &) = delete;
    TemporaryFile &operator=(const TemporaryFile &) = delete;

    const std::string &path() const { return path_; }

  private:
    std::string path_;
};

// A classic capture, little-endian, with microseconds.
class Capture
{
  public:
    explicit Capture(uint32_t link_type = 1)
    {
        out_.U32(0xA1B2C3D4).U16(2).U16(4).U32(0).U32(0).U32(262144).U32(link_type);
    }

    Capture &Add(const Bytes &frame, uint32_t microseconds = 0) { return AddCut(frame, frame.size(), microseconds); }

    // Adds a frame of which only the first `captured` bytes were captured.
    Capture &AddCut(const Bytes &frame, size_t captured, uint32_t microseconds = 0)
    {
        out_.U32(1700000000 + microseconds / 1000000).U32(microseconds % 1000000);
        out_.U32(static_cast<uint32_t>(captured)).U32(static_cast<uint32_t>(frame.size()));
        out_.Raw(Bytes(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(captured)));
        return *this;
    }

    const Bytes &bytes() const { return out_.bytes(); }

  private:
    Writer out_;
};

inline net::Endpoint V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    return {net::kIpv4, {a, b, c, d}, port};
}

inline net::Endpoint V6(uint8_t last, uint16_t port)
{
    return {net::kIpv6, {0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}, port};
}

inline Bytes TcpPacket(const net::Endpoint &from, const net::Endpoint &to, uint32_t sequence, uint32_t acknowledgment,
                       uint8_t flags, const Bytes &payload = {})
{
    Bytes packet(net::TcpPacketSize(from.family, payload.size()));

    net::WriteTcpPacket(packet.data(), from, to, {sequence, acknowledgment, flags}, payload.data(), payload.size());
    return packet;
}

inline Bytes UdpPacket(const net::Endpoint &from, const net::Endpoint &to, const Bytes &payload)
{
    Bytes packet(net::UdpPacketSize(from.family, payload.size()));

    net::WriteUdpPacket(packet.data(), from, to, payload.data(), payload.size());
    return packet;
}

using Station = Bytes; // an Ethernet address

inline Station StationOf(uint8_t last)
{
    return {2, 0, 0, 0, 0, last};
}

inline Bytes EthernetFrame(const Station &to, const Station &from, const Bytes &packet, uint16_t type = 0)
{
    Writer frame(true);

    frame.Raw(to).Raw(from);
    frame.U16(type != 0 ? type : packet[0] >> 4 == 6 ? 0x86DD : 0x0800);
    frame.Raw(packet);
    return frame.bytes();
}

} // namespace sim::sources

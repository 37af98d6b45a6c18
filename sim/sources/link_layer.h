// Finds the IP packet in a frame of a capture, whatever its link layer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sim::sources
{

using HardwareAddress = std::array<uint8_t, 8>; // a shorter address ends with zeros

enum class FrameKind : uint8_t
{
    kIp,
    kOther,      // another protocol
    kMalformed,  // too short for its own headers
    kUnknownLink // the link type is not supported
};

struct LinkFrame
{
    FrameKind kind = FrameKind::kOther;
    const uint8_t *packet = nullptr; // set with kIp
    size_t captured_length = 0;
    size_t original_length = 0; // may count padding behind the packet
    bool has_hardware = false;  // both addresses are known
    bool outgoing = false;      // the capture marks it as sent by the host
    bool incoming = false;      // the capture marks it as received by the host
    HardwareAddress source{};
    HardwareAddress destination{};
};

LinkFrame DecodeLink(uint16_t link_type, const uint8_t *data, size_t captured, size_t original);

} // namespace sim::sources

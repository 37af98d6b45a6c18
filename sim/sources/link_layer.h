// The link layers that captures have: finds the IP packet in a frame.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sim::sources
{

using HardwareAddress = std::array<uint8_t, 8>; // the last bytes are zero where it is shorter

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
    const uint8_t *packet = nullptr; // kIp
    size_t captured_length = 0;
    size_t original_length = 0; // with what follows the packet on the link
    bool has_hardware = false;  // both addresses are known
    bool outgoing = false;      // the capture itself tells that the host sent it
    bool incoming = false;      // or that it was for the host
    HardwareAddress source{};
    HardwareAddress destination{};
};

LinkFrame DecodeLink(uint16_t link_type, const uint8_t *data, size_t captured, size_t original);

} // namespace sim::sources

// Numbers of the pcapng format (draft-ietf-opsawg-pcapng).
#pragma once

#include <cstdint>

namespace sim::sources::pcapng
{

// Block types.
inline constexpr uint32_t kSectionHeader = 0x0A0D0D0A;
inline constexpr uint32_t kInterfaceDescription = 1;
inline constexpr uint32_t kOldPacket = 2;
inline constexpr uint32_t kSimplePacket = 3;
inline constexpr uint32_t kEnhancedPacket = 6;

inline constexpr uint32_t kByteOrder = 0x1A2B3C4D;

// Option of any block.
inline constexpr uint16_t kEndOfOptions = 0;

// Options of an interface description.
inline constexpr uint16_t kInterfaceName = 2;
inline constexpr uint16_t kInterfaceDescriptionText = 3;
inline constexpr uint16_t kTimeResolution = 9;
inline constexpr uint16_t kTimeOffset = 14;

// Option of an enhanced packet.
inline constexpr uint16_t kPacketFlags = 2;

} // namespace sim::sources::pcapng

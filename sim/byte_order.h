// Numbers in the bytes of packets and files: big-endian (network byte order) and little-endian, at any alignment.
#pragma once

#include <cstdint>

namespace sim
{

inline uint16_t LoadBig16(const uint8_t *bytes)
{
    return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]);
}

inline uint32_t LoadBig32(const uint8_t *bytes)
{
    return static_cast<uint32_t>(LoadBig16(bytes)) << 16 | LoadBig16(bytes + 2);
}

inline void StoreBig16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = static_cast<uint8_t>(value >> 8);
    bytes[1] = static_cast<uint8_t>(value);
}

inline void StoreBig32(uint8_t *bytes, uint32_t value)
{
    StoreBig16(bytes, static_cast<uint16_t>(value >> 16));
    StoreBig16(bytes + 2, static_cast<uint16_t>(value));
}

inline uint16_t LoadLittle16(const uint8_t *bytes)
{
    return static_cast<uint16_t>(bytes[1] << 8 | bytes[0]);
}

inline uint32_t LoadLittle32(const uint8_t *bytes)
{
    return static_cast<uint32_t>(LoadLittle16(bytes + 2)) << 16 | LoadLittle16(bytes);
}

} // namespace sim

// A fuzzer's input, read from front to back, so seeds are written in reading order. Zeros follow its end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace fuzz
{

class Input
{
  public:
    Input(const uint8_t *data, size_t size) : at_(data), end_(data + size) {}

    bool empty() const { return at_ == end_; }

    // Little-endian, as in the wire format.
    template <typename T> T Number()
    {
        T value{};
        const size_t length = std::min(sizeof(T), left());

        std::memcpy(&value, at_, length);
        at_ += length;
        return value;
    }

    uint8_t Byte() { return Number<uint8_t>(); }
    bool Bool() { return (Byte() & 1) != 0; }
    uint32_t Below(uint32_t bound) { return bound <= 256 ? Byte() % bound : Number<uint32_t>() % bound; }

    // Returns at most `length` bytes, or the rest of the input.
    std::vector<uint8_t> Bytes(size_t length)
    {
        const uint8_t *from = at_;

        at_ += std::min(length, left());
        return std::vector<uint8_t>(from, at_);
    }

    // Reads bytes that follow their length in 16 bits.
    std::vector<uint8_t> CountedBytes() { return Bytes(Number<uint16_t>()); }
    std::vector<uint8_t> Rest() { return Bytes(left()); }

  private:
    size_t left() const { return static_cast<size_t>(end_ - at_); }

    const uint8_t *at_;
    const uint8_t *end_;
};

} // namespace fuzz

// Reads and writes the control protocol: little-endian, as this computer is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "net/stack.h"

namespace sim::wine
{

class RequestTooShort : public std::runtime_error
{
  public:
    RequestTooShort() : std::runtime_error("a request ends before its last field") {}
};

class Reader
{
  public:
    Reader(const uint8_t *bytes, size_t length) : bytes_(bytes), left_(length) {}

    // Throws RequestTooShort.
    template <typename T> T Get()
    {
        static_assert(std::is_arithmetic_v<T>);
        T value;
        std::memcpy(&value, Take(sizeof(value)), sizeof(value));
        return value;
    }

    const uint8_t *Take(size_t length)
    {
        if (length > left_)
        {
            throw RequestTooShort();
        }
        const uint8_t *taken = bytes_;
        bytes_ += length;
        left_ -= length;
        return taken;
    }

    std::vector<uint8_t> Rest()
    {
        const size_t length = left_;
        const uint8_t *rest = Take(length);
        return std::vector<uint8_t>(rest, rest + length);
    }

    net::Endpoint GetEndpoint(uint8_t family)
    {
        net::Endpoint endpoint;
        endpoint.family = family;
        std::memcpy(endpoint.address.data(), Take(endpoint.address.size()), endpoint.address.size());
        endpoint.port = Get<uint16_t>();
        return endpoint;
    }

  private:
    const uint8_t *bytes_;
    size_t left_;
};

class Writer
{
  public:
    template <typename T> Writer &Put(T value)
    {
        static_assert(std::is_arithmetic_v<T>);
        return PutBytes(&value, sizeof(value));
    }

    // GCC 12 reports a false array-bounds warning when it inlines this function.
    __attribute__((noinline)) Writer &PutBytes(const void *bytes, size_t length)
    {
        const size_t end = bytes_.size();
        bytes_.resize(end + length);
        std::copy_n(static_cast<const uint8_t *>(bytes), length, bytes_.begin() + static_cast<std::ptrdiff_t>(end));
        return *this;
    }

    Writer &PutEndpoint(const net::Endpoint &endpoint)
    {
        return Put(endpoint.family).PutBytes(endpoint.address.data(), endpoint.address.size()).Put(endpoint.port);
    }

    const std::vector<uint8_t> &bytes() const { return bytes_; }

  private:
    std::vector<uint8_t> bytes_;
};

} // namespace sim::wine

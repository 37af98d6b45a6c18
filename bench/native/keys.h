// Connection keys for the benchmarks: distinct 5-tuples, in a shuffled order that no prefetcher can guess.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

extern "C"
{
#include "platform.h"

#include "connection_table.h"
}

namespace bench
{

enum class Ports
{
    kSpread, // the connections are spread over 28,000 local ports
    kOne     // all of them are on one local port, as a server's are
};

inline CONNECTION_KEY MakeKey(uint32_t index, Ports ports)
{
    CONNECTION_KEY key = {};
    const uint8_t local[4] = {10, 0, 0, 2};
    const uint8_t remote[4] = {100, static_cast<uint8_t>(index >> 16), static_cast<uint8_t>(index >> 8),
                               static_cast<uint8_t>(index)};
    std::memcpy(key.LocalAddress, local, sizeof local);
    std::memcpy(key.RemoteAddress, remote, sizeof remote);
    key.LocalPort = ports == Ports::kOne ? 443 : static_cast<uint16_t>(32768 + index % 28000);
    key.RemotePort = 443;
    key.Protocol = 6;
    key.IpVersion = 4;
    return key;
}

inline std::vector<CONNECTION_KEY> ShuffledKeys(uint32_t count, Ports ports)
{
    std::vector<CONNECTION_KEY> keys;
    keys.reserve(count);
    for (uint32_t index = 0; index < count; ++index)
    {
        keys.push_back(MakeKey(index, ports));
    }
    std::shuffle(keys.begin(), keys.end(), std::mt19937(20));
    return keys;
}

} // namespace bench

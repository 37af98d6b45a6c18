#include "support/commands.h"

namespace kext_test
{

ByteVector VerdictBytes(uint64_t id, uint8_t verdict)
{
    COMMAND_VERDICT_WIRE wire{CommandVerdict, id, verdict};
    const auto *bytes = reinterpret_cast<const uint8_t *>(&wire);

    return ByteVector(bytes, bytes + sizeof(wire));
}

ByteVector UpdateBytes(const Flow &flow, uint8_t verdict)
{
    const size_t length = flow.family() == 6 ? 16 : 4;
    ByteVector bytes = {static_cast<uint8_t>(flow.family() == 6 ? CommandUpdateV6 : CommandUpdateV4), flow.protocol};

    for (const Endpoint *endpoint : {&flow.local, &flow.remote})
    {
        bytes.insert(bytes.end(), endpoint->address.begin(),
                     endpoint->address.begin() + static_cast<ptrdiff_t>(length));
        bytes.push_back(static_cast<uint8_t>(endpoint->port));
        bytes.push_back(static_cast<uint8_t>(endpoint->port >> 8));
    }
    bytes.push_back(verdict);
    return bytes;
}

} // namespace kext_test

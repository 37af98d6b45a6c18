// The commands that a client writes.
#pragma once

#include "support/bytes.h"
#include "support/flows.h"

namespace kext_test
{

ByteVector VerdictBytes(uint64_t id, uint8_t verdict);

// UpdateV4 or UpdateV6: another verdict for a known connection.
ByteVector UpdateBytes(const Flow &flow, uint8_t verdict);

} // namespace kext_test

// Whole IP packets and fragments, as bytes.
#pragma once

#include "support/bytes.h"
#include "support/flows.h"

namespace kext_test
{

ByteVector Payload(size_t length = 16);

// A TCP segment, a UDP datagram, or an echo request for any other protocol.
ByteVector MakePacket(const Flow &flow, bool inbound = false, const ByteVector &payload = Payload());

// Cuts `length` bytes at `start` out of the packet's IP payload. `id` identifies the datagram.
ByteVector Fragment(const ByteVector &packet, size_t start, size_t length, uint32_t id = 1);

bool IsV6(const ByteVector &packet);
bool IsFragment(const ByteVector &packet);

// Bytes up to the transport header. A packet that cannot be parsed has a header without options.
uint32_t HeaderLength(const ByteVector &packet);

// Checks the IPv4 header and the TCP or UDP checksum.
bool ChecksumsAreRight(const ByteVector &packet);

} // namespace kext_test

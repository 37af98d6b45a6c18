// Whole IP packets of any protocol, with right checksums.
// Nothing of the simulation writes them, so their bytes change only with this file.
#pragma once

#include "support/bytes.h"
#include "support/flows.h"

namespace kext_test
{

constexpr uint8_t kRawHops = 64;

// `options`: IPv4: options of the header, in units of 4 bytes. IPv6: a hop-by-hop header after its first two bytes.
ByteVector RawIp(const Endpoint &source, const Endpoint &destination, uint8_t protocol, const ByteVector &transport,
                 uint8_t hops = kRawHops, const ByteVector &options = {});

ByteVector RawUdp(const Endpoint &source, const Endpoint &destination, const ByteVector &payload);

// `flags`: sim::net::kTcp....
ByteVector RawTcp(const Endpoint &source, const Endpoint &destination, uint8_t flags, const ByteVector &payload = {});

// ICMP or ICMPv6, by the family of the ends. `body`: the bytes after the checksum.
ByteVector RawIcmp(const Endpoint &source, const Endpoint &destination, uint8_t type, uint8_t code,
                   const ByteVector &body, uint8_t hops = kRawHops, const ByteVector &options = {});

} // namespace kext_test

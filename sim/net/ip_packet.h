// IP packets as bytes: reads headers, and writes the packets that the stack makes.
#pragma once

#include "net/address.h"

#include <cstddef>
#include <cstdint>

namespace sim::net
{

constexpr uint8_t kTcpFin = 0x01;
constexpr uint8_t kTcpSyn = 0x02;
constexpr uint8_t kTcpRst = 0x04;
constexpr uint8_t kTcpPush = 0x08;
constexpr uint8_t kTcpAck = 0x10;

constexpr size_t kIpv4HeaderSize = 20;
constexpr size_t kIpv6HeaderSize = 40;
constexpr size_t kTcpHeaderSize = 20;
constexpr size_t kUdpHeaderSize = 8;
constexpr size_t kIcmpHeaderSize = 8;
constexpr size_t kLongestPacket = 65535;

struct IpPacketInfo
{
    uint8_t family = kIpv4;
    uint8_t protocol = 0; // of the transport header
    bool fragment = false;
    bool first_fragment = false;
    bool more_fragments = false;
    bool authenticated = false;   // IPv6: has an AH header
    uint16_t fragment_offset = 0; // bytes
    uint32_t fragment_start = 0;  // where the fragment's payload starts in the packet
    uint32_t fragment_identification = 0;
    uint32_t length = 0;                // of the packet, according to its header
    uint32_t ip_header_size = 0;        // up to the transport header, with IPv6 extension headers
    uint32_t transport_header_size = 0; // 0: the header is not known, or not complete
    uint32_t payload_length = 0;        // after a transport header that is known
    Address source{};
    Address destination{};
    uint16_t source_port = 0;      // TCP and UDP; ICMP: the type
    uint16_t destination_port = 0; // TCP and UDP; ICMP: the code
    uint16_t echo_identifier = 0;  // ICMP echo
    uint16_t echo_sequence = 0;
    uint32_t sequence = 0; // TCP
    uint32_t acknowledgment = 0;
    uint8_t tcp_flags = 0;

    uint32_t payload_offset() const { return ip_header_size + transport_header_size; }
    bool has_transport() const { return transport_header_size != 0; }
    Endpoint source_endpoint() const { return {family, source, source_port}; }
    Endpoint destination_endpoint() const { return {family, destination, destination_port}; }
    bool is_echo() const { return has_transport() && IsEcho(protocol, source_port); }
    bool is_echo_request() const { return has_transport() && IsEchoRequest(protocol, source_port); }

    // True if ALE leads it to a conversation.
    // Fragments, ICMP errors and headers that are not complete belong to none.
    bool has_conversation() const;
};

// The tuple of the conversation that a packet belongs to. It goes in this direction.
Tuple TupleOf(const IpPacketInfo &info, Direction direction);

// Reads the headers of a packet of which `captured` bytes exist. Its own header may claim more bytes.
// It reads within both lengths. Returns false if the IP header is not valid or not complete.
bool ParseIpPacket(const uint8_t *bytes, size_t captured, IpPacketInfo *info);

// Reads the headers of a reassembled datagram of `length` bytes. It has the IP headers of its first fragment, as they
// came.
bool ParseReassembled(const uint8_t *bytes, size_t length, IpPacketInfo *info);

// Reads the headers of a packet that IPsec has verified or decrypted in place (RFC 4302, RFC 4303 without encryption).
// The AH or ESP header counts as a part of the IP headers. Returns false if it is no such packet.
bool ParseSecured(const uint8_t *bytes, size_t length, IpPacketInfo *info);

struct TcpSegment
{
    uint32_t sequence = 0;
    uint32_t acknowledgment = 0;
    uint8_t flags = 0;
};

// Sizes of packets with `payload` bytes.
size_t TcpPacketSize(uint8_t family, size_t payload);
size_t UdpPacketSize(uint8_t family, size_t payload);
size_t IcmpPacketSize(uint8_t family, size_t payload);
size_t RawPacketSize(uint8_t family, size_t payload);

// Write packets with right checksums, and return their size.
// `out` has room for that size. `payload` may be null if its length is 0.
size_t WriteTcpPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, const TcpSegment &segment,
                      const uint8_t *payload, size_t length);
size_t WriteUdpPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, const uint8_t *payload,
                      size_t length);
// `rest` are the last four bytes of the header. Of an echo they are its identifier and its sequence number.
size_t WriteIcmpPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, const IcmpKind &kind,
                       uint32_t rest, const uint8_t *payload, size_t length);
// source.port is the echo's identifier, destination.port its sequence number.
size_t WriteEchoPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, bool request,
                       const uint8_t *payload, size_t length);
size_t WriteRawPacket(uint8_t *out, const Endpoint &source, const Endpoint &destination, uint8_t protocol,
                      const uint8_t *payload, size_t length);

// Writes the IP header alone. The `transport_length` bytes behind it exist already. Returns its size.
size_t WriteIpHeader(uint8_t *out, const Endpoint &source, const Endpoint &destination, uint8_t protocol,
                     size_t transport_length);

// Gives a TCP or UDP packet, or a fragment of one, other ends of the same family.
// It updates the checksums for them (RFC 1624), so that a wrong checksum stays wrong.
void WriteEnds(uint8_t *bytes, const IpPacketInfo &info, const Endpoint &source, const Endpoint &destination);

// Returns true if the IPv4 header's checksum and the TCP or UDP checksum are right or absent. The packet is complete.
bool ChecksumsAreRight(const uint8_t *bytes, const IpPacketInfo &info);

} // namespace sim::net

// Authorizations at ALE_AUTH_CONNECT and ALE_AUTH_RECV_ACCEPT.
#pragma once

#include "support/classifier.h"
#include "support/packet_chain.h"

#include <optional>

namespace kext_test
{

constexpr uint64_t kTransportEndpoint = 0xABCDEF;
constexpr uint32_t kRemoteScope = 0x70000005;

struct AleOptions
{
    bool reauthorize = false;
    bool loopback = false;
    uint8_t address_type = 1; // of the destination, as NL_ADDRESS_TYPE: 1 unicast, 3 multicast, 4 broadcast
    std::optional<FWP_DIRECTION> packet_direction;
    std::u16string process_path;
    ByteVector control_data;
    ByteVector header_include;
    uint32_t ip_header_size = 0;         // 0: what the packet has
    bool secured = false;                // by IPsec, which leaves its header
    bool shows_transport_header = false; // inbound: the data starts there, although the layer gives the header's size
    PacketList more_packets;             // in net buffers of the same list
    std::vector<PacketList> more_lists;  // in the same chain
};

// `packet`: a whole IP packet of the flow, or null where the layer shows none.
Classifier::Answer AuthorizeConnect(Classifier &classifier, const Flow &flow, const ByteVector *packet,
                                    const AleOptions &options);
Classifier::Answer AuthorizeAccept(Classifier &classifier, const Flow &flow, const ByteVector *packet,
                                   const AleOptions &options);

} // namespace kext_test

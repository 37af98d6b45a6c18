// The part of a conversation that belongs to a packet source.
// The source watches its packets and answers for the computers around this one.
//
// Concurrency: called on the thread that works on the conversation's flow.
#pragma once

#include "net/indication.h"
#include "net/packet.h"
#include "net/types.h"

#include <cstdint>

namespace sim::net
{

// The outcome of one packet of a packet source.
struct PacketResult
{
    Direction direction = Direction::kOutbound;
    OutcomeKind kind = OutcomeKind::kPermitted;
    bool withheld = false; // the IP packet layer permitted it, the authorization did not
};

class Conversation
{
  public:
    virtual ~Conversation() = default;

    // The first decision about the conversation.
    virtual void Authorized(OutcomeKind kind) = 0;

    // An authorized packet comes to OUTBOUND_IPPACKET. Called once a packet.
    virtual void Leaving(const FlowIdentity &flow, Packet &packet) = 0;

    // An authorized packet was let in.
    virtual void Arrived(const FlowIdentity &flow, Packet &packet) = 0;

    // Called for every packet of the source.
    virtual void Ended(const FlowIdentity &flow, const PacketResult &result) = 0;

    // A loopback packet has left.
    virtual void LoopedBack(PacketPtr packet) = 0;

    // A packet has left for this machine instead of its destination.
    virtual void Redirected(const FlowIdentity &flow, PacketPtr packet) = 0;

    // True if the target of the redirection sends this inbound packet.
    virtual bool AnswersRedirected(const FlowIdentity &flow, const Packet &packet) = 0;

    virtual void DatagramIndicated(Direction direction, uint32_t payload) = 0;

    // The last call, before ALE_ENDPOINT_CLOSURE.
    virtual void Closing(const FlowIdentity &flow) = 0;
};

} // namespace sim::net

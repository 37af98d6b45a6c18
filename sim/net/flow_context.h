// What the parts of a flow share: the conversation's identity and state, and the way to the stack.
//
// Concurrency: belongs to the thread that works on the flow.
#pragma once

#include "net/conversation.h"
#include "net/job.h"
#include "net/resources.h"

#include <cstdint>
#include <memory>

namespace sim::net
{

class Flow;

// The stack around a flow: where packets go that leave it.
class FlowHost
{
  public:
    // A packet left for this machine itself.
    virtual void LoopBack(PacketPtr packet) = 0;

    // A packet for another computer passed INBOUND_IPPACKET. It leaves again.
    virtual void Forward(PacketPtr packet, OutcomeCallback done) = 0;

    // A multicast left. This machine sends it to itself too, because it is a member of the group.
    virtual void SendToOwnGroup(const Packet &packet) = 0;

    // A packet passed INBOUND_IPPACKET. It goes to the socket that it is for.
    virtual void ToSocket(PacketPtr packet, OutcomeCallback done) = 0;

    // A datagram of a packet source passed INBOUND_IPPACKET. It goes to its conversation.
    // Returns false, and leaves the packet, if there is no such conversation.
    virtual bool ToConversation(PacketPtr *packet) = 0;

    // The driver injected a packet that no flow waits for.
    virtual void InjectLoose(wfp::Injection::Kind kind, PacketPtr packet) = 0;

    // Ends the other end of a loopback connection.
    virtual void FinishPeer(const Tuple &tuple) = 0;

    // An application's reference to a shared socket ends.
    // With the last reference, the conversations that the socket accepted end too, except those of TCP.
    virtual void RemoveOwner(Socket *socket) = 0;

    // The flow ended: its tuple no longer leads to it.
    virtual void Unindex(Flow *flow) = 0;

    // The last reference is gone.
    virtual void Recycle(Flow *flow) = 0;

  protected:
    ~FlowHost() = default;
};

// Where the driver sent the flow's packets instead.
struct Redirection
{
    bool active = false;
    Endpoint source; // the ends of a packet that arrives there
    Endpoint target;
};

struct FlowContext
{
    Resources *resources = nullptr;
    FlowHost *host = nullptr;

    FlowIdentity identity;
    Direction opened = Direction::kOutbound;    // who spoke first when the conversation was opened
    IcmpKind icmp;                              // of the messages of that end
    std::shared_ptr<Conversation> conversation; // nullptr: the stack plays the conversation
    Redirection redirection;
    bool raw = false;         // IP packet layers only
    bool accepted = false;    // by a listener, without an application's call
    bool established = false; // TCP: the handshake is complete
    bool announced = false;   // ALE_FLOW_ESTABLISHED was indicated
    bool closing = false;     // the application closed it, or its peer did
    bool reset = false;       // the filter engine aborts it
    bool expired = false;     // a decision came too late

    bool is_tcp() const { return identity.protocol == kProtocolTcp; }
    bool peer_is_here() const { return identity.loopback || redirection.active; }
    uint32_t policy() const { return resources->policy(identity.direction, identity.local.family); }

    // An established connection still sends its payload after the application has closed it, unless it is aborted.
    bool Lingers(const Job &job) const
    {
        return established && !reset && (job.kind == JobKind::kBytes || job.kind == JobKind::kControl);
    }

    // Indicates ALE_FLOW_ESTABLISHED, once. A packet that belongs to no conversation has no flow.
    void Announce();

    // Ends the way of the job's packet.
    void End(Job &job, OutcomeKind kind);

    // The authorization refuses the job's packet. A packet that is always offered still goes to the IP packet layer.
    void Refuse(Job &job, OutcomeKind kind);

    // ALE makes a new flow of the conversation: this packet is its first one.
    void Begin(Direction direction, const IpPacketInfo &info);

    // Forgets the conversation, for the reuse of the flow.
    void Reset();
};

// The outcome of a classify that blocked.
inline OutcomeKind OutcomeOf(const wfp::ClassifyResult &block)
{
    return block.absorbed ? OutcomeKind::kDropped : OutcomeKind::kBlocked;
}

} // namespace sim::net

// The way of one packet through the layers.
// The job keeps the packet's state, so that a trip that waits for a decision goes on where it stopped.
//
// Concurrency: belongs to the thread that works on the flow.
#pragma once

#include "net/authorization.h"
#include "net/flow_context.h"
#include "net/pending_decision.h"

namespace sim::net
{

class Trip
{
  public:
    Trip(FlowContext &flow, Authorization &authorization, PendingDecision &decision)
        : flow_(flow), authorization_(authorization), decision_(decision)
    {
    }

    // Puts a packet at its first stage. nullptr: there was no memory for it, and the trip is over.
    void Start(Job &job, PacketPtr packet);

    // Goes on with the packet whose authorization came before it was made.
    void Supply(Job &job, PacketPtr packet);

    // Takes the packet as far as it comes. Returns false if a decision is awaited, true if the trip is over.
    bool Advance(Job &job);

  private:
    bool Step(Job &job);
    bool Authorize(Job &job);
    bool Datagram(Job &job);
    bool IpPacket(Job &job);
    bool Reassembly(Job &job);
    bool LoopedSend(Job &job);
    void Arrive(Job &job);
    void Leave(Job &job);
    void SendOn(Job &job, bool redirected);
    void Join(Job &job);
    template <typename Permitted> bool GoOn(Job &job, const wfp::ClassifyResult &result, const Permitted &permitted);
    bool IsFromTarget(const Job &job);
    void ComeFromTarget(Packet &packet) const;

    FlowContext &flow_;
    Authorization &authorization_;
    PendingDecision &decision_;
};

} // namespace sim::net

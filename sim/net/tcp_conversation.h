// A TCP connection that the stack itself plays: handshake, payload, end.
// It also plays the remote end, unless that is another flow of this machine.
//
// Concurrency: belongs to the thread that works on the flow.
#pragma once

#include "net/flow_context.h"
#include "net/hold.h"
#include "net/job.h"

#include <cstdint>
#include <initializer_list>

namespace sim::net
{

class TcpConversation
{
  public:
    // The segments that it has to send become jobs at the head of `jobs`.
    TcpConversation(FlowContext &flow, HoldOwner &owner, JobQueue &jobs) : flow_(flow), owner_(owner), jobs_(jobs) {}

    TcpConversation(const TcpConversation &) = delete;
    TcpConversation &operator=(const TcpConversation &) = delete;

    void SetSequences(uint32_t local, uint32_t remote);

    // A segment without payload. It may begin unless the connection has failed.
    bool BeginControl(const Job &job);
    PacketPtr MakeControl(const Job &job) const;
    void ControlDone(const Job &job);

    // Payload waits for the end of the handshake with a peer on this machine.
    bool MustWait() const { return !flow_.established && flow_.peer_is_here() && !failed_; }
    void Postpone(Job *job) { until_established_.Append(job); }

    // The next segment of a kBytes job, and whether one more is left after it has passed.
    PacketPtr MakeSegmentOf(Job &job) const;
    bool SegmentDone(Job &job);

    // An inbound packet of a kBytes or kPacket job arrived.
    void Received(Job &job);

    // A segment that begins or ends a connection is not sent again: without it there is no connection.
    // The connection of a packet source has come up with its first segment after the handshake.
    void PacketDone(const Job &job);

    // The application closes the flow. Queues the FINs of an established connection, and the flow's end.
    void Close();

    // The filter engine aborts the flow. Queues the RST and the flow's end before all other jobs.
    // The RST goes to the IP packet layer without an authorization. A packet source sends none.
    void ResetByEngine();

    // The flow has ended. Postponed jobs go back to the queue.
    void End();

    // The flow has ended, and with it the other flow of a loopback connection.
    void FinishPeer() const;

    bool IsPeerHold(const Hold *hold) const { return hold == peer_hold_; }
    void OnPeerTimeout();

    void Reset() { failed_ = false; }

  private:
    struct Control
    {
        Direction direction;
        uint8_t flags;
    };

    PacketPtr MakeSegment(Direction direction, uint8_t flags, const uint8_t *payload, size_t length) const;
    void OutboundControlDone(uint8_t flags);
    void InboundControlDone(uint8_t flags);
    void SegmentArrived(Packet &packet);
    void RemoteFinished();
    void AwaitPeer();
    void StopAwaitingPeer();
    void Establish();
    void Fail();
    void QueueControls(std::initializer_list<Control> controls);
    void QueueFinish();

    FlowContext &flow_;
    HoldOwner &owner_;
    JobQueue &jobs_;
    JobQueue until_established_;
    Hold *peer_hold_ = nullptr; // while the other end on this machine has not answered the handshake
    uint32_t local_sequence_ = 0;
    uint32_t remote_sequence_ = 0;
    bool failed_ = false;
};

} // namespace sim::net

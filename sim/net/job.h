// The next step of a flow. Usually it takes one packet through the layers.
//
// Concurrency: a job belongs to the thread that works on its flow.
#pragma once

#include "net/packet.h"
#include "net/types.h"

#include <cstdint>
#include <vector>

namespace sim::net
{

enum class JobKind : uint8_t
{
    kAuthorize,    // the authorization alone, without a packet
    kControl,      // a TCP segment without payload, sent by this end or by the remote one
    kBytes,        // payload of a TCP connection
    kMessage,      // one UDP datagram, echo or raw IP payload
    kPacket,       // a packet that exists already
    kDatagram,     // a datagram whose packets are fragments: DATAGRAM_DATA alone, if the flow is authorized
    kClose,        // decides how the flow ends
    kReset,        // the filter engine aborts the connection
    kPeerFinished, // the other end of a loopback connection is gone
    kFinish        // the end
};

// Where a packet is on its way.
// Outbound: authorize, datagram, IP packet. Inbound: IP packet, authorize, datagram, arrived.
// An inbound fragment ends after kFragment. The fragment that completes a datagram goes on as the datagram.
enum class Stage : uint8_t
{
    kNone, // the job has not begun
    kAuthorize,
    kDatagram,
    kIpPacket,
    kFragment,    // a fragment at the IP packet layer for the second time
    kReassembled, // the datagram at the IP packet layer
    kLoopedSend,  // an inbound loopback packet that is sent first, or once more
    kArrived,
    kDone
};

struct JobState
{
    JobKind kind = JobKind::kPacket;
    Direction direction = Direction::kOutbound;
    Stage stage = Stage::kNone;
    Stage first = Stage::kNone; // where the packet begins; kNone: at the first stage of its direction
    bool authorize = false;     // may begin the flow
    bool offer_always = false;  // goes to the IP packet layer even when the flow is refused
    bool dispatch = false;      // goes on to the socket that it is for
    bool forward = false;       // goes on to another computer
    bool stray = false;         // not sent by the packet source whose conversation it came to
    uint8_t tcp_flags = 0;      // of kControl, and of a TCP packet that exists already

    // State of the packet that is on its way.
    bool retried = false;  // the policy was asked a second time
    bool offered = false;  // the IP packet layer has seen it
    bool refused = false;  // by the authorization; a permit of the IP packet layer does not change that
    bool withheld = false; // refused, and the IP packet layer permitted it
    bool arrived = false;  // inbound, and let in
    bool counted = false;  // its payload, at DATAGRAM_DATA
    OutcomeKind refusal = OutcomeKind::kPermitted;
    OutcomeKind result = OutcomeKind::kPermitted;
    Endpoint source; // as the packet was made, before the driver changed it
    Endpoint destination;
    Endpoint redirected_to;

    size_t position = 0; // in bytes
    size_t segment = 0;  // bytes that are on their way
};

struct Job : JobState
{
    PacketPtr packet;
    std::vector<uint8_t> bytes;
    OutcomeCallback done;

    Job *next = nullptr; // in a JobQueue
    Job *next_free = nullptr;

    bool passed() const { return result == OutcomeKind::kPermitted || result == OutcomeKind::kRedirected; }

    // Makes it a new job that keeps its memory.
    void Reset();
};

// Does not own its jobs.
class JobQueue
{
  public:
    bool empty() const { return first_ == nullptr; }
    void Append(Job *job);
    Job *Pop(); // nullptr where it is empty
    void Take(JobQueue *other);

  private:
    Job *first_ = nullptr;
    Job *last_ = nullptr;
};

} // namespace sim::net

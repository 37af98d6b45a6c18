// What a flow has to do next: usually to take a packet through the layers.
//
// Concurrency: a job belongs to the thread that works on its flow.
#pragma once

#include "net/packet.h"
#include "net/stack.h"

#include <cstdint>
#include <vector>

namespace sim::net
{

enum class JobKind : uint8_t
{
    kAuthorize,    // the authorization alone, without a packet
    kControl,      // a TCP segment without payload, of this end or of the remote one
    kBytes,        // payload of a TCP connection
    kMessage,      // one UDP datagram, echo or raw IP payload
    kPacket,       // a packet that is there
    kClose,        // decides how the flow ends
    kPeerFinished, // the other end of a loopback connection is gone
    kFinish        // the end
};

// Where a packet is on its way. Outbound: authorize, datagram, IP packet; inbound: IP packet, authorize, datagram,
// arrived. An inbound fragment's way ends after kFragment, but that of the one that completes its datagram goes on as
// the datagram.
enum class Stage : uint8_t
{
    kNone, // the job has not begun
    kAuthorize,
    kDatagram,
    kIpPacket,
    kFragment,    // at the IP packet layer again
    kReassembled, // and again
    kLoopedSend,  // an inbound loopback packet that is sent first, or once more
    kArrived,
    kDone
};

struct JobState
{
    JobKind kind = JobKind::kPacket;
    Direction direction = Direction::kOutbound;
    Stage stage = Stage::kNone;
    Stage first = Stage::kNone; // where the packet begins; kNone: at the beginning
    bool authorize = false;     // may begin the flow
    bool offer_always = false;  // goes to the IP packet layer even when the flow is refused
    bool dispatch = false;      // goes on to whatever socket it is for
    bool stray = false;         // from elsewhere than the packet source whose conversation it came to
    uint8_t tcp_flags = 0;      // of kControl, and of a TCP packet that is there

    // Of the packet that is on its way.
    bool retried = false;  // the policy was asked once more
    bool offered = false;  // was given to the IP packet layer
    bool refused = false;  // by the authorization: what the IP packet layer says does not help it
    bool withheld = false; // the IP packet layer would have let it through
    OutcomeKind refusal = OutcomeKind::kPermitted;
    OutcomeKind result = OutcomeKind::kPermitted;
    Endpoint source; // of the packet, as the next, before anyone changed it
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

    Job *next = nullptr; // in a flow's queue
    Job *next_free = nullptr;

    // As new, but for memory that it keeps.
    void Reset();
};

} // namespace sim::net

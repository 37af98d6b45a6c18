// What a flow has to do next: usually to take a packet through the layers.
//
// Concurrency: a job belongs to the thread that works on its flow.
#pragma once

#include "net/packet.h"
#include "net/stack.h"

#include <cstdint>
#include <vector>

namespace sim::net {

enum class JobKind : uint8_t
{
    kAuthorize, // the authorization alone, without a packet
    kControl, // a TCP segment without payload, of this end or of the remote one
    kBytes, // payload of a TCP connection
    kMessage, // one UDP datagram, echo or raw IP payload
    kPacket, // a packet that is there
    kClose, // decides how the flow ends
    kFinish // the end
};

// Where a packet is on its way. Outbound: authorize, datagram, IP packet; inbound: IP packet, authorize, datagram, arrived.
enum class Stage : uint8_t
{
    kNone, // the job has not begun
    kAuthorize,
    kDatagram,
    kIpPacket,
    kLoopedSend, // an inbound loopback packet that came back by the send path
    kArrived,
    kDone
};

struct Job
{
    JobKind kind = JobKind::kPacket;
    Direction direction = Direction::kOutbound;
    Stage stage = Stage::kNone;
    Stage first = Stage::kNone; // where the packet begins; kNone: at the beginning
    bool authorize = false; // may begin the flow
    bool offer_always = false; // goes to the IP packet layer even when the flow is refused
    bool retried = false;
    bool offered = false; // was given to the IP packet layer
    bool dispatch = false; // goes on to whatever socket it is for
    uint8_t tcp_flags = 0; // kControl

    // What became of the packet that is on its way, and of the job.
    OutcomeKind result = OutcomeKind::kPermitted;
    bool refused = false; // by the authorization: what the IP packet layer says does not help it
    OutcomeKind refusal = OutcomeKind::kPermitted;
    bool withheld = false; // the IP packet layer would have let it through
    Endpoint redirected_to;
    Endpoint destination; // of the packet before anyone changed it

    PacketPtr packet;
    std::vector<uint8_t> bytes;
    size_t position = 0; // in bytes
    size_t segment = 0; // bytes that are on their way
    OutcomeCallback done;

    Job *next = nullptr; // in a flow's queue
    Job *next_free = nullptr;

    void Reset();
};

} // namespace sim::net

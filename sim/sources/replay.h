// Replays a packet capture of one host through the network stack.
// Every frame is offered to the layers in Windows' order. Every conversation lives from its bind to its release.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/types.h"
#include "sources/local_hosts.h"

namespace sim
{
class Machine;
}

namespace sim::sources
{

struct ReplayOptions
{
    std::string path;
    std::vector<Prefix> local; // empty: inferred from the capture
    double speed = 0;          // 1: as captured, 2: twice as fast; 0: as fast as possible
    std::string write_out;     // path of a WireCapture of the replay; empty: none
};

struct ReplayProgress
{
    uint64_t frames = 0;
    uint64_t bytes = 0; // of the file
    uint64_t total_bytes = 0;
};

struct ReplaySummary
{
    uint64_t frames = 0;
    uint64_t bytes = 0;            // captured bytes of those frames
    uint64_t ip_packets = 0;       // offered to the packet layers
    uint64_t fragments = 0;        // IP packets that are fragments
    uint64_t non_ip_frames = 0;    // ARP and others
    uint64_t foreign_frames = 0;   // between two other hosts
    uint64_t malformed_frames = 0; // too short or inconsistent to be offered

    uint64_t tcp_conversations = 0;
    uint64_t udp_conversations = 0;
    uint64_t other_packets = 0; // neither TCP nor UDP

    uint64_t tcp_sent[2] = {}; // payload bytes indicated at the stream layer: IPv4, IPv6
    uint64_t tcp_received[2] = {};
    uint64_t udp_sent[2] = {}; // payload bytes indicated at the datagram layer: IPv4, IPv6
    uint64_t udp_received[2] = {};
    uint64_t stream_gaps = 0; // places where the capture lacks stream bytes
    uint64_t stream_gap_bytes = 0;

    uint64_t conversations_permitted = 0; // TCP and UDP, by their authorization
    uint64_t conversations_blocked = 0;
    uint64_t conversations_dropped = 0;
    uint64_t conversations_pending = 0; // not decided at the end, or timed out
    uint64_t conversations_redirected = 0;

    uint64_t packets_permitted = 0; // IP packets, by the decision of the packet layers
    uint64_t packets_blocked = 0;
    uint64_t packets_dropped = 0;
    uint64_t packets_pending = 0;
    uint64_t packets_redirected = 0;
    uint64_t packets_withheld = 0; // the packet layers permitted them, but their conversation was not authorized

    std::vector<net::Endpoint> local_addresses; // local addresses that occurred, given or inferred, with port 0
    bool local_inferred = false;
    bool stopped = false;
    std::string warning; // names the place where the file breaks off; empty: it does not
};

using ReplayProgressCallback = std::function<void(const ReplayProgress &)>;

class Replay
{
  public:
    Replay(Machine &machine, ReplayOptions options);
    ~Replay();

    Replay(const Replay &) = delete;
    Replay &operator=(const Replay &) = delete;

    // Runs once, on the calling thread. Returns when every packet has its outcome.
    // Throws PcapError if the capture cannot be read, std::runtime_error if `write_out` cannot be written.
    // `progress` runs about ten times a second at most, and once at the end.
    void Run(const ReplayProgressCallback &progress);

    void Stop(); // any thread may call it: Run() ends the live flows and returns

    ReplaySummary summary() const; // after Run()

  private:
    class Session;
    std::unique_ptr<Session> session_;
};

} // namespace sim::sources

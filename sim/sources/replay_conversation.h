// A conversation of a capture: feeds the stream layer, and counts what became of its packets.
//
// Concurrency: all threads share the counters. The rest belongs to the thread that works on the conversation's flow.
#pragma once

#include "net/core.h"
#include "sources/stream_assembly.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_set>

namespace sim::sources
{

// The counters of all conversations of a replay.
struct ReplayCounts
{
    std::atomic<uint64_t> tcp_sent[2]{}; // IPv4, IPv6
    std::atomic<uint64_t> tcp_received[2]{};
    std::atomic<uint64_t> udp_sent[2]{};
    std::atomic<uint64_t> udp_received[2]{};
    std::atomic<uint64_t> gaps{0};
    std::atomic<uint64_t> gap_bytes{0};
    std::atomic<uint64_t> conversations[5]{}; // by OutcomeKind
    std::atomic<uint64_t> packets[5]{};       // by OutcomeKind
    std::atomic<uint64_t> packets_withheld{0};

    std::atomic<uint64_t> outstanding_packets{0};
    std::atomic<uint64_t> open_flows{0};
    std::atomic<bool> awaited{false}; // a thread waits for outstanding_packets or open_flows
    std::function<void()> wake;

    void Wake() const;
};

class ReplayConversation final : public net::Conversation
{
  public:
    ReplayConversation(net::Core &core, std::shared_ptr<ReplayCounts> counts, uint8_t family, bool counted)
        : core_(core), counts_(std::move(counts)), family_index_(family == net::kIpv6 ? 1 : 0), counted_(counted)
    {
    }

    // Call it before the first packet. A looped packet that has left comes in by this flow.
    void SetFarEnd(net::FlowRef far_end) { far_end_ = std::move(far_end); }

    void Authorized(net::OutcomeKind kind) override;
    void Leaving(const net::FlowIdentity &flow, net::Packet &packet) override;
    void Arrived(const net::FlowIdentity &flow, net::Packet &packet) override;
    void Ended(const net::FlowIdentity &flow, const net::PacketResult &result) override;
    void LoopedBack(net::PacketPtr packet) override;
    void Redirected(const net::FlowIdentity &flow, net::PacketPtr packet) override;
    bool AnswersRedirected(const net::FlowIdentity &flow, const net::Packet &packet) override;
    void DatagramIndicated(net::Direction direction, uint32_t payload) override;
    void Closing(const net::FlowIdentity &flow) override;

  private:
    void Segment(const net::FlowIdentity &flow, net::Direction direction, net::Packet &packet);
    void Indicate(const net::FlowIdentity &flow, net::Direction direction, const uint8_t *bytes, size_t length,
                  net::Packet *packet);

    net::Core &core_;
    const std::shared_ptr<ReplayCounts> counts_;
    const size_t family_index_;
    const bool counted_; // it counts as a conversation of TCP or UDP
    bool redirected_ = false;
    bool far_begun_ = false;
    bool disconnected_[2] = {};
    net::OutcomeKind kind_ = net::OutcomeKind::kPendingTimeout;
    StreamAssembly streams_[2]; // by direction
    net::FlowRef far_end_;
    std::unordered_set<uint16_t> redirected_queries_; // ids of DNS queries over UDP
};

} // namespace sim::sources

// What all flows of a stack share: tables, pools, counters, the way out to the wire and in to the sockets; and the
// stack's side of the filter engine. Packet sources build on it.
//
// Concurrency: everything may be called from any thread whose current machine is the stack's.
#pragma once

#include "net/deadlines.h"
#include "net/flow.h"
#include "net/flow_table.h"
#include "net/packet.h"
#include "net/reassembly.h"
#include "net/socket.h"
#include "net/stack.h"

#include "wfp/engine.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace sim::net
{

// Counts as PacketCounters does.
struct DirectionCounts
{
    std::atomic<uint64_t> offered{0};
    std::atomic<uint64_t> permitted{0};
    std::atomic<uint64_t> blocked{0};
    std::atomic<uint64_t> dropped{0};
    std::atomic<uint64_t> held_now{0};
    std::atomic<uint64_t> held_total{0};
    std::atomic<uint64_t> injected{0};
    std::atomic<uint64_t> stream_bytes{0};
    std::atomic<uint64_t> datagram_bytes{0};
};

inline void Count(std::atomic<uint64_t> *counter, uint64_t number = 1)
{
    counter->fetch_add(number, std::memory_order_relaxed);
}

// Called on any thread, and a last time after it has been taken away.
using WireObserver = std::function<void(Direction, const Packet &)>;

struct FlowOptions
{
    Direction direction = Direction::kOutbound;
    uint8_t protocol = 0;
    bool loopback = false;
    bool raw = false;      // IP packet layers only
    bool accepted = false; // by a socket, without an application's call
    Endpoint local;
    Endpoint remote;
    SocketRef socket; // none: the process is not known
    std::shared_ptr<Conversation> conversation;
};

class Core final : public std::enable_shared_from_this<Core>, public wfp::InjectionTarget, public wfp::Reauthorizer
{
  public:
    explicit Core(Machine &machine);
    ~Core() override;

    Core(const Core &) = delete;
    Core &operator=(const Core &) = delete;

    void Start();
    void End(); // flows are forgotten
    bool ended() const { return ended_.load(std::memory_order_relaxed); }

    Machine &machine() { return machine_; }
    wfp::Engine &engine() { return engine_; }
    FlowTable &flows() { return flows_; }
    SocketTable &sockets() { return sockets_; }
    Deadlines &deadlines() { return deadlines_; }
    DirectionCounts &counts(Direction direction) { return counts_[static_cast<size_t>(direction)]; }
    std::atomic<uint64_t> &pending_timeouts() { return pending_timeouts_; }
    std::atomic<uint64_t> &wrong_checksums() { return wrong_checksums_; }
    StackCounters counters() const;

    // Endpoint handles.
    uint64_t NewHandle() { return last_handle_.fetch_add(kHandleStep, std::memory_order_relaxed) + kHandleStep; }

    // Changes with every change of policy at the layer that authorizes conversations of this direction.
    uint32_t policy(Direction direction, uint8_t family) const
    {
        return policies_[PolicyIndex(direction, family)].load(std::memory_order_acquire);
    }

    void PolicyChanged();

    // A shared socket of this endpoint, which is found or made; nothing where its bind is blocked. `own`: not another
    // process's.
    SocketRef OpenSharedSocket(const FlowSpec &owner, uint8_t protocol, const Endpoint &local, bool own = false);
    // One of its own.
    SocketRef OpenSocket(const FlowSpec &owner, const Endpoint &local);

    // Open until it is closed; the reference is the caller's. Nothing where there are too many.
    FlowRef OpenFlow(FlowOptions options);
    // A flow for what belongs to none. It is gone when its last job has ended.
    FlowRef LooseFlow(Direction direction, const IpPacketInfo &info);

    Job *NewJob();
    void Recycle(Job *job);
    PacketPtr NewPacket(size_t length) { return packets_.Get(length); }
    PacketPtr CopyPacket(const uint8_t *bytes, size_t length);

    uint16_t NextPort();
    static Endpoint DefaultLocal(uint8_t family, bool loopback);

    // Shows the observer every packet that is let through, as it leaves or arrives: fragments, not what they make. One
    // of Packet::loopback stays on this machine. An empty callback ends it.
    void ObserveWire(const void *observer, WireObserver callback);
    void TellWire(Direction direction, const Packet &packet);

    // A packet that left for this machine itself.
    void LoopBack(PacketPtr packet);
    // From the wire, through INBOUND_IPPACKET, to the socket that it is for.
    void Arrive(PacketPtr packet, OutcomeCallback done);
    // The same after INBOUND_IPPACKET.
    void ToSocket(PacketPtr packet, OutcomeCallback done);
    // The datagram that the fragment completes, or nothing.
    PacketPtr Reassemble(const Packet &fragment);
    // A packet source's datagram after INBOUND_IPPACKET, to its conversation that it is of. False: there is none, and
    // it is still there.
    bool ToConversation(PacketPtr *packet);
    // A packet of the driver's that stands for none of the stack's, or for one that it has given up.
    void InjectLoose(wfp::Injection::Kind kind, PacketPtr packet);

    // An application's hold on a shared socket. What a UDP socket accepted by itself ends with the last one.
    void AddOwner(Socket *socket);
    void RemoveOwner(Socket *socket);

    // A hold without a conversation. With the last one of a TCP listener it is closed, whatever it has accepted.
    uint64_t AddListener(SocketRef socket);
    void CloseListener(uint64_t listener);

    NTSTATUS Deliver(const wfp::Injection &injection) override;
    void FiltersChanged(uint16_t layer) override;

  private:
    static constexpr uint64_t kHandleStep = 16;
    static constexpr size_t kJobsKept = 4096; // in each shard

    static size_t PolicyIndex(Direction direction, uint8_t family)
    {
        return (direction == Direction::kInbound ? 2 : 0) + (family == kIpv6 ? 1 : 0);
    }

    NTSTATUS DeliverBuffer(const wfp::Injection &injection, NET_BUFFER *net_buffer);
    PacketPtr CopyInjected(const wfp::Injection &injection, NET_BUFFER *net_buffer, Hold *hold);
    FlowRef AcceptFlow(const Tuple &tuple, const IpPacketInfo &info, bool loopback);
    void Refuse(const Packet &packet);
    Job *JobOfArrived(const Flow &flow, PacketPtr packet, Stage first);
    void SubmitArrived(Flow *flow, PacketPtr packet, Stage first, OutcomeCallback done);

    Machine &machine_;
    wfp::Engine &engine_;
    PacketPool packets_;
    SocketTable sockets_;
    FlowTable flows_{*this};
    Reassembly reassembly_;
    FreeList<Job> jobs_{kJobsKept};
    Deadlines deadlines_;
    std::atomic<bool> ended_{false};

    DirectionCounts counts_[2];
    std::atomic<uint64_t> pending_timeouts_{0};
    std::atomic<uint64_t> wrong_checksums_{0};
    std::atomic<uint32_t> policies_[4]{};
    std::atomic<uint64_t> last_handle_{0x1000};
    std::atomic<uint32_t> last_port_{0};

    using WireObservers = std::unordered_map<const void *, WireObserver>;

    std::atomic<bool> is_observed_{false};
    std::mutex wire_mutex_;
    std::shared_ptr<const WireObservers> wire_observers_;

    std::mutex listeners_mutex_;
    std::unordered_map<uint64_t, SocketRef> listeners_;
    uint64_t last_listener_ = 0;
};

} // namespace sim::net

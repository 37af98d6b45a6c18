// What all flows of a stack share.
// That is the filter engine, pools, sockets, counters, deadlines and the observers of the wire.
//
// Concurrency: any thread may call it while the thread's current machine is the stack's.
#pragma once

#include "net/deadlines.h"
#include "net/free_list.h"
#include "net/group_traffic.h"
#include "net/job.h"
#include "net/packet.h"
#include "net/reassembly.h"
#include "net/socket.h"
#include "net/types.h"

#include "wfp/engine.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace sim::net
{

// The same counters as PacketCounters.
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

// Runs on any thread. One last call may come after the observer was removed.
using WireObserver = std::function<void(Direction, const Packet &)>;

class Resources : public std::enable_shared_from_this<Resources>
{
  public:
    explicit Resources(Machine &machine);

    Resources(const Resources &) = delete;
    Resources &operator=(const Resources &) = delete;

    Machine &machine() { return machine_; }
    wfp::Engine &engine() { return engine_; }
    SocketTable &sockets() { return sockets_; }
    Deadlines &deadlines() { return *deadlines_; }
    GroupTraffic &groups() { return groups_; }
    uint64_t now() const; // ticks of unbiased time
    bool ended() const { return ended_.load(std::memory_order_relaxed); }

    DirectionCounts &counts(Direction direction) { return counts_[static_cast<size_t>(direction)]; }
    // IPsec accepts every inbound AH packet, and every ESP packet without encryption, in transport mode.
    void AcceptSecured() { accepts_secured_.store(true, std::memory_order_relaxed); }
    bool accepts_secured() const { return accepts_secured_.load(std::memory_order_relaxed); }

    std::atomic<uint64_t> &pending_timeouts() { return pending_timeouts_; }
    std::atomic<uint64_t> &wrong_checksums() { return wrong_checksums_; }

    // A new endpoint handle.
    uint64_t NewHandle() { return last_handle_.fetch_add(kHandleStep, std::memory_order_relaxed) + kHandleStep; }

    // A number that changes with every change of policy at the layer that authorizes conversations of this direction.
    uint32_t policy(Direction direction, uint8_t family) const
    {
        return policies_[PolicyIndex(direction, family)].load(std::memory_order_acquire);
    }

    // Changes the number for every layer.
    void PolicyChanged();

    Job *NewJob();
    void Recycle(Job *job);
    PacketPtr NewPacket(size_t length) { return packets_.Get(length); }
    PacketPtr CopyPacket(const uint8_t *bytes, size_t length);

    // Returns the datagram that the fragment completes, or nullptr.
    PacketPtr Reassemble(const Packet &fragment);

    // The observer gets every packet that passes, as it leaves or arrives. An empty callback removes it.
    // It gets the fragments of a datagram that passes, not the datagram that they make.
    // Packet::loopback marks a packet that stays on this machine.
    void ObserveWire(const void *observer, WireObserver callback);
    void NotifyWire(Direction direction, const Packet &packet);

  protected:
    ~Resources() = default;

    void PolicyChanged(Direction direction, uint8_t family);
    void End();      // nothing expires from here on
    void FreeJobs(); // when no flow has a job left

  private:
    static constexpr uint64_t kHandleStep = 16;
    static constexpr size_t kJobsKept = 4096; // in each shard

    static size_t PolicyIndex(Direction direction, uint8_t family)
    {
        return (direction == Direction::kInbound ? 2 : 0) + (family == kIpv6 ? 1 : 0);
    }

    Machine &machine_;
    wfp::Engine &engine_;
    PacketPool packets_;
    Reassembly reassembly_;
    GroupTraffic groups_;
    FreeList<Job> jobs_{kJobsKept};
    const std::shared_ptr<Deadlines> deadlines_;
    std::atomic<bool> ended_{false};
    SocketTable sockets_{engine_, ended_};

    DirectionCounts counts_[2];
    std::atomic<bool> accepts_secured_{false};
    std::atomic<uint64_t> pending_timeouts_{0};
    std::atomic<uint64_t> wrong_checksums_{0};
    std::atomic<uint32_t> policies_[4]{};
    std::atomic<uint64_t> last_handle_{0x1000};

    using WireObservers = std::unordered_map<const void *, WireObserver>;

    std::atomic<bool> is_observed_{false};
    std::mutex wire_mutex_;
    std::shared_ptr<const WireObservers> wire_observers_;
};

} // namespace sim::net

// The network stack behind its public face.
// It opens flows, leads packets to flows and sockets, and is the stack's side of the filter engine.
// Packet sources build on it.
//
// Concurrency: any thread may call it while the thread's current machine is the stack's.
#pragma once

#include "net/flow.h"
#include "net/flow_table.h"
#include "net/resources.h"
#include "net/socket.h"
#include "net/types.h"

#include "wfp/engine.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace sim::net
{

class Core final : public Resources,
                   public FlowHost,
                   public wfp::InjectionTarget,
                   public wfp::Reauthorizer,
                   public wfp::FlowOwner
{
  public:
    explicit Core(Machine &machine) : Resources(machine) {}

    Core(const Core &) = delete;
    Core &operator=(const Core &) = delete;

    void Start();
    void End(); // forgets the flows

    FlowTable &flows() { return flows_; }
    StackCounters counters();

    // Finds or makes the shared socket of this endpoint. Returns nothing if its bind is blocked.
    // With `own`, a socket of another process does not serve.
    SocketRef OpenSharedSocket(const FlowSpec &owner, uint8_t protocol, const Endpoint &local, bool own = false);
    // Makes a socket for one flow alone.
    SocketRef OpenSocket(const FlowSpec &owner, const Endpoint &local);

    // The flow is open until it is closed. Returns nothing if there are too many flows.
    FlowRef OpenFlow(FlowOptions options);
    // A flow for a packet that belongs to no conversation. It ends with its last job.
    FlowRef LooseFlow(Direction direction, const IpPacketInfo &info, uint8_t link = kEthernetLink);

    uint16_t NextPort();
    static Endpoint DefaultLocal(uint8_t family, bool loopback);

    // A packet from the wire goes through INBOUND_IPPACKET to the socket that it is for.
    void Arrive(PacketPtr packet, OutcomeCallback done);

    // A packet for another computer comes in, and leaves again.
    void Route(PacketPtr packet, OutcomeCallback done);

    // An application's reference to a shared socket begins.
    void AddOwner(Socket *socket);

    // A listener is an application's reference to a socket on which it only listens.
    // A TCP socket closes with its last listener. The connections that it accepted stay.
    uint64_t AddListener(SocketRef socket);
    void CloseListener(uint64_t listener);

    void LoopBack(PacketPtr packet) override;
    void Forward(PacketPtr packet, OutcomeCallback done) override;
    void SendToOwnGroup(const Packet &packet) override;
    void ToSocket(PacketPtr packet, OutcomeCallback done) override;
    bool ToConversation(PacketPtr *packet) override;
    void InjectLoose(wfp::Injection::Kind kind, PacketPtr packet) override;
    void FinishPeer(const Tuple &tuple) override;
    void RemoveOwner(Socket *socket) override;
    void Unindex(Flow *flow) override { flows_.Unindex(flow); }
    void Recycle(Flow *flow) override { flows_.Recycle(flow); }
    using Resources::Recycle;

    NTSTATUS Deliver(const wfp::Injection &injection) override;
    void FiltersChanged(uint16_t layer) override;
    bool CanAbort(uint64_t flow_handle) override;
    void Abort(uint64_t flow_handle) override;

  private:
    static std::optional<uint8_t> LinkOfInjection(const wfp::Injection &injection);
    NTSTATUS DeliverBuffer(const wfp::Injection &injection, NET_BUFFER *net_buffer);
    PacketPtr CopyInjected(const wfp::Injection &injection, NET_BUFFER *net_buffer, Hold *hold);
    SocketRef AcceptingSocket(const Packet &packet);
    FlowRef AcceptFlow(const Tuple &tuple, const Packet &packet);
    void Refuse(const Packet &packet);
    void SendLoose(PacketPtr packet, bool loopback);
    Job *JobOfArrived(const Flow &flow, PacketPtr packet, Stage first);
    void SubmitArrived(Flow *flow, PacketPtr packet, Stage first, OutcomeCallback done);

    FlowTable flows_{*this, *this};
    std::atomic<uint32_t> last_port_{0};

    std::mutex listeners_mutex_;
    std::unordered_map<uint64_t, SocketRef> listeners_;
    uint64_t last_listener_ = 0;
};

} // namespace sim::net

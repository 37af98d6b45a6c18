// The network stack below the driver. It indicates at the filter engine's layers, one by one, and records what the
// driver injects.
#pragma once

#include "support/authorization.h"
#include "support/injected.h"
#include "support/observer.h"

#include <mutex>

namespace kext_test
{

class Network : public Classifier,
                public sim::wfp::InjectionTarget,
                public sim::wfp::Reauthorizer,
                public sim::wfp::FlowOwner
{
  public:
    explicit Network(sim::Machine &machine);
    ~Network() override;

    // The observer sees every packet that the driver injects at the network layer.
    void SetObserver(netverdict_test::Observer *observer) { observer_ = observer; }

    // ALE_AUTH_CONNECT. `packet`: a whole IP packet of the flow, or null where the layer shows none.
    Answer Connect(const Flow &flow, const ByteVector *packet = nullptr, const AleOptions &options = {})
    {
        return AuthorizeConnect(*this, flow, packet, options);
    }

    // ALE_AUTH_RECV_ACCEPT.
    Answer Accept(const Flow &flow, const ByteVector *packet, const AleOptions &options = {})
    {
        return AuthorizeAccept(*this, flow, packet, options);
    }

    // OUTBOUND_IPPACKET.
    Answer Outbound(const ByteVector &packet) { return Outbound(std::vector<PacketList>{{packet}}); }
    Answer Outbound(const std::vector<PacketList> &lists, size_t piece = 0);
    Answer OutboundLoopback(const ByteVector &packet);

    // `flags`: FWP_CONDITION_FLAG_....
    Answer OutboundChain(bool v6, NET_BUFFER_LIST *chain, uint32_t flags = 0);

    // INBOUND_IPPACKET. A fragment that is permitted is indicated again before it is reassembled.
    Answer Inbound(const ByteVector &packet, bool loopback = false)
    {
        return Inbound(std::vector<PacketList>{{packet}}, loopback);
    }
    Answer Inbound(const std::vector<PacketList> &lists, bool loopback = false, size_t piece = 0);

    // A packet to the broadcast address of a subnet.
    Answer InboundBroadcast(const ByteVector &packet);

    // A datagram that was reassembled from permitted fragments.
    Answer Reassembled(const ByteVector &packet);

    // `header`: bytes of IP header before the chain's data. `flags`: FWP_CONDITION_FLAG_....
    Answer InboundChain(bool v6, NET_BUFFER_LIST *chain, uint32_t header, uint32_t flags, uint8_t address_type = 1);

    // ALE_FLOW_ESTABLISHED. The network knows the flows with an odd handle, and can abort them.
    void Establish(const Flow &flow, uint64_t flow_handle = 77);

    // ALE_ENDPOINT_CLOSURE.
    void Close(const Flow &flow);

    // ALE_RESOURCE_RELEASE. A zero address is a wildcard bind. A process id of 0 is left out.
    // An endpoint handle of 0 is left out, too.
    void Release(uint8_t protocol, const Endpoint &local, uint64_t process_id = 0, uint64_t endpoint_handle = 0);

    // ALE_RESOURCE_ASSIGNMENT.
    void Bind(uint8_t protocol, const Endpoint &local, uint64_t process_id);

    // TCP payload at STREAM. `old`: the connection is older than the driver's filters.
    void Stream(const Flow &flow, bool inbound, size_t bytes, bool old = false);

    // UDP datagrams at DATAGRAM_DATA, in one chain. The layer shows them without the IP header; inbound, also without
    // the UDP header.
    void Datagrams(const Flow &flow, bool inbound, const std::vector<PacketList> &lists);

    // Runs deferred work. Returns the packets injected since the last call, in order.
    std::vector<Injected> TakeInjected();

    // Runs deferred work. Returns the layers reauthorized since the last call, one entry per call to the engine.
    std::vector<uint16_t> TakeReauthorized();

    // Runs deferred work. Returns the handles of the flows aborted since the last call, in order.
    std::vector<uint64_t> TakeAborted();

    NTSTATUS Deliver(const Injection &injection) override;
    void FiltersChanged(uint16_t layer) override;
    bool CanAbort(uint64_t flow_handle) override;
    void Abort(uint64_t flow_handle) override;

  private:
    void IndicateDatagrams(const Flow &flow, bool inbound, NET_BUFFER_LIST *chain);
    bool ClassifyInjected(const Injection &injection);
    bool ClassifySent(const Injection &injection);
    bool ClassifyReceived(NET_BUFFER_LIST *list);

    netverdict_test::Observer *observer_ = nullptr;
    std::mutex mutex_;
    std::vector<Injected> injected_;     // under mutex_
    std::vector<uint16_t> reauthorized_; // under mutex_
    std::vector<uint64_t> aborted_;      // under mutex_
};

} // namespace kext_test

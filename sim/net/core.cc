#include "net/core.h"

#include "machine.h"

#include <algorithm>
#include <utility>

namespace sim::net
{
namespace
{

constexpr uint16_t kFirstDynamicPort = 49152;
constexpr uint32_t kDynamicPorts = 65536 - kFirstDynamicPort;

PacketCounters Read(const DirectionCounts &counts)
{
    PacketCounters read;

    read.offered = counts.offered.load(std::memory_order_relaxed);
    read.permitted = counts.permitted.load(std::memory_order_relaxed);
    read.blocked = counts.blocked.load(std::memory_order_relaxed);
    read.dropped = counts.dropped.load(std::memory_order_relaxed);
    read.held_now = counts.held_now.load(std::memory_order_relaxed);
    read.held_total = counts.held_total.load(std::memory_order_relaxed);
    read.injected = counts.injected.load(std::memory_order_relaxed);
    return read;
}

} // namespace

void Core::Start()
{
    engine().SetInjectionTarget(this);
    engine().SetReauthorizer(this);
    engine().SetFlowOwner(this);
}

void Core::End()
{
    Resources::End();
    engine().SetInjectionTarget(nullptr);
    engine().SetReauthorizer(nullptr);
    engine().SetFlowOwner(nullptr);
    flows_.ForEach([](Flow &flow) { flow.Abandon(); });
    for (auto &listener : listeners_)
    {
        listener.second.Forget();
    }
    listeners_.clear();
    FreeJobs();
}

StackCounters Core::counters()
{
    StackCounters read;
    const DirectionCounts &sent = counts(Direction::kOutbound);
    const DirectionCounts &received = counts(Direction::kInbound);

    read.outbound = Read(sent);
    read.inbound = Read(received);
    read.flows_now = flows_.now();
    read.flows_total = flows_.total();
    read.stream_bytes_sent = sent.stream_bytes.load(std::memory_order_relaxed);
    read.stream_bytes_received = received.stream_bytes.load(std::memory_order_relaxed);
    read.datagram_bytes_sent = sent.datagram_bytes.load(std::memory_order_relaxed);
    read.datagram_bytes_received = received.datagram_bytes.load(std::memory_order_relaxed);
    read.pending_timeouts = pending_timeouts().load(std::memory_order_relaxed);
    read.wrong_checksums = wrong_checksums().load(std::memory_order_relaxed);
    return read;
}

void Core::FiltersChanged(uint16_t layer)
{
    for (const Direction direction : {Direction::kOutbound, Direction::kInbound})
    {
        for (const uint8_t family : {kIpv4, kIpv6})
        {
            if (AuthorizationLayer(direction, family) == layer)
            {
                PolicyChanged(direction, family);
            }
        }
    }
}

bool Core::CanAbort(uint64_t flow_handle)
{
    const FlowRef flow = flows_.Find(flow_handle);

    return flow && flow->identity().protocol == kProtocolTcp;
}

void Core::Abort(uint64_t flow_handle)
{
    const FlowRef flow = flows_.Find(flow_handle);

    if (flow)
    {
        flow->ResetConnection();
    }
}

SocketRef Core::OpenSharedSocket(const FlowSpec &owner, uint8_t protocol, const Endpoint &local, bool own)
{
    for (;;)
    {
        SocketRef found = sockets().Find(protocol, local, false, owner.process_id);

        if (found && (!own || found->identity().process_id == owner.process_id))
        {
            return found;
        }

        SocketRef made(new Socket(sockets(), NewHandle(), owner, protocol, local, true));

        if (sockets().Insert(made.get()))
        {
            return made->Bind() ? std::move(made) : SocketRef();
        }
    }
}

SocketRef Core::OpenSocket(const FlowSpec &owner, const Endpoint &local)
{
    SocketRef made(new Socket(sockets(), NewHandle(), owner, owner.protocol, local, false));

    return made->Bind() ? std::move(made) : SocketRef();
}

FlowRef Core::OpenFlow(FlowOptions options)
{
    Flow *flow = flows_.Allocate();

    if (flow == nullptr)
    {
        return FlowRef();
    }

    const bool indexed = !options.raw;

    if (options.socket && options.accepted)
    {
        options.socket->accepted_.fetch_add(1, std::memory_order_acq_rel);
    }
    else if (options.socket)
    {
        AddOwner(options.socket.get());
    }
    flow->Open(std::move(options));
    if (indexed)
    {
        flows_.Index(flow);
    }
    return FlowRef(flow);
}

FlowRef Core::LooseFlow(Direction direction, const IpPacketInfo &info, uint8_t link)
{
    FlowRef flow(flows_.Allocate());

    if (flow)
    {
        flow->OpenLoose(direction, info, link);
    }
    return flow;
}

uint16_t Core::NextPort()
{
    return static_cast<uint16_t>(kFirstDynamicPort +
                                 last_port_.fetch_add(1, std::memory_order_relaxed) % kDynamicPorts);
}

Endpoint Core::DefaultLocal(uint8_t family, bool loopback)
{
    Endpoint local;

    local.family = family;
    if (family == kIpv6)
    {
        local.address = loopback ? Address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
                                 : Address{0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    }
    else
    {
        local.address = loopback ? Address{127, 0, 0, 1} : Address{192, 168, 1, 2};
    }
    return local;
}

void Core::AddOwner(Socket *socket)
{
    socket->owners_.fetch_add(1, std::memory_order_relaxed);
}

void Core::RemoveOwner(Socket *socket)
{
    const bool last = socket->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1;

    // Accepted TCP connections live on without their listener.
    if (!last || socket->identity().protocol == kProtocolTcp || socket->accepted_.load(std::memory_order_acquire) == 0)
    {
        return;
    }
    flows_.ForEach(
        [socket](Flow &flow)
        {
            if (flow.UsesSocket(socket))
            {
                flow.Close();
            }
        });
}

uint64_t Core::AddListener(SocketRef socket)
{
    AddOwner(socket.get());
    socket->listeners_.fetch_add(1, std::memory_order_relaxed);

    const std::lock_guard<std::mutex> lock(listeners_mutex_);

    listeners_.emplace(++last_listener_, std::move(socket));
    return last_listener_;
}

void Core::CloseListener(uint64_t listener)
{
    SocketRef socket;

    {
        const std::lock_guard<std::mutex> lock(listeners_mutex_);
        const auto found = listeners_.find(listener);

        if (found == listeners_.end())
        {
            return;
        }
        socket = std::move(found->second);
        listeners_.erase(found);
    }
    RemoveOwner(socket.get());
    if (socket->listeners_.fetch_sub(1, std::memory_order_acq_rel) == 1 && socket->identity().protocol == kProtocolTcp)
    {
        sockets().Remove(socket.get());
        socket->Close();
    }
}

} // namespace sim::net

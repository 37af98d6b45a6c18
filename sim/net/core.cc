#include "net/core.h"

#include "net/indication.h"

#include "machine.h"

#include <algorithm>
#include <utility>

namespace sim::net
{
namespace
{

constexpr uint16_t kFirstDynamicPort = 49152;
constexpr uint32_t kDynamicPorts = 65536 - kFirstDynamicPort;

bool HasPorts(uint8_t protocol)
{
    return protocol == kProtocolTcp || protocol == kProtocolUdp;
}

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

Core::Core(Machine &machine) : machine_(machine), engine_(machine.wfp()), packets_(machine), deadlines_(machine) {}

Core::~Core() = default;

void Core::Start()
{
    engine_.SetInjectionTarget(this);
    engine_.SetReauthorizer(this);
}

void Core::End()
{
    ended_.store(true, std::memory_order_relaxed);
    engine_.SetInjectionTarget(nullptr);
    engine_.SetReauthorizer(nullptr);
    deadlines_.End();
    flows_.ForEach([](Flow &flow) { flow.Abandon(); });
    for (auto &listener : listeners_)
    {
        listener.second.Forget();
    }
    listeners_.clear();
    jobs_.Drain([](Job *job) { delete job; });
}

StackCounters Core::counters() const
{
    StackCounters counters;
    const DirectionCounts &sent = counts_[static_cast<size_t>(Direction::kOutbound)];
    const DirectionCounts &received = counts_[static_cast<size_t>(Direction::kInbound)];

    counters.outbound = Read(sent);
    counters.inbound = Read(received);
    counters.flows_now = flows_.now();
    counters.flows_total = flows_.total();
    counters.stream_bytes_sent = sent.stream_bytes.load(std::memory_order_relaxed);
    counters.stream_bytes_received = received.stream_bytes.load(std::memory_order_relaxed);
    counters.datagram_bytes_sent = sent.datagram_bytes.load(std::memory_order_relaxed);
    counters.datagram_bytes_received = received.datagram_bytes.load(std::memory_order_relaxed);
    counters.pending_timeouts = pending_timeouts_.load(std::memory_order_relaxed);
    counters.wrong_checksums = wrong_checksums_.load(std::memory_order_relaxed);
    return counters;
}

void Core::PolicyChanged()
{
    for (std::atomic<uint32_t> &policy : policies_)
    {
        policy.fetch_add(1, std::memory_order_release);
    }
}

void Core::FiltersChanged(uint16_t layer)
{
    for (const Direction direction : {Direction::kOutbound, Direction::kInbound})
    {
        for (const uint8_t family : {kIpv4, kIpv6})
        {
            if (AuthorizationLayer(direction, family) == layer)
            {
                policies_[PolicyIndex(direction, family)].fetch_add(1, std::memory_order_release);
            }
        }
    }
}

SocketRef Core::OpenSharedSocket(const FlowSpec &owner, uint8_t protocol, const Endpoint &local, bool own)
{
    for (;;)
    {
        SocketRef found = sockets_.Find(protocol, local, false, owner.process_id);

        if (found && (!own || found->process_id() == owner.process_id))
        {
            return found;
        }

        SocketRef made(new Socket(*this, protocol, local, owner.process_id, owner.process_path, owner.loopback, true));

        if (sockets_.Insert(made.get()))
        {
            return made->Bind() ? std::move(made) : SocketRef();
        }
    }
}

SocketRef Core::OpenSocket(const FlowSpec &owner, const Endpoint &local)
{
    SocketRef made(
        new Socket(*this, owner.protocol, local, owner.process_id, owner.process_path, owner.loopback, false));

    return made->Bind() ? std::move(made) : SocketRef();
}

FlowRef Core::OpenFlow(FlowOptions options)
{
    Flow *flow = flows_.Allocate();

    if (flow == nullptr)
    {
        return FlowRef();
    }

    FlowIdentity &identity = flow->identity_;

    identity.protocol = options.protocol;
    identity.direction = options.direction;
    identity.loopback = options.loopback;
    identity.local = options.local;
    identity.remote = options.remote;
    identity.flow_handle = flow->id();
    identity.socket = options.socket.get();
    if (options.socket)
    {
        identity.endpoint_handle = options.socket->handle();
        if (options.direction == Direction::kInbound && options.protocol == kProtocolTcp)
        {
            identity.parent_handle = identity.endpoint_handle;
            identity.endpoint_handle = NewHandle();
        }
    }
    flow->accepted_ = options.accepted;
    if (options.socket && options.accepted)
    {
        options.socket->accepted_.fetch_add(1, std::memory_order_acq_rel);
    }
    else if (options.socket)
    {
        AddOwner(options.socket.get());
    }
    flow->socket_handle_.store(options.socket ? options.socket->handle() : 0, std::memory_order_relaxed);
    flow->socket_ = std::move(options.socket);
    flow->conversation_ = std::move(options.conversation);
    flow->raw_ = options.raw;
    flow->local_sequence_ = static_cast<uint32_t>(flow->id() * 2654435761u);
    flow->remote_sequence_ = ~flow->local_sequence_;
    flow->AddReference();
    flow->opened_ = true;
    if (HasPorts(options.protocol) && !options.raw)
    {
        flow->tuple_ = MakeTuple(options.protocol, options.local, options.remote);
        flows_.Index(flow);
    }
    return FlowRef(flow);
}

FlowRef Core::LooseFlow(Direction direction, const IpPacketInfo &info)
{
    Flow *flow = flows_.Allocate();

    if (flow == nullptr)
    {
        return FlowRef();
    }

    const bool outbound = direction == Direction::kOutbound;
    FlowIdentity &identity = flow->identity_;

    identity.protocol = info.protocol;
    identity.direction = direction;
    identity.local = outbound ? info.source_endpoint() : info.destination_endpoint();
    identity.remote = outbound ? info.destination_endpoint() : info.source_endpoint();
    identity.loopback = IsLoopback(info.family, info.destination) || info.source == info.destination;
    identity.flow_handle = flow->id();
    flow->raw_ = true;
    return FlowRef(flow);
}

Job *Core::NewJob()
{
    Job *job = jobs_.Get();

    return job == nullptr ? new Job : job;
}

void Core::Recycle(Job *job)
{
    job->Reset();
    if (!jobs_.Put(job))
    {
        delete job;
    }
}

PacketPtr Core::CopyPacket(const uint8_t *bytes, size_t length)
{
    PacketPtr packet = packets_.Get(length);

    if (packet != nullptr)
    {
        std::copy_n(bytes, length, packet->bytes());
        if (!packet->Parse())
        {
            return nullptr;
        }
    }
    return packet;
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

void Core::ObserveWire(const void *observer, WireObserver callback)
{
    const std::lock_guard<std::mutex> lock(wire_mutex_);
    auto observers = wire_observers_ == nullptr ? std::make_shared<WireObservers>()
                                                : std::make_shared<WireObservers>(*wire_observers_);

    observers->erase(observer);
    if (callback != nullptr)
    {
        observers->emplace(observer, std::move(callback));
    }
    is_observed_.store(!observers->empty(), std::memory_order_release);
    wire_observers_ = std::move(observers);
}

void Core::TellWire(Direction direction, const Packet &packet)
{
    if (packet.reassembled || !is_observed_.load(std::memory_order_acquire))
    {
        return;
    }

    std::shared_ptr<const WireObservers> observers;
    {
        const std::lock_guard<std::mutex> lock(wire_mutex_);
        observers = wire_observers_;
    }
    for (const auto &observer : *observers)
    {
        observer.second(direction, packet);
    }
}

void Core::AddOwner(Socket *socket)
{
    socket->owners_.fetch_add(1, std::memory_order_relaxed);
}

void Core::RemoveOwner(Socket *socket)
{
    const bool last = socket->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1;

    // Accepted TCP connections live on without their listener.
    if (!last || socket->protocol() != kProtocolUdp || socket->accepted_.load(std::memory_order_acquire) == 0)
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
    if (socket->listeners_.fetch_sub(1, std::memory_order_acq_rel) == 1 && socket->protocol() == kProtocolTcp)
    {
        sockets_.Remove(socket.get());
        socket->Close();
    }
}

} // namespace sim::net

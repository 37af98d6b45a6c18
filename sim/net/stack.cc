#include "net/stack.h"

#include "net/core.h"

#include <utility>

namespace sim::net
{
namespace
{

constexpr uint32_t kPortTries = 16384;

void Report(const OutcomeCallback &outcome, OutcomeKind kind)
{
    if (outcome != nullptr)
    {
        outcome({kind, {}});
    }
}

bool IsTaken(const FlowSpec &spec, Core &core)
{
    if (spec.protocol == kProtocolUdp)
    {
        return static_cast<bool>(core.sockets().Find(kProtocolUdp, spec.local, false));
    }
    return static_cast<bool>(core.flows().Find(MakeTuple(spec.protocol, spec.local, spec.remote)));
}

IcmpKind EchoRequest(uint8_t protocol)
{
    return {static_cast<uint8_t>(protocol == kProtocolIcmpV6 ? 128 : 8), 0};
}

// A flow of ICMP has its type and code in the place of the ports. Other protocols have no ports.
void SetPorts(FlowOptions *options, const FlowSpec &spec)
{
    const IcmpKind icmp = spec.icmp.value_or(EchoRequest(spec.protocol));

    if (HasPorts(spec.protocol))
    {
        return;
    }
    options->local.port = IsIcmp(spec.protocol) ? icmp.type : 0;
    options->remote.port = IsIcmp(spec.protocol) ? icmp.code : 0;
    if (IsIcmp(spec.protocol) && IsEcho(spec.protocol, icmp.type))
    {
        options->echo_identifier = spec.local.port;
        options->echo_sequence = spec.remote.port;
    }
}

// Fills in what the caller leaves zero.
FlowSpec Completed(const FlowSpec &spec, Core &core, Direction direction)
{
    FlowSpec completed = spec;

    completed.direction = direction;
    completed.local.family = spec.remote.family;
    completed.loopback = spec.loopback || IsLoopback(spec.remote.family, spec.remote.address);
    if (IsUnspecified(completed.local.family, spec.local.address))
    {
        completed.local.address = Core::DefaultLocal(spec.remote.family, completed.loopback).address;
    }
    completed.loopback = completed.loopback || completed.local.address == completed.remote.address;
    for (uint32_t tries = 0; completed.local.port == 0 && tries < kPortTries; ++tries)
    {
        completed.local.port = core.NextPort();
        if (IsTaken(completed, core))
        {
            completed.local.port = 0;
        }
    }
    return completed;
}

Job *FirstJob(Core &core, const FlowSpec &spec, OutcomeCallback outcome)
{
    Job *job = core.NewJob();

    job->direction = spec.direction;
    job->authorize = true;
    job->done = std::move(outcome);
    if (spec.protocol == kProtocolTcp)
    {
        job->kind = JobKind::kControl;
        job->tcp_flags = kTcpSyn;
    }
    else
    {
        job->kind = JobKind::kMessage;
        job->bytes.assign(spec.payload.begin(), spec.payload.end());
    }
    return job;
}

Job *PayloadJob(Core &core, uint8_t protocol, Direction direction, const uint8_t *bytes, size_t length,
                OutcomeCallback outcome)
{
    Job *job = core.NewJob();

    job->kind = protocol == kProtocolTcp ? JobKind::kBytes : JobKind::kMessage;
    job->direction = direction;
    job->bytes.assign(bytes, bytes + length);
    job->done = std::move(outcome);
    return job;
}

FlowId Begin(Core &core, const FlowSpec &spec, SocketRef socket, OutcomeCallback outcome)
{
    FlowOptions options;

    options.direction = spec.direction;
    options.protocol = spec.protocol;
    options.loopback = spec.loopback;
    options.local = spec.local;
    options.remote = spec.remote;
    SetPorts(&options, spec);
    options.raw = IsIcmp(spec.protocol) && IsIcmpError(spec.protocol, options.local.port);
    options.socket = std::move(socket);

    const bool bound = static_cast<bool>(options.socket);
    const FlowRef flow = core.OpenFlow(std::move(options));

    if (!flow)
    {
        Report(outcome, OutcomeKind::kBlocked);
        return 0;
    }

    const FlowId id = flow->id();

    if (!bound)
    {
        flow->Close();
        Report(outcome, OutcomeKind::kBlocked);
        return id;
    }
    flow->Submit(FirstJob(core, spec, std::move(outcome)));
    if (spec.protocol == kProtocolTcp && !spec.payload.empty())
    {
        flow->Submit(
            PayloadJob(core, spec.protocol, spec.direction, spec.payload.data(), spec.payload.size(), nullptr));
    }
    return id;
}

void Continue(Core &core, FlowId id, Direction direction, const uint8_t *bytes, size_t length, OutcomeCallback outcome)
{
    const FlowRef flow = core.flows().Find(id);

    if (!flow)
    {
        Report(outcome, OutcomeKind::kBlocked);
        return;
    }

    Job *job = PayloadJob(core, flow->identity().protocol, direction, bytes, length, std::move(outcome));

    job->authorize = direction == flow->opened();
    flow->Submit(job);
}

} // namespace

Stack::Stack(Machine &machine) : core_(std::make_shared<Core>(machine))
{
    core_->Start();
}

Stack::~Stack()
{
    End();
}

void Stack::End()
{
    if (!core_->ended())
    {
        core_->End();
    }
}

Core &Stack::core()
{
    return *core_;
}

FlowId Stack::Connect(const FlowSpec &spec, OutcomeCallback outcome)
{
    const FlowSpec completed = Completed(spec, *core_, Direction::kOutbound);
    SocketRef socket = spec.protocol == kProtocolUdp ? core_->OpenSharedSocket(completed, kProtocolUdp, completed.local)
                                                     : core_->OpenSocket(completed, completed.local);

    return Begin(*core_, completed, std::move(socket), std::move(outcome));
}

FlowId Stack::Accept(const FlowSpec &spec, OutcomeCallback outcome)
{
    const FlowSpec completed = Completed(spec, *core_, Direction::kInbound);
    const bool ports = HasPorts(spec.protocol);
    SocketRef socket;

    if (ports)
    {
        socket = core_->sockets().Find(spec.protocol, completed.local, true, spec.process_id);
    }
    if (!socket)
    {
        socket = ports ? core_->OpenSharedSocket(completed, spec.protocol, completed.local)
                       : core_->OpenSocket(completed, completed.local);
    }
    return Begin(*core_, completed, std::move(socket), std::move(outcome));
}

uint64_t Stack::Listen(const FlowSpec &spec)
{
    SocketRef socket = core_->OpenSharedSocket(spec, spec.protocol, spec.local, true);

    if (!socket)
    {
        return 0;
    }
    for (const Endpoint &group : spec.groups)
    {
        core_->sockets().Join(socket.get(), group.address);
    }
    return core_->AddListener(std::move(socket));
}

void Stack::CloseListener(uint64_t listener)
{
    core_->CloseListener(listener);
}

void Stack::Send(FlowId flow, const uint8_t *bytes, size_t length, OutcomeCallback outcome)
{
    Continue(*core_, flow, Direction::kOutbound, bytes, length, std::move(outcome));
}

void Stack::Receive(FlowId flow, const uint8_t *bytes, size_t length, OutcomeCallback outcome)
{
    Continue(*core_, flow, Direction::kInbound, bytes, length, std::move(outcome));
}

void Stack::Close(FlowId flow)
{
    const FlowRef found = core_->flows().Find(flow);

    if (found)
    {
        found->Close();
    }
}

void Stack::Packet(Direction direction, const uint8_t *ip_packet, size_t length, OutcomeCallback outcome)
{
    PacketPtr packet = core_->CopyPacket(ip_packet, length);
    const FlowRef flow = packet == nullptr ? FlowRef() : core_->LooseFlow(direction, packet->info());

    if (!flow)
    {
        Report(outcome, OutcomeKind::kBlocked);
        return;
    }

    Job *job = core_->NewJob();

    job->direction = direction;
    job->packet = std::move(packet);
    job->done = std::move(outcome);
    flow->Submit(job);
}

void Stack::Arrive(const uint8_t *ip_packet, size_t length, OutcomeCallback outcome, uint8_t link)
{
    PacketPtr packet = core_->CopyPacket(ip_packet, length);

    if (packet == nullptr)
    {
        Report(outcome, OutcomeKind::kBlocked);
        return;
    }
    packet->link = link;
    core_->Arrive(std::move(packet), std::move(outcome));
}

void Stack::Forward(const uint8_t *ip_packet, size_t length, OutcomeCallback outcome)
{
    PacketPtr packet = core_->CopyPacket(ip_packet, length);

    if (packet == nullptr)
    {
        Report(outcome, OutcomeKind::kBlocked);
        return;
    }
    core_->Route(std::move(packet), std::move(outcome));
}

void Stack::Packet(PacketWay way, const uint8_t *ip_packet, size_t length, OutcomeCallback outcome, uint8_t link)
{
    switch (way)
    {
    case PacketWay::kOutbound:
    case PacketWay::kInbound:
        Packet(way == PacketWay::kOutbound ? Direction::kOutbound : Direction::kInbound, ip_packet, length,
               std::move(outcome));
        break;
    case PacketWay::kArriving:
        Arrive(ip_packet, length, std::move(outcome), link);
        break;
    case PacketWay::kForwarded:
        Forward(ip_packet, length, std::move(outcome));
        break;
    }
}

void Stack::AcceptSecured()
{
    core_->AcceptSecured();
}

void Stack::Reauthorize()
{
    core_->PolicyChanged();
}

void Stack::SetWire(WireCallback wire)
{
    WireObserver observer;

    if (wire != nullptr)
    {
        observer = [wire = std::move(wire)](Direction direction, const net::Packet &packet)
        { wire(direction, packet.bytes(), packet.length()); };
    }
    core_->ObserveWire(this, std::move(observer));
}

StackCounters Stack::counters() const
{
    return core_->counters();
}

} // namespace sim::net

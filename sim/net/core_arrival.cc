// Packets that come in: from the wire, from this machine itself, and from the driver.

#include "net/core.h"
#include "net/indication.h"

#include "nt/bugcheck.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace sim::net
{
namespace
{

constexpr size_t kPointerAlignment = sizeof(void *);
constexpr uint64_t kSystemProcess = 4;

// Copies the data of a net buffer.
void CopyData(NET_BUFFER *net_buffer, uint8_t *to)
{
    MDL *mdl = net_buffer->CurrentMdl;
    size_t offset = net_buffer->CurrentMdlOffset;
    size_t left = net_buffer->DataLength;

    while (left != 0 && mdl != nullptr)
    {
        const size_t length = std::min<size_t>(left, MmGetMdlByteCount(mdl) - offset);
        const auto *from = static_cast<const uint8_t *>(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));

        std::copy_n(from + offset, length, to);
        to += length;
        left -= length;
        offset = 0;
        mdl = mdl->Next;
    }
    if (left != 0)
    {
        Bugcheck("NET_BUFFER_TOO_SHORT", "the MDLs of an injected net buffer end %zu bytes before its data", left);
    }
}

// Checks what the stack requires of a sent packet: it reads the IP header in place.
void CheckSentHeader(const NET_BUFFER *net_buffer)
{
    const auto *start =
        static_cast<const uint8_t *>(MmGetSystemAddressForMdlSafe(net_buffer->CurrentMdl, NormalPagePriority)) +
        net_buffer->CurrentMdlOffset;
    const size_t there = MmGetMdlByteCount(net_buffer->CurrentMdl) - net_buffer->CurrentMdlOffset;
    const size_t header = *start >> 4 == kIpv6 ? kIpv6HeaderSize : static_cast<size_t>(*start & 0x0F) * 4;

    if (reinterpret_cast<uintptr_t>(start) % kPointerAlignment != 0 || there < header)
    {
        Bugcheck("NET_IP_HEADER_MISALIGNED",
                 "the IP header of an injected packet must be in one MDL, at a pointer's alignment");
    }
}

bool BeginsAtIpHeader(wfp::Injection::Kind kind)
{
    return kind != wfp::Injection::kTransportSend;
}

bool IsReceive(wfp::Injection::Kind kind)
{
    return kind == wfp::Injection::kNetworkReceive || kind == wfp::Injection::kTransportReceive;
}

// A packet that is sent without an interface needs a route.
bool HasRoute(const IpPacketInfo &info)
{
    return !IsGroup(info.family, info.destination) && !IsLinkLocal(info.family, info.destination) &&
           !IsUnspecified(info.family, info.source);
}

// The link that a scope id of a link-local address names.
std::optional<uint8_t> LinkOf(const SCOPE_ID &scope)
{
    std::optional<uint8_t> link;

    for (uint8_t each = 0; each < kLinks; ++each)
    {
        link = InterfaceIndexOf(each) == scope.Zone ? each : link;
    }
    return link;
}

bool SameAddress(uint8_t family, const std::array<uint8_t, 16> &a, const Address &b)
{
    return std::equal(a.begin(), a.begin() + static_cast<ptrdiff_t>(AddressLength(family)), b.begin());
}

} // namespace

Job *Core::JobOfArrived(const Flow &flow, PacketPtr packet, Stage first)
{
    Job *job = NewJob();

    job->kind = JobKind::kPacket;
    job->direction = Direction::kInbound;
    job->first = first;
    job->authorize = flow.opened() == Direction::kInbound;
    job->packet = std::move(packet);
    return job;
}

void Core::SubmitArrived(Flow *flow, PacketPtr packet, Stage first, OutcomeCallback done)
{
    Job *job = JobOfArrived(*flow, std::move(packet), first);

    job->stray = true;
    job->done = std::move(done);
    flow->Submit(job);
}

void Core::LoopBack(PacketPtr packet)
{
    packet->loopback = true;
    Arrive(std::move(packet), nullptr);
}

void Core::Arrive(PacketPtr packet, OutcomeCallback done)
{
    const IpPacketInfo &info = packet->info();
    const FlowRef known = info.has_conversation() ? flows_.Find(TupleOf(*packet, Direction::kInbound)) : FlowRef();

    if (known)
    {
        SubmitArrived(known.get(), std::move(packet), Stage::kNone, std::move(done));
        return;
    }

    const FlowRef loose = LooseFlow(Direction::kInbound, info, packet->link);

    if (loose)
    {
        Job *job = NewJob();

        loose->SetLoopback(packet->loopback);
        job->kind = JobKind::kPacket;
        job->direction = Direction::kInbound;
        job->dispatch = true;
        job->packet = std::move(packet);
        job->done = std::move(done);
        loose->Submit(job);
    }
}

void Core::Route(PacketPtr packet, OutcomeCallback done)
{
    const FlowRef loose = LooseFlow(Direction::kInbound, packet->info(), packet->link);

    if (loose)
    {
        Job *job = NewJob();

        job->direction = Direction::kInbound;
        job->forward = true;
        job->packet = std::move(packet);
        job->done = std::move(done);
        loose->Submit(job);
    }
}

void Core::Forward(PacketPtr packet, OutcomeCallback done)
{
    const FlowRef loose = LooseFlow(Direction::kOutbound, packet->info(), packet->link);

    Count(&counts(Direction::kInbound).permitted);
    if (loose)
    {
        Job *job = NewJob();

        job->direction = Direction::kOutbound;
        job->packet = std::move(packet);
        job->done = std::move(done);
        loose->Submit(job);
    }
}

bool Core::ToConversation(PacketPtr *packet)
{
    const FlowRef flow = flows_.Find(TupleOf(**packet, Direction::kInbound));

    if (!flow || !flow->has_conversation())
    {
        return false;
    }
    flow->Submit(JobOfArrived(*flow.get(), std::move(*packet), Stage::kAuthorize));
    return true;
}

void Core::ToSocket(PacketPtr packet, OutcomeCallback done)
{
    const IpPacketInfo &info = packet->info();
    const Tuple tuple = TupleOf(*packet, Direction::kInbound);
    FlowRef flow = info.has_conversation() ? flows_.Find(tuple) : FlowRef();

    if (!flow && info.has_conversation())
    {
        flow = AcceptFlow(tuple, *packet);
    }
    if (flow)
    {
        SubmitArrived(flow.get(), std::move(packet), Stage::kAuthorize, std::move(done));
        return;
    }
    Count(&counts(Direction::kInbound).permitted);
    NotifyWire(Direction::kInbound, *packet);
    if (done != nullptr)
    {
        done({OutcomeKind::kPermitted, {}});
    }
    if (info.protocol == kProtocolTcp && info.has_transport() && (info.tcp_flags & kTcpRst) == 0)
    {
        Refuse(*packet);
    }
}

// The socket that accepts the conversation which the packet begins.
// The stack itself receives ICMP and IGMP, as the system process.
SocketRef Core::AcceptingSocket(const Packet &packet)
{
    const IpPacketInfo &info = packet.info();
    const bool begins = info.protocol != kProtocolTcp || (info.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn;
    const uint16_t port = HasPorts(info.protocol) ? info.destination_port : uint16_t{0};
    const Endpoint local = {info.family, info.destination, port, packet.link};

    if (IsIcmp(info.protocol) || info.protocol == kProtocolIgmp)
    {
        FlowSpec owner;

        owner.protocol = info.protocol;
        owner.process_id = kSystemProcess;
        owner.process_path = u"System";
        return OpenSocket(owner, local);
    }
    if (IsMulticast(info.family, info.destination))
    {
        return begins ? sockets().FindMember(info.protocol, local) : SocketRef();
    }
    return begins ? sockets().Find(info.protocol, local, true) : SocketRef();
}

// Opens the conversation that the packet begins at a listener or a UDP socket.
// Returns nothing if no socket accepts it.
FlowRef Core::AcceptFlow(const Tuple &tuple, const Packet &packet)
{
    const IpPacketInfo &info = packet.info();
    SocketRef socket = AcceptingSocket(packet);

    if (!socket)
    {
        return FlowRef();
    }

    FlowOptions options;

    options.direction = Direction::kInbound;
    options.protocol = info.protocol;
    options.loopback = packet.loopback;
    options.local = info.destination_endpoint();
    options.remote = info.source_endpoint();
    options.local.link = packet.link;
    if (IsIcmp(info.protocol))
    {
        options.local.port = info.source_port;
        options.remote.port = info.destination_port;
        options.echo_identifier = info.echo_identifier;
        options.echo_sequence = info.echo_sequence;
    }
    options.accepted = true;
    options.socket = std::move(socket);

    FlowRef flow = OpenFlow(std::move(options));

    if (flow && !flow->IsIndexed())
    {
        flow->Close(); // another thread's packet was first
        return flows_.Find(tuple);
    }
    return flow;
}

// Answers with RST, because no socket listens.
void Core::Refuse(const Packet &packet)
{
    const IpPacketInfo &info = packet.info();
    PacketPtr reset = NewPacket(TcpPacketSize(info.family, 0));
    TcpSegment segment;

    if (reset == nullptr)
    {
        return;
    }
    segment.flags = kTcpRst | kTcpAck;
    segment.sequence = info.acknowledgment;
    segment.acknowledgment =
        info.sequence + info.payload_length + ((info.tcp_flags & (kTcpSyn | kTcpFin)) != 0 ? 1 : 0);
    WriteTcpPacket(reset->bytes(), info.destination_endpoint(), info.source_endpoint(), segment, nullptr, 0);
    reset->link = packet.link;
    reset->Parse();

    SendLoose(std::move(reset), packet.loopback);
}

// Sends a packet that nobody authorized.
void Core::SendLoose(PacketPtr packet, bool loopback)
{
    const FlowRef loose = LooseFlow(Direction::kOutbound, packet->info(), packet->link);

    if (loose)
    {
        Job *job = NewJob();

        loose->SetLoopback(loopback);
        job->direction = Direction::kOutbound;
        job->dispatch = loopback;
        job->packet = std::move(packet);
        loose->Submit(job);
    }
}

void Core::SendToOwnGroup(const Packet &packet)
{
    PacketPtr copy = CopyPacket(packet.bytes(), packet.length());

    if (copy != nullptr)
    {
        copy->link = packet.link;
        SendLoose(std::move(copy), true);
    }
}

void Core::FinishPeer(const Tuple &tuple)
{
    const FlowRef peer = flows_.Find(tuple);

    if (peer)
    {
        Job *job = NewJob();

        job->kind = JobKind::kPeerFinished;
        peer->Submit(job);
    }
}

void Core::InjectLoose(wfp::Injection::Kind kind, PacketPtr packet)
{
    const Direction direction = IsReceive(kind) ? Direction::kInbound : Direction::kOutbound;
    const FlowRef loose = LooseFlow(direction, packet->info(), packet->link);

    if (loose)
    {
        Job *job = NewJob();

        loose->SetLoopback(packet->loopback);
        job->direction = direction;
        job->dispatch = true;
        job->first = Stage::kIpPacket;
        job->packet = std::move(packet);
        loose->Submit(job);
    }
}

// The link on which an injected packet goes on. Returns nothing if the driver does not name it rightly.
std::optional<uint8_t> Core::LinkOfInjection(const wfp::Injection &injection)
{
    auto *hold = static_cast<Hold *>(injection.origin);
    const bool foreign = injection.compartment == CompartmentOf(kForeignLink);
    std::optional<uint8_t> link = foreign ? kForeignLink : kEthernetLink;

    if (IsReceive(injection.kind))
    {
        link = LinkOf(injection.interface_index, injection.sub_interface_index);
    }
    else if (hold != nullptr)
    {
        link = hold->owner().identity().local.link;
    }
    if (injection.kind == wfp::Injection::kTransportSend && injection.family == AF_INET6 &&
        IsLinkLocal(kIpv6, injection.remote_address) && LinkOf(injection.remote_scope) != link)
    {
        return std::nullopt;
    }
    return link && foreign == (CompartmentOf(*link) == CompartmentOf(kForeignLink)) ? link : std::nullopt;
}

NTSTATUS Core::Deliver(const wfp::Injection &injection)
{
    NTSTATUS status = STATUS_INVALID_PARAMETER;

    for (NET_BUFFER *net_buffer = injection.net_buffer_list->FirstNetBuffer; net_buffer != nullptr;
         net_buffer = net_buffer->Next)
    {
        status = DeliverBuffer(injection, net_buffer);
        if (!NT_SUCCESS(status))
        {
            break;
        }
    }
    if (!NT_SUCCESS(status))
    {
        auto *hold = static_cast<Hold *>(injection.origin);

        if (hold != nullptr && hold->TakeDelivery())
        {
            hold->Drop();
        }
    }
    return status;
}

NTSTATUS Core::DeliverBuffer(const wfp::Injection &injection, NET_BUFFER *net_buffer)
{
    auto *hold = static_cast<Hold *>(injection.origin);

    if (!LinkOfInjection(injection))
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (injection.kind == wfp::Injection::kTransportSend)
    {
        // Only the flow knows the source of a packet that starts at its transport header.
        if (hold == nullptr || injection.endpoint_handle != hold->owner().identity().endpoint_handle ||
            !SameAddress(hold->owner().identity().remote.family, injection.remote_address,
                         hold->owner().identity().remote.address))
        {
            return STATUS_INVALID_PARAMETER;
        }
        if (hold->owner().endpoint_closed())
        {
            return STATUS_INVALID_HANDLE;
        }
    }
    if (injection.kind == wfp::Injection::kNetworkSend && net_buffer->DataLength != 0)
    {
        CheckSentHeader(net_buffer);
    }

    PacketPtr packet = CopyInjected(injection, net_buffer, hold);

    if (packet == nullptr)
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (injection.kind == wfp::Injection::kNetworkSend && !HasRoute(packet->info()))
    {
        return STATUS_NETWORK_UNREACHABLE;
    }
    Count(&counts(IsReceive(injection.kind) ? Direction::kInbound : Direction::kOutbound).injected);
    if (hold == nullptr || !hold->TakeDelivery())
    {
        InjectLoose(injection.kind, std::move(packet));
        return STATUS_SUCCESS;
    }

    HoldEvent event(HoldEvent::kInjected, hold);

    event.packet = std::move(packet);
    event.injection = injection.kind;
    hold->owner().Post(std::move(event));
    return STATUS_SUCCESS;
}

PacketPtr Core::CopyInjected(const wfp::Injection &injection, NET_BUFFER *net_buffer, Hold *hold)
{
    const size_t length = net_buffer->DataLength;
    const bool whole = BeginsAtIpHeader(injection.kind);
    const FlowIdentity *flow = whole ? nullptr : &hold->owner().identity();
    const size_t header = whole ? 0 : RawPacketSize(flow->local.family, 0);
    PacketPtr packet = header + length > kLongestPacket + kIpv6HeaderSize ? nullptr : NewPacket(header + length);

    if (packet == nullptr)
    {
        return nullptr;
    }
    CopyData(net_buffer, packet->bytes() + header);
    if (!whole)
    {
        WriteIpHeader(packet->bytes(), flow->local, flow->remote, flow->protocol, length);
    }
    wfp::Engine::CopyInjectionState(injection.net_buffer_list, packet->net_buffer_list());
    packet->injected = true;
    packet->link = LinkOfInjection(injection).value_or(kEthernetLink);
    packet->loopback = IsReceive(injection.kind) && injection.interface_index == kLoopbackInterface;
    if (!packet->Parse() || packet->info().length != packet->length())
    {
        return nullptr;
    }
    if (!ChecksumsAreRight(packet->bytes(), packet->info()))
    {
        Count(&wrong_checksums());
    }
    return packet;
}

} // namespace sim::net

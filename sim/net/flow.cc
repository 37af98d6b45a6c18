#include "net/flow.h"

#include "net/stream.h"

#include <mutex>
#include <utility>

namespace sim::net
{
namespace
{

bool IsEnd(const Job &job)
{
    return job.kind == JobKind::kClose || job.kind == JobKind::kReset || job.kind == JobKind::kPeerFinished ||
           job.kind == JobKind::kFinish;
}

// A message of the direction that began the flow, or the answer to it.
IcmpKind IcmpKindOf(const FlowContext &flow, Direction direction)
{
    const uint8_t protocol = flow.identity.protocol;

    if (direction == flow.opened || !IsEchoRequest(protocol, flow.icmp.type))
    {
        return flow.icmp;
    }
    return {static_cast<uint8_t>(protocol == kProtocolIcmpV6 ? 129 : 0), 0};
}

PacketPtr MakeMessage(const FlowContext &flow, const Job &job)
{
    const FlowIdentity &identity = flow.identity;
    const bool outbound = job.direction == Direction::kOutbound;
    const uint8_t family = identity.local.family;
    const Endpoint &source = outbound ? identity.local : identity.remote;
    const Endpoint &destination = outbound ? identity.remote : identity.local;
    const uint8_t *const bytes = job.bytes.data();
    const size_t length = job.bytes.size();
    const bool udp = identity.protocol == kProtocolUdp;
    const bool icmp = IsIcmp(identity.protocol);

    if (RawPacketSize(family, kIcmpHeaderSize + length) > kLongestPacket)
    {
        return nullptr;
    }

    PacketPtr packet = flow.resources->NewPacket(udp    ? UdpPacketSize(family, length)
                                                 : icmp ? IcmpPacketSize(family, length)
                                                        : RawPacketSize(family, length));

    if (packet == nullptr)
    {
        return nullptr;
    }
    if (udp)
    {
        WriteUdpPacket(packet->bytes(), source, destination, bytes, length);
    }
    else if (icmp)
    {
        WriteIcmpPacket(packet->bytes(), source, destination, IcmpKindOf(flow, job.direction),
                        static_cast<uint32_t>(identity.echo_identifier) << 16 | identity.echo_sequence, bytes, length);
    }
    else
    {
        WriteRawPacket(packet->bytes(), source, destination, identity.protocol, bytes, length);
    }
    packet->link = identity.local.link;
    packet->Parse();
    return packet;
}

} // namespace

void Flow::Open(FlowOptions options)
{
    constexpr uint32_t kMultiplier = 2654435761u; // spreads the ids over the sequence numbers
    const auto sequence = static_cast<uint32_t>(id() * kMultiplier);
    FlowIdentity &identity = context_.identity;

    identity.protocol = options.protocol;
    identity.direction = options.direction;
    context_.opened = options.direction;
    context_.icmp = {static_cast<uint8_t>(options.local.port), static_cast<uint8_t>(options.remote.port)};
    identity.loopback = options.loopback;
    identity.local = options.local;
    identity.remote = options.remote;
    identity.echo_identifier = options.echo_identifier;
    identity.echo_sequence = options.echo_sequence;
    identity.flow_handle = identity.receives_group() ? kGroupFlowHandle : id();
    identity.socket = options.socket ? &options.socket->identity() : nullptr;
    if (options.socket)
    {
        identity.endpoint_handle = identity.socket->handle;
        endpoint_closed_ = options.socket->closed();
        if (options.direction == Direction::kInbound && options.protocol == kProtocolTcp)
        {
            identity.parent_handle = identity.endpoint_handle;
            identity.endpoint_handle = context_.resources->NewHandle();
            accepted_closed_ = std::make_shared<std::atomic<bool>>(false);
            endpoint_closed_ = accepted_closed_;
        }
    }
    socket_handle_.store(options.socket ? identity.socket->handle : 0, std::memory_order_relaxed);
    socket_ = std::move(options.socket);
    context_.conversation = std::move(options.conversation);
    context_.accepted = options.accepted;
    context_.raw = options.raw;
    tcp_.SetSequences(sequence, ~sequence);
    AddReference();
    opened_ = true;
}

void Flow::OpenLoose(Direction direction, const IpPacketInfo &info, uint8_t link)
{
    const bool outbound = direction == Direction::kOutbound;
    FlowIdentity &identity = context_.identity;

    identity.protocol = info.protocol;
    identity.direction = direction;
    identity.local = outbound ? info.source_endpoint() : info.destination_endpoint();
    identity.remote = outbound ? info.destination_endpoint() : info.source_endpoint();
    identity.local.link = link;
    identity.loopback = IsLoopback(info.family, info.destination) || info.source == info.destination;
    identity.flow_handle = id();
    context_.raw = true;
}

void Flow::Release()
{
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
    {
        Clear();
        context_.host->Recycle(this);
    }
}

void Flow::Clear()
{
    socket_.Reset();
    socket_handle_.store(0, std::memory_order_relaxed);
    endpoint_closed_.reset();
    accepted_closed_.reset();
    context_.Reset();
    authorization_.Reset();
    decision_.Reset();
    tcp_.Reset();
    closed_ = false;
    reset_ = false;
}

void Flow::Submit(Job *job)
{
    {
        const std::lock_guard<SpinLock> lock(lock_);

        incoming_.Append(job);
        if (std::exchange(working_, true))
        {
            return;
        }
    }
    Work();
}

void Flow::Post(HoldEvent event)
{
    event.hold->AddReference();
    {
        const std::lock_guard<SpinLock> lock(lock_);

        events_.push_back(std::move(event));
        if (std::exchange(working_, true))
        {
            return;
        }
    }
    Work();
}

void Flow::Close()
{
    SubmitEnd(JobKind::kClose);
}

void Flow::ResetConnection()
{
    SubmitEnd(JobKind::kReset);
}

void Flow::SubmitEnd(JobKind kind)
{
    Job *job = context_.resources->NewJob();

    job->kind = kind;
    {
        const std::lock_guard<SpinLock> lock(lock_);

        abort_ = true;
        reset_ = reset_ || kind == JobKind::kReset;
        incoming_.Append(job);
        if (std::exchange(working_, true))
        {
            return;
        }
    }
    Work();
}

void Flow::CloseWhenDone()
{
    Job *job = context_.resources->NewJob();

    job->kind = JobKind::kFinish;
    Submit(job);
}

void Flow::Abandon()
{
    std::vector<HoldEvent> events;

    {
        const std::lock_guard<SpinLock> lock(lock_);

        working_ = true; // for good: no thread works on it from here on
        jobs_.Take(&incoming_);
        events.swap(events_);
    }
    tcp_.End();
    while (Job *job = jobs_.Pop())
    {
        context_.resources->Recycle(job);
    }
    if (current_ != nullptr)
    {
        context_.resources->Recycle(std::exchange(current_, nullptr));
    }
    for (const HoldEvent &event : events)
    {
        event.hold->ReleaseReference();
    }
    decision_.RetireHold();
    socket_.Forget();
    context_.conversation.reset();
}

void Flow::Work()
{
    const FlowRef keep = (AddReference(), FlowRef(this));
    std::vector<HoldEvent> events;
    bool abort = false;

    while (NextWork(&events, &abort))
    {
        for (HoldEvent &event : events)
        {
            Handle(&event);
            event.hold->ReleaseReference();
        }
        events.clear();
        if (std::exchange(abort, false))
        {
            Abort();
        }
        if (decision_.waiting())
        {
            continue;
        }
        if (current_ == nullptr)
        {
            current_ = jobs_.Pop();
        }

        Job *job = current_;

        if (job != nullptr && Execute(*job) && current_ == job)
        {
            current_ = nullptr;
            context_.resources->Recycle(job);
        }
    }
}

bool Flow::NextWork(std::vector<HoldEvent> *events, bool *abort)
{
    const std::lock_guard<SpinLock> lock(lock_);

    if (!events_.empty() || abort_)
    {
        events->swap(events_);
        *abort = std::exchange(abort_, false);
        context_.reset = reset_;
        return true;
    }
    if (!decision_.waiting())
    {
        if (current_ == nullptr && jobs_.empty())
        {
            jobs_.Take(&incoming_);
        }
        if (current_ != nullptr || !jobs_.empty())
        {
            return true;
        }
    }
    working_ = false;
    return false;
}

void Flow::Handle(HoldEvent *event)
{
    if (tcp_.IsPeerHold(event->hold))
    {
        tcp_.OnPeerTimeout();
    }
    else if (decision_.IsOf(event->hold))
    {
        decision_.Handle(*current_, event);
    }
    else if (event->packet != nullptr)
    {
        context_.host->InjectLoose(event->injection, std::move(event->packet));
    }
}

void Flow::Abort()
{
    context_.closing = true;
    if (decision_.waiting() && !context_.Lingers(*current_))
    {
        decision_.GiveUp(*current_);
    }
}

bool Flow::Execute(Job &job)
{
    if (job.stage == Stage::kNone && !Begin(job))
    {
        return true;
    }
    do
    {
        if (!trip_.Advance(job))
        {
            return false;
        }
    } while (AfterTrip(job));
    return true;
}

// Returns false if the job is over, or postponed.
bool Flow::Begin(Job &job)
{
    if (closed_ && !IsEnd(job))
    {
        if (job.kind == JobKind::kPacket && context_.conversation != nullptr && !job.stray)
        {
            context_.conversation->Ended(context_.identity, {job.direction, OutcomeKind::kBlocked, false});
        }
        Report(job, OutcomeKind::kBlocked);
        return false;
    }
    switch (job.kind)
    {
    case JobKind::kAuthorize:
        job.stage = Stage::kAuthorize;
        return true;
    case JobKind::kControl:
        return BeginControl(job);
    case JobKind::kBytes:
        return BeginBytes(job);
    case JobKind::kMessage:
        trip_.Start(job, MakeMessage(context_, job));
        return true;
    case JobKind::kPacket:
        trip_.Start(job, std::move(job.packet));
        return true;
    case JobKind::kDatagram:
        job.first = Stage::kDatagram;
        trip_.Start(job, authorization_.granted() ? std::move(job.packet) : nullptr);
        return true;
    case JobKind::kClose:
        tcp_.Close();
        return false;
    case JobKind::kReset:
        tcp_.ResetByEngine();
        return false;
    case JobKind::kPeerFinished:
        if (context_.closing || context_.accepted)
        {
            Finish();
        }
        return false;
    case JobKind::kFinish:
        Finish();
        return false;
    }
    return false;
}

bool Flow::BeginControl(Job &job)
{
    if (!tcp_.BeginControl(job))
    {
        Report(job, OutcomeKind::kBlocked);
        return false;
    }
    if (job.authorize && job.direction == Direction::kOutbound)
    {
        job.stage = Stage::kAuthorize; // the SYN is made when it may be sent
        return true;
    }
    trip_.Start(job, tcp_.MakeControl(job));
    return true;
}

bool Flow::BeginBytes(Job &job)
{
    if (tcp_.MustWait())
    {
        tcp_.Postpone(&job);
        current_ = nullptr;
        return false;
    }
    if (!context_.established || job.bytes.empty())
    {
        Report(job, context_.established ? OutcomeKind::kPermitted : OutcomeKind::kBlocked);
        return false;
    }
    if (job.direction == Direction::kOutbound && !IndicateSentBytes(*context_.resources, context_.identity, job.bytes))
    {
        Report(job, OutcomeKind::kBlocked);
        return false;
    }
    trip_.Start(job, tcp_.MakeSegmentOf(job));
    return true;
}

// Returns true if the job goes on with another packet.
bool Flow::AfterTrip(Job &job)
{
    if (job.arrived && context_.is_tcp() && !context_.raw && context_.conversation == nullptr)
    {
        tcp_.Received(job);
    }
    switch (job.kind)
    {
    case JobKind::kControl:
        if (job.packet == nullptr && !job.offered && job.result == OutcomeKind::kPermitted)
        {
            trip_.Supply(job, tcp_.MakeControl(job));
            return true;
        }
        tcp_.ControlDone(job);
        break;
    case JobKind::kBytes:
        if (tcp_.SegmentDone(job))
        {
            trip_.Start(job, tcp_.MakeSegmentOf(job));
            return true;
        }
        break;
    case JobKind::kPacket:
        tcp_.PacketDone(job);
        break;
    default:
        break;
    }
    Report(job, job.result);
    return false;
}

void Flow::Report(Job &job, OutcomeKind kind)
{
    if (job.done != nullptr)
    {
        const OutcomeCallback done = std::move(job.done);

        job.done = nullptr;
        done({kind, kind == OutcomeKind::kRedirected ? job.redirected_to : Endpoint()});
    }
}

void Flow::Finish()
{
    FlowIdentity &identity = context_.identity;

    if (closed_)
    {
        return;
    }
    closed_ = true;
    if (accepted_closed_ != nullptr)
    {
        accepted_closed_->store(true);
    }
    tcp_.End(); // postponed jobs are blocked, because the flow is closed
    if (context_.conversation != nullptr)
    {
        context_.conversation->Closing(identity);
    }
    if (context_.is_tcp() && authorization_.ever_granted() && identity.socket != nullptr)
    {
        IndicateClosure(context_.resources->engine(), identity);
    }
    context_.host->Unindex(this);
    if (context_.peer_is_here() && context_.is_tcp() && context_.conversation == nullptr)
    {
        tcp_.FinishPeer();
    }
    identity.socket = nullptr;
    if (socket_ && !context_.accepted)
    {
        context_.host->RemoveOwner(socket_.get());
    }
    socket_.Reset();
    if (std::exchange(opened_, false))
    {
        Release();
    }
}

} // namespace sim::net

#include "net/authorization.h"

#include "nt/clock.h"

#include <utility>

namespace sim::net
{
namespace
{

constexpr uint64_t Ticks(std::chrono::seconds time)
{
    return static_cast<uint64_t>(time.count()) * nt::Clock::kTicksPerSecond;
}

uint64_t LifetimeOf(const FlowIdentity &identity)
{
    return Ticks(identity.sends_to_group() ? GroupTraffic::kLifetime : Authorization::kIdleLifetime);
}

} // namespace

Authorization::Need Authorization::NeedOf(const Job &job)
{
    if (flow_.raw)
    {
        return Need::kNothing;
    }
    Refresh();
    switch (state_.kind)
    {
    case AuthorizationState::kGranted:
        Use(job);
        return state_.epoch == flow_.policy() ? Need::kNothing : Need::kAgain;
    case AuthorizationState::kWithdrawn:
        return state_.epoch == flow_.policy() ? Need::kRefused : Need::kAgain;
    case AuthorizationState::kNone:
        break;
    }
    if (!flow_.is_tcp() && job.direction == Direction::kInbound &&
        flow_.resources->groups().AllowsAnswer(flow_.identity.protocol, flow_.identity.local, flow_.resources->now()))
    {
        return Need::kNothing;
    }
    if (job.authorize || MayBegin(job))
    {
        return job.retried ? Need::kAgain : Need::kFirst;
    }
    return Need::kRefused;
}

// Without a flow, a datagram of either direction begins one. A packet source says itself who begins at first.
bool Authorization::MayBegin(const Job &job) const
{
    return !flow_.is_tcp() && job.packet != nullptr && (ever_granted_ || flow_.conversation == nullptr);
}

// Reads the state that inbound multicast shares, and forgets that of a flow whose time is over.
void Authorization::Refresh()
{
    const FlowIdentity &identity = flow_.identity;

    if (identity.receives_group())
    {
        state_ = flow_.resources->groups().inbound(identity.local.family);
    }
    else if (!flow_.is_tcp() && granted() && flow_.resources->now() - state_.last_use > LifetimeOf(identity))
    {
        state_.kind = AuthorizationState::kNone;
    }
}

// Only what is sent keeps an outbound multicast alive, and lets answers in.
void Authorization::Use(const Job &job)
{
    const bool to_group = flow_.identity.sends_to_group();

    if (flow_.is_tcp() || (to_group && job.direction == Direction::kInbound))
    {
        return;
    }
    state_.last_use = flow_.resources->now();
    if (to_group)
    {
        flow_.resources->groups().AllowAnswers(flow_.identity.protocol, flow_.identity.local, state_.last_use);
    }
}

void Authorization::Share() const
{
    if (flow_.identity.receives_group())
    {
        flow_.resources->groups().SetInbound(flow_.identity.local.family, state_);
    }
}

wfp::ClassifyResult Authorization::Ask(const Job &job, bool first, Hold *hold)
{
    // A first connect of TCP is authorized before its packet is made.
    const bool bare = first && flow_.is_tcp() && flow_.identity.direction == Direction::kOutbound;
    AuthorizationRequest request;

    if (first && job.packet != nullptr && !flow_.is_tcp())
    {
        flow_.Begin(job.direction, job.packet->info());
    }
    request.flow = &flow_.identity;
    request.packet = bare ? nullptr : job.packet.get();
    request.packet_direction = request.packet == nullptr ? flow_.identity.direction : job.direction;
    request.reauthorization = first ? Reauthorization::kNone : Reauthorization::kPolicyChange;
    request.origin = hold;
    if (first)
    {
        hold->ExpectCompletion();
        request.on_complete = [hold](NET_BUFFER_LIST *) { hold->Complete(); };
    }

    const wfp::ClassifyResult result = IndicateAuthorization(flow_.resources->engine(), std::move(request));

    if (result.pended)
    {
        hold->set_used();
    }
    else if (first)
    {
        hold->NoCompletion();
    }
    return result;
}

wfp::ClassifyResult Authorization::AskAfterCompletion()
{
    AuthorizationRequest request;

    request.flow = &flow_.identity;
    request.packet_direction = flow_.identity.direction;
    request.reauthorization = Reauthorization::kCompletion;
    return IndicateAuthorization(flow_.resources->engine(), std::move(request));
}

void Authorization::Grant(const Job &job, uint32_t epoch)
{
    const bool first = state_.kind == AuthorizationState::kNone;

    state_.kind = AuthorizationState::kGranted;
    state_.epoch = epoch;
    ever_granted_ = true;
    Use(job);
    Share();
    if (first && flow_.conversation != nullptr)
    {
        flow_.conversation->Authorized(OutcomeKind::kPermitted);
    }
    if (first && !flow_.is_tcp())
    {
        flow_.Announce();
    }
}

void Authorization::Refuse(Job &job, OutcomeKind kind, uint32_t epoch)
{
    state_.refusal = kind;
    state_.epoch = epoch;
    if (state_.kind != AuthorizationState::kNone)
    {
        state_.kind = AuthorizationState::kWithdrawn;
    }
    else if (flow_.conversation != nullptr)
    {
        flow_.conversation->Authorized(kind);
    }
    Share();
    flow_.Refuse(job, kind);
}

void Authorization::TimeOut(Job &job)
{
    if (flow_.conversation != nullptr && state_.kind == AuthorizationState::kNone)
    {
        flow_.conversation->Authorized(OutcomeKind::kPendingTimeout);
    }
    state_.refusal = OutcomeKind::kPendingTimeout;
    flow_.Refuse(job, OutcomeKind::kPendingTimeout);
}

Stage Authorization::NextStage(const Job &job) const
{
    if (job.kind == JobKind::kAuthorize || job.packet == nullptr)
    {
        return Stage::kDone;
    }
    if (!flow_.is_tcp() && !flow_.raw && !job.packet->info().fragment)
    {
        return Stage::kDatagram;
    }
    return job.direction == Direction::kOutbound ? Stage::kIpPacket : Stage::kArrived;
}

void Authorization::Reset()
{
    state_ = AuthorizationState();
    ever_granted_ = false;
}

} // namespace sim::net

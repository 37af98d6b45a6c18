#include "net/authorization.h"

#include <utility>

namespace sim::net
{

Authorization::Need Authorization::NeedOf(const Job &job) const
{
    if (flow_.raw)
    {
        return Need::kNothing;
    }
    switch (state_)
    {
    case State::kGranted:
        return epoch_ == flow_.policy() ? Need::kNothing : Need::kAgain;
    case State::kWithdrawn:
        return epoch_ == flow_.policy() ? Need::kRefused : Need::kAgain;
    case State::kNone:
        break;
    }
    if (job.authorize)
    {
        return job.retried ? Need::kAgain : Need::kFirst;
    }
    return Need::kRefused;
}

wfp::ClassifyResult Authorization::Ask(const Job &job, bool first, Hold *hold)
{
    // A first connect of TCP is authorized before its packet is made.
    const bool bare = first && flow_.is_tcp() && flow_.identity.direction == Direction::kOutbound;
    AuthorizationRequest request;

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

void Authorization::Grant(uint32_t epoch)
{
    const bool first = state_ == State::kNone;

    state_ = State::kGranted;
    epoch_ = epoch;
    ever_granted_ = true;
    if (first && flow_.conversation != nullptr)
    {
        flow_.conversation->Authorized(OutcomeKind::kPermitted);
    }
}

void Authorization::Refuse(Job &job, OutcomeKind kind, uint32_t epoch)
{
    refusal_ = kind;
    epoch_ = epoch;
    if (state_ != State::kNone)
    {
        state_ = State::kWithdrawn;
    }
    else if (flow_.conversation != nullptr)
    {
        flow_.conversation->Authorized(kind);
    }
    flow_.Refuse(job, kind);
}

void Authorization::TimeOut(Job &job)
{
    if (flow_.conversation != nullptr && state_ == State::kNone)
    {
        flow_.conversation->Authorized(OutcomeKind::kPendingTimeout);
    }
    refusal_ = OutcomeKind::kPendingTimeout;
    flow_.Refuse(job, OutcomeKind::kPendingTimeout);
}

Stage Authorization::NextStage(const Job &job) const
{
    if (job.kind == JobKind::kAuthorize || job.packet == nullptr)
    {
        return Stage::kDone;
    }
    if (!flow_.is_tcp() && !flow_.raw)
    {
        return Stage::kDatagram;
    }
    return job.direction == Direction::kOutbound ? Stage::kIpPacket : Stage::kArrived;
}

void Authorization::Reset()
{
    state_ = State::kNone;
    refusal_ = OutcomeKind::kBlocked;
    epoch_ = 0;
    ever_granted_ = false;
}

} // namespace sim::net

// The authorization of a conversation: ALE_AUTH_CONNECT or ALE_AUTH_RECV_ACCEPT, asked again after a change of policy.
//
// Concurrency: belongs to the thread that works on the flow.
#pragma once

#include "net/flow_context.h"
#include "net/hold.h"

#include <chrono>
#include <cstdint>

namespace sim::net
{

class Authorization
{
  public:
    enum class Need : uint8_t
    {
        kNothing,
        kFirst,
        kAgain,
        kRefused // the present policy has refused already
    };

    // As long as a flow of another protocol than TCP lives without a packet.
    static constexpr std::chrono::seconds kIdleLifetime{60};

    explicit Authorization(FlowContext &flow) : flow_(flow) {}

    bool granted() const { return state_.kind == AuthorizationState::kGranted; }
    bool ever_granted() const { return ever_granted_; }
    OutcomeKind refusal() const { return state_.refusal; } // while it is not granted
    uint32_t epoch() const { return state_.epoch; }        // the policy that decided last

    // What the job's packet needs.
    Need NeedOf(const Job &job);

    // Classifies the job's packet. Only a first authorization may pend. The hold gets what the driver keeps.
    wfp::ClassifyResult Ask(const Job &job, bool first, Hold *hold);

    // Classifies again after the driver completed a pended ALE_AUTH_CONNECT.
    wfp::ClassifyResult AskAfterCompletion();

    void Grant(const Job &job, uint32_t epoch);

    // Refuses the conversation, and the job's packet with it.
    void Refuse(Job &job, OutcomeKind kind, uint32_t epoch);

    // The decision came too late. The next packet asks again.
    void TimeOut(Job &job);

    // Where an authorized packet goes on.
    Stage NextStage(const Job &job) const;

    void Reset();

  private:
    bool MayBegin(const Job &job) const;
    void Refresh();
    void Use(const Job &job);
    void Share() const;

    FlowContext &flow_;
    AuthorizationState state_; // of inbound multicast: a copy of the one that all of it shares
    bool ever_granted_ = false;
};

} // namespace sim::net

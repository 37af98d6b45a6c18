// What ALE keeps of multicast and broadcast: the one inbound flow of all of it, and the answers to what was sent.
//
// Concurrency: any thread may call it.
#pragma once

#include "net/address.h"
#include "net/types.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace sim::net
{

struct AuthorizationState
{
    enum Kind : uint8_t
    {
        kNone,
        kGranted,
        kWithdrawn // granted once, refused later
    };

    Kind kind = kNone;
    OutcomeKind refusal = OutcomeKind::kBlocked;
    uint32_t epoch = 0;    // the policy that decided last
    uint64_t last_use = 0; // ticks of unbiased time
};

class GroupTraffic
{
  public:
    // As long as an outbound multicast or broadcast lets answers in, and as long as its flow lives.
    static constexpr std::chrono::seconds kLifetime{4};

    GroupTraffic() = default;

    GroupTraffic(const GroupTraffic &) = delete;
    GroupTraffic &operator=(const GroupTraffic &) = delete;

    // The authorization of all inbound multicast and broadcast of an IP version.
    AuthorizationState inbound(uint8_t family) const;
    void SetInbound(uint8_t family, const AuthorizationState &state);

    // Lets everything in to this local port for the lifetime. `now` is in ticks of unbiased time.
    void AllowAnswers(uint8_t protocol, const Endpoint &local, uint64_t now);
    bool AllowsAnswer(uint8_t protocol, const Endpoint &local, uint64_t now) const;

  private:
    static uint32_t KeyOf(uint8_t protocol, const Endpoint &local)
    {
        return static_cast<uint32_t>(local.family) << 24 | static_cast<uint32_t>(protocol) << 16 | local.port;
    }

    mutable std::mutex mutex_;
    AuthorizationState inbound_[2];                   // of IPv4 and of IPv6
    std::unordered_map<uint32_t, uint64_t> answered_; // until when
    std::atomic<bool> any_answered_{false};
};

} // namespace sim::net

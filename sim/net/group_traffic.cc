#include "net/group_traffic.h"

#include "nt/clock.h"

namespace sim::net
{
namespace
{

constexpr uint64_t kLifetimeTicks = static_cast<uint64_t>(GroupTraffic::kLifetime.count()) * nt::Clock::kTicksPerSecond;
constexpr size_t kMostAnswered = 1024; // before the ports whose time is over are forgotten

} // namespace

AuthorizationState GroupTraffic::inbound(uint8_t family) const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return inbound_[family == kIpv6 ? 1 : 0];
}

void GroupTraffic::SetInbound(uint8_t family, const AuthorizationState &state)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    inbound_[family == kIpv6 ? 1 : 0] = state;
}

void GroupTraffic::AllowAnswers(uint8_t protocol, const Endpoint &local, uint64_t now)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (answered_.size() >= kMostAnswered)
    {
        for (auto entry = answered_.begin(); entry != answered_.end();)
        {
            entry = entry->second <= now ? answered_.erase(entry) : std::next(entry);
        }
    }
    answered_[KeyOf(protocol, local)] = now + kLifetimeTicks;
    any_answered_.store(true, std::memory_order_release);
}

bool GroupTraffic::AllowsAnswer(uint8_t protocol, const Endpoint &local, uint64_t now) const
{
    if (!any_answered_.load(std::memory_order_acquire))
    {
        return false;
    }

    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = answered_.find(KeyOf(protocol, local));

    return found != answered_.end() && now < found->second;
}

} // namespace sim::net

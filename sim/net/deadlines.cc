#include "net/deadlines.h"

#include "net/hold.h"

#include "machine.h"
#include "nt/clock.h"
#include "nt/scheduler.h"

namespace sim::net
{
namespace
{

constexpr uint64_t kPatienceTicks = static_cast<uint64_t>(Deadlines::kPatience.count()) * nt::Clock::kTicksPerSecond;
constexpr uint64_t kNanosecondsPerTick = 100;

} // namespace

void Deadlines::Add(Hold *hold)
{
    const uint64_t now = machine_.clock().UnbiasedTime();
    const std::lock_guard<std::mutex> lock(mutex_);

    if (ended_)
    {
        return;
    }
    hold->AddReference();
    hold->listed_ = true;
    hold->deadline_ = now + kPatienceTicks;
    hold->previous_ = last_;
    hold->next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = hold;
    last_ = hold;
    if (timer_ == 0)
    {
        ArmLocked(now);
    }
}

void Deadlines::Remove(Hold *hold)
{
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        if (!hold->listed_)
        {
            return;
        }
        RemoveLocked(hold);
    }
    hold->ReleaseReference();
}

void Deadlines::End()
{
    uint64_t timer = 0;
    Hold *first = nullptr;

    {
        const std::lock_guard<std::mutex> lock(mutex_);

        ended_ = true;
        std::swap(timer, timer_);
        std::swap(first, first_);
        last_ = nullptr;
        for (Hold *hold = first; hold != nullptr; hold = hold->next_)
        {
            hold->listed_ = false;
        }
    }
    if (timer != 0)
    {
        machine_.scheduler().CancelTimer(timer);
    }
    while (first != nullptr)
    {
        Hold *hold = first;
        first = hold->next_;
        hold->ReleaseReference();
    }
}

void Deadlines::ArmLocked(uint64_t now)
{
    const uint64_t delay = first_->deadline_ > now ? first_->deadline_ - now : 0;

    timer_ = machine_.scheduler().QueueAfter(std::chrono::nanoseconds(delay * kNanosecondsPerTick), PASSIVE_LEVEL,
                                             [deadlines = weak_from_this()]
                                             {
                                                 if (const auto alive = deadlines.lock())
                                                 {
                                                     alive->Expire();
                                                 }
                                             });
}

void Deadlines::Expire()
{
    for (;;)
    {
        Hold *hold = nullptr;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            const uint64_t now = machine_.clock().UnbiasedTime();

            timer_ = 0;
            if (first_ == nullptr)
            {
                return;
            }
            if (first_->deadline_ > now)
            {
                ArmLocked(now);
                return;
            }
            hold = first_;
            RemoveLocked(hold);
        }
        hold->TimeOut();
        hold->ReleaseReference();
    }
}

void Deadlines::RemoveLocked(Hold *hold)
{
    (hold->previous_ == nullptr ? first_ : hold->previous_->next_) = hold->next_;
    (hold->next_ == nullptr ? last_ : hold->next_->previous_) = hold->previous_;
    hold->listed_ = false;
}

} // namespace sim::net

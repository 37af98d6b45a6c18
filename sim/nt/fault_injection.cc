#include "nt/fault_injection.h"

#include "nt/thread_state.h"

namespace sim::nt
{
namespace
{

// True if the driver makes the call; other calls are made by the network stack or the test.
bool IsDrivers()
{
    return thread_state.driver_caller != nullptr;
}

// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
uint64_t Mix(uint64_t number)
{
    number += 0x9e3779b97f4a7c15;
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
    number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
    return number ^ (number >> 31);
}

} // namespace

void FaultInjection::FailNth(uint64_t n)
{
    Arm(Mode::kNth, n);
}

void FaultInjection::FailAll()
{
    Arm(Mode::kAll, 0);
}

void FaultInjection::FailNthAccess(uint64_t n)
{
    Arm(Mode::kNthAccess, n);
}

void FaultInjection::FailOneIn(uint32_t n)
{
    Arm(Mode::kOneIn, n);
}

void FaultInjection::Stop()
{
    mode_.store(plan_ == nullptr ? Mode::kOff : Mode::kPlan, std::memory_order_relaxed);
}

void FaultInjection::Arm(Mode mode, uint64_t n)
{
    n_.store(n, std::memory_order_relaxed);
    calls_.store(0, std::memory_order_relaxed);
    failures_.store(0, std::memory_order_relaxed);
    mode_.store(mode, std::memory_order_relaxed);
}

bool FaultInjection::IsMeant(Mode mode, Cause cause)
{
    switch (mode)
    {
    case Mode::kNth:
    case Mode::kAll:
        return cause == Cause::kMemory;
    case Mode::kNthAccess:
        return cause == Cause::kAccess && IsDrivers();
    default:
        return true;
    }
}

bool FaultInjection::Decide(Cause cause)
{
    const Mode mode = mode_.load(std::memory_order_relaxed);

    if (!IsMeant(mode, cause))
    {
        return false;
    }

    uint64_t call = calls_.fetch_add(1, std::memory_order_relaxed);
    bool fails = false;

    switch (mode)
    {
    case Mode::kOff:
        break;
    case Mode::kNth:
    case Mode::kNthAccess:
        fails = call == n_.load(std::memory_order_relaxed);
        break;
    case Mode::kAll:
        fails = true;
        break;
    case Mode::kOneIn:
        fails = IsDrivers() && Mix(call) % n_.load(std::memory_order_relaxed) == 0;
        break;
    case Mode::kPlan:
        fails = IsDrivers() && plan_->Fails(CallStack::CaptureInDriver(2));
        break;
    }
    failures_.fetch_add(fails ? 1 : 0, std::memory_order_relaxed);
    all_failures_.fetch_add(fails ? 1 : 0, std::memory_order_relaxed);
    return fails;
}

} // namespace sim::nt

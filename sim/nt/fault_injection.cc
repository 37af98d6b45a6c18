#include "nt/fault_injection.h"

#include "nt/call_stack.h"

namespace sim::nt
{

void FaultInjection::FailNth(uint64_t n)
{
    Arm(Mode::kNth, n);
}

void FaultInjection::FailAll()
{
    Arm(Mode::kAll, 0);
}

void FaultInjection::FailEachCallStackOnce()
{
    Arm(Mode::kEachCallStackOnce, 0);
}

void FaultInjection::Stop()
{
    mode_.store(Mode::kOff, std::memory_order_relaxed);
}

void FaultInjection::Arm(Mode mode, uint64_t n)
{
    std::lock_guard<std::mutex> lock(mutex_);

    seen_call_stacks_.clear();
    nth_.store(n, std::memory_order_relaxed);
    calls_.store(0, std::memory_order_relaxed);
    failures_.store(0, std::memory_order_relaxed);
    mode_.store(mode, std::memory_order_relaxed);
}

bool FaultInjection::Decide()
{
    uint64_t call = calls_.fetch_add(1, std::memory_order_relaxed);
    bool fails = false;

    switch (mode_.load(std::memory_order_relaxed))
    {
    case Mode::kOff:
        break;
    case Mode::kNth:
        fails = call == nth_.load(std::memory_order_relaxed);
        break;
    case Mode::kAll:
        fails = true;
        break;
    case Mode::kEachCallStackOnce:
        fails = IsNewCallStack();
        break;
    }
    failures_.fetch_add(fails ? 1 : 0, std::memory_order_relaxed);
    return fails;
}

bool FaultInjection::IsNewCallStack()
{
    uint64_t hash = CallStack::Capture(2).Hash();
    std::lock_guard<std::mutex> lock(mutex_);

    return seen_call_stacks_.insert(hash).second;
}

} // namespace sim::nt

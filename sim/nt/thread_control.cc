#include "nt/thread_control.h"

#include <utility>

#include "nt/thread_state.h"

namespace sim::nt
{

void ThreadControl::QueueUserApc(std::function<void()> apc)
{
    std::lock_guard<std::mutex> lock(mutex_);

    apcs_.push_back(std::move(apc));
    apcs_queued_.store(true);
}

void ThreadControl::EnterKernel() const
{
    if (terminated())
    {
        throw ThreadTerminated();
    }
}

void ThreadControl::ReturnToUserMode()
{
    std::deque<std::function<void()>> apcs;

    EnterKernel();
    if (!std::exchange(delivers_apcs_, false))
    {
        return;
    }
    {
        std::lock_guard<std::mutex> lock(mutex_);

        apcs.swap(apcs_);
        apcs_queued_.store(false);
    }
    for (const std::function<void()> &apc : apcs)
    {
        apc();
    }
}

void EnterKernel()
{
    if (thread_state.control != nullptr)
    {
        thread_state.control->EnterKernel();
    }
}

void ReturnToUserMode()
{
    if (thread_state.control != nullptr)
    {
        thread_state.control->ReturnToUserMode();
    }
}

const ThreadControl *InterruptibleThread()
{
    return thread_state.critical_regions == 0 ? thread_state.control : nullptr;
}

} // namespace sim::nt

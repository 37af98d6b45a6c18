#include "nt/user_wait.h"

#include <utility>

#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/irql.h"
#include "nt/sanitizer.h"

namespace sim::nt
{

namespace
{

#if defined(SIM_ADDRESS_SANITIZER)
constexpr bool kSanitizerWatches = true;
#else
constexpr bool kSanitizerWatches = false;
#endif

void RequireTerminable()
{
    if (thread_state.critical_regions != 0 || thread_state.irql != PASSIVE_LEVEL)
    {
        Bugcheck("USER_MODE_WAIT_IN_CRITICAL_REGION",
                 "a wait in UserMode began at IRQL %u inside %u critical region(s): the thread could not be terminated",
                 static_cast<unsigned>(thread_state.irql), static_cast<unsigned>(thread_state.critical_regions));
    }
}

} // namespace

UserModeWait::UserModeWait(const void *object, const void *frame)
    : stack_(static_cast<const uint8_t *>(frame)), bytes_(0)
{
    const auto *caller = static_cast<const uint8_t *>(thread_state.driver_caller);
    const auto *waited_for = static_cast<const uint8_t *>(object);

    RequireTerminable();
    if (caller == nullptr || caller < stack_)
    {
        return;
    }
    bytes_ = static_cast<size_t>(caller - stack_);
    if ((waited_for >= stack_ && waited_for < caller) || IsOnFakeStack(object))
    {
        Bugcheck("USER_MODE_WAIT_ON_STACK",
                 "a thread waits in UserMode for the object %p on its own stack, which may be unmapped meanwhile",
                 object);
    }
    if (kSanitizerWatches)
    {
        ForbidAccess(stack_, bytes_);
        return;
    }
    before_.resize(bytes_);
    for (size_t i = 0; i < bytes_; i++)
    {
        before_[i] = static_cast<const volatile uint8_t *>(stack_)[i];
    }
}

UserModeWait::~UserModeWait()
{
    if (kSanitizerWatches)
    {
        AllowAccess(stack_, bytes_);
        return;
    }
    for (size_t i = 0; i < bytes_; i++)
    {
        if (before_[i] != static_cast<const volatile uint8_t *>(stack_)[i])
        {
            Bugcheck("UNMAPPED_STACK_WRITTEN",
                     "the stack of a thread was written at %p while the thread waited in UserMode",
                     static_cast<const void *>(stack_ + i));
        }
    }
}

WhileWaiting::WhileWaiting(std::function<void()> act)
    : act_(std::move(act)), previous_(std::exchange(thread_state.while_waiting, &act_))
{
}

WhileWaiting::~WhileWaiting()
{
    thread_state.while_waiting = previous_;
}

void WhileWaiting::Act()
{
    if (thread_state.while_waiting == nullptr)
    {
        return;
    }
    KernelCall others;
    const std::function<void()> *act = std::exchange(thread_state.while_waiting, nullptr);

    (*act)();
    thread_state.while_waiting = act;
}

} // namespace sim::nt

#include "net/hold.h"

#include "net/core.h"
#include "net/flow.h"

namespace sim::net
{

Hold::~Hold()
{
    if (core_ != nullptr)
    {
        flow_.Release();
    }
}

void Hold::ReleaseReference()
{
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
    {
        const std::shared_ptr<Core> keep = core_; // it may go with the flow
        delete this;
    }
}

void Hold::KeepFlow()
{
    if (core_ == nullptr)
    {
        core_ = flow_.core().shared_from_this();
        flow_.AddReference();
    }
}

void Hold::ExpectCompletion()
{
    KeepFlow();
    AddReference();
}

void Hold::NoCompletion()
{
    if (!used_)
    {
        flow_.Release(); // the caller has one
        core_.reset();
    }
    ReleaseReference();
}

void Hold::Completed()
{
    flow_.Post({FlowEvent::kCompleted, this});
    ReleaseReference();
}

void Hold::Retain()
{
    used_ = true;
    KeepFlow();
    AddReference();
}

void Hold::Release()
{
    ReleaseReference();
}

void Hold::OnInjected()
{
    // The delivery that follows tells the flow.
}

void Hold::OnDropped()
{
    flow_.Post({FlowEvent::kDropped, this});
}

} // namespace sim::net

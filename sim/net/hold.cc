#include "net/hold.h"

namespace sim::net
{

Hold::~Hold()
{
    if (resources_ != nullptr)
    {
        owner_.Release();
    }
}

void Hold::ReleaseReference()
{
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
    {
        const std::shared_ptr<Resources> keep = resources_; // the owner may have the last other reference to them
        delete this;
    }
}

void Hold::KeepOwner()
{
    if (resources_ == nullptr)
    {
        resources_ = owner_.ShareResources();
        owner_.AddReference();
    }
}

void Hold::ExpectCompletion()
{
    KeepOwner();
    AddReference();
}

void Hold::NoCompletion()
{
    if (!used_)
    {
        owner_.Release(); // the caller has a reference
        resources_.reset();
    }
    ReleaseReference();
}

void Hold::Complete()
{
    owner_.Post({HoldEvent::kCompleted, this});
    ReleaseReference();
}

void Hold::Drop()
{
    owner_.Post({HoldEvent::kDropped, this});
}

void Hold::TimeOut()
{
    owner_.Post({HoldEvent::kTimeout, this});
}

void Hold::Retain()
{
    used_ = true;
    KeepOwner();
    AddReference();
}

void Hold::Release()
{
    ReleaseReference();
}

void Hold::OnInjected()
{
    // InjectionTarget::Deliver follows, and posts the copy to the owner.
}

void Hold::OnDropped()
{
    Drop();
}

} // namespace sim::net

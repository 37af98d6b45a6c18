#include "origin_tracker.h"

#include "classify_frame.h"

namespace sim::wfp
{

PacketOrigin *OriginTracker::CopyAllocated(ClassifyFrame *frame)
{
    if (frame == nullptr || frame->input.origin == nullptr)
    {
        return nullptr;
    }

    PacketOrigin *origin = frame->input.origin;

    if (!frame->origin_linked)
    {
        frame->origin_linked = true;
        origin->Retain();
        origin->copies_.fetch_add(1, std::memory_order_relaxed);
    }
    origin->copies_.fetch_add(1, std::memory_order_relaxed);
    return origin;
}

void OriginTracker::CopyInjected(PacketOrigin *origin)
{
    if (origin != nullptr && !origin->resolved_.exchange(true))
    {
        origin->OnInjected();
    }
}

void OriginTracker::CopyFreed(PacketOrigin *origin)
{
    if (origin == nullptr || origin->copies_.fetch_sub(1) != 1)
    {
        return;
    }
    if (!origin->resolved_.exchange(true))
    {
        origin->OnDropped();
    }
    origin->Release();
}

bool OriginTracker::EndClassify(ClassifyFrame &frame)
{
    if (!frame.origin_linked)
    {
        return false;
    }

    PacketOrigin *origin = frame.input.origin;

    if (origin->copies_.fetch_sub(1) != 1)
    {
        return true;
    }

    const bool injected = origin->resolved_.load();

    origin->Release();
    return injected;
}

} // namespace sim::wfp

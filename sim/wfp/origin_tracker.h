// Counts the copies of a packet's origin, and notifies the origin once, when its copies are injected or freed.
#pragma once

#include "packet_origin.h"

namespace sim::wfp
{

struct ClassifyFrame;

class OriginTracker
{
  public:
    // A copy was allocated: links it to the origin of the thread's innermost classify.
    // Returns nullptr if the thread is not inside a classify.
    static PacketOrigin *CopyAllocated(ClassifyFrame *frame);

    // The copy is about to be delivered. `origin` may be nullptr, also in the functions below.
    static void CopyInjected(PacketOrigin *origin);

    // The copy was freed.
    static void CopyFreed(PacketOrigin *origin);

    // The frame's callouts have returned. Returns true if a copy is left, or was injected meanwhile.
    static bool EndClassify(ClassifyFrame &frame);
};

} // namespace sim::wfp

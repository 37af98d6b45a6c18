// Counts the copies of a packet's origin, and tells it once what became of them.
#pragma once

#include "packet_origin.h"

namespace sim::wfp
{

struct ClassifyFrame;

class OriginTracker
{
  public:
    // A copy was allocated. Links it to the origin of the classify that the thread is inside of; nullptr if there is
    // none.
    static PacketOrigin *CopyAllocated(ClassifyFrame *frame);

    // The copy is about to be delivered. `origin` may be nullptr, here and below.
    static void CopyInjected(PacketOrigin *origin);

    // The copy was freed.
    static void CopyFreed(PacketOrigin *origin);

    // The frame's callouts have returned. Whether a copy is left, or was injected meanwhile.
    static bool EndClassify(ClassifyFrame &frame);
};

} // namespace sim::wfp

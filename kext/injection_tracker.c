#include "injection_tracker.h"

_Use_decl_annotations_
VOID InjectionTrackerInitialize(INJECTION_TRACKER *tracker, MEMORY *memory, const CLOCK *clock)
{
    tracker->Clock = clock;
    SipHashKeyInitialize(&tracker->HashKey);
    RecentSetInitialize(&tracker->Packets, memory, INJECTION_TRACKER_SETS, INJECTION_TRACKER_PAIRS_PER_SET);
}

_Use_decl_annotations_
VOID InjectionTrackerUninitialize(INJECTION_TRACKER *tracker)
{
    RecentSetUninitialize(&tracker->Packets);
}

_Use_decl_annotations_
VOID InjectionTrackerEnable(INJECTION_TRACKER *tracker)
{
    RecentSetAllocate(&tracker->Packets);
}

_Use_decl_annotations_
VOID InjectionTrackerAdd(INJECTION_TRACKER *tracker, const UINT8 *packet, UINT32 length)
{
    if (RecentSetIsAllocated(&tracker->Packets))
    {
        RecentSetAdd(&tracker->Packets, SipHash13(&tracker->HashKey, packet, length),
                     ClockNow(tracker->Clock) + INJECTION_TRACKER_TIME_MS * PLATFORM_TICKS_PER_MILLISECOND);
    }
}

_Use_decl_annotations_
BOOLEAN InjectionTrackerTake(INJECTION_TRACKER *tracker, const UINT8 *packet, UINT32 length)
{
    UINT64 until;

    return RecentSetIsAllocated(&tracker->Packets) &&
           RecentSetTake(&tracker->Packets, SipHash13(&tracker->HashKey, packet, length), &until) &&
           ClockNow(tracker->Clock) < until;
}

_Use_decl_annotations_
UINT64 InjectionTrackerCount(INJECTION_TRACKER *tracker)
{
    return RecentSetCount(&tracker->Packets, ClockNow(tracker->Clock) + 1);
}

_Use_decl_annotations_
UINT64 InjectionTrackerBytes(const INJECTION_TRACKER *tracker)
{
    return RecentSetBytes(&tracker->Packets);
}

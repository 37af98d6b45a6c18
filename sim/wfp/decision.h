// The state of arbitration at one classify: the decision of the sublayers so far, and whether it may still change.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

namespace sim::wfp
{

struct Decision
{
    FWP_ACTION_TYPE action = 0; // 0, FWP_ACTION_PERMIT or FWP_ACTION_BLOCK
    UINT32 rights = FWPS_RIGHT_ACTION_WRITE;
    bool absorb = false;

    bool open() const { return (rights & FWPS_RIGHT_ACTION_WRITE) != 0; }

    // Takes the decision of a filter or a callout, if the right to decide is still there.
    void Take(FWP_ACTION_TYPE taken, bool clears_right, bool absorbs)
    {
        if (!open())
        {
            return;
        }
        action = taken;
        absorb = taken == FWP_ACTION_BLOCK && absorbs;
        if (clears_right)
        {
            rights = 0;
        }
    }

    // Turns a permit into a block, which needs no right.
    void Veto(bool absorbs)
    {
        if (action == FWP_ACTION_BLOCK && !open())
        {
            return;
        }
        action = FWP_ACTION_BLOCK;
        rights = 0;
        absorb = absorbs;
    }
};

} // namespace sim::wfp

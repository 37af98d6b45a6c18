// What a verdict means for a packet, as docs/behaviour.md has it.
#pragma once

#include "protocol.h"

namespace kext_test
{

inline bool IsRedirect(uint8_t verdict)
{
    return verdict == VerdictRedirectNameServer || verdict == VerdictRedirectTunnel ||
           verdict == VerdictRedirectSplitTunnel;
}

inline bool IsAccept(uint8_t verdict)
{
    return verdict == VerdictAccept || verdict == VerdictPermanentAccept;
}

inline bool LetsThrough(uint8_t verdict)
{
    return IsAccept(verdict) || IsRedirect(verdict);
}

} // namespace kext_test

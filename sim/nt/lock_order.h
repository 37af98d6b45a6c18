// The order that spin locks are taken in. A lock that is taken while another is held comes behind it for good: taking
// them the other way round may end with two processors that wait for each other, and is found without that they meet.
//
// Only a thread that holds a lock already when it takes another comes here.
#pragma once

#include <ntddk.h>

namespace sim::nt
{

// Bugchecks when `lock` was before `held` so far, perhaps by way of others.
void RememberLockOrder(PKSPIN_LOCK held, PKSPIN_LOCK lock);

// The memory is a new lock's.
void ForgetLockOrder(PKSPIN_LOCK lock);

} // namespace sim::nt

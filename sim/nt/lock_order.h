// The order that locks are taken in: spin locks, and the driver's own that it tells of. A lock that is taken while
// another is held comes behind it for good: taking them the other way round may end with two processors that wait for
// each other, and is found without that they meet.
//
// Only a thread that holds a lock already when it takes another comes here.
#pragma once

namespace sim::nt
{

// Bugchecks when `lock` was before `held` so far, perhaps by way of others.
void RememberLockOrder(const volatile void *held, const volatile void *lock);

// The memory is a new lock's.
void ForgetLockOrder(const volatile void *lock);

} // namespace sim::nt

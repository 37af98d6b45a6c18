// The order in which locks are taken: spin locks, and the locks of the driver that it reports.
// A lock that is taken while another is held comes after that one from then on.
// Taking the two the other way round can deadlock two processors, so it is a bugcheck even if they never meet.
//
// These functions are only called when a thread that holds a lock takes another.
#pragma once

namespace sim::nt
{

// Bugchecks when `lock` already comes before `held`, directly or through other locks.
void RememberLockOrder(const volatile void *held, const volatile void *lock);

// The memory now holds a new lock.
void ForgetLockOrder(const volatile void *lock);

} // namespace sim::nt

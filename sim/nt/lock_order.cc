#include "nt/lock_order.h"

#include <map>
#include <mutex>
#include <set>

#include "nt/bugcheck.h"

namespace sim::nt
{

namespace
{

using LockAddress = const volatile void *;

using Locks = std::map<LockAddress, std::set<LockAddress>>;

// Never destroyed, because other threads run until the process has ended.
std::mutex mutex;
Locks &behind = *new Locks; // for each lock, the locks that were taken while it was held
Locks &ahead = *new Locks;  // the reverse of `behind`

bool IsBehindLocked(LockAddress lock, LockAddress first, std::set<LockAddress> *seen)
{
    const auto found = behind.find(first);

    if (found == behind.end() || !seen->insert(first).second)
    {
        return false;
    }
    for (LockAddress next : found->second)
    {
        if (next == lock || IsBehindLocked(lock, next, seen))
        {
            return true;
        }
    }
    return false;
}

// Removes the lock from one direction, and removes the references to it from the other.
void ForgetLocked(LockAddress lock, Locks *from, Locks *back)
{
    const auto found = from->find(lock);

    if (found == from->end())
    {
        return;
    }
    for (LockAddress other : found->second)
    {
        const auto leads_back = back->find(other);

        leads_back->second.erase(lock);
        if (leads_back->second.empty())
        {
            back->erase(leads_back);
        }
    }
    from->erase(found);
}

} // namespace

void RememberLockOrder(LockAddress held, LockAddress lock)
{
    const std::lock_guard<std::mutex> guard(mutex);
    std::set<LockAddress> seen;

    if (!behind[held].insert(lock).second)
    {
        return;
    }
    if (IsBehindLocked(held, lock, &seen))
    {
        Bugcheck("SPIN_LOCK_ORDER", "lock %p is acquired with %p held, which was acquired after it before",
                 const_cast<const void *>(lock), const_cast<const void *>(held));
    }
    ahead[lock].insert(held);
}

void ForgetLockOrder(LockAddress lock)
{
    const std::lock_guard<std::mutex> guard(mutex);

    ForgetLocked(lock, &behind, &ahead);
    ForgetLocked(lock, &ahead, &behind);
}

} // namespace sim::nt

#include "nt/lock_order.h"

#include <map>
#include <mutex>
#include <set>

#include "nt/bugcheck.h"

namespace sim::nt
{

namespace
{

std::mutex mutex;
std::map<PKSPIN_LOCK, std::set<PKSPIN_LOCK>> behind; // of each lock, those that were taken with it held

bool IsBehindLocked(PKSPIN_LOCK lock, PKSPIN_LOCK first, std::set<PKSPIN_LOCK> *seen)
{
    const auto found = behind.find(first);

    if (found == behind.end() || !seen->insert(first).second)
    {
        return false;
    }
    for (PKSPIN_LOCK next : found->second)
    {
        if (next == lock || IsBehindLocked(lock, next, seen))
        {
            return true;
        }
    }
    return false;
}

} // namespace

void RememberLockOrder(PKSPIN_LOCK held, PKSPIN_LOCK lock)
{
    const std::lock_guard<std::mutex> guard(mutex);
    std::set<PKSPIN_LOCK> seen;

    if (IsBehindLocked(held, lock, &seen))
    {
        Bugcheck("SPIN_LOCK_ORDER", "spin lock %p is acquired with %p held, which has been acquired behind it before",
                 static_cast<void *>(lock), static_cast<void *>(held));
    }
    behind[held].insert(lock);
}

void ForgetLockOrder(PKSPIN_LOCK lock)
{
    const std::lock_guard<std::mutex> guard(mutex);

    behind.erase(lock);
    for (auto &[first, others] : behind)
    {
        others.erase(lock);
    }
}

} // namespace sim::nt

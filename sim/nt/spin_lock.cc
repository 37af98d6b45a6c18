// Spin locks. The word of a held lock says which thread holds it and how it was taken:
//
//   bits 0..47   address of the owner's thread state
//   bit 0        taken as an in-stack queued lock (the address is even)
//   bits 56..63  the IRQL before it was raised, plus 1; 0 if the caller was at DISPATCH_LEVEL already
//
// The locks that a driver implements itself (HostAcquireLock) are tracked and ordered together with spin locks.
//
// A waiting thread yields its processor after a while, because the owner may be preempted, unlike on Windows.

#include <ntddk.h>

#include <sched.h>

#include <algorithm>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/irql.h"
#include "nt/lock_order.h"

using namespace sim;
using namespace sim::nt;

namespace
{

constexpr ULONG_PTR kQueued = 1;
constexpr int kIrqlShift = 56;
constexpr ULONG_PTR kOwnerMask = ((ULONG_PTR{1} << 48) - 1) & ~kQueued;
constexpr unsigned kSpinsBeforeYield = 64;
constexpr unsigned kOrderedLocks = 8; // locks per thread whose order is checked; deeper ones are ignored

using AnyLock = const volatile void *;

SIM_THREAD_LOCAL AnyLock held_locks[kOrderedLocks]; // valid up to thread_state.locks_held

ULONG_PTR OwnerToken()
{
    return reinterpret_cast<ULONG_PTR>(&thread_state);
}

ULONG_PTR RaisedFrom(KIRQL irql)
{
    return static_cast<ULONG_PTR>(irql + 1) << kIrqlShift;
}

[[noreturn]] void BugcheckRecursion(AnyLock lock)
{
    Bugcheck("SPIN_LOCK_RECURSION", "lock %p is held by the thread that acquires it", const_cast<const void *>(lock));
}

[[noreturn]] void BugcheckNotOwned(PKSPIN_LOCK lock, ULONG_PTR word)
{
    Bugcheck("SPIN_LOCK_NOT_OWNED", "spin lock %p is released, but %s", static_cast<const void *>(lock),
             word == 0 ? "nobody holds it" : "another thread holds it");
}

[[noreturn]] void BugcheckMixed(PKSPIN_LOCK lock)
{
    Bugcheck("SPIN_LOCK_MIXED", "spin lock %p is queued in one call and plain in the other of an acquire/release pair",
             static_cast<const void *>(lock));
}

[[noreturn]] void BugcheckReleaseIrql(PKSPIN_LOCK lock, KIRQL irql, ULONG_PTR word)
{
    Bugcheck("SPIN_LOCK_WRONG_IRQL", "spin lock %p is released to IRQL %u; it was acquired at %u",
             static_cast<const void *>(lock), static_cast<unsigned>(irql),
             static_cast<unsigned>((word >> kIrqlShift) - 1));
}

bool TryAcquire(PKSPIN_LOCK lock, ULONG_PTR word)
{
    ULONG_PTR expected = 0;

    return __atomic_compare_exchange_n(lock, &expected, word, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

__attribute__((noinline)) void AcquireContended(PKSPIN_LOCK lock, ULONG_PTR word)
{
    do
    {
        ULONG_PTR held;

        while ((held = __atomic_load_n(lock, __ATOMIC_RELAXED)) != 0)
        {
            if ((held & kOwnerMask) == (word & kOwnerMask))
            {
                BugcheckRecursion(lock);
            }
            HostYieldProcessor();
        }
    } while (!TryAcquire(lock, word));
}

__attribute__((noinline)) void CheckOrder(AnyLock lock)
{
    const Machine *const machine = thread_state.machine;
    const bool remember = machine == nullptr || machine->options().verifier;

    for (unsigned i = 0; i < thread_state.locks_held && i < kOrderedLocks; i++)
    {
        if (held_locks[i] == lock)
        {
            BugcheckRecursion(lock);
        }
        if (remember)
        {
            RememberLockOrder(held_locks[i], lock);
        }
    }
}

void RememberHeld(AnyLock lock)
{
    if (thread_state.locks_held < kOrderedLocks)
    {
        held_locks[thread_state.locks_held] = lock;
    }
    thread_state.locks_held++;
}

// Locks may be released in any order. Returns false if the thread does not hold the lock.
bool ForgetHeld(AnyLock lock)
{
    const unsigned held = thread_state.locks_held;
    AnyLock *const end = held_locks + std::min(held, kOrderedLocks);
    AnyLock *const found = std::find(held_locks, end, lock);

    if (found == end && held <= kOrderedLocks)
    {
        return false;
    }
    if (found != end)
    {
        std::copy(found + 1, end, found);
    }
    thread_state.locks_held--;
    return true;
}

void Acquire(PKSPIN_LOCK lock, ULONG_PTR word)
{
    RequireStack("KeAcquireSpinLock");
    if (thread_state.locks_held != 0)
    {
        CheckOrder(lock);
    }
    if (!TryAcquire(lock, word))
    {
        AcquireContended(lock, word);
    }
    RememberHeld(lock);
}

// Returns the word that the lock was held with.
ULONG_PTR Release(PKSPIN_LOCK lock, ULONG_PTR queued)
{
    ULONG_PTR word = __atomic_load_n(lock, __ATOMIC_RELAXED);

    if ((word & kOwnerMask) != OwnerToken())
    {
        BugcheckNotOwned(lock, word);
    }
    if ((word & kQueued) != queued)
    {
        BugcheckMixed(lock);
    }
    ForgetHeld(lock);
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
    return word;
}

void ReleaseTo(PKSPIN_LOCK lock, ULONG_PTR queued, KIRQL irql)
{
    ULONG_PTR word = Release(lock, queued);

    if ((word >> kIrqlShift) != 0 && (word >> kIrqlShift) != ULONG_PTR{irql} + 1)
    {
        BugcheckReleaseIrql(lock, irql, word);
    }
    KeLowerIrql(irql);
}

} // namespace

extern "C" VOID KeInitializeSpinLock(PKSPIN_LOCK SpinLock)
{
    ForgetLockOrder(SpinLock);
    __atomic_store_n(SpinLock, 0, __ATOMIC_RELAXED);
}

extern "C" KIRQL KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK SpinLock)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "KeAcquireSpinLock");
    KIRQL old = RaiseIrql(DISPATCH_LEVEL);

    Acquire(SpinLock, OwnerToken() | RaisedFrom(old));
    return old;
}

extern "C" VOID KeReleaseSpinLock(PKSPIN_LOCK SpinLock, KIRQL NewIrql)
{
    RequireIrql(DISPATCH_LEVEL, "KeReleaseSpinLock");
    ReleaseTo(SpinLock, 0, NewIrql);
}

extern "C" VOID KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    RequireIrql(DISPATCH_LEVEL, "KeAcquireSpinLockAtDpcLevel");
    Acquire(SpinLock, OwnerToken());
}

extern "C" VOID KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK SpinLock)
{
    RequireIrql(DISPATCH_LEVEL, "KeReleaseSpinLockFromDpcLevel");
    Release(SpinLock, 0);
}

extern "C" BOOLEAN KeTryToAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    RequireIrql(DISPATCH_LEVEL, "KeTryToAcquireSpinLockAtDpcLevel");
    if (!TryAcquire(SpinLock, OwnerToken()))
    {
        return FALSE;
    }
    RememberHeld(SpinLock);
    return TRUE;
}

extern "C" BOOLEAN KeTestSpinLock(PKSPIN_LOCK SpinLock)
{
    return __atomic_load_n(SpinLock, __ATOMIC_RELAXED) == 0;
}

extern "C" VOID KeAcquireInStackQueuedSpinLock(PKSPIN_LOCK SpinLock, PKLOCK_QUEUE_HANDLE LockHandle)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "KeAcquireInStackQueuedSpinLock");
    LockHandle->LockQueue.Next = nullptr;
    LockHandle->LockQueue.Lock = SpinLock;
    LockHandle->OldIrql = RaiseIrql(DISPATCH_LEVEL);
    Acquire(SpinLock, OwnerToken() | kQueued | RaisedFrom(LockHandle->OldIrql));
}

extern "C" VOID KeReleaseInStackQueuedSpinLock(PKLOCK_QUEUE_HANDLE LockHandle)
{
    RequireIrql(DISPATCH_LEVEL, "KeReleaseInStackQueuedSpinLock");
    ReleaseTo(LockHandle->LockQueue.Lock, kQueued, LockHandle->OldIrql);
}

extern "C" VOID KeAcquireInStackQueuedSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock, PKLOCK_QUEUE_HANDLE LockHandle)
{
    RequireIrql(DISPATCH_LEVEL, "KeAcquireInStackQueuedSpinLockAtDpcLevel");
    LockHandle->LockQueue.Next = nullptr;
    LockHandle->LockQueue.Lock = SpinLock;
    LockHandle->OldIrql = DISPATCH_LEVEL;
    Acquire(SpinLock, OwnerToken() | kQueued);
}

extern "C" VOID KeReleaseInStackQueuedSpinLockFromDpcLevel(PKLOCK_QUEUE_HANDLE LockHandle)
{
    RequireIrql(DISPATCH_LEVEL, "KeReleaseInStackQueuedSpinLockFromDpcLevel");
    Release(LockHandle->LockQueue.Lock, kQueued);
}

extern "C" VOID HostInitializeLock(const volatile VOID *Lock)
{
    ForgetLockOrder(Lock);
}

extern "C" VOID HostAcquireLock(const volatile VOID *Lock)
{
    RequireIrql(DISPATCH_LEVEL, "HostAcquireLock");
    RequireStack("HostAcquireLock");
    if (thread_state.locks_held != 0)
    {
        CheckOrder(Lock);
    }
    RememberHeld(Lock);
}

extern "C" VOID HostReleaseLock(const volatile VOID *Lock)
{
    RequireIrql(DISPATCH_LEVEL, "HostReleaseLock");
    if (!ForgetHeld(Lock))
    {
        Bugcheck("SPIN_LOCK_NOT_OWNED", "lock %p is released by a thread that does not hold it",
                 const_cast<const void *>(Lock));
    }
}

extern "C" VOID HostYieldProcessor(VOID)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
    if (++thread_state.spins % kSpinsBeforeYield == 0)
    {
        sched_yield();
    }
}

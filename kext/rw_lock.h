// A reader-writer spin lock in one word. Wine lacks the system's lock (ExAcquireSpinLockShared).
//
// Bit 31 is set while a writer holds the lock or waits for the readers to leave.
// No reader enters while bit 31 is set, so that readers cannot starve a writer.
// Bits 0 to 30 count the readers inside.
// All holders run at DISPATCH_LEVEL. The lock is not recursive, and a shared hold cannot be upgraded.

#pragma once

#include "platform.h"

EXTERN_C_START

typedef struct _RW_LOCK
{
    volatile LONG State;
} RW_LOCK;

#define RW_LOCK_WRITER ((LONG)0x80000000)

/// Initializes a free lock. Any IRQL.
FORCEINLINE VOID RwLockInitialize(_Out_ RW_LOCK *lock)
{
    PLATFORM_LOCK_INITIALIZE(lock);
    lock->State = 0;
}

_IRQL_requires_(DISPATCH_LEVEL)
FORCEINLINE VOID RwLockAcquireSharedAtDpcLevel(_Inout_ RW_LOCK *lock)
{
    PLATFORM_LOCK_ACQUIRE(lock);
    for (;;)
    {
        LONG state = ReadNoFence(&lock->State);

        if (state >= 0 && InterlockedCompareExchange(&lock->State, state + 1, state) == state)
        {
            return;
        }
        YieldProcessor();
    }
}

_IRQL_requires_(DISPATCH_LEVEL)
FORCEINLINE VOID RwLockReleaseSharedFromDpcLevel(_Inout_ RW_LOCK *lock)
{
    PLATFORM_LOCK_RELEASE(lock);
    InterlockedDecrement(&lock->State);
}

_IRQL_requires_(DISPATCH_LEVEL)
FORCEINLINE VOID RwLockAcquireExclusiveAtDpcLevel(_Inout_ RW_LOCK *lock)
{
    PLATFORM_LOCK_ACQUIRE(lock);
    while ((InterlockedOr(&lock->State, RW_LOCK_WRITER) & RW_LOCK_WRITER) != 0)
    {
        while (ReadNoFence(&lock->State) < 0)
        {
            YieldProcessor();
        }
    }
    while (ReadAcquire(&lock->State) != RW_LOCK_WRITER)
    {
        YieldProcessor();
    }
}

_IRQL_requires_(DISPATCH_LEVEL)
FORCEINLINE VOID RwLockReleaseExclusiveFromDpcLevel(_Inout_ RW_LOCK *lock)
{
    PLATFORM_LOCK_RELEASE(lock);
    WriteRelease(&lock->State, 0);
}

/// Acquires the lock together with other readers. Pass the returned IRQL to RwLockReleaseShared.
_IRQL_requires_max_(DISPATCH_LEVEL)
_IRQL_raises_(DISPATCH_LEVEL)
_Must_inspect_result_
FORCEINLINE KIRQL RwLockAcquireShared(_Inout_ RW_LOCK *lock)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    RwLockAcquireSharedAtDpcLevel(lock);
    return irql;
}

_IRQL_requires_(DISPATCH_LEVEL)
FORCEINLINE VOID RwLockReleaseShared(_Inout_ RW_LOCK *lock, _In_ _IRQL_restores_ KIRQL irql)
{
    RwLockReleaseSharedFromDpcLevel(lock);
    KeLowerIrql(irql);
}

/// Acquires the lock alone. Pass the returned IRQL to RwLockReleaseExclusive.
_IRQL_requires_max_(DISPATCH_LEVEL)
_IRQL_raises_(DISPATCH_LEVEL)
_Must_inspect_result_
FORCEINLINE KIRQL RwLockAcquireExclusive(_Inout_ RW_LOCK *lock)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    RwLockAcquireExclusiveAtDpcLevel(lock);
    return irql;
}

_IRQL_requires_(DISPATCH_LEVEL)
FORCEINLINE VOID RwLockReleaseExclusive(_Inout_ RW_LOCK *lock, _In_ _IRQL_restores_ KIRQL irql)
{
    RwLockReleaseExclusiveFromDpcLevel(lock);
    KeLowerIrql(irql);
}

EXTERN_C_END

/*
 * The part of the kernel's interface that differs between processors, for AArch64: mingw-w64's wdm.h asks for a header
 * of this name and has none. Only for a build that shows that the sources compile and link.
 */
#pragma once

#define PAGE_SIZE  0x1000
#define PAGE_SHIFT 12L

#define PASSIVE_LEVEL  0
#define APC_LEVEL      1
#define DISPATCH_LEVEL 2
#define HIGH_LEVEL     15

#define YieldProcessor()  __asm__ volatile("yield")
#define KeMemoryBarrier() __sync_synchronize()

NTKERNELAPI KIRQL NTAPI KeGetCurrentIrql(VOID);
NTKERNELAPI KIRQL NTAPI KfRaiseIrql(KIRQL irql);
NTKERNELAPI VOID NTAPI KfLowerIrql(KIRQL irql);
NTKERNELAPI KIRQL NTAPI KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK lock);
NTKERNELAPI VOID NTAPI KeReleaseSpinLock(PKSPIN_LOCK lock, KIRQL irql);
NTKERNELAPI VOID NTAPI KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK lock);
NTKERNELAPI VOID NTAPI KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK lock);

#define KeRaiseIrql(irql, old)       (*(old) = KfRaiseIrql(irql))
#define KeLowerIrql(irql)            KfLowerIrql(irql)
#define KeAcquireSpinLock(lock, old) (*(old) = KeAcquireSpinLockRaiseToDpc(lock))

#define InterlockedIncrement(value)                         __sync_add_and_fetch(value, 1)
#define InterlockedDecrement(value)                         __sync_sub_and_fetch(value, 1)
#define InterlockedExchangeAdd(value, more)                 __sync_fetch_and_add(value, more)
#define InterlockedIncrement64(value)                       __sync_add_and_fetch(value, 1)
#define InterlockedDecrement64(value)                       __sync_sub_and_fetch(value, 1)
#define InterlockedAdd64(value, more)                       __sync_add_and_fetch(value, more)
#define InterlockedExchangeAdd64(value, more)               __sync_fetch_and_add(value, more)
#define InterlockedOr(value, bits)                          __sync_fetch_and_or(value, bits)
#define InterlockedAnd(value, bits)                         __sync_fetch_and_and(value, bits)
#define InterlockedExchange(value, next)                    __atomic_exchange_n(value, next, __ATOMIC_SEQ_CST)
#define InterlockedExchange64(value, next)                  __atomic_exchange_n(value, next, __ATOMIC_SEQ_CST)
#define InterlockedExchangePointer(value, next)             __atomic_exchange_n(value, next, __ATOMIC_SEQ_CST)
#define InterlockedCompareExchange(value, next, old)        __sync_val_compare_and_swap(value, old, next)
#define InterlockedCompareExchange64(value, next, old)      __sync_val_compare_and_swap(value, old, next)
#define InterlockedCompareExchangePointer(value, next, old) __sync_val_compare_and_swap(value, old, next)

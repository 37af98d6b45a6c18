// Interlocked operations and ordered reads and writes, over the compiler's atomics. A function without a suffix is a full
// barrier, as on Windows; the suffixes are as weak as they say, so that a host with a weak memory model, and the thread
// sanitizer, see what the source asked for.
#pragma once

#include "types.h"

#define HOST_INTERLOCKED_EXCHANGE(suffix, order, type, bits)                                                           \
    FORCEINLINE type InterlockedExchange##bits##suffix(type volatile *Target, type Value)                              \
    {                                                                                                                  \
        return __atomic_exchange_n(Target, Value, order);                                                              \
    }                                                                                                                  \
    FORCEINLINE type InterlockedCompareExchange##bits##suffix(type volatile *Destination, type Exchange,               \
                                                              type Comperand)                                          \
    {                                                                                                                  \
        type Expected = Comperand;                                                                                     \
        __atomic_compare_exchange_n(Destination, &Expected, Exchange, 0, order, HOST_FAILURE_ORDER_##suffix);          \
        return Expected;                                                                                               \
    }

#define HOST_INTERLOCKED_ARITHMETIC(suffix, order, type, bits)                                                         \
    FORCEINLINE type InterlockedIncrement##bits##suffix(type volatile *Addend)                                         \
    {                                                                                                                  \
        return __atomic_add_fetch(Addend, 1, order);                                                                   \
    }                                                                                                                  \
    FORCEINLINE type InterlockedDecrement##bits##suffix(type volatile *Addend)                                         \
    {                                                                                                                  \
        return __atomic_sub_fetch(Addend, 1, order);                                                                   \
    }                                                                                                                  \
    FORCEINLINE type InterlockedExchangeAdd##bits##suffix(type volatile *Addend, type Value)                           \
    {                                                                                                                  \
        return __atomic_fetch_add(Addend, Value, order);                                                               \
    }                                                                                                                  \
    FORCEINLINE type InterlockedAdd##bits##suffix(type volatile *Addend, type Value)                                   \
    {                                                                                                                  \
        return __atomic_add_fetch(Addend, Value, order);                                                               \
    }                                                                                                                  \
    FORCEINLINE type InterlockedAnd##bits##suffix(type volatile *Destination, type Value)                              \
    {                                                                                                                  \
        return __atomic_fetch_and(Destination, Value, order);                                                          \
    }                                                                                                                  \
    FORCEINLINE type InterlockedOr##bits##suffix(type volatile *Destination, type Value)                               \
    {                                                                                                                  \
        return __atomic_fetch_or(Destination, Value, order);                                                           \
    }                                                                                                                  \
    FORCEINLINE type InterlockedXor##bits##suffix(type volatile *Destination, type Value)                              \
    {                                                                                                                  \
        return __atomic_fetch_xor(Destination, Value, order);                                                          \
    }

// A failed comparison only reads: it cannot release.
#define HOST_FAILURE_ORDER_        __ATOMIC_SEQ_CST
#define HOST_FAILURE_ORDER_Acquire __ATOMIC_ACQUIRE
#define HOST_FAILURE_ORDER_Release __ATOMIC_RELAXED
#define HOST_FAILURE_ORDER_NoFence __ATOMIC_RELAXED

#define HOST_INTERLOCKED(type, bits)                                                                                   \
    HOST_INTERLOCKED_EXCHANGE(, __ATOMIC_SEQ_CST, type, bits)                                                          \
    HOST_INTERLOCKED_EXCHANGE(Acquire, __ATOMIC_ACQUIRE, type, bits)                                                   \
    HOST_INTERLOCKED_EXCHANGE(Release, __ATOMIC_RELEASE, type, bits)                                                   \
    HOST_INTERLOCKED_EXCHANGE(NoFence, __ATOMIC_RELAXED, type, bits)                                                   \
    HOST_INTERLOCKED_ARITHMETIC(, __ATOMIC_SEQ_CST, type, bits)                                                        \
    HOST_INTERLOCKED_ARITHMETIC(Acquire, __ATOMIC_ACQUIRE, type, bits)                                                 \
    HOST_INTERLOCKED_ARITHMETIC(Release, __ATOMIC_RELEASE, type, bits)                                                 \
    HOST_INTERLOCKED_ARITHMETIC(NoFence, __ATOMIC_RELAXED, type, bits)

HOST_INTERLOCKED(CHAR, 8)
HOST_INTERLOCKED(SHORT, 16)
HOST_INTERLOCKED(LONG, )
HOST_INTERLOCKED(LONG64, 64)
HOST_INTERLOCKED_EXCHANGE(, __ATOMIC_SEQ_CST, PVOID, Pointer)
HOST_INTERLOCKED_EXCHANGE(Acquire, __ATOMIC_ACQUIRE, PVOID, Pointer)
HOST_INTERLOCKED_EXCHANGE(Release, __ATOMIC_RELEASE, PVOID, Pointer)
HOST_INTERLOCKED_EXCHANGE(NoFence, __ATOMIC_RELAXED, PVOID, Pointer)

FORCEINLINE UCHAR InterlockedBitTestAndSet(LONG volatile *Base, LONG Bit)
{
    return (UCHAR)((InterlockedOr(Base, (LONG)(1U << Bit)) >> Bit) & 1);
}

FORCEINLINE UCHAR InterlockedBitTestAndReset(LONG volatile *Base, LONG Bit)
{
    return (UCHAR)((InterlockedAnd(Base, (LONG) ~(1U << Bit)) >> Bit) & 1);
}

#define HOST_ORDERED_ACCESS(name, type, infix)                                                                         \
    FORCEINLINE type Read##name##Acquire##infix(type const volatile *Source)                                           \
    {                                                                                                                  \
        return __atomic_load_n(Source, __ATOMIC_ACQUIRE);                                                              \
    }                                                                                                                  \
    FORCEINLINE type Read##name##NoFence##infix(type const volatile *Source)                                           \
    {                                                                                                                  \
        return __atomic_load_n(Source, __ATOMIC_RELAXED);                                                              \
    }                                                                                                                  \
    FORCEINLINE type Read##name##Raw##infix(type const volatile *Source)                                               \
    {                                                                                                                  \
        return __atomic_load_n(Source, __ATOMIC_RELAXED);                                                              \
    }                                                                                                                  \
    FORCEINLINE VOID Write##name##Release##infix(type volatile *Destination, type Value)                               \
    {                                                                                                                  \
        __atomic_store_n(Destination, Value, __ATOMIC_RELEASE);                                                        \
    }                                                                                                                  \
    FORCEINLINE VOID Write##name##NoFence##infix(type volatile *Destination, type Value)                               \
    {                                                                                                                  \
        __atomic_store_n(Destination, Value, __ATOMIC_RELAXED);                                                        \
    }                                                                                                                  \
    FORCEINLINE VOID Write##name##Raw##infix(type volatile *Destination, type Value)                                   \
    {                                                                                                                  \
        __atomic_store_n(Destination, Value, __ATOMIC_RELAXED);                                                        \
    }

HOST_ORDERED_ACCESS(, LONG, )
HOST_ORDERED_ACCESS(, LONG64, 64)
HOST_ORDERED_ACCESS(ULong, ULONG, )
HOST_ORDERED_ACCESS(ULong, ULONG64, 64)
HOST_ORDERED_ACCESS(, CHAR, 8)
HOST_ORDERED_ACCESS(, SHORT, 16)
HOST_ORDERED_ACCESS(UChar, UCHAR, )
HOST_ORDERED_ACCESS(UShort, USHORT, )
HOST_ORDERED_ACCESS(Boolean, BOOLEAN, )
HOST_ORDERED_ACCESS(Pointer, PVOID, )

FORCEINLINE VOID KeMemoryBarrier(VOID)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#define MemoryBarrier()                KeMemoryBarrier()
#define KeMemoryBarrierWithoutFence()  __atomic_signal_fence(__ATOMIC_SEQ_CST)

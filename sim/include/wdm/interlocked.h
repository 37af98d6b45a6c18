// Interlocked operations and ordered reads and writes, implemented with the compiler's atomics.
// A function without a suffix is a full barrier, as on Windows. A suffix is exactly as weak as it says.
// A host with a weak memory model and the thread sanitizer then see the order that the source asks for.
#pragma once

#include "types.h"

// Windows writes a type's width behind the suffix, but before it for bitwise operations; "Pointer" stands before it.

#define HOST_INTERLOCKED_EXCHANGE(before, suffix, after, order, type)                                                  \
    FORCEINLINE type InterlockedExchange##before##suffix##after(type volatile *Target, type Value)                     \
    {                                                                                                                  \
        return __atomic_exchange_n(Target, Value, order);                                                              \
    }                                                                                                                  \
    FORCEINLINE type InterlockedCompareExchange##before##suffix##after(type volatile *Destination, type Exchange,      \
                                                                       type Comperand)                                 \
    {                                                                                                                  \
        type Expected = Comperand;                                                                                     \
        __atomic_compare_exchange_n(Destination, &Expected, Exchange, 0, order, HOST_FAILURE_ORDER_##suffix);          \
        return Expected;                                                                                               \
    }

#define HOST_INTERLOCKED_INTEGER(suffix, width, order, type)                                                           \
    HOST_INTERLOCKED_EXCHANGE(, suffix, width, order, type)                                                            \
    FORCEINLINE type InterlockedIncrement##suffix##width(type volatile *Addend)                                        \
    {                                                                                                                  \
        return __atomic_add_fetch(Addend, 1, order);                                                                   \
    }                                                                                                                  \
    FORCEINLINE type InterlockedDecrement##suffix##width(type volatile *Addend)                                        \
    {                                                                                                                  \
        return __atomic_sub_fetch(Addend, 1, order);                                                                   \
    }                                                                                                                  \
    FORCEINLINE type InterlockedExchangeAdd##suffix##width(type volatile *Addend, type Value)                          \
    {                                                                                                                  \
        return __atomic_fetch_add(Addend, Value, order);                                                               \
    }                                                                                                                  \
    FORCEINLINE type InterlockedAdd##suffix##width(type volatile *Addend, type Value)                                  \
    {                                                                                                                  \
        return __atomic_add_fetch(Addend, Value, order);                                                               \
    }                                                                                                                  \
    FORCEINLINE type InterlockedAnd##width##suffix(type volatile *Destination, type Value)                             \
    {                                                                                                                  \
        return __atomic_fetch_and(Destination, Value, order);                                                          \
    }                                                                                                                  \
    FORCEINLINE type InterlockedOr##width##suffix(type volatile *Destination, type Value)                              \
    {                                                                                                                  \
        return __atomic_fetch_or(Destination, Value, order);                                                           \
    }                                                                                                                  \
    FORCEINLINE type InterlockedXor##width##suffix(type volatile *Destination, type Value)                             \
    {                                                                                                                  \
        return __atomic_fetch_xor(Destination, Value, order);                                                          \
    }

// A failed comparison only reads, so it cannot release.
#define HOST_FAILURE_ORDER_        __ATOMIC_SEQ_CST
#define HOST_FAILURE_ORDER_Acquire __ATOMIC_ACQUIRE
#define HOST_FAILURE_ORDER_Release __ATOMIC_RELAXED
#define HOST_FAILURE_ORDER_NoFence __ATOMIC_RELAXED

#define HOST_INTERLOCKED(width, type)                                                                                  \
    HOST_INTERLOCKED_INTEGER(, width, __ATOMIC_SEQ_CST, type)                                                          \
    HOST_INTERLOCKED_INTEGER(Acquire, width, __ATOMIC_ACQUIRE, type)                                                   \
    HOST_INTERLOCKED_INTEGER(Release, width, __ATOMIC_RELEASE, type)                                                   \
    HOST_INTERLOCKED_INTEGER(NoFence, width, __ATOMIC_RELAXED, type)

HOST_INTERLOCKED(8, CHAR)
HOST_INTERLOCKED(16, SHORT)
HOST_INTERLOCKED(, LONG)
HOST_INTERLOCKED(64, LONG64)
HOST_INTERLOCKED_EXCHANGE(Pointer, , , __ATOMIC_SEQ_CST, PVOID)
HOST_INTERLOCKED_EXCHANGE(Pointer, Acquire, , __ATOMIC_ACQUIRE, PVOID)
HOST_INTERLOCKED_EXCHANGE(Pointer, Release, , __ATOMIC_RELEASE, PVOID)
HOST_INTERLOCKED_EXCHANGE(Pointer, NoFence, , __ATOMIC_RELAXED, PVOID)

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

#define MemoryBarrier()               KeMemoryBarrier()
#define KeMemoryBarrierWithoutFence() __atomic_signal_fence(__ATOMIC_SEQ_CST)

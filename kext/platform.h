// The one way to the system's headers, and the few things that differ between the kits that build the kext:
// MSVC with the WDK, mingw-w64's DDK, and the host build, where the headers under sim/include stand in for both.

#pragma once

#include <ntddk.h>

#include <stdarg.h>
#include <stdio.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#if !defined(__cplusplus) && !defined(static_assert)
#define static_assert _Static_assert
#endif

#ifndef EXTERN_C_START
#ifdef __cplusplus
#define EXTERN_C_START                                                                                                 \
    extern "C"                                                                                                         \
    {
#define EXTERN_C_END }
#else
#define EXTERN_C_START
#define EXTERN_C_END
#endif
#endif

// Code that runs in DriverEntry alone: Windows frees its section afterwards.
#if defined(_KERNEL_MODE)
#define PLATFORM_INIT __declspec(code_seg("INIT"))
#elif defined(KEXT_MINGW_DDK)
#define PLATFORM_INIT __attribute__((section("INIT")))
#else
#define PLATFORM_INIT
#endif

// By how many powers of two all tables are smaller than on a computer: fuzzers fill small ones sooner, and load the
// driver faster. At most 7.
#ifndef PLATFORM_TABLE_SHRINK
#define PLATFORM_TABLE_SHRINK 0
#endif

// What RwLock* tell the simulated kernel, whose rules for locks cannot see them otherwise.
#ifdef HOST_KNOWS_LOCKS
#define PLATFORM_LOCK_INITIALIZE(lock) HostInitializeLock(lock)
#define PLATFORM_LOCK_ACQUIRE(lock)    HostAcquireLock(lock)
#define PLATFORM_LOCK_RELEASE(lock)    HostReleaseLock(lock)
#else
#define PLATFORM_LOCK_INITIALIZE(lock)
#define PLATFORM_LOCK_ACQUIRE(lock)
#define PLATFORM_LOCK_RELEASE(lock)
#endif

// Shared counters and locks are padded to this, so that two processors do not fight over one line.
#define PLATFORM_CACHE_LINE 64

// KeQueryInterruptTime counts in 100 ns.
#define PLATFORM_TICKS_PER_MILLISECOND 10000ULL
#define PLATFORM_TICKS_PER_SECOND      10000000ULL

// Windows 8 and later; mingw-w64's DDK lacks it.
#ifndef MdlMappingNoExecute
#define MdlMappingNoExecute 0x40000000
#endif

// For the WDK's static analysis; mingw-w64's annotations lack it.
#ifndef _Dispatch_type_
#define _Dispatch_type_(majorFunction)
#endif

// In seconds, which is fine enough for limits of a minute. Differences are right across a wrap-around.
FORCEINLINE UINT32 PlatformSeconds(VOID)
{
    return (UINT32)(KeQueryInterruptTime() / PLATFORM_TICKS_PER_SECOND);
}

#ifdef KEXT_MINGW_DDK
// The WDK has these as inline functions; mingw-w64's DDK lacks them.
EXTERN_C_START

FORCEINLINE LONG ReadAcquire(const volatile LONG *source)
{
    return __atomic_load_n(source, __ATOMIC_ACQUIRE);
}

FORCEINLINE LONG ReadNoFence(const volatile LONG *source)
{
    return __atomic_load_n(source, __ATOMIC_RELAXED);
}

FORCEINLINE VOID WriteRelease(volatile LONG *destination, LONG value)
{
    __atomic_store_n(destination, value, __ATOMIC_RELEASE);
}

FORCEINLINE VOID WriteNoFence(volatile LONG *destination, LONG value)
{
    __atomic_store_n(destination, value, __ATOMIC_RELAXED);
}

FORCEINLINE LONG64 ReadAcquire64(const volatile LONG64 *source)
{
    return __atomic_load_n(source, __ATOMIC_ACQUIRE);
}

FORCEINLINE LONG64 ReadNoFence64(const volatile LONG64 *source)
{
    return __atomic_load_n(source, __ATOMIC_RELAXED);
}

FORCEINLINE VOID WriteRelease64(volatile LONG64 *destination, LONG64 value)
{
    __atomic_store_n(destination, value, __ATOMIC_RELEASE);
}

FORCEINLINE VOID WriteNoFence64(volatile LONG64 *destination, LONG64 value)
{
    __atomic_store_n(destination, value, __ATOMIC_RELAXED);
}

EXTERN_C_END
#endif

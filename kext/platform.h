// Includes the system's headers and levels the differences between the kits that build the kext.
//
// The kits are MSVC with the WDK, mingw-w64's DDK, and the host build, whose headers are those of sim/include.

#pragma once

#include <ntddk.h>
#ifdef KEXT_MINGW_DDK
#include <mingw_ntddk.h>
#endif

#include <stdarg.h>
#include <stdio.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <netioapi.h>

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

// Marks code that only DriverEntry runs. Windows frees its section afterwards.
#if defined(_KERNEL_MODE)
#define PLATFORM_INIT __declspec(code_seg("INIT"))
#elif defined(KEXT_MINGW_DDK)
#define PLATFORM_INIT __attribute__((section("INIT")))
#else
#define PLATFORM_INIT
#endif

// All tables are smaller by this many powers of two, at most 7.
// Fuzzers use small tables: they fill sooner, and the driver loads faster.
#ifndef PLATFORM_TABLE_SHRINK
#define PLATFORM_TABLE_SHRINK 0
#endif

// Windows loads an image once for each driver, so a driver has one context. A simulation has many in one process.
#if defined(_KERNEL_MODE) || defined(KEXT_MINGW_DDK)
#define PLATFORM_MAX_CONTEXTS 1
#else
#define PLATFORM_MAX_CONTEXTS 4096
#endif

// RwLock* report to the simulated kernel, whose lock rules cannot see an RW_LOCK otherwise.
#ifdef HOST_KNOWS_LOCKS
#define PLATFORM_LOCK_INITIALIZE(lock) HostInitializeLock(lock)
#define PLATFORM_LOCK_ACQUIRE(lock)    HostAcquireLock(lock)
#define PLATFORM_LOCK_RELEASE(lock)    HostReleaseLock(lock)
#else
#define PLATFORM_LOCK_INITIALIZE(lock)
#define PLATFORM_LOCK_ACQUIRE(lock)
#define PLATFORM_LOCK_RELEASE(lock)
#endif

// The WDK declares it in ntifs.h, which is for file systems.
#if defined(_KERNEL_MODE) || defined(KEXT_MINGW_DDK)
EXTERN_C_START
_IRQL_requires_max_(APC_LEVEL)
NTKERNELAPI NTSTATUS NTAPI PsLookupProcessByProcessId(_In_ HANDLE processId, _Outptr_ PEPROCESS *process);
EXTERN_C_END
#endif

// Shared counters and locks are padded to a cache line, so that two processors do not contend for one line.
// 64 bytes on x64, 128 bytes on ARM64.
#define PLATFORM_CACHE_LINE SYSTEM_CACHE_ALIGNMENT_SIZE

// The WDK declares these flags only for the newest version of Windows. Build 25876 is the first that knows them.
#define PLATFORM_CALLOUT_FLAG_ALLOW_USO 0x00000100u
#define PLATFORM_CALLOUT_FLAG_ALLOW_URO 0x00000200u
#define PLATFORM_UDP_FLAGS_FIRST_BUILD  25876u

// The system's clocks count in 100 ns.
#define PLATFORM_TICKS_PER_MILLISECOND 10000ULL
#define PLATFORM_TICKS_PER_SECOND      10000000ULL

/// Finds a routine of the kernel. Returns 0 on a system without it.
_IRQL_requires_(PASSIVE_LEVEL)
FORCEINLINE ULONG_PTR PlatformFindRoutine(_In_z_ const WCHAR *name)
{
    UNICODE_STRING string;

    RtlInitUnicodeString(&string, name);
    return (ULONG_PTR)MmGetSystemRoutineAddress(&string);
}

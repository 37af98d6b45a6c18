// Declares what the WDK's ntddk.h has and mingw-w64's lacks.

#pragma once

// Exists since Windows 8. mingw-w64's DDK lacks it.
#ifndef MdlMappingNoExecute
#define MdlMappingNoExecute 0x40000000
#endif

// Serves the WDK's static analysis. mingw-w64's annotations lack it.
#ifndef _Dispatch_type_
#define _Dispatch_type_(majorFunction)
#endif

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

// mingw-w64's DDK declares the structure alone.
NTSYSAPI NTSTATUS NTAPI RtlGetVersion(PRTL_OSVERSIONINFOW versionInformation);

// The kernel's run-time library, and the functions by which a driver ends the machine.

#include <ntddk.h>

#include <cstring>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/irql.h"

using namespace sim;

extern "C" SIZE_T RtlCompareMemory(const VOID *Source1, const VOID *Source2, SIZE_T Length)
{
    const UCHAR *left = static_cast<const UCHAR *>(Source1);
    const UCHAR *right = static_cast<const UCHAR *>(Source2);
    SIZE_T equal = 0;

    while (equal < Length && left[equal] == right[equal])
    {
        equal++;
    }
    return equal;
}

extern "C" PVOID RtlSecureZeroMemory(PVOID Address, SIZE_T Length)
{
    std::memset(Address, 0, Length);
    asm volatile("" : : "r"(Address) : "memory");
    return Address;
}

// A multiplicative congruential generator with the modulus 2^31 - 1.
extern "C" ULONG RtlRandomEx(PULONG Seed)
{
    constexpr uint64_t kModulus = 0x7FFFFFFF;
    constexpr uint64_t kMultiplier = 48271;

    uint64_t state = *Seed % kModulus;

    *Seed = static_cast<ULONG>((state == 0 ? 1 : state) * kMultiplier % kModulus);
    return *Seed;
}

extern "C" NTSTATUS NTAPI RtlGetVersion(PRTL_OSVERSIONINFOW VersionInformation)
{
    sim::nt::RequireIrql(PASSIVE_LEVEL, "RtlGetVersion");
    if (VersionInformation->dwOSVersionInfoSize != sizeof(RTL_OSVERSIONINFOW))
    {
        Bugcheck("WRONG_STRUCTURE_SIZE", "RtlGetVersion was called with a structure of %u bytes",
                 VersionInformation->dwOSVersionInfoSize);
    }
    *VersionInformation = {};
    VersionInformation->dwOSVersionInfoSize = sizeof(RTL_OSVERSIONINFOW);
    VersionInformation->dwMajorVersion = 10;
    VersionInformation->dwBuildNumber = Machine::Current().options().windows_build;
    VersionInformation->dwPlatformId = VER_PLATFORM_WIN32_NT;
    return STATUS_SUCCESS;
}

extern "C" VOID HostListCorrupted(const LIST_ENTRY *Entry)
{
    Bugcheck("LIST_CORRUPTED",
             "the neighbours of list entry %p do not point back at it: it was removed twice, inserted "
             "twice, or overwritten",
             static_cast<const void *>(Entry));
}

extern "C" VOID KeBugCheckEx(ULONG BugCheckCode, ULONG_PTR BugCheckParameter1, ULONG_PTR BugCheckParameter2,
                             ULONG_PTR BugCheckParameter3, ULONG_PTR BugCheckParameter4)
{
    Bugcheck("DRIVER_BUGCHECK", "code 0x%08X (0x%llx, 0x%llx, 0x%llx, 0x%llx)", BugCheckCode, BugCheckParameter1,
             BugCheckParameter2, BugCheckParameter3, BugCheckParameter4);
}

extern "C" VOID HostAssertionFailed(PCSTR Expression, PCSTR File, LONG Line)
{
    Bugcheck("ASSERTION", "%s, %s:%d", Expression, File, Line);
}

extern "C" VOID HostPagedCode(PCSTR Function)
{
    nt::RequireIrqlAtMost(APC_LEVEL, Function);
}

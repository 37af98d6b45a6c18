// Lookup of kernel functions by name, for drivers that use functions of newer systems.

#include <ntddk.h>

#include <set>
#include <string>
#include <unordered_map>

#include "machine.h"
#include "nt/irql.h"

namespace
{

using Routines = std::unordered_map<std::string, void *>;

#define ROUTINE(name) {#name, reinterpret_cast<void *>(name)}

const Routines &KnownRoutines()
{
    static const Routines routines = {
        ROUTINE(ExAllocatePool2),
        ROUTINE(ExAllocatePoolWithTag),
        ROUTINE(ExFreePool),
        ROUTINE(ExFreePoolWithTag),
        ROUTINE(KeQueryInterruptTime),
        ROUTINE(KeQueryPerformanceCounter),
        ROUTINE(KeQuerySystemTimePrecise),
        ROUTINE(KeQueryUnbiasedInterruptTime),
        ROUTINE(KeSetCoalescableTimer),
        ROUTINE(PsGetCurrentProcessId),
        ROUTINE(PsGetProcessCreateTimeQuadPart),
        ROUTINE(PsLookupProcessByProcessId),
        ROUTINE(RtlRandomEx),
    };

    return routines;
}

#undef ROUTINE

} // namespace

extern "C" PVOID MmGetSystemRoutineAddress(PUNICODE_STRING SystemRoutineName)
{
    std::string name;

    sim::nt::RequireIrql(PASSIVE_LEVEL, "MmGetSystemRoutineAddress");
    for (USHORT i = 0; i < SystemRoutineName->Length / sizeof(WCHAR); i++)
    {
        name += static_cast<char>(SystemRoutineName->Buffer[i]);
    }

    auto found = KnownRoutines().find(name);
    const std::set<std::string> &missing = sim::Machine::Current().options().missing_routines;

    return found == KnownRoutines().end() || missing.count(name) != 0 ? nullptr : found->second;
}

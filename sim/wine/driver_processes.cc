// Wine 8 does not implement PsGetProcessCreateTimeQuadPart: a driver that calls it is ended.
// The programs that a test lets connect are the simulation's, so the driver finds their processes there.

#include "driver_processes.h"

#include <ntddk.h>

#include "machine.h"
#include "nt/processes.h"

extern "C" LONG_PTR NTAPI WineObfDereferenceObject(PVOID object);

namespace sim::wine
{

namespace
{

// Wine's threads are always at PASSIVE_LEVEL for the driver, also where the simulation is at DISPATCH_LEVEL.
NTSTATUS NTAPI LookupProcessOfDriver(HANDLE id, PEPROCESS *process)
{
    *process = Machine::Current().processes().Refer(reinterpret_cast<uintptr_t>(id));
    return *process != nullptr ? STATUS_SUCCESS : STATUS_INVALID_CID;
}

// The driver has objects of Wine, too.
LONG_PTR NTAPI DereferenceObjectOfDriver(PVOID object)
{
    return Machine::Current().processes().Dereference(object) ? 0 : WineObfDereferenceObject(object);
}

} // namespace

void ReplaceProcesses(const ImportsOfCaller &imports)
{
    imports.Replace("ObfDereferenceObject", reinterpret_cast<void *>(DereferenceObjectOfDriver));
    imports.Replace("PsGetProcessCreateTimeQuadPart", reinterpret_cast<void *>(PsGetProcessCreateTimeQuadPart));
    imports.Replace("PsLookupProcessByProcessId", reinterpret_cast<void *>(LookupProcessOfDriver));
}

} // namespace sim::wine

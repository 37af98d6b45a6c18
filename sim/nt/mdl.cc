// Memory descriptor lists. There is one address space, so mapping an MDL returns the address that it describes.
// A mapping fails only when a fault is injected.

#include <ntddk.h>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/fault_injection.h"
#include "nt/irql.h"
#include "nt/pool.h"

using namespace sim;
using namespace sim::nt;

namespace
{

constexpr ULONG kMdlTag = ' ldM';

void AppendMdl(PMDL *chain, PMDL mdl)
{
    while (*chain != nullptr)
    {
        chain = &(*chain)->Next;
    }
    *chain = mdl;
}

} // namespace

extern "C" PMDL IoAllocateMdl(PVOID VirtualAddress, ULONG Length, BOOLEAN SecondaryBuffer, BOOLEAN, PIRP Irp)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoAllocateMdl");

    SIZE_T pages = ADDRESS_AND_SIZE_TO_SPAN_PAGES(VirtualAddress, Length);
    PMDL mdl = static_cast<PMDL>(Machine::Current().pool().Allocate(sizeof(MDL) + pages * sizeof(PFN_NUMBER), kMdlTag));

    if (mdl == nullptr)
    {
        return nullptr;
    }
    MmInitializeMdl(mdl, VirtualAddress, Length);
    if (Irp != nullptr)
    {
        if (SecondaryBuffer)
        {
            AppendMdl(&Irp->MdlAddress, mdl);
        }
        else
        {
            Irp->MdlAddress = mdl;
        }
    }
    return mdl;
}

extern "C" VOID IoFreeMdl(PMDL Mdl)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoFreeMdl");
    if ((Mdl->MdlFlags & MDL_PAGES_LOCKED) != 0)
    {
        Bugcheck("MDL_FREED_LOCKED", "IoFreeMdl was called for MDL %p, whose pages are locked",
                 static_cast<void *>(Mdl));
    }
    Machine::Current().pool().Free(Mdl, kMdlTag);
}

extern "C" VOID IoBuildPartialMdl(PMDL SourceMdl, PMDL TargetMdl, PVOID VirtualAddress, ULONG Length)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoBuildPartialMdl");

    PCHAR source = static_cast<PCHAR>(MmGetMdlVirtualAddress(SourceMdl));
    PCHAR start = static_cast<PCHAR>(VirtualAddress);
    SIZE_T offset = static_cast<SIZE_T>(start - source);

    if (start < source || offset > SourceMdl->ByteCount || Length > SourceMdl->ByteCount - offset)
    {
        Bugcheck("MDL_PARTIAL_OUTSIDE", "IoBuildPartialMdl was called for bytes outside of MDL %p",
                 static_cast<void *>(SourceMdl));
    }
    MmInitializeMdl(TargetMdl, start, Length == 0 ? SourceMdl->ByteCount - offset : Length);
    TargetMdl->MdlFlags = static_cast<CSHORT>(MDL_PARTIAL | (SourceMdl->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL));
    if ((SourceMdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) != 0)
    {
        TargetMdl->MdlFlags |= MDL_PARENT_MAPPED_SYSTEM_VA | MDL_MAPPED_TO_SYSTEM_VA;
        TargetMdl->MappedSystemVa = start;
    }
}

extern "C" VOID MmBuildMdlForNonPagedPool(PMDL MemoryDescriptorList)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "MmBuildMdlForNonPagedPool");
    MemoryDescriptorList->MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
    MemoryDescriptorList->MappedSystemVa = MmGetMdlVirtualAddress(MemoryDescriptorList);
}

extern "C" PVOID MmMapLockedPagesSpecifyCache(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode,
                                              MEMORY_CACHING_TYPE, PVOID, ULONG, ULONG)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "MmMapLockedPagesSpecifyCache");
    if ((MemoryDescriptorList->MdlFlags & (MDL_PAGES_LOCKED | MDL_PARTIAL)) == 0 || AccessMode != KernelMode)
    {
        Bugcheck("MDL_NOT_LOCKED", "MDL %p is mapped, but its pages are not locked",
                 static_cast<void *>(MemoryDescriptorList));
    }
    if (Machine::Current().faults().ShouldFail())
    {
        return nullptr;
    }
    MemoryDescriptorList->MappedSystemVa = MmGetMdlVirtualAddress(MemoryDescriptorList);
    MemoryDescriptorList->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    return MemoryDescriptorList->MappedSystemVa;
}

extern "C" VOID MmUnmapLockedPages(PVOID, PMDL MemoryDescriptorList)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "MmUnmapLockedPages");
    MemoryDescriptorList->MdlFlags &= ~MDL_MAPPED_TO_SYSTEM_VA;
    MemoryDescriptorList->MappedSystemVa = nullptr;
}

#include "module.h"

#include <cstring>

#include <windows.h>

#include "nt/bugcheck.h"

namespace
{

// Returns the entry of the import address table, or null.
void **FindImport(char *module, const char *name)
{
    const auto *dos = reinterpret_cast<const IMAGE_DOS_HEADER *>(module);
    const auto *headers = reinterpret_cast<const IMAGE_NT_HEADERS *>(module + dos->e_lfanew);
    const IMAGE_DATA_DIRECTORY &directory = headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
    const auto *import = reinterpret_cast<const IMAGE_IMPORT_DESCRIPTOR *>(module + directory.VirtualAddress);

    for (; import->Name != 0; ++import)
    {
        const auto *names = reinterpret_cast<const ULONG_PTR *>(module + import->OriginalFirstThunk);
        auto *addresses = reinterpret_cast<void **>(module + import->FirstThunk);

        for (; *names != 0; ++names, ++addresses)
        {
            const auto *by_name = reinterpret_cast<const IMAGE_IMPORT_BY_NAME *>(module + *names);

            if (!IMAGE_SNAP_BY_ORDINAL(*names) && std::strcmp(reinterpret_cast<const char *>(by_name->Name), name) == 0)
            {
                return addresses;
            }
        }
    }
    return nullptr;
}

} // namespace

namespace sim::wine
{

void KeepModule()
{
    HMODULE module;

    GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       reinterpret_cast<const char *>(&KeepModule), &module);
}

ImportsOfCaller::ImportsOfCaller(const void *address)
{
    HMODULE module = nullptr;

    if (!GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                            static_cast<const char *>(address), &module))
    {
        sim::Bugcheck("UNKNOWN_CALLER", "no module has the address %p", address);
    }
    module_ = reinterpret_cast<char *>(module);
}

void ImportsOfCaller::Replace(const char *name, void *function) const
{
    void **const entry = FindImport(module_, name);
    DWORD protection;

    if (entry == nullptr || !VirtualProtect(entry, sizeof(*entry), PAGE_READWRITE, &protection))
    {
        sim::Bugcheck("NO_IMPORT", "the driver's import of %s was not replaced", name);
    }
    *entry = function;
    VirtualProtect(entry, sizeof(*entry), protection, &protection);
}

} // namespace sim::wine

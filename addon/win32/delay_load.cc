// Delay-loaded imports call this at their first use. It finds Node-API in the program that loaded the addon.
// That program is node.exe, electron.exe or an application made of them.
// Only mingw-w64's linker needs this file. Microsoft's linker has its own code, with node-gyp's hook.
#ifdef __MINGW32__
#include <windows.h>

#include <cstdint>

namespace
{

// The image's delay-load directory entry (PE format, "Delay Import Table").
// All fields but the attributes are relative to the image's base.
struct DelayLoadDescriptor
{
    uint32_t attributes;
    uint32_t name;
    uint32_t module_handle;
    uint32_t address_table;
    uint32_t name_table;
    uint32_t bound_address_table;
    uint32_t unload_table;
    uint32_t time_stamp;
};

} // namespace

extern "C" IMAGE_DOS_HEADER __ImageBase;

extern "C" FARPROC WINAPI __delayLoadHelper2(const DelayLoadDescriptor *descriptor, FARPROC *address)
{
    auto *const base = reinterpret_cast<uint8_t *>(&__ImageBase);
    const auto *const addresses = reinterpret_cast<const FARPROC *>(base + descriptor->address_table);
    const auto *const names = reinterpret_cast<const uint64_t *>(base + descriptor->name_table);
    const uint64_t name = names[address - addresses];
    const auto *const hint_and_name = reinterpret_cast<const IMAGE_IMPORT_BY_NAME *>(base + name);
    const FARPROC function = GetProcAddress(GetModuleHandleW(nullptr), hint_and_name->Name);
    if (function == nullptr)
    {
        // The program is not Node.js, or its Node.js is too old: the addon cannot go on.
        OutputDebugStringA(hint_and_name->Name);
        RaiseException(0xC06D007F /* ERROR_PROC_NOT_FOUND of delay loading */, 0, 0, nullptr);
    }
    *address = function;
    return function;
}
#endif

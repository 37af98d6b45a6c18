#include "../keep_loaded.h"

#include <windows.h>

namespace netverdict
{

void KeepModuleLoaded()
{
    HMODULE module = nullptr;

    (void)GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                             reinterpret_cast<const wchar_t *>(&KeepModuleLoaded), &module);
}

} // namespace netverdict

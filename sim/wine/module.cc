#include "module.h"

#include <windows.h>

namespace sim::wine
{

void KeepModule()
{
    HMODULE module;

    GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       reinterpret_cast<const char *>(&KeepModule), &module);
}

} // namespace sim::wine

#include "keep_loaded.h"

#ifndef _WIN32

#include <dlfcn.h>

namespace netverdict
{

void KeepModuleLoaded()
{
    Dl_info module{};

    if (dladdr(reinterpret_cast<const void *>(&KeepModuleLoaded), &module) != 0)
    {
        // The reference that this takes is never given back.
        (void)dlopen(module.dli_fname, RTLD_NOW | RTLD_NODELETE);
    }
}

} // namespace netverdict

#endif

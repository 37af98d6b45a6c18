// A module that a test loads and unloads: it stays loaded once it asks for that.
#include "addon/keep_loaded.h"

extern "C" __attribute__((visibility("default"))) void Keep()
{
    netverdict::KeepModuleLoaded();
}

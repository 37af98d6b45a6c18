// The module's code must stay in memory while a thread that was left behind may still run it.
#pragma once

namespace netverdict
{

// Keeps this module loaded until the process ends. The end of a worker unloads it otherwise.
void KeepModuleLoaded();

} // namespace netverdict

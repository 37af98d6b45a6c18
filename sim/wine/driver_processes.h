// Processes of the simulation, in the place of Wine's.

#pragma once

#include "module.h"

namespace sim::wine
{

// Makes the driver find the processes of the simulation.
void ReplaceProcesses(const ImportsOfCaller &imports);

} // namespace sim::wine

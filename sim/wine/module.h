#pragma once

namespace sim::wine
{

// This library stays in the process.
void KeepModule();

} // namespace sim::wine

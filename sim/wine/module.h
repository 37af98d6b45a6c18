#pragma once

namespace sim::wine
{

// Keeps this library in the process.
void KeepModule();

} // namespace sim::wine

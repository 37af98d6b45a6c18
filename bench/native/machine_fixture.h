#pragma once

#include "machine.h"

namespace bench
{

// The simulated computer that the benchmarks' kernel code runs on; main() makes it current.
sim::Machine &Machine();

} // namespace bench

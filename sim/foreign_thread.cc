// A host may have several machines, so every thread must enter a Machine::Scope before it calls the kernel.

#include "machine.h"
#include "nt/bugcheck.h"

namespace sim
{

Machine &Machine::OfForeignThread()
{
    Bugcheck("NO_MACHINE", "a kernel function was called on a thread that has no machine");
}

} // namespace sim

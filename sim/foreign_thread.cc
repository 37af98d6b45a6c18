// On a host there may be several machines, so that a thread has to say whose kernel it calls.

#include "machine.h"
#include "nt/bugcheck.h"

namespace sim
{

Machine &Machine::OfForeignThread()
{
    Bugcheck("NO_MACHINE", "a kernel function was called on a thread that has no machine");
}

} // namespace sim

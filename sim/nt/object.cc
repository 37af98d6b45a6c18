// References to the objects that this kernel gives to drivers.

#include <ntddk.h>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/callback_object.h"
#include "nt/irql.h"
#include "nt/processes.h"

using namespace sim;
using namespace sim::nt;

extern "C" LONG_PTR ObfDereferenceObject(PVOID Object)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "ObDereferenceObject");

    Machine &machine = Machine::Current();

    if (Object == &machine.power_state())
    {
        machine.power_state().Dereference();
    }
    else if (!machine.processes().Dereference(Object))
    {
        Bugcheck("NOT_AN_OBJECT", "ObDereferenceObject was called for %p, to which no reference is held", Object);
    }
    return 0;
}

// Maintenance: one round of deferred work. It does what was asked for and, when a timer has fired, what is due by the
// clock: refused injections, time-outs of held packets and of fragments, and the removal of old connections.

#pragma once

#include "platform.h"

EXTERN_C_START

/// A DEFERRED_ROUTINE; `driverContext` is the DRIVER_CONTEXT. Rounds may overlap: everything here allows that.
_IRQL_requires_(PASSIVE_LEVEL)
VOID MaintenanceRound(_Inout_ VOID *driverContext);

EXTERN_C_END

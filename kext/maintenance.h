// Maintenance: one round of deferred work. A round does the work that was requested, some of it in several rounds.
// A round after the timer also does what is due by the clock:
// it resolves refused injections, times out held packets and fragments, and cleans the tables.
// Then it arms the timer for the next work of these kinds. Without such work no timer runs.

#pragma once

#include "platform.h"

EXTERN_C_START

/// A DEFERRED_ROUTINE; `driverContext` is the DRIVER_CONTEXT. Rounds may overlap: everything here allows that.
_IRQL_requires_(PASSIVE_LEVEL)
VOID MaintenanceRound(_Inout_ VOID *driverContext);

EXTERN_C_END

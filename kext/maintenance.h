// Maintenance: one round of deferred work. A round does the work that was requested.
// After a timer a round also resolves refused injections, times out held packets and fragments, and cleans the tables.

#pragma once

#include "platform.h"

EXTERN_C_START

/// A DEFERRED_ROUTINE; `driverContext` is the DRIVER_CONTEXT. Rounds may overlap: everything here allows that.
_IRQL_requires_(PASSIVE_LEVEL)
VOID MaintenanceRound(_Inout_ VOID *driverContext);

EXTERN_C_END

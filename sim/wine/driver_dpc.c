// Deferred procedure calls of the driver: their layout is known from the DDK's headers alone.

#define KeFlushQueuedDpcs WineKeFlushQueuedDpcs

#include <ntddk.h>

#include "driver_timers.h"

void RunDpcOfDriver(void *dpc)
{
    PKDPC call = (PKDPC)dpc;

    call->DeferredRoutine(call, call->DeferredContext, NULL, NULL);
}

void FlushDpcsOfWine(void)
{
    KeFlushQueuedDpcs();
}

// Timers of the driver, in the place of Wine's.

#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

    // Calls the routine of a KDPC of the driver.
    void RunDpcOfDriver(void *dpc);

    // Waits for the DPCs that Wine's kernel has queued.
    void FlushDpcsOfWine(void);

#ifdef __cplusplus
}
#endif

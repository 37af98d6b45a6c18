// The control device: the client's requests, as IRPs.
//
// Reads pend in the event queue, or wait for it in the dispatch routine, which completes all other requests.
// An open with less than read and write access succeeds and attaches no client.
// A request fails if its file is not that of the attached client.

#pragma once

#include "platform.h"

EXTERN_C_START

/// Sets the dispatch routines of the driver.
VOID DeviceSetDispatch(_Inout_ PDRIVER_OBJECT driver);

EXTERN_C_END

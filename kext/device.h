// The control device: the client's requests, as IRPs.
//
// Reads pend in the event queue; the dispatch routine completes all else. A request on a file of another client than
// the attached one fails.

#pragma once

#include "platform.h"

EXTERN_C_START

/// Sets the dispatch routines of the driver.
VOID DeviceSetDispatch(_Inout_ PDRIVER_OBJECT driver);

EXTERN_C_END

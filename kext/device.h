// The control device: the client's requests, as IRPs.
//
// Reads pend in the event queue; everything else is completed by the dispatch routine. Requests of a file that is not
// the attached client's fail.

#pragma once

#include "platform.h"

EXTERN_C_START

/// Sets the dispatch routines of the driver.
VOID DeviceSetDispatch(_Inout_ PDRIVER_OBJECT driver);

EXTERN_C_END

// The driver: DriverEntry, unload, and the order in which its parts start and end.

#pragma once

#include "platform.h"

EXTERN_C_START

PLATFORM_INIT
DRIVER_INITIALIZE DriverEntry;

EXTERN_C_END

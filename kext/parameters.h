// The values of the service's Parameters key, by which an administrator changes how the driver starts.

#pragma once

#include "platform.h"

EXTERN_C_START

/// Reads a REG_DWORD value of the Parameters key below `serviceKey`, the registry path of the service.
/// Returns 0 for a value that is absent, of another type, or cannot be read. For DriverEntry.
_IRQL_requires_(PASSIVE_LEVEL)
PLATFORM_INIT
UINT32 ParametersReadDword(_In_ PCUNICODE_STRING serviceKey, _In_ PCWSTR name);

EXTERN_C_END

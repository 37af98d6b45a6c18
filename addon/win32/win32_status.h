// Converts the errors of Win32 functions back to the NTSTATUS values that Windows made them of.
// A request that fails at once returns a Win32 error. A request that pended returns an NTSTATUS.
// Callers get an NTSTATUS from both.
#pragma once

#include <cstdint>

namespace netverdict
{

// An error without a matching status becomes a status of facility NTWIN32: 0xC007xxxx.
int32_t StatusFromWin32(uint32_t error);

// The same for an error of opening a device.
int32_t OpenStatusFromWin32(uint32_t error);

} // namespace netverdict

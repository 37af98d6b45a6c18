// From the errors of Win32 functions to the statuses of the kernel that they were made of. A request that Windows or
// the driver fails at once comes back as the former, one that pended as the latter: callers see the latter alone.
#pragma once

#include <cstdint>

namespace netverdict
{

// An error that has no status of its own becomes one of facility NTWIN32: 0xC007xxxx.
int32_t StatusFromWin32(uint32_t error);

// As StatusFromWin32, for what opening a device failed with.
int32_t OpenStatusFromWin32(uint32_t error);

} // namespace netverdict

// The result of a request to Windows about the driver's service or its file.
#pragma once

#include <cstdint>

namespace netverdict
{

// A Win32 error, or 0, and the function that returned it.
struct ServiceResult
{
    uint32_t code = 0;
    const char *call = "";
};

} // namespace netverdict

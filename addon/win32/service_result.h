// The result of a request to Windows about the driver's service or its file.
#pragma once

#include <cstdint>

namespace netverdict
{

// ERROR_DIRECTORY_NOT_SUPPORTED, which mingw-w64's headers lack.
constexpr uint32_t kErrorDirectoryNotSupported = 336;

// A Win32 error, or 0, and the function that returned it.
struct ServiceResult
{
    uint32_t code = 0;
    const char *call = "";
};

} // namespace netverdict

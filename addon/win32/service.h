// The driver's service, through Windows' service control manager. Windows only.
//
// Concurrency: there is no state. A call takes as long as the manager takes: starting runs DriverEntry. None waits for
// a state: that is the caller's, who knows how long.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace netverdict
{

// ERROR_DIRECTORY_NOT_SUPPORTED, which mingw-w64's headers lack.
constexpr uint32_t kErrorDirectoryNotSupported = 336;

// How a request to the manager ended: the Win32 error, 0 for none, and the function that gave it.
struct ServiceResult
{
    uint32_t code = 0;
    const char *call = "";
};

struct ServiceConfig
{
    std::wstring name;
    std::wstring display_name;
    std::wstring path;       // of the .sys, absolute
    uint32_t start_type = 0; // SERVICE_SYSTEM_START, SERVICE_AUTO_START or SERVICE_DEMAND_START
};

struct ServiceStatus
{
    uint32_t state = 0;     // SERVICE_STOPPED to SERVICE_PAUSED
    uint32_t exit_code = 0; // a Win32 error: why it stopped
    uint32_t start_type = 0;
    std::wstring path; // as the manager keeps it: \??\C:\…
};

// Registers the driver; it is not started. ERROR_FILE_NOT_FOUND or ERROR_PATH_NOT_FOUND without the file,
// kErrorDirectoryNotSupported where it is a folder, ERROR_SERVICE_EXISTS, ERROR_SERVICE_MARKED_FOR_DELETE,
// ERROR_ACCESS_DENIED.
ServiceResult ServiceInstall(const ServiceConfig &config);

// Loads the driver. Returns after DriverEntry, with its status as a Win32 error.
ServiceResult ServiceStart(const std::wstring &name);

// Asks the driver to unload: it does so when its last handle is closed.
ServiceResult ServiceStop(const std::wstring &name);

// Marks the service for deletion: it goes when it is stopped and its last handle is closed.
ServiceResult ServiceRemove(const std::wstring &name);

// ERROR_SERVICE_DOES_NOT_EXIST where it is not installed.
ServiceResult ServiceQuery(const std::wstring &name, ServiceStatus *status);

// Whether Windows takes test-signed drivers; nothing where Windows does not say.
std::optional<bool> IsTestSigningOn();

} // namespace netverdict

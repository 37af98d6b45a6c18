// The driver's service, through Windows' service control manager. Windows only.
//
// Concurrency: has no state. A call takes as long as the manager takes: a start runs DriverEntry.
// No call waits for a state of the service. The caller waits, because it knows how long.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "service_result.h"

namespace netverdict
{

struct ServiceConfig
{
    std::wstring name;
    std::wstring display_name;
    std::wstring path;       // of the .sys, absolute: a copy by DriverFileCopy
    uint32_t start_type = 0; // SERVICE_SYSTEM_START, SERVICE_AUTO_START or SERVICE_DEMAND_START
};

struct ServiceStatus
{
    uint32_t state = 0;     // SERVICE_STOPPED to SERVICE_PAUSED
    uint32_t exit_code = 0; // the Win32 error with which it stopped
    uint32_t start_type = 0;
    std::wstring path; // in the manager's form: \??\C:\…
};

// Registers the driver, and the texts of its entries in the System log. Does not start it.
// Errors: ERROR_FILE_NOT_FOUND or ERROR_PATH_NOT_FOUND without the file, kErrorDirectoryNotSupported for a folder,
// ERROR_SERVICE_EXISTS, ERROR_SERVICE_MARKED_FOR_DELETE, ERROR_ACCESS_DENIED.
ServiceResult ServiceInstall(const ServiceConfig &config);

// Makes another file the driver, from the next start on. Does not look at the file, so that an update can be undone.
ServiceResult ServiceSetPath(const std::wstring &name, const std::wstring &path);

// Loads the driver. Returns after DriverEntry, with the status of DriverEntry as a Win32 error.
ServiceResult ServiceStart(const std::wstring &name);

// Asks the driver to unload. It unloads when its last handle is closed.
ServiceResult ServiceStop(const std::wstring &name);

// Marks the service for deletion, and removes the texts of its entries in the System log.
// The service is deleted when it is stopped and its last handle is closed.
ServiceResult ServiceRemove(const std::wstring &name);

// Fails with ERROR_SERVICE_DOES_NOT_EXIST if the service is not installed.
ServiceResult ServiceQuery(const std::wstring &name, ServiceStatus *status);

// Returns true if Windows accepts test-signed drivers, and nothing if the query fails.
std::optional<bool> IsTestSigningOn();

} // namespace netverdict

// The driver's file: a copy in a folder to which only administrators may write. Windows only.
//
// Whoever may write the file that a service runs in the kernel owns the computer.
// The folder is in system32\drivers, which Windows itself protects.
//
// Concurrency: has no state.
#pragma once

#include <optional>
#include <string>

#include "service_result.h"

namespace netverdict
{

// Copies the file `source` to a new file, whose name begins with `name`, in system32\drivers\netverdict.
// Owner and access list of the folder and of the copy are checked. `copy` gets the path.
// Errors: ERROR_FILE_NOT_FOUND or ERROR_PATH_NOT_FOUND without the source, kErrorDirectoryNotSupported for a folder,
// ERROR_FILE_TOO_LARGE for what is no driver, ERROR_ACCESS_DENIED, ERROR_FILE_EXISTS after a hundred copies.
// ERROR_INVALID_OWNER or ERROR_INVALID_ACL if others than administrators may write, ERROR_REPARSE_TAG_INVALID if the
// folder leads elsewhere. A call that fails leaves no copy.
ServiceResult DriverFileCopy(const std::wstring &source, const std::wstring &name, std::wstring *copy);

// Deletes a copy. Other files stay. Fails for the file of a loaded driver.
ServiceResult DriverFileDelete(const std::wstring &path);

// The version in the file's resources, such as `1.2.3.4`. Returns nothing if the file has none.
std::optional<std::string> DriverFileVersion(const std::wstring &path);

} // namespace netverdict

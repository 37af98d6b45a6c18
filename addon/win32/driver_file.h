// The driver's file: a copy in a folder to which only administrators may write. Windows only.
//
// Whoever may write the file that a service runs in the kernel owns the computer.
//
// Concurrency: has no state.
#pragma once

#include <optional>
#include <string>

#include "service_result.h"

namespace netverdict
{

// ERROR_DIRECTORY_NOT_SUPPORTED, which mingw-w64's headers lack.
constexpr uint32_t kErrorDirectoryNotSupported = 336;

// Copies the file `source` to a new file, whose name begins with `name`, in system32\drivers\netverdict.
// `copy` gets its path. Only the system and administrators may write the copy.
// Errors: ERROR_FILE_NOT_FOUND or ERROR_PATH_NOT_FOUND without the file, kErrorDirectoryNotSupported for a folder,
// ERROR_FILE_TOO_LARGE for what is no driver, ERROR_ACCESS_DENIED.
ServiceResult DriverFileCopy(const std::wstring &source, const std::wstring &name, std::wstring *copy);

// Deletes a copy. Other files stay. A file that is still loaded stays until the next call for it.
ServiceResult DriverFileDelete(const std::wstring &path);

// Finds out whether others than administrators may change the file or exchange it, or a folder on its path.
// Errors: ERROR_INVALID_OWNER or ERROR_INVALID_ACL if they may.
ServiceResult DriverFileCheck(const std::wstring &path);

// The same for the security descriptor of a file, as text in the security descriptor definition language.
ServiceResult DriverFileCheckDescriptor(const wchar_t *descriptor);

// The version in the file's resources, such as `1.2.3.4`. Returns nothing if the file has none.
std::optional<std::string> DriverFileVersion(const std::wstring &path);

} // namespace netverdict

// Who may change a file or a folder, by its owner and its access list. Windows only.
//
// The owner counts, because an owner may always rewrite the access list.
//
// Concurrency: has no state.
#pragma once

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include "service_result.h"

namespace netverdict
{

// Security descriptors for a new folder and a new file, in the security descriptor definition language.
// Owner are the administrators. They and the system have full access. Users may read.
constexpr wchar_t kAdministratorsFolder[] = L"O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)";
constexpr wchar_t kAdministratorsFile[] = L"O:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;BU)";

// Decides on an owner and an access list. `acl` is nullptr where everybody may do everything.
// The system, administrators and Windows' own installer may change the file. If anybody else may, returns
// ERROR_INVALID_OWNER or ERROR_INVALID_ACL.
DWORD FileRightsJudge(PSID owner, PACL acl);

// Decides on an open file or folder. The handle needs READ_CONTROL.
ServiceResult FileRightsCheck(HANDLE file);

} // namespace netverdict

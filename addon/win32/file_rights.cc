#include "file_rights.h"
#include "local_memory.h"

#include <aclapi.h>
#include <sddl.h>

namespace netverdict
{

namespace
{

constexpr wchar_t kTrustedInstaller[] = L"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

// Rights to change a file, to exchange what is in a folder, or to take these rights.
constexpr ACCESS_MASK kWriteRights = FILE_WRITE_DATA | FILE_APPEND_DATA | FILE_DELETE_CHILD | DELETE | WRITE_DAC |
                                     WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;

bool IsTrusted(PSID account)
{
    if (IsWellKnownSid(account, WinLocalSystemSid) || IsWellKnownSid(account, WinBuiltinAdministratorsSid))
    {
        return true;
    }

    PSID installer = nullptr;

    if (!ConvertStringSidToSidW(kTrustedInstaller, &installer))
    {
        return false;
    }

    const LocalMemory memory(installer);

    return EqualSid(account, installer);
}

// An entry of an unknown type counts as one that lets everybody in.
bool LetsOthersIn(const ACE_HEADER &entry)
{
    if ((entry.AceFlags & INHERIT_ONLY_ACE) != 0 || entry.AceType == ACCESS_DENIED_ACE_TYPE ||
        entry.AceType == ACCESS_DENIED_CALLBACK_ACE_TYPE)
    {
        return false;
    }
    if (entry.AceType != ACCESS_ALLOWED_ACE_TYPE && entry.AceType != ACCESS_ALLOWED_CALLBACK_ACE_TYPE)
    {
        return true;
    }

    // Both types have the mask and the account at the same place.
    auto &allowed = reinterpret_cast<const ACCESS_ALLOWED_ACE &>(entry);

    return (allowed.Mask & kWriteRights) != 0 && !IsTrusted(const_cast<DWORD *>(&allowed.SidStart));
}

} // namespace

DWORD FileRightsJudge(PSID owner, PACL acl)
{
    if (owner == nullptr || !IsTrusted(owner))
    {
        return ERROR_INVALID_OWNER;
    }
    if (acl == nullptr)
    {
        return ERROR_INVALID_ACL;
    }
    for (DWORD index = 0; index < acl->AceCount; ++index)
    {
        void *entry = nullptr;

        if (!GetAce(acl, index, &entry) || LetsOthersIn(*static_cast<ACE_HEADER *>(entry)))
        {
            return ERROR_INVALID_ACL;
        }
    }
    return ERROR_SUCCESS;
}

ServiceResult FileRightsCheck(HANDLE file)
{
    PSID owner = nullptr;
    PACL acl = nullptr;
    PSECURITY_DESCRIPTOR descriptor = nullptr;
    const DWORD error = GetSecurityInfo(file, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                                        &owner, nullptr, &acl, nullptr, &descriptor);
    const LocalMemory memory(descriptor);

    const DWORD code = error == ERROR_SUCCESS ? FileRightsJudge(owner, acl) : error;

    return code == ERROR_SUCCESS ? ServiceResult{} : ServiceResult{code, "GetSecurityInfo"};
}

} // namespace netverdict

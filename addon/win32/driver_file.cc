#include "driver_file.h"

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <aclapi.h>
#include <sddl.h>

#include <algorithm>
#include <cstring>
#include <cwchar>
#include <memory>
#include <type_traits>
#include <vector>

namespace netverdict
{

namespace
{

struct CloseHandleOnExit
{
    void operator()(HANDLE handle) const { CloseHandle(handle); }
};
using File = std::unique_ptr<std::remove_pointer_t<HANDLE>, CloseHandleOnExit>;

struct LocalFreeOnExit
{
    void operator()(void *memory) const { LocalFree(memory); }
};
using Local = std::unique_ptr<void, LocalFreeOnExit>;

struct FreeLibraryOnExit
{
    void operator()(HMODULE module) const { FreeLibrary(module); }
};
using Module = std::unique_ptr<std::remove_pointer_t<HMODULE>, FreeLibraryOnExit>;

// Full access for the system and administrators. Users read the texts of the driver's events.
constexpr wchar_t kFolderDescriptor[] = L"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)";
constexpr wchar_t kFileDescriptor[] = L"D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;BU)";

constexpr wchar_t kTrustedInstaller[] = L"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";

// Rights to take all other rights.
constexpr ACCESS_MASK kTakeRights = WRITE_DAC | WRITE_OWNER | GENERIC_ALL;
// Rights to change a file, or to add files to a folder.
constexpr ACCESS_MASK kWriteRights =
    kTakeRights | DELETE | FILE_DELETE_CHILD | FILE_WRITE_DATA | FILE_APPEND_DATA | GENERIC_WRITE;
// Rights to exchange what is in a folder. Whoever may only add files to it cannot do that.
constexpr ACCESS_MASK kExchangeRights = kTakeRights | DELETE | FILE_DELETE_CHILD;

constexpr uint64_t kLargestDriver = 64 << 20; // bytes
constexpr int kMostCopies = 100;

ServiceResult Success()
{
    return {};
}

ServiceResult LastError(const char *call)
{
    return {GetLastError(), call};
}

// The folder does not depend on the environment, which a user without rights chooses.
std::wstring Folder()
{
    wchar_t system[MAX_PATH] = {};

    GetSystemDirectoryW(system, MAX_PATH);
    return std::wstring(system) + L"\\drivers\\netverdict";
}

std::vector<uint8_t> ReadToken(TOKEN_INFORMATION_CLASS what)
{
    HANDLE opened = nullptr;

    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &opened))
    {
        return {};
    }

    const File token(opened);
    DWORD length = 0;

    GetTokenInformation(token.get(), what, nullptr, 0, &length);

    std::vector<uint8_t> bytes(length);

    return GetTokenInformation(token.get(), what, bytes.data(), length, &length) ? bytes : std::vector<uint8_t>();
}

// An administrator without a second token for everyday work: every program of the account is an administrator.
bool IsOwnAccountTrusted()
{
    const std::vector<uint8_t> type = ReadToken(TokenElevationType);
    TOKEN_ELEVATION_TYPE elevation = TokenElevationTypeLimited;

    if (type.size() >= sizeof(elevation))
    {
        std::memcpy(&elevation, type.data(), sizeof(elevation));
    }

    SID_IDENTIFIER_AUTHORITY authority = SECURITY_NT_AUTHORITY;
    PSID administrators = nullptr;
    BOOL is_member = FALSE;

    if (elevation != TokenElevationTypeDefault ||
        !AllocateAndInitializeSid(&authority, 2, SECURITY_BUILTIN_DOMAIN_RID, DOMAIN_ALIAS_RID_ADMINS, 0, 0, 0, 0, 0, 0,
                                  &administrators))
    {
        return false;
    }
    CheckTokenMembership(nullptr, administrators, &is_member);
    FreeSid(administrators);
    return is_member != FALSE;
}

bool IsOwnAccount(PSID account)
{
    const std::vector<uint8_t> user = ReadToken(TokenUser);

    return user.size() >= sizeof(TOKEN_USER) &&
           EqualSid(account, reinterpret_cast<const TOKEN_USER *>(user.data())->User.Sid);
}

bool IsTrusted(PSID account)
{
    PSID installer = nullptr;

    if (IsWellKnownSid(account, WinLocalSystemSid) || IsWellKnownSid(account, WinBuiltinAdministratorsSid))
    {
        return true;
    }
    if (ConvertStringSidToSidW(kTrustedInstaller, &installer))
    {
        const Local memory(installer);

        if (EqualSid(account, installer))
        {
            return true;
        }
    }
    return IsOwnAccount(account) && IsOwnAccountTrusted();
}

// An entry that this code does not know counts as one that lets everybody in.
bool LetsOthersIn(const ACE_HEADER &entry, ACCESS_MASK rights)
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

    auto &allowed = reinterpret_cast<const ACCESS_ALLOWED_ACE &>(entry);

    return (allowed.Mask & rights) != 0 && !IsTrusted(const_cast<DWORD *>(&allowed.SidStart));
}

// `acl` is nullptr where everybody may do everything.
ServiceResult Judge(PSID owner, PACL acl, ACCESS_MASK rights)
{
    if (owner == nullptr || !IsTrusted(owner))
    {
        return {ERROR_INVALID_OWNER, "GetNamedSecurityInfoW"};
    }
    if (acl == nullptr)
    {
        return {ERROR_INVALID_ACL, "GetNamedSecurityInfoW"};
    }
    for (DWORD index = 0; index < acl->AceCount; ++index)
    {
        void *entry = nullptr;

        if (!GetAce(acl, index, &entry) || LetsOthersIn(*static_cast<ACE_HEADER *>(entry), rights))
        {
            return {ERROR_INVALID_ACL, "GetNamedSecurityInfoW"};
        }
    }
    return Success();
}

ServiceResult CheckOne(const std::wstring &path, ACCESS_MASK rights)
{
    PSID owner = nullptr;
    PACL acl = nullptr;
    PSECURITY_DESCRIPTOR descriptor = nullptr;
    const DWORD error = GetNamedSecurityInfoW(const_cast<wchar_t *>(path.c_str()), SE_FILE_OBJECT,
                                              OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, &owner, nullptr,
                                              &acl, nullptr, &descriptor);
    const Local memory(descriptor);

    return error == ERROR_SUCCESS ? Judge(owner, acl, rights) : ServiceResult{error, "GetNamedSecurityInfoW"};
}

// Makes the folder, or the file, with a descriptor. The access list of an existing folder stays.
template <typename Make> ServiceResult WithDescriptor(const wchar_t *text, Make make)
{
    PSECURITY_DESCRIPTOR descriptor = nullptr;

    if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &descriptor, nullptr))
    {
        return LastError("ConvertStringSecurityDescriptorToSecurityDescriptorW");
    }

    const Local memory(descriptor);
    SECURITY_ATTRIBUTES attributes = {sizeof(attributes), descriptor, FALSE};

    return make(&attributes);
}

ServiceResult MakeFolder(const std::wstring &folder)
{
    return WithDescriptor(kFolderDescriptor,
                          [&folder](SECURITY_ATTRIBUTES *attributes)
                          {
                              const bool made = CreateDirectoryW(folder.c_str(), attributes) ||
                                                GetLastError() == ERROR_ALREADY_EXISTS;
                              return made ? Success() : LastError("CreateDirectoryW");
                          });
}

ServiceResult OpenSource(const std::wstring &path, File *file)
{
    const DWORD attributes = GetFileAttributesW(path.c_str());

    if (attributes == INVALID_FILE_ATTRIBUTES)
    {
        return LastError("GetFileAttributesW");
    }
    if ((attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
    {
        return {kErrorDirectoryNotSupported, "GetFileAttributesW"};
    }

    const HANDLE opened = CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING, 0, nullptr);

    if (opened == INVALID_HANDLE_VALUE)
    {
        return LastError("CreateFileW");
    }
    file->reset(opened);

    LARGE_INTEGER size = {};

    if (!GetFileSizeEx(opened, &size))
    {
        return LastError("GetFileSizeEx");
    }
    return static_cast<uint64_t>(size.QuadPart) > kLargestDriver ? ServiceResult{ERROR_FILE_TOO_LARGE, "GetFileSizeEx"}
                                                                 : Success();
}

// Creates `name`.sys, or `name`-2.sys and so on, where an older copy is still there.
ServiceResult CreateCopy(const std::wstring &name, std::wstring *path, File *file)
{
    const auto create = [&](SECURITY_ATTRIBUTES *attributes)
    {
        for (int number = 1; number <= kMostCopies; ++number)
        {
            const std::wstring ending = number == 1 ? L"" : L"-" + std::to_wstring(number);

            *path = Folder() + L"\\" + name + ending + L".sys";

            const HANDLE created =
                CreateFileW(path->c_str(), GENERIC_WRITE, 0, attributes, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);

            if (created != INVALID_HANDLE_VALUE)
            {
                file->reset(created);
                return Success();
            }
            if (GetLastError() != ERROR_FILE_EXISTS)
            {
                break;
            }
        }
        return LastError("CreateFileW");
    };

    return WithDescriptor(kFileDescriptor, create);
}

ServiceResult CopyBytes(HANDLE from, HANDLE to)
{
    std::vector<uint8_t> bytes(64 << 10);
    DWORD length = 0;
    DWORD written = 0;

    do
    {
        if (!ReadFile(from, bytes.data(), static_cast<DWORD>(bytes.size()), &length, nullptr))
        {
            return LastError("ReadFile");
        }
        if (length != 0 && !WriteFile(to, bytes.data(), length, &written, nullptr))
        {
            return LastError("WriteFile");
        }
    } while (length != 0);
    return FlushFileBuffers(to) ? Success() : LastError("FlushFileBuffers");
}

} // namespace

ServiceResult DriverFileCopy(const std::wstring &source, const std::wstring &name, std::wstring *copy)
{
    File from;
    File to;
    ServiceResult result = OpenSource(source, &from);

    if (result.code == ERROR_SUCCESS)
    {
        result = MakeFolder(Folder());
    }
    if (result.code == ERROR_SUCCESS)
    {
        result = CreateCopy(name, copy, &to);
    }
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    result = CopyBytes(from.get(), to.get());
    to.reset();
    if (result.code == ERROR_SUCCESS)
    {
        result = DriverFileCheck(*copy);
    }
    if (result.code != ERROR_SUCCESS)
    {
        DeleteFileW(copy->c_str());
    }
    return result;
}

ServiceResult DriverFileDelete(const std::wstring &path)
{
    const std::wstring folder = Folder() + L"\\";

    if (path.size() <= folder.size() || _wcsnicmp(path.c_str(), folder.c_str(), folder.size()) != 0 ||
        path.find(L'\\', folder.size()) != std::wstring::npos)
    {
        return Success();
    }
    return DeleteFileW(path.c_str()) ? Success() : LastError("DeleteFileW");
}

ServiceResult DriverFileCheck(const std::wstring &path)
{
    ServiceResult result = CheckOne(path, kWriteRights);
    bool is_nearest = true;

    for (size_t end = path.find_last_of(L'\\'); result.code == ERROR_SUCCESS && end != std::wstring::npos && end > 2;
         end = path.find_last_of(L'\\', end - 1))
    {
        result = CheckOne(path.substr(0, end), is_nearest ? kWriteRights : kExchangeRights);
        is_nearest = false;
    }
    return result;
}

ServiceResult DriverFileCheckDescriptor(const wchar_t *text)
{
    PSECURITY_DESCRIPTOR descriptor = nullptr;
    PSID owner = nullptr;
    PACL acl = nullptr;
    BOOL is_present = FALSE;
    BOOL is_default = FALSE;

    if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &descriptor, nullptr))
    {
        return LastError("ConvertStringSecurityDescriptorToSecurityDescriptorW");
    }

    const Local memory(descriptor);

    GetSecurityDescriptorOwner(descriptor, &owner, &is_default);
    GetSecurityDescriptorDacl(descriptor, &is_present, &acl, &is_default);
    return Judge(owner, is_present ? acl : nullptr, kWriteRights);
}

std::optional<std::string> DriverFileVersion(const std::wstring &path)
{
    // VS_VERSIONINFO: three 16-bit numbers, the text `VS_VERSION_INFO`, and padding come before the fixed part.
    constexpr size_t kFixedOffset = 40;
    constexpr DWORD kSignature = 0xFEEF04BD;
    const Module module(LoadLibraryExW(path.c_str(), nullptr, LOAD_LIBRARY_AS_DATAFILE));
    const HRSRC found = module ? FindResourceW(module.get(), MAKEINTRESOURCEW(1), MAKEINTRESOURCEW(16)) : nullptr;
    const HGLOBAL loaded = found != nullptr ? LoadResource(module.get(), found) : nullptr;
    VS_FIXEDFILEINFO fixed = {};

    if (loaded == nullptr || SizeofResource(module.get(), found) < kFixedOffset + sizeof(fixed))
    {
        return std::nullopt;
    }
    std::memcpy(&fixed, static_cast<const uint8_t *>(LockResource(loaded)) + kFixedOffset, sizeof(fixed));
    if (fixed.dwSignature != kSignature)
    {
        return std::nullopt;
    }
    return std::to_string(HIWORD(fixed.dwFileVersionMS)) + "." + std::to_string(LOWORD(fixed.dwFileVersionMS)) + "." +
           std::to_string(HIWORD(fixed.dwFileVersionLS)) + "." + std::to_string(LOWORD(fixed.dwFileVersionLS));
}

} // namespace netverdict

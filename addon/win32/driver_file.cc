#include "driver_file.h"

#include "file_rights.h"
#include "local_memory.h"

#include <sddl.h>

#include <cstring>
#include <cwchar>
#include <memory>
#include <type_traits>
#include <utility>
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

struct FreeLibraryOnExit
{
    void operator()(HMODULE module) const { FreeLibrary(module); }
};
using Module = std::unique_ptr<std::remove_pointer_t<HMODULE>, FreeLibraryOnExit>;

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

ServiceResult Open(const std::wstring &path, DWORD access, DWORD share, DWORD flags, File *file)
{
    const HANDLE opened = CreateFileW(path.c_str(), access, share, nullptr, OPEN_EXISTING, flags, nullptr);

    if (opened == INVALID_HANDLE_VALUE)
    {
        return LastError("CreateFileW");
    }
    file->reset(opened);
    return Success();
}

ServiceResult OpenSource(const std::wstring &path, File *file)
{
    const DWORD attributes = GetFileAttributesW(path.c_str());
    LARGE_INTEGER size = {};

    if (attributes == INVALID_FILE_ATTRIBUTES)
    {
        return LastError("GetFileAttributesW");
    }
    if ((attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
    {
        return {kErrorDirectoryNotSupported, "GetFileAttributesW"};
    }

    const ServiceResult result = Open(path, GENERIC_READ, FILE_SHARE_READ, 0, file);

    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    if (!GetFileSizeEx(file->get(), &size))
    {
        return LastError("GetFileSizeEx");
    }
    return static_cast<uint64_t>(size.QuadPart) > kLargestDriver ? ServiceResult{ERROR_FILE_TOO_LARGE, "GetFileSizeEx"}
                                                                 : Success();
}

// Calls `make` with the security descriptor that `text` describes.
template <typename Make> ServiceResult WithDescriptor(const wchar_t *text, Make make)
{
    PSECURITY_DESCRIPTOR descriptor = nullptr;

    if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &descriptor, nullptr))
    {
        return LastError("ConvertStringSecurityDescriptorToSecurityDescriptorW");
    }

    const LocalMemory memory(descriptor);
    SECURITY_ATTRIBUTES attributes = {sizeof(attributes), descriptor, FALSE};

    return make(&attributes);
}

// The folder has its access list from its first moment on. That of an existing folder is checked, and stays.
// While the handle is open nobody renames the folder or deletes it.
ServiceResult OpenFolder(File *folder)
{
    const std::wstring path = Folder();
    const auto make = [&path](SECURITY_ATTRIBUTES *attributes)
    {
        const bool exists = CreateDirectoryW(path.c_str(), attributes) || GetLastError() == ERROR_ALREADY_EXISTS;
        return exists ? Success() : LastError("CreateDirectoryW");
    };
    ServiceResult result = WithDescriptor(kAdministratorsFolder, make);
    BY_HANDLE_FILE_INFORMATION information = {};

    if (result.code == ERROR_SUCCESS)
    {
        result = Open(path, FILE_LIST_DIRECTORY | READ_CONTROL, FILE_SHARE_READ | FILE_SHARE_WRITE,
                      FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT, folder);
    }
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    if (!GetFileInformationByHandle(folder->get(), &information))
    {
        return LastError("GetFileInformationByHandle");
    }
    if ((information.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) == 0 ||
        (information.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0)
    {
        return {ERROR_REPARSE_TAG_INVALID, "GetFileInformationByHandle"};
    }
    return FileRightsCheck(folder->get());
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

            const HANDLE created = CreateFileW(path->c_str(), GENERIC_WRITE | READ_CONTROL, 0, attributes, CREATE_NEW,
                                               FILE_ATTRIBUTE_NORMAL, nullptr);

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

    return WithDescriptor(kAdministratorsFile, create);
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

// Fills the new file at `path`, or deletes it.
ServiceResult FillCopy(HANDLE from, File to, const std::wstring &path)
{
    ServiceResult result = FileRightsCheck(to.get());

    if (result.code == ERROR_SUCCESS)
    {
        result = CopyBytes(from, to.get());
    }
    to.reset();
    if (result.code != ERROR_SUCCESS)
    {
        DeleteFileW(path.c_str());
    }
    return result;
}

} // namespace

ServiceResult DriverFileCopy(const std::wstring &source, const std::wstring &name, std::wstring *copy)
{
    File from;
    File folder;
    File to;
    ServiceResult result = OpenSource(source, &from);

    if (result.code == ERROR_SUCCESS)
    {
        result = OpenFolder(&folder);
    }
    if (result.code == ERROR_SUCCESS)
    {
        result = CreateCopy(name, copy, &to);
    }
    return result.code == ERROR_SUCCESS ? FillCopy(from.get(), std::move(to), *copy) : result;
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

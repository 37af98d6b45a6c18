// Drives the driver's service through addon/win32/service.cc: the whole life of a service, and its errors.
// The argument is the path of a driver. Prints TAP.

#include <windows.h>

#include <aclapi.h>
#include <sddl.h>

#include <cstdarg>
#include <cstdio>
#include <string>

#include "driver_file.h"
extern "C"
{
#include "file_owner.h"
}
#include "file_rights.h"
#include "service.h"

using namespace netverdict;

namespace
{

constexpr DWORD kPollMs = 10;
constexpr int kPolls = 1000;

int passed = 0;
int failed = 0;

void Check(bool holds, const char *name, const char *format, ...)
{
    std::printf("%s %d - %s", holds ? "ok" : "not ok", passed + failed + 1, name);
    if (!holds)
    {
        va_list arguments;
        va_start(arguments, format);
        std::printf(" # ");
        std::vprintf(format, arguments);
        va_end(arguments);
    }
    std::printf("\n");
    std::fflush(stdout);
    holds ? ++passed : ++failed;
}

void Expect(uint32_t code, const char *call, const ServiceResult &result, const char *name)
{
    Check(result.code == code && std::string(result.call) == call, name, "%s gave %u, not %s %u", result.call,
          static_cast<unsigned>(result.code), call, static_cast<unsigned>(code));
}

void Expect(uint32_t code, const ServiceResult &result, const char *name)
{
    Check(result.code == code, name, "%s gave %u, not %u", result.call, static_cast<unsigned>(result.code),
          static_cast<unsigned>(code));
}

void Succeeds(const ServiceResult &result, const char *name)
{
    Expect(ERROR_SUCCESS, "", result, name);
}

bool Reaches(const std::wstring &name, uint32_t state)
{
    for (int poll = 0; poll < kPolls; ++poll)
    {
        ServiceStatus status;
        if (ServiceQuery(name, &status).code == ERROR_SUCCESS && status.state == state)
        {
            return true;
        }
        Sleep(kPollMs);
    }
    return false;
}

bool IsGone(const std::wstring &name)
{
    for (int poll = 0; poll < kPolls; ++poll)
    {
        ServiceStatus status;
        if (ServiceQuery(name, &status).code == ERROR_SERVICE_DOES_NOT_EXIST)
        {
            return true;
        }
        Sleep(kPollMs);
    }
    return false;
}

// Looks up the name without opening the device.
// Wine unloads a driver while the close of a handle to its device is still running; Windows does not.
bool HasDevice(const std::wstring &name)
{
    wchar_t target[MAX_PATH];

    return QueryDosDeviceW(name.c_str(), target, MAX_PATH) != 0;
}

// The names of a service's dependencies, with a comma after each.
// They come from the registry, because Wine's QueryServiceConfigW omits them.
std::wstring DependenciesOf(const std::wstring &name)
{
    const std::wstring key = L"SYSTEM\\CurrentControlSet\\Services\\" + name;
    wchar_t buffer[256] = {};
    DWORD size = sizeof(buffer);
    RegGetValueW(HKEY_LOCAL_MACHINE, key.c_str(), L"DependOnService", RRF_RT_REG_MULTI_SZ, nullptr, buffer, &size);

    std::wstring names;
    for (const wchar_t *next = buffer; *next != L'\0'; next += std::wstring(next).size() + 1)
    {
        names += std::wstring(next) + L",";
    }
    return names;
}

// The file with the texts of the service's entries in the System log; empty without one.
std::wstring EventMessageFileOf(const std::wstring &name)
{
    const std::wstring key = L"SYSTEM\\CurrentControlSet\\Services\\EventLog\\System\\" + name;
    wchar_t buffer[MAX_PATH] = {};
    DWORD size = sizeof(buffer);

    RegGetValueW(HKEY_LOCAL_MACHINE, key.c_str(), L"EventMessageFile", RRF_RT_REG_SZ, nullptr, buffer, &size);
    return buffer;
}

ServiceConfig ConfigOf(const std::wstring &name, const std::wstring &path)
{
    return {name, name + L" under test", path, SERVICE_DEMAND_START};
}

void TestLife(const std::wstring &name, const std::wstring &path)
{
    ServiceStatus status;

    Expect(ERROR_SERVICE_DOES_NOT_EXIST, "OpenServiceW", ServiceQuery(name, &status),
           "a service is not there at first");
    Succeeds(ServiceInstall(ConfigOf(name, path)), "it is installed");
    Expect(ERROR_SERVICE_EXISTS, "CreateServiceW", ServiceInstall(ConfigOf(name, path)),
           "it cannot be installed twice");
    Succeeds(ServiceQuery(name, &status), "it can be asked for");
    Check(status.state == SERVICE_STOPPED, "it is stopped", "state %u", static_cast<unsigned>(status.state));
    Check(status.start_type == SERVICE_DEMAND_START, "it starts on demand", "start type %u",
          static_cast<unsigned>(status.start_type));
    Check(status.path.size() >= path.size() &&
              status.path.compare(status.path.size() - path.size(), path.size(), path) == 0,
          "it has the driver's path", "path %ls", status.path.c_str());
    Check(DependenciesOf(name) == L"BFE,Tcpip,", "it starts after the filter engine and the network stack",
          "dependencies %ls", DependenciesOf(name).c_str());
    Check(EventMessageFileOf(name) == path, "the driver has the texts of its events", "texts in %ls",
          EventMessageFileOf(name).c_str());
    Expect(ERROR_SERVICE_NOT_ACTIVE, "ControlService", ServiceStop(name), "it cannot be stopped before it runs");

    Succeeds(ServiceStart(name), "it starts");
    Check(Reaches(name, SERVICE_RUNNING), "it runs", "it does not");
    Check(HasDevice(name), "its device has its name", "error %lu", GetLastError());
    Expect(ERROR_SERVICE_ALREADY_RUNNING, "StartServiceW", ServiceStart(name), "it cannot be started twice");

    Succeeds(ServiceStop(name), "it stops");
    Check(Reaches(name, SERVICE_STOPPED), "it is stopped again", "it is not");
    Check(!HasDevice(name), "its device is gone", "it is not");
    Succeeds(ServiceStart(name), "it starts again");
    Check(Reaches(name, SERVICE_RUNNING), "it runs again", "it does not");
    Succeeds(ServiceStop(name), "it stops again");
    Check(Reaches(name, SERVICE_STOPPED), "it is stopped for the last time", "it is not");
    Succeeds(ServiceRemove(name), "it is removed");
    Check(IsGone(name), "it is gone", "it is not");
    Check(EventMessageFileOf(name).empty(), "its texts are gone", "texts in %ls", EventMessageFileOf(name).c_str());
}

void TestMarkedForDeletion(const std::wstring &name, const std::wstring &path)
{
    Succeeds(ServiceInstall(ConfigOf(name, path)), "a service is installed to be removed in use");
    const SC_HANDLE manager = OpenSCManagerW(nullptr, nullptr, SC_MANAGER_CONNECT);
    const SC_HANDLE user = OpenServiceW(manager, name.c_str(), SERVICE_QUERY_STATUS);
    Succeeds(ServiceRemove(name), "a service in use is removed");
    Expect(ERROR_SERVICE_MARKED_FOR_DELETE, ServiceInstall(ConfigOf(name, path)),
           "its name cannot be had while it is in use");
    Expect(ERROR_SERVICE_MARKED_FOR_DELETE, ServiceRemove(name), "it cannot be removed twice");
    CloseServiceHandle(user);
    CloseServiceHandle(manager);
    Check(IsGone(name), "it goes with its last user", "it does not");
}

std::wstring FolderOf(const std::wstring &path)
{
    return path.substr(0, path.find_last_of(L'\\'));
}

void TestErrors(const std::wstring &path)
{
    const std::wstring absent = L"NetVerdictAbsent";
    const std::wstring no_driver = L"NetVerdictNoDriver";
    const std::wstring folder = FolderOf(path);
    std::wstring copy;

    Expect(ERROR_SERVICE_DOES_NOT_EXIST, "OpenServiceW", ServiceStart(absent), "what is not installed does not start");
    Expect(ERROR_SERVICE_DOES_NOT_EXIST, "OpenServiceW", ServiceStop(absent), "what is not installed does not stop");
    Expect(ERROR_SERVICE_DOES_NOT_EXIST, "OpenServiceW", ServiceRemove(absent), "what is not installed is not removed");
    Expect(ERROR_FILE_NOT_FOUND, "GetFileAttributesW", ServiceInstall(ConfigOf(absent, folder + L"\\no_such.sys")),
           "a driver that is not there is not installed");
    Expect(ERROR_PATH_NOT_FOUND, "GetFileAttributesW",
           ServiceInstall(ConfigOf(absent, folder + L"\\no such folder\\x.sys")),
           "a driver in a folder that is not there is not installed");
    Expect(kErrorDirectoryNotSupported, "GetFileAttributesW", ServiceInstall(ConfigOf(absent, folder)),
           "a folder is not installed");
    Expect(ERROR_FILE_NOT_FOUND, "GetFileAttributesW", DriverFileCopy(folder + L"\\no_such.sys", absent, &copy),
           "a driver that is not there is not copied");
    Expect(ERROR_PATH_NOT_FOUND, "GetFileAttributesW",
           DriverFileCopy(folder + L"\\no such folder\\x.sys", absent, &copy),
           "a driver in a folder that is not there is not copied");
    Expect(kErrorDirectoryNotSupported, "GetFileAttributesW", DriverFileCopy(folder, absent, &copy),
           "a folder is not copied");
    Expect(ERROR_INVALID_NAME, "CreateServiceW", ServiceInstall(ConfigOf(L"", path)),
           "a service without a name is not installed");

    Succeeds(ServiceInstall(ConfigOf(no_driver, L"C:\\windows\\win.ini")), "a file that is no driver can be installed");
    const ServiceResult started = ServiceStart(no_driver);
    Check(started.code != ERROR_SUCCESS, "a file that is no driver does not start", "it does");
    std::printf("# Windows says %u of a file that is no driver\n", static_cast<unsigned>(started.code));
    Succeeds(ServiceRemove(no_driver), "a file that is no driver can be removed");
}

// Decides on the security descriptor that `text` describes.
DWORD Judge(const wchar_t *text)
{
    PSECURITY_DESCRIPTOR descriptor = nullptr;
    PSID owner = nullptr;
    PACL acl = nullptr;
    BOOL is_present = FALSE;
    BOOL is_default = FALSE;

    ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &descriptor, nullptr);
    GetSecurityDescriptorOwner(descriptor, &owner, &is_default);
    GetSecurityDescriptorDacl(descriptor, &is_present, &acl, &is_default);

    const DWORD code = FileRightsJudge(owner, is_present ? acl : nullptr);

    LocalFree(descriptor);
    return code;
}

void TestRights()
{
    struct Case
    {
        const wchar_t *descriptor;
        uint32_t code;
        const char *name;
    };
    const Case cases[] = {
        {kAdministratorsFile, ERROR_SUCCESS, "a copy is for administrators"},
        {kAdministratorsFolder, ERROR_SUCCESS, "the folder of the copies is for administrators"},
        {L"O:SYG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)", ERROR_SUCCESS, "the system may be the owner"},
        {L"O:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464D:(A;;FA;;;SY)", ERROR_SUCCESS,
         "the installer of Windows may be the owner"},
        {L"O:BAD:P(A;;FA;;;BA)(A;OICIIO;FA;;;CO)", ERROR_SUCCESS, "an entry for what is in a folder does not count"},
        {L"O:BAD:P(A;;FA;;;BA)(D;;FA;;;BU)", ERROR_SUCCESS, "an entry that refuses does not count"},
        {L"O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;BA)", ERROR_INVALID_OWNER, "one account that is the owner is refused"},
        {L"O:BUD:P(A;;FA;;;BA)", ERROR_INVALID_OWNER, "a user who is the owner may change the file"},
        {L"D:P(A;;FA;;;BA)", ERROR_INVALID_OWNER, "a file without an owner is refused"},
        {L"O:BA", ERROR_INVALID_ACL, "a file without an access list is refused"},
        {L"O:BAD:P(A;;FA;;;BA)(A;;FW;;;BU)", ERROR_INVALID_ACL, "users may not write"},
        {L"O:BAD:P(A;;FA;;;BA)(A;;GA;;;WD)", ERROR_INVALID_ACL, "everybody may not do everything"},
        {L"O:BAD:P(A;;FA;;;BA)(A;;SD;;;AU)", ERROR_INVALID_ACL, "others may not delete"},
        {L"O:BAD:P(A;;FA;;;BA)(A;;WD;;;AU)", ERROR_INVALID_ACL, "others may not change the access list"},
        {L"O:BAD:P(A;;FA;;;BA)(A;;WO;;;AU)", ERROR_INVALID_ACL, "others may not become the owner"},
        {L"O:BAD:P(A;;FA;;;BA)(A;;0x40;;;AU)", ERROR_INVALID_ACL, "others may not delete what is in a folder"},
    };

    for (const Case &each : cases)
    {
        const DWORD code = Judge(each.descriptor);

        Check(code == each.code, each.name, "error %lu, not %u", code, static_cast<unsigned>(each.code));
    }
}

// Wine has no other owner than the user.
void TestOwnerIsUser(const std::wstring &path)
{
    std::wstring copy;

    Expect(ERROR_INVALID_OWNER, "GetSecurityInfo", DriverFileCopy(path, L"NetVerdictOwner", &copy),
           "a folder that belongs to a user gets no copy");
    Check(copy.empty(), "no copy is left", "path %ls", copy.c_str());
}

void SetAccess(std::wstring path, const wchar_t *text)
{
    PSECURITY_DESCRIPTOR descriptor = nullptr;
    PACL acl = nullptr;
    BOOL is_present = FALSE;
    BOOL is_default = FALSE;

    ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &descriptor, nullptr);
    GetSecurityDescriptorDacl(descriptor, &is_present, &acl, &is_default);
    SetNamedSecurityInfoW(path.data(), SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, nullptr, nullptr, acl, nullptr);
    LocalFree(descriptor);
}

void TestFolderOpenToAll(const std::wstring &path)
{
    std::wstring copy;
    std::wstring refused;

    Succeeds(DriverFileCopy(path, L"NetVerdictOpen", &copy), "a driver is copied before everybody may write");
    SetAccess(FolderOf(copy), L"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;WD)");
    Expect(ERROR_INVALID_ACL, "GetSecurityInfo", DriverFileCopy(path, L"NetVerdictOpen", &refused),
           "a folder to which everybody may write gets no copy");
    Check(refused.empty(), "no copy is left in it", "path %ls", refused.c_str());
    SetAccess(FolderOf(copy), kAdministratorsFolder);
    Succeeds(DriverFileCopy(path, L"NetVerdictOpen", &refused), "it gets one when only administrators may write");
    Succeeds(DriverFileDelete(refused), "that copy is deleted");
    Succeeds(DriverFileDelete(copy), "the copy before it is deleted");
}

void TestCopy(const std::wstring &path)
{
    std::wstring first;
    std::wstring second;

    Succeeds(DriverFileCopy(path, L"NetVerdictCopy", &first), "a driver is copied");
    Succeeds(DriverFileCopy(path, L"NetVerdictCopy", &second), "it is copied again beside the first copy");
    Check(first.find(L"\\drivers\\netverdict\\NetVerdictCopy.sys") != std::wstring::npos, "the copy has the name",
          "path %ls", first.c_str());
    Check(first != second, "no copy is overwritten", "path %ls", second.c_str());
    Check(DriverFileVersion(first) == DriverFileVersion(path) && DriverFileVersion(path).has_value(),
          "the copy has the driver's version", "version %s", DriverFileVersion(first).value_or("none").c_str());
    Check(!DriverFileVersion(L"C:\\windows\\win.ini").has_value(), "a file that is no driver has no version", "it has");
    Succeeds(DriverFileDelete(first), "a copy is deleted");
    Succeeds(DriverFileDelete(second), "the other copy is deleted");
    Check(GetFileAttributesW(first.c_str()) == INVALID_FILE_ATTRIBUTES, "the copy is gone", "it is not");
    Succeeds(DriverFileDelete(path), "what is no copy is not deleted");
    Check(GetFileAttributesW(path.c_str()) != INVALID_FILE_ATTRIBUTES, "what is no copy is still there", "it is gone");
}

void TestSetPath(const std::wstring &path)
{
    const std::wstring name = L"NetVerdictSetPath";
    std::wstring copy;
    ServiceStatus status;

    Succeeds(DriverFileCopy(path, name, &copy), "a newer driver is copied");
    Succeeds(ServiceInstall(ConfigOf(name, path)), "a service is installed with an older driver");
    Succeeds(ServiceSetPath(name, copy), "it gets the newer driver");
    Succeeds(ServiceQuery(name, &status), "it can be asked for its driver");
    Check(status.path.size() >= copy.size() &&
              status.path.compare(status.path.size() - copy.size(), copy.size(), copy) == 0,
          "it has the newer driver", "path %ls", status.path.c_str());
    Check(EventMessageFileOf(name) == copy, "the newer driver has the texts of its events", "texts in %ls",
          EventMessageFileOf(name).c_str());
    Succeeds(ServiceStart(name), "it starts with the newer driver");
    Check(Reaches(name, SERVICE_RUNNING), "it runs with the newer driver", "it does not");
    Succeeds(ServiceStop(name), "it stops with the newer driver");
    Check(Reaches(name, SERVICE_STOPPED), "it is stopped", "it is not");
    Succeeds(ServiceRemove(name), "the service is removed");
    Succeeds(DriverFileDelete(copy), "its driver is deleted");
}

} // namespace

int wmain(int count, wchar_t **arguments)
{
    if (count != 2)
    {
        std::printf("Bail out! Usage: service_test <path of netverdict.sys>\n");
        return 2;
    }
    const std::wstring path = arguments[1];
    TestLife(L"NetVerdictServiceTest", path);
    TestMarkedForDeletion(L"NetVerdictInUse", path);
    TestErrors(path);
    TestRights();
    TestOwnerIsUser(path);
    FileOwnerBecomesAdministrators();
    TestCopy(path);
    TestFolderOpenToAll(path);
    TestSetPath(path);
    const std::optional<bool> test_signing = IsTestSigningOn();
    std::printf("# test-signing: %s\n", !test_signing ? "unknown" : *test_signing ? "on" : "off");
    std::printf("1..%d\n", passed + failed);
    return failed == 0 ? 0 : 1;
}

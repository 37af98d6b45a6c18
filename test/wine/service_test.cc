// Drives the driver's service through addon/win32/service.cc: the whole life of a service, and its errors.
// The argument is the path of a driver. Prints TAP.

#include <windows.h>

#include <cstdarg>
#include <cstdio>
#include <string>

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

void TestErrors(const std::wstring &path)
{
    const std::wstring absent = L"NetVerdictAbsent";
    const std::wstring no_driver = L"NetVerdictNoDriver";
    const std::wstring folder = path.substr(0, path.find_last_of(L'\\'));

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
    Expect(ERROR_INVALID_NAME, "CreateServiceW", ServiceInstall(ConfigOf(L"", path)),
           "a service without a name is not installed");

    Succeeds(ServiceInstall(ConfigOf(no_driver, L"C:\\windows\\win.ini")), "a file that is no driver can be installed");
    const ServiceResult started = ServiceStart(no_driver);
    Check(started.code != ERROR_SUCCESS, "a file that is no driver does not start", "it does");
    std::printf("# Windows says %u of a file that is no driver\n", static_cast<unsigned>(started.code));
    Succeeds(ServiceRemove(no_driver), "a file that is no driver can be removed");
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
    const std::optional<bool> test_signing = IsTestSigningOn();
    std::printf("# test-signing: %s\n", !test_signing ? "unknown" : *test_signing ? "on" : "off");
    std::printf("1..%d\n", passed + failed);
    return failed == 0 ? 0 : 1;
}

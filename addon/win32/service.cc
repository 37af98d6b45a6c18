#include "service.h"

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <winsvc.h>

#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

namespace netverdict
{

namespace
{

struct CloseServiceHandleOnExit
{
    void operator()(SC_HANDLE handle) const { CloseServiceHandle(handle); }
};

using ServiceHandle = std::unique_ptr<std::remove_pointer_t<SC_HANDLE>, CloseServiceHandleOnExit>;

// The services that the driver needs: the filter engine and the network stack. netverdict.inf has the same list.
constexpr wchar_t kDependencies[] = L"BFE\0Tcpip\0";

// The driver has the texts of its entries in the System log. netverdict.inf registers it in the same way.
constexpr wchar_t kEventSources[] = L"SYSTEM\\CurrentControlSet\\Services\\EventLog\\System\\";

ServiceResult Success()
{
    return {};
}

ServiceResult LastError(const char *call)
{
    return {GetLastError(), call};
}

ServiceResult OpenManager(DWORD access, ServiceHandle *manager)
{
    manager->reset(OpenSCManagerW(nullptr, nullptr, access));
    return *manager ? Success() : LastError("OpenSCManagerW");
}

ServiceResult OpenByName(const std::wstring &name, DWORD access, ServiceHandle *service)
{
    ServiceHandle manager;
    const ServiceResult result = OpenManager(SC_MANAGER_CONNECT, &manager);
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    service->reset(OpenServiceW(manager.get(), name.c_str(), access));
    return *service ? Success() : LastError("OpenServiceW");
}

ServiceResult QueryState(SC_HANDLE service, ServiceStatus *status)
{
    SERVICE_STATUS_PROCESS process = {};
    DWORD needed = 0;
    if (!QueryServiceStatusEx(service, SC_STATUS_PROCESS_INFO, reinterpret_cast<BYTE *>(&process), sizeof(process),
                              &needed))
    {
        return LastError("QueryServiceStatusEx");
    }
    status->state = process.dwCurrentState;
    status->exit_code = process.dwWin32ExitCode;
    return Success();
}

ServiceResult QueryConfig(SC_HANDLE service, ServiceStatus *status)
{
    // The function returns 8 KiB at most. The structure in front of the strings needs alignment.
    std::vector<std::max_align_t> buffer(8 * 1024 / sizeof(std::max_align_t));
    auto *config = reinterpret_cast<QUERY_SERVICE_CONFIGW *>(buffer.data());
    DWORD needed = 0;
    if (!QueryServiceConfigW(service, config, static_cast<DWORD>(buffer.size() * sizeof(std::max_align_t)), &needed))
    {
        return LastError("QueryServiceConfigW");
    }
    status->start_type = config->dwStartType;
    status->path = config->lpBinaryPathName != nullptr ? config->lpBinaryPathName : L"";
    return Success();
}

// Without this registration the entries lack their texts, and nothing else is missing. So a failure is no error.
void RegisterEvents(const std::wstring &name, const std::wstring &path)
{
    const std::wstring key = kEventSources + name;
    constexpr DWORD types = EVENTLOG_ERROR_TYPE | EVENTLOG_WARNING_TYPE | EVENTLOG_INFORMATION_TYPE;

    (void)RegSetKeyValueW(HKEY_LOCAL_MACHINE, key.c_str(), L"EventMessageFile", REG_SZ, path.c_str(),
                          static_cast<DWORD>((path.size() + 1) * sizeof(wchar_t)));
    (void)RegSetKeyValueW(HKEY_LOCAL_MACHINE, key.c_str(), L"TypesSupported", REG_DWORD, &types, sizeof(types));
}

void UnregisterEvents(const std::wstring &name)
{
    (void)RegDeleteKeyW(HKEY_LOCAL_MACHINE, (kEventSources + name).c_str());
}

} // namespace

ServiceResult ServiceInstall(const ServiceConfig &config)
{
    // The manager accepts a path without a file. Only the start would fail.
    const DWORD attributes = GetFileAttributesW(config.path.c_str());
    if (attributes == INVALID_FILE_ATTRIBUTES)
    {
        return LastError("GetFileAttributesW");
    }
    if ((attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
    {
        return {kErrorDirectoryNotSupported, "GetFileAttributesW"};
    }
    ServiceHandle manager;
    const ServiceResult result = OpenManager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE, &manager);
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    const ServiceHandle service(CreateServiceW(manager.get(), config.name.c_str(), config.display_name.c_str(),
                                               SERVICE_QUERY_STATUS, SERVICE_KERNEL_DRIVER, config.start_type,
                                               SERVICE_ERROR_NORMAL, config.path.c_str(), nullptr, nullptr,
                                               kDependencies, nullptr, nullptr));
    if (!service)
    {
        return LastError("CreateServiceW");
    }
    RegisterEvents(config.name, config.path);
    return Success();
}

ServiceResult ServiceSetPath(const std::wstring &name, const std::wstring &path)
{
    ServiceHandle service;
    const ServiceResult result = OpenByName(name, SERVICE_CHANGE_CONFIG, &service);
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    if (!ChangeServiceConfigW(service.get(), SERVICE_NO_CHANGE, SERVICE_NO_CHANGE, SERVICE_NO_CHANGE, path.c_str(),
                              nullptr, nullptr, nullptr, nullptr, nullptr, nullptr))
    {
        return LastError("ChangeServiceConfigW");
    }
    RegisterEvents(name, path);
    return Success();
}

ServiceResult ServiceStart(const std::wstring &name)
{
    ServiceHandle service;
    const ServiceResult result = OpenByName(name, SERVICE_START, &service);
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    return StartServiceW(service.get(), 0, nullptr) ? Success() : LastError("StartServiceW");
}

ServiceResult ServiceStop(const std::wstring &name)
{
    ServiceHandle service;
    const ServiceResult result = OpenByName(name, SERVICE_STOP, &service);
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    SERVICE_STATUS status = {};
    return ControlService(service.get(), SERVICE_CONTROL_STOP, &status) ? Success() : LastError("ControlService");
}

ServiceResult ServiceRemove(const std::wstring &name)
{
    ServiceHandle service;
    const ServiceResult result = OpenByName(name, DELETE, &service);
    if (result.code != ERROR_SUCCESS)
    {
        return result;
    }
    if (!DeleteService(service.get()))
    {
        return LastError("DeleteService");
    }
    UnregisterEvents(name);
    return Success();
}

ServiceResult ServiceQuery(const std::wstring &name, ServiceStatus *status)
{
    ServiceHandle service;
    ServiceResult result = OpenByName(name, SERVICE_QUERY_STATUS | SERVICE_QUERY_CONFIG, &service);
    if (result.code == ERROR_SUCCESS)
    {
        result = QueryState(service.get(), status);
    }
    if (result.code == ERROR_SUCCESS)
    {
        result = QueryConfig(service.get(), status);
    }
    return result;
}

std::optional<bool> IsTestSigningOn()
{
    // From the documentation of NtQuerySystemInformation. The SDK's headers lack them.
    constexpr ULONG code_integrity_information = 103;
    constexpr ULONG option_test_sign = 0x02;
    struct CodeIntegrityInformation
    {
        ULONG length;
        ULONG options;
    };
    using Query = LONG(NTAPI *)(ULONG, void *, ULONG, ULONG *);

    const HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    const FARPROC address = ntdll != nullptr ? GetProcAddress(ntdll, "NtQuerySystemInformation") : nullptr;
    if (address == nullptr)
    {
        return std::nullopt;
    }
    const auto query = reinterpret_cast<Query>(reinterpret_cast<void *>(address));
    CodeIntegrityInformation information = {sizeof(information), 0};
    if (query(code_integrity_information, &information, sizeof(information), nullptr) < 0)
    {
        return std::nullopt;
    }
    return (information.options & option_test_sign) != 0;
}

} // namespace netverdict

#include "nt/registry.h"

#include <algorithm>
#include <cstring>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/fault_injection.h"
#include "nt/io_objects.h"
#include "nt/irql.h"

namespace sim::nt
{

namespace
{

constexpr uintptr_t kHandleStep = 4; // Windows' handles are multiples of it

std::u16string UpperCase(std::u16string text)
{
    for (char16_t &character : text)
    {
        character = static_cast<char16_t>(RtlUpcaseUnicodeChar(static_cast<WCHAR>(character)));
    }
    return text;
}

} // namespace

std::u16string Registry::ServiceKey(const std::u16string &service)
{
    return u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\" + service;
}

void Registry::AddKey(const std::u16string &path)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    keys_[UpperCase(path)];
}

void Registry::SetValue(const std::u16string &path, const std::u16string &name, uint32_t type,
                        std::vector<uint8_t> data)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    keys_[UpperCase(path)][UpperCase(name)] = {type, std::move(data)};
}

void Registry::SetDword(const std::u16string &path, const std::u16string &name, uint32_t number)
{
    std::vector<uint8_t> data(sizeof(number));

    std::memcpy(data.data(), &number, sizeof(number));
    SetValue(path, name, REG_DWORD, std::move(data));
}

NTSTATUS Registry::Open(HANDLE root, const std::u16string &path, HANDLE *key)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::u16string full = UpperCase(root == nullptr ? path : PathOfLocked(root, "ZwOpenKey") + u"\\" + path);

    if (keys_.count(full) == 0)
    {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    last_handle_ += kHandleStep;
    open_[last_handle_] = full;
    *key = reinterpret_cast<HANDLE>(last_handle_);
    return STATUS_SUCCESS;
}

bool Registry::Find(HANDLE key, const std::u16string &name, Value *value)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto &values = keys_.at(PathOfLocked(key, "ZwQueryValueKey"));
    const auto found = values.find(UpperCase(name));

    if (found == values.end())
    {
        return false;
    }
    *value = found->second;
    return true;
}

void Registry::Close(HANDLE key)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    PathOfLocked(key, "ZwClose");
    open_.erase(reinterpret_cast<uintptr_t>(key));
}

std::string Registry::Left() const
{
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string lines;

    for (const auto &[handle, path] : open_)
    {
        lines += "    " + ToAscii(path) + "\n";
    }
    return lines;
}

const std::u16string &Registry::PathOfLocked(HANDLE key, const char *function) const
{
    const auto found = open_.find(reinterpret_cast<uintptr_t>(key));

    if (found == open_.end())
    {
        Bugcheck("INVALID_KERNEL_HANDLE", "%s was called for %p, which is no open key", function, key);
    }
    return found->second;
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

extern "C" NTSTATUS ZwOpenKey(PHANDLE KeyHandle, ACCESS_MASK, POBJECT_ATTRIBUTES ObjectAttributes)
{
    RequireIrql(PASSIVE_LEVEL, "ZwOpenKey");
    if ((ObjectAttributes->Attributes & OBJ_KERNEL_HANDLE) == 0)
    {
        Bugcheck("USER_MODE_HANDLE", "ZwOpenKey was called without OBJ_KERNEL_HANDLE, so user mode could use the key");
    }
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return Machine::Current().registry().Open(ObjectAttributes->RootDirectory, ToString(ObjectAttributes->ObjectName),
                                              KeyHandle);
}

extern "C" NTSTATUS ZwQueryValueKey(HANDLE KeyHandle, PUNICODE_STRING ValueName,
                                    KEY_VALUE_INFORMATION_CLASS KeyValueInformationClass, PVOID KeyValueInformation,
                                    ULONG Length, PULONG ResultLength)
{
    constexpr ULONG kHeader = offsetof(KEY_VALUE_PARTIAL_INFORMATION, Data);
    auto *information = static_cast<KEY_VALUE_PARTIAL_INFORMATION *>(KeyValueInformation);
    Registry::Value value;

    RequireIrql(PASSIVE_LEVEL, "ZwQueryValueKey");
    if (KeyValueInformationClass != KeyValuePartialInformation)
    {
        return STATUS_NOT_SUPPORTED;
    }
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (!Machine::Current().registry().Find(KeyHandle, ToString(ValueName), &value))
    {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    const ULONG length = static_cast<ULONG>(value.data.size());

    *ResultLength = kHeader + length;
    if (Length < kHeader)
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    information->TitleIndex = 0;
    information->Type = value.type;
    information->DataLength = length;
    std::memcpy(information->Data, value.data.data(), std::min(length, Length - kHeader));
    return length <= Length - kHeader ? STATUS_SUCCESS : STATUS_BUFFER_OVERFLOW;
}

extern "C" NTSTATUS ZwClose(HANDLE Handle)
{
    RequireIrql(PASSIVE_LEVEL, "ZwClose");
    Machine::Current().registry().Close(Handle);
    return STATUS_SUCCESS;
}

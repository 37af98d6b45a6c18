#include "parameters.h"

typedef union _PARAMETERS_DWORD
{
    KEY_VALUE_PARTIAL_INFORMATION Value;
    UINT8 Bytes[FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data) + sizeof(UINT32)];
} PARAMETERS_DWORD;

PLATFORM_INIT
static NTSTATUS ParametersOpenKey(HANDLE root, PCUNICODE_STRING path, HANDLE *key)
{
    OBJECT_ATTRIBUTES attributes;

    InitializeObjectAttributes(&attributes, (PUNICODE_STRING)path, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, root,
                               NULL);
    return ZwOpenKey(key, KEY_READ, &attributes);
}

PLATFORM_INIT
static NTSTATUS ParametersOpen(PCUNICODE_STRING serviceKey, HANDLE *parameters)
{
    UNICODE_STRING name;
    NTSTATUS status;
    HANDLE service;

    status = ParametersOpenKey(NULL, serviceKey, &service);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    RtlInitUnicodeString(&name, L"Parameters");
    status = ParametersOpenKey(service, &name, parameters);
    (VOID) ZwClose(service);
    return status;
}

_Use_decl_annotations_
PLATFORM_INIT
UINT32 ParametersReadDword(PCUNICODE_STRING serviceKey, PCWSTR name)
{
    PARAMETERS_DWORD buffer;
    UNICODE_STRING valueName;
    HANDLE parameters;
    UINT32 number = 0;
    ULONG length;

    if (!NT_SUCCESS(ParametersOpen(serviceKey, &parameters)))
    {
        return 0;
    }
    RtlInitUnicodeString(&valueName, name);
    if (NT_SUCCESS(ZwQueryValueKey(parameters, &valueName, KeyValuePartialInformation, &buffer, sizeof(buffer.Bytes),
                                   &length)) &&
        buffer.Value.Type == REG_DWORD && buffer.Value.DataLength == sizeof(number))
    {
        RtlCopyMemory(&number, buffer.Value.Data, sizeof(number));
    }
    (VOID) ZwClose(parameters);
    return number;
}

// Implements IoCreateDeviceSecure for mingw-w64, which lacks the WDK's static wdmsec.lib.
//
// The kernel's function is found by name, because no page documents which versions of Windows export it.
// A missing import would keep the driver from loading without a message.

#include "platform.h"

#include <wdmsec.h>

typedef NTSTATUS(NTAPI *CREATE_DEVICE_SECURE)(PDRIVER_OBJECT driver, ULONG extensionBytes, PUNICODE_STRING name,
                                              DEVICE_TYPE type, ULONG characteristics, BOOLEAN exclusive,
                                              PCUNICODE_STRING sddl, LPCGUID deviceClass, PDEVICE_OBJECT *device);

PLATFORM_INIT
NTSTATUS WdmlibIoCreateDeviceSecure(PDRIVER_OBJECT driver, ULONG extensionBytes, PUNICODE_STRING name, DEVICE_TYPE type,
                                    ULONG characteristics, BOOLEAN exclusive, PCUNICODE_STRING sddl,
                                    LPCGUID deviceClass, PDEVICE_OBJECT *device)
{
    UNICODE_STRING routine;
    CREATE_DEVICE_SECURE create;

    RtlInitUnicodeString(&routine, L"IoCreateDeviceSecure");
    create = (CREATE_DEVICE_SECURE)(ULONG_PTR)MmGetSystemRoutineAddress(&routine);
    if (create == NULL)
    {
        return STATUS_PROCEDURE_NOT_FOUND;
    }
    return create(driver, extensionBytes, name, type, characteristics, exclusive, sddl, deviceClass, device);
}

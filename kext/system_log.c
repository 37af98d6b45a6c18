#include "system_log.h"

// A message's number, as messages.mc composes it: severity, the facility of I/O errors, and the id of the event.
#define SYSTEM_LOG_INFORMATION(id) ((NTSTATUS)(0x40040000u | (id)))
#define SYSTEM_LOG_WARNING(id)     ((NTSTATUS)(0x80040000u | (id)))
#define SYSTEM_LOG_ERROR(id)       ((NTSTATUS)(0xC0040000u | (id)))

static const NTSTATUS SystemLogMessages[SystemEventCount] = {
    [SystemEventStartFailed] = SYSTEM_LOG_ERROR(1),     [SystemEventEngineLost] = SYSTEM_LOG_WARNING(2),
    [SystemEventEngineRefused] = SYSTEM_LOG_WARNING(3), [SystemEventEngineBack] = SYSTEM_LOG_INFORMATION(4),
    [SystemEventFailClosed] = SYSTEM_LOG_WARNING(5),    [SystemEventFailPolicy] = SYSTEM_LOG_WARNING(6),
};

// The strings of an entry. Windows inserts the device's or the driver's name as %1.
typedef struct _SYSTEM_LOG_STRINGS
{
    WCHAR Status[sizeof("0x00000000")]; // %2
    WCHAR Count[sizeof("4294967295")];  // %3
} SYSTEM_LOG_STRINGS;

#define SYSTEM_LOG_STRING_COUNT 2

// The strings begin behind a whole IO_ERROR_LOG_PACKET, which has room for dump data that is not used.
#define SYSTEM_LOG_ENTRY_SIZE (sizeof(IO_ERROR_LOG_PACKET) + sizeof(SYSTEM_LOG_STRINGS))

static_assert(SYSTEM_LOG_ENTRY_SIZE <= ERROR_LOG_MAXIMUM_SIZE, "Windows cuts the size of a larger entry");
static_assert(sizeof(IO_ERROR_LOG_PACKET) % sizeof(WCHAR) == 0, "the strings are aligned");

// The text is wide, and the kernel's printf of wide characters needs PASSIVE_LEVEL.
static VOID SystemLogPutNumber(WCHAR *text, UINT32 number, UINT32 base, UINT32 leastDigits)
{
    CHAR digits[sizeof("4294967295")];
    UINT32 count = 0;

    do
    {
        digits[count++] = "0123456789ABCDEF"[number % base];
        number /= base;
    } while (number != 0 || count < leastDigits);
    while (count != 0)
    {
        *text++ = (WCHAR)digits[--count];
    }
    *text = L'\0';
}

static VOID SystemLogPutStatus(WCHAR *text, NTSTATUS status)
{
    text[0] = L'0';
    text[1] = L'x';
    SystemLogPutNumber(text + 2, (UINT32)status, 16, 8);
}

// `object` is a device or a driver. Returns FALSE if Windows has no room for the entry.
static BOOLEAN SystemLogPost(PVOID object, SYSTEM_EVENT event, NTSTATUS status, UINT32 count)
{
    IO_ERROR_LOG_PACKET *packet = (IO_ERROR_LOG_PACKET *)IoAllocateErrorLogEntry(object, (UCHAR)SYSTEM_LOG_ENTRY_SIZE);
    SYSTEM_LOG_STRINGS *strings;

    if (packet == NULL)
    {
        return FALSE;
    }
    RtlZeroMemory(packet, SYSTEM_LOG_ENTRY_SIZE);
    packet->ErrorCode = SystemLogMessages[event];
    packet->FinalStatus = status;
    packet->NumberOfStrings = SYSTEM_LOG_STRING_COUNT;
    packet->StringOffset = sizeof(*packet);
    strings = (SYSTEM_LOG_STRINGS *)(packet + 1);
    SystemLogPutStatus(strings->Status, status);
    SystemLogPutNumber(strings->Count, count, 10, 1);
    IoWriteErrorLogEntry(packet);
    return TRUE;
}

_Use_decl_annotations_
VOID SystemLogInitialize(SYSTEM_LOG *systemLog, PDEVICE_OBJECT device, LOG *log)
{
    RtlZeroMemory(systemLog, sizeof(*systemLog));
    systemLog->Device = device;
    systemLog->Log = log;
}

// Writes what has happened since the last entry, if anything has.
static VOID SystemLogFlush(SYSTEM_LOG *systemLog, SYSTEM_EVENT event)
{
    SYSTEM_LOG_EVENT *limit = &systemLog->Events[event];
    LONG count = InterlockedExchange(&limit->Count, 0);

    if (count != 0 && !SystemLogPost(systemLog->Device, event, ReadNoFence(&limit->Status), (UINT32)count))
    {
        InterlockedExchangeAdd(&limit->Count, count);
        LogWarning(systemLog->Log, "The system's event log refused an entry of event %u, which happened %u times",
                   (unsigned)SystemLogMessages[event] & 0xFFFF, (unsigned)count);
    }
}

_Use_decl_annotations_
VOID SystemLogUninitialize(SYSTEM_LOG *systemLog)
{
    UINT32 event;

    for (event = 0; event < SystemEventCount; event++)
    {
        SystemLogFlush(systemLog, (SYSTEM_EVENT)event);
    }
}

_Use_decl_annotations_
VOID SystemLogWrite(SYSTEM_LOG *systemLog, SYSTEM_EVENT event, NTSTATUS status)
{
    SYSTEM_LOG_EVENT *limit = &systemLog->Events[event];
    LONG64 now = (LONG64)KeQueryInterruptTime();
    LONG64 due = ReadNoFence64(&limit->NextTime);

    WriteNoFence(&limit->Status, status);
    InterlockedIncrement(&limit->Count);
    if (now >= due && InterlockedCompareExchange64(&limit->NextTime, now + (LONG64)SYSTEM_LOG_PERIOD, due) == due)
    {
        SystemLogFlush(systemLog, event);
    }
}

_Use_decl_annotations_
PLATFORM_INIT
VOID SystemLogStartFailed(PDRIVER_OBJECT driver, NTSTATUS status)
{
    (VOID) SystemLogPost(driver, SystemEventStartFailed, status, 1);
}

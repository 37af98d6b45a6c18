// Entries in the system's event log (System), for an administrator who has no client at hand.
//
// Each event has an id and a text with a cure, which messages.mc holds. The driver's image carries the texts.
// An event is written at most once a minute. Its entry has the number of times that it happened since its last entry.
// Windows may refuse an entry. Then the log has a line, and the next entry of the event counts what was refused.

#pragma once

#include "log.h"

EXTERN_C_START

#define SYSTEM_LOG_PERIOD (60 * PLATFORM_TICKS_PER_SECOND)

typedef enum _SYSTEM_EVENT
{
    SystemEventStartFailed,   ///< the driver could not start: SystemLogStartFailed writes it
    SystemEventEngineLost,    ///< the filter engine has stopped, or has lost the filters
    SystemEventEngineRefused, ///< the filter engine does not take the filters
    SystemEventEngineBack,    ///< the filter engine takes the filters again
    SystemEventFailClosed,    ///< no client filters, and the fail policy blocks everything
    SystemEventFailPolicy,    ///< packets that could not be held: the fail policy decided
    SystemEventCount
} SYSTEM_EVENT;

typedef struct _SYSTEM_LOG_EVENT
{
    volatile LONG64 NextTime; ///< KeQueryInterruptTime from which the event is written again
    volatile LONG Count;      ///< times since the last entry
    volatile LONG Status;     ///< NTSTATUS of the last time
} SYSTEM_LOG_EVENT;

typedef struct _SYSTEM_LOG
{
    PDEVICE_OBJECT Device;
    LOG *Log;
    SYSTEM_LOG_EVENT Events[SystemEventCount];
} SYSTEM_LOG;

/// Entries name `device`. A line of `log` reports each entry that Windows refuses. Any IRQL.
VOID SystemLogInitialize(_Out_ SYSTEM_LOG *systemLog, _In_ PDEVICE_OBJECT device, _Inout_ LOG *log);

/// Writes an entry for each event that has happened since its last entry.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SystemLogUninitialize(_Inout_ SYSTEM_LOG *systemLog);

/// Notes that an event happened, and writes its entry unless there was one within the last minute.
/// `status` is the event's NTSTATUS, for the text.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SystemLogWrite(_Inout_ SYSTEM_LOG *systemLog, _In_ SYSTEM_EVENT event, _In_ NTSTATUS status);

/// Writes the entry of a start that failed with `status`. The driver has no device then.
_IRQL_requires_max_(DISPATCH_LEVEL)
PLATFORM_INIT
VOID SystemLogStartFailed(_In_ PDRIVER_OBJECT driver, _In_ NTSTATUS status);

EXTERN_C_END

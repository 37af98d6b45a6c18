// The log: a ring of the last 1024 lines, which the client fetches with GetLogs.
//
// The log is lock-free. Each line has a state word, and one writer or one drain claims it with a compare-exchange.
// A writer that finds a line claimed does not wait: its own line is lost, and counted.
// The level is checked before anything is formatted.
// Formats must be safe at DISPATCH_LEVEL: no %ws, %wZ, %ls, and no floating point.

#pragma once

#include "memory.h"
#include "protocol.h"

EXTERN_C_START

#define LOG_LINE_COUNT      (1024 >> PLATFORM_TABLE_SHRINK)
#define LOG_LINE_MAX_LENGTH 500

typedef struct _LOG_LINE LOG_LINE;

/// Kinds of lines that a flood of packets could repeat. Each kind is written at most once a second.
typedef enum _LOG_LIMIT
{
    LogLimitMalformed, ///< malformed packets
    LogLimitFailure,   ///< packets that the fail policy decided
    LogLimitShare,     ///< connections of an owner that holds too much
    LogLimitInjection, ///< packets that could not be injected
    LogLimitBandwidth, ///< bytes that could not be counted
    LogLimitFragment,  ///< fragments that found no room
    LogLimitCount
} LOG_LIMIT;

typedef struct _LOG
{
    MEMORY *Memory;
    LOG_LINE *Lines;
    volatile LONG Level;                        ///< least LOG_SEVERITY that is kept
    volatile LONG64 NextWrite;                  ///< sequence of the next line written
    volatile LONG64 Overwritten;                ///< lines lost since the last drain
    volatile LONG64 NextLimited[LogLimitCount]; ///< KeQueryInterruptTime from which such a line is written again
} LOG;

/// Called for one line. `text` is UTF-8, not terminated, and valid during the call.
/// Returns FALSE to stop the drain and keep the line for the next drain.
typedef BOOLEAN (*LOG_VISITOR)(_Inout_opt_ void *context, _In_ UINT8 severity, _In_reads_(length) const CHAR *text,
                               _In_ UINT32 length);

/// Allocates the ring and sets the level to warning.
/// After STATUS_INSUFFICIENT_RESOURCES every other call is safe and keeps no lines.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS LogInitialize(_Out_ LOG *log, _Inout_ MEMORY *memory);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID LogUninitialize(_Inout_ LOG *log);

/// Keeps lines of this LOG_SEVERITY and above: 0 keeps all, 7 and more keep none.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID LogSetLevel(_Inout_ LOG *log, _In_ UINT8 level);

/// Returns TRUE at most once a second for each limit, so that a flood of packets makes no flood of lines.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN LogMayRepeat(_Inout_ LOG *log, _In_ LOG_LIMIT limit);

/// Writes "file:line text" into the ring, cut to LOG_LINE_MAX_LENGTH bytes. Use the macros below: they check the level.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID LogWrite(_Inout_ LOG *log, _In_ LOG_SEVERITY severity, _In_z_ const char *file, _In_ int line,
              _In_z_ _Printf_format_string_ const char *format, ...);

/// Hands out and removes the lines that were written before the call, oldest first.
/// Several drains may run at once, and each line is handed out once.
/// Returns how many lines were overwritten since the last drain.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 LogDrain(_Inout_ LOG *log, _In_ LOG_VISITOR visitor, _Inout_opt_ void *context);

FORCEINLINE BOOLEAN LogIsEnabled(_In_ const LOG *log, _In_ LOG_SEVERITY severity)
{
    return (LONG)severity >= ReadNoFence(&log->Level);
}

#define LogAt(log, severity, ...)                                                                                      \
    do                                                                                                                 \
    {                                                                                                                  \
        if (LogIsEnabled((log), (severity)))                                                                           \
        {                                                                                                              \
            LogWrite((log), (severity), __FILE__, __LINE__, __VA_ARGS__);                                              \
        }                                                                                                              \
    } while (0)

#define LogTrace(log, ...)    LogAt(log, LogSeverityTrace, __VA_ARGS__)
#define LogDebug(log, ...)    LogAt(log, LogSeverityDebug, __VA_ARGS__)
#define LogInfo(log, ...)     LogAt(log, LogSeverityInfo, __VA_ARGS__)
#define LogWarning(log, ...)  LogAt(log, LogSeverityWarning, __VA_ARGS__)
#define LogError(log, ...)    LogAt(log, LogSeverityError, __VA_ARGS__)
#define LogCritical(log, ...) LogAt(log, LogSeverityCritical, __VA_ARGS__)

EXTERN_C_END

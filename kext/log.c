#include "log.h"

// A line's state is 0 before its first text. Later it is LogStateOf the sequence of its text, plus these flags.
// So the state identifies the turn of the ring that wrote the text. The state never goes back to an earlier sequence.
#define LOG_LINE_OWNED   1 // one thread writes or drains it at this moment
#define LOG_LINE_DRAINED 2

struct _LOG_LINE
{
    volatile LONG64 State;
    UINT16 Length;
    UINT8 Severity;
    CHAR Text[LOG_LINE_MAX_LENGTH + 1];
};

static LONG64 LogStateOf(LONG64 sequence)
{
    return (sequence + 1) * 4;
}

_Use_decl_annotations_
NTSTATUS LogInitialize(LOG *log, MEMORY *memory)
{
    RtlZeroMemory(log, sizeof(*log));
    log->Memory = memory;
    log->Level = LogSeverityWarning;
    log->Lines = (LOG_LINE *)MemoryAllocate(memory, LOG_LINE_COUNT * sizeof(LOG_LINE));
    return log->Lines != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID LogUninitialize(LOG *log)
{
    MemoryFree(log->Memory, log->Lines);
    log->Lines = NULL;
}

_Use_decl_annotations_
VOID LogSetLevel(LOG *log, UINT8 level)
{
    WriteNoFence(&log->Level, level);
}

_Use_decl_annotations_
BOOLEAN LogMayRepeat(LOG *log, LOG_LIMIT limit)
{
    volatile LONG64 *next = &log->NextLimited[limit];
    LONG64 now = (LONG64)KeQueryInterruptTime();
    LONG64 due = ReadNoFence64(next);

    return now >= due && InterlockedCompareExchange64(next, now + (LONG64)PLATFORM_TICKS_PER_SECOND, due) == due;
}

// Returns the file name of a path. Whole paths are long and differ between build machines.
static const char *LogBaseName(const char *path)
{
    const char *name = path;

    for (; *path != '\0'; path++)
    {
        if (*path == '/' || *path == '\\')
        {
            name = path + 1;
        }
    }
    return name;
}

// _vsnprintf leaves a cut text unterminated and returns a negative number.
// The vsnprintf of C99 returns the length of the whole text instead.
static UINT32 LogFormatAt(CHAR *text, UINT32 length, const char *format, va_list arguments)
{
    UINT32 room = LOG_LINE_MAX_LENGTH - length;
    int written = _vsnprintf(text + length, room + 1, format, arguments);

    return written < 0 || (UINT32)written > room ? LOG_LINE_MAX_LENGTH : length + (UINT32)written;
}

static UINT32 LogFormatPosition(CHAR *text, const char *format, ...)
{
    va_list arguments;
    UINT32 length;

    va_start(arguments, format);
    length = LogFormatAt(text, 0, format, arguments);
    va_end(arguments);
    return length;
}

// Claims the line for the writer of `sequence`. FALSE: another thread owns the line, or it has a later text.
// A text of a later turn is kept instead of this one.
static BOOLEAN LogClaimForWrite(LOG *log, LOG_LINE *line, LONG64 sequence)
{
    LONG64 state = ReadNoFence64(&line->State);

    if ((state & LOG_LINE_OWNED) != 0 || state > LogStateOf(sequence) ||
        InterlockedCompareExchange64(&line->State, LogStateOf(sequence) | LOG_LINE_OWNED, state) != state)
    {
        InterlockedIncrement64(&log->Overwritten);
        return FALSE;
    }
    if (state != 0 && (state & LOG_LINE_DRAINED) == 0)
    {
        InterlockedIncrement64(&log->Overwritten);
    }
    return TRUE;
}

_Use_decl_annotations_
VOID LogWrite(LOG *log, LOG_SEVERITY severity, const char *file, int lineNumber, const char *format, ...)
{
    LOG_LINE *line;
    LONG64 sequence;
    va_list arguments;
    UINT32 length;

    if (log->Lines == NULL)
    {
        return;
    }
    sequence = InterlockedIncrement64(&log->NextWrite) - 1;
    line = &log->Lines[sequence % LOG_LINE_COUNT];
    if (!LogClaimForWrite(log, line, sequence))
    {
        return;
    }

    length = LogFormatPosition(line->Text, "%s:%d ", LogBaseName(file), lineNumber);
    va_start(arguments, format);
    length = LogFormatAt(line->Text, length, format, arguments);
    va_end(arguments);
    line->Length = (UINT16)length;
    line->Severity = (UINT8)severity;
    WriteRelease64(&line->State, LogStateOf(sequence));
}

// Hands out the text of this sequence, or an older one of a slow writer. FALSE: the visitor leaves it for later.
static BOOLEAN LogDrainLine(LOG_LINE *line, LONG64 sequence, LOG_VISITOR visitor, void *context)
{
    LONG64 state = ReadNoFence64(&line->State);
    BOOLEAN taken;

    if (state == 0 || (state & (LOG_LINE_OWNED | LOG_LINE_DRAINED)) != 0 || state > LogStateOf(sequence) ||
        InterlockedCompareExchange64(&line->State, state | LOG_LINE_OWNED, state) != state)
    {
        return TRUE;
    }
    taken = visitor(context, line->Severity, line->Text, line->Length);
    WriteRelease64(&line->State, taken ? state | LOG_LINE_DRAINED : state);
    return taken;
}

_Use_decl_annotations_
UINT64 LogDrain(LOG *log, LOG_VISITOR visitor, void *context)
{
    LONG64 end = ReadAcquire64(&log->NextWrite);
    LONG64 sequence = end > LOG_LINE_COUNT ? end - LOG_LINE_COUNT : 0;

    if (log->Lines == NULL)
    {
        return 0;
    }
    for (; sequence < end; sequence++)
    {
        if (!LogDrainLine(&log->Lines[sequence % LOG_LINE_COUNT], sequence, visitor, context))
        {
            break;
        }
    }
    return (UINT64)InterlockedExchange64(&log->Overwritten, 0);
}

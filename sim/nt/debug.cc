// Debug output and formatting.

#include <ntddk.h>

#include <cstdio>
#include <cstring>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/debug_port.h"
#include "nt/irql.h"

namespace sim::nt
{

void DebugPort::SetSink(Sink sink)
{
    std::lock_guard<std::mutex> lock(mutex_);

    sink_ = std::move(sink);
}

void DebugPort::Print(const std::string &text)
{
    std::lock_guard<std::mutex> lock(mutex_);

    if (sink_)
    {
        sink_(text);
    }
}

namespace
{

constexpr size_t kDebugLineBytes = 512; // the most that one DbgPrint carries

// True if a conversion of the format takes 16-bit text: %ws, %wZ, %ls, %lc, %S, %C.
bool HasWideConversion(const char *format)
{
    for (const char *percent = std::strchr(format, '%'); percent != nullptr; percent = std::strchr(percent + 1, '%'))
    {
        const char *conversion = percent + 1 + std::strspn(percent + 1, "-+ #0123456789.*");

        if (*conversion == '\0')
        {
            return false;
        }
        if (std::strchr("wSC", *conversion) != nullptr ||
            (*conversion == 'l' && (conversion[1] == 's' || conversion[1] == 'c')))
        {
            return true;
        }
        percent = conversion;
    }
    return false;
}

// The kernel converts 16-bit text by pageable tables, so such a format at DISPATCH_LEVEL crashes Windows.
// The host's C library has 32-bit wide characters and cannot convert 16-bit text.
void RequireNarrowFormat(const char *format)
{
    if (HasWideConversion(format))
    {
        Bugcheck("WIDE_FORMAT", "the format \"%s\" takes 16-bit text", format);
    }
}

std::string FormatLine(const char *format, va_list arguments)
{
    char line[kDebugLineBytes];

    RequireNarrowFormat(format);
    std::vsnprintf(line, sizeof(line), format, arguments);
    return line;
}

} // namespace

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

extern "C" ULONG DbgPrint(PCSTR Format, ...)
{
    va_list arguments;

    va_start(arguments, Format);
    Machine::Current().debug().Print(FormatLine(Format, arguments));
    va_end(arguments);
    return STATUS_SUCCESS;
}

extern "C" ULONG DbgPrintEx(ULONG, ULONG, PCSTR Format, ...)
{
    va_list arguments;

    va_start(arguments, Format);
    Machine::Current().debug().Print(FormatLine(Format, arguments));
    va_end(arguments);
    return STATUS_SUCCESS;
}

#if !defined(_WIN32)

extern "C" int _vsnprintf(char *Buffer, size_t Count, const char *Format, va_list Arguments)
{
    va_list again;

    RequireNarrowFormat(Format);
    va_copy(again, Arguments);

    int length = std::vsnprintf(Buffer, Count, Format, Arguments);

    if (length >= 0 && static_cast<size_t>(length) >= Count)
    {
        // vsnprintf writes a terminator in place of the last character; this function writes none.
        std::string text(static_cast<size_t>(length) + 1, '\0');

        std::vsnprintf(text.data(), text.size(), Format, again);
        std::memcpy(Buffer, text.data(), Count);
        length = static_cast<size_t>(length) == Count ? length : -1;
    }
    va_end(again);
    return length;
}

extern "C" int _snprintf(char *Buffer, size_t Count, const char *Format, ...)
{
    va_list arguments;

    va_start(arguments, Format);
    int length = _vsnprintf(Buffer, Count, Format, arguments);
    va_end(arguments);
    return length;
}

#endif

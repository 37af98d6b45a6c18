// Counted strings and safe string functions.

#include <ntddk.h>

#include <ntstrsafe.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "nt/bugcheck.h"
#include "nt/irql.h"

using namespace sim;
using namespace sim::nt;

namespace
{

constexpr SIZE_T kMaximumStringBytes = 0xFFFE;

// Windows' table of upper and lower case is pageable.
void RequirePassive(BOOLEAN case_insensitive, const char *function)
{
    if (case_insensitive)
    {
        RequireIrql(PASSIVE_LEVEL, function);
    }
}

SIZE_T LengthOf(PCWSTR string)
{
    SIZE_T length = 0;

    while (string[length] != 0)
    {
        length++;
    }
    return length;
}

bool IsInside(WCHAR first, WCHAR character, WCHAR last)
{
    return character >= first && character <= last;
}

LONG CompareCharacters(const WCHAR *left, const WCHAR *right, SIZE_T count, BOOLEAN case_insensitive)
{
    for (SIZE_T i = 0; i < count; i++)
    {
        WCHAR a = case_insensitive ? RtlUpcaseUnicodeChar(left[i]) : left[i];
        WCHAR b = case_insensitive ? RtlUpcaseUnicodeChar(right[i]) : right[i];

        if (a != b)
        {
            return static_cast<LONG>(a) - static_cast<LONG>(b);
        }
    }
    return 0;
}

// Copies what fits and terminates it. `used` is the number of characters that are already there.
template <typename Character>
NTSTATUS CopyTerminated(Character *destination, SIZE_T capacity, SIZE_T used, const Character *source)
{
    SIZE_T position = used;

    if (capacity == 0 || used >= capacity)
    {
        return STATUS_INVALID_PARAMETER;
    }
    while (*source != 0 && position + 1 < capacity)
    {
        destination[position++] = *source++;
    }
    destination[position] = 0;
    return *source == 0 ? STATUS_SUCCESS : STATUS_BUFFER_OVERFLOW;
}

} // namespace

extern "C" VOID RtlInitUnicodeString(PUNICODE_STRING DestinationString, PCWSTR SourceString)
{
    SIZE_T bytes = SourceString == nullptr ? 0 : LengthOf(SourceString) * sizeof(WCHAR);

    bytes = std::min(bytes, kMaximumStringBytes - sizeof(WCHAR));
    DestinationString->Length = static_cast<USHORT>(bytes);
    DestinationString->MaximumLength = static_cast<USHORT>(SourceString == nullptr ? 0 : bytes + sizeof(WCHAR));
    DestinationString->Buffer = const_cast<PWCH>(SourceString);
}

extern "C" VOID RtlInitAnsiString(PANSI_STRING DestinationString, PCSTR SourceString)
{
    SIZE_T bytes = SourceString == nullptr ? 0 : std::min<SIZE_T>(std::strlen(SourceString), kMaximumStringBytes);

    DestinationString->Length = static_cast<USHORT>(bytes);
    DestinationString->MaximumLength = static_cast<USHORT>(SourceString == nullptr ? 0 : bytes + 1);
    DestinationString->Buffer = const_cast<PCHAR>(SourceString);
}

extern "C" VOID RtlCopyUnicodeString(PUNICODE_STRING DestinationString, PCUNICODE_STRING SourceString)
{
    DestinationString->Length = 0;
    if (SourceString != nullptr)
    {
        DestinationString->Length = std::min(SourceString->Length, DestinationString->MaximumLength);
        std::memmove(DestinationString->Buffer, SourceString->Buffer, DestinationString->Length);
    }
}

extern "C" NTSTATUS RtlAppendUnicodeToString(PUNICODE_STRING Destination, PCWSTR Source)
{
    UNICODE_STRING source;

    RtlInitUnicodeString(&source, Source);
    return RtlAppendUnicodeStringToString(Destination, &source);
}

extern "C" NTSTATUS RtlAppendUnicodeStringToString(PUNICODE_STRING Destination, PCUNICODE_STRING Source)
{
    if (Source->Length > Destination->MaximumLength - Destination->Length)
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    std::memmove(reinterpret_cast<char *>(Destination->Buffer) + Destination->Length, Source->Buffer, Source->Length);
    Destination->Length = static_cast<USHORT>(Destination->Length + Source->Length);
    return STATUS_SUCCESS;
}

extern "C" BOOLEAN RtlEqualUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2, BOOLEAN CaseInSensitive)
{
    RequirePassive(CaseInSensitive, "RtlEqualUnicodeString");
    return String1->Length == String2->Length &&
           CompareCharacters(String1->Buffer, String2->Buffer, String1->Length / sizeof(WCHAR), CaseInSensitive) == 0;
}

extern "C" LONG RtlCompareUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2, BOOLEAN CaseInSensitive)
{
    RequirePassive(CaseInSensitive, "RtlCompareUnicodeString");

    SIZE_T common = std::min(String1->Length, String2->Length) / sizeof(WCHAR);
    LONG difference = CompareCharacters(String1->Buffer, String2->Buffer, common, CaseInSensitive);

    return difference != 0 ? difference : static_cast<LONG>(String1->Length) - static_cast<LONG>(String2->Length);
}

extern "C" BOOLEAN RtlPrefixUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2, BOOLEAN CaseInSensitive)
{
    RequirePassive(CaseInSensitive, "RtlPrefixUnicodeString");
    return String1->Length <= String2->Length &&
           CompareCharacters(String1->Buffer, String2->Buffer, String1->Length / sizeof(WCHAR), CaseInSensitive) == 0;
}

extern "C" WCHAR RtlUpcaseUnicodeChar(WCHAR SourceCharacter)
{
    constexpr WCHAR kCaseDistance = 0x20;
    constexpr WCHAR kCyrillicExtensionDistance = 0x50;
    constexpr WCHAR kDivisionSign = 0xF7;
    constexpr WCHAR kFinalSigma = 0x3C2;

    bool is_letter = IsInside(u'a', SourceCharacter, u'z') ||
                     (IsInside(0xE0, SourceCharacter, 0xFE) && SourceCharacter != kDivisionSign) ||
                     (IsInside(0x3B1, SourceCharacter, 0x3CB) && SourceCharacter != kFinalSigma) ||
                     IsInside(0x430, SourceCharacter, 0x44F);

    if (is_letter)
    {
        return static_cast<WCHAR>(SourceCharacter - kCaseDistance);
    }
    if (IsInside(0x450, SourceCharacter, 0x45F))
    {
        return static_cast<WCHAR>(SourceCharacter - kCyrillicExtensionDistance);
    }
    return SourceCharacter;
}

extern "C" NTSTATUS RtlStringCbVPrintfA(CHAR *Destination, SIZE_T Bytes, PCSTR Format, va_list Arguments)
{
    if (Bytes == 0 || Bytes > NTSTRSAFE_MAX_CCH)
    {
        return STATUS_INVALID_PARAMETER;
    }

    int length = _vsnprintf(Destination, Bytes - 1, Format, Arguments);

    Destination[length < 0 ? Bytes - 1 : static_cast<SIZE_T>(length)] = 0;
    return length < 0 ? STATUS_BUFFER_OVERFLOW : STATUS_SUCCESS;
}

extern "C" NTSTATUS RtlStringCbPrintfA(CHAR *Destination, SIZE_T Bytes, PCSTR Format, ...)
{
    va_list arguments;

    va_start(arguments, Format);
    NTSTATUS status = RtlStringCbVPrintfA(Destination, Bytes, Format, arguments);
    va_end(arguments);
    return status;
}

extern "C" NTSTATUS RtlStringCbCopyA(CHAR *Destination, SIZE_T Bytes, PCSTR Source)
{
    return CopyTerminated(Destination, Bytes, 0, Source);
}

extern "C" NTSTATUS RtlStringCbCatA(CHAR *Destination, SIZE_T Bytes, PCSTR Source)
{
    return CopyTerminated(Destination, Bytes, strnlen(Destination, Bytes), Source);
}

extern "C" NTSTATUS RtlStringCbLengthA(PCSTR String, SIZE_T Bytes, SIZE_T *Length)
{
    SIZE_T length = strnlen(String, Bytes);

    if (Length != nullptr)
    {
        *Length = length < Bytes ? length : 0;
    }
    return length < Bytes ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

extern "C" NTSTATUS RtlStringCchLengthW(PCWSTR String, SIZE_T Characters, SIZE_T *Length)
{
    SIZE_T length = 0;

    while (length < Characters && String[length] != 0)
    {
        length++;
    }
    if (Length != nullptr)
    {
        *Length = length < Characters ? length : 0;
    }
    return length < Characters ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

extern "C" NTSTATUS RtlStringCbCopyW(WCHAR *Destination, SIZE_T Bytes, PCWSTR Source)
{
    return CopyTerminated(Destination, Bytes / sizeof(WCHAR), 0, Source);
}

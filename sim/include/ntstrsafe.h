// String functions that always terminate and never write past the end.
// Sizes are in bytes (Cb) or characters (Cch) and include the terminator.
#pragma once

#include "wdm/status.h"

#define NTSTRSAFE_MAX_CCH 2147483647

EXTERN_C_START

// STATUS_BUFFER_OVERFLOW: the text is truncated. STATUS_INVALID_PARAMETER: there is no room for a terminator.
NTSTATUS NTAPI RtlStringCbVPrintfA(CHAR *Destination, SIZE_T Bytes, PCSTR Format, va_list Arguments);
NTSTATUS RtlStringCbPrintfA(CHAR *Destination, SIZE_T Bytes, PCSTR Format, ...) __attribute__((format(printf, 3, 4)));
NTSTATUS NTAPI RtlStringCbCopyA(CHAR *Destination, SIZE_T Bytes, PCSTR Source);
NTSTATUS NTAPI RtlStringCbCatA(CHAR *Destination, SIZE_T Bytes, PCSTR Source);
NTSTATUS NTAPI RtlStringCbLengthA(PCSTR String, SIZE_T Bytes, SIZE_T *Length);
NTSTATUS NTAPI RtlStringCchLengthW(PCWSTR String, SIZE_T Characters, SIZE_T *Length);
NTSTATUS NTAPI RtlStringCbCopyW(WCHAR *Destination, SIZE_T Bytes, PCWSTR Source);

EXTERN_C_END

#define RtlStringCchVPrintfA RtlStringCbVPrintfA
#define RtlStringCchPrintfA  RtlStringCbPrintfA
#define RtlStringCchCopyA    RtlStringCbCopyA
#define RtlStringCchCatA     RtlStringCbCatA

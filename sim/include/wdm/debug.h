// Debug output, formatting and random numbers.
#pragma once

#include "status.h"

#define DPFLTR_IHVDRIVER_ID  77
#define DPFLTR_IHVNETWORK_ID 80

#define DPFLTR_ERROR_LEVEL   0
#define DPFLTR_WARNING_LEVEL 1
#define DPFLTR_TRACE_LEVEL   2
#define DPFLTR_INFO_LEVEL    3

EXTERN_C_START

ULONG DbgPrint(PCSTR Format, ...) __attribute__((format(printf, 1, 2)));
ULONG DbgPrintEx(ULONG ComponentId, ULONG Level, PCSTR Format, ...) __attribute__((format(printf, 3, 4)));

#if !defined(_WIN32)
// Microsoft's variant: returns a negative number and writes no terminator if the text does not fit.
int _vsnprintf(char *Buffer, size_t Count, const char *Format, va_list Arguments);
int _snprintf(char *Buffer, size_t Count, const char *Format, ...) __attribute__((format(printf, 3, 4)));
#endif

ULONG NTAPI RtlRandomEx(PULONG Seed);

DECLSPEC_NORETURN VOID NTAPI KeBugCheckEx(ULONG BugCheckCode, ULONG_PTR BugCheckParameter1,
                                          ULONG_PTR BugCheckParameter2, ULONG_PTR BugCheckParameter3,
                                          ULONG_PTR BugCheckParameter4);
DECLSPEC_NORETURN VOID NTAPI HostAssertionFailed(PCSTR Expression, PCSTR File, LONG Line);
VOID NTAPI HostPagedCode(PCSTR Function);

EXTERN_C_END

#define NT_ASSERT(expression) ((expression) ? (void)0 : HostAssertionFailed(#expression, __FILE__, __LINE__))
#define ASSERT(expression)    NT_ASSERT(expression)
#define NT_VERIFY(expression) NT_ASSERT(expression)
#define PAGED_CODE()          HostPagedCode(__func__)
#define KdPrintEx(arguments)  DbgPrintEx arguments

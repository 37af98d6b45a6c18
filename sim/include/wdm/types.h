// The base types of Windows, with Windows' sizes on every host: LONG is 32 bits, WCHAR is 16 bits.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../sal.h"

#ifdef __cplusplus
#define EXTERN_C extern "C"
#define EXTERN_C_START                                                                                                 \
    extern "C"                                                                                                         \
    {
#define EXTERN_C_END       }
#define HOST_STATIC_ASSERT static_assert
#else
#define EXTERN_C extern
#define EXTERN_C_START
#define EXTERN_C_END
#define HOST_STATIC_ASSERT _Static_assert
#endif

#define NTAPI
#define NTSYSAPI
#define NTKERNELAPI
#define NTHALAPI
#define CDECL
#define FASTCALL
#define FORCEINLINE         static inline __attribute__((always_inline, unused))
#define CFORCEINLINE        FORCEINLINE
#define DECLSPEC_ALIGN(n)   __attribute__((aligned(n)))
#define DECLSPEC_CACHEALIGN DECLSPEC_ALIGN(SYSTEM_CACHE_ALIGNMENT_SIZE)
#define DECLSPEC_NORETURN   __attribute__((noreturn))
#define DECLSPEC_NOINLINE   __attribute__((noinline))
#undef UNALIGNED // mingw-w64's headers define it too
#define UNALIGNED
#define CONST const

#define ANYSIZE_ARRAY 1

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif

typedef void VOID;
typedef void *PVOID, **PPVOID;
typedef const void *LPCVOID;
typedef void *HANDLE, **PHANDLE;

typedef char CHAR, *PCHAR, *PSTR;
typedef const char *PCSTR, *PCCH;
typedef signed char INT8, *PINT8;
typedef unsigned char UCHAR, *PUCHAR, UINT8, *PUINT8, BYTE, *PBYTE, BOOLEAN, *PBOOLEAN;
typedef short SHORT, *PSHORT, INT16, *PINT16, CSHORT;
typedef unsigned short USHORT, *PUSHORT, UINT16, *PUINT16, WORD;
typedef int INT, *PINT, INT32, *PINT32, LONG, *PLONG, BOOL, *PBOOL;
typedef unsigned int UINT, *PUINT, UINT32, *PUINT32, ULONG, *PULONG, DWORD, *PDWORD, ULONG32, *PULONG32;
typedef long long INT64, *PINT64, LONG64, *PLONG64, LONGLONG, *PLONGLONG;
typedef unsigned long long UINT64, *PUINT64, ULONG64, *PULONG64, ULONGLONG, *PULONGLONG, DWORD64, *PDWORD64;

typedef INT64 INT_PTR, LONG_PTR, *PLONG_PTR, SSIZE_T;
typedef UINT64 UINT_PTR, ULONG_PTR, *PULONG_PTR, DWORD_PTR, SIZE_T, *PSIZE_T;

typedef wchar_t WCHAR, *PWCHAR, *PWCH, *PWSTR, *LPWSTR;
typedef const wchar_t *PCWSTR, *PCWCH, *LPCWSTR;

typedef LONG NTSTATUS, *PNTSTATUS;
typedef UCHAR KIRQL, *PKIRQL;
typedef CHAR CCHAR, *PCCHAR;
typedef CCHAR KPROCESSOR_MODE;
typedef CSHORT KPROCESSOR_INDEX;
typedef LONG KPRIORITY;
typedef ULONG_PTR KAFFINITY;
typedef ULONG DEVICE_TYPE;
typedef ULONG ACCESS_MASK, *PACCESS_MASK;
typedef UINT64 PFN_NUMBER, *PPFN_NUMBER;
typedef UINT64 POOL_FLAGS;

HOST_STATIC_ASSERT(sizeof(WCHAR) == 2, "compile with -fshort-wchar");
HOST_STATIC_ASSERT(sizeof(PVOID) == 8, "64-bit hosts only");

typedef union _LARGE_INTEGER
{
    struct
    {
        ULONG LowPart;
        LONG HighPart;
    };
    struct
    {
        ULONG LowPart;
        LONG HighPart;
    } u;
    LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER;

typedef union _ULARGE_INTEGER
{
    struct
    {
        ULONG LowPart;
        ULONG HighPart;
    };
    struct
    {
        ULONG LowPart;
        ULONG HighPart;
    } u;
    ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

typedef LARGE_INTEGER PHYSICAL_ADDRESS, *PPHYSICAL_ADDRESS;

typedef struct _LIST_ENTRY
{
    struct _LIST_ENTRY *Flink;
    struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY;

typedef struct _SINGLE_LIST_ENTRY
{
    struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

// Lengths are in bytes, without the terminating null.
typedef struct _UNICODE_STRING
{
    USHORT Length;
    USHORT MaximumLength;
    PWCH Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;

typedef struct _STRING
{
    USHORT Length;
    USHORT MaximumLength;
    PCHAR Buffer;
} STRING, ANSI_STRING, *PSTRING, *PANSI_STRING;
typedef const STRING *PCANSI_STRING;

typedef struct _PROCESSOR_NUMBER
{
    USHORT Group;
    UCHAR Number;
    UCHAR Reserved;
} PROCESSOR_NUMBER, *PPROCESSOR_NUMBER;

typedef enum _MODE
{
    KernelMode,
    UserMode,
    MaximumMode
} MODE;

#define MAXULONG   0xFFFFFFFFU
#define MAXLONG    0x7FFFFFFF
#define MINLONG    ((LONG)0x80000000)
#define MAXUSHORT  0xFFFF
#define MAXUCHAR   0xFF
#define MAXLONG64  0x7FFFFFFFFFFFFFFFLL
#define MAXUINT32  0xFFFFFFFFu
#define MAXULONG64 0xFFFFFFFFFFFFFFFFULL
#define MAXSIZE_T  ((SIZE_T) - 1)

#define UNREFERENCED_PARAMETER(parameter)         ((void)(parameter))
#define DBG_UNREFERENCED_PARAMETER(parameter)     ((void)(parameter))
#define DBG_UNREFERENCED_LOCAL_VARIABLE(variable) ((void)(variable))

#define FIELD_OFFSET(type, field)               ((LONG)offsetof(type, field))
#define UFIELD_OFFSET(type, field)              ((ULONG)offsetof(type, field))
#define RTL_FIELD_SIZE(type, field)             (sizeof(((type *)0)->field))
#define RTL_SIZEOF_THROUGH_FIELD(type, field)   (offsetof(type, field) + RTL_FIELD_SIZE(type, field))
#define RTL_NUMBER_OF(array)                    (sizeof(array) / sizeof((array)[0]))
#define ARRAYSIZE(array)                        RTL_NUMBER_OF(array)
#define CONTAINING_RECORD(address, type, field) ((type *)((PCHAR)(address) - offsetof(type, field)))

#define ALIGN_DOWN_BY(length, alignment)          ((ULONG_PTR)(length) & ~((ULONG_PTR)(alignment) - 1))
#define ALIGN_UP_BY(length, alignment)            (ALIGN_DOWN_BY(((ULONG_PTR)(length) + (alignment) - 1), alignment))
#define ALIGN_UP_POINTER_BY(address, alignment)   ((PVOID)ALIGN_UP_BY(address, alignment))
#define ALIGN_DOWN_POINTER_BY(address, alignment) ((PVOID)ALIGN_DOWN_BY(address, alignment))

#define MEMORY_ALLOCATION_ALIGNMENT 16

#ifndef SYSTEM_CACHE_ALIGNMENT_SIZE
#if defined(__x86_64__) || defined(__i386__)
#define SYSTEM_CACHE_ALIGNMENT_SIZE 64
#else
#define SYSTEM_CACHE_ALIGNMENT_SIZE 128
#endif
#endif

#define PASSIVE_LEVEL  0
#define LOW_LEVEL      0
#define APC_LEVEL      1
#define DISPATCH_LEVEL 2
#define HIGH_LEVEL     15

#define RtlCopyMemory(destination, source, length) __builtin_memcpy((destination), (source), (length))
#define RtlMoveMemory(destination, source, length) __builtin_memmove((destination), (source), (length))
#define RtlFillMemory(destination, length, fill)   __builtin_memset((destination), (fill), (length))
#define RtlZeroMemory(destination, length)         __builtin_memset((destination), 0, (length))
#define RtlEqualMemory(left, right, length)        (__builtin_memcmp((left), (right), (length)) == 0)

FORCEINLINE USHORT RtlUshortByteSwap(USHORT value)
{
    return __builtin_bswap16(value);
}

FORCEINLINE ULONG RtlUlongByteSwap(ULONG value)
{
    return __builtin_bswap32(value);
}

FORCEINLINE ULONGLONG RtlUlonglongByteSwap(ULONGLONG value)
{
    return __builtin_bswap64(value);
}

EXTERN_C_START

// Returns the number of leading bytes that are equal.
SIZE_T NTAPI RtlCompareMemory(const VOID *Source1, const VOID *Source2, SIZE_T Length);

// The optimizer does not remove this call.
PVOID NTAPI RtlSecureZeroMemory(PVOID Address, SIZE_T Length);

EXTERN_C_END

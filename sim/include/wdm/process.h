// Processes by their ids.
#pragma once

#include "types.h"

typedef struct _EPROCESS *PEPROCESS;

EXTERN_C_START

// ObDereferenceObject releases the reference.
NTSTATUS NTAPI PsLookupProcessByProcessId(HANDLE ProcessId, PEPROCESS *Process);
LONGLONG NTAPI PsGetProcessCreateTimeQuadPart(PEPROCESS Process);
HANDLE NTAPI PsGetCurrentProcessId(VOID);
HANDLE NTAPI PsGetCurrentThreadId(VOID);

EXTERN_C_END

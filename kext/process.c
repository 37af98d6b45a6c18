#include "process.h"

_Use_decl_annotations_
UINT64 ProcessStartTime(UINT64 processId)
{
    PEPROCESS process;
    UINT64 start;

    if (processId == 0 || KeGetCurrentIrql() != PASSIVE_LEVEL ||
        !NT_SUCCESS(PsLookupProcessByProcessId((HANDLE)(ULONG_PTR)processId, &process)))
    {
        return 0;
    }
    start = (UINT64)PsGetProcessCreateTimeQuadPart(process);
    ObDereferenceObject(process);
    return start;
}

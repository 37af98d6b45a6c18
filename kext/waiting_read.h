// A read that waits in its dispatch routine: the IRP of a base client, which never returns STATUS_PENDING.
//
// Only the thread that issued the read completes it. Other threads wake that thread.
// The wait is in UserMode, so the end of the thread interrupts it. It is not alertable, so a user APC does not.
// The event lies in the pool, because Windows may unmap the stack of a thread that waits in UserMode.
// The cancel routine only sets the event, and does so while it holds the cancel spin lock.
// WaitingReadFree passes through that lock, so no cancel routine uses a read that is freed.
// The owner of the read guards the members and WaitingReadWake by a lock of its own.

#pragma once

#include "memory.h"

EXTERN_C_START

typedef struct _WAITING_READ
{
    LIST_ENTRY Entry; ///< for the owner
    PIRP Irp;
    KEVENT Wake;
    BOOLEAN Woken;    ///< the owner has woken its thread, which needs no second wake
    BOOLEAN Detached; ///< for the owner
} WAITING_READ;

/// Makes the read and sets the IRP's cancel routine. The IRP is perhaps cancelled already. NULL: there is no memory.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
WAITING_READ *WaitingReadCreate(_Inout_ MEMORY *memory, _In_ PIRP irp);

/// Makes the read's thread look again, and then end its wait. The owner's lock is held.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID WaitingReadWake(_Inout_ WAITING_READ *read);

/// Waits until the read is woken or cancelled: STATUS_SUCCESS. STATUS_USER_APC: the thread is being terminated.
/// No lock, rundown or critical region is held, because the thread could not be terminated then.
_IRQL_requires_(PASSIVE_LEVEL)
NTSTATUS WaitingReadWait(_Inout_ WAITING_READ *read);

/// Clears the IRP's cancel routine and frees the read. No thread can wake the read then. The IRP is not completed.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID WaitingReadFree(_Inout_ MEMORY *memory, _In_ WAITING_READ *read);

EXTERN_C_END

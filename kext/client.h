// The attached client: whether there is one, what it chose, and the safe way from one state to the next.
//
// Mode is what every classify reads first. A classify that filters is inside the rundown Classifies from before it read
// Mode until it needs nothing of the client any more; so, once Mode was changed and RundownWait has returned, no
// classify acts on the old mode. Every request of the client is inside the rundown Requests; detaching waits for those.
// Attach, shutdown, detach and new options are serialized by Transition. Everything that classifies read is one
// interlocked word each.

#pragma once

#include "options.h"
#include "rundown.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

typedef enum _CLIENT_MODE
{
    ClientAbsentPermit, ///< nobody decides, and the fail policy is open
    ClientAbsentBlock,  ///< nobody decides, and the fail policy is closed
    ClientFiltering
} CLIENT_MODE;

typedef struct _CLIENT
{
    volatile LONG Mode;        ///< CLIENT_MODE
    volatile LONG FailClosed;  ///< stays in force after a detach, until the next attach
    volatile LONG64 OwnPorts;  ///< DnsPort, TunnelPort << 16, SplitTunnelPort << 32
    volatile LONG64 ProcessId; ///< of the process that attached
    volatile LONG PendingTimeoutMs;
    volatile LONG TimeoutVerdict;
    volatile LONG Extended;
    RUNDOWN Classifies;
    RUNDOWN Requests;
    KEVENT Transition;          ///< a synchronization event used as a mutex
    volatile LONG Taken;        ///< a handle is open, or its detach has not finished
    PFILE_OBJECT volatile File; ///< of the attached client; NULL: none, or detaching
} CLIENT;

/// STATUS_INSUFFICIENT_RESOURCES, after which ClientUninitialize is allowed and nothing else.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS ClientInitialize(_Out_ CLIENT *client, _Inout_ MEMORY *memory);

_IRQL_requires_(PASSIVE_LEVEL)
VOID ClientUninitialize(_Inout_ CLIENT *client);

/// A handle was opened: filtering starts, with the options of a base client. STATUS_DEVICE_ALREADY_ATTACHED: there is
/// another client.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS ClientAttach(_Inout_ struct _DRIVER_CONTEXT *context, _In_ PFILE_OBJECT file);

/// The client's last handle was closed. When this returns no request of the client runs, its reads are cancelled, every
/// held packet was resolved by the fail policy, and the next client may attach. Another file's: nothing happens.
_IRQL_requires_(PASSIVE_LEVEL)
VOID ClientDetach(_Inout_ struct _DRIVER_CONTEXT *context, _In_ PFILE_OBJECT file);

/// Stops filtering; the handle stays open. When this returns every held packet was resolved by the fail policy, and
/// reads end with end-of-file once they have got the rest.
_IRQL_requires_(PASSIVE_LEVEL)
VOID ClientShutdown(_Inout_ struct _DRIVER_CONTEXT *context);

/// Puts a SetOptions request into force. STATUS_INVALID_PARAMETER, with nothing changed.
_IRQL_requires_(PASSIVE_LEVEL)
NTSTATUS ClientSetOptions(_Inout_ struct _DRIVER_CONTEXT *context, _In_reads_bytes_(length) const UINT8 *request,
                          _In_ SIZE_T length);

/// Enters for a request of the client that attached with `file`. NULL: that client is not attached (any more).
/// The thread that entered leaves, at the same IRQL; it is not suspended in between.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
RUNDOWN_SLOT *ClientEnterRequest(_Inout_ CLIENT *client, _In_ PFILE_OBJECT file);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ClientLeaveRequest(_Inout_ CLIENT *client, _Inout_ RUNDOWN_SLOT *slot);

/// Enters for a classify, as for a request. NULL: nobody decides; `mode` tells what to do instead.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
RUNDOWN_SLOT *ClientEnterClassify(_Inout_ CLIENT *client, _Out_ CLIENT_MODE *mode);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ClientLeaveClassify(_Inout_ CLIENT *client, _Inout_ RUNDOWN_SLOT *slot);

/// Whether a port is one that the client's own resolver or tunnel listens on. Any IRQL.
BOOLEAN ClientOwnsPort(_In_ const CLIENT *client, _In_ UINT16 port);

/// The port that a verdict redirects to, 0 for one that does not. Any IRQL.
UINT16 ClientRedirectPort(_In_ const CLIENT *client, _In_ UINT8 verdict);

/// Milliseconds between rounds of maintenance, as this client's options ask for. Any IRQL.
UINT32 ClientRoundPeriodMs(_In_ const CLIENT *client);

/// The verdict that stands for the fail policy. It is temporary, so the client decides on the next packet. Any IRQL.
UINT8 ClientFailVerdict(_In_ const CLIENT *client);

EXTERN_C_END

// The attached client, as every packet needs it: whether it is attached, its own ports, and the fail policy.
//
// Every classify reads Mode first.
// A classify that filters enters the rundown Classifies before it reads Mode, and leaves when it needs no client.
// So no classify acts on the old mode once Mode has changed and RundownWait has returned.
// Every request of the client is inside the rundown Requests. A detach waits for the requests inside.
// A transition (session.c) is one attach, detach, shutdown or change of options. Transition serializes them.
// Each field that classifies read is one interlocked word.

#pragma once

#include "clock.h"
#include "options.h"
#include "rundown.h"
#include "verdict.h"

EXTERN_C_START

typedef enum _CLIENT_MODE
{
    ClientAbsentPermit, ///< no client, and the fail policy is open
    ClientAbsentBlock,  ///< no client, and the fail policy is closed
    ClientFiltering
} CLIENT_MODE;

typedef struct _CLIENT
{
    volatile LONG Mode;       ///< CLIENT_MODE; ClientFiltering only while Attached, and while all filters are committed
    volatile LONG Attached;   ///< a client is attached that has not shut down
    volatile LONG FailClosed; ///< stays in force after a detach, until the next attach
    volatile LONG Flags;      ///< OPTION_FLAG_ bits of the options in force
    volatile LONG64 OwnPorts; ///< 16 bits for each OWN_PORT, the first one lowest
    volatile LONG64 ProcessId; ///< the process that attached last
    volatile LONG PendingTimeoutMs;
    volatile LONG TimeoutVerdict;
    volatile LONG Extended;       ///< the client has sent SetOptions: extended clients have rules of their own
    volatile LONG StallTimeoutMs; ///< 0: the client is never stalled
    volatile LONG Stalled;        ///< the fail policy decides on what waits and what comes (stall.h)
    RUNDOWN Classifies;
    RUNDOWN Requests;
    KEVENT Transition;              ///< a synchronization event used as a mutex
    KEVENT Settled;                 ///< set once the filter engine has answered to the attach, in whatever way
    BOOLEAN HasFiltered;            ///< this client has filtered before; within a transition
    LONG WarnedState;               ///< ENGINE_STATE of which this client was warned last; within a transition
    volatile LONG Taken;            ///< a handle is open, or its detach runs
    PFILE_OBJECT volatile File;     ///< the attached client's file; NULL: no client, or it detaches
    volatile LONG64 HeardTime;      ///< ClockNow of the last sign of life
    volatile LONG64 StallTime;      ///< ClockNow at which the last stall began
    volatile LONG StallUnreported;  ///< a stall ended that was not reported
    volatile LONG64 StallDecisions; ///< what the fail policy decided in stalls that were not reported
    volatile LONG64 StallMs;        ///< how long those stalls lasted that ended
} CLIENT;

/// Starts with no client attached and an open fail policy. Fails with STATUS_INSUFFICIENT_RESOURCES.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS ClientInitialize(_Out_ CLIENT *client, _Inout_ MEMORY *memory);

_IRQL_requires_(PASSIVE_LEVEL)
VOID ClientUninitialize(_Inout_ CLIENT *client);

/// TRUE if the client set this OPTION_FLAG_ bit. Any IRQL.
FORCEINLINE BOOLEAN ClientHasFlag(_In_ const CLIENT *client, _In_ UINT32 flag)
{
    return ((UINT32)ReadNoFence(&client->Flags) & flag) != 0;
}

/// Puts options into force for classifies. The caller is within a transition.
VOID ClientSetOptions(_Inout_ CLIENT *client, _In_ const OPTIONS *options);

/// TRUE while the client is stalled. Any IRQL.
FORCEINLINE BOOLEAN ClientIsStalled(_In_ const CLIENT *client)
{
    return ReadNoFence(&client->Stalled) != FALSE;
}

/// Returns when the client is stalled, if the oldest waiting question was asked at `askedTime` and it stays silent.
/// Both times are of ClockNow. CLOCK_NEVER: no question waits, or the client is never stalled. Any IRQL.
UINT64 ClientStallLimit(_In_ const CLIENT *client, _In_ UINT64 askedTime);

/// The mode without a client, by the fail policy. Any IRQL.
CLIENT_MODE ClientAbsentMode(_In_ const CLIENT *client);

/// Enters for a request of the client that attached with `file`. NULL: that client is not attached.
/// The thread that entered must leave, at the same IRQL. It cannot be suspended in between.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
RUNDOWN_SLOT *ClientEnterRequest(_Inout_ CLIENT *client, _In_ PFILE_OBJECT file);

/// Enters for a classify, under the rules of ClientEnterRequest. NULL: no client filters, and `mode` decides.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
RUNDOWN_SLOT *ClientEnterClassify(_Inout_ CLIENT *client, _Out_ CLIENT_MODE *mode);

/// Leaves client->Requests or client->Classifies.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ClientLeave(_Inout_ RUNDOWN *rundown, _Inout_ RUNDOWN_SLOT *slot);

/// TRUE if the client's own resolver or tunnel listens on this port. Any IRQL.
BOOLEAN ClientOwnsPort(_In_ const CLIENT *client, _In_ UINT16 port);

/// The port that a redirecting verdict redirects to. Any IRQL.
UINT16 ClientRedirectPort(_In_ const CLIENT *client, _In_ UINT8 verdict);

/// The verdict that stands for the fail policy. It is temporary, so the client decides on the next packet. Any IRQL.
UINT8 ClientFailVerdict(_In_ const CLIENT *client);

EXTERN_C_END

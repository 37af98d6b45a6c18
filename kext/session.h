// A client's session: attach, options, shutdown, detach. The one file that starts and stops all the others.
//
// CLIENT.Transition serializes the transitions. A classify or request during a transition sees one mode or the other.
// client.h says how a transition waits for classifies and requests.

#pragma once

#include "engine.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// The session as the part of the driver that the filter engine serves.
ENGINE_OWNER SessionAsEngineOwner(_In_ struct _DRIVER_CONTEXT *context);

/// Attaches the client that opened `file`, with the options of a base client.
/// Filtering starts once the filter engine has all filters. The function waits for that, at most two seconds.
/// STATUS_DEVICE_ALREADY_ATTACHED: another client is attached.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS SessionAttach(_Inout_ struct _DRIVER_CONTEXT *context, _In_ PFILE_OBJECT file);

/// Detaches the client of `file`, whose last handle was closed. Does nothing if `file` has no attached client.
/// On return no request of the client runs, and its reads are cancelled.
/// On return the fail policy has also resolved every held packet.
_IRQL_requires_(PASSIVE_LEVEL)
VOID SessionDetach(_Inout_ struct _DRIVER_CONTEXT *context, _In_ PFILE_OBJECT file);

/// Stops filtering. The handle stays open. On return the fail policy has resolved every held packet.
/// Reads get the rest of the queue, then end-of-file.
_IRQL_requires_(PASSIVE_LEVEL)
VOID SessionShutdown(_Inout_ struct _DRIVER_CONTEXT *context);

/// Puts a SetOptions request into force. STATUS_INVALID_PARAMETER: nothing has changed.
_IRQL_requires_(PASSIVE_LEVEL)
NTSTATUS SessionSetOptions(_Inout_ struct _DRIVER_CONTEXT *context, _In_reads_bytes_(length) const UINT8 *request,
                           _In_ SIZE_T length);

EXTERN_C_END

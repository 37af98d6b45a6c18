// Reports connections to the client in order: a connection's questions, its end, its successor's questions.
//
// A key's order lock (connection_table.h) makes each report one step.
// The step is the look at the connection, the queueing of the record, and the mark in the table.
// A question is queued only while its connection lives, so no question follows the end.
// An end is queued before the connection is marked as ended, so no successor exists before that.
// Every end of a connection that was reported goes through here, so each is queued once.
//
// test/models/order.pml is a model of this order.
// The model's `order` is the order lock. Its `live` and `reported` are the state in the table.

#pragma once

#include "connection_ports.h"
#include "event.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// The gate of a question. It lets the question pass while its connection lives, and marks the connection as reported.
typedef struct _REPORT_GATE
{
    IO_QUEUE_GATE Gate;
    CONNECTION_TABLE *Connections;
    const CONNECTION_KEY *Key;
    UINT32 Generation;
    UINT64 Id;
    EVENT_DETAILS *Details;
} REPORT_GATE;

/// Makes the gate of the question `id` about the connection with this key and generation.
/// The gate keeps `key` and `details`. It sets `details->AskedAgain`.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReportMakeGate(_Out_ REPORT_GATE *gate, _In_ CONNECTION_TABLE *connections, _In_ const CONNECTION_KEY *key,
                    _In_ UINT32 generation, _In_ UINT64 id, _Inout_ EVENT_DETAILS *details);

/// Withdraws the question about a connection, if no client has read it. Its owner gave it up.
/// A connection that the client then does not know counts as not reported.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReportWithdraw(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
                    _Inout_ LANE_QUESTION *question);

/// Ends a connection. The client gets its end if it was reported. `generation` 0 stands for any.
/// `reason` is an END_REASON. Does nothing if the connection is unknown, ended before, or of another generation.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReportEnd(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const CONNECTION_KEY *key, _In_ UINT32 generation,
               _In_ UINT8 reason);

/// Ends a connection that the table is about to remove, unless it is used again.
/// Only clients that want ConnectionEnded get its end, but every client gets the end of an evicted connection.
/// A CONNECTION_VISITOR, whose context is the DRIVER_CONTEXT.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReportEndOfRemoved(_Inout_opt_ void *context, _In_ const CONNECTION *connection);

/// Ends the connections that end with a local port.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ReportEndsOfPort(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const CONNECTION_RELEASE *release);

EXTERN_C_END

#include "report.h"

#include "connection_text.h"
#include "context.h"

// ---- Questions

static BOOLEAN ReportMayAsk(VOID *context)
{
    const REPORT_GATE *gate = (const REPORT_GATE *)context;
    CONNECTION connection;

    if (!ConnectionTableCopyLive(gate->Connections, gate->Key, &connection) ||
        connection.State.Generation != gate->Generation)
    {
        return FALSE;
    }
    gate->Details->AskedAgain = connection.Life.Question != 0;
    if (gate->Details->Question != NULL)
    {
        gate->Details->Question->IsFirst = !connection.State.Reported;
    }
    return TRUE;
}

static VOID ReportAsked(VOID *context, NTSTATUS status)
{
    const REPORT_GATE *gate = (const REPORT_GATE *)context;

    if (NT_SUCCESS(status))
    {
        ConnectionTableSetReported(gate->Connections, gate->Key, gate->Generation, gate->Id);
    }
}

_Use_decl_annotations_
VOID ReportMakeGate(REPORT_GATE *gate, CONNECTION_TABLE *connections, const CONNECTION_KEY *key, UINT32 generation,
                    UINT64 id, EVENT_DETAILS *details)
{
    gate->Gate.Lock = ConnectionTableOrder(connections, key);
    gate->Gate.MayPass = ReportMayAsk;
    gate->Gate.Settled = ReportAsked;
    gate->Gate.Context = gate;
    gate->Connections = connections;
    gate->Key = key;
    gate->Generation = generation;
    gate->Id = id;
    gate->Details = details;
}

_Use_decl_annotations_
VOID ReportWithdraw(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT32 generation, LANE_QUESTION *question)
{
    KSPIN_LOCK *order = ConnectionTableOrder(&context->Connections, key);
    KIRQL irql;

    KeAcquireSpinLock(order, &irql);
    if (IoQueueWithdraw(&context->Queue, question))
    {
        ConnectionTableForgetReported(&context->Connections, key, generation);
    }
    KeReleaseSpinLock(order, irql);
}

// ---- Ends

// One end on its way.
typedef struct _REPORT_ENDING
{
    DRIVER_CONTEXT *Context;
    UINT32 Generation; // 0: any
    UINT8 Reason;      // END_REASON
    BOOLEAN Done;
    CONNECTION Connection; // as its record shows it
} REPORT_ENDING;

// Returns whether the table removes the connection because nobody needs it.
// The client learns of that if it has asked for such records. It learns of an eviction in any case.
static BOOLEAN ReportIsOfRemoved(const REPORT_ENDING *ending)
{
    return ending->Reason == EndReasonIdle || ending->Reason == EndReasonCleared;
}

// Returns whether a connection that the table wants to remove is used again.
static BOOLEAN ReportIsUsed(const REPORT_ENDING *ending)
{
    const CONNECTION_LIFE *life = &ending->Connection.Life;

    return ((ReportIsOfRemoved(ending) || ending->Reason == EndReasonEvicted) && life->Waiting) ||
           (ending->Reason == EndReasonIdle && life->IdleSeconds <= CONNECTION_IDLE_SECONDS);
}

static BOOLEAN ReportHasRecord(const REPORT_ENDING *ending)
{
    return ending->Connection.State.Reported &&
           (!ReportIsOfRemoved(ending) || EventWantsConnectionInfo(&ending->Context->Events));
}

static VOID ReportEnded(VOID *context, NTSTATUS status)
{
    REPORT_ENDING *ending = (REPORT_ENDING *)context;
    CONNECTION ended;

    // The connection ends even if its record was lost.
    UNREFERENCED_PARAMETER(status);
    ending->Done = ConnectionTableEnd(&ending->Context->Connections, &ending->Connection.Key,
                                      ending->Connection.State.Generation, &ended);
}

// A connection that the client does not know ends here, without a record.
static BOOLEAN ReportMayEnd(VOID *context)
{
    REPORT_ENDING *ending = (REPORT_ENDING *)context;
    CONNECTION_KEY key = ending->Connection.Key;

    if (!ConnectionTableCopyLive(&ending->Context->Connections, &key, &ending->Connection) ||
        (ending->Generation != 0 && ending->Generation != ending->Connection.State.Generation) || ReportIsUsed(ending))
    {
        return FALSE;
    }
    ending->Connection.Life.EndReason = ending->Reason;
    if (!ReportHasRecord(ending))
    {
        ReportEnded(ending, STATUS_SUCCESS);
        return FALSE;
    }
    return TRUE;
}

static VOID ReportLogEnded(LOG *log, const CONNECTION *connection)
{
    CONNECTION_TEXT text;

    LogDebug(log, "ended: %s, process %llu", ConnectionTextWrite(&text, &connection->Key, connection->State.Direction),
             (unsigned long long)connection->State.ProcessId);
}

static BOOLEAN ReportEndInOrder(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT32 generation, UINT8 reason)
{
    REPORT_ENDING ending;
    IO_QUEUE_GATE gate;

    RtlZeroMemory(&ending, sizeof(ending));
    ending.Context = context;
    ending.Generation = generation;
    ending.Reason = reason;
    ending.Connection.Key = *key;
    gate.Lock = ConnectionTableOrder(&context->Connections, key);
    gate.MayPass = ReportMayEnd;
    gate.Settled = ReportEnded;
    gate.Context = &ending;
    (VOID) EventConnectionEnd(&context->Events, &ending.Connection, &gate);
    if (ending.Done)
    {
        ReportLogEnded(&context->Log, &ending.Connection);
    }
    return ending.Done;
}

_Use_decl_annotations_
VOID ReportEnd(DRIVER_CONTEXT *context, const CONNECTION_KEY *key, UINT32 generation, UINT8 reason)
{
    if (ReportEndInOrder(context, key, generation, reason))
    {
        DeferredRunAfter(&context->Deferred, CONNECTION_ENDED_MS, CONNECTION_CLEAN_TOLERANCE_MS);
    }
}

_Use_decl_annotations_
VOID ReportEndOfRemoved(void *context, const CONNECTION *connection)
{
    // The table removes the connection at once, so no timer has to.
    (VOID) ReportEndInOrder((DRIVER_CONTEXT *)context, &connection->Key, connection->State.Generation,
                            connection->Life.EndReason);
}

static VOID ReportEndOfVisited(void *context, const CONNECTION *connection)
{
    ReportEnd((DRIVER_CONTEXT *)context, &connection->Key, connection->State.Generation, EndReasonPortReleased);
}

_Use_decl_annotations_
VOID ReportEndsOfPort(DRIVER_CONTEXT *context, const CONNECTION_RELEASE *release)
{
    ConnectionPortsVisitPort(&context->Connections, release, ReportEndOfVisited, context);
}

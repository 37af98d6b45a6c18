#include "flow.h"

#include "connection_text.h"
#include "context.h"

_Use_decl_annotations_
VOID FlowAbortBlocked(DRIVER_CONTEXT *context, const CONNECTION_KEY *key)
{
    CONNECTION_TEXT text;
    UINT64 flowHandle;
    NTSTATUS status;

    if (key->Protocol != PROTOCOL_TCP || !ConnectionTableTakeBlockedFlow(&context->Connections, key, &flowHandle))
    {
        return;
    }
    status = FwpsFlowAbort0(flowHandle);
    LogDebug(&context->Log, "aborted: %s, status 0x%08x", ConnectionTextWrite(&text, key, DirectionOutbound),
             (unsigned)status);
}

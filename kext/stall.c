#include "stall.h"

#include "context.h"
#include "hold.h"

// ---- The end

// Without room in the queue the next sign of life reports.
static VOID StallReport(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;
    LONG64 count;
    LONG64 duration;

    if (ReadNoFence(&client->StallUnreported) == FALSE || InterlockedExchange(&client->StallUnreported, FALSE) == FALSE)
    {
        return;
    }
    count = InterlockedExchange64(&client->StallDecisions, 0);
    duration = InterlockedExchange64(&client->StallMs, 0);
    if (!NT_SUCCESS(EventClientStalled(&context->Events, (UINT64)count, (UINT64)duration)))
    {
        InterlockedExchangeAdd64(&client->StallDecisions, count);
        InterlockedExchangeAdd64(&client->StallMs, duration);
        InterlockedExchange(&client->StallUnreported, TRUE);
    }
}

_Use_decl_annotations_
VOID StallEnd(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;
    UINT64 duration;

    if (!ClientIsStalled(client) || InterlockedExchange(&client->Stalled, FALSE) == FALSE)
    {
        return;
    }
    duration = (ClockNow(&context->Clock) - (UINT64)ReadNoFence64(&client->StallTime)) / PLATFORM_TICKS_PER_MILLISECOND;
    InterlockedExchangeAdd64(&client->StallMs, (LONG64)duration);
    InterlockedExchange(&client->StallUnreported, TRUE);
    LogInfo(&context->Log, "The client's stall ended after %llu ms", (unsigned long long)duration);
    // What was let in is authorized again, so the client is asked about it. What was refused is forgotten.
    EngineRequestReauthorization(&context->Engine);
    StallReport(context);
}

_Use_decl_annotations_
VOID StallHear(DRIVER_CONTEXT *context)
{
    InterlockedExchange64(&context->Client.HeardTime, (LONG64)ClockNow(&context->Clock));
    StallEnd(context);
    StallReport(context);
}

// ---- The start

static UINT64 StallLimit(DRIVER_CONTEXT *context)
{
    const CLIENT *client = &context->Client;

    return ReadNoFence(&client->StallTimeoutMs) != 0
               ? ClientStallLimit(client, PacketCacheOldestTime(&context->Packets))
               : CLOCK_NEVER;
}

static VOID StallBegin(DRIVER_CONTEXT *context, UINT64 now)
{
    CLIENT *client = &context->Client;

    ConnectionTableForgetStalled(&context->Connections);
    InterlockedExchange64(&client->StallTime, (LONG64)now);
    if (InterlockedExchange(&client->Stalled, TRUE) != FALSE)
    {
        return;
    }
    StatisticsAdd(&context->Statistics, StatisticClientStalls, 1);
    LogWarning(&context->Log, "The client is stalled: questions wait, and it gave no sign of life for %u ms",
               (unsigned)ReadNoFence(&client->StallTimeoutMs));
    // The client may have been heard meanwhile, or may have taken the timeout back.
    if (StallLimit(context) > now)
    {
        StallEnd(context);
    }
}

_Use_decl_annotations_
UINT64 StallCheck(DRIVER_CONTEXT *context, UINT64 now)
{
    if (!ClientIsStalled(&context->Client))
    {
        UINT64 limit = StallLimit(context);

        if (limit > now)
        {
            return limit;
        }
        StallBegin(context, now);
    }
    HoldResolveWhileStalled(context);
    return ClientIsStalled(&context->Client) ? CLOCK_NEVER : StallLimit(context);
}

// ---- Options

_Use_decl_annotations_
VOID StallReset(DRIVER_CONTEXT *context)
{
    CLIENT *client = &context->Client;

    InterlockedExchange(&client->StallUnreported, FALSE);
    InterlockedExchange64(&client->StallDecisions, 0);
    InterlockedExchange64(&client->StallMs, 0);
}

_Use_decl_annotations_
VOID StallSetTimeout(DRIVER_CONTEXT *context, UINT32 timeoutMs)
{
    CLIENT *client = &context->Client;

    if (ReadNoFence(&client->StallTimeoutMs) == 0)
    {
        InterlockedExchange64(&client->HeardTime, (LONG64)ClockNow(&context->Clock));
    }
    InterlockedExchange(&client->StallTimeoutMs, (LONG)timeoutMs);
    if (timeoutMs == 0)
    {
        StallEnd(context);
    }
    else if (PacketCacheCount(&context->Packets) != 0)
    {
        DeferredRunAfter(&context->Deferred, timeoutMs, HOLD_TOLERANCE_MS);
    }
}

// Stalled clients: a client that gives no sign of life while a question waits.
//
// A Verdict, an Update and a Keepalive are signs of life. Requests for logs or statistics prove nothing.
// The limit is StallTimeoutMs after the oldest waiting question was asked, or after the last sign of life if that is
// later. A round of maintenance looks for it. While no question waits, no round is asked for.
//
// Past the limit CLIENT.Stalled is set. The fail policy then decides on what waits and on what comes.
// It stores no verdict: each connection stays Undecided. So the stall's end changes no connection.
// A connection is marked when the policy decides on it, so that a stall reports it once.
// The marks of an earlier stall are forgotten when the next one begins.
//
// A sign of life writes HeardTime and then reads Stalled. The stall's start sets Stalled and then reads HeardTime.
// Both are interlocked writes, so one of the two threads sees the other's and ends the stall.
// A holder inserts its question and then reads Stalled. Whoever resolves for a stall reads the cache after it was set.
// So one of them sees the question, and none waits through a stall.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// Forgets the stalls of the last client. The caller is within a transition.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StallReset(_Inout_ struct _DRIVER_CONTEXT *context);

/// Puts a stall timeout into force. 0 ends a stall. The clock of a client that had none starts now.
/// The caller is within a transition, and queues the engine's work.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StallSetTimeout(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT32 timeoutMs);

/// The client gave a sign of life. Ends a stall. The caller queues the engine's work.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StallHear(_Inout_ struct _DRIVER_CONTEXT *context);

/// Ends a stall and reports it. Does nothing without a stall. The caller queues the engine's work.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StallEnd(_Inout_ struct _DRIVER_CONTEXT *context);

/// Starts a stall if its limit has passed at `now` (ClockNow), and resolves what waits in a stall.
/// Returns when to look again. CLOCK_NEVER: not before the next question.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 StallCheck(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 now);

EXTERN_C_END

// Holding packets and operations until their verdict, and carrying the verdict out.
//
// To hold is to pend the operation, if there is one, to put it into the packet cache, and then to queue the record that
// asks. From the insert on any thread may take and resolve it (a verdict, a timeout, a detach), so the holder does not
// touch it afterwards. If the record cannot be queued, the holder takes it back, and the fail policy decides. A pended
// operation must not be completed inside the classify that pended it, so a round of maintenance resolves such a
// failure.
//
// To resolve is to store the verdict in the connection, and then to complete and to inject: both make the filter engine
// classify again. Reauthorization is only requested here; the caller queues the deferred work once, at its end.
//
// test/models/hold.pml is a model of all this. In its states a HELD is `nothing` before the insert, `cached` in the
// packet cache, `taken` by the thread that took it, `failed` in the cache's list Failed, and `resolved` when its
// operation is completed and its packets are injected or freed. Only the thread that has it `taken` may resolve it.

#pragma once

#include "inject.h"
#include "layers.h"
#include "packet_cache.h"
#include "verdict.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

/// A packet or an operation on which the client decides.
typedef struct _HOLD_QUESTION
{
    HELD_KIND Kind;
    UINT8 Direction; ///< DIRECTION, for the record
    const CONNECTION_KEY *Key;
    UINT32 Generation; ///< of the connection in the table; 0: it has none
    UINT64 Datagram;   ///< id in the fragment table, if it is a first fragment; else 0
    UINT64 ProcessId;
    HANDLE CompletionHandle; ///< of the operation to pend, or NULL
    INJECT_PACKET *Packets;  ///< copies, or NULL; HoldAsk takes them over
    UINT8 PayloadLayer;      ///< PROTOCOL_PAYLOAD_NETWORK_LAYER or _TRANSPORT_LAYER
    UINT32 PayloadOffset;    ///< where that layer starts in the first copy
} HOLD_QUESTION;

/// Holds and asks the client: DecisionHeld, or what HoldFail decides. For a caller inside a classify.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
DECISION HoldAsk(_Inout_ struct _DRIVER_CONTEXT *context, _Inout_ HOLD_QUESTION *question);

/// Decides by the fail policy on something that could not be held: DecisionPermit or DecisionBlock. Counts it as lost
/// for the reason that `status` gives: STATUS_INSUFFICIENT_RESOURCES or STATUS_QUOTA_EXCEEDED. Any other is uncounted.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION HoldFail(_Inout_ struct _DRIVER_CONTEXT *context, _In_ NTSTATUS status);

/// Decides on a packet of `layer` that could not be read or copied. STATUS_INVALID_PARAMETER: it is malformed, so it is
/// blocked. For any other status as HoldFail does.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION HoldFailPacket(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const LAYER *layer, _In_ NTSTATUS status);

/// Carries out the client's verdict on one id. FALSE: nothing is held under this id.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN HoldApplyVerdict(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 id, _In_ UINT8 verdict);

/// Applies the time-out verdict to everything whose time is over at `now` (KeQueryInterruptTime).
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldExpire(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 now);

/// Resolves, by the fail policy, what was pended and could not be reported.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldResolveFailed(_Inout_ struct _DRIVER_CONTEXT *context);

/// Resolves, by the fail policy, as many as are held now. What comes meanwhile may stay. Returns how many.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 HoldResolvePresent(_Inout_ struct _DRIVER_CONTEXT *context);

/// Resolves everything by the fail policy, and waits until other threads have resolved what they took. The caller has
/// closed the cache and waited for the classifies.
_IRQL_requires_(PASSIVE_LEVEL)
VOID HoldResolveAll(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

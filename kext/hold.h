// Holding packets and operations until their verdict, and carrying the verdict out.
//
// To hold: pend the operation if it is one, put it into the packet cache, then queue the record that asks. From the
// insert on anybody may take and resolve it (a verdict, a timeout, a detach), so nothing of it is touched afterwards.
// When the record cannot be queued the holder takes it back, if it still can, and the fail policy decides. An operation
// that was pended must not be completed inside the classify that pended it: such a failure is left to the maintenance
// work item.
//
// To resolve: the verdict is stored in the connection before anything is completed or injected, because both make the
// filter engine ask again. Everybody who takes something from the cache is inside the rundown Resolvers until it is
// resolved, so HoldResolveAll can wait for them. Reauthorization is only requested here; the caller queues the deferred
// work once, at its end.
//
// test/models/hold.pml is a model of all this. In its states a HELD is `nothing` until the insert, `cached` in the
// packet cache, `taken` by the one who got it out of there, `failed` in the list Failed, and `resolved` when its
// operation is completed and its packets are injected or freed. Only who has it `taken` may resolve it.
//
// Locks: FailedLock, a leaf, around the list operations only.

#pragma once

#include "inject.h"
#include "packet_cache.h"
#include "rundown.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

typedef struct _HOLD
{
    RUNDOWN Resolvers;
    KSPIN_LOCK FailedLock;
    LIST_ENTRY Failed; ///< HELDs by Link: pended, and then not announced to the client
} HOLD;

typedef enum _HOLD_RESULT
{
    HoldAbsorb, ///< held: absorb the original
    HoldPermit, ///< not held: the fail policy is open
    HoldBlock   ///< not held: the fail policy is closed
} HOLD_RESULT;

/// What is to be asked about.
typedef struct _HOLD_QUESTION
{
    HELD_KIND Kind;
    UINT8 Direction; ///< DIRECTION, as the record tells it
    const CONNECTION_KEY *Key;
    UINT32 Generation; ///< of the connection in the table, or 0: it has none
    UINT64 Datagram;   ///< in the fragment table, whose first fragment it is, or 0
    UINT64 ProcessId;
    HANDLE CompletionHandle; ///< of the operation to pend, or NULL
    INJECT_PACKET *Packets;  ///< copies, or NULL; HoldAsk takes them over
    UINT8 PayloadLayer;      ///< PROTOCOL_PAYLOAD_NETWORK_LAYER or _TRANSPORT_LAYER
    UINT32 PayloadOffset;    ///< where that layer starts in the first copy
} HOLD_QUESTION;

/// STATUS_INSUFFICIENT_RESOURCES, after which HoldUninitialize is allowed and nothing else.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS HoldInitialize(_Out_ HOLD *hold, _Inout_ MEMORY *memory);

_IRQL_requires_(PASSIVE_LEVEL)
VOID HoldUninitialize(_Inout_ HOLD *hold);

/// Holds and asks the client. For a caller inside a classify.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
HOLD_RESULT HoldAsk(_Inout_ struct _DRIVER_CONTEXT *context, _Inout_ HOLD_QUESTION *question);

/// What the fail policy says for something that could not be held, counted as lost for `lossReason` (LOSS_REASON).
_IRQL_requires_max_(DISPATCH_LEVEL)
HOLD_RESULT HoldFail(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT8 lossReason);

/// Carries out the client's verdict on one id. FALSE: nothing is held under this id (any more).
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN HoldApplyVerdict(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 id, _In_ UINT8 verdict);

/// Applies the time-out verdict to everything whose time is over at `now` (KeQueryInterruptTime).
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldExpire(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 now);

/// Resolves, by the fail policy, what was pended and could not be announced.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldResolveFailed(_Inout_ struct _DRIVER_CONTEXT *context);

/// Resolves, by the fail policy, as many as are held now; what comes meanwhile may stay. Returns how many.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 HoldResolvePresent(_Inout_ struct _DRIVER_CONTEXT *context);

/// Resolves everything by the fail policy and waits for those who are resolving something. The cache is closed and no
/// classify holds anything any more.
_IRQL_requires_(PASSIVE_LEVEL)
VOID HoldResolveAll(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END

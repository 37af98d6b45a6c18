// Holding packets and operations until their verdict, and carrying the verdict out.
//
// Holding has three steps: pend the operation (if any), insert a HELD into the packet cache, and queue the record.
// The record asks the client to decide.
// After the insert any thread may take and resolve the HELD: for a verdict, a timeout, a stall or a detach.
// So the holder does not touch a HELD after its insert.
// If the record cannot be queued, the holder takes the HELD back, and the fail policy decides.
// Before the first step the question is charged to its owner (lanes.h). Where there is no room, one owner gives way.
// Its newest question is refused, or the newcomer is. A refusal blocks one attempt, whatever the fail policy is.
// The holder has a reference to its HELD, so that the record can be tied to it while another thread resolves it.
// A pended operation must not be completed inside the classify that pended it.
// So a later round of maintenance resolves a pended operation whose hold failed.
//
// Resolving has two steps: store the verdict in the connection, then complete the operation and inject the packets.
// The verdict is stored first, because a completion and an injection both make the filter engine classify again.
// Reauthorization is only requested here. The caller queues the deferred work once, at its end.
//
// test/models/hold.pml is a model of holding. The model's states of a HELD are these:
// - `nothing` before the insert;
// - `cached` in the packet cache;
// - `taken` by the one thread that may resolve it;
// - `failed` in the cache's list Failed;
// - `resolved` when its operation is completed and its packets are injected or freed.

#pragma once

#include "classify.h"
#include "inject.h"
#include "packet_cache.h"
#include "verdict.h"

EXTERN_C_START

struct _DRIVER_CONTEXT;

// How late a held packet may time out.
#define HOLD_TOLERANCE_MS 50u

/// A packet or an operation on which the client decides.
typedef struct _HOLD_QUESTION
{
    HELD_KIND Kind;
    UINT8 Direction; ///< DIRECTION, for the record
    const CONNECTION_KEY *Key;
    UINT32 Generation; ///< of the connection in the table; 0: it has none
    UINT64 Datagram;   ///< id in the fragment table, if it is a first fragment; else 0
    UINT64 ProcessId;
    BOOLEAN Begins;          ///< it is a first authorization, so a connection that ended meanwhile was another one
    HANDLE CompletionHandle; ///< of the operation to pend, or NULL
    INJECT_PACKET *Packets;  ///< copies, or NULL; HoldAsk takes them over. HeldNothing: one, for the record alone
    UINT8 PayloadLayer;      ///< PROTOCOL_PAYLOAD_NETWORK_LAYER or _TRANSPORT_LAYER
    UINT32 InterfaceIndex;
    UINT32 Compartment;
    BOOLEAN Loopback;
    const WCHAR *Path; ///< of the process's image, or NULL
    UINT32 PathBytes;
} HOLD_QUESTION;

/// Fills in where the packet or operation of a classify was seen. Any IRQL.
FORCEINLINE VOID HoldDescribe(_Inout_ HOLD_QUESTION *question, _In_ const CLASSIFY *classify)
{
    question->InterfaceIndex = ClassifyUint32(classify->Values, classify->Layer->Fields.InterfaceIndex);
    question->Compartment = (UINT32)ClassifyCompartment(classify->Metadata);
    question->Loopback = ClassifyIsLoopback(classify);
}

/// Holds a packet or an operation, and asks the client. Returns DecisionHeld, or the decision of HoldFail.
/// Returns DecisionBlock if the owner of the connection holds too much.
/// The caller is inside a classify.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
DECISION HoldAsk(_Inout_ struct _DRIVER_CONTEXT *context, _Inout_ HOLD_QUESTION *question);

/// Decides by the fail policy on what could not be held. Returns DecisionPermit or DecisionBlock.
/// A client of extension 2 gets a ConnectionTimeout with id 0 for a packet with a key.
/// These statuses count as a loss for the reason that they name. Any other status does not count.
/// - STATUS_QUOTA_EXCEEDED: held packets.
/// - STATUS_CONNECTION_COUNT_LIMIT: connections.
/// - STATUS_INSUFFICIENT_RESOURCES: memory.
/// `processId` 0: the connection table may know the process of `key`.
/// `key` and `direction` (DIRECTION) are for the reports. A packet whose headers were not read has no key.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION HoldFail(_Inout_ struct _DRIVER_CONTEXT *context, _In_opt_ const CONNECTION_KEY *key, _In_ UINT8 direction,
                  _In_ UINT64 processId, _In_ NTSTATUS status);

/// Decides by the fail policy on what comes while the client is stalled, and takes nothing over.
/// The first decision on a connection is counted, reported to a client of extension 2 with id 0, and marks it.
/// `isMarked`: the caller knows that it is marked.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION HoldFailStalled(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const HOLD_QUESTION *question,
                         _In_ BOOLEAN isMarked);

/// Decides on a packet of `layer` that could not be read or copied. `key` and `processId` are as in HoldFail.
/// STATUS_INVALID_PARAMETER says that the packet is malformed, so it is blocked. HoldFail decides for any other status.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION HoldFailPacket(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const LAYER *layer,
                        _In_opt_ const CONNECTION_KEY *key, _In_ UINT64 processId, _In_ NTSTATUS status);

/// Carries out the client's verdict on one id. Returns FALSE if nothing is held under this id.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN HoldApplyVerdict(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 id, _In_ UINT8 verdict);

/// Applies the time-out verdict to everything whose deadline has passed at `now` (ClockNow).
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldExpire(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 now);

/// Resolves the pended operations that could not be reported to the client, or were refused.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldResolveFailed(_Inout_ struct _DRIVER_CONTEXT *context);

/// Reports questions that were refused, as far as it is time to at `now` (ClockNow). CLOCK_NEVER as `now` reports all.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldReportRefused(_Inout_ struct _DRIVER_CONTEXT *context, _In_ UINT64 now);

/// Resolves everything that is held by the fail policy, as long as the client is stalled.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID HoldResolveWhileStalled(_Inout_ struct _DRIVER_CONTEXT *context);

/// Resolves, by the fail policy, as many HELDs as there are now, because the system goes to sleep. Returns how many
/// were resolved. What is held meanwhile may stay held.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 HoldResolvePresent(_Inout_ struct _DRIVER_CONTEXT *context);

/// Resolves everything by the fail policy, and waits until other threads have resolved what they took.
/// The caller has closed the packet cache and has waited for the classifies.
_IRQL_requires_(PASSIVE_LEVEL)
VOID HoldResolveAll(_Inout_ struct _DRIVER_CONTEXT *context);

EXTERN_C_END
